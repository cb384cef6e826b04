//! Answering peers: each request is judged when it is made, and again while it
//! is answered.
//!
//! A peer may get ranges of one blob, and ask which ranges are here, if it is a
//! member of a community that the blob is held for. Nothing else of iroh-blobs'
//! protocol is offered: no pushing, no bundles, no lists of blobs. Whoever asks
//! for what it has no right to learns no more than that: a blob that is not
//! here is refused in the same words.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::protocol::{ERR_LIMIT, ERR_PERMISSION, Request};
use iroh_blobs::provider::events::EventSender;
use iroh_blobs::provider::{StreamPair, handle_get, handle_observe};
use tokio::task::JoinSet;

use exo_model::id::{BlobHash, DeviceId};

use super::{BlobAccess, Blobs};

/// Requests of one connection that are answered at once; further ones wait in
/// the connection's own bounded queue of streams.
const REQUESTS_MAX: usize = 32;
/// Longest wait for a request on a stream that was opened for one.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for a peer to take what it asked for.
const TAKING_DEADLINE: Duration = Duration::from_secs(30);
/// How long a peer may follow which ranges are here; it needs the first answer
/// only, which comes at once.
const OBSERVE_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes that go to the connection together: hashes travel with the contents
/// they belong to, and the right is asked for again each time.
const BATCH_BYTES: usize = 256 * 1024;

/// Serves members from a [`Blobs`].
#[derive(Clone)]
pub struct BlobsProtocol {
    blobs: Blobs,
    access: Arc<dyn BlobAccess>,
}

impl std::fmt::Debug for BlobsProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobsProtocol({:?})", self.blobs)
    }
}

impl BlobsProtocol {
    pub(super) fn new(blobs: Blobs, access: Arc<dyn BlobAccess>) -> Self {
        Self { blobs, access }
    }

    fn right(&self, peer: DeviceId, blob: BlobHash) -> Right {
        Right { blobs: self.blobs.clone(), access: self.access.clone(), peer, blob }
    }

    async fn answer(self, peer: DeviceId, id: u64, mut send: SendStream, mut recv: RecvStream) {
        let reading = Request::read_async(&mut recv);
        let Ok(Ok((request, _))) = tokio::time::timeout(REQUEST_DEADLINE, reading).await else {
            refuse(&mut send, ERR_LIMIT);
            return;
        };
        let store = &self.blobs.inner.store;
        match request {
            Request::Get(get) if get.ranges.is_blob() => {
                let right = self.right(peer, BlobHash::from_bytes(*get.hash.as_bytes()));
                if !right.holds() {
                    return refuse(&mut send, ERR_PERMISSION);
                }
                let guarded = Guarded { inner: send, right, waiting: Vec::new(), waiting_bytes: 0 };
                let pair = StreamPair::new(id, recv, guarded, EventSender::DEFAULT);
                if let Err(error) = handle_get(pair, (**store).clone(), get).await {
                    tracing::debug!(%peer, %error, "a blob was not served to the end");
                }
            }
            Request::Observe(observe) => {
                let right = self.right(peer, BlobHash::from_bytes(*observe.hash.as_bytes()));
                if !right.holds() {
                    return refuse(&mut send, ERR_PERMISSION);
                }
                let pair = StreamPair::new(id, recv, send, EventSender::DEFAULT);
                let telling = handle_observe(pair, (**store).clone(), observe);
                // Whoever listens longer than the answer takes is cut off.
                let _ = tokio::time::timeout(OBSERVE_DEADLINE, telling).await;
            }
            _ => refuse(&mut send, ERR_PERMISSION),
        }
    }
}

impl ProtocolHandler for BlobsProtocol {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = DeviceId::from_bytes(*connection.remote_id().as_bytes());
        let id = connection.stable_id() as u64;
        let mut answers = JoinSet::new();
        loop {
            while answers.len() >= REQUESTS_MAX {
                answers.join_next().await;
            }
            tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok((send, recv)) => { answers.spawn(self.clone().answer(peer, id, send, recv)); }
                    Err(_) => return Ok(()),
                },
                Some(_) = answers.join_next() => {}
            }
        }
    }
}

fn refuse(send: &mut SendStream, code: VarInt) {
    // The peer may have gone; nobody reads the refusal then.
    let _ = send.reset(code);
}

/// One peer's right to one blob, as it is at each moment.
struct Right {
    blobs: Blobs,
    access: Arc<dyn BlobAccess>,
    peer: DeviceId,
    blob: BlobHash,
}

impl Right {
    fn holds(&self) -> bool {
        let holdings = &self.blobs.inner.holdings;
        holdings.any(&self.blob, |community| self.access.is_member(&self.peer, community))
    }
}

/// A stream that ends when the right does, and when nobody takes what is sent.
struct Guarded {
    inner: SendStream,
    right: Right,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

impl Guarded {
    async fn push(&mut self, bytes: Bytes) -> io::Result<()> {
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        if self.waiting_bytes < BATCH_BYTES { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.right.holds() {
            refuse(&mut self.inner, ERR_PERMISSION);
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.waiting_bytes = 0;
        let taking = self.inner.write_all_chunks(&mut self.waiting);
        let taken = tokio::time::timeout(TAKING_DEADLINE, taking).await;
        self.waiting.clear();
        Ok(taken.map_err(|_| io::ErrorKind::TimedOut)??)
    }
}

impl iroh_blobs::util::SendStream for Guarded {
    async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.push(bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.push(Bytes::copy_from_slice(bytes)).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.flush().await
    }

    fn reset(&mut self, code: VarInt) -> io::Result<()> {
        Ok(self.inner.reset(code)?)
    }

    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        Ok(self.inner.stopped().await?)
    }

    fn id(&self) -> u64 {
        self.inner.id().index()
    }
}
