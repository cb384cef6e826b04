//! Byte streams that inference stages talk over.
//!
//! Only frames are known here, length-prefixed and bounded; what they mean is
//! `inference`'s and `app`'s.

use std::sync::PoisonError;

use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh::protocol::{AcceptError, ProtocolHandler};
use tokio::sync::mpsc;

use exo_model::id::DeviceId;

use super::{ALPN_STAGE, Inner, LinkError, device_id};
use crate::wire::{self, FrameError};

/// Longest frame: the activations of one prompt chunk.
pub const STAGE_FRAME_BYTES_MAX: usize = 17 << 20;

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
#[derive(Debug)]
pub(super) struct StageProtocol {
    inbox: mpsc::Sender<StageStream>,
}

impl StageProtocol {
    pub(super) fn new(inbox: mpsc::Sender<StageStream>) -> Self {
        Self { inbox }
    }
}

impl ProtocolHandler for StageProtocol {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = device_id(connection.remote_id());
        loop {
            let (send, recv) = connection.accept_bi().await?;
            let stream = stream(peer, &connection, send, recv);
            if self.inbox.send(stream).await.is_err() {
                return Ok(());
            }
        }
    }
}

pub(super) async fn open(inner: &Inner, device: DeviceId) -> Result<StageStream, LinkError> {
    let failed =
        |error: iroh::endpoint::ConnectionError| LinkError::Connection { device, reason: error.to_string() };
    let kept = inner
        .stage_connections
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&device)
        .filter(|connection| connection.close_reason().is_none())
        .cloned();
    let connection = match kept {
        Some(connection) => connection,
        None => {
            let connection = inner.dial(device, ALPN_STAGE).await?;
            inner
                .stage_connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(device, connection.clone());
            connection
        }
    };
    let (send, recv) = connection.open_bi().await.map_err(failed)?;
    Ok(stream(device, &connection, send, recv))
}

fn stream(peer: DeviceId, connection: &Connection, send: SendStream, recv: RecvStream) -> StageStream {
    StageStream {
        peer,
        sender: StageSender(send),
        receiver: StageReceiver { stream: recv, _connection: connection.clone() },
    }
}
