//! Safety words: how two people make sure that nobody stands between them.
//!
//! Both compare the words (or, in any language, the digits) by voice or face
//! to face. Equal words mean that both know the other's true person key. They
//! depend on the two persons only: not on a community, nor on devices, which
//! come and go under their person's signature. What has been compared is
//! remembered elsewhere.
//!
//! **What a deceiver would pay.** To stand between Ana and Ben they need two
//! keys of their own, x and y, such that `code(Ana, x)` as Ana sees it equals
//! `code(y, Ben)` as Ben sees it. Such a pair takes about the square root of
//! all codes in trials: 2^44 for eight words (88 bits), 2^99 for the digits.
//! Each trial costs [`ROUNDS`] BLAKE3 compressions, one after another: 2^64
//! for the words, for this one pair of people only. That is a matter of very
//! much money; who fears that much compares the digits.

use bip39::Language;

use crate::id::PersonId;

/// BLAKE3 compressions for one code.
pub const ROUNDS: u32 = 1 << 20;
/// How many words are compared.
pub const SAFETY_WORDS: usize = 8;
/// How many groups of five digits are compared.
pub const SAFETY_GROUPS: usize = 12;

const CONTEXT: &str = "exo-studio exo/safety-words/1";
/// Eight words of eleven bits.
const WORD_BYTES: usize = 11;
const GROUP_BYTES: usize = 5;

/// What two people compare. The same whoever of them computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafetyCode {
    word_bits: [u8; WORD_BYTES],
    group_bits: [[u8; GROUP_BYTES]; SAFETY_GROUPS],
}

impl SafetyCode {
    /// The code of these two. Slow by intention ([`ROUNDS`]: about a
    /// tenth of a second): not for a loop over all members.
    pub fn between(a: &PersonId, b: &PersonId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(a.min(b).as_bytes()).update(a.max(b).as_bytes());
        let mut state = *hasher.finalize().as_bytes();
        let key = blake3::derive_key(CONTEXT, b"rounds");
        for _ in 1..ROUNDS {
            state = *blake3::keyed_hash(&key, &state).as_bytes();
        }
        let mut output = blake3::Hasher::new_keyed(&key).update(&state).finalize_xof();
        let mut code = Self { word_bits: [0; WORD_BYTES], group_bits: [[0; GROUP_BYTES]; SAFETY_GROUPS] };
        output.fill(&mut code.word_bits);
        output.fill(code.group_bits.as_flattened_mut());
        code
    }

    /// Eight words of the BIP-39 list.
    pub fn words(&self) -> [&'static str; SAFETY_WORDS] {
        let bits = self.word_bits.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        let mut shift = 11 * SAFETY_WORDS;
        [(); SAFETY_WORDS].map(|()| {
            shift -= 11;
            let index = usize::try_from(bits >> shift & 0x7ff).unwrap_or_default();
            Language::English.word_list()[index]
        })
    }

    /// Sixty digits in groups of five: `"01234 56789 …"`.
    pub fn digits(&self) -> String {
        // 2^40 is no multiple of 100,000; the bias is below one in ten million.
        self.group_bits
            .map(|group| {
                let number = group.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
                format!("{:05}", number % 100_000)
            })
            .join(" ")
    }
}

/// The words for `a` and `b` to compare: see [`SafetyCode`].
pub fn safety_words(a: &PersonId, b: &PersonId) -> [&'static str; SAFETY_WORDS] {
    SafetyCode::between(a, b).words()
}
