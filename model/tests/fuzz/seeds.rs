//! Honest encodings, for mutants to start from.

use std::collections::BTreeSet;

use exo_model::certificate::DeviceCertificate;
use exo_model::codec::encode;
use exo_model::community::snapshot::SNAPSHOT_VERSION;
use exo_model::conversation::{Conversation, Place, Spoken};
use exo_model::envelope::{ENVELOPE_VERSION, Envelope, SegmentEnd};
use exo_model::event::{BoardEvent, Event, TalkEvent};
use exo_model::export::Exporter;
use exo_model::feed::{Change, FeedId, FeedPosition, Run, Stream, chunk};
use exo_model::id::{ChangeHash, ChannelId, KeyId};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Signer as _;
use exo_model::private::{PrivateState, Written};
use exo_model::roll::{KeeperAnchor, Listing};

use crate::samples::{
    COMMUNITY, NOW, author, certificate, change, every_event, feed, hash, home, listed, person, proofs,
    sealed_for, sealed_key, second_certificate, signature, ticket,
};

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "run" => runs().iter().map(encode).collect(),
        "envelope" => envelopes(),
        "event" => every_event().iter().map(encode).collect(),
        "ticket" => vec![ticket().to_string().into_bytes()],
        "ticket_contents" => vec![encode(&ticket())],
        "join_request" => vec![encode(&ticket().request(certificate(), "Ana".into()))],
        "certificate" => {
            [certificate(), second_certificate()].iter().map(encode::<DeviceCertificate>).collect()
        }
        "sealed_key" => vec![encode(&sealed_key())],
        "sealed_for" => vec![encode(&sealed_for())],
        "board_edit" | "board_contents" => board(target),
        "import" => vec![export()],
        "import_frames" => vec![frames()],
        "conversation" => vec![conversation().encode()],
        "private_state" => vec![private_state().encode()],
        "public_profile" => vec![public_profile()],
        "community_snapshot" => vec![community_snapshot()],
        "phrase" => vec![RecoveryPhrase::from_entropy(&[4; 32]).words().join(" ").into_bytes()],
        "equivocation_proof" => proofs().iter().map(encode).collect(),
        "keeper_anchor" => [None, Some(hash(1))].map(|first| anchor(first).encode()).into(),
        other => panic!("{other} has no seeds"),
    }
}

fn anchor(first: Option<ChangeHash>) -> KeeperAnchor {
    KeeperAnchor::new(COMMUNITY, Listing::read(&listed()).expect("in order"), first)
}

fn signed(feed: FeedId, changes: Vec<Change>) -> Run {
    let end = changes.iter().fold(FeedPosition::START, |end, change| FeedPosition {
        seq: end.seq + 1,
        hash: chunk::change_hash(&feed.device, &end, change),
    });
    Run { feed, first_seq: 1, changes, signature: author().sign(&feed.signed_message(&end)) }
}

/// A run in each kind of stream.
fn runs() -> Vec<Run> {
    let streams: BTreeSet<Stream> = every_event().iter().map(home).collect();
    let changes = || [b"one".as_slice(), b"two", b"three"].map(|event| change(NOW, event)).into();
    streams.into_iter().map(|stream| signed(feed(stream), changes())).collect()
}

fn envelopes() -> Vec<Vec<u8>> {
    let previous = SegmentEnd { end: FeedPosition { seq: 4_096, hash: hash(3) }, signature: signature(0x51) };
    let bare = |event: &Event| Envelope {
        version: ENVELOPE_VERSION,
        lamport: 300,
        body: encode(event),
        heads: None,
        key: None,
        previous: None,
    };
    let full = |event: &Event| Envelope {
        heads: Some(vec![hash(1), hash(2)]),
        key: Some(KeyId::from_bytes([0x4e; 16])),
        previous: Some(previous),
        ..bare(event)
    };
    every_event().iter().flat_map(|event| [bare(event).encode(), full(event).encode()]).collect()
}

fn board(target: &str) -> Vec<Vec<u8>> {
    let boards = every_event().into_iter().filter_map(|event| match event {
        Event::Board(BoardEvent::Started { contents }) if target == "board_contents" => {
            Some(encode(&contents))
        }
        Event::Board(BoardEvent::Edited { edit }) if target == "board_edit" => Some(encode(&edit)),
        _ => None,
    });
    boards.collect()
}

fn export() -> Vec<u8> {
    let (mut exporter, mut bytes) = Exporter::new(COMMUNITY);
    for run in runs() {
        bytes.extend(exporter.segment(&run).expect("in order"));
    }
    bytes.extend(exporter.finish());
    bytes
}

/// An export without what stands before and after its frames.
fn frames() -> Vec<u8> {
    let export = export();
    export[8 + 1 + 32..export.len() - 32 - 4].to_vec()
}

/// A conversation in which everything that can be said was said.
fn conversation() -> Conversation {
    let mut conversation = Conversation::new(COMMUNITY, Place::Channel(ChannelId::from_bytes([0xc4; 16])));
    let spoken = |number: u8, lamport| Spoken {
        id: hash(number),
        author: person(1),
        device: author().device(),
        lamport,
        time_ms: NOW,
    };
    let words = every_event().into_iter().filter_map(|event| match event {
        Event::Talk(event) => Some(event),
        _ => None,
    });
    for (number, event) in (1..).zip(words) {
        // What answers the first message, and what answers one that is not here.
        conversation.insert(&spoken(number, number.into()), &event);
    }
    let waiting = TalkEvent::Edited { message: hash(0x77), text: "later".into() };
    conversation.insert(&spoken(0x60, 90), &waiting);
    let second = TalkEvent::Posted {
        text: "Water them.".into(),
        reply_to: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    };
    conversation.insert(&spoken(0x61, 91), &second);
    conversation.mark_forked(hash(0x61));
    assert!(conversation.len() > 1);
    conversation
}

/// A profile as an owner's device signs it.
pub(crate) fn public_profile() -> Vec<u8> {
    let said = ("Garden", "Plants and machines.", "Be kind.");
    let message = encode(&("exo/profile/1", COMMUNITY, said.0, said.1, said.2, NOW));
    let signature = author().sign(&message);
    encode(&(COMMUNITY, said.0, said.1, said.2, author().device(), NOW, signature))
}

/// Two feeds of words, of which one could not be read in full.
fn community_snapshot() -> Vec<u8> {
    let remembered = |n: u8, lacking: Vec<KeyId>| {
        let feed = feed(Stream::Channel(ChannelId::from_bytes([n; 16])));
        let at = FeedPosition { seq: 3, hash: hash(n) };
        (feed, at, vec![hash(1), hash(2)], Some(KeyId::from_bytes([n; 16])), lacking)
    };
    let feeds = [remembered(4, Vec::new()), remembered(5, vec![KeyId::from_bytes([6; 16])])];
    encode(&(SNAPSHOT_VERSION, COMMUNITY, 70_u64, feeds))
}

fn private_state() -> PrivateState {
    let mut state = PrivateState::default();
    for (number, event) in (1_u8..).zip(every_event()) {
        if let Event::Private(event) = event {
            state.insert(&Written { id: hash(number), lamport: number.into(), time_ms: NOW }, &event);
        }
    }
    state
}
