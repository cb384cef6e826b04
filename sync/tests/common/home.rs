//! Replicas in folders of their own, with what their observers were told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use exo_model::amount::Amount;
use exo_model::charter::{CommunityKind, Role};
use exo_model::community::CommunityState;
use exo_model::decide::Intent;
use exo_model::event::{Event, TalkEvent};
use exo_model::feed::{FeedId, FeedPosition, LineId, Meaningless, Rejection, Stream, VerifiedEvent};
use exo_model::id::{ChannelId, CommunityId, DeviceId, InviteKey};
use exo_model::invite::{Contact, Ticket};
use exo_model::port::ChangeStore as _;
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;
use exo_sync::replica::{self, Founding, Ingested, Replica, ReplicaConfig, ReplicaError, Update};
use exo_sync::store::Store;

use super::insider::{self, Seeded, to_run};
use super::{NOW, TestClock, certificate, config, device, key, posting};

/// What an observer was told: what is told again replaces what was told
/// before.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) events: Vec<VerifiedEvent>,
    /// How many events were told again.
    pub(crate) again: usize,
}

impl Told {
    fn take(&mut self, update: Update) {
        for event in update.events {
            match self.events.iter_mut().find(|told| told.hash == event.hash && told.feed == event.feed) {
                Some(told) => {
                    *told = event;
                    self.again += 1;
                }
                None => self.events.push(event),
            }
        }
    }
}

/// One device's folder with its open replica.
pub(crate) struct Home {
    pub(crate) seed: u8,
    pub(crate) community: CommunityId,
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) replica: Replica,
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) thread: JoinHandle<()>,
}

impl Home {
    /// Founds "Garden" as device `seed`.
    pub(crate) fn found(seed: u8) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let founding = Founding {
            kind: CommunityKind::Shared,
            certificate: certificate(seed),
            founder_name: "Ona",
            name: "Garden",
            floor: Amount::from_token_mib(-1_000),
        };
        let community = replica::found(
            &folder.path().join("store.db"),
            founding,
            &key(seed),
            SealingKey::of_device(&key(seed)),
            &TestClock::default(),
            &Seeded::new(u64::from(seed)),
        )
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
        view_cursors: Vec<(LineId, u64)>,
    ) -> Self {
        static OPENINGS: AtomicU64 = AtomicU64::new(1);
        let clock = Arc::new(TestClock::default());
        let start = OPENINGS.fetch_add(1 << 16, Ordering::SeqCst);
        let config = ReplicaConfig {
            clock: clock.clone(),
            view_cursors,
            ..config(seed, community, folder.path().join("store.db"), start)
        };
        let told = Arc::new(Mutex::new(Told::default()));
        let sink = told.clone();
        let (replica, thread) =
            Replica::open(config, move |update| sink.lock().expect("no panic").take(update))
                .expect("the store opens");
        Self { seed, community, folder, clock, replica, told, thread }
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

    /// What the observer knows.
    pub(crate) fn events(&self) -> Vec<VerifiedEvent> {
        self.told.lock().expect("no panic").events.clone()
    }

    /// How often the observer was told everything from the start.
    pub(crate) fn retellings(&self) -> usize {
        self.told.lock().expect("no panic").again
    }

    /// Sequence numbers of a feed in the order they were told.
    pub(crate) fn seqs(&self, feed: &FeedId) -> Vec<u64> {
        self.events().iter().filter(|event| event.feed == *feed).map(|event| event.seq).collect()
    }

    /// Messages of the channel that can be read here, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut words: Vec<_> = self
            .events()
            .into_iter()
            .filter_map(|event| match &event.event {
                Ok(Event::Talk(TalkEvent::Posted { text, .. })) => Some((event.order(), text.clone())),
                _ => None,
            })
            .collect();
        words.sort();
        words.into_iter().map(|(_, text)| text).collect()
    }

    /// How many events this device has and cannot open for want of a key.
    pub(crate) fn unreadable(&self) -> usize {
        self.events().iter().filter(|event| matches!(event.event, Err(Meaningless::NoKey(_)))).count()
    }

    /// Up to where the observer was told and could read.
    pub(crate) fn cursors(&self) -> Vec<(LineId, u64)> {
        let mut last = BTreeMap::new();
        let mut sealed = BTreeSet::new();
        for event in self.events() {
            let is_sealed = matches!(event.event, Err(Meaningless::NoKey(_)));
            if !sealed.contains(&event.line()) && !is_sealed {
                last.insert(event.line(), event.seq);
            } else {
                sealed.insert(event.line());
            }
        }
        last.into_iter().collect()
    }

    pub(crate) fn device(&self) -> DeviceId {
        device(self.seed)
    }

    /// Where a stored feed ends.
    pub(crate) async fn end_of(&self, feed: &FeedId) -> FeedPosition {
        // The first line's: which one that is only the store knows.
        let store = Store::open(&self.path()).expect("a second reader");
        store.position(feed).expect("readable")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub(crate) fn state(&self) -> Arc<CommunityState> {
        self.replica.state()
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.replica.snapshot().digest()
    }

    pub(crate) fn channel(&self) -> ChannelId {
        *self.state().charter.channels.keys().next().expect("the channel \"general\"")
    }

    /// `author`'s feed of messages.
    pub(crate) fn messages_of(&self, author: DeviceId) -> FeedId {
        FeedId::new(self.community, author, Stream::Channel(self.channel()))
    }

    pub(crate) async fn post(&self, text: &str) {
        self.replica.record(posting(self.channel(), text)).await.expect("a member may write");
    }

    /// Issues an invite and makes its ticket.
    pub(crate) async fn invite(&self, uses: u32, expires_ms: i64, contacts: Vec<Contact>) -> Ticket {
        self.invite_as(uses, expires_ms, contacts, TrustLevel::Friends).await
    }

    pub(crate) async fn invite_as(
        &self,
        uses: u32,
        expires_ms: i64,
        contacts: Vec<Contact>,
        trust: TrustLevel,
    ) -> Ticket {
        static INVITES: AtomicI64 = AtomicI64::new(1);
        let mut seed = [0xa5; 32];
        seed[..8].copy_from_slice(&INVITES.fetch_add(1, Ordering::SeqCst).to_le_bytes());
        let secret = SecretKey::from_bytes(&seed);
        let key = InviteKey::from_bytes(secret.public_bytes());
        let intent = Intent::IssueInvite { key, uses, expires_ms, role: Role::Member, trust };
        self.replica.record(intent).await.expect("the owner may invite");
        Ticket::new(self.community, "Garden".into(), &secret, expires_ms, contacts)
    }

    /// Admits device `seed` without any network.
    pub(crate) async fn admit(&self, seed: u8) -> DeviceId {
        self.admit_at(seed, TrustLevel::Friends).await
    }

    pub(crate) async fn admit_at(&self, seed: u8, trust: TrustLevel) -> DeviceId {
        let ticket = self.invite_as(1, i64::MAX, Vec::new(), trust).await;
        let request = ticket.request(certificate(seed), format!("Member {seed}"));
        self.replica.record(Intent::Admit(request)).await.expect("the invite is fresh");
        device(seed)
    }

    /// A replica of device `seed`, admitted, with the keys of the charter and
    /// nothing else yet.
    pub(crate) async fn newcomer(&self, seed: u8) -> Self {
        self.admit(seed).await;
        let home = Self::empty(seed, self.community);
        home.take_governance(self).await;
        home
    }

    /// What the admitting member's answer brings.
    pub(crate) async fn take_governance(&self, from: &Self) {
        let sealing = SealingKey::of_device(&key(self.seed)).public();
        let keys = from.replica.seal_governance(sealing).await.expect("running");
        self.replica.learn_governance(keys).await.expect("stored");
    }

    /// A member with everything there is.
    pub(crate) async fn befriend(&self, seed: u8) -> Self {
        let home = self.newcomer(seed).await;
        home.pull(self).await;
        home
    }

    /// A member in memory with everything there is.
    pub(crate) async fn member_in_memory(&self, seed: u8) -> insider::Home {
        self.admit(seed).await;
        let entropy = Seeded::new(u64::from(seed) * 1_000 + 17);
        let mut member = insider::Home::new(&format!("Member {seed}"), self.community, key(seed), entropy);
        member.now_ms = NOW;
        self.tell(&mut member).await;
        member
    }

    /// Gives a member in memory what it lacks.
    pub(crate) async fn tell(&self, member: &mut insider::Home) {
        let mut feeds = self.replica.positions();
        feeds.sort_by_key(|(feed, _)| (feed.stream, feed.device, feed.segment));
        for (feed, end) in feeds {
            let known = |member: &insider::Home| {
                member.store.get(&feed).and_then(|runs| runs.last()).map_or(0, |run| run.end().seq)
            };
            while known(member) < end.seq {
                let run = self.replica.read_run(feed, known(member)).await.expect("readable").expect("there");
                member.take(run).expect("an honest run");
            }
        }
    }

    /// Takes all that a member in memory wrote in a stream, run by run.
    pub(crate) async fn hear(&self, member: &insider::Home, stream: Stream) -> Vec<Ingested> {
        let mut became = Vec::new();
        for (feed, runs) in &member.store {
            if feed.device == member.device() && feed.stream == stream {
                for run in runs {
                    became.push(self.replica.ingest(to_run(run)).await.expect("an authentic run"));
                }
            }
        }
        became
    }

    /// Takes everything that `other` has, as long as that brings something.
    /// The rest of a feed that is put off comes with the next round.
    pub(crate) async fn pull(&self, other: &Self) {
        assert_eq!(self.pull_patiently(other).await, 0, "honest runs");
    }

    /// The same; returns how many lines were refused for the last time.
    pub(crate) async fn pull_patiently(&self, other: &Self) -> usize {
        let mut refused = 0;
        let mut stored = true;
        while std::mem::take(&mut stored) {
            refused = 0;
            for (feed, end) in other.replica.positions() {
                let mut after = 0;
                while after < end.seq {
                    let run = other.replica.read_line(feed, end, after).await;
                    let run = run.expect("readable").expect("there");
                    after += run.run.changes.len() as u64;
                    match self.replica.ingest_line(run).await {
                        Ok(Ingested::Stored(_)) => stored = true,
                        Ok(Ingested::Known) => {}
                        Ok(Ingested::Deferred) => break,
                        Err(ReplicaError::Rejected(Rejection::Fork { .. })) => {
                            refused += 1;
                            break;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        refused
    }
}
