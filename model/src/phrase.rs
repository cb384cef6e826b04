//! The recovery phrase: twenty-four words on paper that are the person.
//!
//! BIP-39, English, 256 bits. Both keys of a person are derived from the
//! phrase's *entropy* (not from BIP-39's stretched seed: 256 random bits need
//! no stretching, and nobody chooses them), by BLAKE3's key derivation under a
//! context each. The phrase is asked for when the person key must sign, and
//! held no longer: devices keep keys of their own.
//!
//! Who has the phrase is the person, and reads everything that was ever sealed
//! to their recovery key. Nothing here stores or shows it.

use std::fmt;
use std::str::FromStr;

use bip39::{Language, Mnemonic};
use zeroize::{Zeroize as _, Zeroizing};

use crate::id::PersonId;
use crate::port::Entropy;
use crate::sealing::{SealingKey, derive};
use crate::signature::SecretKey;

/// Words of a phrase.
pub const PHRASE_WORDS: usize = 24;
/// Longest text read as a phrase, in bytes; the longest phrase has 215.
pub const PHRASE_BYTES_MAX: usize = 1_024;

/// Letters that tell every word of the list from every other.
const PREFIX_LETTERS: usize = 4;
const PERSON_CONTEXT: &str = "exo-studio exo/person-key/1";
const RECOVERY_CONTEXT: &str = "exo-studio exo/recovery-key/1";

/// A text that is not a recovery phrase. Says where, never which words: errors
/// end up in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Over [`PHRASE_BYTES_MAX`].
    #[error("this is too long for a recovery phrase: enter its {PHRASE_WORDS} words and nothing else")]
    TooLong,
    /// Not in the list.
    #[error("word {number} is not in the word list: check its spelling on your paper")]
    UnknownWord {
        /// Which word, counted from one.
        number: usize,
    },
    /// Not twenty-four.
    #[error("{count} words: a recovery phrase has {PHRASE_WORDS}")]
    WordCount {
        /// How many there are.
        count: usize,
    },
    /// All in the list, but no phrase.
    #[error(
        "every word is in the list, but together they are no recovery phrase: one is another word, or two are \
         swapped; compare them with your paper in order"
    )]
    Checksum,
}

/// A person's recovery phrase, wiped when dropped.
pub struct RecoveryPhrase {
    entropy: Zeroizing<[u8; 32]>,
}

impl RecoveryPhrase {
    /// A fresh phrase: a new person.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(bytes.as_mut());
        Self { entropy: bytes }
    }

    /// The phrase that stands for these bytes.
    pub fn from_entropy(bytes: &[u8; 32]) -> Self {
        Self { entropy: Zeroizing::new(*bytes) }
    }

    /// The words, to be written down on paper.
    pub fn words(&self) -> [&'static str; PHRASE_WORDS] {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, self.entropy.as_ref())
            .unwrap_or_else(|error| unreachable!("32 bytes are {PHRASE_WORDS} words: {error}"));
        let mut words = [""; PHRASE_WORDS];
        for (slot, word) in words.iter_mut().zip(mnemonic.words()) {
            *slot = word;
        }
        words
    }

    /// The key that signs as this person.
    pub fn person_key(&self) -> SecretKey {
        SecretKey::from_bytes(&derive(PERSON_CONTEXT, &self.entropy))
    }

    /// The person.
    pub fn person(&self) -> PersonId {
        PersonId::from_bytes(self.person_key().public_bytes())
    }

    /// What every key of the person's audiences is also sealed to, so that the
    /// phrase alone reads what others still hold.
    pub fn recovery_key(&self) -> SealingKey {
        SealingKey::from_bytes(&derive(RECOVERY_CONTEXT, &self.entropy))
    }
}

impl fmt::Debug for RecoveryPhrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryPhrase(…)")
    }
}

impl FromStr for RecoveryPhrase {
    type Err = PhraseError;

    /// Reads a phrase as people type it: capitals, line breaks, commas and
    /// numbers between the words do not matter, and four letters of a word are
    /// enough.
    fn from_str(text: &str) -> Result<Self, PhraseError> {
        if text.len() > PHRASE_BYTES_MAX {
            return Err(PhraseError::TooLong);
        }
        let text = Zeroizing::new(text.to_ascii_lowercase());
        // Room for every phrase: growing would leave a copy behind, unwiped.
        let mut phrase = Zeroizing::new(String::with_capacity(PHRASE_BYTES_MAX));
        let mut count = 0;
        for typed in text.split(is_between_words).filter(|typed| !typed.is_empty()) {
            count += 1;
            let word = listed_word(typed).ok_or(PhraseError::UnknownWord { number: count })?;
            if count <= PHRASE_WORDS {
                phrase.push_str(word);
                phrase.push(' ');
            }
        }
        if count != PHRASE_WORDS {
            return Err(PhraseError::WordCount { count });
        }
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, phrase.trim_end())
            .map_err(|_| PhraseError::Checksum)?;
        let (mut padded, _) = mnemonic.to_entropy_array();
        let mut entropy = Zeroizing::new([0; 32]);
        entropy.copy_from_slice(&padded[..32]);
        padded.zeroize();
        Ok(Self { entropy })
    }
}

pub(crate) fn is_between_words(c: char) -> bool {
    c.is_whitespace() || c.is_ascii_punctuation() || c.is_ascii_digit()
}

/// The word of the list that was typed, whole or by its first letters.
pub(crate) fn listed_word(typed: &str) -> Option<&'static str> {
    let list = Language::English.word_list();
    let at = list.partition_point(|word| *word < typed);
    let word = *list.get(at)?;
    let abbreviates = typed.len() >= PREFIX_LETTERS && word.starts_with(typed);
    (word == typed || abbreviates).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_letters_tell_every_word() {
        let list = Language::English.word_list();
        for word in list {
            assert_eq!(listed_word(word), Some(*word));
            if word.len() > PREFIX_LETTERS {
                assert_eq!(listed_word(&word[..PREFIX_LETTERS]), Some(*word));
            }
            assert_eq!(listed_word(&format!("{word}x")), None);
        }
        assert_eq!(listed_word("aba"), None);
        assert_eq!(listed_word("zzzz"), None);
        let longest: usize = list.iter().map(|word| word.len()).max().expect("words");
        assert_eq!(PHRASE_WORDS * (longest + 1) - 1, 215);
    }

    #[test]
    fn a_phrase_does_not_print() {
        assert_eq!(format!("{:?}", RecoveryPhrase::from_entropy(&[1; 32])), "RecoveryPhrase(…)");
    }
}
