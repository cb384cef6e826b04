//! Moving to another network: links that were left behind are found out.
//!
//! When this device's addresses change, connections may live on: QUIC can move
//! them. Those that the other side began cannot be moved from here, and would
//! be silent for half a minute before anybody gave them up. So every link is
//! asked something at once, and one on which nothing comes back is closed; the
//! hub then dials anew. Never here: who is worth a link.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh::{EndpointAddr, Watcher as _};

use exo_model::id::DeviceId;

use super::Inner;
use super::driver::LEFT_BEHIND;
use crate::hub::Input;

/// Time for a peer to answer something over a link after this device moved. A
/// lost packet is sent again several times within it.
const PROOF: Duration = Duration::from_secs(3);

/// Follows this device's addresses. Ends with the endpoint.
pub(super) async fn follow(inner: Arc<Inner>) {
    let mut watcher = inner.endpoint.watch_addr();
    let mut before = sockets(&watcher.get());
    while let Ok(address) = watcher.updated().await {
        let now = sockets(&address);
        if now == before {
            continue;
        }
        before = now;
        tracing::debug!("this device's addresses changed");
        inner.hear(Input::NetworkChanged);
        close_silent(&inner).await;
    }
}

fn sockets(address: &EndpointAddr) -> BTreeSet<SocketAddr> {
    address.ip_addrs().copied().collect()
}

/// Asks every linked peer something, and closes the links of those from whom
/// nothing comes.
async fn close_silent(inner: &Arc<Inner>) {
    let links: Vec<(DeviceId, Connection, u64)> = inner.driver.connections().into_iter().map(heard).collect();
    for (device, _, _) in &links {
        for here in inner.driver.communities().all().iter().filter(|here| here.admits(device)) {
            inner.hear(Input::Wanted(here.id(), *device));
        }
    }
    tokio::time::sleep(PROOF).await;
    for (device, connection, before) in links {
        let (device, connection, now) = heard((device, connection));
        if now == before && connection.close_reason().is_none() {
            tracing::debug!(peer = %device, "a link was left behind in another network");
            connection.close(LEFT_BEHIND.into(), b"moved to another network");
        }
    }
}

/// A link with the packets that have come over it.
fn heard((device, connection): (DeviceId, Connection)) -> (DeviceId, Connection, u64) {
    let packets = connection.stats().udp_rx.datagrams;
    (device, connection, packets)
}
