//! The private state: every order of arrival, trees of turns, bounds at their
//! edge, snapshots.

#[path = "private/reference.rs"]
mod reference;
#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;

use exo_model::event::PrivateEvent;
use exo_model::event::private::{Notify, Speaker, Subject, TITLE_BYTES_MAX, TURN_BYTES_MAX, VALUE_BYTES_MAX};
use exo_model::id::ThreadId;
use exo_model::private::{
    Noted, PROMPTS_MAX, PrivateFault, PrivateState, SnapshotError, TURNS_MAX, Thread, Written,
};
use exo_model::trust::TrustLevel;
use exo_model::{ChannelId, CommunityId};

use reference::{Fact, Seen, seen};
use seeded::{Rng, hash, mutate, permutations, person};

const fn thread(n: u8) -> ThreadId {
    ThreadId::from_bytes([n; 16])
}

fn written(id: u64, lamport: u64) -> Written {
    Written { id: hash(id), lamport, time_ms: 5 }
}

fn turn(n: u8, parent: Option<u64>, text: &str) -> PrivateEvent {
    PrivateEvent::TurnAdded {
        thread: thread(n),
        parent: parent.map(hash),
        speaker: if parent.is_none() { Speaker::Person } else { Speaker::Model },
        text: text.to_owned(),
        about: String::new(),
    }
}

fn titled(n: u8, title: &str, folder: &str) -> PrivateEvent {
    PrivateEvent::ThreadTitled { thread: thread(n), title: title.to_owned(), folder: folder.to_owned() }
}

fn chosen(n: u8, leaf: u64) -> PrivateEvent {
    PrivateEvent::BranchChosen { thread: thread(n), leaf: hash(leaf) }
}

fn prompt(name: &str, text: &str) -> PrivateEvent {
    PrivateEvent::PromptSaved { name: name.to_owned(), text: text.to_owned() }
}

fn fed(facts: &[Fact]) -> PrivateState {
    let mut state = PrivateState::default();
    for (written, event) in facts {
        state.insert(written, event);
    }
    state
}

fn texts<'a>(turns: impl IntoIterator<Item = &'a exo_model::private::Turn>) -> Vec<&'a str> {
    turns.into_iter().map(|turn| &*turn.text).collect()
}

fn shown(thread: &Thread) -> Vec<&str> {
    texts(thread.transcript())
}

/// A question with two answers, the first of which goes on.
fn tree() -> Vec<Fact> {
    vec![
        (written(1, 1), turn(1, None, "question")),
        (written(2, 2), turn(1, Some(1), "answer")),
        (written(3, 3), turn(1, Some(2), "thanks")),
        (written(4, 4), turn(1, Some(1), "other answer")),
    ]
}

#[test]
fn the_newest_leaf_is_shown_until_a_branch_is_chosen() {
    let mut set = tree();
    let state = fed(&set);
    let held = state.thread(&thread(1)).expect("there");
    assert_eq!(shown(held), ["question", "other answer"]);
    assert_eq!(texts(held.leaves()), ["other answer", "thanks"]);
    assert_eq!(texts(held.siblings(&hash(2))), ["answer", "other answer"]);
    assert_eq!(texts(held.branch(&hash(2))), ["question", "answer"]);

    // A choice goes on to what was said behind it.
    set.push((written(5, 5), chosen(1, 2)));
    permutations(&set, &mut |order| {
        assert_eq!(shown(fed(order).thread(&thread(1)).expect("there")), ["question", "answer", "thanks"]);
    });
    // A later one stands, an earlier one does not; one that is not here is none.
    set.push((written(6, 6), chosen(1, 4)));
    set.push((written(7, 1), chosen(1, 3)));
    assert_eq!(shown(fed(&set).thread(&thread(1)).expect("there")), ["question", "other answer"]);
    set.push((written(8, 9), chosen(1, 99)));
    set.push((written(9, 9), turn(1, Some(3), "welcome")));
    assert_eq!(
        shown(fed(&set).thread(&thread(1)).expect("there")),
        ["question", "answer", "thanks", "welcome"]
    );
}

#[test]
fn a_turn_without_its_parent_begins_a_tree_of_its_own() {
    let mut set = tree();
    set.remove(0);
    let state = fed(&set);
    let held = state.thread(&thread(1)).expect("there");
    assert_eq!(texts(held.branch(&hash(3))), ["answer", "thanks"]);
    assert_eq!(texts(held.siblings(&hash(4))), ["answer", "other answer"]);
    // Turns of another thread are no parents; circles do no harm.
    let set = [
        (written(1, 1), turn(1, None, "here")),
        (written(2, 2), turn(2, Some(1), "there")),
        (written(3, 3), turn(3, Some(4), "round")),
        (written(4, 4), turn(3, Some(3), "and round")),
        (written(5, 5), chosen(3, 3)),
    ];
    let state = fed(&set);
    assert_eq!(shown(state.thread(&thread(2)).expect("there")), ["there"]);
    assert_eq!(state.thread(&thread(3)).expect("there").transcript().len(), 0);
}

#[test]
fn a_deleted_thread_is_gone_for_good_in_every_order() {
    let secret = "the secret of the thread";
    let set = [
        (written(1, 9), turn(1, None, secret)),
        (written(2, 2), PrivateEvent::ThreadDeleted { thread: thread(1) }),
        (written(3, 9), titled(1, secret, "folder")),
        (written(4, 9), chosen(1, 1)),
        (written(5, 1), turn(2, None, "stays")),
        (written(6, 1), PrivateEvent::ThreadDeleted { thread: thread(3) }),
    ];
    let first = fed(&set).encode();
    assert!(!first.windows(secret.len()).any(|window| window == secret.as_bytes()));
    permutations(&set, &mut |order| {
        let state = fed(order);
        assert_eq!(state.encode(), first);
        assert!(state.thread(&thread(1)).is_none() && state.folders().is_empty());
        assert_eq!(state.threads(None, 9).len(), 1);
    });
    assert_eq!(PrivateState::decode(&first).as_ref(), Ok(&fed(&set)));
}

/// A history of every kind of fact about few things.
fn history(rng: &mut Rng, len: u64) -> Vec<Fact> {
    (1..=len).map(|id| (written(id, rng.next() % 20), some_fact(rng, len))).collect()
}

fn some_fact(rng: &mut Rng, len: u64) -> PrivateEvent {
    let n = u8::try_from(rng.below(4)).expect("small");
    let other = 1 + rng.next() % len;
    let subject = [
        Subject::Person(person(n)),
        Subject::Community(CommunityId::from_bytes([n; 32])),
        Subject::Channel(CommunityId::from_bytes([n; 32]), ChannelId::from_bytes([n; 16])),
        Subject::Thread(thread(n)),
    ][rng.below(4)];
    let word = ["", "one", "two", "three"][rng.below(4)].to_owned();
    let on = rng.one_in(2);
    match rng.below(20) {
        0..=5 => turn(n, rng.one_in(2).then_some(other), &format!("turn {other}")),
        6 => titled(n, &word, ["", "work", "home"][rng.below(3)]),
        7 => chosen(n, other),
        8 if rng.one_in(3) => PrivateEvent::ThreadDeleted { thread: thread(n) },
        8 | 9 => prompt(["a", "b"][rng.below(2)], &word),
        10 | 11 => PrivateEvent::ReadUpTo { subject, lamport: rng.next() % 50 },
        12 => PrivateEvent::NotifySet { subject, notify: [Notify::All, Notify::Nothing][rng.below(2)] },
        13 => PrivateEvent::BlockSet { person: person(n), blocked: on },
        14 => PrivateEvent::HideSet { message: hash(other % 3), hidden: on },
        15 => PrivateEvent::DraftSaved { subject, text: word },
        16 => PrivateEvent::SettingSet { name: format!("setting {n}"), value: word },
        17 => PrivateEvent::TrustOverridden { person: person(n), level: on.then_some(TrustLevel::Known) },
        18 => PrivateEvent::CommunityJoined {
            community: CommunityId::from_bytes([n; 32]),
            name: "Home".to_owned(),
            archived: on,
        },
        _ => titled(n, "not\nclean", ""),
    }
}

#[test]
fn random_histories_agree_with_the_reference_in_every_order() {
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let len = 3 + rng.next() % 150;
        let set = history(&mut rng, len);
        let expected = Seen::of(&set);
        let mut first = None;
        for _ in 0..4 {
            let mut order = set.clone();
            order.extend_from_slice(&set[..rng.below(set.len())]);
            rng.shuffle(&mut order);
            let state = fed(&order);
            let bytes = state.encode();
            assert_eq!(*first.get_or_insert_with(|| bytes.clone()), bytes, "seed {seed}");
            assert_eq!(seen(&state), expected, "seed {seed}");
            let read = PrivateState::decode(&bytes).expect("own bytes");
            assert_eq!((&read, read.hash()), (&state, state.hash()));
            assert_eq!(seen(&read), expected);
        }
    }
}

#[test]
fn malformed_facts_count_for_nothing() {
    let long = |len: usize| "x".repeat(len);
    let about = |len: usize| PrivateEvent::TurnAdded {
        thread: thread(1),
        parent: None,
        speaker: Speaker::Tool,
        text: String::new(),
        about: long(len),
    };
    let subject = Subject::Thread(thread(1));
    let joined = |name: &str| PrivateEvent::CommunityJoined {
        community: CommunityId::from_bytes([1; 32]),
        name: name.to_owned(),
        archived: false,
    };
    let cases = [
        (titled(1, "", ""), None),
        (titled(1, &long(TITLE_BYTES_MAX), ""), None),
        (titled(1, &long(TITLE_BYTES_MAX + 1), ""), Some(PrivateFault::Name)),
        (titled(1, "a", "b\u{202e}"), Some(PrivateFault::Name)),
        (turn(1, None, &long(TURN_BYTES_MAX)), None),
        (turn(1, None, &long(TURN_BYTES_MAX + 1)), Some(PrivateFault::Text)),
        (about(VALUE_BYTES_MAX), None),
        (about(VALUE_BYTES_MAX + 1), Some(PrivateFault::Text)),
        (prompt("", "x"), Some(PrivateFault::Name)),
        (prompt("p", &long(VALUE_BYTES_MAX)), None),
        (prompt("p", &long(VALUE_BYTES_MAX + 1)), Some(PrivateFault::Text)),
        (PrivateEvent::DraftSaved { subject, text: long(VALUE_BYTES_MAX + 1) }, Some(PrivateFault::Text)),
        (PrivateEvent::ReadUpTo { subject, lamport: 1 << 53 }, None),
        (PrivateEvent::ReadUpTo { subject, lamport: (1 << 53) + 1 }, Some(PrivateFault::Position)),
        (joined("Home"), None),
        (joined(" Home"), Some(PrivateFault::Name)),
    ];
    let empty = PrivateState::default();
    for (event, fault) in cases {
        let mut state = PrivateState::default();
        let noted = state.insert(&written(1, 1), &event);
        assert_eq!(noted, fault.map_or(Noted::Changed, Noted::Malformed));
        assert_eq!(state == empty, fault.is_some());
    }
}

#[test]
fn of_too_many_prompts_the_last_written_stay() {
    let mut set: Vec<Fact> = (0..PROMPTS_MAX as u64 + 3)
        .map(|n| (written(n, 10 + n), prompt(&format!("prompt {n:05}"), "text")))
        .collect();
    // The oldest is written again; another is emptied, and keeps its place.
    set.push((written(9_001, 5_000), prompt("prompt 00000", "new")));
    set.push((written(9_002, 5_001), prompt("prompt 00009", "")));
    let mut first = None;
    let mut rng = Rng(4);
    for _ in 0..5 {
        rng.shuffle(&mut set);
        let state = fed(&set);
        assert_eq!(state.prompts().count(), PROMPTS_MAX - 1);
        assert_eq!(state.prompt("prompt 00000"), Some("new"));
        for (gone, stays) in [("prompt 00001", "prompt 00004"), ("prompt 00003", "prompt 00005")] {
            assert_eq!((state.prompt(gone), state.prompt(stays)), (None, Some("text")));
        }
        let bytes = state.encode();
        assert_eq!(*first.get_or_insert_with(|| bytes.clone()), bytes);
        assert!(PrivateState::decode(&bytes).is_ok());
    }
}

#[test]
fn of_too_many_turns_the_newest_stay() {
    let mut set: Vec<Fact> =
        (1..=TURNS_MAX as u64 + 2).map(|n| (written(n, n), turn(1, (n > 1).then(|| n - 1), "x"))).collect();
    let state = fed(&set);
    let held = state.thread(&thread(1)).expect("there");
    assert_eq!((held.len(), held.transcript().len()), (TURNS_MAX, TURNS_MAX));
    assert!(held.turn(&hash(2)).is_none() && held.turn(&hash(3)).is_some());
    set.reverse();
    assert_eq!(fed(&set).encode(), state.encode());
}

#[test]
fn threads_are_listed_by_folder_newest_first() {
    let state = fed(&[
        (written(1, 1), turn(1, None, "a")),
        (written(2, 2), titled(1, "First", "work")),
        (written(3, 3), turn(2, None, "b")),
        (written(4, 9), titled(2, "Second", "work")),
        (written(5, 5), titled(3, "Third", "")),
        (written(6, 4), turn(1, Some(1), "c")),
    ]);
    let titles = |folder, limit| {
        state.threads(folder, limit).iter().map(|(_, thread)| thread.title().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(titles(None, 9), ["Third", "First", "Second"]);
    assert_eq!(titles(Some("work"), 9), ["First", "Second"]);
    assert_eq!(titles(Some(""), 9), ["Third"]);
    assert_eq!(titles(None, 1), ["Third"]);
    assert_eq!(state.folders().into_iter().collect::<Vec<_>>(), ["work"]);
}

fn sample() -> PrivateState {
    let mut set = tree();
    set.extend([
        (written(5, 5), titled(1, "Tides", "sea")),
        (written(6, 6), chosen(1, 3)),
        (written(7, 7), turn(2, None, "gone")),
        (written(8, 8), PrivateEvent::ThreadDeleted { thread: thread(2) }),
        (written(9, 9), prompt("short", "Be brief.")),
        (written(10, 10), PrivateEvent::ReadUpTo { subject: Subject::Person(person(1)), lamport: 77 }),
        (
            written(11, 11),
            PrivateEvent::TrustOverridden { person: person(1), level: Some(TrustLevel::Friends) },
        ),
        (written(12, 12), PrivateEvent::BlockSet { person: person(3), blocked: true }),
    ]);
    fed(&set)
}

#[test]
fn the_format_of_version_1_does_not_change() {
    let golden = include_str!("private/snapshot_v1.hex").trim();
    let bytes = data_encoding::HEXLOWER.encode(&sample().encode());
    assert_eq!(bytes, golden);
}

#[test]
fn hostile_snapshots_are_refused() {
    let good = sample().encode();
    let mut version = good.clone();
    version[1] = 2;
    assert_eq!(PrivateState::decode(&version), Err(SnapshotError::Version(2)));
    for at in 0..good.len() {
        for claim in [0x5b_u8, 0x7b, 0x9b, 0xbb] {
            let mut bomb = good[..at].to_vec();
            bomb.extend_from_slice(&[claim, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert!(PrivateState::decode(&bomb).is_err());
        }
    }
    let mut rng = Rng(12);
    let mut read = 0;
    for _ in 0..30_000 {
        let bytes = mutate(&mut rng, &good);
        if let Ok(state) = PrivateState::decode(&bytes) {
            read += 1;
            assert_eq!(state.encode(), bytes);
            for (_, thread) in state.threads(None, 9) {
                let _ = (thread.transcript(), thread.leaves());
            }
        }
    }
    assert!(read > 100, "changed texts are still snapshots: {read}");
}
