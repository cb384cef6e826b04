//! Small inputs that claim to be large: nothing is allocated on a claim.

#[allow(dead_code, reason = "each test binary uses its part")]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use common::{change, every_kind};
use exo_model::codec::{decode, encode};
use exo_model::envelope::Envelope;
use exo_model::feed::{FeedPosition, Run, author};
use exo_model::invite::{Contact, JoinRequest, Ticket};
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use exo_model::{CommunityId, Event, FeedId, Stream};
use minicbor::{Decode, Encode};

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
fn frugal<T: for<'b> Decode<'b, ()> + Encode<()>>(what: &str, bytes: &[u8]) -> bool {
    let (decoded, allocated) = allocated_by(|| decode::<T>(bytes, 1 << 20).is_ok());
    assert!(allocated <= 128 * bytes.len() + 4_096, "{what}: {allocated} bytes for {}", bytes.len());
    decoded
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
fn bombard<T: for<'b> Decode<'b, ()> + Encode<()>>(what: &str, bytes: &[u8]) {
    for claim in claims() {
        for at in 0..bytes.len() {
            let bomb = [&bytes[..at], &claim, &bytes[at + 1..]].concat();
            frugal::<T>(what, &bomb);
        }
    }
}

fn run() -> Run {
    let key = SecretKey::from_bytes(&[5; 32]);
    let feed = FeedId::new(CommunityId::from_bytes([1; 32]), key.device(), Stream::Charter);
    let mut run = author(&key, feed, &FeedPosition::START, change(1, b"first"));
    run.changes.push(change(2, b"second"));
    run
}

fn ticket() -> Ticket {
    let secret = SecretKey::from_bytes(&[9; 32]);
    let contact = Contact { device: secret.device(), addresses: vec!["127.0.0.1:9".into()] };
    Ticket::new(CommunityId::from_bytes([1; 32]), "Garden".into(), &secret, 1, vec![contact])
}

#[test]
fn n07_claimed_lengths_allocate_nothing() {
    let started = Instant::now();
    bombard::<Run>("run", &encode(&run()));
    bombard::<Ticket>("ticket", &encode(&ticket()));
    bombard::<JoinRequest>("join", &encode(&ticket().request(ticket().contacts[0].device, "Ana".into())));
    for event in every_kind() {
        bombard::<Event>("event", &encode(&event));
        bombard::<Envelope>("envelope", &Envelope::new(1, &event).encode());
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn n07_a_run_of_claimed_changes_fails_where_its_bytes_end() {
    let bytes = encode(&run());
    // array(4), array(4) community device stream segment, seq, array(2) …
    let changes = encode(&run().changes);
    let at = bytes.windows(changes.len()).position(|window| window == changes).expect("inside");
    for claim in claims() {
        let bomb = [&bytes[..at], &claim, &changes[1..]].concat();
        assert!(!frugal::<Run>("run", &bomb));
    }
}

/// Extra fields are skipped; what hides in them must cost neither stack nor
/// more than linear time.
#[test]
fn nested_unknown_fields_cost_neither_stack_nor_time() {
    let base = encode(&Event::Closed { lock: exo_model::ChangeHash::from_bytes([1; 32]) });
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
        let started = Instant::now();
        frugal::<Event>("nest", &bomb);
        bomb.push(0x00);
        bomb.resize(32_700, 0xff);
        frugal::<Event>("closed nest", &bomb);
        assert!(started.elapsed() < Duration::from_millis(500), "{nest:x?}: {:?}", started.elapsed());
    }
}
