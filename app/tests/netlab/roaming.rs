//! A laptop that leaves one network and comes up in another.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Instant;

use exo_tests::netlab::{Node, Table, seconds, until};

use super::{PROGRAM, SOON, check_agreement, found, invite, join, lab, node, path, say, wait_for};

#[test]
fn a_laptop_goes_on_in_another_network() {
    let Some(lab) = lab("a laptop that moves", &[]) else { return };
    // A router between the home and the café; the laptop has a socket in each.
    let (router, desk, laptop) = (lab.space("router"), lab.space("desk"), lab.space("laptop"));
    router.forward();
    router.switch("home");
    router.address("home", Ipv4Addr::new(10, 1, 0, 1), 24);
    router.plug("home", "to-desk", &desk, "lan");
    router.plug("home", "to-laptop", &laptop, "lan");
    router.cable("cafe", &laptop, "cafe");
    router.address("cafe", Ipv4Addr::new(10, 2, 0, 1), 24);
    desk.address("lan", Ipv4Addr::new(10, 1, 0, 2), 24);
    desk.default_route(Ipv4Addr::new(10, 1, 0, 1));
    laptop.ip(&["link", "set", "cafe", "down"]);
    laptop.address("lan", Ipv4Addr::new(10, 1, 0, 3), 24);
    laptop.default_route(Ipv4Addr::new(10, 1, 0, 1));

    let folders = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
    let mut ana = Node::start(&mut node(desk.program(PROGRAM), folders[0].path(), &[]));
    let mut ben = Node::start(&mut node(laptop.program(PROGRAM), folders[1].path(), &[]));
    found(&mut ana, "Ana");
    let ticket = invite(&mut ana, 1);
    ben.ok(join("Ben", &ticket));
    ana.ok(say("at home"));
    let mut texts = BTreeSet::from(["at home".to_owned()]);
    wait_for(&mut ben, &texts, "the laptop hears at home");

    let mut table =
        Table::new("A laptop moves to another network", &["move", "to the laptop", "to the desk"]);
    let moves =
        [("home to café", "lan", "cafe", [10, 2, 0, 9]), ("café to home", "cafe", "lan", [10, 1, 0, 4])];
    for (name, from, to, address) in moves {
        laptop.ip(&["link", "set", from, "down"]);
        laptop.ip(&["addr", "flush", "dev", from]);
        for number in 0..3 {
            for (node, who) in [(&mut ana, "desk"), (&mut ben, "laptop")] {
                let text = format!("{name}, {who} {number}");
                node.ok(say(&text));
                texts.insert(text);
            }
        }
        let since = Instant::now();
        laptop.ip(&["link", "set", to, "up"]);
        laptop.address(to, address.into(), 24);
        laptop.default_route(Ipv4Addr::new(address[0], address[1], address[2], 1));
        wait_for(&mut ben, &texts, &format!("{name}: the laptop has everything"));
        let here = since.elapsed();
        wait_for(&mut ana, &texts, &format!("{name}: the desk has everything"));
        table.row(&[name, &seconds(here), &seconds(since.elapsed())]);
        until("the path is direct", SOON, || (path(&mut ben, &ana.device) == "direct").then_some(()));
    }
    table.print();
    let list = check_agreement(&mut [&mut ana, &mut ben]);
    assert_eq!(list.into_iter().collect::<BTreeSet<_>>(), texts);
}
