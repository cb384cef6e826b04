//! What requester, providers and neighbouring stages say on stage streams.
//!
//! The first frame of a stream is an [`Opening`]. On a session's control
//! stream [`ToProvider`] and [`FromProvider`] follow; on an attached one the
//! bare [`StageFrame`](exo_inference::session::StageFrame)s of the stage before.

use exo_inference::sample::Sampling;
use exo_model::codec;
use exo_model::id::{BlobHash, ChangeHash, DeviceId, JobId};
use exo_model::ledger::Voucher;
use exo_model::weights::LayerRange;
use exo_sync::mesh::STAGE_FRAME_BYTES_MAX;
use minicbor::{Decode, Encode};

/// Messages that may wait between two tasks of a session.
pub(super) const MESSAGES_WAITING: usize = 16;

/// First frame of a stream.
#[derive(Debug, Encode, Decode)]
pub(super) enum Opening {
    /// Fetch and load these layers, and say how it goes.
    #[n(0)]
    Prepare {
        #[n(0)]
        model: BlobHash,
        #[n(1)]
        layers: LayerRange,
    },
    /// Take part in a session.
    #[n(1)]
    Session(#[n(0)] Box<Terms>),
    /// The stage before yours in this job sends its output here.
    #[n(2)]
    Attach {
        #[n(0)]
        job: JobId,
        /// Who pays for the job: two requesters may choose one job id.
        #[n(1)]
        requester: DeviceId,
    },
}

/// Longest opening, in bytes: terms and ids.
pub(super) const OPENING_BYTES_MAX: usize = 4 * 1024;

/// What a requester asks of one provider.
#[derive(Clone, Debug, Encode, Decode)]
pub(super) struct Terms {
    #[n(0)]
    pub(super) job: JobId,
    #[n(1)]
    pub(super) epoch: u32,
    #[n(2)]
    pub(super) model: BlobHash,
    #[n(3)]
    pub(super) layers: LayerRange,
    /// Positions to keep keys and values for.
    #[n(4)]
    pub(super) context_tokens: u32,
    /// Who sends the input; the requester, on this stream, where none.
    #[n(5)]
    pub(super) previous: Option<DeviceId>,
    /// Who gets the output; the requester gets tokens where none.
    #[n(6)]
    pub(super) next: Option<DeviceId>,
    /// What the work is paid from; none only on the requester's own machine.
    #[n(7)]
    pub(super) lock: Option<ChangeHash>,
    #[n(8)]
    pub(super) temperature: f32,
    #[n(9)]
    pub(super) top_k: u32,
    #[n(10)]
    pub(super) top_p: f32,
    #[n(11)]
    pub(super) seed: u64,
}

impl Terms {
    /// How the tail draws tokens; checked where a session is made of it.
    pub(super) fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed }
    }
}

/// From the requester, on a session's control stream.
#[derive(Debug, Encode, Decode)]
pub(super) enum ToProvider {
    /// An encoded stage frame, for the first stage.
    #[n(0)]
    Frame(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Payment for `positions` in all.
    #[n(1)]
    Voucher {
        #[n(0)]
        voucher: Voucher,
        #[n(1)]
        positions: u64,
    },
    /// The session is over.
    #[n(2)]
    Close,
}

/// From a provider, on a control stream.
#[derive(Debug, Encode, Decode)]
pub(super) enum FromProvider {
    /// Bytes of weights received so far.
    #[n(0)]
    Progress {
        #[n(0)]
        received: u64,
        #[n(1)]
        total: u64,
    },
    /// Prepared, or ready for frames.
    #[n(1)]
    Ready {
        /// Bytes of weights that had to be fetched.
        #[n(0)]
        fetched: u64,
    },
    /// An encoded token frame, from the tail.
    #[n(2)]
    Token(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// It does not go on.
    #[n(3)]
    Failed {
        #[n(0)]
        reason: String,
    },
    /// The last voucher is posted; nothing more comes.
    #[n(4)]
    Closed,
}

pub(super) fn encode<T: Encode<()>>(message: &T) -> Vec<u8> {
    codec::encode(message)
}

pub(super) fn decode<'b, T: Decode<'b, ()> + Encode<()>>(bytes: &'b [u8]) -> Result<T, String> {
    codec::decode(bytes, STAGE_FRAME_BYTES_MAX).map_err(|error| error.to_string())
}
