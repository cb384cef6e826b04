//! Sealing: who can read what, decided by keys instead of by servers.
//!
//! Contents are sealed under the [`EpochKey`] of their audience ([`Cipher`]);
//! the epoch key is sealed to every device of the audience and to every
//! person's recovery key ([`SealedKey`]). What concerns a few people only is
//! sealed to them directly ([`SealedFor`]), and attachments in chunks of which
//! any can be read alone ([`BlobCipher`]). Envelopes carry the results; which
//! key is the right one, and who is entitled to it, is decided elsewhere.
//!
//! **Promised.** Who holds no key reads nothing and changes nothing unnoticed.
//! Someone who was removed reads nothing written under the epochs after the
//! removal. A key that is not the one it is announced as is noticed by whoever
//! opens it.
//!
//! **Not promised.** No forward secrecy: who obtains a device's key file or a
//! recovery phrase reads everything ever sealed to it, also the past. No
//! deniability and no anonymity: lengths, times, authors and the recipients'
//! public keys are visible to whoever carries the bytes. A member who reads
//! can always copy. Who *sent* something is told by the signature around it,
//! never by the seal: put the author into the associated data or the
//! [`SealContext`], so that nobody can pass another's sealed bytes off as
//! theirs. Secrets are wiped when dropped, as far as a program can see to it.
//!
//! Never here: storage of keys, choice of recipients, randomness of its own.

mod blob;
mod cipher;
mod direct;
mod keys;
mod seal;
mod suite;

pub use blob::{BLOB_BYTES_MAX, BLOB_CHUNK_BYTES, BlobCipher, BlobError, BlobLayout, BlobSalt};
pub use cipher::{Cipher, DamagedContent, NONCE_LEN, SEAL_OVERHEAD, TAG_LEN, fresh_nonce, open, seal};
pub use direct::{DIRECT_BYTES_MAX, DIRECT_RECIPIENTS_MAX, SealForError, SealedFor};
pub use keys::{EpochKey, SealingKey};
pub use seal::{OpenError, SealContext, SealError, SealedKey, open_key, seal_key};

pub use crate::id::SealingPublicKey;
pub(crate) use keys::derive;
