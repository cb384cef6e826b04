//! Conversations: every order of arrival, hostile facts, bounds at their edge,
//! snapshots.

#[path = "conversation/reference.rs"]
mod reference;
#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;

use std::collections::BTreeSet;

use exo_model::conversation::{
    Conversation, EDITS_COUNTED_MAX, Fault, Place, REACTIONS_PER_PERSON_MAX, SnapshotError, Spoken, Taken,
    WAITING_BYTES_PER_PERSON_MAX, WAITING_FACT_BYTES, direct_id,
};
use exo_model::event::TalkEvent;
use exo_model::event::talk::{
    ATTACHMENTS_MAX, Attachment, DIRECT_PEOPLE_MAX, MENTIONS_MAX, REACTION_BYTES_MAX,
};
use exo_model::text::MESSAGE_BYTES_MAX;
use exo_model::{BlobHash, ChangeHash, ChannelId, CommunityId, DeviceId, PersonId};

use reference::{Reference, Told, all_seen, concerns};
use seeded::{Rng, hash, mutate, permutations, person};

const COMMUNITY: CommunityId = CommunityId::from_bytes([1; 32]);

fn channel() -> Conversation {
    Conversation::new(COMMUNITY, Place::Channel(ChannelId::from_bytes([2; 16])))
}

fn spoken(id: u64, author: u8, lamport: u64) -> Spoken {
    let device = DeviceId::from_bytes([author.wrapping_add(100); 32]);
    Spoken { id: hash(id), author: person(author), device, lamport, time_ms: 1_000 }
}

fn told(id: u64, author: u8, lamport: u64, event: TalkEvent) -> Told {
    Told { spoken: spoken(id, author, lamport), event, well_formed: true }
}

fn text(text: &str) -> TalkEvent {
    TalkEvent::Posted { text: text.to_owned(), reply_to: None, mentions: Vec::new(), attachments: Vec::new() }
}

fn answer(to: u64, mentions: &[u8]) -> TalkEvent {
    TalkEvent::Posted {
        text: "yes".to_owned(),
        reply_to: Some(hash(to)),
        mentions: mentions.iter().map(|n| person(*n)).collect(),
        attachments: Vec::new(),
    }
}

fn edit(of: u64, text: &str) -> TalkEvent {
    TalkEvent::Edited { message: hash(of), text: text.to_owned() }
}

const fn delete(message: ChangeHash) -> TalkEvent {
    TalkEvent::Deleted { message }
}

fn react(to: u64, reaction: &str, on: bool) -> TalkEvent {
    TalkEvent::Reacted { message: hash(to), reaction: reaction.to_owned(), on }
}

fn file(name: &str) -> Attachment {
    Attachment {
        blob: BlobHash::from_bytes([7; 32]),
        key: [8; 32],
        name: name.to_owned(),
        media_type: "image/png".to_owned(),
        size_bytes: 10,
    }
}

fn fed(told: &[Told]) -> Conversation {
    let mut conversation = channel();
    for Told { spoken, event, well_formed } in told {
        let taken = conversation.insert(spoken, event);
        assert_eq!(matches!(taken, Taken::Malformed(_)), !well_formed, "{event:?}: {taken:?}");
    }
    conversation
}

/// Everything that can be asked agrees with the reference.
fn check(conversation: &Conversation, reference: &Reference, people: &[PersonId]) {
    assert_eq!(all_seen(conversation), reference.messages);
    let pinned: Vec<_> = conversation.pinned(500).iter().map(|view| view.id()).collect();
    assert_eq!(pinned, reference.pinned());
    for me in people {
        assert_eq!(concerns(conversation, me), reference.concerns(me));
        for read in [0, 3, 8, 20] {
            assert_eq!(conversation.unread(me, read), reference.unread(me, read));
        }
    }
    for seen in &reference.messages {
        let thread: Vec<_> = conversation.thread(&seen.order.2).iter().map(|view| view.id()).collect();
        assert_eq!(thread, reference.thread(&seen.order.2));
        let here = conversation.message(&seen.order.2).expect("it is in a page").position();
        let before = conversation.page_before(Some(&here), 2);
        let at = reference.messages.iter().position(|other| other == seen).expect("itself");
        let expected: Vec<_> =
            reference.messages[at.saturating_sub(2)..at].iter().map(|seen| seen.order.2).collect();
        assert_eq!(before.iter().map(|view| view.id()).collect::<Vec<_>>(), expected);
    }
}

fn small_sets() -> Vec<Vec<Told>> {
    vec![
        // Edits by the author and by another, a deletion by another.
        vec![
            told(1, 1, 1, text("first")),
            told(2, 1, 2, edit(1, "second")),
            told(3, 1, 3, edit(1, "third")),
            told(4, 2, 9, edit(1, "not yours")),
            told(5, 2, 9, delete(hash(1))),
            told(6, 1, 3, edit(1, "tie")),
        ],
        // A deletion is final.
        vec![
            told(1, 1, 5, text("gone")),
            told(2, 1, 1, delete(hash(1))),
            told(3, 1, 9, edit(1, "back?")),
            told(4, 2, 9, react(1, "👍", true)),
            told(5, 2, 9, TalkEvent::Pinned { message: hash(1), on: true }),
            told(6, 2, 6, answer(1, &[1])),
        ],
        // Reactions, pins and answers, on and off.
        vec![
            told(1, 1, 1, text("hello")),
            told(2, 2, 2, react(1, "👍", true)),
            told(3, 2, 3, react(1, "👍", false)),
            told(4, 3, 2, react(1, "👍", true)),
            told(5, 3, 4, TalkEvent::Pinned { message: hash(1), on: true }),
            told(6, 2, 4, answer(1, &[1, 3])),
            told(7, 3, 2, answer(6, &[])),
        ],
        // An answer that is deleted concerns nobody, in whatever order.
        vec![
            told(1, 1, 1, text("question")),
            told(2, 2, 2, answer(1, &[3])),
            told(3, 2, 3, delete(hash(2))),
            told(4, 3, 3, react(2, "🎉", true)),
            told(5, 3, 4, answer(2, &[])),
        ],
    ]
}

#[test]
fn every_order_of_small_sets_gives_one_conversation() {
    let people = [person(1), person(2), person(3)];
    for set in small_sets() {
        let reference = Reference::new(&set);
        let first = fed(&set).encode();
        permutations(&set, &mut |order| {
            let conversation = fed(order);
            assert_eq!(conversation.encode(), first);
            check(&conversation, &reference, &people);
        });
    }
}

/// A history of many kinds of facts about few messages, some malformed.
fn history(rng: &mut Rng, len: u64, crowded: bool) -> Vec<Told> {
    let mut out = Vec::new();
    let (subjects, people) = if crowded { (4, 2) } else { (len, 4) };
    for id in 1..=len {
        let about = 1 + rng.next() % subjects;
        let emoji =
            ["👍", "👎", "🎉", "🙂", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];
        let (event, well_formed) = match rng.below(20) {
            0..=6 => (some_message(rng, about, len), true),
            7..=9 => (edit(about, ["one", "two", "three", ""][rng.below(4)]), true),
            10 => (delete(hash(about)), true),
            11..=16 => (react(about, emoji[rng.below(emoji.len())], !rng.one_in(3)), true),
            17 | 18 => (TalkEvent::Pinned { message: hash(about), on: !rng.one_in(3) }, true),
            _ => (edit(about, "\u{202e}evil"), false),
        };
        let mut spoken = spoken(id, u8::try_from(rng.below(people)).expect("small"), rng.next() % 25);
        spoken.time_ms = i64::try_from(rng.next() % 3).expect("small");
        spoken.device = DeviceId::from_bytes([u8::try_from(rng.below(9)).expect("small"); 32]);
        out.push(Told { spoken, event, well_formed });
    }
    out
}

/// Answers go to smaller numbers, so that they make no circles.
fn some_message(rng: &mut Rng, about: u64, len: u64) -> TalkEvent {
    let mentions = (0..rng.below(4)).map(|_| person(u8::try_from(rng.below(5)).expect("small"))).collect();
    let attachments = (0..rng.below(3)).map(|n| file(&format!("{n}.png"))).collect();
    let words = format!("words {about} of {len}");
    TalkEvent::Posted { text: words, reply_to: rng.one_in(2).then(|| hash(about / 2)), mentions, attachments }
}

/// Where answers would go in a circle, they go nowhere.
fn without_circles(mut told: Vec<Told>) -> Vec<Told> {
    let number = |id: &ChangeHash| (0..=told.len() as u64).find(|n| hash(*n) == *id);
    let numbers: Vec<_> = told
        .iter()
        .map(|told| match &told.event {
            TalkEvent::Posted { reply_to: Some(to), .. } => number(to),
            _ => None,
        })
        .collect();
    for (at, (told, to)) in told.iter_mut().zip(numbers).enumerate() {
        if let TalkEvent::Posted { reply_to, .. } = &mut told.event
            && to.is_some_and(|to| to > at as u64)
        {
            *reply_to = None;
        }
    }
    told
}

#[test]
fn random_histories_agree_with_the_reference_in_many_orders_and_batches() {
    let people: Vec<_> = (0..5).map(person).collect();
    for seed in 0..120 {
        let mut rng = Rng(seed);
        let crowded = seed % 20 == 0;
        let len = if crowded { 500 } else { 5 + rng.next() % 120 };
        let set = without_circles(history(&mut rng, len, crowded));
        let reference = Reference::new(&set);
        let mut first = None;
        for _ in 0..4 {
            let mut order = set.clone();
            order.extend_from_slice(&set[..rng.below(set.len())]);
            rng.shuffle(&mut order);
            let mut conversation = channel();
            let mut rest: &[Told] = &order;
            while !rest.is_empty() {
                let (batch, later) = rest.split_at((1 + rng.below(30)).min(rest.len()));
                let batch: Vec<_> = batch.iter().map(|told| (told.spoken, told.event.clone())).collect();
                assert!(conversation.insert_all(&batch).deferred.is_empty());
                rest = later;
            }
            let bytes = conversation.encode();
            assert_eq!(*first.get_or_insert_with(|| bytes.clone()), bytes, "seed {seed}");
            check(&conversation, &reference, &people);
            let read = Conversation::decode(&bytes).expect("own bytes");
            assert_eq!(read, conversation);
            assert_eq!(read.hash(), conversation.hash());
            check(&read, &reference, &people);
        }
    }
}

#[test]
fn many_messages_in_any_order_stand_in_order() {
    let mut rng = Rng(7);
    let mut order: Vec<u64> = (1..=6_000).collect();
    rng.shuffle(&mut order);
    let mut conversation = channel();
    for n in order {
        conversation.insert(&spoken(n, 1, n), &text("x"));
    }
    let lamports: Vec<_> = all_seen(&conversation).iter().map(|seen| seen.order.0).collect();
    assert_eq!(lamports, (1..=6_000).collect::<Vec<_>>());
    let last: Vec<_> = conversation.page_before(None, 3).iter().map(|view| view.position().lamport).collect();
    assert_eq!(last, [5_998, 5_999, 6_000]);
}

#[test]
fn a_deletion_that_comes_first_leaves_no_byte_of_the_text() {
    let secret = "the words that were taken back";
    for early in [true, false] {
        let mut set =
            vec![told(1, 1, 1, text(secret)), told(2, 1, 2, edit(1, secret)), told(3, 1, 3, delete(hash(1)))];
        if early {
            set.reverse();
        }
        let conversation = fed(&set);
        let bytes = conversation.encode();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        assert!(conversation.message(&hash(1)).expect("its place stays").is_deleted());
    }
}

#[test]
fn malformed_facts_count_for_nothing() {
    let posted = |text: &str, mentions: usize, attachments: Vec<Attachment>| TalkEvent::Posted {
        text: text.to_owned(),
        reply_to: None,
        mentions: (0..mentions).map(|n| person(u8::try_from(n).expect("few"))).collect(),
        attachments,
    };
    let with = |change: fn(&mut Attachment)| {
        let mut file = file("a.png");
        change(&mut file);
        posted("x", 0, vec![file])
    };
    let long = "x".repeat(MESSAGE_BYTES_MAX);
    let cases = [
        (text(""), Some(Fault::Text)),
        (text(" x"), Some(Fault::Text)),
        (text("a\u{0}"), Some(Fault::Text)),
        (text("a\u{202e}b"), Some(Fault::Text)),
        (text(&long), None),
        (text(&format!("{long}x")), Some(Fault::Text)),
        (posted("", 0, vec![file("a.png")]), None),
        (posted("x", MENTIONS_MAX, vec![]), None),
        (posted("x", MENTIONS_MAX + 1, vec![]), Some(Fault::Mentions)),
        (posted("x", 0, vec![file("a"); ATTACHMENTS_MAX]), None),
        (posted("x", 0, vec![file("a"); ATTACHMENTS_MAX + 1]), Some(Fault::Attachment)),
        (with(|file| file.name = "../x".to_owned()), Some(Fault::Attachment)),
        (with(|file| file.name = "..".to_owned()), Some(Fault::Attachment)),
        (with(|file| file.name = "a\u{202e}gpj.exe".to_owned()), Some(Fault::Attachment)),
        (with(|file| file.media_type = "text/html; x".to_owned()), Some(Fault::Attachment)),
        (with(|file| file.size_bytes = u64::MAX), Some(Fault::Attachment)),
        (edit(1, &format!("{long}x")), Some(Fault::Text)),
        (react(1, "", true), Some(Fault::Reaction)),
        (react(1, "a\nb", true), Some(Fault::Reaction)),
        (react(1, &"x".repeat(REACTION_BYTES_MAX), true), None),
        (react(1, &"x".repeat(REACTION_BYTES_MAX + 1), true), Some(Fault::Reaction)),
        (TalkEvent::DirectOpened { people: vec![person(1), person(2)] }, Some(Fault::NotDirect)),
    ];
    for (n, (event, fault)) in (10..).zip(cases) {
        let mut conversation = channel();
        let empty = conversation.encode();
        match fault {
            Some(fault) => {
                assert_eq!(conversation.insert(&spoken(n, 1, 1), &event), Taken::Malformed(fault));
                assert_eq!(conversation.encode(), empty);
            }
            None => assert!(!matches!(conversation.insert(&spoken(n, 1, 1), &event), Taken::Malformed(_))),
        }
    }
}

#[test]
fn an_edit_to_nothing_needs_something_attached() {
    let mut wordless = text("look");
    if let TalkEvent::Posted { attachments, .. } = &mut wordless {
        attachments.push(file("a.png"));
    }
    for (post, left) in [(text("look"), "look"), (wordless, "")] {
        let set = [told(1, 1, 1, post), told(2, 1, 2, edit(1, ""))];
        permutations(&set, &mut |order| {
            assert_eq!(fed(order).message(&hash(1)).expect("there").text(), Some(left));
        });
    }
}

#[test]
fn waiting_is_bounded_for_each_person_and_deferred_facts_can_come_again() {
    let most = u64::try_from(WAITING_BYTES_PER_PERSON_MAX / WAITING_FACT_BYTES).expect("fits");
    let mut conversation = channel();
    let pin = TalkEvent::Pinned { message: hash(1), on: true };
    for n in 0..most {
        assert_eq!(conversation.insert(&spoken(100 + n, 2, n), &pin), Taken::Waits);
    }
    let last = spoken(100 + most, 2, most);
    assert_eq!(conversation.insert(&last, &delete(hash(2))), Taken::Deferred(hash(2)));
    assert_eq!(conversation.insert(&spoken(100, 2, 0), &pin), Taken::Waits, "it waits already");
    // Another person still has room, and what waits survives a snapshot.
    assert_eq!(conversation.insert(&spoken(5, 3, 1), &react(1, "👍", true)), Taken::Waits);
    let mut conversation = Conversation::decode(&conversation.encode()).expect("own bytes");
    assert_eq!(conversation.insert(&last, &pin), Taken::Deferred(hash(1)));
    // In a batch, messages come first.
    let batch = [(last, delete(hash(2))), (spoken(1, 1, 1), text("a")), (spoken(2, 2, 1), text("b"))];
    let out = conversation.insert_all(&batch);
    assert!(out.deferred.is_empty());
    assert_eq!(out.changed.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([hash(1), hash(2)]));
    assert!(conversation.message(&hash(2)).expect("there").is_deleted());
    let view = conversation.message(&hash(1)).expect("there");
    assert_eq!((view.pinned_by(), view.reactions().len()), (Some(person(2)), 1));
    assert_eq!(conversation.insert(&last, &TalkEvent::Pinned { message: hash(9), on: true }), Taken::Waits);
}

#[test]
fn reactions_of_one_person_and_counted_edits_are_bounded() {
    let kept = REACTIONS_PER_PERSON_MAX as u64;
    let mut set = vec![told(1, 1, 1, text("popular"))];
    set.extend((0..kept + 5).map(|n| told(100 + n, 2, 10 + n, react(1, &format!("r{n}"), true))));
    let edits = EDITS_COUNTED_MAX as u64 + 40;
    // The last edit is the one with the greatest id, which is not counted.
    let last = (0..edits).max_by_key(|n| hash(1_000 + n)).expect("some");
    let lamport = |n| if n == last { 9_999 } else { 10 + n };
    set.extend((0..edits).map(|n| told(1_000 + n, 1, lamport(n), edit(1, &format!("version {n}")))));
    let first = fed(&set);
    let view = first.message(&hash(1)).expect("there");
    assert_eq!(view.reactions().len(), REACTIONS_PER_PERSON_MAX);
    assert!(!view.reactions().contains_key("r4") && view.reactions().contains_key("r5"));
    assert_eq!((view.edit_count(), view.text()), (EDITS_COUNTED_MAX, Some(&*format!("version {last}"))));
    assert_eq!(first.activity(&person(1), None, 500).len(), REACTIONS_PER_PERSON_MAX);
    let mut rng = Rng(3);
    for _ in 0..10 {
        rng.shuffle(&mut set);
        let other = fed(&set);
        assert_eq!(other.encode(), first.encode());
        assert_eq!(Conversation::decode(&other.encode()).as_ref(), Ok(&first));
    }
}

#[test]
fn marks_come_from_outside_and_are_no_part_of_the_hash() {
    let set = [told(1, 1, 1, text("seen")), told(2, 2, 2, answer(1, &[1]))];
    let plain = fed(&set);
    let mut marked = channel();
    assert!(marked.set_hidden(hash(2), true) && marked.mark_forked(hash(1)) && marked.mark_forked(hash(9)));
    for Told { spoken, event, .. } in &set {
        marked.insert(spoken, event);
    }
    assert!(marked.message(&hash(1)).expect("there").is_forked());
    assert!(marked.message(&hash(2)).expect("there").is_hidden());
    assert_eq!((plain.unread(&person(1), 0).messages, plain.activity(&person(1), None, 9).len()), (1, 1));
    assert_eq!((marked.unread(&person(1), 0).messages, marked.activity(&person(1), None, 9).len()), (0, 0));
    assert_eq!(marked.hash(), plain.hash());
    assert_ne!(marked, plain);
    let read = Conversation::decode(&marked.encode()).expect("own bytes");
    assert!(read.message(&hash(2)).expect("there").is_hidden());
    assert!(marked.set_hidden(hash(2), false));
    assert_ne!(marked.encode(), read.encode());
}

#[test]
fn a_direct_conversation_is_named_by_its_people() {
    let people = BTreeSet::from([person(1), person(2)]);
    let id = direct_id(&COMMUNITY, &people);
    // ("exo/direct/1", community, people), hashed by hand.
    let mut bytes = vec![0x83, 0x6c];
    bytes.extend_from_slice(b"exo/direct/1");
    for id in [[1; 32].as_slice(), &[0x82], &[1; 32], &[2; 32]] {
        if id.len() == 32 {
            bytes.extend_from_slice(&[0x58, 32]);
        }
        bytes.extend_from_slice(id);
    }
    assert_eq!(id.as_bytes()[..], blake3::hash(&bytes).as_bytes()[..16]);
    assert_ne!(id, direct_id(&CommunityId::from_bytes([9; 32]), &people));

    let opened =
        |people: &[u8]| TalkEvent::DirectOpened { people: people.iter().map(|n| person(*n)).collect() };
    let mut direct = Conversation::new(COMMUNITY, Place::Direct(id));
    let many: Vec<u8> = (1..=u8::try_from(DIRECT_PEOPLE_MAX).expect("few") + 1).collect();
    for wrong in [&[2, 1][..], &[1, 1, 2], &[1], &[], &[1, 3], &[1, 2, 3], &many] {
        assert_eq!(
            direct.insert(&spoken(1, 1, 1), &opened(wrong)),
            Taken::Malformed(Fault::People),
            "{wrong:?}"
        );
    }
    assert_eq!(direct.insert(&spoken(1, 3, 1), &opened(&[1, 2])), Taken::Malformed(Fault::People));
    assert_eq!(direct.people(), None);
    assert_eq!(direct.insert(&spoken(1, 2, 1), &opened(&[1, 2])), Taken::Opened);
    assert_eq!(direct.insert(&spoken(2, 1, 2), &opened(&[1, 2])), Taken::Unchanged);
    assert_eq!(direct.people(), Some(&people));
    assert_eq!(Conversation::decode(&direct.encode()).as_ref(), Ok(&direct));

    let all: BTreeSet<PersonId> = many[1..].iter().map(|n| person(*n)).collect();
    let mut largest = Conversation::new(COMMUNITY, Place::Direct(direct_id(&COMMUNITY, &all)));
    assert_eq!(largest.insert(&spoken(1, 2, 1), &opened(&many[1..])), Taken::Opened);
}

#[test]
fn answers_in_a_circle_do_no_harm() {
    let set = [told(1, 1, 1, answer(2, &[])), told(2, 2, 2, answer(1, &[])), told(3, 3, 3, answer(3, &[]))];
    let conversation = fed(&set);
    assert_eq!(conversation.thread(&hash(1)).len(), 1);
    assert_eq!(conversation.thread(&hash(3)).len(), 0);
    assert_eq!(conversation.replies(&hash(1), None, 9).len(), 1);
}

fn sample() -> Conversation {
    let mut conversation = fed(&[
        told(1, 1, 1, text("hello")),
        told(2, 2, 2, answer(1, &[1])),
        told(3, 1, 3, edit(1, "hello all")),
        told(4, 2, 4, react(1, "👍", true)),
        told(5, 3, 5, TalkEvent::Pinned { message: hash(1), on: true }),
        told(6, 2, 6, delete(hash(2))),
        told(7, 3, 7, delete(hash(99))),
    ]);
    conversation.set_hidden(hash(1), true);
    conversation
}

#[test]
fn the_format_of_version_1_does_not_change() {
    let golden = include_str!("conversation/snapshot_v1.hex").trim();
    let bytes = data_encoding::HEXLOWER.encode(&sample().encode());
    assert_eq!(bytes, golden, "{bytes}");
    // The hash covers what lies between the version and the marks (one, of 37
    // bytes, in a map).
    let bytes = sample().encode();
    let content = &bytes[2..bytes.len() - 38];
    let hashed = [b"\x82\x72exo/conversation/1", content].concat();
    assert_eq!(sample().hash().as_bytes(), blake3::hash(&hashed).as_bytes());
}

#[test]
fn hostile_snapshots_are_refused() {
    let good = sample().encode();
    let mut version = good.clone();
    version[1] = 2;
    assert_eq!(Conversation::decode(&version), Err(SnapshotError::Version(2)));
    assert!(Conversation::decode(&[]).is_err());
    // A message that is deleted and edited at once: no set of facts makes it.
    let edited = fed(&small_sets()[0]).encode();
    let at = edited.windows(4).position(|window| [&b"\x63tie"[..], b"\x65thi"].contains(&window));
    let at = at.expect("the edit that stands");
    let len = 1 + usize::from(edited[at] - 0x60);
    let deleted = [&edited[..at], &[0xf6], &edited[at + len..]].concat();
    assert!(matches!(Conversation::decode(&deleted), Err(SnapshotError::Content(_))));
    // At every place something that claims 2^60 of whatever follows.
    for at in 0..good.len() {
        for claim in [0x5b_u8, 0x7b, 0x9b, 0xbb] {
            let mut bomb = good[..at].to_vec();
            bomb.extend_from_slice(&[claim, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert!(Conversation::decode(&bomb).is_err());
        }
    }
    let mut rng = Rng(11);
    let mut read = 0;
    for _ in 0..30_000 {
        let bytes = mutate(&mut rng, &good);
        if let Ok(conversation) = Conversation::decode(&bytes) {
            read += 1;
            assert_eq!(conversation.encode(), bytes);
            let _ = (conversation.activity(&person(1), None, 9), conversation.page_before(None, 9));
        }
    }
    assert!(read > 100, "changed hashes and texts are still snapshots: {read}");
}
