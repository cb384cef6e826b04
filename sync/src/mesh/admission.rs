//! Who may talk to this device: members, and whoever asks to join. And
//! whether it talks to anyone at all.
//!
//! Checked for every protocol after the handshake, when the peer's key is
//! proven. A dialler of its own accord is not checked: it chose its peer.

use std::sync::{Arc, Mutex, PoisonError};

use iroh::EndpointAddr;
use iroh::endpoint::{
    AfterHandshakeOutcome, BeforeConnectOutcome, Connection, EndpointHooks, Side, WeakConnectionHandle,
};

use super::{ALPN_JOIN, device_id};
use crate::replica::Replica;

/// Close code "you are not a member".
const NOT_A_MEMBER: u32 = 1;
/// Close code "working offline".
const OFFLINE: u32 = 2;

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
        !self.state.lock().unwrap_or_else(PoisonError::into_inner).offline
    }

    /// Allows connections, or closes all there are and allows no more.
    pub(super) fn set_online(&self, online: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.offline = !online;
        let open = if online { Vec::new() } else { std::mem::take(&mut state.open) };
        drop(state);
        for connection in open.iter().filter_map(WeakConnectionHandle::upgrade) {
            connection.close(OFFLINE.into(), b"working offline");
        }
    }

    fn admits(&self, connection: &Connection) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.offline {
            state.open.retain(|handle| handle.upgrade().is_some_and(|open| open.close_reason().is_none()));
            state.open.push(connection.weak_handle());
        }
        !state.offline
    }
}

/// Refuses strangers on every protocol but joining, and everyone while the
/// device works offline.
pub(super) struct MembersOnly {
    replica: Replica,
    switch: Switch,
}

impl MembersOnly {
    pub(super) fn new(replica: Replica, switch: Switch) -> Self {
        Self { replica, switch }
    }
}

impl std::fmt::Debug for MembersOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MembersOnly")
    }
}

impl EndpointHooks for MembersOnly {
    async fn before_connect<'a>(&'a self, _to: &'a EndpointAddr, _alpn: &'a [u8]) -> BeforeConnectOutcome {
        if self.switch.is_online() { BeforeConnectOutcome::Accept } else { BeforeConnectOutcome::Reject }
    }

    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        let incoming = connection.side() == Side::Server;
        let peer = device_id(connection.remote_id());
        if incoming && connection.alpn() != ALPN_JOIN && !self.replica.knows_device(&peer) {
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
