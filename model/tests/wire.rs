//! Strangers' bytes: whatever is done to an encoded structure, decoding never
//! panics, and what still decodes is the same bytes again or fails its proof.

#[allow(dead_code, reason = "each test binary uses its part")]
mod common;

use common::{Rng, World, change, every_kind};
use exo_model::codec::{decode, encode};
use exo_model::decide::{Intent, decide};
use exo_model::envelope::{ENVELOPE_BYTES_MAX, ENVELOPE_VERSION, Envelope, LAMPORT_MAX};
use exo_model::feed::{FeedPosition, Meaningless, Run, author, gate};
use exo_model::invite::{Contact, JoinRequest, Ticket};
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use exo_model::{ChannelId, CommunityId, Event, FeedId, Stream};

const FRAME_MAX: usize = 1 << 20;

fn key() -> SecretKey {
    SecretKey::from_bytes(&[5; 32])
}

fn charter() -> FeedId {
    FeedId::new(CommunityId::from_bytes([1; 32]), key().device(), Stream::Charter)
}

/// A signed run of three changes in a channel.
fn run() -> Run {
    let feed = FeedId { stream: Stream::Channel(ChannelId::from_bytes([8; 16])), ..charter() };
    let (mut end, mut changes, mut last) = (FeedPosition::START, Vec::new(), None);
    for event in every_kind().into_iter().take(3) {
        let run = author(&key(), feed, &end, change(1_000, &Envelope::new(end.seq + 1, &event).encode()));
        end = gate::admit(run.clone(), &end).expect("one's own").end();
        changes.extend(run.changes.iter().cloned());
        last = Some(run.signature);
    }
    Run { feed, first_seq: 1, changes, signature: last.expect("three") }
}

#[test]
fn every_structure_survives_the_wire() {
    let run = run();
    assert_eq!(decode::<Run>(&encode(&run), FRAME_MAX), Ok(run.clone()));
    assert!(gate::admit(run, &FeedPosition::START).is_ok());
    for event in every_kind() {
        assert_eq!(Event::decode(&encode(&event)), Ok(event.clone()));
        let envelope = Envelope::new(LAMPORT_MAX, &event);
        assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }
}

#[test]
fn a_mutated_run_is_refused_or_is_the_same_run() {
    let (run, mut rng) = (run(), Rng(21));
    let bytes = encode(&run);
    let mut decoded_count = 0;
    for _ in 0..30_000 {
        let mutant = rng.mutate(&bytes);
        let Ok(decoded) = decode::<Run>(&mutant, FRAME_MAX) else { continue };
        decoded_count += 1;
        assert_eq!(decode::<Run>(&encode(&decoded), FRAME_MAX).as_ref(), Ok(&decoded));
        if let Ok(accepted) = gate::admit(decoded.clone(), &FeedPosition::START) {
            assert!(decoded == run && accepted.changes() == run.changes, "only the author's own run");
        }
    }
    assert!(decoded_count > 1_000, "the mutants reach the gate: {decoded_count}");
}

#[test]
fn mutated_envelopes_and_events_never_panic_and_keep_their_meaning() {
    let mut rng = Rng(22);
    for event in every_kind() {
        let bytes = Envelope::new(300, &event).encode();
        for _ in 0..2_000 {
            let mutant = rng.mutate(&bytes);
            if let Ok(envelope) = Envelope::decode(&mutant) {
                assert!(envelope.version == ENVELOPE_VERSION && envelope.lamport <= LAMPORT_MAX);
                assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope.clone()));
                if let Ok(event) = Event::decode(&envelope.event) {
                    assert_eq!(Event::decode(&encode(&event)), Ok(event));
                }
            }
        }
    }
}

/// A mutated payload that its own author signs is the worst a peer can send:
/// it enters its own feed, and reducing it neither panics nor costs credit.
#[test]
fn garbage_signed_by_a_member_enters_and_counts_for_nothing_or_for_what_it_says() {
    let (mut world, mut rng) = (World::of_members(3, -1_000), Rng(23));
    for event in every_kind().iter().cycle().take(1_500) {
        let payload = rng.mutate(&Envelope::new(400, event).encode());
        if payload.is_empty() {
            continue;
        }
        let feed = FeedId::new(world.id, world.id_of(1), common::home(event));
        let written = world.devices[1].write(feed, change(5, &payload));
        let readable = written.event.is_ok();
        let before = world.state().clone();
        world.community.insert([&written]);
        assert!(readable || *world.state() == before);
        assert_eq!(world.state().ledger.total(), 0);
    }
}

#[test]
fn unknown_versions_kinds_and_wrong_streams_stay_in_the_chain() {
    let known = Envelope::new(7, &Event::MessagePosted { text: "hi".into() });
    let newer = Envelope { version: 1, ..known.clone() };
    let late = Envelope { lamport: LAMPORT_MAX + 1, ..known.clone() };
    let kind = Envelope { event: vec![0x82, 0x18, 200, 0x80], ..known.clone() };
    let trailing = Envelope { event: [known.event.as_slice(), &[0]].concat(), ..known.clone() };
    for payload in
        [newer.encode(), late.encode(), kind.encode(), trailing.encode(), known.encode(), b"\xff".to_vec()]
    {
        let run = author(&key(), charter(), &FeedPosition::START, change(1, &payload));
        let accepted = gate::admit(run, &FeedPosition::START).expect("authentic, so kept");
        assert_eq!(accepted.changes()[0].payload, payload, "kept as written");
        assert!(accepted.events()[0].event.is_err());
    }
    let run = author(&key(), charter(), &FeedPosition::START, change(1, &known.encode()));
    let accepted = gate::admit(run, &FeedPosition::START).expect("authentic");
    assert_eq!(accepted.events()[0].event, Err(Meaningless::WrongStream));
}

#[test]
fn n07_structures_over_their_length_are_refused_before_they_are_read() {
    let event = Event::MessagePosted { text: "x".repeat(ENVELOPE_BYTES_MAX) };
    assert!(Event::decode(&encode(&event)).is_err());
    assert!(Envelope::decode(&Envelope::new(1, &event).encode()).is_err());
    let bytes = encode(&run());
    assert!(decode::<Run>(&bytes, bytes.len() - 1).is_err());
    assert!(decode::<Run>(&[bytes.as_slice(), &[0xf6]].concat(), FRAME_MAX).is_err(), "trailing");
}

fn ticket() -> Ticket {
    let contact =
        Contact { device: key().device(), addresses: vec!["127.0.0.1:4000".into(), "[::1]:4000".into()] };
    Ticket::new(
        CommunityId::from_bytes([1; 32]),
        "Garden".into(),
        &SecretKey::from_bytes(&[9; 32]),
        1_000,
        vec![contact],
    )
}

#[test]
fn mutated_ticket_texts_are_refused_or_are_the_same_ticket() {
    let (text, mut rng) = (ticket().to_string(), Rng(24));
    for _ in 0..20_000 {
        let mutant = rng.mutate(text.as_bytes());
        let Ok(read) = String::from_utf8_lossy(&mutant).parse::<Ticket>() else { continue };
        assert_eq!(read.to_string(), text);
    }
    for odd in ["", "exo1", "exo1a", "EXO1", "exo1\u{212a}", "\u{130}exo1aaaa", "exo1========", "exo1\u{0}"] {
        assert!(odd.parse::<Ticket>().is_err(), "{odd:?}");
    }
    assert!("exo1a".repeat(10_000).parse::<Ticket>().is_err());
}

/// The checksum is no secret: an attacker computes it over contents of choice.
#[test]
fn mutated_ticket_contents_under_a_fresh_checksum_never_panic_and_stay_in_bounds() {
    let (bytes, mut rng) = (encode(&ticket()), Rng(25));
    for _ in 0..10_000 {
        let mut mutant = rng.mutate(&bytes);
        let checksum = blake3::hash(&mutant);
        mutant.extend_from_slice(&checksum.as_bytes()[..4]);
        let text = format!("exo1{}", data_encoding::BASE32_NOPAD.encode(&mutant));
        let Ok(read) = text.parse::<Ticket>() else { continue };
        assert!(exo_model::text::is_clean_name(&read.community_name) && read.contacts.len() <= 8);
        assert_eq!(read.to_string().parse::<Ticket>().expect("readable").to_string(), read.to_string());
        let _ = read.request(key().device(), "Ana".into());
    }
}

#[test]
fn m07_a_mutated_join_request_admits_nobody_else_under_no_other_name() {
    let mut world = World::found(-1_000);
    let ticket = world.invites(200, 1_000);
    let request = ticket.request(key().device(), "Ana".into());
    let (bytes, mut rng) = (encode(&request), Rng(26));
    let mut decoded_count = 0;
    for _ in 0..10_000 {
        let Ok(decoded) = decode::<JoinRequest>(&rng.mutate(&bytes), FRAME_MAX) else { continue };
        decoded_count += 1;
        let verdict = decide(world.state(), world.id_of(0), common::NOW, Intent::Admit(decoded.clone()));
        assert_eq!(verdict.is_ok(), decoded == request);
    }
    assert!(decoded_count > 1_000, "the mutants reach the proof: {decoded_count}");
}
