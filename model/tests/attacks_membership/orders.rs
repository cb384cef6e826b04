//! M5: one set of events, one state, whatever the order of delivery, on whole
//! communities: charter, ledger, words, and the keys that open them.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::amount::Amount;
use exo_model::charter::{Role, Setting};
use exo_model::community::WordStanding;
use exo_model::decide::Intent;
use exo_model::event::ledger::{Account, OfferKind};
use exo_model::feed::FeedId;
use exo_model::feed::gate::AcceptedRun;
use exo_model::port::Entropy as _;

use crate::home::{Home, Person, Seeded, garden, meet, permutations, settle};
use crate::remove;

/// Four people who do something in every stream, apart, some of it at odds.
fn divided() -> [Home; 4] {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Admin, Role::Admin, Role::Member]);
    let room = a.channel();
    for home in [&mut a, &mut b, &mut c, &mut d] {
        home.tend();
        home.say(room, "hello");
    }
    settle(&mut [&mut a, &mut b, &mut c, &mut d]);
    let gift = |to: &Home, amount| Intent::Transfer {
        to: Account::Device(to.device()),
        amount: Amount::from_token_mib(amount),
        note: String::new(),
    };
    let offer =
        Intent::PostOffer { kind: OfferKind::Hours, title: "x".into(), price: Amount::from_token_mib(1) };
    a.act(gift(&d, 40));
    a.act(Intent::ChangeSetting(Setting::OpenHistory(false)));
    b.act(gift(&c, 30));
    b.act(remove(people[2].id()));
    b.say(room, "Chloe is gone");
    c.act(gift(&d, 20));
    c.act(remove(people[1].id()));
    c.act(offer);
    let ticket = c.invite(1);
    c.admit("Eve", &Person::new(9), &ticket);
    d.act(gift(&a, 10));
    d.say(room, "where is everybody?");
    [a, b, c, d]
}

/// What a home comes to: the state, which words count, and the words.
type Outcome = ([u8; 32], BTreeMap<[u8; 32], WordStanding>, Vec<String>);

fn outcome(home: &mut Home) -> Outcome {
    home.read_again();
    let words = home.events.iter().filter(|event| event.feed.stream.audience().is_some());
    let words = words.map(|event| (*event.hash.as_bytes(), home.community.word_standing(event))).collect();
    (home.hash(), words, home.read(home.channel()))
}

#[test]
fn m05_every_order_of_four_peoples_changes_is_one_state() {
    let mut homes = divided();
    let base: BTreeSet<[u8; 32]> = {
        let shared = homes.each_ref().map(hashes);
        shared[1..].iter().fold(shared[0].clone(), |all, other| &all & other)
    };
    let news: Vec<Vec<AcceptedRun>> = homes
        .iter()
        .map(|home| {
            let own = home.store.values().flatten().filter(|run| run.feed().device == home.device());
            own.filter(|run| !base.contains(run.end().hash.as_bytes())).cloned().collect()
        })
        .collect();
    let [a, b, c, d] = &mut homes;
    let mut reader = a.twin();
    meet(&mut [a, b, c, d]);
    let expected = outcome(a);
    assert!(expected.2.contains(&"where is everybody?".to_owned()));
    let start = reader.twin();
    permutations(&news, &mut |order| {
        reader = start.twin();
        for run in order.iter().flatten().filter(|run| run.feed().device != start.device()) {
            reader.keep(run.clone());
        }
        assert_eq!(outcome(&mut reader), expected);
    });
}

fn hashes(home: &Home) -> BTreeSet<[u8; 32]> {
    home.store.values().flatten().map(|run| *run.end().hash.as_bytes()).collect()
}

/// Runs of all feeds in a random order; of one feed in its own.
fn shuffled(home: &Home, chance: &Seeded) -> Vec<AcceptedRun> {
    let mut left: Vec<(FeedId, std::vec::IntoIter<AcceptedRun>)> =
        home.store.iter().map(|(feed, runs)| (*feed, runs.clone().into_iter())).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let mut bytes = [0; 8];
        chance.fill(&mut bytes);
        let at = usize::from_le_bytes(bytes) % left.len();
        match left[at].1.next() {
            Some(run) => order.push(run),
            None => drop(left.swap_remove(at)),
        }
    }
    order
}

/// From nothing, in random orders, by a device that gets its keys from the
/// feeds alone: charter before keys, words before both.
#[test]
fn m05_random_orders_from_nothing_are_one_state() {
    let mut homes = divided();
    let [a, b, c, d] = &mut homes;
    settle(&mut [a, b, c, d]);
    let expected = outcome(d);
    assert_eq!(expected.0, a.hash());
    for seed in 0..40 {
        let mut reader = d.blank();
        a.hand_governance_to(&mut reader);
        for run in shuffled(d, &Seeded::new(seed)) {
            reader.keep(run);
        }
        assert_eq!(outcome(&mut reader), expected, "seed {seed}");
    }
}

/// Saying everything twice says nothing new.
#[test]
fn m05_delivery_of_everything_twice_changes_nothing() {
    let mut homes = divided();
    let [a, b, c, d] = &mut homes;
    meet(&mut [a, b, c, d]);
    let before = outcome(a);
    for (feed, runs) in a.store.clone() {
        for run in &runs {
            assert!(!a.community.insert(run).changed);
        }
        a.community.reopen(&feed, &runs);
    }
    assert_eq!(outcome(a), before);
}
