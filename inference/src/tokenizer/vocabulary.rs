//! Vocabulary and merges, from a GGUF file's arrays.

use std::collections::BTreeMap;

use super::{SPECIAL_TOKENS_MAX, Special, TokenizerError};
use crate::gguf::{Header, Value};

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// Token kinds of GGUF that are kept out of BPE.
const KIND_UNKNOWN: i64 = 2;
const KIND_CONTROL: i64 = 3;
const KIND_USER_DEFINED: i64 = 4;

/// The vocabulary, sorted out.
pub(super) struct Parts {
    /// Tokens that BPE may produce.
    pub(super) plain: BTreeMap<String, u32>,
    /// Tokens it may not.
    pub(super) specials: BTreeMap<u32, Special>,
    /// Number of ids.
    pub(super) len: u32,
}

/// Reads tokens and their kinds.
pub(super) fn read(header: &Header) -> Result<Parts, TokenizerError> {
    let tokens = header.get(TOKENS).and_then(Value::as_texts);
    let tokens = tokens.filter(|tokens| !tokens.is_empty());
    let tokens = tokens.ok_or(TokenizerError::Missing(TOKENS))?;
    let kinds = match header.get(KINDS) {
        Some(value) => Some(value.as_integers().ok_or(TokenizerError::Missing(KINDS))?),
        None => None,
    };
    if kinds.is_some_and(|kinds| kinds.len() != tokens.len()) {
        return Err(TokenizerError::Length(KINDS));
    }
    let mut plain = BTreeMap::new();
    let mut specials = BTreeMap::new();
    let mut len = 0;
    for (index, (id, text)) in (0_u32..).zip(tokens).enumerate() {
        len = id + 1;
        let kind = kinds.and_then(|kinds| kinds.get(index)).copied().unwrap_or(1);
        if matches!(kind, KIND_UNKNOWN | KIND_CONTROL | KIND_USER_DEFINED) {
            let visible = kind == KIND_USER_DEFINED;
            specials.insert(id, Special { text: text.clone(), visible });
        } else {
            // Of equal texts the last id counts, as in llama.cpp.
            plain.insert(text.clone(), id);
        }
    }
    if specials.len() > SPECIAL_TOKENS_MAX {
        return Err(TokenizerError::TooManySpecial(specials.len()));
    }
    // A text that is both would come out of BPE under its plain id; leave the
    // plain one only where no special token has the same text.
    for special in specials.values() {
        plain.remove(&special.text);
    }
    Ok(Parts { plain, specials, len })
}

/// Reads merges and checks that each joins two plain tokens to a third: the
/// library panics on a result that is longer than every token.
pub(super) fn read_merges(
    header: &Header,
    plain: &BTreeMap<String, u32>,
) -> Result<Vec<(String, String)>, TokenizerError> {
    let merges = header.get(MERGES).and_then(Value::as_texts);
    let merges = merges.ok_or(TokenizerError::Missing(MERGES))?;
    let mut joined = String::new();
    let mut pairs = Vec::with_capacity(merges.len());
    for (index, merge) in merges.iter().enumerate() {
        let pair = merge.split_once(' ').filter(|(left, right)| {
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            [left, right, joined.as_str()].iter().all(|&text| plain.contains_key(text))
        });
        let Some((left, right)) = pair else {
            let merge = merge.chars().take(64).collect();
            return Err(TokenizerError::Merge { index, merge });
        };
        pairs.push((left.to_owned(), right.to_owned()));
    }
    Ok(pairs)
}
