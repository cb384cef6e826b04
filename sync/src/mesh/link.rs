//! Links: one connection a peer, on which exchanges run.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use tokio::sync::{Notify, Semaphore};

use exo_model::id::DeviceId;

use super::{ALPN_SYNC, Inner, device_id, exchange};
use crate::session::Side;

/// Shortest pause between looks at what holders of keys owe others; up to twice
/// as long, so that not everyone seals to a newcomer at once.
const TEND_EVERY: Duration = Duration::from_secs(20);
/// Pause between looks for members to dial.
const SUPERVISE_EVERY: Duration = Duration::from_secs(1);
/// Shortest pause between exchanges without a hint; up to twice as long.
const ANTI_ENTROPY: Duration = Duration::from_secs(30);
/// Shortest pause before an exchange that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Exchanges one peer may have under way.
const EXCHANGES_PER_PEER: usize = 4;
/// Rounds after each other, while new members make more acceptable.
const ROUNDS_MAX: usize = 8;

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
        run(self.inner.clone(), connection, Side::Responder).await;
        Ok(())
    }
}

/// Keeps a link to every member, for ever.
pub(super) async fn supervise(inner: Arc<Inner>) {
    let mut snapshot = inner.replica.watch();
    let mut links = inner.peers.watch();
    loop {
        let state = snapshot.borrow_and_update().state.clone();
        links.mark_unchanged();
        for (device, machine) in state.machines.iter() {
            inner.learn(device, &machine.addresses);
        }
        for device in state.charter.devices.keys().filter(|device| **device != inner.me) {
            if inner.switch.is_online() && inner.peers.begin_dial(*device) {
                tokio::spawn(dial(inner.clone(), *device));
            }
        }
        tokio::select! {
            changed = snapshot.changed() => if changed.is_err() { return },
            _ = links.changed() => {}
            () = tokio::time::sleep(SUPERVISE_EVERY) => {}
        }
    }
}

/// Sees to it, now and then, that everyone can read what they may.
pub(super) async fn tend(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(TEND_EVERY.mul_f64(1.0 + jitter())).await;
        if let Err(error) = inner.replica.tend().await {
            if matches!(error, crate::replica::ReplicaError::Closed) {
                return;
            }
            tracing::warn!(%error, "tending keys");
        }
    }
}

async fn dial(inner: Arc<Inner>, device: DeviceId) {
    match inner.dial(device, ALPN_SYNC).await {
        Ok(connection) => run(inner, connection, Side::Initiator).await,
        Err(error) => {
            tracing::debug!(peer = %device, %error, "dial failed");
            inner.peers.dial_failed(device, jitter());
        }
    }
}

/// Lives as long as the connection does. Whoever dialled exchanges at once.
pub(super) async fn run(inner: Arc<Inner>, connection: Connection, side: Side) {
    let device = device_id(connection.remote_id());
    let nudge = inner.peers.linked(device, connection.clone());
    tokio::join!(
        answer(&inner, device, &connection),
        exchange_when_asked(&inner, device, &connection, &nudge, side == Side::Initiator),
    );
    inner.peers.ended(device, &connection, jitter());
}

async fn answer(inner: &Arc<Inner>, device: DeviceId, connection: &Connection) {
    let slots = Arc::new(Semaphore::new(EXCHANGES_PER_PEER));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((send, recv)) = connection.accept_bi().await else { return };
        let inner = inner.clone();
        tokio::spawn(async move {
            if let Err(error) = exchange::run(&inner, device, Side::Responder, send, recv).await {
                tracing::debug!(peer = %device, %error, "exchange ended early");
            }
            drop(slot);
        });
    }
}

async fn exchange_when_asked(
    inner: &Arc<Inner>,
    device: DeviceId,
    connection: &Connection,
    nudge: &Notify,
    at_once: bool,
) {
    let mut due = at_once;
    loop {
        let failed = due && !exchange_rounds(inner, device, connection).await;
        let pause = if failed { RETRY } else { ANTI_ENTROPY };
        let pause = pause.mul_f64(1.0 + jitter());
        tokio::select! {
            () = nudge.notified() => {}
            () = tokio::time::sleep(pause) => {}
            _ = connection.closed() => return,
        }
        due = true;
    }
}

/// Exchanges until nothing more becomes acceptable; returns whether it went
/// well.
async fn exchange_rounds(inner: &Arc<Inner>, device: DeviceId, connection: &Connection) -> bool {
    for _ in 0..ROUNDS_MAX {
        let Ok((send, recv)) = connection.open_bi().await else { return false };
        match exchange::run(inner, device, Side::Initiator, send, recv).await {
            Ok(outcome) => {
                inner.peers.proven(&device);
                if outcome.deferred == 0 || outcome.stored == 0 {
                    return true;
                }
            }
            Err(error) => {
                tracing::debug!(peer = %device, %error, "exchange ended early");
                return false;
            }
        }
    }
    true
}

/// A number in 0..1, to keep peers from acting in step. Not for secrets.
pub(super) fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}
