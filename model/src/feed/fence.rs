//! Fences: how far a person's feeds count.
//!
//! A removal lists, for each of the subject's feeds that its author has seen,
//! where it ends. What lies beyond is void, in every stream; feeds that are
//! not listed are void whole. See `docs/design/governance.md` §5.

use minicbor::{Decode, Encode};

use crate::feed::Stream;
use crate::id::{ChangeHash, DeviceId};

/// Most feeds one fence lists; 32 KiB of envelope hold them.
pub const FENCE_ENTRIES_MAX: usize = 256;

/// How far one device's feed in one stream counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct FenceEntry {
    /// The device.
    #[n(0)]
    pub device: DeviceId,
    /// The stream.
    #[n(1)]
    pub stream: Stream,
    /// The last segment that counts. Earlier ones count whole: their ends are
    /// named by the first change of the next.
    #[n(2)]
    pub segment: u32,
    /// The last change of it that counts.
    #[n(3)]
    pub seq: u64,
    /// Its hash: which line counts, should there be two.
    #[n(4)]
    pub head: ChangeHash,
}

/// Entries in ascending order of device and stream, none twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Fence(#[n(0)] Vec<FenceEntry>);

impl Fence {
    /// A fence of these entries. Of two for one feed the lower one is kept,
    /// and of more than [`FENCE_ENTRIES_MAX`] the first ones in order, which
    /// are those of the streams that matter most.
    pub fn new(entries: impl IntoIterator<Item = FenceEntry>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_unstable_by_key(|entry| (entry.stream, entry.device, entry.segment, entry.seq));
        entries.dedup_by_key(|entry| (entry.stream, entry.device));
        entries.truncate(FENCE_ENTRIES_MAX);
        entries.sort_unstable_by_key(|entry| (entry.device, entry.stream));
        Self(entries)
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[FenceEntry] {
        &self.0
    }

    /// Whether the list is one that [`Fence::new`] could have made.
    pub fn is_well_formed(&self) -> bool {
        self.0.len() <= FENCE_ENTRIES_MAX
            && self.0.iter().all(|entry| entry.seq > 0)
            && self.0.windows(2).all(|two| (two[0].device, two[0].stream) < (two[1].device, two[1].stream))
    }

    /// How far `device`'s feed in `stream` counts; `None` when not at all.
    pub fn entry(&self, device: &DeviceId, stream: &Stream) -> Option<&FenceEntry> {
        self.0
            .binary_search_by(|entry| (&entry.device, &entry.stream).cmp(&(device, stream)))
            .ok()
            .map(|index| &self.0[index])
    }

    /// BLAKE3 of the canonical form: what a phrase signs along with a
    /// revocation.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&crate::codec::encode(self)).as_bytes()
    }
}
