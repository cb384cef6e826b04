//! Invites, and how a join goes.

use exo_model::charter::Invite;
use exo_model::id::InviteKey;
use exo_model::invite::Ticket;
use exo_sync::mesh::JoinStatus;
use serde::{Deserialize, Serialize};

use crate::ticket;

/// An invite that was just made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct TicketReport {
    /// What to give to a friend.
    pub(crate) ticket: String,
    /// The same as a link.
    pub(crate) link: String,
    /// What `invites` and `invite revoke` call it.
    pub(crate) id: String,
    pub(crate) uses: u32,
    pub(crate) role: String,
    pub(crate) expires_ms: i64,
    /// Files that were written.
    pub(crate) files: Vec<String>,
}

impl TicketReport {
    pub(crate) fn of(ticket: &Ticket, uses: u32, role: &str, files: Vec<String>) -> Self {
        Self {
            ticket: ticket.to_string(),
            link: ticket::link(ticket),
            id: ticket.key().to_hex(),
            uses,
            role: role.to_owned(),
            expires_ms: ticket.expires_ms,
            files,
        }
    }
}

/// Whether an invite still lets somebody in.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InviteState {
    Open,
    UsedUp,
    Expired,
    Revoked,
}

impl InviteState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::UsedUp => "used up",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// An invite, as the charter has it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct InviteReport {
    pub(crate) id: String,
    pub(crate) state: InviteState,
    pub(crate) uses: u32,
    pub(crate) used: u32,
    pub(crate) role: String,
    /// Who made it.
    pub(crate) maker: String,
    pub(crate) expires_ms: i64,
}

impl InviteReport {
    pub(crate) fn of(key: &InviteKey, invite: &Invite, maker: String, now_ms: i64) -> Self {
        let state = if invite.revoked {
            InviteState::Revoked
        } else if invite.used >= invite.uses {
            InviteState::UsedUp
        } else if now_ms > invite.expires_ms {
            InviteState::Expired
        } else {
            InviteState::Open
        };
        Self {
            id: key.to_hex(),
            state,
            uses: invite.uses,
            used: invite.used,
            role: invite.role.as_str().to_owned(),
            maker,
            expires_ms: invite.expires_ms,
        }
    }

    /// How many more people may come.
    pub(crate) const fn left(&self) -> u32 {
        self.uses.saturating_sub(self.used)
    }
}

/// A join that is under way.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct JoinReport {
    /// `trying`: nobody has answered yet. `admitted`: the history is on its way.
    pub(crate) state: String,
    /// Rounds over all whom the invite names.
    pub(crate) rounds: u32,
    /// What the last one failed with.
    pub(crate) last_error: String,
}

impl JoinReport {
    /// What is said of a status; nothing once it is over.
    pub(crate) fn of(status: &JoinStatus) -> Option<Self> {
        let report = |state: &str, rounds, last_error: &str| {
            Some(Self { state: state.to_owned(), rounds, last_error: last_error.to_owned() })
        };
        match status {
            JoinStatus::Trying { rounds, last_error } => report("trying", *rounds, last_error),
            JoinStatus::Admitted => report("admitted", 0, ""),
            JoinStatus::Joined | JoinStatus::Refused(_) => None,
        }
    }
}

/// A join that a member refused for good.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct RefusedJoin {
    pub(crate) community: String,
    pub(crate) reason: String,
}
