//! The command line.
//!
//! Exit codes: 0 done, 1 not done, 2 a command line that says nothing, or no
//! display for a window, 3 done except for what was refused.

mod files;
mod invites;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use exo_sync::mesh::Finding;

use crate::bytes::ByteSize;
use crate::files::BackupWish;
use crate::folder::Folder;
use crate::node::{Node, NodeOptions};
use crate::{bench, command, complain, demo, face, keeper, relay};
pub(crate) use invites::tell_progress;

/// Exit code where a window was wanted and there is no display.
const NO_DISPLAY: u8 = 2;
/// Exit code where a file was taken in and part of it refused.
const PARTLY: u8 = 3;
/// Longest wait for background work when the program ends; all that matters is
/// stored by then.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// Memory offered unless said otherwise: 1 GiB.
const OFFERED_DEFAULT: &str = "1GiB";

/// Friends and family run language models together: no server, no account.
#[derive(Debug, Parser)]
#[command(name = "exo-studio", version, about, long_about = None)]
pub(crate) struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    options: Options,
    /// Log to standard error, for example "info" or "exo_sync=debug".
    #[arg(long, global = true, env = "EXO_STUDIO_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// How a node is started.
#[derive(Clone, Debug, Args)]
struct Options {
    /// Folder for everything this node keeps.
    #[arg(long, global = true, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Address to listen on; port 0 keeps the port of last time.
    #[arg(long, global = true, value_name = "IP:PORT", default_value_t = NodeOptions::ANY_ADDRESS)]
    bind: SocketAddr,
    /// Do not look for friends on the local network.
    #[arg(long, global = true)]
    no_local_network: bool,
    /// Also look for friends through the mainline DHT: strangers then store where this
    /// device is.
    #[arg(long, global = true)]
    dht: bool,
    /// Memory to offer for model weights, for example 700MiB or 8GiB.
    #[arg(long, global = true, value_name = "SIZE", default_value = OFFERED_DEFAULT)]
    offer_memory: ByteSize,
    /// Do not use the model that is built into the program.
    #[arg(long, global = true)]
    no_starter: bool,
    /// Let this node send its peers hostile things, as the demo does.
    #[arg(long, global = true, hide = true)]
    probes: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Open the window (what happens without a command).
    Window {
        /// Also serve JSON lines on standard input and output.
        #[arg(long)]
        json: bool,
    },
    /// Run a node in this terminal.
    Node {
        /// Speak JSON lines on standard input and output instead of words.
        #[arg(long)]
        json: bool,
    },
    /// Join a community with an invite.
    #[command(after_help = "Examples:\n  exo-studio join Ben exo-studio://join/exo1...\n  \
        exo-studio join Ben garden.exoinvite\n  exo-studio join Ben photo-of-the-code.png")]
    Join(invites::JoinArgs),
    /// Make an invite: a link, a ticket and a QR code to give to a friend.
    #[command(args_conflicts_with_subcommands = true)]
    #[command(after_help = "Examples:\n  exo-studio invite\n  \
        exo-studio invite 5 --days 2 --png party.png\n  exo-studio invite --role keeper\n  \
        exo-studio invite revoke 1a2b3c4d5e6f")]
    Invite(invites::InviteArgs),
    /// List the invites that are open.
    #[command(after_help = "Example:\n  exo-studio invites")]
    Invites(invites::CommunityOption),
    /// Communities as files: list, export, import.
    #[command(subcommand)]
    Community(files::CommunityWhat),
    /// Write everything of yours into one file.
    #[command(after_help = "Example:\n  exo-studio backup ana.exo\n\nIt asks for a passphrase. Neither the \
        recovery phrase nor the device's key is in the file: to restore it you need the 24 words.")]
    Backup(BackupWish),
    /// Make a new data folder from a backup and the 24 words.
    #[command(after_help = "Example:\n  exo-studio restore ana.exo --data new-folder\n\nThe folder must be \
        empty or not exist. It becomes a new device of yours.")]
    Restore(files::RestoreArgs),
    /// Run a keeper: it carries what a community writes and can read none of it.
    #[command(
        after_help = "Examples:\n  exo-studio keeper --data keeper --join exo-studio://join/exo1...\n  \
        exo-studio keeper --data keeper\n\nThe invite is made by a member: exo-studio invite --role keeper"
    )]
    Keeper(keeper::KeeperArgs),
    /// Show everything with three nodes on this machine.
    Demo(demo::DemoArgs),
    /// Run a relay: it carries packets for friends who cannot reach each other directly.
    Relay(relay::RelayArgs),
    /// Measure.
    Bench(bench::BenchArgs),
}

impl Options {
    fn data(&self) -> anyhow::Result<PathBuf> {
        Ok(match &self.data {
            Some(data) => data.clone(),
            None => Folder::default_path()?,
        })
    }

    fn node(&self) -> anyhow::Result<NodeOptions> {
        Ok(NodeOptions {
            data: self.data()?,
            bind: self.bind,
            finding: Finding { local_network: !self.no_local_network, dht: self.dht },
            offered_bytes: self.offer_memory.0,
            starter: !self.no_starter,
            keeper: false,
            probes: self.probes,
        })
    }
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.what.unwrap_or(What::Window { json: false }) {
        What::Window { json } => window(&cli.options, json),
        What::Node { json } => terminal(&cli.options, json),
        What::Join(args) => once(invites::join(args, cli.options.node()?)),
        What::Invite(args) => once(invites::invite(args, cli.options.node()?)),
        What::Invites(args) => once(invites::invites(args, cli.options.node()?)),
        What::Community(what) => once(files::community(what, cli.options.data()?)),
        What::Backup(wish) => once(files::backup(wish, cli.options.data()?)),
        What::Restore(args) => once(files::restore(args, cli.options.data()?)),
        What::Keeper(args) => once(keeper::run(args, cli.options.node()?)),
        What::Demo(args) => runtime()?.block_on(demo::run(args)),
        What::Relay(args) => runtime()?.block_on(relay::run(args, cli.options.data)),
        What::Bench(args) => bench::run(&args),
    }
}

/// Runs one thing to its end.
fn once(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    // Boxed: a node's start is a large future.
    let done = runtime.block_on(Box::pin(work));
    // A read of standard input cannot be cancelled: do not wait for it.
    runtime.shutdown_timeout(SHUTDOWN);
    done
}

fn terminal(options: &Options, json: bool) -> anyhow::Result<ExitCode> {
    let options = options.node()?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let node = Node::start(options).await?;
        let served = if json {
            Box::pin(serve_json(&node)).await
        } else {
            Box::pin(face::shell::serve(node.clone())).await
        };
        node.close().await;
        served.context("standard input and output")
    });
    // A read of standard input cannot be cancelled: do not wait for it.
    runtime.shutdown_timeout(SHUTDOWN);
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve_json(node: &Arc<Node>) -> std::io::Result<()> {
    let serving = node.clone();
    let run = move |command, events, stop| {
        let node = serving.clone();
        async move { command::run(&node, command, events, stop).await }
    };
    face::json::serve(node.clone(), run).await
}

fn window(options: &Options, json: bool) -> anyhow::Result<ExitCode> {
    let options = options.node()?;
    if !exo_ui::display_available() {
        complain(
            "There is no display to open a window on. Without one, use \"exo-studio node\" (this program in a \
             terminal) or \"exo-studio demo\" (see it work); \"exo-studio help\" lists the rest.",
        );
        return Ok(ExitCode::from(NO_DISPLAY));
    }
    let runtime = runtime()?;
    let node: Arc<Node> = runtime.block_on(Node::start(options))?;
    let outcome = face::window::run(&runtime, &node, json);
    runtime.block_on(node.close());
    runtime.shutdown_timeout(SHUTDOWN);
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ exo_ui::WindowError::NoDisplay { .. }) => {
            complain(&format!("{error}. Without one, use \"exo-studio node\" or \"exo-studio demo\"."));
            Ok(ExitCode::from(NO_DISPLAY))
        }
        Err(error) => Err(error.into()),
    }
}

/// Two workers: the program waits more than it computes, and models compute on
/// threads of their own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
