//! What can be asked of a node: one list for the terminal, for programs and
//! for the demo. The window maps its intents to the same functions.

mod invites;

use std::path::PathBuf;
use std::sync::Arc;

use exo_model::charter::role::UnknownRole;
use exo_model::id::DeviceId;
use exo_sync::mesh::probe::Hostility;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::engine::{AskEvent, EngineError, Question};
use crate::files::{BackupWish, ExportWish, FileError, ImportWish};
use crate::node::{Membership, MembershipError, ModelError, Node, NodeError};
use crate::report::{
    AnswerReport, AuditReport, BackupReport, BalanceReport, CommunityEntry, CommunityReport, ExportReport,
    HoldingsReport, ImportReport, InviteReport, MemberReport, MessageReport, ModelReport, PeerReport,
    StageReport, StatusReport, TicketReport,
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
    /// The last messages.
    History {
        #[serde(default)]
        limit: Option<usize>,
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

/// Commands that only look.
async fn ask_views(membership: &Membership, command: Command) -> Result<Reply, CommandError> {
    match command {
        Command::History { limit } => {
            let channel = membership.channel()?;
            let rows = membership
                .query(move |reader| reader.messages(&channel, limit.unwrap_or(HISTORY), None))
                .await?;
            let messages = rows.iter().map(|row| MessageReport::of(membership, row)).collect();
            Ok(Reply::Messages { messages })
        }
        Command::Members => {
            let rows = membership.query(exo_projections::Reader::members).await?;
            Ok(Reply::Members { members: rows.iter().map(MemberReport::of).collect() })
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
