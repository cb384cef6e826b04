//! Text to token ids and back, from a GGUF file's own vocabulary.
//!
//! Byte-level BPE only (`tokenizer.ggml.model = gpt2`). Control and
//! user-defined tokens are kept *outside* the BPE vocabulary: plain text
//! cannot become one, whatever it says. Only `chat`, which wrote the markup
//! itself, asks for them by [`Tokenizer::segments`]. Nothing here renders
//! templates or knows messages.

mod alphabet;
mod split;
mod stream;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};

use tokenizers::models::bpe::BPE;
use tokenizers::{Model, OffsetType, PreTokenizedString};

use crate::gguf::{Header, Value};
pub(crate) use alphabet::byte_to_char;
use alphabet::char_to_byte;
use split::Splitter;
pub use stream::TextStream;

/// Longest text encoded in one call, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most control and user-defined tokens.
pub const SPECIAL_TOKENS_MAX: usize = 4_096;

/// Why a file's tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A kind of tokenizer this engine does not have.
    #[error("unsupported tokenizer {0}; supported: gpt2 (byte-level BPE)")]
    Kind(String),
    /// A way of splitting words this engine does not have.
    #[error("unsupported pre-tokenizer {0}; supported: {known}", known = split::SUPPORTED.join(", "))]
    Splitting(String),
    /// A metadata entry is absent or of another type.
    #[error("`{0}` is missing or not usable")]
    Missing(&'static str),
    /// A list has another length than the vocabulary.
    #[error("`{0}` does not have one entry per token")]
    Length(&'static str),
    /// More special tokens than [`SPECIAL_TOKENS_MAX`].
    #[error("{0} special tokens are over the limit of {SPECIAL_TOKENS_MAX}")]
    TooManySpecial(usize),
    /// A merge that does not join two plain tokens to a third.
    #[error("merge {index} (`{merge}`) does not join two tokens of the vocabulary to a third")]
    Merge {
        /// Its place in the list.
        index: usize,
        /// Its text.
        merge: String,
    },
    /// The BPE library refused the vocabulary.
    #[error("the vocabulary is not usable: {0}")]
    Library(String),
}

/// Why a text could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Longer than [`TEXT_BYTES_MAX`].
    #[error("a text of {bytes} bytes is over the limit of {TEXT_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The vocabulary has no token for a byte; without this check the text
    /// would silently lose it.
    #[error("this model has no token for the byte {byte:#04x}")]
    Unspellable {
        /// The byte.
        byte: u8,
    },
    /// The BPE library failed.
    #[error("encoding failed: {0}")]
    Library(String),
}

/// A token outside the BPE vocabulary.
#[derive(Debug, Clone)]
struct Special {
    text: String,
    /// Whether its text is part of what a person reads.
    visible: bool,
}

/// A piece of markup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// A control or user-defined token.
    Special(u32),
    /// Anything else.
    Text(&'a str),
}

/// A model's own tokenizer.
pub struct Tokenizer {
    bpe: BPE,
    splitter: Splitter,
    /// Special tokens by id.
    specials: BTreeMap<u32, Special>,
    /// Their texts by first character, longest first.
    by_first_char: BTreeMap<char, Vec<(String, u32)>>,
    unspellable: BTreeSet<u8>,
    roles: Roles,
    len: u32,
}

/// Tokens with a meaning.
#[derive(Debug, Default)]
struct Roles {
    begin: Option<u32>,
    end: Option<u32>,
    /// All that end an answer.
    ends: BTreeSet<u32>,
    add_begin: bool,
}

/// Control tokens that end a turn, by their usual names; files often name
/// only one of them as `eos`.
const END_NAMES: [&str; 8] = [
    "<|end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "</s>",
];

impl Tokenizer {
    /// Builds the tokenizer that `header` describes.
    ///
    /// # Errors
    /// See [`TokenizerError`].
    pub fn from_header(header: &Header) -> Result<Self, TokenizerError> {
        let kind = header.text("tokenizer.ggml.model").unwrap_or("(none stated)");
        if kind != "gpt2" {
            return Err(TokenizerError::Kind(kind.chars().take(64).collect()));
        }
        let splitter = Splitter::from_header(header)?;
        let vocabulary::Parts { plain, specials, len } = vocabulary::read(header)?;
        let merges = vocabulary::read_merges(header, &plain)?;
        let unspellable = (0..=u8::MAX)
            .filter(|&byte| !plain.contains_key(byte_to_char(byte).to_string().as_str()))
            .collect();
        let bpe = BPE::builder()
            .vocab_and_merges(plain.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges)
            .ignore_merges(splitter.ignores_merges())
            // The library's caches are per thread and never freed.
            .cache_capacity(0)
            .build()
            .map_err(|error| TokenizerError::Library(error.to_string()))?;
        let roles = Roles::from_header(header, &specials, splitter.adds_begin());
        let by_first_char = index_by_first_char(&specials);
        Ok(Self { bpe, splitter, specials, by_first_char, unspellable, roles, len })
    }

    /// Number of token ids.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no token; never so for one that was built.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The token that begins a text, if the model has one.
    pub fn begin(&self) -> Option<u32> {
        self.roles.begin
    }

    /// The token that ends a text, if the model has one.
    pub fn end(&self) -> Option<u32> {
        self.roles.end
    }

    /// All tokens that end an answer.
    pub fn end_tokens(&self) -> &BTreeSet<u32> {
        &self.roles.ends
    }

    /// Whether a prompt must begin with [`Tokenizer::begin`].
    pub fn adds_begin(&self) -> bool {
        self.roles.add_begin
    }

    /// Encodes plain text. Never gives a control or user-defined token, even
    /// where the text spells one.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(EncodeError::TooLong { bytes: text.len() });
        }
        if let Some(byte) = text.bytes().find(|byte| self.unspellable.contains(byte)) {
            return Err(EncodeError::Unspellable { byte });
        }
        let library = |error: tokenizers::Error| EncodeError::Library(error.to_string());
        let mut pieces = PreTokenizedString::from(text);
        self.splitter.split(&mut pieces).map_err(library)?;
        pieces.tokenize(|piece| self.bpe.tokenize(piece.get())).map_err(library)?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::None).map_err(library)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Cuts markup into special tokens and the text between them: at each
    /// place the longest that matches.
    pub fn segments<'a>(&self, markup: &'a str) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        let mut text_start = 0;
        let mut at = 0;
        while let Some(first) = markup[at..].chars().next() {
            let candidates = self.by_first_char.get(&first).map_or(&[][..], Vec::as_slice);
            let found = candidates.iter().find(|(text, _)| markup[at..].starts_with(text));
            let Some((text, id)) = found else {
                at += first.len_utf8();
                continue;
            };
            if text_start < at {
                segments.push(Segment::Text(&markup[text_start..at]));
            }
            segments.push(Segment::Special(*id));
            at += text.len();
            text_start = at;
        }
        if text_start < at {
            segments.push(Segment::Text(&markup[text_start..]));
        }
        segments
    }

    /// The characters with which special tokens begin.
    pub(crate) fn special_first_chars(&self) -> impl Iterator<Item = char> {
        self.by_first_char.keys().copied()
    }

    /// The text of a special token.
    pub(crate) fn special_text(&self, id: u32) -> Option<&str> {
        self.specials.get(&id).map(|special| special.text.as_str())
    }

    /// The bytes a token adds to what a person reads: none for control tokens
    /// and unknown ids, possibly part of a character.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        if let Some(special) = self.specials.get(&id) {
            let text = if special.visible { special.text.as_str() } else { "" };
            return text.as_bytes().to_vec();
        }
        let mut bytes = Vec::new();
        for char in self.bpe.id_to_token(id).unwrap_or_default().chars() {
            match char_to_byte(char) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes
    }
}

fn index_by_first_char(specials: &BTreeMap<u32, Special>) -> BTreeMap<char, Vec<(String, u32)>> {
    let mut index: BTreeMap<char, Vec<(String, u32)>> = BTreeMap::new();
    for (id, special) in specials {
        if let Some(first) = special.text.chars().next() {
            index.entry(first).or_default().push((special.text.clone(), *id));
        }
    }
    for texts in index.values_mut() {
        texts.sort_by_key(|(text, id)| (std::cmp::Reverse(text.len()), *id));
    }
    index
}

impl Roles {
    fn from_header(header: &Header, specials: &BTreeMap<u32, Special>, adds_begin: bool) -> Self {
        let token = |key: &str| {
            let id = header.get(key).and_then(Value::as_u64)?;
            u32::try_from(id).ok().filter(|id| specials.contains_key(id))
        };
        let end = token("tokenizer.ggml.eos_token_id");
        let named = specials
            .iter()
            .filter(|(_, special)| END_NAMES.contains(&special.text.as_str()))
            .map(|(id, _)| *id);
        let ends = named
            .chain(end)
            .chain(token("tokenizer.ggml.eot_token_id"))
            .chain(token("tokenizer.ggml.eom_token_id"))
            .collect();
        let stated = header.get("tokenizer.ggml.add_bos_token").and_then(Value::as_bool);
        let begin = token("tokenizer.ggml.bos_token_id");
        let add_begin = begin.is_some() && stated.unwrap_or(adds_begin);
        Self { begin, end, ends, add_begin }
    }
}

#[cfg(test)]
mod tests;
