//! Facts about machines.

use minicbor::{Decode, Encode};

use crate::id::BlobHash;
use crate::weights::LayerRange;

/// Most addresses a machine may publish.
pub const ADDRESSES_MAX: usize = 16;
/// Longest text form of an address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 64;

/// What the author's machine offers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ClusterEvent {
    /// What the author's machine offers and where it can be reached. The
    /// latest of a device replaces its earlier ones.
    #[n(0)]
    MachineOffered {
        /// Memory offered for model weights and their caches, bytes.
        #[n(0)]
        memory_bytes: u64,
        /// Measured time of one starter-size layer, in µs per MiB of weights;
        /// 0 where not measured yet.
        #[n(1)]
        micros_per_mib: u32,
        /// Socket addresses, `ip:port`.
        #[n(2)]
        addresses: Vec<String>,
    },
    /// The author's machine holds these layers of a model, ready to serve.
    /// The latest for a model replaces earlier ones.
    #[n(1)]
    ShardHosted {
        /// The model's file.
        #[n(0)]
        model: BlobHash,
        /// The layers.
        #[n(1)]
        layers: LayerRange,
    },
    /// The author's machine no longer serves this model.
    #[n(2)]
    ShardDropped {
        /// The model's file.
        #[n(0)]
        model: BlobHash,
    },
}
