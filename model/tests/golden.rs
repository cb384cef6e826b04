//! What must not change: an encoded example of every kind of event, of every
//! variant inside one, and of the envelope.
//!
//! A line is a name and the bytes in hexadecimal. The samples are written in
//! source, so a number given to another field is noticed even where both forms
//! decode. A kind without a line fails; so does a line without a kind.

mod samples;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use exo_model::amount::Amount;
use exo_model::board::BoardContents;
use exo_model::board::contents::board_id;
use exo_model::codec::encode;
use exo_model::conversation::direct_id;
use exo_model::envelope::{ENVELOPE_VERSION, Envelope, EnvelopeError, SegmentEnd, sealed_context};
use exo_model::export::Exporter;
use exo_model::feed::{FeedPosition, Stream, author as author_run};
use exo_model::id::KeyId;
use exo_model::ledger::Voucher;
use exo_model::port::Signer as _;
use exo_model::profile::{PROFILE_PREFIX, PublicProfile};
use exo_model::{CommunityState, Event};
use samples::{
    COMMUNITY, FAMILIES, NOW, PARTS, author, certificate, change, every_event, every_part, feed, hash,
    name_of, person, signature, ticket,
};

macro_rules! files {
    ($($family:literal => $file:literal),* $(,)?) => {
        /// The golden lines of a family of events.
        fn file(family: &str) -> &'static str {
            match family {
                $($family => include_str!(concat!("golden/", $file, ".hex")),)*
                other => panic!("{other} has no golden file"),
            }
        }
    };
}

files!(
    "CharterEvent" => "charter",
    "DisputeEvent" => "dispute",
    "LedgerEvent" => "ledger",
    "ClusterEvent" => "cluster",
    "LibraryEvent" => "library",
    "TalkEvent" => "talk",
    "BoardEvent" => "board",
    "KeyEvent" => "keys",
    "ModerationEvent" => "moderation",
    "PrivateEvent" => "private",
    "parts" => "parts",
    "envelope" => "envelope",
    "outside" => "outside",
);

fn golden(family: &str) -> BTreeMap<&'static str, Vec<u8>> {
    let lines = file(family).lines().map(|line| {
        let (name, hex) = line.split_once(' ').expect("a name and hexadecimal digits");
        (name, HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal"))
    });
    let golden: BTreeMap<_, _> = lines.collect();
    assert_eq!(golden.len(), file(family).lines().count(), "{family}: one line for each name");
    golden
}

/// Holds samples to their golden lines; says which lines are missing.
fn hold(family: &str, samples: &BTreeMap<String, Vec<u8>>) {
    let golden = golden(family);
    let mut missing = String::new();
    for (name, bytes) in samples {
        match golden.get(name.as_str()) {
            Some(golden) => assert!(golden == bytes, "{family}: {name} is {}", HEXLOWER.encode(bytes)),
            None => writeln!(missing, "{name} {}", HEXLOWER.encode(bytes)).expect("into memory"),
        }
    }
    assert!(missing.is_empty(), "{family} lacks:\n{missing}");
    let gone: Vec<_> = golden.keys().filter(|name| !samples.contains_key(**name)).collect();
    assert!(gone.is_empty(), "{family}: no sample for {gone:?}");
}

#[test]
fn every_kind_of_event_keeps_its_bytes() {
    let mut families: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for event in every_event() {
        let (family, name) = name_of(&event);
        let twice = families.entry(family).or_default().insert(name.to_owned(), encode(&event));
        assert!(twice.is_none(), "{family}: two samples of {name}");
    }
    assert_eq!(families.len(), FAMILIES.len());
    for (family, kinds) in FAMILIES {
        // The step of a dispute stands for the act that carries it.
        for kind in kinds.iter().filter(|kind| **kind != "Dispute") {
            assert!(families[family].contains_key(*kind), "{family}: no sample of {kind}");
        }
        hold(family, &families[family]);
    }
}

#[test]
fn every_golden_event_decodes_to_its_kind_and_encodes_again() {
    let samples: BTreeMap<_, _> = every_event().into_iter().map(|event| (name_of(&event), event)).collect();
    for (family, _) in FAMILIES {
        for (name, bytes) in golden(family) {
            let event = Event::decode(&bytes).unwrap_or_else(|error| panic!("{family} {name}: {error}"));
            assert_eq!(name_of(&event), (family, name));
            assert_eq!(event, samples[&(family, name)], "{name}: every field means what it meant");
            assert!(encode(&event) == bytes, "{name}");
        }
    }
}

#[test]
fn every_variant_inside_events_keeps_its_bytes() {
    let parts: BTreeMap<_, _> =
        every_part().into_iter().map(|(family, name, bytes)| (format!("{family}.{name}"), bytes)).collect();
    for (family, variants) in PARTS {
        for variant in variants {
            assert!(parts.contains_key(&format!("{family}.{variant}")), "{family}: no sample of {variant}");
        }
    }
    hold("parts", &parts);
}

/// As an owner's device signs it, read as strangers read it.
fn public_profile() -> Vec<u8> {
    let said = ("Garden", "Plants and machines.", "Be kind.");
    let message = encode(&("exo/profile/1", COMMUNITY, said.0, said.1, said.2, NOW));
    let signature = author().sign(&message);
    let bytes = encode(&(COMMUNITY, said.0, said.1, said.2, author().device(), NOW, signature));
    let text = format!("{PROFILE_PREFIX}{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase());
    let profile: PublicProfile = text.parse().expect("what was signed");
    assert_eq!(profile.to_string(), text);
    bytes
}

/// What leaves a community or names something in it: signatures, tickets, ids
/// that follow from what they name, a whole export.
#[test]
fn what_is_signed_named_and_exported_keeps_its_bytes() {
    let position = FeedPosition { seq: 7, hash: hash(7) };
    let people = [person(1), person(2)].into();
    let contents =
        BoardContents { texts: [("notes".to_owned(), "Water.".to_owned())].into(), ..Default::default() };
    let voucher =
        Voucher::sign(&author(), &COMMUNITY, hash(1), &author().device(), Amount::from_token_mib(600));
    let run = author_run(&author(), feed(Stream::Ledger), &FeedPosition::START, change(NOW, b"sealed"));
    let (mut exporter, mut export) = Exporter::new(COMMUNITY);
    export.extend(exporter.segment(&run).expect("in order"));
    export.extend(exporter.finish());
    let samples: BTreeMap<_, Vec<u8>> = [
        ("signed_change", feed(Stream::Charter).with_segment(3).signed_message(&position)),
        ("run", encode(&run)),
        ("voucher", encode(&voucher)),
        ("ticket", ticket().to_string().into_bytes()),
        ("join_request", encode(&ticket().request(certificate(), "Ana".into()))),
        ("public_profile", public_profile()),
        ("direct_id", direct_id(&COMMUNITY, &people).as_bytes().to_vec()),
        ("board_id", board_id(COMMUNITY, author().device(), &contents).as_bytes().to_vec()),
        ("export", export),
        ("empty_state_hash", CommunityState::empty(COMMUNITY).hash().to_vec()),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .collect();
    hold("outside", &samples);
}

/// The three forms an envelope takes: first of a feed, following with what is
/// inherited left out, first of a later segment.
fn envelopes() -> [(&'static str, Envelope); 3] {
    let first = Envelope {
        version: ENVELOPE_VERSION,
        lamport: 300,
        body: b"sealed".to_vec(),
        heads: Some(vec![hash(1), hash(2)]),
        key: Some(KeyId::from_bytes([0x4e; 16])),
        previous: None,
    };
    let following = Envelope { lamport: 301, heads: None, key: None, ..first.clone() };
    let end = FeedPosition { seq: 4_096, hash: hash(3) };
    let previous = Some(SegmentEnd { end, signature: signature(0x51) });
    let later = Envelope { lamport: 302, previous, ..first.clone() };
    [("first", first), ("following", following), ("later_segment", later)]
}

#[test]
fn envelopes_keep_their_bytes_and_what_is_signed_and_sealed_keeps_its_context() {
    let mut samples: BTreeMap<_, _> =
        envelopes().into_iter().map(|(name, envelope)| (name.to_owned(), envelope.encode())).collect();
    for (name, envelope) in envelopes() {
        assert_eq!(Envelope::decode(&samples[name]), Ok(envelope), "{name}");
    }
    let feed = feed(Stream::Charter).with_segment(2);
    let position = FeedPosition { seq: 7, hash: hash(4) };
    samples.insert("signed_message".into(), feed.signed_message(&position));
    let key = Some(KeyId::from_bytes([0x4e; 16]));
    let stated = sealed_context(&feed, 7, 300, Some(&[hash(1), hash(2)]), key);
    samples.insert("sealed_context".into(), stated);
    samples.insert("sealed_context_inherited".into(), sealed_context(&feed, 8, 301, None, key));
    hold("envelope", &samples);
}

#[test]
fn other_versions_of_the_envelope_are_refused_by_their_number() {
    for (name, envelope) in envelopes() {
        for version in [0, 2, 23, 24, u8::MAX] {
            let other = Envelope { version, ..envelope.clone() }.encode();
            assert_eq!(Envelope::decode(&other), Err(EnvelopeError::Version(version.into())), "{name}");
        }
    }
    // A later version need not have this one's fields.
    let strange = [0x83, 0x02, 0xf6, 0xa0];
    assert_eq!(Envelope::decode(&strange), Err(EnvelopeError::Version(2)));
}
