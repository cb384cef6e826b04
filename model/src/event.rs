//! Everything that can happen in a community, as data.
//!
//! The numbers are the format: they are never reused and never change
//! meaning. An event states a fact its author signs; whether it counts is
//! decided by [`reduce`](crate::community), not here.

use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::codec::{self, DecodeError};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::feed::Stream;
use crate::id::{BlobHash, ChangeHash, ChannelId, DeviceId, InviteKey, JobId};
use crate::signature::Signature;
use crate::weights::{LayerRange, ModelManifest};

/// Most addresses a machine may publish.
pub const ADDRESSES_MAX: usize = 16;
/// Longest text form of an address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 64;

/// One fact, as signed by the device whose feed it is in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// First event of the founder's charter feed; its envelope's hash is the
    /// community's id.
    #[n(0)]
    Founded {
        /// Name of the community.
        #[n(0)]
        name: String,
        /// The founding device; must be the feed's own.
        #[n(1)]
        founder: DeviceId,
        /// The founder's name.
        #[n(2)]
        founder_name: String,
        /// Lowest balance a member may reach, zero or negative.
        #[n(3)]
        floor: Amount,
        /// Makes two communities of one name different.
        #[cbor(n(4), with = "minicbor::bytes")]
        nonce: [u8; 16],
    },
    /// An owner lets whoever holds the invite's secret key join.
    #[n(1)]
    InviteIssued {
        /// Public half of the invite key.
        #[n(0)]
        key: InviteKey,
        /// How many devices may join with it.
        #[n(1)]
        uses: u32,
        /// Wall time after which members refuse it, ms since the Unix epoch.
        /// Judged by the admitting member's clock, never by `reduce`.
        #[n(2)]
        expires_ms: i64,
    },
    /// A member completed a join on an owner's invite.
    #[n(2)]
    MemberAdmitted {
        /// The newcomer.
        #[n(0)]
        device: DeviceId,
        /// The newcomer's name, covered by `proof`.
        #[n(1)]
        name: String,
        /// The invite used.
        #[n(2)]
        invite: InviteKey,
        /// The invite key's signature over community, device and name.
        #[n(3)]
        proof: Signature,
    },
    /// A channel exists from here on.
    #[n(3)]
    ChannelCreated {
        /// Its id.
        #[n(0)]
        channel: ChannelId,
        /// Its name.
        #[n(1)]
        name: String,
    },
    /// A message in the channel of its stream.
    #[n(4)]
    MessagePosted {
        /// What was written.
        #[n(0)]
        text: String,
    },
    /// What the author's machine offers and where it can be reached. The
    /// latest of a device replaces its earlier ones.
    #[n(5)]
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
    #[n(6)]
    ShardHosted {
        /// The model's file.
        #[n(0)]
        model: BlobHash,
        /// The layers.
        #[n(1)]
        layers: LayerRange,
    },
    /// The author's machine no longer serves this model.
    #[n(7)]
    ShardDropped {
        /// The model's file.
        #[n(0)]
        model: BlobHash,
    },
    /// A model file is known to the community; the author holds all of it.
    #[n(8)]
    ModelAdded {
        /// Where its layers lie.
        #[n(0)]
        manifest: ModelManifest,
    },
    /// The author sets credit aside for a job, before it runs.
    #[n(9)]
    Locked {
        /// The job.
        #[n(0)]
        job: JobId,
        /// Who may be paid from the lock.
        #[n(1)]
        payee: DeviceId,
        /// The most that can be paid.
        #[n(2)]
        max: Amount,
    },
    /// A voucher of the lock's payer, posted by payer or payee. The largest
    /// one is the settlement.
    #[n(10)]
    Settled {
        /// The change that carries the lock.
        #[n(0)]
        lock: ChangeHash,
        /// The total for the job so far.
        #[n(1)]
        amount: Amount,
        /// The payer's signature over community, lock, payee and amount.
        #[n(2)]
        voucher: Signature,
    },
    /// The payee asks for no more: the rest of the lock is free again. It
    /// settles first; vouchers posted later count for nothing.
    #[n(11)]
    Closed {
        /// The change that carries the lock.
        #[n(0)]
        lock: ChangeHash,
    },
}

impl Event {
    /// Reads an event of any origin.
    ///
    /// # Errors
    /// [`DecodeError`], also for kinds that a later version adds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, ENVELOPE_BYTES_MAX)
    }

    /// Whether this kind of event belongs in `stream`; elsewhere it counts for
    /// nothing.
    pub fn belongs_in(&self, stream: &Stream) -> bool {
        match self {
            Self::Founded { .. }
            | Self::InviteIssued { .. }
            | Self::MemberAdmitted { .. }
            | Self::ChannelCreated { .. } => *stream == Stream::Charter,
            Self::MessagePosted { .. } => matches!(stream, Stream::Channel(_)),
            Self::MachineOffered { .. } | Self::ShardHosted { .. } | Self::ShardDropped { .. } => {
                *stream == Stream::Cluster
            }
            Self::ModelAdded { .. } => *stream == Stream::Library,
            Self::Locked { .. } | Self::Settled { .. } | Self::Closed { .. } => *stream == Stream::Ledger,
        }
    }
}
