//! Byte streams that inference stages talk over.
//!
//! Only frames are known here, length-prefixed and bounded; what they mean is
//! `inference`'s and `app`'s. The first frame of a stream names the community it
//! is about.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exo_model::id::{CommunityId, DeviceId};
use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh::protocol::{AcceptError, ProtocolHandler};

use super::community::Here;
use super::{ALPN_STAGE, Inner, LinkError, device_id, lock};
use crate::wire::{self, FrameError};

/// Longest frame: the activations of one prompt chunk.
pub const STAGE_FRAME_BYTES_MAX: usize = 17 << 20;
/// Longest wait for the name of the community.
const NAME_DEADLINE: Duration = Duration::from_secs(5);

/// Connections that stage streams are opened on.
#[derive(Default)]
pub(super) struct StageConnections(Mutex<BTreeMap<DeviceId, Connection>>);

impl StageConnections {
    /// Opens no more streams on the connection to a device; those that are open go
    /// on. A device that links anew may have started anew, and the connection then
    /// leads nowhere: half a minute would pass before anyone noticed.
    pub(super) fn renew(&self, device: &DeviceId) {
        lock(&self.0).remove(device);
    }
}

/// A stream to or from another device's engine.
#[derive(Debug)]
pub struct StageStream {
    /// The other device.
    pub peer: DeviceId,
    /// Towards it.
    pub sender: StageSender,
    /// From it.
    pub receiver: StageReceiver,
}

/// The sending half.
#[derive(Debug)]
pub struct StageSender(SendStream);

impl StageSender {
    /// Sends one frame.
    ///
    /// # Errors
    /// When it is too long or the stream broke.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        wire::write_bytes(&mut self.0, frame, STAGE_FRAME_BYTES_MAX).await
    }

    /// Says that no more will come.
    pub fn finish(&mut self) {
        // Fails only where the stream is gone already.
        let _ = self.0.finish();
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct StageReceiver {
    stream: RecvStream,
    // The connection lives as long as someone listens.
    _connection: Connection,
}

impl StageReceiver {
    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// When a frame is oversize or the stream broke.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        self.receive_at_most(STAGE_FRAME_BYTES_MAX).await
    }

    /// The next frame, if it has at most `max` bytes; `None` at the end.
    ///
    /// # Errors
    /// When the frame is longer or the stream broke.
    pub async fn receive_at_most(&mut self, max: usize) -> Result<Option<Vec<u8>>, FrameError> {
        wire::read_bytes(&mut self.stream, max.min(STAGE_FRAME_BYTES_MAX)).await
    }
}

/// Takes streams that peers open.
pub(super) struct StageProtocol {
    inner: Arc<Inner>,
}

impl StageProtocol {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl std::fmt::Debug for StageProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StageProtocol")
    }
}

impl ProtocolHandler for StageProtocol {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = device_id(connection.remote_id());
        loop {
            let (send, mut recv) = connection.accept_bi().await?;
            let Some(here) = community_of(&self.inner, &mut recv).await.filter(|here| here.admits(&peer))
            else {
                tracing::debug!(%peer, "a stage stream about a community that the peer is not in");
                continue;
            };
            let stream = stream(peer, &connection, send, recv);
            // A community that is being closed takes none any more.
            if here.stages().send(stream).await.is_err() {
                tracing::debug!(%peer, "a stage stream that nobody takes");
            }
        }
    }
}

async fn community_of(inner: &Inner, recv: &mut RecvStream) -> Option<Arc<Here>> {
    let named = wire::read::<_, CommunityId>(recv, CommunityId::LEN + 8);
    let named = tokio::time::timeout(NAME_DEADLINE, named).await.ok()?.ok()??;
    inner.driver.communities().get(&named)
}

pub(super) async fn open(inner: &Inner, here: &Here, device: DeviceId) -> Result<StageStream, LinkError> {
    let failed = |reason: String| LinkError::Connection { device, reason };
    let kept = lock(&inner.stages.0).get(&device).filter(|kept| kept.close_reason().is_none()).cloned();
    let connection = match kept {
        Some(connection) => connection,
        None => {
            let connection = inner.dial(device, ALPN_STAGE).await?;
            lock(&inner.stages.0).insert(device, connection.clone());
            connection
        }
    };
    let (mut send, recv) = connection.open_bi().await.map_err(|error| failed(error.to_string()))?;
    wire::write(&mut send, &here.id(), CommunityId::LEN + 8)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(stream(device, &connection, send, recv))
}

fn stream(peer: DeviceId, connection: &Connection, send: SendStream, recv: RecvStream) -> StageStream {
    StageStream {
        peer,
        sender: StageSender(send),
        receiver: StageReceiver { stream: recv, _connection: connection.clone() },
    }
}
