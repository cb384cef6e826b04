//! A12: changes whose past is missing wait in a queue of ours, which is
//! bounded, and never in Automerge's.

use exo_model::charter::{ORPHANS_MAX, ORPHANS_PER_DEVICE_MAX};
use exo_model::envelope::{ENVELOPE_VERSION, Envelope, SegmentEnd};
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{Change, FeedId, FeedPosition, Run, Stream, chunk};
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use exo_model::{ChangeHash, CommunityId};

use crate::home::{Home, Person, found};

/// A charter change that nobody can open, with the heads it claims to know.
fn claim(lamport: u64, heads: Option<Vec<ChangeHash>>) -> Change {
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        lamport,
        body: b"not to be opened".to_vec(),
        heads,
        key: None,
        previous: None,
    };
    Change { time_ms: 1_000, payload: envelope.encode() }
}

fn run_of(key: &SecretKey, feed: FeedId, changes: Vec<Change>) -> AcceptedRun {
    let end = changes.iter().fold(FeedPosition::START, |end, change| FeedPosition {
        seq: end.seq + 1,
        hash: chunk::change_hash(&feed.device, &end, change),
    });
    let signature = key.sign(&feed.signed_message(&end));
    gate::admit(Run { feed, first_seq: 1, changes, signature }, &FeedPosition::START).expect("authentic")
}

fn stranger(number: u8, community: CommunityId) -> (SecretKey, FeedId) {
    let key = SecretKey::from_bytes(&[90 + number; 32]);
    let feed = FeedId::new(community, key.device(), Stream::Charter);
    (key, feed)
}

/// The change that all of a flood waits for.
fn opener(community: CommunityId) -> AcceptedRun {
    let (key, feed) = stranger(0, community);
    run_of(&key, feed, vec![claim(1, Some(Vec::new()))])
}

/// So many changes of so many strangers, one run each, all without past.
fn flood(community: CommunityId, strangers: u8, each: usize) -> Vec<AcceptedRun> {
    let past = opener(community).end().hash;
    let orphans = (1..=strangers).map(|number| {
        let (key, feed) = stranger(number, community);
        let mut heads = Some(vec![past]);
        run_of(&key, feed, (0..each).map(|n| claim(2 + n as u64, heads.take())).collect())
    });
    orphans.collect()
}

/// One change more of a stranger who filled a segment.
fn one_more(number: u8, run: &AcceptedRun) -> AcceptedRun {
    let (key, feed) = stranger(number, run.feed().community);
    let mut envelope = Envelope::decode(&claim(99_999, Some(Vec::new())).payload).expect("an envelope");
    envelope.previous = Some(SegmentEnd { end: run.end(), signature: run.signature() });
    run_of(&key, feed.with_segment(1), vec![Change { time_ms: 1_000, payload: envelope.encode() }])
}

/// A founder who did a few things, and what they did.
fn garden() -> (Home, Vec<Run>) {
    let mut founder = found("Ana", &Person::new(1));
    for number in 0..8 {
        founder.open_channel(number, false);
    }
    let nobody = newcomer(&founder);
    let runs = founder.missing_at(&nobody);
    (founder, runs)
}

/// Someone with nothing yet who was handed the charter's keys.
fn newcomer(founder: &Home) -> Home {
    let key = SecretKey::from_bytes(&[2; 32]);
    let entropy = crate::home::Seeded::new(99);
    let mut home = Home::new("Ben", founder.community.id(), key, entropy);
    founder.hand_governance_to(&mut home);
    home
}

#[test]
fn a12_twenty_thousand_orphans_wait_and_change_nothing() {
    let (mut founder, _) = garden();
    let (before, acts) = (founder.hash(), founder.community.charter().len());
    let community = founder.community.id();
    for run in flood(community, 5, 4_000) {
        let inserted = founder.community.insert(&run);
        assert_eq!(inserted.events.len(), 4_000, "each is kept in its feed");
        let room = founder.community.waiting_room(&run.feed().device);
        assert_eq!((founder.hash(), room), (before, ORPHANS_PER_DEVICE_MAX - 4_000));
    }
    assert_eq!(founder.community.waiting_room(&founder.device()), ORPHANS_PER_DEVICE_MAX, "of one's own");
    assert_eq!(founder.community.charter().len(), acts);

    // The past arrives: the room is free again, and strangers' acts are void.
    let opener = opener(community);
    founder.community.insert(&opener);
    assert_eq!(founder.community.waiting_room(&stranger(1, community).1.device), ORPHANS_PER_DEVICE_MAX);
    assert_eq!(founder.community.charter().len(), acts + 20_001);
    assert_eq!(founder.hash(), before);
}

#[test]
fn a12_the_room_is_bounded_for_each_and_for_all_and_keeps_out_nobody_whose_past_is_here() {
    let (mut founder, _) = garden();
    let community = founder.community.id();
    let runs = flood(community, 8, ORPHANS_PER_DEVICE_MAX);
    assert_eq!(runs.len() * ORPHANS_PER_DEVICE_MAX, ORPHANS_MAX);
    founder.community.insert(&runs[0]);
    let (first, second) = (stranger(1, community).1.device, stranger(2, community).1.device);
    let rooms = |founder: &Home| [first, second].map(|device| founder.community.waiting_room(&device));
    assert_eq!(rooms(&founder), [0, ORPHANS_PER_DEVICE_MAX], "for each");
    founder.community.insert(&one_more(1, &runs[0]));
    assert_eq!(rooms(&founder), [0, ORPHANS_PER_DEVICE_MAX], "what has no room is not taken");
    runs[1..].iter().for_each(|run| drop(founder.community.insert(run)));
    assert_eq!(founder.community.waiting_room(&founder.device()), 0, "for all");

    let acts = founder.community.charter().len();
    founder.open_channel(20, false);
    assert_eq!(founder.community.charter().len(), acts + 1);
    assert_eq!(founder.community.state().charter.channels.len(), 9);
}

/// Takes runs in turn, leaving those for later that the room is too small for,
/// as whoever receives them does; returns how often one was left.
fn take_as_room_allows(home: &mut Home, mut runs: Vec<AcceptedRun>) -> usize {
    let mut left = 0;
    while !runs.is_empty() {
        let count = runs.len();
        let mut later = Vec::new();
        for run in runs {
            let room = home.community.waiting_room(&run.feed().device);
            if run.feed().stream != Stream::Charter || run.changes().len() <= room {
                home.keep(run);
            } else {
                later.push(run);
            }
        }
        left += later.len();
        assert!(later.len() < count, "something fits at last");
        runs = later;
    }
    left
}

#[test]
fn a12_what_is_left_for_later_comes_to_the_same_state_in_any_order() {
    let (founder, honest) = garden();
    let community = founder.community.id();
    let mut orphans = flood(community, 2, 3_000);
    let full = flood(community, 3, ORPHANS_PER_DEVICE_MAX).pop().expect("the third stranger's");
    orphans.extend([full.clone(), one_more(3, &full)]);
    let honest: Vec<_> = {
        let mut reader = newcomer(&founder);
        honest.iter().for_each(|run| reader.take(run.clone()).expect("honest"));
        reader.store.into_values().flatten().collect()
    };
    let mut states = Vec::new();
    for (at, honest_first) in [(0, true), (1, false), (3, true), (4, true)] {
        let mut home = newcomer(&founder);
        let opener = [opener(community)];
        let pieces = if honest_first { [&honest[..], &opener] } else { [&opener, &honest[..]] };
        let mut runs = orphans.clone();
        runs.splice(at..at, pieces.concat());
        let left = take_as_room_allows(&mut home, runs);
        assert_eq!(left > 0, at > 3, "{left} left for later");
        states.push((home.hash(), home.community.heads(), home.community.charter().len()));
    }
    assert_eq!(states[0].0, founder.hash());
    assert!(states.windows(2).all(|two| two[0] == two[1]));
}
