//! A robustness probe: sends a peer what no honest program sends.
//!
//! The demo uses it from one of its own three nodes to show that a forged
//! change and an oversize frame are refused. It can reach only members of the
//! own community, which any member could do with a program of their own.

use exo_model::codec;
use exo_model::feed::{Change, FeedId, FeedPosition, Run, Stream};
use exo_model::id::DeviceId;
use exo_model::signature::Signature;

use super::community::CommunityMesh;
use super::{ALPN_SYNC, LinkError};
use crate::session::{Frame, LineRun, WIRE_VERSION_OLDEST};
use crate::wire;

/// Which hostile thing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostility {
    /// A next change for the peer's own channel feed, with a signature that
    /// is not the peer's.
    ForgedChange,
    /// A frame that announces nearly 4 GiB, followed by garbage.
    OversizeFrame,
}

impl CommunityMesh {
    /// Sends one hostile thing to `peer` over a sync stream.
    ///
    /// # Errors
    /// When the peer cannot be reached. What it does with the thing shows in
    /// its own [`refusals`](super::Mesh::refusals).
    pub async fn probe(&self, peer: DeviceId, hostility: Hostility) -> Result<(), LinkError> {
        let failed = |reason: String| LinkError::Connection { device: peer, reason };
        let connection = self.inner().dial(peer, ALPN_SYNC).await?;
        let (mut send, mut recv) = connection.open_bi().await.map_err(|error| failed(error.to_string()))?;
        let bytes = match hostility {
            Hostility::ForgedChange => self.forged_change(peer),
            Hostility::OversizeFrame => vec![0xff, 0xff, 0xff, 0xf0, 0xde, 0xad, 0xbe, 0xef],
        };
        tokio::io::AsyncWriteExt::write_all(&mut send, &bytes)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let _ = send.finish();
        // The peer answers what it answers, then ends the stream.
        let drained = async { while let Ok(Some(_)) = wire::read_bytes(&mut recv, 1 << 20).await {} };
        let _ = tokio::time::timeout(super::DIAL_DEADLINE, drained).await;
        connection.close(0_u32.into(), b"probe");
        Ok(())
    }

    fn forged_change(&self, victim: DeviceId) -> Vec<u8> {
        let replica = self.here().replica();
        let state = replica.state();
        let channel = state.charter.channels.keys().next().copied();
        let stream = channel.map_or(Stream::Charter, Stream::Channel);
        let feed = FeedId::new(state.id, victim, stream);
        let known = replica.snapshot().ends.of_feed(&feed).first().copied().unwrap_or(FeedPosition::START);
        let run = Run {
            feed,
            first_seq: known.seq + 1,
            changes: vec![Change { time_ms: 1, payload: b"I never wrote this".to_vec() }],
            signature: Signature::from_bytes([7; 64]),
        };
        let hello = Frame::Hello {
            version: WIRE_VERSION_OLDEST,
            community: state.id,
            heads: Vec::new(),
            window: None,
        };
        let mut bytes = Vec::new();
        for frame in [hello, Frame::Changes(LineRun { after: known.hash, run }), Frame::Done] {
            let frame = codec::encode(&frame);
            bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(0).to_be_bytes());
            bytes.extend_from_slice(&frame);
        }
        bytes
    }
}
