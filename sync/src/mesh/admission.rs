//! Who may talk to this device: members of its communities, and whoever asks to
//! join, or to be enrolled by the phrase. And whether it talks to anyone at all.
//!
//! Checked for every protocol: before this device dials, and after the handshake
//! of whoever dials it, when the peer's key is proven. Who is put out later is
//! cut off on every connection that still stands.

use std::sync::{Arc, Mutex};

use iroh::EndpointAddr;
use iroh::endpoint::{
    AfterHandshakeOutcome, BeforeConnectOutcome, Connection, ConnectionStats, EndpointHooks, Side,
    WeakConnectionHandle,
};

use exo_model::id::DeviceId;

use super::driver::{Communities, NOT_A_MEMBER, OFFLINE};
use super::silence::received;
use super::{ALPN_JOIN, ALPN_RETURN, device_id, lock};

/// Whether this device wants to be reachable, and what it has open.
#[derive(Clone, Default)]
pub(super) struct Switch {
    state: Arc<Mutex<SwitchState>>,
}

#[derive(Default)]
struct SwitchState {
    offline: bool,
    open: Vec<Open>,
    /// What went over connections that are gone.
    past: Traffic,
}

/// A connection, and what went over it when that was last looked at.
struct Open {
    handle: WeakConnectionHandle,
    traffic: Traffic,
}

/// UDP datagrams sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub datagrams: u64,
    /// Bytes in them, without the headers of IP and UDP.
    pub bytes: u64,
}

impl Traffic {
    fn of(connection: &Connection) -> Self {
        let ConnectionStats { udp_tx, udp_rx, .. } = connection.stats();
        Self { datagrams: udp_tx.datagrams + udp_rx.datagrams, bytes: udp_tx.bytes + udp_rx.bytes }
    }

    const fn add(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
    }
}

impl SwitchState {
    /// Counts what went over each connection, and drops those that are closed.
    fn count(&mut self) {
        let past = &mut self.past;
        self.open.retain_mut(|open| {
            let connection = open.handle.upgrade();
            if let Some(connection) = &connection {
                open.traffic = Traffic::of(connection);
            }
            let stands = connection.is_some_and(|connection| connection.close_reason().is_none());
            if !stands {
                past.add(open.traffic);
            }
            stands
        });
    }

    fn connections(&self) -> Vec<Connection> {
        self.open.iter().filter_map(|open| open.handle.upgrade()).collect()
    }
}

impl Switch {
    /// Whether connections are allowed.
    pub(super) fn is_online(&self) -> bool {
        !lock(&self.state).offline
    }

    /// Allows connections, or closes all there are and allows no more.
    pub(super) fn set_online(&self, online: bool) {
        let mut state = lock(&self.state);
        state.offline = !online;
        let open = if online { Vec::new() } else { state.connections() };
        drop(state);
        for connection in open {
            connection.close(OFFLINE.into(), b"working offline");
        }
    }

    /// Closes connections of whoever is in no common community any more.
    pub(super) fn drop_strangers(&self, communities: &Communities) {
        let open = lock(&self.state).connections();
        for connection in open {
            if !is_for_strangers(connection.alpn()) && !communities.knows(&device_id(connection.remote_id()))
            {
                connection.close(NOT_A_MEMBER.into(), b"not a member");
            }
        }
    }

    /// Whether any connection to a device stands.
    pub(super) fn is_connected(&self, device: &DeviceId) -> bool {
        let open = lock(&self.state).connections();
        open.iter().any(|connection| {
            device_id(connection.remote_id()) == *device && connection.close_reason().is_none()
        })
    }

    /// All connections that stand, and how many packets came over each.
    pub(super) fn heard(&self) -> Vec<(Connection, u64)> {
        let mut open = lock(&self.state).connections();
        open.retain(|connection| connection.close_reason().is_none());
        let heard = |connection: Connection| {
            let packets = received(&connection);
            (connection, packets)
        };
        open.into_iter().map(heard).collect()
    }

    /// What went over all connections so far. What a connection carried after it
    /// was last looked at and before it ended is left out.
    pub(super) fn traffic(&self) -> Traffic {
        let mut state = lock(&self.state);
        state.count();
        let mut traffic = state.past;
        state.open.iter().for_each(|open| traffic.add(open.traffic));
        traffic
    }

    fn admits(&self, connection: &Connection) -> bool {
        let mut state = lock(&self.state);
        if !state.offline {
            state.count();
            state.open.push(Open { handle: connection.weak_handle(), traffic: Traffic::default() });
        }
        !state.offline
    }
}

/// Whether a protocol is for those who are not in, or not yet.
fn is_for_strangers(alpn: &[u8]) -> bool {
    [ALPN_JOIN, ALPN_RETURN].contains(&alpn)
}

/// Refuses strangers on every protocol that is not for them, and everyone while the
/// device works offline.
pub(super) struct MembersOnly {
    communities: Communities,
    switch: Switch,
}

impl MembersOnly {
    pub(super) fn new(communities: Communities, switch: Switch) -> Self {
        Self { communities, switch }
    }
}

impl std::fmt::Debug for MembersOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MembersOnly")
    }
}

impl EndpointHooks for MembersOnly {
    async fn before_connect<'a>(&'a self, to: &'a EndpointAddr, alpn: &'a [u8]) -> BeforeConnectOutcome {
        let is_known = is_for_strangers(alpn) || self.communities.knows(&device_id(to.id));
        if is_known && self.switch.is_online() {
            BeforeConnectOutcome::Accept
        } else {
            BeforeConnectOutcome::Reject
        }
    }

    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        let incoming = connection.side() == Side::Server;
        let peer = device_id(connection.remote_id());
        if incoming && !is_for_strangers(connection.alpn()) && !self.communities.knows(&peer) {
            tracing::debug!(%peer, "refused: not a member");
            return AfterHandshakeOutcome::Reject {
                error_code: NOT_A_MEMBER.into(),
                reason: b"not a member".to_vec(),
            };
        }
        if !self.switch.admits(connection) {
            return AfterHandshakeOutcome::Reject {
                error_code: OFFLINE.into(),
                reason: b"working offline".to_vec(),
            };
        }
        AfterHandshakeOutcome::accept()
    }
}
