//! Who may talk to this device: members, and whoever asks to join.
//!
//! Checked for every protocol after the handshake, when the peer's key is
//! proven. A dialler of its own accord is not checked: it chose its peer.

use iroh::endpoint::{AfterHandshakeOutcome, Connection, EndpointHooks, Side};

use super::{ALPN_JOIN, device_id};
use crate::replica::Replica;

/// Close code "you are not a member".
const NOT_A_MEMBER: u32 = 1;

/// Refuses strangers on every protocol but joining.
pub(super) struct MembersOnly {
    replica: Replica,
}

impl MembersOnly {
    pub(super) fn new(replica: Replica) -> Self {
        Self { replica }
    }
}

impl std::fmt::Debug for MembersOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MembersOnly")
    }
}

impl EndpointHooks for MembersOnly {
    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        let incoming = connection.side() == Side::Server;
        let peer = device_id(connection.remote_id());
        if incoming && connection.alpn() != ALPN_JOIN && !self.replica.state().is_member(&peer) {
            tracing::debug!(%peer, "refused: not a member");
            return AfterHandshakeOutcome::Reject {
                error_code: NOT_A_MEMBER.into(),
                reason: b"not a member".to_vec(),
            };
        }
        AfterHandshakeOutcome::accept()
    }
}
