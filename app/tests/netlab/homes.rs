//! Homes behind routers that translate addresses differently, and a relay.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use exo_tests::netlab::nat::{Nat, probe};
use exo_tests::netlab::{Lab, Node, Space, Table, seconds, until};
use serde_json::json;

use super::{PROGRAM, SOON, found, invite, join, lab, node, path, say, wait_for};

/// Port of every node: who runs several routers forwards the same one on each.
const PORT: u16 = 7_777;
/// Longest wait for paths to become direct that can.
const PUNCHING: Duration = Duration::from_secs(20);

/// The part of the internet that everyone reaches: a switch, and addresses on it.
pub(crate) fn internet(lab: &Lab) -> Space {
    let net = lab.space("net");
    net.switch("net");
    for number in 1..=3 {
        net.address("net", outside(number), 24);
    }
    net
}

/// An address out there (of a range that is set aside for documentation).
pub(crate) const fn outside(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, number)
}

/// A home behind a router of its own. In every home the same private addresses
/// are used, as in life. Returns the machine in it.
pub(crate) fn home(lab: &Lab, net: &Space, name: &str, number: u8, nat: Nat) -> Space {
    let (inside, gateway) = (Ipv4Addr::new(192, 168, 1, 2), Ipv4Addr::new(192, 168, 1, 1));
    let (router, home) = (lab.space(&format!("router-{name}")), lab.space(name));
    net.plug("net", name, &router, "wan");
    router.address("wan", outside(number), 24);
    router.cable("lan", &home, "lan");
    router.address("lan", gateway, 24);
    home.address("lan", inside, 24);
    home.default_route(gateway);
    nat.install(&router, inside, PORT);
    home
}

/// A running relay; killed when dropped.
pub(crate) struct Relay {
    child: Child,
    pub(crate) url: String,
    pub(crate) pin: String,
}

impl Relay {
    pub(crate) fn start(space: &Space, data: &Path, address: Ipv4Addr, words: &[&str]) -> Self {
        let mut command = space.program(PROGRAM);
        command.args(["relay", "--hostname", &address.to_string(), "--https", &format!("{address}:8443")]);
        let mut child =
            command.arg("--data").arg(data).args(words).stdout(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut word = |word: &str| {
            let line = lines.next().expect("a line").expect("text");
            line.strip_prefix(word).unwrap_or_else(|| panic!("{line:?}")).trim().to_owned()
        };
        let (url, pin) = (word("relay"), word("pin"));
        // It ends when nobody reads what it says.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, pin }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Puts relays on the community's list and waits until the node is at one.
pub(crate) fn use_relays(node: &mut Node, relays: &[&Relay]) {
    for relay in relays {
        node.ok(json!({"command": "add_relay", "url": relay.url, "pin": relay.pin}));
    }
    until("a relay is home", SOON, || node.ok(json!({"command": "relays"}))["home"].as_str().map(drop));
}

/// Starts a node at home.
pub(crate) fn start(home: &Space, data: &Path) -> Node {
    Node::start(&mut node(home.program(PROGRAM), data, &["--bind", &format!("0.0.0.0:{PORT}")]))
}

/// Whether two routers can let each other's packets in, once both sides have
/// sent some to where a relay saw the other.
const fn can_meet(one: Nat, other: Nat) -> bool {
    !matches!((one, other), (Nat::Symmetric, Nat::Cone | Nat::Symmetric) | (Nat::Cone, Nat::Symmetric))
}

const HOMES: [(&str, Nat); 5] = [
    ("ana", Nat::FullCone),
    ("ben", Nat::Cone),
    ("chloe", Nat::Cone),
    ("dan", Nat::Symmetric),
    ("eve", Nat::Symmetric),
];

/// Makes the homes, and shows that their routers are what they are said to be.
fn build(lab: &Lab, net: &Space) -> Vec<Space> {
    let mut table = Table::new(
        "Routers, as two destinations and a stranger see them",
        &["home", "said to be", "port seen", "strangers get in"],
    );
    let mut homes = Vec::new();
    for ((name, nat), number) in HOMES.into_iter().zip(11..) {
        let home = home(lab, net, name, number, nat);
        let seen = probe(&home, PORT, net, [outside(1), outside(2), outside(3)]);
        let port = if seen.one_port { "the same" } else { "another for each" };
        table.row(&[name, nat.name(), port, if seen.lets_strangers_in { "yes" } else { "no" }]);
        assert_eq!(seen.kind(), Some(nat), "{name}");
        homes.push(home);
    }
    table.print();
    homes
}

#[test]
fn n11_homes_behind_all_kinds_of_routers_meet_over_a_relay() {
    let Some(lab) = lab("homes behind routers", &["nft"]) else { return };
    let net = internet(&lab);
    let homes = build(&lab, &net);
    let folders = HOMES.map(|_| tempfile::tempdir().expect("a folder"));
    let relay_data = tempfile::tempdir().expect("a folder");
    let relay = Relay::start(&net, relay_data.path(), outside(1), &[]);
    let mut nodes: Vec<Node> =
        homes.iter().zip(&folders).map(|(home, folder)| start(home, folder.path())).collect();

    found(&mut nodes[0], HOMES[0].0);
    use_relays(&mut nodes[0], &[&relay]);
    let ticket = invite(&mut nodes[0], HOMES.len());
    let since = Instant::now();
    let asked: Vec<_> = nodes[1..]
        .iter_mut()
        .zip(&HOMES[1..])
        .map(|(node, (name, _))| node.send(join(name, &ticket)).expect("sent"))
        .collect();
    for (node, asked) in nodes[1..].iter_mut().zip(asked) {
        node.answer(asked, SOON).expect("the node is there").expect("joined");
    }
    let joined = since.elapsed();
    let mut texts = BTreeSet::new();
    for (node, (name, _)) in nodes.iter_mut().zip(HOMES) {
        let text = format!("from {name}");
        node.ok(say(&text));
        texts.insert(text);
    }
    let since = Instant::now();
    for (node, (name, _)) in nodes.iter_mut().zip(HOMES) {
        wait_for(node, &texts, &format!("{name} has everyone's words"));
    }
    let heard = since.elapsed();
    let paths = settle(&mut nodes);
    show(&paths, &format!("all joined in {}, heard each other in {}", seconds(joined), seconds(heard)));
    check(&paths);
}

/// The path of each pair, seen from its first home.
type Paths = Vec<((usize, usize), String)>;

fn look(nodes: &mut [Node]) -> Paths {
    let devices: Vec<String> = nodes.iter().map(|node| node.device.clone()).collect();
    let mut paths = Vec::new();
    for (one, node) in nodes.iter_mut().enumerate() {
        for (other, device) in devices.iter().enumerate().skip(one + 1) {
            paths.push(((one, other), path(node, device)));
        }
    }
    paths
}

/// Waits a while for everything to be direct that can.
fn settle(nodes: &mut [Node]) -> Paths {
    let end = Instant::now() + PUNCHING;
    loop {
        let paths = look(nodes);
        let is_settled = paths.iter().all(|((one, other), path)| {
            path == if can_meet(HOMES[*one].1, HOMES[*other].1) { "direct" } else { "relayed" }
        });
        if is_settled || Instant::now() > end {
            return paths;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn show(paths: &Paths, title: &str) {
    let mut table =
        Table::new(&format!("Homes over a relay: {title}"), &["pair", "routers", "can meet", "path"]);
    for ((one, other), path) in paths {
        let ((name, nat), (other_name, other_nat)) = (HOMES[*one], HOMES[*other]);
        let can = if can_meet(nat, other_nat) { "yes" } else { "no" };
        let pair = format!("{name}, {other_name}");
        table.row(&[&pair, &format!("{}, {}", nat.name(), other_nat.name()), can, path]);
    }
    table.print();
}

/// Nobody meets whose routers forbid it; two cones do.
fn check(paths: &Paths) {
    for ((one, other), path) in paths {
        let (one, other) = (HOMES[*one], HOMES[*other]);
        let expected = if can_meet(one.1, other.1) { "direct" } else { "relayed" };
        assert_eq!(path, expected, "{one:?}, {other:?}");
    }
}
