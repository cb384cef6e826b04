//! Two friends over a wire that is slow and loses packets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use exo_tests::netlab::wire::{Quality, SlowWire, probe};
use exo_tests::netlab::{Node, Table, seconds, until};

use super::{
    PROGRAM, SOON, changes, check_agreement, found, invite, join, lab, messages, node, say, wait_for,
};

/// Messages written before the friend comes.
const MESSAGES: usize = 2_000;
/// Messages that each writes while linked.
const LIVE: usize = 10;
/// Packets that show that the wire is slow and loses some.
const PROBES: u32 = 1_000;
/// 50 ms each way and 1 % lost each way.
const QUALITY: Quality = Quality {
    delay: Duration::from_millis(50),
    jitter: Duration::from_millis(5),
    loss_per_mille: 10,
    seed: 7,
};

#[test]
fn two_thousand_messages_cross_a_wire_that_is_slow_and_loses_packets() {
    let Some(lab) = lab("slow wire", &[]) else { return };
    let spaces = [lab.space("ana"), lab.space("ben")];
    let address = |number| Ipv4Addr::new(10, 50, 0, number);
    let ends = [(&spaces[0], "wire", address(1)), (&spaces[1], "wire", address(2))];
    let wire = SlowWire::between(ends[0], ends[1], QUALITY);
    let seen = probe(ends[0], ends[1], PROBES);
    assert!(seen.fastest >= QUALITY.delay && seen.arrived < seen.sent, "{seen:?}");
    let folders = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
    let [mut ana, mut ben] = [0, 1].map(|at| {
        Node::start(&mut node(spaces[at].program(PROGRAM), folders[at].path(), &["--no-local-network"]))
    });
    found(&mut ana, "Ana");
    let mut texts: BTreeSet<String> = (0..MESSAGES).map(|number| format!("message {number:04}")).collect();
    ana.all(texts.iter().map(|text| say(text)));
    let ticket = invite(&mut ana, 1);

    let mut table = Table::new(
        "A wire of 50 to 55 ms each way that loses 1 % each way",
        &["what", "time", "packets", "of them lost"],
    );
    let mut counted = wire.packets();
    let lost = (seen.sent - seen.arrived).to_string();
    table.row(&["one packet of a probe, fastest", &seconds(seen.fastest), &seen.sent.to_string(), &lost]);
    let mut note = |what: &str, time: Duration| {
        let now = wire.packets();
        let (carried, lost) = (now.0 - counted.0, now.1 - counted.1);
        counted = now;
        table.row(&[what, &seconds(time), &(carried + lost).to_string(), &lost.to_string()]);
    };
    let since = Instant::now();
    ben.ok(join("Ben", &ticket));
    note("join", since.elapsed());
    let since = Instant::now();
    let written = changes(&mut ana);
    until("the history is there", SOON, || (changes(&mut ben) >= written).then_some(()));
    until("and shown", SOON, || (messages(&mut ben).len() == MESSAGES).then_some(()));
    note("2,000 messages", since.elapsed());
    let (mut slowest, mut sum) = (Duration::ZERO, Duration::ZERO);
    for number in 0..LIVE {
        for from_ana in [true, false] {
            let (writer, reader) = if from_ana { (&mut ana, &mut ben) } else { (&mut ben, &mut ana) };
            let text = format!("live {number} {from_ana}");
            writer.ok(say(&text));
            let took = wait_for(reader, &BTreeSet::from([text.clone()]), "words arrive live");
            (slowest, sum) = (slowest.max(took), sum + took);
            texts.insert(text);
        }
    }
    note("20 messages live, slowest", slowest);
    note("20 messages live, mean", sum / 20);
    table.print();
    let list = check_agreement(&mut [&mut ana, &mut ben]);
    assert_eq!(list.into_iter().collect::<BTreeSet<_>>(), texts);
}
