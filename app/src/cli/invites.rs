//! Invites and joining, from the command line: a node that does one thing.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use exo_sync::mesh::JoinStatus;
use tokio::sync::{mpsc, watch};

use super::files::busy;
use crate::command::{self, Command, Reply};
use crate::face::shell::parse::InviteLine;
use crate::face::shell::{say, show};
use crate::folder::FolderError;
use crate::node::{Membership, Node, NodeError, NodeOptions};
use crate::report::JoinReport;

/// Which community is meant.
#[derive(Debug, Args)]
pub(super) struct CommunityOption {
    /// The community's name or id; without it, the one that was used last.
    #[arg(long, global = true, value_name = "NAME|ID")]
    community: Option<String>,
}

/// `exo-studio invite`.
#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    #[command(flatten)]
    line: InviteLine,
    #[command(flatten)]
    of: CommunityOption,
}

/// `exo-studio join`.
#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// What friends are to call you.
    name: String,
    /// The invite: a link, a ticket, an invite file, or a picture (PNG) of its code.
    invite: String,
}

pub(super) async fn invite(args: InviteArgs, options: NodeOptions) -> anyhow::Result<ExitCode> {
    let InviteArgs { line, of } = args;
    let makes_one = line.what.is_none();
    let in_shell = if makes_one { "invite" } else { "invite revoke ID" };
    let node = start(options, in_shell).await?;
    let done = carry_out(&node, of, line.command()).await;
    node.close().await;
    show::show(&done?);
    if makes_one {
        say(
            "Somebody can join while a member's program runs: leave \"exo-studio node\" or the window open.\n",
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn invites(of: CommunityOption, options: NodeOptions) -> anyhow::Result<ExitCode> {
    let node = start(options, "invites").await?;
    let done = carry_out(&node, of, Command::Invites).await;
    node.close().await;
    show::show(&done?);
    Ok(ExitCode::SUCCESS)
}

async fn carry_out(node: &Arc<Node>, of: CommunityOption, command: Command) -> anyhow::Result<Reply> {
    if let Some(community) = of.community {
        node.show(&community)?;
    }
    let (events, _nobody) = mpsc::channel(1);
    let (_stop, stopped) = watch::channel(false);
    Ok(command::run(node, command, events, stopped).await?)
}

pub(super) async fn join(args: JoinArgs, options: NodeOptions) -> anyhow::Result<ExitCode> {
    let data = options.data.clone();
    let node = start(options, "join NAME with INVITE").await?;
    let joined = match node.join(&args.name, &args.invite).await {
        Ok(membership) => wait(&node, &membership, &data).await,
        Err(error) => Err(error.into()),
    };
    node.close().await;
    joined
}

async fn wait(node: &Node, membership: &Arc<Membership>, data: &Path) -> anyhow::Result<ExitCode> {
    say("Asking the members named in the invite. Ctrl+C stops waiting.\n");
    let ended = tokio::select! {
        joined = node.joined(membership) => Some(joined),
        () = tell_progress(membership) => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    let Some(joined) = ended else {
        say("\nThe join goes on whenever Exo-Studio runs on this folder.\n");
        return Ok(ExitCode::FAILURE);
    };
    joined?;
    let folder = data.display();
    if membership.replica().snapshot().kept.is_some() {
        say(&format!("This device is a keeper now. Start it with: exo-studio keeper --data {folder}\n"));
    } else {
        let name = membership.replica().state().charter.name().to_owned();
        let name = crate::face::terminal::printable(&name);
        say(&format!("You are in {name}. Start with: exo-studio --data {folder}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each round of a join; never ends before the join does.
pub(crate) async fn tell_progress(membership: &Membership) {
    let mut status = membership.watch_join();
    loop {
        let now = status.borrow_and_update().clone();
        if let Some(status @ (JoinStatus::Trying { rounds: 1.., .. } | JoinStatus::Admitted)) = &now
            && let Some(report) = JoinReport::of(status)
        {
            say(&format!("  {}\n", show::how_join_goes(&report)));
        }
        if status.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// A node on the folder, unless one runs there.
async fn start(options: NodeOptions, in_shell: &str) -> anyhow::Result<Arc<Node>> {
    match Box::pin(Node::start(options)).await {
        Err(NodeError::Folder(FolderError::InUse(folder))) => Err(busy(&folder, in_shell)),
        started => Ok(started?),
    }
}
