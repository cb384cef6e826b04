//! Blobs on their way into a file.

use std::io::{self, Cursor, Read};

use exo_model::id::{BlobHash, CommunityId};
use exo_model::weights::ByteRange;
use exo_sync::blobs::{Blobs, BlobsError};
use tokio::runtime::Handle;

use crate::archive::write::BlobToWrite;

/// Bytes that are read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// What is held for these communities and whole on this device; to be written on
/// a thread that may wait.
pub(crate) async fn whole_blobs(
    blobs: &Blobs,
    communities: impl IntoIterator<Item = CommunityId>,
) -> Result<Vec<BlobToWrite<'static>>, BlobsError> {
    let mut whole = std::collections::BTreeMap::new();
    for community in communities {
        whole.extend(blobs.whole(community).await?);
    }
    let runtime = Handle::current();
    Ok(whole
        .into_iter()
        .map(|(hash, size_bytes)| {
            let (blobs, runtime) = (blobs.clone(), runtime.clone());
            let reader = BlobReader { blobs, runtime, hash, size_bytes, at: 0, piece: Cursor::default() };
            BlobToWrite { hash, size_bytes, open: Box::new(|| Ok(Box::new(reader))) }
        })
        .collect())
}

/// Reads a blob piece by piece. Waits for the store: not for async code.
struct BlobReader {
    blobs: Blobs,
    runtime: Handle,
    hash: BlobHash,
    size_bytes: u64,
    /// Up to where pieces were read.
    at: u64,
    piece: Cursor<Vec<u8>>,
}

impl Read for BlobReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read(bytes)?;
        if read > 0 || bytes.is_empty() || self.at >= self.size_bytes {
            return Ok(read);
        }
        let range = ByteRange { start: self.at, end: self.size_bytes.min(self.at + PIECE_BYTES) };
        let reading = self.blobs.read(self.hash, self.size_bytes, range);
        self.piece = Cursor::new(self.runtime.block_on(reading).map_err(io::Error::other)?);
        self.at = range.end;
        self.piece.read(bytes)
    }
}
