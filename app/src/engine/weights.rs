//! `inference`'s weight source over `sync`'s blob store.

use std::borrow::Cow;

use exo_inference::source::{SourceError, WeightSource};
use exo_model::id::BlobHash;
use exo_model::weights::ByteRange;
use exo_sync::blobs::Blobs;
use tokio::runtime::Handle;

/// The parts of one model file that are on this device.
///
/// Reading blocks on the runtime, so this is for threads beside it.
pub(super) struct BlobWeights {
    blobs: Blobs,
    runtime: Handle,
    blob: BlobHash,
    size_bytes: u64,
}

impl BlobWeights {
    /// Reads `blob` from `blobs`; call this on the runtime.
    pub(super) fn new(blobs: Blobs, blob: BlobHash, size_bytes: u64) -> Self {
        Self { blobs, runtime: Handle::current(), blob, size_bytes }
    }
}

impl WeightSource for BlobWeights {
    fn size(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, range: ByteRange) -> Result<Cow<'_, [u8]>, SourceError> {
        self.runtime
            .block_on(self.blobs.read(self.blob, self.size_bytes, range))
            .map(Cow::Owned)
            .map_err(|_| SourceError::Absent(range))
    }
}
