//! Who may talk to this device: members of its communities, and whoever asks to
//! join, or to be enrolled by the phrase. And whether it talks to anyone at all.
//!
//! Checked for every protocol: before this device dials, and after the handshake
//! of whoever dials it, when the peer's key is proven. Who is put out later is
//! cut off on every connection that still stands.

use std::sync::{Arc, Mutex};

use iroh::EndpointAddr;
use iroh::endpoint::{
    AfterHandshakeOutcome, BeforeConnectOutcome, Connection, EndpointHooks, Side, WeakConnectionHandle,
};

use exo_model::id::DeviceId;

use super::driver::{Communities, NOT_A_MEMBER, OFFLINE};
use super::{ALPN_JOIN, ALPN_RETURN, device_id, lock};

/// Whether this device wants to be reachable, and what it has open.
#[derive(Clone, Default)]
pub(super) struct Switch {
    state: Arc<Mutex<SwitchState>>,
}

#[derive(Default)]
struct SwitchState {
    offline: bool,
    open: Vec<WeakConnectionHandle>,
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
        let open = if online { Vec::new() } else { std::mem::take(&mut state.open) };
        drop(state);
        for connection in open.iter().filter_map(WeakConnectionHandle::upgrade) {
            connection.close(OFFLINE.into(), b"working offline");
        }
    }

    /// Closes connections of whoever is in no common community any more.
    pub(super) fn drop_strangers(&self, communities: &Communities) {
        let open = lock(&self.state).open.clone();
        for connection in open.iter().filter_map(WeakConnectionHandle::upgrade) {
            if !is_for_strangers(connection.alpn()) && !communities.knows(&device_id(connection.remote_id()))
            {
                connection.close(NOT_A_MEMBER.into(), b"not a member");
            }
        }
    }

    /// Whether any connection to a device stands.
    pub(super) fn is_connected(&self, device: &DeviceId) -> bool {
        let open = lock(&self.state).open.clone();
        open.iter().filter_map(WeakConnectionHandle::upgrade).any(|connection| {
            device_id(connection.remote_id()) == *device && connection.close_reason().is_none()
        })
    }

    fn admits(&self, connection: &Connection) -> bool {
        let mut state = lock(&self.state);
        if !state.offline {
            state.open.retain(|handle| handle.upgrade().is_some_and(|open| open.close_reason().is_none()));
            state.open.push(connection.weak_handle());
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
        // Gossip dials whom it knew, also those who were put out.
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
