//! Connections that lead nowhere any more, found out before QUIC would after half
//! a minute: this device moved to another network or slept, or the peer started
//! anew.
//!
//! iroh keeps one way to each peer for all connections to it, and sends new ones
//! down the same way. So as long as one dead connection stands, dialling again is
//! of little use: all of them have to go. Never here: who is worth a link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use iroh::endpoint::{Connection, WeakConnectionHandle};
use iroh::{EndpointAddr, Watcher as _};

use exo_model::id::DeviceId;

use super::driver::SILENT;
use super::{Inner, device_id};
use crate::hub::Input;

/// Time for connections to find another way by themselves.
const SETTLE: Duration = Duration::from_secs(1);
/// Time for a peer that was asked something to answer: a lost packet is sent again
/// several times within it.
const ANSWER: Duration = Duration::from_secs(2);
/// Silence after which a connection is dead: iroh makes itself heard on each every
/// 5 s, also where nothing is to be said.
const HEARTBEAT: Duration = Duration::from_secs(8);
/// How often the wall clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Time beyond that which says that the machine slept meanwhile.
const ASLEEP: Duration = Duration::from_secs(20);
/// What a connection that is given up is closed with.
const REASON: &[u8] = b"nothing comes any more";

/// Follows this device's addresses. Ends with the endpoint.
pub(super) async fn follow(inner: Arc<Inner>) {
    let mut watcher = inner.endpoint.watch_addr();
    let mut before = sockets(&watcher.get());
    while let Ok(address) = watcher.updated().await {
        let now = sockets(&address);
        if now != before {
            before = now;
            tracing::debug!("this device's addresses changed");
            moved(&inner).await;
        }
    }
}

/// Follows the wall clock, which goes on while the machine sleeps. Ends with the
/// node.
pub(super) async fn wake(inner: Arc<Inner>) {
    loop {
        let before = SystemTime::now();
        tokio::time::sleep(LOOK_EVERY).await;
        if slept(before, SystemTime::now()) {
            tracing::debug!("this device slept");
            moved(&inner).await;
        }
    }
}

/// Whether a machine slept between two looks. A clock that was put forward looks
/// alike, and does no harm; one that was put back says nothing.
fn slept(before: SystemTime, now: SystemTime) -> bool {
    now.duration_since(before).is_ok_and(|passed| passed > LOOK_EVERY + ASLEEP)
}

fn sockets(address: &EndpointAddr) -> BTreeSet<SocketAddr> {
    address.ip_addrs().copied().collect()
}

/// This device has other addresses, or slept. QUIC can move connections, but only those
/// that this side began. So every linked peer is asked something: of whom nothing
/// comes on any connection, all are closed, and the hub dials anew.
async fn moved(inner: &Arc<Inner>) {
    inner.hear(Input::NetworkChanged);
    tokio::time::sleep(SETTLE).await;
    let before = inner.switch.heard();
    for device in inner.driver.connections().keys() {
        for here in inner.driver.communities().all().iter().filter(|here| here.admits(device)) {
            inner.hear(Input::Wanted(here.id(), *device));
        }
    }
    let before = weak(before);
    tokio::time::sleep(ANSWER).await;
    let before = strong(before);
    let mut loud: BTreeMap<DeviceId, bool> = BTreeMap::new();
    for (connection, packets) in &before {
        *loud.entry(device_id(connection.remote_id())).or_default() |= received(connection) > *packets;
    }
    for (connection, _) in before {
        if loud.get(&device_id(connection.remote_id())) == Some(&false) {
            close(&connection);
        }
    }
}

/// A peer linked with this device by itself. It may have started anew, and then
/// nobody is at the other end of what stood before.
pub(super) async fn linked_anew(inner: Arc<Inner>, link: Connection) {
    let mut before = inner.switch.heard();
    before
        .retain(|(other, _)| other.remote_id() == link.remote_id() && other.stable_id() != link.stable_id());
    drop(link);
    if before.is_empty() {
        return;
    }
    let before = weak(before);
    tokio::time::sleep(HEARTBEAT).await;
    for (connection, packets) in strong(before) {
        if received(&connection) == packets {
            close(&connection);
        }
    }
}

/// While one waits, connections may end.
fn weak(heard: Vec<(Connection, u64)>) -> Vec<(WeakConnectionHandle, u64)> {
    heard.into_iter().map(|(connection, packets)| (connection.weak_handle(), packets)).collect()
}

fn strong(heard: Vec<(WeakConnectionHandle, u64)>) -> Vec<(Connection, u64)> {
    heard.into_iter().filter_map(|(handle, packets)| Some((handle.upgrade()?, packets))).collect()
}

fn close(connection: &Connection) {
    if connection.close_reason().is_none() {
        tracing::debug!(peer = %device_id(connection.remote_id()), "a connection leads nowhere any more");
        connection.close(SILENT.into(), REASON);
    }
}

/// Packets that came over a connection.
pub(super) fn received(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_on_without_us_says_that_the_machine_slept() {
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(!slept(before, before + LOOK_EVERY));
        assert!(!slept(before, before + LOOK_EVERY + ASLEEP), "a busy machine");
        assert!(slept(before, before + Duration::from_secs(3_600)));
        assert!(!slept(before, before - Duration::from_secs(3_600)), "put back");
    }
}
