//! `exo-studio keeper`: a node that carries what communities write, for members
//! who are away, and can read none of it.
//!
//! Prints what it carries, now and then. It has no views, no models and no face:
//! whoever wants to read uses another data folder.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use exo_model::id::CommunityId;
use exo_sync::mesh::PeerPath;

use crate::bytes::{ByteSize, human};
use crate::cli::tell_progress;
use crate::face::shell::say;
use crate::node::{Membership, Node, NodeOptions};

/// Pause between looks at what is carried.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Options of a keeper.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KeeperArgs {
    /// Invite with the role keeper: a link, a ticket, an invite file, or a picture of its code.
    #[arg(long, value_name = "INVITE")]
    join: Option<String>,
    /// What the members are to call it.
    #[arg(long, value_name = "NAME", default_value = "Keeper")]
    name: String,
    /// Most that it carries for each community; 16GiB unless said otherwise, once.
    #[arg(long, value_name = "SIZE")]
    room: Option<ByteSize>,
}

/// Runs a keeper until Ctrl-C.
pub(crate) async fn run(args: KeeperArgs, options: NodeOptions) -> anyhow::Result<ExitCode> {
    let data = options.data.display().to_string();
    let node = Box::pin(Node::start(NodeOptions { keeper: true, starter: false, ..options })).await?;
    let ended = tokio::select! {
        ended = keep(&node, &args, &data) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.context("Ctrl-C"),
    };
    say("stopping\n");
    node.close().await;
    ended.map(|()| ExitCode::SUCCESS)
}

async fn keep(node: &Arc<Node>, args: &KeeperArgs, data: &str) -> anyhow::Result<()> {
    if let Some(reader) = node.memberships().into_iter().find(|one| reads(node, one)) {
        bail!(
            "{data} belongs to somebody who reads {}: a keeper needs a folder of its own (--data)",
            reader.replica().state().charter.name()
        );
    }
    say(&format!("keeper {}, data: {data}\n", node.device()));
    if let Some(invite) = &args.join {
        join(node, &args.name, invite).await?;
    }
    if node.memberships().is_empty() {
        bail!(
            "there is nothing to carry yet: start it with --join and an invite whose role is keeper; a member \
             makes one with \"invite --role keeper\""
        );
    }
    for membership in node.memberships() {
        settle(node, &membership, data).await?;
        if let Some(room) = args.room {
            membership.replica().keep_up_to(room.0).await?;
        }
    }
    say("It carries what it cannot read. Ctrl-C stops it.\n");
    report(node).await
}

/// Whether a community here is somebody's who reads it.
fn reads(node: &Node, membership: &Membership) -> bool {
    let snapshot = membership.replica().snapshot();
    snapshot.kept.is_none() && node.ticket_of(&snapshot.state.id).is_none()
}

/// Begins a join, unless this is a keeper there already.
async fn join(node: &Arc<Node>, name: &str, invite: &str) -> anyhow::Result<()> {
    let ticket = node.read_invite(invite).await?;
    let known = node.memberships().into_iter().find(|one| one.id() == ticket.community);
    if let Some(known) = known {
        known.mesh().learn(&ticket);
        say("The community of this invite is carried here already; it says where members are now.\n");
        return Ok(());
    }
    node.join(name, invite).await?;
    Ok(())
}

/// Waits for the end of a join, if one is under way, and looks what it brought.
async fn settle(node: &Arc<Node>, membership: &Arc<Membership>, data: &str) -> anyhow::Result<()> {
    if node.ticket_of(&membership.id()).is_some() {
        say("Asking the members named in the invite. If nobody is online this goes on.\n");
        tokio::select! {
            joined = node.joined(membership) => joined?,
            () = tell_progress(membership) => {}
        }
    }
    if membership.replica().snapshot().kept.is_none() {
        bail!(
            "the invite does not give the role keeper, so this device can read the community now: use it with \
             \"exo-studio node --data {data}\", and make the keeper in another folder with an invite whose role is \
             keeper"
        );
    }
    Ok(())
}

/// What a keeper carries of one community.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Load {
    carried_bytes: u64,
    room_bytes: u64,
    changes: u64,
    devices: usize,
    linked: usize,
}

impl Load {
    fn of(membership: &Membership) -> Self {
        let snapshot = membership.replica().snapshot();
        let kept = snapshot.kept.clone().unwrap_or_default();
        let is_linked = |path: PeerPath| matches!(path, PeerPath::Direct | PeerPath::Relayed);
        Self {
            carried_bytes: kept.carried_bytes,
            room_bytes: kept.room_bytes,
            changes: snapshot.change_count(),
            devices: snapshot.devices().len().saturating_sub(1),
            linked: membership.mesh().peers().iter().filter(|peer| is_linked(peer.path)).count(),
        }
    }

    fn line(&self, community: &CommunityId) -> String {
        let Self { carried_bytes, room_bytes, changes, devices, linked } = *self;
        format!(
            "community {community}: {} of {} carried, {changes} changes, for {devices} devices, {linked} linked\n",
            human(carried_bytes),
            human(room_bytes)
        )
    }
}

/// A line for each community whenever something has changed, at most once a
/// minute. Never ends.
async fn report(node: &Node) -> anyhow::Result<()> {
    let mut told = BTreeMap::new();
    loop {
        for membership in node.memberships() {
            let (id, now) = (membership.id(), Load::of(&membership));
            if told.insert(id, now) != Some(now) {
                say(&now.line(&id));
            }
        }
        tokio::time::sleep(REPORT_EVERY).await;
    }
}
