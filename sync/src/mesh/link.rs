//! Links: one connection to a peer, on which exchanges of all common
//! communities run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh::protocol::{AcceptError, ProtocolHandler};
use tokio::sync::Semaphore;

use exo_model::id::DeviceId;

use super::community::Here;
use super::exchange::{self, ExchangeError, Ran};
use super::{Inner, device_id, silence, swarm};
use crate::hub::{Exchanged, Input};
use crate::session::{FRAME_BYTES_MAX, Frame, Greeting, Side, Terms, WIRE_VERSION, WIRE_VERSION_OLDEST};
use crate::wire;

/// Exchanges one peer may have under way.
const EXCHANGES_PER_PEER: usize = 4;
/// Longest wait for the first frame of an exchange.
const GREETING_DEADLINE: Duration = Duration::from_secs(10);

/// A connection to a peer.
pub(super) struct Link {
    pub(super) device: DeviceId,
    pub(super) connection: Connection,
    /// The version that the peer is greeted in.
    version: AtomicU32,
}

/// Answers peers that dial us.
pub(super) struct SyncProtocol {
    inner: Arc<Inner>,
}

impl SyncProtocol {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl std::fmt::Debug for SyncProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncProtocol")
    }
}

impl ProtocolHandler for SyncProtocol {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        self.inner.addresses.met(&connection);
        run(self.inner.clone(), connection, false).await;
        Ok(())
    }
}

/// Lives as long as the connection does.
pub(super) async fn run(inner: Arc<Inner>, connection: Connection, dialled: bool) {
    let device = device_id(connection.remote_id());
    let version = AtomicU32::new(WIRE_VERSION);
    inner.stages.renew(&device);
    if !dialled {
        tokio::spawn(silence::linked_anew(inner.clone(), connection.clone()));
    }
    let id = inner.driver.add_link(Arc::new(Link { device, connection: connection.clone(), version }));
    let words = swarm::linked(&inner, id, device).await;
    let gossip = tokio::spawn(swarm::carry(inner.clone(), id, device, connection.clone(), words));
    inner.hear(Input::Linked { link: id, device, dialled });
    inner.driver.tell_watchers();
    answer(&inner, device, &connection).await;
    gossip.abort();
    inner.driver.drop_link(id);
    swarm::unlinked(&inner, id).await;
    inner.hear(Input::Unlinked(id));
    inner.driver.tell_watchers();
}

async fn answer(inner: &Arc<Inner>, device: DeviceId, connection: &Connection) {
    let slots = Arc::new(Semaphore::new(EXCHANGES_PER_PEER));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((send, recv)) = connection.accept_bi().await else { return };
        let inner = inner.clone();
        tokio::spawn(async move {
            if let Err(error) = respond(&inner, device, send, recv).await {
                tracing::debug!(peer = %device, %error, "exchange ended early");
            }
            drop(slot);
        });
    }
}

/// Answers an exchange that the peer began.
async fn respond(
    inner: &Arc<Inner>,
    device: DeviceId,
    send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ExchangeError> {
    let read = wire::read::<_, Frame>(&mut recv, FRAME_BYTES_MAX);
    let first = match tokio::time::timeout(GREETING_DEADLINE, read).await {
        Ok(Ok(first)) => first.ok_or(ExchangeError::Ended)?,
        Ok(Err(error)) => return Err(exchange::refused(inner, device, error.into())),
        Err(_) => return Err(ExchangeError::Silence),
    };
    let (Frame::Greeting(Greeting { community, .. }) | Frame::Hello { community, .. }) = &first else {
        return Err(exchange::refused(inner, device, crate::session::Violation::UnexpectedFrame.into()));
    };
    // A community that is not open here, or that the peer is not in: both look
    // alike from outside.
    let here = inner.driver.communities().get(community).filter(|here| here.admits(&device));
    let here = here.ok_or(ExchangeError::NotHere)?;
    let terms = Terms::new(Side::Responder, here.replica().snapshot().ends);
    let ran = exchange::run(inner, &here, device, terms, Some(first), send, recv).await?;
    note(&here, device, &ran);
    Ok(())
}

/// Runs an exchange that this side begins; nothing where it broke off.
pub(super) async fn exchange(inner: &Arc<Inner>, link: &Link, here: &Arc<Here>) -> Option<Exchanged> {
    let (send, recv) = link.connection.open_bi().await.ok()?;
    let version = link.version.load(Ordering::Relaxed);
    let own = here.replica().snapshot().ends;
    let terms =
        Terms { version, wanted: here.wanted(), turn: exchange::turn(), ..Terms::new(Side::Initiator, own) };
    match exchange::run(inner, here, link.device, terms, None, send, recv).await {
        Ok(ran) => {
            note(here, link.device, &ran);
            Some(ran.exchanged)
        }
        Err(error) => {
            tracing::debug!(peer = %link.device, %error, "exchange ended early");
            if matches!(error, ExchangeError::Unanswered) {
                // Programs before version 3 hang up on a greeting of today; there
                // may be other reasons, so each is tried in turn.
                let other = if version == WIRE_VERSION { WIRE_VERSION_OLDEST } else { WIRE_VERSION };
                link.version.store(other, Ordering::Relaxed);
            }
            None
        }
    }
}

fn note(here: &Here, device: DeviceId, ran: &Ran) {
    if ran.peer_has_all {
        here.receipts().confirm(device, &ran.own);
    }
}
