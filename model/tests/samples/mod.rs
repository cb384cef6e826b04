//! One of everything: every kind of event with contents that fill its fields,
//! named by a match that stops compiling when a kind is added.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod charter;
mod names;
mod others;
mod parts;

use std::cell::Cell;
use std::collections::BTreeSet;

use exo_model::certificate::{DeviceCertificate, DeviceClaims, Enroller};
use exo_model::event::Event;
use exo_model::feed::{Change, FeedId, Stream};
use exo_model::invite::{Contact, Ticket};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::{Entropy, Signer as _};
use exo_model::sealing::{SealContext, SealedFor, SealedKey, SealingKey};
use exo_model::signature::{SecretKey, Signature};
use exo_model::{ChangeHash, CommunityId, PersonId};

pub(crate) use charter::{fence, proofs};
pub(crate) use names::{FAMILIES, PARTS, name_of};
pub(crate) use others::listed;
pub(crate) use parts::every_part;

/// Wall time of every sample, ms since the Unix epoch.
pub(crate) const NOW: i64 = 1_790_000_000_000;
/// The community that samples are of.
pub(crate) const COMMUNITY: CommunityId = CommunityId::from_bytes([0xc0; 32]);

/// Every kind of event, family by family, in the order of their numbers.
pub(crate) fn every_event() -> Vec<Event> {
    [charter::events(), others::events()].concat()
}

/// The stream an event belongs in.
pub(crate) fn home(event: &Event) -> Stream {
    let talk = Stream::Channel(exo_model::ChannelId::from_bytes([0xc4; 16]));
    let board = Stream::Board(exo_model::id::BoardId::from_bytes([0xb0; 16]));
    [
        Stream::Keys,
        Stream::Charter,
        Stream::Ledger,
        Stream::Cluster,
        Stream::Library,
        Stream::Moderation,
        board,
        talk,
        Stream::Private,
    ]
    .into_iter()
    .find(|stream| event.belongs_in(stream))
    .expect("every event has a stream")
}

/// The author of sample feeds.
pub(crate) fn author() -> SecretKey {
    SecretKey::from_bytes(&[5; 32])
}

/// A feed of the sample author.
pub(crate) fn feed(stream: Stream) -> FeedId {
    FeedId::new(COMMUNITY, author().device(), stream)
}

/// A change that carries `payload`.
pub(crate) fn change(time_ms: i64, payload: &[u8]) -> Change {
    Change { time_ms, payload: payload.to_vec() }
}

pub(crate) const fn hash(byte: u8) -> ChangeHash {
    ChangeHash::from_bytes([byte; 32])
}

pub(crate) const fn person(byte: u8) -> PersonId {
    PersonId::from_bytes([byte; 32])
}

pub(crate) const fn signature(byte: u8) -> Signature {
    Signature::from_bytes([byte; 64])
}

/// A certificate signed by its person's phrase.
pub(crate) fn certificate() -> DeviceCertificate {
    let phrase = RecoveryPhrase::from_entropy(&[4; 32]);
    let claims = DeviceClaims {
        person: phrase.person(),
        recovery: phrase.recovery_key().public(),
        device: author().device(),
        sealing: SealingKey::of_device(&author()).public(),
        name: "desk".into(),
        serial: 1,
    };
    let acceptance = claims.accept(Enroller::Phrase, &author());
    DeviceCertificate::sign_with_phrase(claims, acceptance, &phrase).expect("one's own phrase")
}

/// The certificate of a second device, signed by the first.
pub(crate) fn second_certificate() -> DeviceCertificate {
    let (first, second) = (certificate().claims, SecretKey::from_bytes(&[6; 32]));
    let claims = DeviceClaims {
        device: second.device(),
        sealing: SealingKey::of_device(&second).public(),
        name: "pocket".into(),
        serial: 2,
        ..first.clone()
    };
    let acceptance = claims.accept(Enroller::Device(first.device), &second);
    DeviceCertificate::sign_with_device(claims, acceptance, &author(), &first).expect("enrolled before")
}

/// An invite with one contact.
pub(crate) fn ticket() -> Ticket {
    let addresses = vec!["127.0.0.1:4000".into(), "[::1]:4000".into()];
    let contact = Contact { device: author().device(), addresses };
    Ticket::new(COMMUNITY, "Garden".into(), &SecretKey::from_bytes(&[9; 32]), NOW, vec![contact])
}

pub(crate) fn sealed_key() -> SealedKey {
    SealedKey {
        recipient: SealingKey::from_bytes(&[8; 32]).public(),
        enc: [0xe0; 32],
        ciphertext: [0xe1; 48],
    }
}

/// A few words for two recipients. What they are sealed with is counted, so
/// that the bytes are the same every time.
pub(crate) fn sealed_for() -> SealedFor {
    let recipients: BTreeSet<_> =
        [7, 8].map(|byte| SealingKey::from_bytes(&[byte; 32]).public()).into_iter().collect();
    let context = SealContext { community: COMMUNITY, audience: b"sample" };
    SealedFor::seal(b"what happened", &recipients, &context, &Counter(Cell::new(1))).expect("usable keys")
}

/// Bytes that count up.
struct Counter(Cell<u8>);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.replace(self.0.get().wrapping_add(1));
        }
    }
}

// SAFETY: made, used and dropped within one call, in one thread.
unsafe impl Sync for Counter {}
