//! Plain data for faces: what commands answer, ready for JSON.

mod files;
mod invites;
mod peers;

use exo_model::amount::Amount;
use exo_model::charter::{Relay, Role};
use exo_model::feed::{FeedId, Stream};
use exo_model::id::{CertificatePin, CommunityId, DeviceId, ParseIdError};
use exo_model::weights::{ByteRange, ModelManifest};
use exo_projections::PageCursor;
use exo_projections::rows::{BalanceRow, CommunityRow, MemberRow, MessageRow, ModelRow};
use exo_sync::mesh::Delivery;
use serde::{Deserialize, Serialize};

use crate::engine::{Answer, SharedStage};
use crate::node::{Membership, MembershipError, Node, OwnDevice};

pub(crate) use files::{BackupReport, ExportReport, ImportReport, RestoreReport};
pub(crate) use invites::{InviteReport, InviteState, JoinReport, RefusedJoin, TicketReport};
pub(crate) use peers::PeerReport;

/// The community and this node's place in it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct CommunityReport {
    pub(crate) community: String,
    pub(crate) id: String,
    pub(crate) device: String,
}

impl CommunityReport {
    pub(crate) fn of(membership: &Membership) -> Self {
        let state = membership.replica().state();
        Self {
            community: state.charter.name().to_owned(),
            id: state.id.to_hex(),
            device: membership.mesh().device().to_hex(),
        }
    }
}

/// One of the node's communities.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct CommunityEntry {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) members: usize,
    /// Whether commands are about it.
    pub(crate) current: bool,
    /// Whether this device is a member.
    pub(crate) member: bool,
    /// `member`, `joining`, `keeper`, or `reading`: what came from a file can be
    /// read, and a member has to let this device write.
    pub(crate) standing: String,
    /// The join, while one is under way.
    pub(crate) join: Option<JoinReport>,
    /// Bytes carried and carried at most, on a keeper.
    pub(crate) carried_bytes: Option<[u64; 2]>,
}

impl CommunityEntry {
    pub(crate) fn of(node: &Node, membership: &Membership, current: Option<CommunityId>) -> Self {
        let snapshot = membership.replica().snapshot();
        let state = &snapshot.state;
        let join = node.join_of(membership);
        let is_member = state.charter.is_member(&membership.mesh().device());
        let standing = match &snapshot.kept {
            Some(_) => "keeper",
            None if is_member => "member",
            None if join.is_some() => "joining",
            None => "reading",
        };
        let mut name = state.charter.name().to_owned();
        if name.is_empty() {
            name = node.ticket_of(&state.id).map(|ticket| ticket.community_name).unwrap_or_default();
        }
        Self {
            name,
            id: state.id.to_hex(),
            members: state.charter.members.len(),
            current: current == Some(state.id),
            member: is_member,
            standing: standing.to_owned(),
            join,
            carried_bytes: snapshot.kept.as_ref().map(|kept| [kept.carried_bytes, kept.room_bytes]),
        }
    }
}

/// One of this person's devices.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct DeviceReport {
    pub(crate) device: String,
    pub(crate) name: String,
    /// Whether it is the one that answers.
    pub(crate) this: bool,
    pub(crate) online: bool,
}

impl DeviceReport {
    pub(crate) fn of(device: OwnDevice) -> Self {
        Self {
            device: device.device.to_hex(),
            name: device.name,
            this: device.is_this,
            online: device.is_online,
        }
    }
}

/// A relay that the community names.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct RelayReport {
    pub(crate) url: String,
    /// SHA-256 of the one certificate that it may show, in hexadecimal.
    pub(crate) pin: Option<String>,
}

impl RelayReport {
    pub(crate) fn of(relay: &Relay) -> Self {
        Self { url: relay.url.clone(), pin: relay.pin.as_ref().map(CertificatePin::to_hex) }
    }
}

/// A message.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct MessageReport {
    pub(crate) id: String,
    pub(crate) author: String,
    pub(crate) device: String,
    pub(crate) lamport: u64,
    pub(crate) time_ms: i64,
    pub(crate) text: String,
    /// How far it has got, where this device wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delivery: Option<DeliveryReport>,
}

impl MessageReport {
    pub(crate) fn of(membership: &Membership, row: &MessageRow) -> Self {
        Self {
            id: row.hash.to_hex(),
            author: row.author_name.clone(),
            device: row.author.to_hex(),
            lamport: row.lamport,
            time_ms: row.time_ms,
            text: row.text.clone(),
            delivery: DeliveryReport::of(membership, row),
        }
    }
}

/// Where a message stands among all: fields of its [`MessageReport`], so that
/// a program can send back the message itself.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct MessagePlace {
    pub(crate) id: String,
    pub(crate) lamport: u64,
    pub(crate) time_ms: i64,
}

impl MessagePlace {
    /// For the views.
    pub(crate) fn cursor(&self) -> Result<PageCursor, ParseIdError> {
        Ok(PageCursor { lamport: self.lamport, time_ms: self.time_ms, hash: self.id.parse()? })
    }
}

/// How far a message of this device has got, as far as it knows itself: what
/// others may have from elsewhere it learns when it meets them.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct DeliveryReport {
    /// `written`, `arrived`, `all_online` or `everyone`.
    pub(crate) state: String,
    /// Other devices that have it.
    pub(crate) devices: usize,
    /// Other devices of members, keepers among them.
    pub(crate) of: usize,
}

impl DeliveryReport {
    fn of(membership: &Membership, row: &MessageRow) -> Option<Self> {
        let mesh = membership.mesh();
        if row.author != mesh.device() {
            return None;
        }
        let feed = FeedId {
            segment: row.segment,
            ..FeedId::new(membership.id(), row.author, Stream::Channel(row.channel))
        };
        let others = membership.replica().snapshot().devices().len().saturating_sub(1);
        let (state, devices, of) = match mesh.delivery(&feed, row.seq) {
            Delivery::Written => ("written", 0, others),
            Delivery::Arrived { devices, of } => ("arrived", devices, of),
            Delivery::AllOnline { devices, of } => ("all_online", devices, of),
            Delivery::Everyone => ("everyone", others, others),
        };
        Some(Self { state: state.to_owned(), devices, of })
    }
}

/// A member.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct MemberReport {
    pub(crate) person: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) trust: String,
    pub(crate) devices: Vec<String>,
}

impl MemberReport {
    pub(crate) fn of(row: &MemberRow) -> Self {
        let role: Role = row.role;
        Self {
            person: row.person.to_hex(),
            name: row.name.clone(),
            role: role.as_str().to_owned(),
            trust: row.trust.clone(),
            devices: row.devices.iter().map(DeviceId::to_hex).collect(),
        }
    }
}

/// A model of the community.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ModelReport {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) architecture: String,
    pub(crate) licence: String,
    pub(crate) size_bytes: u64,
    pub(crate) layers: u32,
}

impl ModelReport {
    pub(crate) fn of(manifest: &ModelManifest) -> Self {
        Self {
            name: manifest.name.clone(),
            file: manifest.file.to_hex(),
            architecture: manifest.architecture.clone(),
            licence: manifest.licence.clone(),
            size_bytes: manifest.size_bytes,
            layers: manifest.layer_count(),
        }
    }

    pub(crate) fn of_row(row: &ModelRow) -> Self {
        Self {
            name: row.name.clone(),
            file: row.model.to_hex(),
            architecture: row.architecture.clone(),
            licence: row.licence.clone(),
            size_bytes: row.size_bytes,
            layers: row.layer_count,
        }
    }
}

/// One machine's part of a model.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct StageReport {
    pub(crate) peer: String,
    pub(crate) device: String,
    /// `[first, one past last]`.
    pub(crate) layers: [u32; 2],
    /// Bytes of weights fetched for it, just now.
    pub(crate) fetched_bytes: u64,
}

impl StageReport {
    pub(crate) fn of(membership: &Membership, stage: &SharedStage) -> Self {
        Self {
            peer: membership.replica().state().charter.name_of(&stage.device),
            device: stage.device.to_hex(),
            layers: [stage.layers.start(), stage.layers.end()],
            fetched_bytes: stage.fetched_bytes,
        }
    }
}

/// A finished answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct AnswerReport {
    pub(crate) text: String,
    pub(crate) model: String,
    pub(crate) plan: Vec<StageReport>,
    pub(crate) tokens: u32,
    pub(crate) positions: u64,
    pub(crate) seconds: f64,
    pub(crate) tokens_per_second: f64,
    pub(crate) stopped: bool,
    /// token·MiB paid, by name.
    pub(crate) spent: Vec<(String, i64)>,
}

impl AnswerReport {
    pub(crate) fn of(membership: &Membership, answer: &Answer) -> Self {
        let state = membership.replica().state();
        Self {
            text: answer.text.clone(),
            model: answer.model.clone(),
            plan: answer.stages.iter().map(|stage| StageReport::of(membership, stage)).collect(),
            tokens: answer.tokens,
            positions: answer.positions,
            seconds: answer.seconds,
            tokens_per_second: f64::from(answer.tokens) / answer.seconds.max(1e-9),
            stopped: answer.stopped,
            spent: answer
                .spent
                .iter()
                .map(|(device, amount)| (state.charter.name_of(device), amount.token_mib()))
                .collect(),
        }
    }
}

/// The credits of one device, or of the community.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct BalanceReport {
    pub(crate) name: String,
    /// Empty for the community's own account.
    pub(crate) device: String,
    pub(crate) token_mib: i64,
    /// Set aside in open locks.
    pub(crate) held_token_mib: i64,
}

impl BalanceReport {
    pub(crate) fn of(row: &BalanceRow) -> Self {
        Self {
            name: row.name.clone(),
            device: row.device.to_hex(),
            token_mib: row.balance.token_mib(),
            held_token_mib: row.held.token_mib(),
        }
    }

    /// The community's own account, once it holds something.
    pub(crate) fn of_community(row: &CommunityRow) -> Option<Self> {
        (row.balance != Amount::ZERO).then(|| Self {
            name: row.name.clone(),
            device: String::new(),
            token_mib: row.balance.token_mib(),
            held_token_mib: 0,
        })
    }
}

/// What of a model's file is on this device.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct HoldingsReport {
    pub(crate) file: String,
    pub(crate) size_bytes: u64,
    /// `[first, one past last]`, in order.
    pub(crate) ranges: Vec<[u64; 2]>,
}

impl HoldingsReport {
    pub(crate) fn of(manifest: &ModelManifest, ranges: &[ByteRange]) -> Self {
        Self {
            file: manifest.file.to_hex(),
            size_bytes: manifest.size_bytes,
            ranges: ranges.iter().map(|range| [range.start, range.end]).collect(),
        }
    }
}

/// How a node is doing.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct StatusReport {
    pub(crate) community: String,
    pub(crate) members: usize,
    /// Changes stored, over all feeds.
    pub(crate) changes: u64,
    /// Hash of what charter and ledger say; equal on peers with equal events.
    pub(crate) state_hash: String,
    /// Hash over the ends of all feeds.
    pub(crate) digest: String,
    /// Other members linked now.
    pub(crate) online: usize,
    pub(crate) offered_bytes: u64,
    /// Hostile or broken things refused since the start, the latest ones.
    pub(crate) refusals: Vec<String>,
    /// `member`, `joining`, `keeper` or `reading`.
    pub(crate) standing: String,
    /// The join, while one is under way.
    pub(crate) join: Option<JoinReport>,
    /// Joins of this node that a member refused for good.
    pub(crate) refused_joins: Vec<RefusedJoin>,
    /// Bytes carried and carried at most, on a keeper.
    pub(crate) carried_bytes: Option<[u64; 2]>,
}

impl StatusReport {
    pub(crate) async fn of(node: &Node, membership: &Membership) -> Result<Self, MembershipError> {
        let snapshot = membership.replica().snapshot();
        let state = snapshot.state.clone();
        let CommunityEntry { name, standing, join, carried_bytes, .. } =
            CommunityEntry::of(node, membership, None);
        // Counted in the views: what people see. A keeper sees nobody.
        let members = match membership.query(exo_projections::Reader::members).await {
            Err(MembershipError::Keeper) => 0,
            members => members?.len(),
        };
        let me = membership.mesh().device();
        let peers = membership.mesh().peers();
        Ok(Self {
            community: name,
            members,
            changes: snapshot.change_count(),
            state_hash: exo_model::id::BlobHash::from_bytes(state.hash()).to_hex(),
            digest: exo_model::id::BlobHash::from_bytes(snapshot.digest()).to_hex(),
            online: peers.iter().filter(|peer| peer.path != exo_sync::mesh::PeerPath::Offline).count(),
            offered_bytes: state.machines.get(&me).map_or(0, |machine| machine.memory_bytes),
            refusals: membership
                .mesh()
                .refusals()
                .into_iter()
                .map(|note| format!("{}: {}", state.charter.name_of(&note.device), note.reason))
                .collect(),
            standing,
            join,
            refused_joins: node.refused_joins(),
            carried_bytes,
        })
    }
}

/// What an audit covered.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct AuditReport {
    /// Feeds that Automerge reads exactly as we do.
    pub(crate) feeds: usize,
}
