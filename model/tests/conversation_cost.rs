//! What a large conversation costs. Memory is held to a limit; times are only
//! printed:
//!
//!     cargo test -p exo-model --test conversation_cost -- --ignored --nocapture

#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod seeded;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use exo_model::conversation::{Conversation, Place, Spoken};
use exo_model::event::TalkEvent;
use exo_model::{ChannelId, CommunityId, DeviceId};

use seeded::{Rng, hash, person};

const MESSAGES: u64 = 100_000;

/// The system's allocator, which counts what the thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: i64) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    // A thread that ends may still free: nobody asks for its count any more.
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(sign * bytes)));
}

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are those that the system's allocator asks.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A busy channel: sixty bytes a message, every fifth an answer, every tenth
/// with a mention, every twentieth with a reaction.
fn history(with_facts: bool) -> Vec<(Spoken, TalkEvent)> {
    let mut rng = Rng(1);
    let mut out = Vec::new();
    for n in 1..=MESSAGES {
        let author = u8::try_from(rng.below(40)).expect("small");
        let device = DeviceId::from_bytes([author; 32]);
        let time_ms = 1_790_000_000_000 + i64::try_from(n).expect("small") * 7_000;
        let spoken = |id, lamport| Spoken { id: hash(id), author: person(author), device, lamport, time_ms };
        let post = TalkEvent::Posted {
            text: format!("{n:07} words as people write them to each other, sixty"),
            reply_to: (with_facts && n > 10 && rng.one_in(5)).then(|| hash(n - 1 - rng.next() % 9)),
            mentions: if with_facts && rng.one_in(10) { vec![person(3)] } else { Vec::new() },
            attachments: Vec::new(),
        };
        out.push((spoken(n, 2 * n), post));
        if with_facts && rng.one_in(20) {
            let reaction = TalkEvent::Reacted { message: hash(n), reaction: "👍".to_owned(), on: true };
            out.push((spoken(n + MESSAGES, 2 * n + 1), reaction));
        }
    }
    out
}

fn fed(history: &[(Spoken, TalkEvent)]) -> Conversation {
    let place = Place::Channel(ChannelId::from_bytes([1; 16]));
    let mut conversation = Conversation::new(CommunityId::from_bytes([1; 32]), place);
    for batch in history.chunks(256) {
        assert!(conversation.insert_all(batch).deferred.is_empty());
    }
    conversation
}

fn bytes_per_message(history: &[(Spoken, TalkEvent)]) -> i64 {
    let before = HELD.get();
    let conversation = fed(history);
    let held = HELD.get() - before;
    assert_eq!(conversation.len() as u64, MESSAGES);
    held / i64::try_from(MESSAGES).expect("small")
}

#[test]
fn a_message_costs_at_most_300_bytes() {
    let plain = bytes_per_message(&history(false));
    assert!((100..=300).contains(&plain), "{plain} bytes a message");
    let busy = bytes_per_message(&history(true));
    assert!((plain..=400).contains(&busy), "{busy} bytes a message");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let out = work();
    (out, start.elapsed())
}

#[test]
#[ignore = "prints figures; see the head of this file"]
#[allow(clippy::print_stdout, reason = "its purpose")]
fn print_figures() {
    for with_facts in [false, true] {
        let mut history = history(with_facts);
        println!("facts: {}, bytes a message: {}", history.len(), bytes_per_message(&history));
        let rate =
            |taken: Duration, len: usize| f64::from(u32::try_from(len).expect("small")) / taken.as_secs_f64();
        let (conversation, taken) = timed(|| fed(&history));
        println!("  in order: {:.0} facts/s", rate(taken, history.len()));
        let (bytes, taken) = timed(|| conversation.encode());
        println!("  encoded: {} bytes in {taken:?}", bytes.len());
        let (read, taken) = timed(|| Conversation::decode(&bytes));
        println!("  decoded in {taken:?}");
        assert_eq!(read.as_ref(), Ok(&conversation));
        let (page, taken) = timed(|| conversation.page_before(None, 50).len());
        println!("  a page of {page}: {taken:?}");
        let (unread, taken) = timed(|| conversation.unread(&person(3), MESSAGES));
        println!("  unread {unread:?}: {taken:?}");
        Rng(2).shuffle(&mut history);
        history.sort_by_key(|(_, event)| !matches!(event, TalkEvent::Posted { .. }));
        let (shuffled, taken) = timed(|| fed(&history));
        println!("  in any order: {:.0} facts/s", rate(taken, history.len()));
        assert_eq!(shuffled, conversation);
    }
}
