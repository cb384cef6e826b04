//! A relay that dies while a history travels over it.

use std::time::Instant;

use exo_tests::netlab::nat::Nat;
use exo_tests::netlab::{Lab, Space, Table, seconds, until};

use super::homes::{Relay, home, internet, outside, start, use_relays};
use super::{SOON, changes, check_agreement, found, invite, join, lab, path, say};

/// Messages written before the friend comes.
const MESSAGES: usize = 400;
/// Bytes of each: all together take some seconds at the relay's rate.
const MESSAGE_BYTES: usize = 8_000;
/// Bytes a second that a relay takes from one device.
const RATE: &str = "512KiB";
/// Bytes over a relay after which it has carried a part of the history.
const PART_BYTES: u64 = 1 << 20;

/// A relay in a namespace of its own, so that what it carries can be counted.
fn relay(lab: &Lab, net: &Space, number: u8) -> (Space, tempfile::TempDir, Relay) {
    let name = format!("relay{number}");
    let space = lab.space(&name);
    net.plug("net", &name, &space, "wan");
    space.address("wan", outside(number), 24);
    let data = tempfile::tempdir().expect("a folder");
    let relay = Relay::start(&space, data.path(), outside(number), &["--rate", RATE, "--burst", RATE]);
    (space, data, relay)
}

/// The text of the message with this number.
fn text(number: usize) -> String {
    format!("{number:05} {}", "word ".repeat(MESSAGE_BYTES / 5))
}

#[test]
fn n11_a_history_goes_on_over_another_relay_when_one_dies() {
    let Some(lab) = lab("a relay that dies", &["nft"]) else { return };
    let net = internet(&lab);
    let mut relays = [relay(&lab, &net, 21), relay(&lab, &net, 22)];
    let homes = [("ana", 11), ("ben", 12)].map(|(name, at)| home(&lab, &net, name, at, Nat::Symmetric));
    let folders = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
    let [mut ana, mut ben] = [0, 1].map(|at| start(&homes[at], folders[at].path()));
    found(&mut ana, "Ana");
    ana.all((0..MESSAGES).map(|number| say(text(number).trim())));
    let written = changes(&mut ana);
    use_relays(&mut ana, &[&relays[0].2, &relays[1].2]);
    let ticket = invite(&mut ana, 1);
    let before = relays.each_ref().map(|(space, _, _)| space.bytes("wan"));
    let since = Instant::now();
    let asked = ben.send(join("Ben", &ticket)).expect("sent");

    // The one that carries most is the one that dies.
    let carried = |relays: &[(Space, tempfile::TempDir, Relay); 2]| {
        [0, 1].map(|at| relays[at].0.bytes("wan").saturating_sub(before[at]))
    };
    let dies = until("a part of the history went over a relay", SOON, || {
        carried(&relays).iter().position(|bytes| *bytes > PART_BYTES)
    });
    let at_death = carried(&relays);
    relays[dies].2.kill();
    let had = changes(&mut ben);
    assert!(had < written, "killed before everything was there");
    let died = since.elapsed();
    ben.answer(asked, SOON).expect("the node is there").expect("joined");
    until("the whole history is there", SOON, || (changes(&mut ben) >= written).then_some(()));
    let (took, at_end) = (since.elapsed(), carried(&relays));

    let mut table = Table::new("A relay is killed while a history travels over it", &["what", "how much"]);
    let total = MESSAGES * MESSAGE_BYTES / 1_000_000;
    table.row(&["history", &format!("{MESSAGES} messages, {total} MB")]);
    table.row(&["killed after", &format!("{}, {had} of {written} changes had arrived", seconds(died))]);
    for at in [0, 1] {
        let what = if at == dies { "over the relay that died" } else { "over the other, before and after" };
        table.row(&[
            what,
            &format!("{} kB, {} kB", at_death[at] / 1_000, (at_end[at] - at_death[at]) / 1_000),
        ]);
    }
    table.row(&["complete after", &seconds(took)]);
    table.print();
    assert_eq!(path(&mut ben, &ana.device), "relayed");
    assert!(at_end[1 - dies] - at_death[1 - dies] > PART_BYTES, "the rest went over the other one");
    let mut list = check_agreement(&mut [&mut ana, &mut ben]);
    // Several were written at a time.
    list.sort();
    let expected = (0..MESSAGES).map(|number| text(number).trim().to_owned());
    assert!(list.into_iter().eq(expected), "every message, once");
}
