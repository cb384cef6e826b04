//! BLAKE3, for content that is named by its hash.

use crate::id::BlobHash;

/// The BLAKE3 hash of `bytes`.
pub fn blake3(bytes: &[u8]) -> BlobHash {
    BlobHash::from_bytes(*::blake3::hash(bytes).as_bytes())
}
