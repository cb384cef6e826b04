//! Attachments: sealed in chunks, of which any opens without the others.
//!
//! Each blob has a key of its own, derived from the epoch key and a random
//! salt. Chunk `i` is XChaCha20-Poly1305 under the nonce `(i, is last)`, as in
//! the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015): chunks
//! that were swapped, repeated or dropped do not open, and neither does the
//! end of a blob that was cut short. The sealed chunks follow each other
//! without heads, so places in the file and in the blob follow from each
//! other ([`BlobLayout`]); the blob's hash is taken of the sealed bytes.
//!
//! No file is touched here: chunks go in, chunks come out.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroizing;

use super::cipher::{Cipher, NONCE_LEN, TAG_LEN};
use super::keys::EpochKey;
use crate::port::Entropy;

/// Length of every chunk but the last, before sealing.
pub const BLOB_CHUNK_BYTES: u64 = 64 * 1024;
/// Longest attachment, in bytes: 1 TiB.
pub const BLOB_BYTES_MAX: u64 = 1 << 40;

const BLOB_CONTEXT: &str = "exo-studio exo/blob-key/1";
/// `TAG_LEN` for places.
const TAG_BYTES: u64 = TAG_LEN as u64;
const SEALED_CHUNK_BYTES: u64 = BLOB_CHUNK_BYTES + TAG_BYTES;

/// Tells the keys of an epoch's blobs apart. It travels beside the blob's hash
/// and is no secret, and must be a fresh one for every blob: two contents
/// under one salt would give away their difference.
pub type BlobSalt = [u8; 32];

/// Why a chunk is not sealed or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Over [`BLOB_BYTES_MAX`].
    #[error("the attachment has {len} bytes; at most {BLOB_BYTES_MAX} are possible")]
    TooLong {
        /// Length met, in bytes.
        len: u64,
    },
    /// No sealed attachment has this length.
    #[error("no sealed attachment has {len} bytes: fetch it again")]
    Length {
        /// Length met, in bytes.
        len: u64,
    },
    /// The chunk has not the length, or the blob not the chunk, that its
    /// layout says.
    #[error("chunk {index} has not the length it should: the file changed meanwhile; try again")]
    Chunk {
        /// Which chunk.
        index: u64,
    },
    /// The chunk does not open at this place.
    #[error("chunk {index} is damaged or misplaced: fetch it again from another member")]
    Damaged {
        /// Which chunk.
        index: u64,
    },
}

/// Where the chunks of an attachment lie, before and after sealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobLayout {
    plain_len: u64,
    chunks: u64,
}

impl BlobLayout {
    /// Of an attachment with this length.
    ///
    /// # Errors
    /// [`BlobError::TooLong`].
    pub fn of_plain(len: u64) -> Result<Self, BlobError> {
        if len > BLOB_BYTES_MAX {
            return Err(BlobError::TooLong { len });
        }
        // An empty file is one empty chunk, so that its emptiness is sealed.
        Ok(Self { plain_len: len, chunks: len.div_ceil(BLOB_CHUNK_BYTES).max(1) })
    }

    /// Of a sealed blob with this length.
    ///
    /// # Errors
    /// [`BlobError::TooLong`]; [`BlobError::Length`] where sealing gives no
    /// such length.
    pub fn of_sealed(len: u64) -> Result<Self, BlobError> {
        let tags = len.div_ceil(SEALED_CHUNK_BYTES).saturating_mul(TAG_BYTES);
        let plain_len = len.checked_sub(tags).ok_or(BlobError::Length { len })?;
        let layout = Self::of_plain(plain_len)?;
        if layout.sealed_len() == len { Ok(layout) } else { Err(BlobError::Length { len }) }
    }

    /// Length of the attachment.
    pub fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// Length of the sealed blob.
    pub fn sealed_len(&self) -> u64 {
        self.plain_len + self.chunks * TAG_BYTES
    }

    /// How many chunks there are, at least one.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Where chunk `index` lies in the attachment; `None` behind the last.
    pub fn plain_range(&self, index: u64) -> Option<Range<u64>> {
        (index < self.chunks).then(|| {
            let start = index * BLOB_CHUNK_BYTES;
            start..self.plain_len.min(start + BLOB_CHUNK_BYTES)
        })
    }

    /// Where chunk `index` lies in the sealed blob; `None` behind the last.
    pub fn sealed_range(&self, index: u64) -> Option<Range<u64>> {
        (index < self.chunks).then(|| {
            let start = index * SEALED_CHUNK_BYTES;
            start..self.sealed_len().min(start + SEALED_CHUNK_BYTES)
        })
    }

    /// The chunks that hold these bytes of the attachment.
    pub fn chunks_with(&self, bytes: Range<u64>) -> Range<u64> {
        let end = bytes.end.min(self.plain_len);
        if bytes.start >= end {
            return 0..0;
        }
        bytes.start / BLOB_CHUNK_BYTES..end.div_ceil(BLOB_CHUNK_BYTES)
    }

    fn is_last(&self, index: u64) -> bool {
        index + 1 == self.chunks
    }
}

/// One blob's key, made ready; wiped when dropped.
pub struct BlobCipher {
    cipher: Cipher,
    layout: BlobLayout,
}

impl BlobCipher {
    /// Readies the key of the blob with this salt and layout.
    pub fn new(epoch: &EpochKey, salt: &BlobSalt, layout: BlobLayout) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(BLOB_CONTEXT);
        hasher.update(epoch.as_bytes()).update(salt);
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        Self { cipher: Cipher::with_key(&key), layout }
    }

    /// A salt for a new blob.
    pub fn fresh_salt(entropy: &dyn Entropy) -> BlobSalt {
        let mut salt = [0; 32];
        entropy.fill(&mut salt);
        salt
    }

    /// The layout this was made for.
    pub fn layout(&self) -> BlobLayout {
        self.layout
    }

    /// Appends the sealed form of chunk `index` to `out`.
    ///
    /// # Errors
    /// [`BlobError::Chunk`].
    pub fn seal_chunk(&self, index: u64, plain: &[u8], out: &mut Vec<u8>) -> Result<(), BlobError> {
        self.check_len(index, plain.len(), self.layout.plain_range(index))?;
        self.cipher.seal_bare(&[], &self.nonce(index), plain, out);
        Ok(())
    }

    /// Appends chunk `index` to `out`, or nothing.
    ///
    /// # Errors
    /// [`BlobError::Chunk`] and [`BlobError::Damaged`].
    pub fn open_chunk(&self, index: u64, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), BlobError> {
        self.check_len(index, sealed.len(), self.layout.sealed_range(index))?;
        self.cipher.open_bare(&[], &self.nonce(index), sealed, out).map_err(|_| BlobError::Damaged { index })
    }

    fn check_len(&self, index: u64, len: usize, range: Option<Range<u64>>) -> Result<(), BlobError> {
        let fits = range.is_some_and(|range| u64::try_from(len) == Ok(range.end - range.start));
        if fits { Ok(()) } else { Err(BlobError::Chunk { index }) }
    }

    /// Fifteen zeros, the number, whether it is the last: the key serves one
    /// blob, so the place alone makes the nonce unique.
    fn nonce(&self, index: u64) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[15..23].copy_from_slice(&index.to_be_bytes());
        nonce[23] = u8::from(self.layout.is_last(index));
        nonce
    }
}

impl fmt::Debug for BlobCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobCipher").field("layout", &self.layout).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_before_and_after_sealing_belong_together() {
        for len in [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073, BLOB_BYTES_MAX] {
            let layout = BlobLayout::of_plain(len).expect("in bounds");
            assert_eq!(BlobLayout::of_sealed(layout.sealed_len()), Ok(layout), "{len}");
            let last = layout.chunks() - 1;
            assert_eq!(layout.plain_range(last).map(|range| range.end), Some(len));
            assert_eq!(layout.sealed_range(last).map(|range| range.end), Some(layout.sealed_len()));
            assert_eq!(layout.plain_range(last + 1), None);
        }
        // No chunk but an empty file's is empty; tags are never cut.
        for len in [0, 1, 15, 65_552 + 1, 65_552 + 16] {
            assert_eq!(BlobLayout::of_sealed(len), Err(BlobError::Length { len }));
        }
        assert_eq!(
            BlobLayout::of_plain(BLOB_BYTES_MAX + 1),
            Err(BlobError::TooLong { len: BLOB_BYTES_MAX + 1 })
        );
        assert!(BlobLayout::of_sealed(u64::MAX).is_err());
    }

    #[test]
    fn a_range_names_the_chunks_that_hold_it() {
        let layout = BlobLayout::of_plain(150_000).expect("in bounds");
        assert_eq!(layout.chunks_with(0..1), 0..1);
        assert_eq!(layout.chunks_with(65_535..65_537), 0..2);
        assert_eq!(layout.chunks_with(65_536..u64::MAX), 1..3);
        assert_eq!(layout.chunks_with(150_000..150_001), 0..0);
        let backwards = Range { start: 9, end: 3 };
        assert_eq!(layout.chunks_with(backwards), 0..0);
    }
}
