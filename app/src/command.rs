//! What can be asked of a node: one list for the terminal, for programs and
//! for the demo. The window maps its intents to the same functions.

mod invites;

use std::path::PathBuf;
use std::sync::Arc;

use exo_model::charter::role::UnknownRole;
use exo_model::event::private::Notify;
use exo_model::id::DeviceId;
use exo_sync::mesh::probe::Hostility;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::engine::{AskEvent, EngineError, Question};
use crate::files::{BackupWish, ExportWish, FileError, ImportWish};
use crate::node::{LinkStatus, Membership, MembershipError, ModelError, Node, NodeError};
use crate::report::{
    AnswerReport, AuditReport, BackupReport, BalanceReport, CommunityEntry, CommunityReport, DeviceReport,
    ExportReport, HoldingsReport, ImportReport, InviteReport, MemberReport, MessagePlace, MessageReport,
    ModelReport, PeerReport, RelayReport, StageReport, StatusReport, TicketReport,
};
use crate::ticket::InviteError;

pub(crate) use invites::InviteWish;

/// Messages shown unless asked otherwise.
const HISTORY: usize = 50;

/// One request. In JSON: `{"command":"say","text":"hello"}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Command {
    /// Found a community.
    Found { name: String, community: String },
    /// Join with an invite (ticket, link, or the path of an invite file or
    /// picture); answers when the join is complete.
    Join { name: String, ticket: String },
    /// Give up a join that is not complete.
    CancelJoin,
    /// The communities of this node.
    Communities,
    /// Show another community from now on, by name or id.
    Use { community: String },
    /// Make an invite.
    Invite(InviteWish),
    /// All invites.
    Invites,
    /// Let nobody join with an invite any more.
    RevokeInvite { invite: String },
    /// Write a community into a file.
    Export(ExportWish),
    /// Take in what a file holds.
    Import(ImportWish),
    /// Write everything of this person into a file.
    Backup(BackupWish),
    /// The recovery phrase; or delete it from this device, once it is written
    /// down.
    Phrase {
        #[serde(default)]
        forget: bool,
    },
    /// This person's devices.
    Devices,
    /// Make a code that links another device of this person within ten minutes.
    LinkDevice,
    /// Whether the latest code was used.
    LinkStatus,
    /// Become a device of the person whose other device shows this code: its words
    /// or its link.
    BecomeDevice { code: String },
    /// Come back as the person of a recovery phrase. Any invite of the community,
    /// also one that was used, says whom to ask.
    ComeBack { name: String, phrase: String, ticket: String },
    /// Take a lost device out everywhere; by the phrase where this device may not.
    RevokeDevice {
        device: String,
        #[serde(default)]
        phrase: Option<String>,
    },
    /// Relays that the community names.
    Relays,
    /// Name a relay, or another certificate of one (SHA-256 in hexadecimal).
    AddRelay {
        url: String,
        #[serde(default)]
        pin: Option<String>,
    },
    /// Name a relay no longer.
    RemoveRelay { url: String },
    /// A setting that follows this person to all their devices.
    Setting {
        name: String,
        /// A new value; empty sets it back.
        #[serde(default)]
        value: Option<String>,
    },
    /// Mark the channel read, here and on this person's other devices.
    MarkRead,
    /// How loud the community may be: all, mentions or nothing.
    Notify { level: NotifyLevel },
    /// Take someone out of the community, by name or id.
    Remove {
        person: String,
        #[serde(default)]
        ban: bool,
        #[serde(default)]
        reason: String,
    },
    /// Give someone a role.
    SetRole { person: String, role: String },
    /// Leave the community.
    Leave,
    /// Write a message.
    Say { text: String },
    /// The last messages, a page at most; or the last ones before a message,
    /// which is the oldest of the page before.
    History {
        #[serde(default)]
        limit: Option<usize>,
        #[serde(default)]
        before: Option<MessagePlace>,
    },
    /// Who belongs to the community.
    Members,
    /// Whose machines are linked.
    Peers,
    /// Models of the community.
    Models,
    /// Share a model file; the built-in one where none is named.
    AddModel {
        #[serde(default)]
        path: Option<PathBuf>,
    },
    /// Make a model ready on the machines that the plan gives it to.
    Share {
        #[serde(default)]
        model: Option<String>,
    },
    /// Ask a model.
    Ask {
        question: String,
        #[serde(default)]
        model: Option<String>,
        #[serde(default)]
        max_tokens: Option<u32>,
    },
    /// Everyone's credits.
    Balances,
    /// Work offline, or online again.
    Online { online: bool },
    /// Which bytes of a model's file are on this device.
    Holdings {
        #[serde(default)]
        model: Option<String>,
    },
    /// How this node is doing.
    Status,
    /// Open every feed as an Automerge document and compare.
    Audit,
    /// Send a peer (a device id) something hostile. Only nodes of the demo do.
    Probe { peer: String, hostility: Hostile },
}

/// [`Hostility`] in JSON.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hostile {
    ForgedChange,
    OversizeFrame,
}

/// [`Notify`] in JSON.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NotifyLevel {
    All,
    Mentions,
    Nothing,
}

/// What a command answers.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Reply {
    Done,
    Community(CommunityReport),
    Communities {
        communities: Vec<CommunityEntry>,
    },
    Ticket(TicketReport),
    Invites {
        invites: Vec<InviteReport>,
    },
    Devices {
        devices: Vec<DeviceReport>,
    },
    Code {
        words: String,
        link: String,
    },
    /// `none`, `waiting`, `linked` (to the device so called) or `failed` (why).
    Linking {
        state: String,
        detail: String,
    },
    /// Whose device this is now.
    Linked {
        device: String,
    },
    /// Where the person is a member.
    Returned {
        communities: usize,
    },
    Revoked {
        communities: usize,
    },
    Relays {
        relays: Vec<RelayReport>,
        /// The one that this device calls its home, while it is connected there.
        home: Option<String>,
    },
    Setting {
        name: String,
        value: Option<String>,
    },
    Exported(ExportReport),
    Imported {
        communities: Vec<ImportReport>,
    },
    BackedUp(BackupReport),
    /// `None` once it was deleted from this device.
    Phrase {
        phrase: Option<String>,
    },
    Messages {
        messages: Vec<MessageReport>,
    },
    Members {
        members: Vec<MemberReport>,
    },
    Peers {
        peers: Vec<PeerReport>,
    },
    Models {
        models: Vec<ModelReport>,
    },
    Model(ModelReport),
    Stages {
        stages: Vec<StageReport>,
    },
    Answer(AnswerReport),
    Balances {
        balances: Vec<BalanceReport>,
        sum: i64,
    },
    Holdings(HoldingsReport),
    Status(StatusReport),
    Audit(AuditReport),
}

/// Why a command was not carried out; its text is for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Replica(#[from] exo_sync::replica::ReplicaError),
    #[error(transparent)]
    Link(#[from] exo_sync::mesh::LinkError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Invite(#[from] InviteError),
    #[error(transparent)]
    Id(#[from] exo_model::id::ParseIdError),
    #[error("{0}")]
    Argument(String),
    #[error("only nodes started by the demo send hostile things")]
    ProbeOff,
}

/// Carries out `command`. Progress of `Share` and `Ask` goes to `events`;
/// `stop` becoming true ends an answer early.
pub(crate) async fn run(
    node: &Arc<Node>,
    command: Command,
    events: mpsc::Sender<AskEvent>,
    stop: watch::Receiver<bool>,
) -> Result<Reply, CommandError> {
    match command {
        Command::Found { name, community } => {
            let membership = node.found(&name, &community).await?;
            Ok(Reply::Community(CommunityReport::of(&membership)))
        }
        Command::Join { name, ticket } => {
            let membership = node.join(&name, &ticket).await?;
            node.joined(&membership).await?;
            Ok(Reply::Community(CommunityReport::of(&membership)))
        }
        Command::CancelJoin => {
            node.forget_join().await?;
            Ok(Reply::Done)
        }
        Command::Communities => {
            let current = node.membership().ok().map(|membership| membership.id());
            let all = node.memberships();
            let entry = |membership: &Arc<Membership>| CommunityEntry::of(node, membership, current);
            Ok(Reply::Communities { communities: all.iter().map(entry).collect() })
        }
        Command::Use { community } => Ok(Reply::Community(CommunityReport::of(&*node.show(&community)?))),
        Command::Invite(wish) => Ok(Reply::Ticket(invites::make(&*node.membership()?, wish).await?)),
        Command::Invites => Ok(Reply::Invites { invites: node.membership()?.invites() }),
        Command::RevokeInvite { invite } => {
            Ok(Reply::Invites { invites: vec![node.membership()?.revoke_invite(&invite).await?] })
        }
        Command::Export(wish) => Ok(Reply::Exported(node.export(wish).await?)),
        Command::Import(wish) => Ok(Reply::Imported { communities: node.import(wish).await? }),
        Command::Backup(wish) => Ok(Reply::BackedUp(node.backup(wish).await?)),
        Command::Phrase { forget } => {
            if forget {
                node.forget_phrase()?;
            }
            Ok(Reply::Phrase { phrase: node.phrase()? })
        }
        Command::Devices => {
            Ok(Reply::Devices { devices: node.devices().into_iter().map(DeviceReport::of).collect() })
        }
        Command::LinkDevice => {
            let invite = node.link_device().await?;
            let words = invite.code.words().join(" ");
            Ok(Reply::Code { words, link: invite.to_string() })
        }
        Command::LinkStatus => {
            let (state, detail) = match node.link_status() {
                None => ("none", String::new()),
                Some(LinkStatus::Waiting) => ("waiting", String::new()),
                Some(LinkStatus::Linked(device)) => ("linked", device),
                Some(LinkStatus::Failed(reason)) => ("failed", reason),
            };
            Ok(Reply::Linking { state: state.into(), detail })
        }
        Command::BecomeDevice { code } => {
            let name = node.become_device(&code).await?;
            Ok(Reply::Linked { device: name })
        }
        Command::ComeBack { name, phrase, ticket } => {
            let ticket = node.read_invite(&ticket).await?;
            let communities = node.come_back(&phrase, &ticket.contacts, &name).await?;
            Ok(Reply::Returned { communities })
        }
        Command::RevokeDevice { device, phrase } => {
            let communities = node.revoke_device(&device, phrase.as_deref()).await?;
            Ok(Reply::Revoked { communities })
        }
        Command::AddRelay { url, pin } => {
            node.membership()?.add_relay(url, pin).await?;
            Ok(Reply::Done)
        }
        Command::RemoveRelay { url } => {
            node.membership()?.remove_relay(&url).await?;
            Ok(Reply::Done)
        }
        Command::Setting { name, value } => setting(node, name, value).await,
        Command::MarkRead => {
            node.mark_read().await?;
            Ok(Reply::Done)
        }
        Command::Notify { level } => {
            node.set_notify(level.into()).await?;
            Ok(Reply::Done)
        }
        Command::Remove { person, ban, reason } => {
            node.membership()?.remove(&person, ban, reason).await?;
            Ok(Reply::Done)
        }
        Command::SetRole { person, role } => {
            let role =
                role.parse().map_err(|error: UnknownRole| CommandError::Argument(error.to_string()))?;
            node.membership()?.set_role(&person, role).await?;
            Ok(Reply::Done)
        }
        Command::Leave => {
            node.membership()?.leave().await?;
            Ok(Reply::Done)
        }
        Command::Say { text } => {
            node.membership()?.say(text).await?;
            Ok(Reply::Done)
        }
        Command::AddModel { path } => {
            let membership = node.membership()?;
            let manifest = match path {
                Some(path) => membership.add_model(&path).await?,
                None => membership.add_starter().await?,
            };
            Ok(Reply::Model(ModelReport::of(&manifest)))
        }
        Command::Share { model } => {
            let membership = node.membership()?;
            let stages = membership.engine()?.share(model.as_deref(), &events).await?;
            let stages = stages.iter().map(|stage| StageReport::of(&membership, stage)).collect();
            Ok(Reply::Stages { stages })
        }
        Command::Ask { question, model, max_tokens } => {
            let membership = node.membership()?;
            let question = Question { text: question, model, max_tokens };
            let answer = membership.engine()?.ask(question, events, stop).await?;
            Ok(Reply::Answer(AnswerReport::of(&membership, &answer)))
        }
        Command::Online { online } => {
            node.mesh().set_online(online);
            Ok(Reply::Done)
        }
        Command::Holdings { model } => {
            let (manifest, ranges) = node.membership()?.holdings(model.as_deref()).await?;
            Ok(Reply::Holdings(HoldingsReport::of(&manifest, &ranges)))
        }
        Command::Probe { peer, hostility } => {
            let hostility = match hostility {
                Hostile::ForgedChange => Hostility::ForgedChange,
                Hostile::OversizeFrame => Hostility::OversizeFrame,
            };
            if !node.may_probe() {
                return Err(CommandError::ProbeOff);
            }
            let peer: DeviceId = peer.parse()?;
            node.membership()?.mesh().probe(peer, hostility).await?;
            Ok(Reply::Done)
        }
        Command::Status => Ok(Reply::Status(StatusReport::of(node, &*node.membership()?).await?)),
        query => ask_views(&*node.membership()?, query).await,
    }
}

async fn setting(node: &Arc<Node>, name: String, value: Option<String>) -> Result<Reply, CommandError> {
    if let Some(value) = value {
        node.set_setting(name.clone(), value).await?;
    }
    let value = node.setting(&name)?;
    Ok(Reply::Setting { name, value })
}

impl From<NotifyLevel> for Notify {
    fn from(level: NotifyLevel) -> Self {
        match level {
            NotifyLevel::All => Self::All,
            NotifyLevel::Mentions => Self::Mentions,
            NotifyLevel::Nothing => Self::Nothing,
        }
    }
}

/// Commands that only look.
async fn ask_views(membership: &Membership, command: Command) -> Result<Reply, CommandError> {
    match command {
        Command::History { limit, before } => {
            let channel = membership.channel()?;
            let before = before.map(|place| place.cursor()).transpose()?;
            let rows = membership
                .query(move |reader| reader.messages(&channel, limit.unwrap_or(HISTORY), before))
                .await?;
            let messages = rows.iter().map(|row| MessageReport::of(membership, row)).collect();
            Ok(Reply::Messages { messages })
        }
        Command::Members => {
            let rows = membership.query(exo_projections::Reader::members).await?;
            Ok(Reply::Members { members: rows.iter().map(MemberReport::of).collect() })
        }
        Command::Relays => {
            let state = membership.replica().state();
            let relays = state.charter.settings.as_ref().map(|settings| settings.relays.clone());
            let relays = relays.unwrap_or_default().iter().map(RelayReport::of).collect();
            Ok(Reply::Relays { relays, home: membership.mesh().node().home_relay() })
        }
        Command::Peers => Ok(Reply::Peers { peers: PeerReport::all(membership) }),
        Command::Models => {
            let rows = membership.query(exo_projections::Reader::models).await?;
            Ok(Reply::Models { models: rows.iter().map(ModelReport::of_row).collect() })
        }
        Command::Balances => {
            let (rows, community) =
                membership.query(|reader| Ok((reader.balances()?, reader.community()?))).await?;
            let devices = rows.iter().map(BalanceReport::of);
            let balances: Vec<_> =
                devices.chain(community.as_ref().and_then(BalanceReport::of_community)).collect();
            let sum = balances.iter().map(|balance| balance.token_mib).sum();
            Ok(Reply::Balances { balances, sum })
        }
        // All others were carried out by whoever calls.
        _ => {
            let feeds = membership.replica().audit().await?;
            Ok(Reply::Audit(AuditReport { feeds }))
        }
    }
}
