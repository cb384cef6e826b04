//! `exo-studio`: friends and family run language models together.
//!
//! `app` wires the crates together and is the only one that may name them all.
//! Code map: [`node`] (one person's program), [`engine`] (models over peers),
//! [`command`] (everything that can be asked of a node), [`face`] (terminal,
//! JSON lines, window), [`keeper`] and [`relay`] (for friends), [`demo`] (three
//! nodes that show it all), [`bench`], [`archive`] (a community, or all of a
//! person's, as one file) and [`files`] (what is done with them), [`ticket`]
//! (invites as links, pictures and files).

mod archive;
mod bench;
mod bytes;
mod cli;
mod command;
mod demo;
mod engine;
mod face;
mod files;
mod folder;
mod host;
mod keeper;
mod node;
mod relay;
mod report;
mod ticket;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    init_log(cli.log.as_deref());
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("exo-studio: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error and never hold keys, tickets or messages.
fn init_log(filter: Option<&str>) {
    let filter =
        filter.map_or_else(|| tracing_subscriber::EnvFilter::new("off"), tracing_subscriber::EnvFilter::new);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// One line on standard error.
#[expect(clippy::print_stderr, reason = "this is where errors are told")]
fn complain(line: &str) {
    eprintln!("{}", face::terminal::printable(line));
}
