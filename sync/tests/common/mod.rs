//! What the tests of `exo-sync` share: seeded randomness, authors who sign
//! where they like, and replicas in folders of their own. Each test file uses
//! a part of it.
#![allow(dead_code, reason = "compiled into every test file, each uses a part")]

pub(crate) mod home;
/// Whole members in memory, whose programs are not ours: they can be made to
/// write anything.
#[allow(unreachable_pub, reason = "shared with the tests of the model")]
#[path = "../../../model/tests/home/mod.rs"]
pub(crate) mod insider;
pub(crate) mod net;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use exo_model::certificate::DeviceCertificate;
use exo_model::codec;
use exo_model::decide::Intent;
use exo_model::envelope::{ENVELOPE_VERSION, Envelope};
use exo_model::feed::{Change, FeedId, FeedPosition, Run, chunk};
use exo_model::id::{ChangeHash, ChannelId, CommunityId, DeviceId, PersonId};
use exo_model::port::{Clock, Signer};
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_sync::replica::{Ingested, ReplicaConfig, ReplicaError};
use exo_sync::session::LineRun;

pub(crate) use home::Home;
use insider::{Person, Seeded};

/// Wall time of every story, ms since the Unix epoch.
pub(crate) const NOW: i64 = 1_790_000_000_000;
/// Longest wait for anything; nothing should take a tenth of it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// SplitMix64: small, seeded, good enough to choose with.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// The key number `n`.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32])
}

/// The device with key number `n`.
pub(crate) fn device(n: u8) -> DeviceId {
    key(n).device()
}

/// The person whose first device has key number `n`.
pub(crate) fn person(n: u8) -> PersonId {
    Person::new(n).id()
}

/// Device number `n`, certified by person number `n`.
pub(crate) fn certificate(n: u8) -> DeviceCertificate {
    Person::new(n).certify(&key(n), 1)
}

/// What a replica of device `seed` is opened with. Its randomness goes on after
/// a restart: `start` tells the openings apart.
pub(crate) fn config(seed: u8, community: CommunityId, path: PathBuf, start: u64) -> ReplicaConfig {
    ReplicaConfig {
        path,
        community,
        signer: Arc::new(key(seed)),
        sealing: SealingKey::of_device(&key(seed)),
        clock: Arc::new(TestClock::default()),
        entropy: Arc::new(Seeded::new(u64::from(seed) << 32 | start)),
        view_cursors: Vec::new(),
    }
}

/// A clock that tests set.
pub(crate) struct TestClock(AtomicI64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicI64::new(NOW))
    }
}

impl TestClock {
    pub(crate) fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A change that is authentic in any stream and means nothing: it names no key.
pub(crate) fn message(lamport: u64, text: &str) -> Change {
    citing(lamport, text, Vec::new())
}

/// The same, written under these heads of the charter.
pub(crate) fn citing(lamport: u64, text: &str, heads: Vec<ChangeHash>) -> Change {
    let body = text.as_bytes().to_vec();
    let heads = Some(heads);
    let envelope = Envelope { version: ENVELOPE_VERSION, lamport, body, heads, key: None, previous: None };
    Change { time_ms: NOW, payload: codec::encode(&envelope) }
}

/// An author outside any store, who signs runs of any length and can fork.
#[derive(Clone)]
pub(crate) struct Author {
    seed: u8,
    ends: BTreeMap<FeedId, FeedPosition>,
}

impl Author {
    pub(crate) fn new(seed: u8) -> Self {
        Self { seed, ends: BTreeMap::new() }
    }

    /// One who goes on from a place of a feed.
    pub(crate) fn at(seed: u8, feed: FeedId, end: FeedPosition) -> Self {
        Self { seed, ends: BTreeMap::from([(feed, end)]) }
    }

    /// The next changes of `feed`, signed once, over the last.
    pub(crate) fn run(&mut self, feed: FeedId, changes: Vec<Change>) -> Run {
        let end = self.ends.entry(feed).or_insert(FeedPosition::START);
        let first_seq = end.seq + 1;
        for change in &changes {
            *end = FeedPosition { seq: end.seq + 1, hash: chunk::change_hash(&feed.device, end, change) };
        }
        let signature = key(self.seed).sign(&feed.signed_message(end));
        Run { feed, first_seq, changes, signature }
    }

    /// Where its feed ends.
    pub(crate) fn end_of(&self, feed: &FeedId) -> FeedPosition {
        self.ends.get(feed).copied().unwrap_or(FeedPosition::START)
    }

    /// The same with the change it follows, as it travels.
    pub(crate) fn line_run(&mut self, feed: FeedId, changes: Vec<Change>) -> LineRun {
        let after = self.end_of(&feed).hash;
        LineRun { after, run: self.run(feed, changes) }
    }

    /// `count` messages from `first` on in one run.
    pub(crate) fn messages(&mut self, feed: FeedId, first: usize, count: usize) -> Run {
        self.run(feed, Self::words(first, count))
    }

    /// The same with the change it follows.
    pub(crate) fn line_messages(&mut self, feed: FeedId, first: usize, count: usize) -> LineRun {
        self.line_run(feed, Self::words(first, count))
    }

    fn words(first: usize, count: usize) -> Vec<Change> {
        (first..first + count).map(|n| message(100 + n as u64, &format!("message {n}"))).collect()
    }
}

/// Words without anything else.
pub(crate) fn posting(channel: ChannelId, text: &str) -> Intent {
    Intent::Post {
        channel,
        text: text.to_owned(),
        reply_to: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    }
}

/// What an ingestion was refused for.
pub(crate) fn rejection(result: Result<Ingested, ReplicaError>) -> exo_model::feed::Rejection {
    match result {
        Err(ReplicaError::Rejected(rejection)) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

/// Waits until `check` holds.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let waiting = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// Ends `future` with a panic rather than with a hanging test.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}
