//! A content for a few named recipients: a report for the moderators, evidence
//! for the jurors.
//!
//! The content has a key of its own, sealed to each recipient and named by its
//! id: all who can open it read the same text. Recipients are visible to
//! everyone who carries it.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use super::cipher::{self, SEAL_OVERHEAD};
use super::keys::{EpochKey, SealingKey};
use super::seal::{self, OpenError, SealContext, SealError, SealedKey};
use crate::codec::{self, DecodeError};
use crate::id::{KeyId, SealingPublicKey};
use crate::port::Entropy;

/// Most recipients; with the longest text it still fits an event's envelope.
pub const DIRECT_RECIPIENTS_MAX: usize = 64;
/// Longest content, in bytes: a message's length.
pub const DIRECT_BYTES_MAX: usize = 16 * 1024;

/// Longest encoded form: every seal is below 128 bytes.
const ENCODED_BYTES_MAX: usize = DIRECT_BYTES_MAX + 128 * DIRECT_RECIPIENTS_MAX + 128;
const KEY_LABEL: &str = "exo/seal-direct/1";
const CONTENT_LABEL: &str = "exo/content-direct/1";

/// A content sealed to several recipients.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SealedFor {
    /// Names the content's key, the same for all recipients.
    #[n(0)]
    key: KeyId,
    /// The content under that key.
    #[cbor(n(1), with = "minicbor::bytes")]
    ciphertext: Vec<u8>,
    /// The key for each recipient, ascending by recipient.
    #[n(2)]
    seals: Vec<SealedKey>,
}

/// Why a content is not sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealForError {
    /// None, or over [`DIRECT_RECIPIENTS_MAX`].
    #[error("{count} recipients: choose 1 to {DIRECT_RECIPIENTS_MAX}")]
    Recipients {
        /// How many were named.
        count: usize,
    },
    /// Over [`DIRECT_BYTES_MAX`].
    #[error("the text has {len} bytes; at most {DIRECT_BYTES_MAX} are possible: please shorten it")]
    TooLong {
        /// Length met, in bytes.
        len: usize,
    },
    /// A recipient's key is no key.
    #[error(transparent)]
    Recipient(#[from] SealError),
}

impl SealedFor {
    /// Seals `plaintext` to every one of `recipients`.
    ///
    /// # Errors
    /// [`SealForError`].
    pub fn seal(
        plaintext: &[u8],
        recipients: &BTreeSet<SealingPublicKey>,
        context: &SealContext<'_>,
        entropy: &dyn Entropy,
    ) -> Result<Self, SealForError> {
        if recipients.is_empty() || recipients.len() > DIRECT_RECIPIENTS_MAX {
            return Err(SealForError::Recipients { count: recipients.len() });
        }
        if plaintext.len() > DIRECT_BYTES_MAX {
            return Err(SealForError::TooLong { len: plaintext.len() });
        }
        let key = EpochKey::generate(entropy);
        let seals = recipients
            .iter()
            .map(|recipient| seal::seal_labelled(KEY_LABEL, &key, recipient, context, entropy))
            .collect::<Result<_, _>>()?;
        let aad = context.bound_to(CONTENT_LABEL);
        let ciphertext = cipher::seal(&key, &aad, &cipher::fresh_nonce(entropy), plaintext);
        Ok(Self { key: key.id(), ciphertext, seals })
    }

    /// Reads one of any origin.
    ///
    /// # Errors
    /// [`DecodeError`], also where it is out of bounds or its recipients are
    /// not ascending.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let sealed: Self = codec::decode(bytes, ENCODED_BYTES_MAX)?;
        if sealed.is_well_formed() { Ok(sealed) } else { Err(DecodeError::NotCanonical) }
    }

    /// Whether one that arrived inside another structure keeps the bounds and
    /// the order that [`SealedFor::decode`] asks for.
    pub fn is_well_formed(&self) -> bool {
        (SEAL_OVERHEAD..=SEAL_OVERHEAD + DIRECT_BYTES_MAX).contains(&self.ciphertext.len())
            && (1..=DIRECT_RECIPIENTS_MAX).contains(&self.seals.len())
            && self.seals.is_sorted_by(|a, b| a.recipient < b.recipient)
    }

    /// Who can open it.
    pub fn recipients(&self) -> impl Iterator<Item = SealingPublicKey> + '_ {
        self.seals.iter().map(|seal| seal.recipient)
    }

    /// The content, for one of the recipients.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, key: &SealingKey, context: &SealContext<'_>) -> Result<Vec<u8>, OpenError> {
        if !self.is_well_formed() {
            return Err(OpenError::Damaged);
        }
        let at = self
            .seals
            .binary_search_by_key(&key.public(), |seal| seal.recipient)
            .map_err(|_| OpenError::NotAddressed)?;
        let content_key = seal::open_labelled(KEY_LABEL, &self.seals[at], &self.key, key, context)?;
        cipher::open(&content_key, &context.bound_to(CONTENT_LABEL), &self.ciphertext)
            .map_err(|_| OpenError::Damaged)
    }
}
