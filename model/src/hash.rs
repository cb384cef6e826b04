//! BLAKE3, for content that is named by its hash.

use crate::id::BlobHash;

/// The BLAKE3 hash of `bytes`.
pub fn blake3(bytes: &[u8]) -> BlobHash {
    BlobHash::from_bytes(*::blake3::hash(bytes).as_bytes())
}

/// BLAKE3 of content that comes piece by piece.
#[derive(Clone, Debug, Default)]
pub struct ContentHasher(::blake3::Hasher);

impl ContentHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all of them so far.
    pub fn finish(&self) -> BlobHash {
        BlobHash::from_bytes(*self.0.finalize().as_bytes())
    }
}
