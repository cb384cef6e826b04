//! One device signs two lines: in the charter, in the ledger, in words. Both
//! signatures are the proof, anyone posts it, and all come to one answer.

mod home;

use exo_model::ChangeHash;
use exo_model::amount::Amount;
use exo_model::charter::{ActStanding, Role};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::event::ledger::Account;
use exo_model::feed::equivocation::{Branch, EquivocationProof, NoProof};
use exo_model::feed::{FeedId, SEGMENT_AGE_MS, Stream};
use exo_model::ledger::Standing;
use exo_model::port::Signer as _;

use home::{Home, Person, garden, meet, permutations, settle};

fn profile(about: &str) -> Intent {
    Intent::SetProfile { name: "Ben".into(), about: about.into() }
}

fn gift(to: &Home, amount: i64) -> Intent {
    Intent::Transfer {
        to: Account::Device(to.device()),
        amount: Amount::from_token_mib(amount),
        note: String::new(),
    }
}

fn prove(proof: &EquivocationProof) -> Intent {
    Intent::ProveEquivocation(Box::new(proof.clone()))
}

/// Ana, Chloe, and Ben on two copies of one device.
struct Forked {
    people: [Person; 3],
    ana: Home,
    chloe: Home,
    ben: Home,
    copy: Home,
}

fn forked() -> Forked {
    let (people, [mut ana, mut ben, mut chloe]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let room = ana.channel();
    for home in [&mut ana, &mut ben, &mut chloe] {
        home.act(Intent::SetProfile { name: home.name.clone(), about: "at first".into() });
        home.say(room, "hello");
    }
    let first = gift(&chloe, 1);
    ben.act(first);
    settle(&mut [&mut ana, &mut ben, &mut chloe]);
    let copy = ben.twin();
    Forked { people, ana, chloe, ben, copy }
}

impl Forked {
    /// Ana sees what Ben wrote, Chloe what the copy did; each has the other's
    /// line to show.
    fn show(&mut self) {
        self.ben.send_to(&mut self.ana);
        self.copy.send_to(&mut self.chloe);
    }

    fn proof(&self, stream: Stream) -> (FeedId, EquivocationProof) {
        let feed = self.ben.feed(stream);
        let places = self.ben.store[&feed].iter().zip(&self.copy.store[&feed]);
        let parts = places.map(|(one, other)| (one.end(), other.end())).find(|(one, other)| one != other);
        let seq = parts.expect("they part").0.seq;
        (feed, self.ben.proof_against(&feed, &self.copy, seq))
    }
}

/// A reader with the changes of `home`, and then these lines of a feed, each
/// read in place of the one before.
fn reader(home: &Home, feed: &FeedId, lines: &[&Home]) -> Home {
    let mut reader = home.twin();
    for line in lines {
        reader.adopt_line(feed, line);
    }
    reader
}

#[test]
fn a_fork_in_the_charter_suspends_the_device_at_the_fenced_line() {
    let mut world = forked();
    let kept = world.ben.act(profile("the line that Ana sees"));
    let other = world.copy.act(profile("the line that Chloe sees"));
    world.show();
    let (feed, proof) = world.proof(Stream::Charter);
    let ben = world.people[1].id();

    // Unproven, a fork voids nothing: else a line that turns up late could undo
    // any act of its author.
    let before = reader(&world.ana, &feed, &[&world.copy]);
    assert_eq!([kept, other].map(|act| before.standing(&act)), [Some(ActStanding::Counts); 2]);

    let act = world.ana.act(prove(&proof));
    assert_eq!(world.ana.standing(&act), Some(ActStanding::Counts));
    assert_eq!(world.ana.role_of(&world.ben), None, "the device is suspended");
    assert!(world.ana.is_member(&ben), "its person stays");
    assert_eq!(world.ana.community.state().charter.members[&ben].about, "the line that Ana sees");
    let beyond = world.ben.act(profile("and on"));
    world.ben.send_to(&mut world.ana);
    assert_eq!(world.ana.standing(&beyond), Some(ActStanding::Void));

    // The proof and the fenced line reach Chloe, in either order.
    for proof_first in [true, false] {
        let mut chloe = world.chloe.twin();
        if proof_first {
            deliver_but(&world.ana, &mut chloe, &feed);
            assert_eq!(chloe.standing(&act), None, "it cites what she has not seen");
            chloe.adopt_line(&feed, &world.ana);
        } else {
            chloe.adopt_line(&feed, &world.ana);
            deliver_but(&world.ana, &mut chloe, &feed);
        }
        assert_eq!(chloe.hash(), world.ana.hash(), "proof first: {proof_first}");
        assert_eq!(chloe.standing(&other), Some(ActStanding::Void));
        assert_eq!(chloe.standing(&kept), Some(ActStanding::Counts));
    }
}

/// Sends everything but one feed, in which the two have different lines.
fn deliver_but(from: &Home, to: &mut Home, feed: &FeedId) {
    for run in from.missing_at(to).into_iter().filter(|run| run.feed != *feed) {
        to.take(run).expect("honest");
    }
}

#[test]
fn everyone_who_has_both_lines_and_the_proof_agrees_in_every_order() {
    let mut world = forked();
    world.ben.act(profile("one"));
    world.copy.act(profile("two"));
    world.show();
    let (feed, proof) = world.proof(Stream::Charter);
    world.ana.act(prove(&proof));
    // Chloe posts it too, with a fence that names the line that she saw.
    world.chloe.act(prove(&proof));
    let mut hashes = std::collections::BTreeSet::new();
    permutations(&[0, 1, 2, 3], &mut |order| {
        let mut reader = world.ana.twin();
        for step in order {
            match step {
                0 => reader.adopt_line(&feed, &world.ben),
                1 => reader.adopt_line(&feed, &world.copy),
                2 => deliver_but(&world.chloe, &mut reader, &feed),
                _ => deliver_but(&world.ana, &mut reader, &feed),
            }
        }
        hashes.insert(reader.hash());
    });
    assert_eq!(hashes.len(), 1);
}

#[test]
fn both_lines_of_words_stay_readable_and_are_marked() {
    let mut world = forked();
    let room = world.ana.channel();
    let told = [world.ben.say(room, "to Ana: yes"), world.copy.say(room, "to Chloe: no")];
    world.show();
    let (feed, proof) = world.proof(Stream::Channel(room));
    world.ana.act(prove(&proof));
    deliver_but(&world.ana, &mut world.chloe, &feed);
    assert_eq!(world.ana.hash(), world.chloe.hash(), "words shape no state");
    assert_eq!(world.ana.role_of(&world.ben), Some(Role::Admin), "nor do they suspend");

    for (home, own) in [(&world.ana, told[0]), (&world.chloe, told[1])] {
        assert_eq!(home.word(&own), WordStanding::Counts);
        let marks: Vec<_> = home.community.charter().equivocations().map(|(_, event)| event).collect();
        let [CharterEvent::EquivocationProven { proof: shown, .. }] = marks[..] else { panic!("one mark") };
        assert_eq!(shown, &proof);
        let EquivocationProof::Fork { feed: at, left, right } = shown else { panic!("a fork") };
        assert_eq!((at, left.at.seq, right.at.seq), (&feed, 2, 2));
        assert!([left.at.hash, right.at.hash].contains(&own), "the marks name both messages");
    }
    // Each line can be read where the other was read before.
    let other = reader(&world.ana, &feed, &[&world.copy]);
    assert_eq!(other.word(&told[1]), WordStanding::Counts);
}

#[test]
fn a_fork_in_the_ledger_bars_the_device_and_everyone_agrees() {
    let mut world = forked();
    let (to_ana, to_chloe) = (gift(&world.ana, 90_000), gift(&world.chloe, 90_000));
    let spent = [world.ben.act(to_ana), world.copy.act(to_chloe)];
    world.show();
    for (home, change) in [(&world.ana, spent[0]), (&world.chloe, spent[1])] {
        assert_eq!(
            home.community.state().ledger.standing(&change),
            Some(Standing::Counted),
            "apart, it counts"
        );
    }
    let (feed, proof) = world.proof(Stream::Ledger);
    world.ana.act(prove(&proof));
    deliver_but(&world.ana, &mut world.chloe, &feed);

    // Both lines reach both, in either order.
    let readers = [
        reader(&world.ana, &feed, &[&world.copy]),
        reader(&world.ana, &feed, &[&world.copy, &world.ben]),
        reader(&world.chloe, &feed, &[&world.ben]),
        reader(&world.chloe, &feed, &[&world.ben, &world.copy]),
    ];
    for reader in &readers {
        assert_eq!(reader.hash(), readers[0].hash());
        let ledger = &reader.community.state().ledger;
        for change in &spent {
            assert_ne!(ledger.standing(change), Some(Standing::Counted), "neither twice-spent gift counts");
        }
        assert_eq!(
            ledger.balance(&Account::Device(world.ben.device())).token_mib(),
            -1,
            "but what was before"
        );
        assert_eq!(ledger.total(), 0);
        assert_eq!(reader.role_of(&world.ben), Some(Role::Admin), "governance is untouched");
    }
    // The barred device spends nothing more.
    let mut ben = reader(&world.ben, &feed, &[&world.copy, &world.ben]);
    deliver_but(&world.ana, &mut ben, &feed);
    let again = gift(&world.ana, 1);
    assert!(matches!(ben.try_act(again), Err(Refusal::Ledger(_))));
}

#[test]
fn a_segment_that_goes_on_after_the_next_began_is_a_proof_too() {
    let mut world = forked();
    let room = world.ana.channel();
    world.ben.say(room, "goes on here");
    world.copy.now_ms += SEGMENT_AGE_MS;
    world.copy.say(room, "began anew there");
    let feed = world.ben.feed(Stream::Channel(room));
    let beyond = world.ben.branch(&feed, 2);
    let next = feed.with_segment(1);
    let opening = world.copy.changes(&next);
    let signature = world.copy.store[&next].last().expect("begun").signature();
    let proof = EquivocationProof::Overrun { feed, beyond, opening, signature };
    assert_eq!(proof.verify(), Ok(()));
    assert_eq!(proof.overrun_end(), Some(1));
    world.ben.send_to(&mut world.ana);
    let act = world.ana.act(prove(&proof));
    world.ana.send_to(&mut world.chloe);
    assert_eq!(world.chloe.standing(&act), Some(ActStanding::Counts));
    assert_eq!(world.chloe.hash(), world.ana.hash());

    let EquivocationProof::Overrun { opening, signature, .. } = proof else { unreachable!("as made") };
    let at_end = Branch { at: world.ben.branch(&feed, 1).at, ..world.ben.branch(&feed, 1) };
    let honest = EquivocationProof::Overrun { feed, beyond: at_end, opening, signature };
    assert_eq!(honest.verify(), Err(NoProof::NotApart), "rolling over in order is no fault");
}

/// Proofs that prove nothing: one line twice, lines of two places, of another
/// feed or device, and signatures of others.
fn forgeries(world: &Forked, feed: FeedId) -> Vec<(EquivocationProof, NoProof)> {
    let fork = |feed, left: &Branch, right: &Branch| {
        let (left, right) = if left.at.hash <= right.at.hash { (left, right) } else { (right, left) };
        EquivocationProof::Fork { feed, left: left.clone(), right: right.clone() }
    };
    let (one, other) = (world.ben.branch(&feed, 3), world.copy.branch(&feed, 3));
    let earlier = world.ben.branch(&feed, 2);
    let signed =
        |home: &Home| Branch { signature: home.key.sign(&feed.signed_message(&other.at)), ..other.clone() };
    let swapped = match fork(feed, &one, &other) {
        EquivocationProof::Fork { feed, left, right } => {
            EquivocationProof::Fork { feed, left: right, right: left }
        }
        other => other,
    };
    let invented = ChangeHash::from_bytes([7; 32]);
    let invented =
        Branch { at: exo_model::feed::FeedPosition { hash: invented, ..other.at }, ..other.clone() };
    vec![
        (fork(feed, &one, &one), NoProof::NotApart),
        (fork(feed, &one, &earlier), NoProof::NotApart),
        (swapped, NoProof::NotApart),
        (fork(feed.with_segment(1), &one, &other), NoProof::Unsigned),
        (fork(world.ben.feed(Stream::Ledger), &one, &other), NoProof::Unsigned),
        (fork(world.chloe.feed(Stream::Charter), &one, &other), NoProof::Unsigned),
        (fork(feed, &one, &signed(&world.chloe)), NoProof::Unsigned),
        (fork(feed, &one, &invented), NoProof::Unsigned),
    ]
}

#[test]
fn forged_proofs_do_nothing() {
    let mut world = forked();
    let feed = world.ben.feed(Stream::Charter);
    for _ in 0..2 {
        world.ben.act(profile("more"));
        world.copy.act(profile("else"));
    }
    world.ben.send_to(&mut world.ana);
    meet(&mut [&mut world.ana, &mut world.chloe]);
    for (proof, fault) in forgeries(&world, feed) {
        assert_eq!(proof.verify(), Err(fault), "{proof:?}");
        let before = world.chloe.community.state().charter.encode();
        assert_eq!(world.chloe.try_act(prove(&proof)), Err(Refusal::NotEntitled));
        let fence = world.chloe.community.fence_of(&[world.ben.device()].into());
        let forced = CharterEvent::EquivocationProven { proof, fence, settled: vec![] };
        let forced = world.chloe.force(forced);
        assert_eq!(world.chloe.standing(&forced), Some(ActStanding::NotEntitled));
        assert_eq!(world.chloe.community.state().charter.encode(), before);
    }
    assert_eq!(world.chloe.community.charter().equivocations().count(), 0);
    assert_eq!(world.chloe.role_of(&world.ben), Some(Role::Admin));
}

#[test]
fn a_proof_posted_twice_changes_nothing() {
    let mut world = forked();
    world.ben.act(profile("one"));
    world.copy.act(profile("two"));
    world.show();
    let (feed, proof) = world.proof(Stream::Charter);
    world.ana.act(prove(&proof));
    world.chloe.adopt_line(&feed, &world.ana);
    deliver_but(&world.ana, &mut world.chloe, &feed);
    let state = world.ana.community.state().charter.encode();
    let applied = world.ana.community.charter().applied_order();
    for home in [&mut world.ana, &mut world.chloe] {
        let again = home.act(prove(&proof));
        assert_eq!(home.standing(&again), Some(ActStanding::Counts), "true, and known");
        assert_eq!(home.community.state().charter.encode(), state);
        assert!(home.community.charter().applied_order().starts_with(&applied));
    }
    deliver_but(&world.chloe.twin(), &mut world.ana, &feed);
    deliver_but(&world.ana.twin(), &mut world.chloe, &feed);
    assert_eq!(world.ana.hash(), world.chloe.hash());
    assert_eq!(world.ana.community.state().charter.encode(), state);
}
