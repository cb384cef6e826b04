//! The program on networks as they are: `docs/design/netlab.md` says what each
//! scenario builds and what the last run showed.
//!
//! Those in namespaces need root and Linux, and skip with a reason where these
//! are missing. The kills run everywhere, on loopback.

#[cfg(target_os = "linux")]
#[path = "netlab/homes.rs"]
mod homes;
#[path = "netlab/kills.rs"]
mod kills;
#[cfg(target_os = "linux")]
#[path = "netlab/lan.rs"]
mod lan;
#[cfg(target_os = "linux")]
#[path = "netlab/relays.rs"]
mod relays;
#[cfg(target_os = "linux")]
#[path = "netlab/roaming.rs"]
mod roaming;
#[cfg(target_os = "linux")]
#[path = "netlab/slow.rs"]
mod slow;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use exo_tests::netlab::{Node, until};
use serde_json::{Value, json};

/// Longest wait for something that a network has to bring about.
const SOON: Duration = Duration::from_secs(60);

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_exo-studio");

/// A command that starts a node, in a namespace or not.
fn node(mut program: Command, data: &Path, words: &[&str]) -> Command {
    program.args(["node", "--json", "--data"]).arg(data).args(words);
    program
}

fn found(node: &mut Node, name: &str) {
    node.ok(json!({"command": "found", "name": name, "community": "Garden"}));
}

fn invite(node: &mut Node, uses: usize) -> String {
    let answer = node.ok(json!({"command": "invite", "uses": uses}));
    answer["ticket"].as_str().expect("a ticket").to_owned()
}

fn join(name: &str, ticket: &str) -> Value {
    json!({"command": "join", "name": name, "ticket": ticket})
}

fn say(text: &str) -> Value {
    json!({"command": "say", "text": text})
}

fn messages(node: &mut Node) -> Vec<String> {
    node.messages().expect("the node is there")
}

/// Waits until all of `texts`, a page at most, are among a node's latest
/// messages; how long that took.
fn wait_for(node: &mut Node, texts: &BTreeSet<String>, what: &str) -> Duration {
    let start = Instant::now();
    until(what, SOON, || {
        let have: BTreeSet<String> = node.latest().expect("the node is there").into_iter().collect();
        texts.is_subset(&have).then_some(())
    });
    start.elapsed()
}

/// How `node` reaches another device: `direct`, `relayed`, `near` or `offline`.
fn path(node: &mut Node, other: &str) -> String {
    let peers = node.ok(json!({"command": "peers"}));
    let peers = peers["peers"].as_array().expect("peers");
    let peer = peers.iter().find(|peer| peer["device"] == json!(other));
    peer.map_or("unknown", |peer| peer["path"].as_str().expect("a path")).to_owned()
}

/// Changes that a node has stored.
fn changes(node: &mut Node) -> u64 {
    node.ok(json!({"command": "status"}))["changes"].as_u64().expect("a number")
}

/// Waits until all nodes hold the same changes, and checks that they agree on
/// everything: state, messages and their order, none twice, and Automerge's
/// reading of every feed.
fn check_agreement(nodes: &mut [&mut Node]) -> Vec<String> {
    until("everyone has the same changes", SOON, || {
        let mut digests =
            nodes.iter_mut().map(|node| node.ok(json!({"command": "status"}))["digest"].clone());
        let first = digests.next()?;
        digests.all(|digest| digest == first).then_some(())
    });
    let mut status = |command: &str, field: &str| {
        let command = json!({"command": command});
        nodes.iter_mut().map(|node| node.ok(command.clone())[field].clone()).collect::<Vec<_>>()
    };
    let (hashes, feeds) = (status("status", "state_hash"), status("audit", "feeds"));
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    assert!(feeds.iter().all(|count| *count == feeds[0]), "{feeds:?}");
    // Views follow the changes; they are written a moment later.
    let lists = until("everyone shows the same messages", SOON, || {
        let lists: Vec<_> = nodes.iter_mut().map(|node| messages(node)).collect();
        lists.iter().all(|list| *list == lists[0]).then_some(lists)
    });
    let once: BTreeSet<_> = lists[0].iter().collect();
    assert_eq!(once.len(), lists[0].len(), "no message is there twice");
    lists[0].clone()
}

/// A lab, or the reason why there is none, which is printed.
#[cfg(target_os = "linux")]
fn lab(scenario: &str, programs: &[&'static str]) -> Option<exo_tests::netlab::Lab> {
    match exo_tests::netlab::Lab::open(programs) {
        Ok(lab) => Some(lab),
        Err(missing) => {
            exo_tests::netlab::tell(&format!("net lab: \"{scenario}\" is skipped: {missing}"));
            None
        }
    }
}
