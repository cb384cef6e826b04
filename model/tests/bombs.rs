//! Small inputs that claim to be large: nothing is allocated on a claim.

mod samples;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use exo_model::certificate::DeviceCertificate;
use exo_model::codec::{decode, encode};
use exo_model::conversation::Conversation;
use exo_model::envelope::{ENVELOPE_VERSION, Envelope};
use exo_model::event::Event;
use exo_model::export::{FRAME_BYTES_MAX, Importer, MAGIC};
use exo_model::feed::equivocation::EquivocationProof;
use exo_model::feed::{Run, Stream};
use exo_model::id::KeyId;
use exo_model::invite::{JoinRequest, Ticket};
use exo_model::private::PrivateState;
use exo_model::sealing::{SealedFor, SealedKey};
use minicbor::{Decode, Encode};
use samples::{
    NOW, certificate, change, every_event, feed, hash, proofs, sealed_for, sealed_key, signature, ticket,
};

/// Counts, per thread, the bytes that the system allocator hands out.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // Fails only while the thread ends, where nothing is measured.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get().saturating_add(bytes)));
}

// SAFETY: every call is passed on to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes allocated while `work` runs.
fn allocated_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATED.set(0);
    let result = work();
    (result, ALLOCATED.get())
}

/// Decodes, and fails the test if that took more memory than a small multiple
/// of the input.
fn frugal(what: &str, bytes: &[u8], decodes: impl FnOnce(&[u8]) -> bool) -> bool {
    let (decoded, allocated) = allocated_by(|| decodes(bytes));
    assert!(allocated <= 128 * bytes.len() + 4_096, "{what}: {allocated} bytes for {}", bytes.len());
    decoded
}

fn reads<T: for<'b> Decode<'b, ()> + Encode<()>>(bytes: &[u8]) -> bool {
    decode::<T>(bytes, 1 << 20).is_ok()
}

/// CBOR heads of every kind that carries a length, a tag or a number, with a
/// claim of 2^32 − 1, 2^60 and 2^64 − 1, and the indefinite ones.
fn claims() -> Vec<Vec<u8>> {
    let mut claims: Vec<Vec<u8>> = [0x5f, 0x7f, 0x9f, 0xbf].into_iter().map(|head| vec![head]).collect();
    for major in [0x40_u8, 0x60, 0x80, 0xa0, 0xc0, 0x00, 0x20] {
        claims.push([&[major | 26][..], &u32::MAX.to_be_bytes()].concat());
        for count in [1_u64 << 60, u64::MAX] {
            claims.push([&[major | 27][..], &count.to_be_bytes()].concat());
        }
    }
    claims
}

/// Puts every claim in the place of every byte.
fn bombard(what: &str, bytes: &[u8], decodes: impl Fn(&[u8]) -> bool) {
    assert!(frugal(what, bytes, &decodes), "{what} as it is");
    for claim in claims() {
        for at in 0..bytes.len() {
            let bomb = [&bytes[..at], &claim, &bytes[at + 1..]].concat();
            frugal(what, &bomb, &decodes);
        }
    }
}

fn run() -> Run {
    let changes = [b"first".as_slice(), b"second"].map(|event| change(NOW, event)).into();
    Run { feed: feed(Stream::Charter), first_seq: 1, changes, signature: signature(1) }
}

#[test]
fn n07_claimed_lengths_in_what_peers_send_allocate_nothing() {
    bombard("run", &encode(&run()), reads::<Run>);
    bombard("ticket", &encode(&ticket()), reads::<Ticket>);
    let request = ticket().request(certificate(), "Ana".into());
    bombard("join request", &encode(&request), reads::<JoinRequest>);
    bombard("certificate", &encode(&certificate()), reads::<DeviceCertificate>);
    bombard("sealed key", &encode(&sealed_key()), reads::<SealedKey>);
    bombard("sealed words", &encode(&sealed_for()), |bytes| SealedFor::decode(bytes).is_ok());
    for proof in proofs() {
        bombard("proof", &encode(&proof), reads::<EquivocationProof>);
    }
}

#[test]
fn n07_claimed_lengths_in_events_and_envelopes_allocate_nothing() {
    for event in every_event() {
        bombard("event", &encode(&event), |bytes| Event::decode(bytes).is_ok());
    }
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        lamport: 1,
        body: b"sealed".to_vec(),
        heads: Some(vec![hash(1), hash(2)]),
        key: Some(KeyId::from_bytes([1; 16])),
        previous: None,
    };
    bombard("envelope", &envelope.encode(), |bytes| Envelope::decode(bytes).is_ok());
}

#[test]
fn n07_claimed_lengths_in_files_allocate_nothing() {
    let place = exo_model::conversation::Place::Channel(exo_model::ChannelId::from_bytes([1; 16]));
    let empty = Conversation::new(samples::COMMUNITY, place).encode();
    bombard("conversation", &empty, |bytes| Conversation::decode(bytes).is_ok());
    let state = PrivateState::default().encode();
    bombard("private state", &state, |bytes| PrivateState::decode(bytes).is_ok());
    // A frame that claims to be as long as frames may be, or longer.
    for claim in [4, 1 << 20, u32::try_from(FRAME_BYTES_MAX).expect("32 bits"), u32::MAX] {
        let head = [MAGIC.as_slice(), &[1], &[1; 32], &claim.to_be_bytes(), &[0; 4]].concat();
        let export = [head.as_slice(), blake3::hash(&head).as_bytes()].concat();
        let read = |bytes: &[u8]| Importer::new(bytes).is_ok_and(|mut frames| frames.all(|run| run.is_ok()));
        assert!(!frugal("export", &export, read), "{claim}");
    }
}

#[test]
fn n07_a_run_of_claimed_changes_fails_where_its_bytes_end() {
    let bytes = encode(&run());
    let changes = encode(&run().changes);
    let at = bytes.windows(changes.len()).position(|window| window == changes).expect("inside");
    for claim in claims() {
        let bomb = [&bytes[..at], &claim, &changes[1..]].concat();
        assert!(!frugal("run", &bomb, reads::<Run>));
    }
}

/// What hides in fields that nobody knows costs neither stack nor memory.
#[test]
fn nested_unknown_fields_cost_no_stack() {
    let base = encode(&every_event()[2]);
    let fields = base.iter().position(|byte| *byte == 0x81).expect("one field");
    for nest in [
        &[0x81_u8][..],
        &[0x9f],
        &[0x82, 0x9f],
        &[0x82, 0x00],
        &[0xa1, 0x00],
        &[0xbf, 0x00],
        &[0xc1],
        &[0x9f, 0xff],
    ] {
        let mut bomb = base.clone();
        bomb[fields] = 0x82;
        while bomb.len() < 32_000 {
            bomb.extend_from_slice(nest);
        }
        let decodes = |bytes: &[u8]| Event::decode(bytes).is_ok();
        assert!(!frugal("nest", &bomb, decodes));
        bomb.push(0x00);
        bomb.resize(32_700, 0xff);
        assert!(!frugal("closed nest", &bomb, decodes));
    }
}
