//! What the tests of `exo-sync` share: seeded randomness, authors who sign
//! where they like, and replicas in folders of their own. Each test file uses
//! a part of it.
#![allow(dead_code, reason = "compiled into every test file, each uses a part")]

pub(crate) mod net;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use exo_model::amount::Amount;
use exo_model::decide::Intent;
use exo_model::envelope::Envelope;
use exo_model::feed::{Change, FeedId, FeedPosition, Run, Stream, VerifiedEvent, chunk};
use exo_model::id::{ChannelId, CommunityId, DeviceId};
use exo_model::invite::{Contact, Ticket};
use exo_model::port::{Clock, Signer};
use exo_model::signature::SecretKey;
use exo_model::{CommunityState, Event};
use exo_sync::replica::{self, Ingested, Replica, ReplicaConfig};

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

/// A clock that tests set.
pub(crate) struct TestClock(AtomicI64);

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

/// A channel message as a change.
pub(crate) fn message(lamport: u64, text: &str) -> Change {
    let event = Event::MessagePosted { text: text.to_owned() };
    Change { time_ms: NOW, payload: Envelope::new(lamport, &event).encode() }
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

    /// The next changes of `feed`, signed once, over the last.
    pub(crate) fn run(&mut self, feed: FeedId, changes: Vec<Change>) -> Run {
        let end = self.ends.entry(feed).or_insert(FeedPosition::START);
        let first_seq = end.seq + 1;
        for change in &changes {
            *end = FeedPosition { seq: end.seq + 1, hash: chunk::change_hash(&feed.device, end, change) };
        }
        let signature = key(self.seed).sign(&feed.signed_message(&end.hash));
        Run { feed, first_seq, changes, signature }
    }

    /// `count` messages from `first` on in one run.
    pub(crate) fn messages(&mut self, feed: FeedId, first: usize, count: usize) -> Run {
        let changes = (first..first + count).map(|n| message(100 + n as u64, &format!("message {n}")));
        self.run(feed, changes.collect())
    }
}

/// One device's folder with its open replica.
pub(crate) struct Home {
    pub(crate) seed: u8,
    pub(crate) community: CommunityId,
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) replica: Replica,
    pub(crate) seen: Arc<Mutex<Vec<VerifiedEvent>>>,
    pub(crate) thread: JoinHandle<()>,
}

impl Home {
    /// Founds "Garden" as device `seed`.
    pub(crate) fn found(seed: u8) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("store.db");
        let clock = TestClock(AtomicI64::new(NOW));
        let floor = Amount::from_token_mib(-1_000);
        let community = replica::found(&path, &key(seed), &clock, "Ona", "Garden", floor, [seed; 32])
            .expect("a new community");
        Self::open(seed, community, Arc::new(folder), Vec::new())
    }

    /// An empty replica of `community` on device `seed`.
    pub(crate) fn empty(seed: u8, community: CommunityId) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::open(seed, community, Arc::new(folder), Vec::new())
    }

    pub(crate) fn open(
        seed: u8,
        community: CommunityId,
        folder: Arc<tempfile::TempDir>,
        view_cursors: Vec<(FeedId, u64)>,
    ) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(NOW)));
        let config = ReplicaConfig {
            path: folder.path().join("store.db"),
            community,
            signer: Arc::new(key(seed)),
            clock: clock.clone(),
            view_cursors,
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let (replica, thread) =
            Replica::open(config, move |update| sink.lock().expect("no panic").extend(update.events))
                .expect("the store opens");
        Self { seed, community, folder, clock, replica, seen, thread }
    }

    /// Closes and opens again; the views are where they were.
    pub(crate) async fn reopen(self) -> Self {
        let cursors = self.cursors();
        let (seed, community, folder) = (self.seed, self.community, self.folder.clone());
        self.close().await;
        Self::open(seed, community, folder, cursors)
    }

    pub(crate) async fn close(self) {
        self.replica.close().await;
        self.thread.join().expect("the thread ends well");
    }

    /// Up to where the observer was told.
    pub(crate) fn cursors(&self) -> Vec<(FeedId, u64)> {
        let mut last = BTreeMap::new();
        for event in self.seen.lock().expect("no panic").iter() {
            last.insert(event.feed, event.seq);
        }
        last.into_iter().collect()
    }

    pub(crate) fn device(&self) -> DeviceId {
        device(self.seed)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub(crate) fn state(&self) -> Arc<CommunityState> {
        self.replica.state()
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.replica.snapshot().digest
    }

    pub(crate) fn channel(&self) -> ChannelId {
        *self.state().channels.keys().next().expect("the channel \"general\"")
    }

    /// `author`'s feed of messages.
    pub(crate) fn messages_of(&self, author: DeviceId) -> FeedId {
        FeedId::new(self.community, author, Stream::Channel(self.channel()))
    }

    pub(crate) async fn post(&self, text: &str) {
        let intent = Intent::Post { channel: self.channel(), text: text.to_owned() };
        self.replica.record(intent).await.expect("a member may write");
    }

    /// Issues an invite and makes its ticket.
    pub(crate) async fn invite(&self, uses: u32, expires_ms: i64, contacts: Vec<Contact>) -> Ticket {
        static INVITES: AtomicI64 = AtomicI64::new(1);
        let mut seed = [0xa5; 32];
        seed[..8].copy_from_slice(&INVITES.fetch_add(1, Ordering::SeqCst).to_le_bytes());
        let secret = SecretKey::from_bytes(&seed);
        let ticket = Ticket::new(self.community, "Garden".into(), &secret, expires_ms, contacts);
        let intent = Intent::IssueInvite { key: ticket.key(), uses, expires_ms };
        self.replica.record(intent).await.expect("the owner may invite");
        ticket
    }

    /// Admits device `seed` without any network.
    pub(crate) async fn admit(&self, seed: u8) -> DeviceId {
        let ticket = self.invite(1, NOW + 1_000, Vec::new()).await;
        let request = ticket.request(device(seed), format!("Member {seed}"));
        self.replica.record(Intent::Admit(request)).await.expect("the invite is fresh");
        device(seed)
    }

    /// Takes everything that `other` has, as long as that brings something.
    pub(crate) async fn pull(&self, other: &Self) {
        loop {
            let mut stored = false;
            for (feed, end) in other.replica.positions().await.expect("positions") {
                let mut after = 0;
                while after < end.seq {
                    let run = other.replica.read_run(feed, after).await.expect("readable").expect("there");
                    after += run.changes.len() as u64;
                    let became = self.replica.ingest(run).await.expect("an honest run");
                    stored |= matches!(became, Ingested::Stored(_));
                }
            }
            if !stored {
                return;
            }
        }
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
