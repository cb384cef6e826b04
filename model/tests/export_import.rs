//! A whole community as bytes: out of one home, through the gate into a fresh
//! one, and out again.

mod home;

use exo_model::charter::Role;
use exo_model::codec;
use exo_model::decide::Intent;
use exo_model::export::{EXPORT_VERSION, ExportError, Exporter, FRAME_BYTES_MAX, Importer, MAGIC};
use exo_model::feed::{self, Change, FeedId, FeedPosition, Rejection, Run, Stream, gate};
use exo_model::signature::SecretKey;

use home::{Home, Seeded, garden, meet, settle};

/// All of a feed's changes in one run, under its last signature.
fn whole_feeds(home: &Home) -> Vec<Run> {
    let whole = |(feed, runs): (&FeedId, &Vec<gate::AcceptedRun>)| Run {
        feed: *feed,
        first_seq: 1,
        changes: home.changes(feed),
        signature: runs.last().expect("a run").signature(),
    };
    home.store.iter().map(whole).collect()
}

fn export(home: &Home) -> Vec<u8> {
    let (mut exporter, mut bytes) = Exporter::new(home.community.id());
    for run in whole_feeds(home) {
        bytes.extend(exporter.segment(&run).expect("in order"));
    }
    bytes.extend(exporter.finish());
    bytes
}

/// A home that has nothing but an export and its own key.
fn import(bytes: &[u8], key: &SecretKey) -> Home {
    let importer = Importer::new(bytes).expect("whole");
    let key = SecretKey::from_bytes(&key.to_bytes());
    let seeded = Seeded::of_device(&key, 0);
    let mut home = Home::new("fresh", importer.community(), key, seeded);
    for run in importer {
        home.take(run.expect("a segment")).expect("authentic");
    }
    home
}

/// Three members with something in several streams, and one who is gone.
fn lived_in() -> [Home; 3] {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Admin, Role::Member, Role::Member]);
    let room = a.channel();
    d.say(room, "bye");
    settle(&mut [&mut a, &mut b, &mut c, &mut d]);
    b.act(Intent::Remove { person: people[3].id(), ban: true, reason: String::new() });
    settle(&mut [&mut a, &mut b, &mut c]);
    for home in [&mut a, &mut b, &mut c] {
        home.say(room, "still here");
        home.act(Intent::OfferMachine { memory_bytes: 1, micros_per_mib: 1, addresses: vec![] });
    }
    settle(&mut [&mut a, &mut b, &mut c]);
    [a, b, c]
}

#[test]
fn export_import_export_gives_the_same_bytes_and_the_same_state() {
    let [a, b, _] = lived_in();
    let bytes = export(&a);
    let mut fresh = import(&bytes, &b.key);
    assert_eq!(export(&fresh), bytes);
    // What the keys in the feeds open is the state; the founding key came with
    // the admission.
    a.hand_governance_to(&mut fresh);
    fresh.read_again();
    assert_eq!(fresh.hash(), a.hash());
    assert_eq!(fresh.read(a.channel()), a.read(a.channel()));

    // For someone without a key it is the same bytes, and means nothing.
    let stranger = import(&bytes, &SecretKey::from_bytes(&[99; 32]));
    assert_eq!(export(&stranger), bytes);
    assert!(stranger.community.state().charter.members.is_empty());
}

#[test]
fn the_same_changes_export_the_same_bytes_however_they_arrived() {
    let [mut a, mut b, mut c] = lived_in();
    let room = a.channel();
    for home in [&mut a, &mut b, &mut c] {
        home.say(room, "apart");
    }
    assert_ne!(export(&a), export(&b), "not the same changes");
    c.send_to(&mut a);
    b.send_to(&mut c);
    meet(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(export(&a), export(&b));
    assert_eq!(export(&a), export(&c));
}

#[test]
fn exports_cut_short_or_changed_are_damaged() {
    let [a, ..] = lived_in();
    let bytes = export(&a);
    let header = MAGIC.len() + 1 + exo_model::CommunityId::LEN;
    for len in (0..bytes.len()).step_by(97).chain([MAGIC.len(), header, header + 31, bytes.len() - 1]) {
        let expected = if len < MAGIC.len() { ExportError::NotAnExport } else { ExportError::Damaged };
        assert_eq!(Importer::new(&bytes[..len]).err(), Some(expected), "the first {len} bytes");
    }
    for at in (MAGIC.len() + 1..bytes.len()).step_by(89).chain([bytes.len() - 1, bytes.len() - 33]) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        assert_eq!(Importer::new(&changed).err(), Some(ExportError::Damaged), "byte {at}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Importer::new(&longer).err(), Some(ExportError::Damaged));
    let mut newer = bytes;
    newer[MAGIC.len()] = EXPORT_VERSION + 1;
    assert_eq!(Importer::new(&newer).err(), Some(ExportError::Version(EXPORT_VERSION + 1)));
    assert_eq!(
        ExportError::Version(2).to_string(),
        "this export has version 2; this program reads version 1: update it"
    );
}

/// Frames under a digest that fits: what a liar can make.
fn forged(home: &Home, frames: &[Vec<u8>]) -> Vec<u8> {
    let (_, mut bytes) = Exporter::new(home.community.id());
    for frame in frames {
        bytes.extend(u32::try_from(frame.len()).expect("short").to_be_bytes());
        bytes.extend(frame);
    }
    bytes.extend([0; 4]);
    let digest = *blake3::hash(&bytes).as_bytes();
    bytes.extend(digest);
    bytes
}

fn first_error(bytes: &[u8]) -> Option<ExportError> {
    Importer::new(bytes).expect("the digest fits").find_map(Result::err)
}

#[test]
fn frames_out_of_order_are_refused_on_both_sides() {
    let [a, ..] = lived_in();
    let mut runs = whole_feeds(&a);
    let frames = |runs: &[Run]| runs.iter().map(codec::encode).collect::<Vec<_>>();
    assert_eq!(forged(&a, &frames(&runs)), export(&a));

    runs.swap(1, 2);
    assert_eq!(first_error(&forged(&a, &frames(&runs))), Some(ExportError::Order(2)));
    let (mut exporter, _) = Exporter::new(a.community.id());
    exporter.segment(&runs[0]).expect("the first");
    exporter.segment(&runs[1]).expect("a later one");
    assert_eq!(exporter.segment(&runs[2]), Err(ExportError::Order(2)));
    runs.swap(1, 2);

    let twice = [runs[0].clone(), runs[0].clone()];
    assert_eq!(first_error(&forged(&a, &frames(&twice))), Some(ExportError::Order(1)));
    let long = runs.iter().position(|run| run.changes.len() > 1).expect("a feed of several");
    let mut headless = runs[long].clone();
    headless.first_seq = 2;
    headless.changes.remove(0);
    assert_eq!(first_error(&forged(&a, &frames(&[headless]))), Some(ExportError::Order(0)));
    let mut foreign = runs[0].clone();
    foreign.feed.community = exo_model::CommunityId::from_bytes([1; 32]);
    assert_eq!(first_error(&forged(&a, &frames(&[foreign]))), Some(ExportError::Order(0)));
}

#[test]
fn frames_that_are_none_are_refused() {
    let [a, ..] = lived_in();
    let garbage = forged(&a, &[vec![0xff; 10]]);
    assert!(matches!(first_error(&garbage), Some(ExportError::Frame { index: 0, .. })));
    let (_, mut huge) = Exporter::new(a.community.id());
    let length = FRAME_BYTES_MAX + 1;
    huge.extend(u32::try_from(length).expect("32 bits").to_be_bytes());
    huge.extend([0; 4]);
    let digest = *blake3::hash(&huge).as_bytes();
    huge.extend(digest);
    assert_eq!(first_error(&huge), Some(ExportError::TooLong(length)), "before anything is allocated");
}

/// A digest proves nothing about who wrote what: the gate does.
#[test]
fn an_export_with_forged_changes_stops_at_the_gate() {
    let [a, ..] = lived_in();
    let mut runs = whole_feeds(&a);
    let last = runs[0].changes.last_mut().expect("a change");
    last.payload[4] ^= 1;
    let frames: Vec<_> = runs.iter().map(codec::encode).collect();
    let bytes = forged(&a, &frames);
    let mut runs = Importer::new(&bytes).expect("whole");
    let first = runs.next().expect("one").expect("readable");
    assert_eq!(gate::admit(first, &FeedPosition::START).err(), Some(Rejection::Signature));
    let honest = runs.next().expect("two").expect("readable");
    assert!(gate::admit(honest, &FeedPosition::START).is_ok());
}

/// Lines of one feed that parted: each whole, in one order.
#[test]
fn lines_that_part_are_exported_in_one_order() {
    let [a, ..] = lived_in();
    let first = |time_ms| {
        let change = Change { time_ms, payload: vec![1] };
        feed::author(&a.key, a.feed(Stream::Private), &FeedPosition::START, change)
    };
    let mut lines = [first(1), first(2), first(3)];
    lines.sort_by_key(Exporter::order_of);
    let (mut exporter, mut bytes) = Exporter::new(a.community.id());
    for line in &lines {
        bytes.extend(exporter.segment(line).expect("in order"));
        assert!(matches!(exporter.segment(line), Err(ExportError::Order(_))), "twice");
        assert!(matches!(exporter.segment(&lines[0]), Err(ExportError::Order(_))), "out of order");
    }
    bytes.extend(exporter.finish());
    let imported: Vec<_> = Importer::new(&bytes).expect("whole").map(|run| run.expect("a line")).collect();
    assert_eq!(imported, lines);
    let mut backwards = lines.clone();
    backwards.reverse();
    let frames: Vec<_> = backwards.iter().map(codec::encode).collect();
    let out_of_order = Importer::new(&forged(&a, &frames)).expect("whole").nth(1);
    assert_eq!(out_of_order, Some(Err(ExportError::Order(1))));
}
