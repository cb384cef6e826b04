//! Friends on one local network, with an invite that names no address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Instant;

use exo_model::invite::Ticket;
use exo_tests::netlab::{Lab, Node, Space, Table, seconds};
use serde_json::json;

use super::{PROGRAM, SOON, found, invite, join, lab, node, say, wait_for};

/// A router that leads nowhere. Without one the system does not know where
/// multicast belongs, and our mDNS library asks no further.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// A ticket as from a friend whose addresses have all changed since.
fn without_addresses(ticket: &str) -> String {
    let mut ticket: Ticket = ticket.parse().expect("a ticket");
    for contact in &mut ticket.contacts {
        contact.addresses.clear();
    }
    ticket.to_string()
}

/// A machine on the switch.
fn machine(lab: &Lab, street: &Space, name: &str, number: u8) -> Space {
    let space = lab.space(name);
    street.plug("switch", name, &space, "lan");
    space.address("lan", Ipv4Addr::new(192, 168, 77, number), 24);
    space.default_route(GATEWAY);
    space
}

#[test]
fn friends_on_a_local_network_find_each_other_by_multicast_alone() {
    let Some(lab) = lab("local network", &[]) else { return };
    let street = lab.space("street");
    street.switch("switch");
    street.address("switch", GATEWAY, 24);
    let names = ["ana", "ben", "chloe", "dan"];
    let folders = names.map(|_| tempfile::tempdir().expect("a folder"));
    let spaces: Vec<Space> =
        names.iter().zip(10..).map(|(name, at)| machine(&lab, &street, name, at)).collect();
    let start = |who: usize, words: &[&str]| {
        Node::start(&mut node(spaces[who].program(PROGRAM), folders[who].path(), words))
    };
    let mut ana = start(0, &[]);
    found(&mut ana, "Ana");
    let ticket = without_addresses(&invite(&mut ana, 3));
    let mut table =
        Table::new("Local network, an invite without addresses", &["who", "looks for friends", "joined"]);

    // Dan asks first and does not look around.
    let mut dan = start(3, &["--no-local-network"]);
    let asked = dan.send(join("Dan", &ticket)).expect("sent");
    let (mut ben, mut chloe) = (start(1, &[]), start(2, &[]));
    for (node, name) in [(&mut ben, "Ben"), (&mut chloe, "Chloe")] {
        let since = Instant::now();
        node.ok(join(name, &ticket));
        table.row(&[name, "by multicast", &seconds(since.elapsed())]);
    }
    let mut texts = BTreeSet::new();
    for (node, text) in [(&mut ana, "from Ana"), (&mut ben, "from Ben"), (&mut chloe, "from Chloe")] {
        node.ok(say(text));
        texts.insert(text.to_owned());
    }
    for (node, name) in [(&mut ana, "Ana"), (&mut ben, "Ben"), (&mut chloe, "Chloe")] {
        wait_for(node, &texts, &format!("{name} has everyone's words"));
    }
    assert!(!dan.has_answered(asked), "nobody told Dan where Ana is");
    table.row(&["Dan", "not at all", "no"]);

    // Looking around was all that he lacked; the join goes on by itself.
    dan.stop();
    let since = Instant::now();
    let mut dan = start(3, &[]);
    exo_tests::netlab::until("Dan is in", SOON, || {
        let all = dan.ok(json!({"command": "communities"}));
        (all["communities"][0]["member"] == json!(true)).then_some(())
    });
    table.row(&["Dan", "by multicast", &seconds(since.elapsed())]);
    table.print();
}
