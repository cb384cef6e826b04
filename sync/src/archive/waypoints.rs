//! Signatures within lines: where an import may cut them.

use minicbor::{Decode, Encode};

use exo_model::codec;
use exo_model::feed::Run;
use exo_model::signature::Signature;

use super::ArchiveError;

/// Longest encoded form: one signature for about every
/// [`RUN_BYTES_MAX`](crate::session::RUN_BYTES_MAX) bytes of lines.
pub const WAYPOINTS_BYTES_MAX: usize = 64 << 20;
/// Bytes that one takes when encoded, at most.
const WAYPOINT_BYTES: usize = 88;

/// Signatures within the lines of an export.
///
/// A line is exported under its last signature. Peers get long lines in runs
/// that each end with a signature; so whoever imports a line whole could not
/// hand it on. Where these signatures stand depends on how a replica received
/// the line: they are beside the canonical bytes, not in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Waypoints(#[n(0)] Vec<Waypoint>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Waypoint {
    /// Number of the line in the export, from 0.
    #[n(0)]
    frame: u64,
    /// The change signed.
    #[n(1)]
    seq: u64,
    /// Its author's signature.
    #[n(2)]
    signature: Signature,
}

impl Waypoints {
    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`ArchiveError::Waypoints`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let read: Self = codec::decode(bytes, WAYPOINTS_BYTES_MAX).map_err(|_| ArchiveError::Waypoints)?;
        if read.0.is_sorted_by(|one, other| (one.frame, one.seq) < (other.frame, other.seq)) {
            Ok(read)
        } else {
            Err(ArchiveError::Waypoints)
        }
    }

    /// The bytes for a file.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a signature of a line, in order.
    pub(super) fn note(&mut self, frame: u64, seq: u64, signature: Signature) -> Result<(), ArchiveError> {
        if (self.0.len() + 1) * WAYPOINT_BYTES > WAYPOINTS_BYTES_MAX {
            return Err(ArchiveError::TooLarge);
        }
        self.0.push(Waypoint { frame, seq, signature });
        Ok(())
    }

    /// A line of an export in the runs that it may be handed on in.
    pub(super) fn cut(&self, frame: u64, line: Run) -> Vec<Run> {
        let from = self.0.partition_point(|waypoint| waypoint.frame < frame);
        let within = self.0[from..].iter().take_while(|waypoint| waypoint.frame == frame);
        let Run { feed, first_seq, mut changes, signature } = line;
        let mut runs = Vec::new();
        let mut next_seq = first_seq;
        for waypoint in within {
            let count = waypoint.seq.saturating_add(1).saturating_sub(next_seq);
            // One that is beyond the line, or at its end, cuts nothing.
            let Some(count) = usize::try_from(count).ok().filter(|count| (1..changes.len()).contains(count))
            else {
                continue;
            };
            let rest = changes.split_off(count);
            runs.push(Run { feed, first_seq: next_seq, changes, signature: waypoint.signature });
            next_seq = waypoint.seq + 1;
            changes = rest;
        }
        runs.push(Run { feed, first_seq: next_seq, changes, signature });
        runs
    }
}
