//! How text is cut into words before BPE, by the name in
//! `tokenizer.ggml.pre`. A wrong choice encodes fluently and wrongly, so an
//! unknown or missing name is refused.

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

use super::TokenizerError;
use crate::gguf::Header;

/// The names that are known.
pub(super) const SUPPORTED: &[&str] = &["gpt-2", "llama-bpe", "qwen2", "smollm"];

/// Llama 3's pattern, as published with its tokenizer.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's pattern: single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A way to cut words, ending in the byte alphabet.
pub(super) enum Splitter {
    /// GPT-2's own pattern.
    Gpt2,
    /// Single digits, then GPT-2's pattern.
    Digits,
    /// A pattern of the model's own.
    Pattern {
        /// The pattern.
        pattern: Box<Split>,
        /// Whether it is Llama 3's, which skips merges for words that are in
        /// the vocabulary whole, and begins texts with a token.
        llama3: bool,
    },
}

impl Splitter {
    pub(super) fn from_header(header: &Header) -> Result<Self, TokenizerError> {
        let pattern = |regex: &str, llama3| {
            let regex = SplitPattern::Regex(regex.to_owned());
            let pattern = Split::new(regex, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| TokenizerError::Library(error.to_string()))?;
            Ok(Self::Pattern { pattern: Box::new(pattern), llama3 })
        };
        match header.text("tokenizer.ggml.pre") {
            Some("gpt-2") => Ok(Self::Gpt2),
            Some("smollm") => Ok(Self::Digits),
            Some("llama-bpe") => pattern(LLAMA3, true),
            Some("qwen2") => pattern(QWEN2, false),
            other => {
                let name = other.unwrap_or("(none stated)").chars().take(64).collect();
                Err(TokenizerError::Splitting(name))
            }
        }
    }

    pub(super) fn ignores_merges(&self) -> bool {
        matches!(self, Self::Pattern { llama3: true, .. })
    }

    /// Whether texts begin with the begin token unless the file says no.
    pub(super) fn adds_begin(&self) -> bool {
        matches!(self, Self::Pattern { llama3: true, .. })
    }

    pub(super) fn split(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        let bytes = |use_regex| ByteLevel::new(false, false, use_regex);
        match self {
            Self::Gpt2 => bytes(true).pre_tokenize(text),
            Self::Digits => {
                Digits::new(true).pre_tokenize(text)?;
                bytes(true).pre_tokenize(text)
            }
            Self::Pattern { pattern, .. } => {
                pattern.pre_tokenize(text)?;
                bytes(false).pre_tokenize(text)
            }
        }
    }
}
