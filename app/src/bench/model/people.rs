//! People and their replicas in memory.

use std::collections::BTreeMap;

use anyhow::Context as _;
use exo_model::amount::Amount;
use exo_model::certificate::{DeviceCertificate, DeviceClaims, Enroller};
use exo_model::charter::{CommunityKind, Role, Settings};
use exo_model::community::{self, Community, FeedEnd};
use exo_model::epochs::KeyDuty;
use exo_model::event::keys::Audience;
use exo_model::event::{CharterEvent, Event};
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{FeedId, FeedPosition, Run, Stream};
use exo_model::id::{ChannelId, InviteKey};
use exo_model::invite::Ticket;
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Signer as _;
use exo_model::sealing::{EpochKey, SealingKey};
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;

use crate::host::OsEntropy;

/// One member's device: its key, and where its streams end.
pub(in crate::bench) struct Author {
    pub(in crate::bench) key: SecretKey,
    pub(in crate::bench) certificate: DeviceCertificate,
    /// What the person's phrase stands for.
    phrase: [u8; 32],
    ends: BTreeMap<Stream, FeedEnd>,
}

/// A community as one replica has it, and the keys of everyone in it: each
/// author writes into the same replica, as if all had met after every word.
pub(in crate::bench) struct Village {
    pub(in crate::bench) community: Community,
    pub(in crate::bench) authors: Vec<Author>,
    pub(in crate::bench) runs: Vec<Run>,
    governance: EpochKey,
    /// Wall time, which every event moves on a little.
    pub(in crate::bench) now_ms: i64,
}

impl Author {
    /// The first device of somebody new.
    pub(in crate::bench) fn new() -> anyhow::Result<Self> {
        Self::with(SecretKey::generate(&OsEntropy), crate::host::random(), 1)
    }

    /// The same device, for another community.
    pub(in crate::bench) fn again(&self) -> anyhow::Result<Self> {
        Self::with(SecretKey::from_bytes(&self.key.to_bytes()), self.phrase, 1)
    }

    fn with(key: SecretKey, seed: [u8; 32], serial: u64) -> anyhow::Result<Self> {
        let phrase = RecoveryPhrase::from_entropy(&seed);
        let claims = DeviceClaims {
            person: phrase.person(),
            recovery: phrase.recovery_key().public(),
            device: key.device(),
            sealing: SealingKey::of_device(&key).public(),
            name: "machine".into(),
            serial,
        };
        let acceptance = claims.accept(Enroller::Phrase, &key);
        let certificate = DeviceCertificate::sign_with_phrase(claims, acceptance, &phrase)?;
        Ok(Self { key, certificate, phrase: seed, ends: BTreeMap::new() })
    }
}

impl Village {
    /// `people` members; the first is the founder.
    pub(in crate::bench) fn new(people: usize) -> anyhow::Result<Self> {
        Self::of(Author::new()?, people, 1)
    }

    /// The same with this founder, from some time on.
    pub(in crate::bench) fn of(founder: Author, people: usize, now_ms: i64) -> anyhow::Result<Self> {
        let mut village = Self::founded_by(founder, now_ms)?;
        for _ in 1..people {
            village.admit()?;
        }
        Ok(village)
    }

    fn founded_by(founder: Author, now_ms: i64) -> anyhow::Result<Self> {
        let governance = EpochKey::generate(&OsEntropy);
        let settings = Settings::of_friends("Village".into(), Amount::from_token_mib(-1_000_000));
        let (feed, change) = community::found(
            CommunityKind::Shared,
            founder.certificate.clone(),
            "Founder".into(),
            settings,
            crate::host::random(),
            &governance,
            now_ms,
            &OsEntropy,
        );
        let sealing = SealingKey::of_device(&founder.key);
        let community = Community::new(feed.community, founder.key.device(), sealing);
        let mut village = Self { community, authors: vec![founder], runs: Vec::new(), governance, now_ms };
        village.community.learn_key(EpochKey::from_bytes(village.governance.as_bytes()));
        let founded = gate::author(&village.authors[0].key, feed, &FeedPosition::START, change)?;
        village.keep(0, &founded);
        let announced =
            village.community.announce_epoch(Audience::Governance, &village.governance, &OsEntropy);
        village.write(0, Stream::Keys, &announced.into())?;
        let members = village.community.start_epoch(Audience::Members, &OsEntropy);
        village.community.learn_key(members.0);
        village.write(0, Stream::Keys, &members.1.into())?;
        Ok(village)
    }

    /// Opens a channel that all read.
    pub(in crate::bench) fn open_channel(&mut self, name: &str) -> anyhow::Result<ChannelId> {
        let channel = ChannelId::from_bytes(crate::host::random());
        let created =
            CharterEvent::ChannelCreated { channel, name: name.into(), closed: false, guests: false };
        self.write(0, Stream::Charter, &created.into())?;
        let (key, event) = self.community.start_epoch(Audience::Channel(channel), &OsEntropy);
        self.community.learn_key(key);
        self.write(0, Stream::Keys, &event.into())?;
        Ok(channel)
    }

    /// Gives an author's person another device.
    pub(in crate::bench) fn add_device(&mut self, author: usize) -> anyhow::Result<()> {
        let device = Author::with(SecretKey::generate(&OsEntropy), self.authors[author].phrase, 2)?;
        let added = CharterEvent::DeviceAdded { certificate: device.certificate.clone() };
        self.authors.push(device);
        self.write(author, Stream::Charter, &added.into())
    }

    /// Does what holders of keys owe others, until nothing is left to do.
    pub(in crate::bench) fn tend(&mut self) -> anyhow::Result<()> {
        loop {
            let duties = self.community.duties();
            if duties.is_empty() {
                return Ok(());
            }
            for duty in duties {
                let event = match duty {
                    KeyDuty::Rotate(audience) => {
                        let (key, event) = self.community.start_epoch(audience, &OsEntropy);
                        self.community.learn_key(key);
                        Some(event)
                    }
                    KeyDuty::Seal { audience, key, recipients } => {
                        self.community.seal_more(audience, &key, &recipients, &OsEntropy)
                    }
                };
                let event = event.context("a key that should be here is not")?;
                self.write(0, Stream::Keys, &event.into())?;
            }
        }
    }

    fn admit(&mut self) -> anyhow::Result<()> {
        let secret = SecretKey::generate(&OsEntropy);
        let invite = InviteKey::from_bytes(secret.public_bytes());
        let issued = CharterEvent::InviteIssued {
            key: invite,
            uses: 1,
            expires_ms: i64::MAX,
            role: Role::Member,
            trust: TrustLevel::Friends,
        };
        self.write(0, Stream::Charter, &issued.into())?;
        let author = Author::new()?;
        let ticket = Ticket::new(self.community.id(), "Village".into(), &secret, i64::MAX, Vec::new());
        let request = ticket.request(author.certificate.clone(), "Villager".into());
        let admitted = CharterEvent::Admitted {
            certificate: request.certificate,
            name: request.name,
            invite,
            proof: request.proof,
            lifts: Vec::new(),
        };
        self.authors.push(author);
        self.write(0, Stream::Charter, &admitted.into()).map(drop)
    }

    /// Writes an event as one of the authors, through the gate.
    pub(in crate::bench) fn write(
        &mut self,
        author: usize,
        stream: Stream,
        event: &Event,
    ) -> anyhow::Result<()> {
        let accepted = self.sign(author, stream, event)?;
        self.keep(author, &accepted);
        Ok(())
    }

    /// Seals and signs an event, ready to be stored.
    pub(in crate::bench) fn sign(
        &mut self,
        author: usize,
        stream: Stream,
        event: &Event,
    ) -> anyhow::Result<AcceptedRun> {
        self.now_ms += 1;
        let who = &self.authors[author];
        let end = who.ends.get(&stream).copied();
        let composed = self
            .community
            .compose(&who.key, stream, end, event, self.now_ms, &OsEntropy)
            .context("composing")?;
        Ok(gate::author(&who.key, composed.feed, &composed.position, composed.change)?)
    }

    fn keep(&mut self, author: usize, accepted: &AcceptedRun) {
        self.take(author, accepted);
        self.runs.push(Run {
            feed: *accepted.feed(),
            first_seq: accepted.first_seq(),
            changes: accepted.changes().to_vec(),
            signature: accepted.signature(),
        });
    }

    /// Reduces a change of one of the authors.
    pub(in crate::bench) fn take(&mut self, author: usize, accepted: &AcceptedRun) {
        let (feed, at) = (*accepted.feed(), accepted.end());
        let ends = &mut self.authors[author].ends;
        let first_time_ms = match ends.get(&feed.stream) {
            Some(end) if end.segment == feed.segment => end.first_time_ms,
            _ => self.now_ms,
        };
        ends.insert(feed.stream, FeedEnd { segment: feed.segment, at, first_time_ms });
        self.community.insert(accepted);
    }

    /// The founder's device key and the key of the charter.
    pub(in crate::bench) fn secrets(&self) -> ([u8; 32], [u8; 32]) {
        (self.authors[0].key.to_bytes(), *self.governance.as_bytes())
    }

    /// A replica of the founder's that knows nothing yet.
    pub(in crate::bench) fn fresh(&self) -> Community {
        let founder = &self.authors[0].key;
        let mut community =
            Community::new(self.community.id(), founder.device(), SealingKey::of_device(founder));
        community.learn_key(EpochKey::from_bytes(self.governance.as_bytes()));
        community
    }

    /// Everything written, as peers send it: feed by feed in the order of
    /// their streams, in runs of up to `changes`, each signed at its end.
    pub(in crate::bench) fn as_sent(&self, changes: usize) -> Vec<Run> {
        let mut feeds: BTreeMap<(Stream, FeedId), Vec<&Run>> = BTreeMap::new();
        for run in &self.runs {
            feeds.entry((run.feed.stream, run.feed)).or_default().push(run);
        }
        feeds.into_values().flat_map(|runs| runs.chunks(changes).map(join).collect::<Vec<_>>()).collect()
    }
}

fn join(runs: &[&Run]) -> Run {
    let last = runs[runs.len() - 1];
    Run {
        feed: last.feed,
        first_seq: runs[0].first_seq,
        changes: runs.iter().flat_map(|run| run.changes.iter().cloned()).collect(),
        signature: last.signature,
    }
}

/// Passes all runs through the gate.
pub(in crate::bench) fn admit_all(runs: Vec<Run>) -> anyhow::Result<Vec<AcceptedRun>> {
    let mut ends: BTreeMap<FeedId, FeedPosition> = BTreeMap::new();
    runs.into_iter()
        .map(|run| {
            let known = ends.entry(run.feed).or_insert(FeedPosition::START);
            let accepted = gate::admit(run, known)?;
            *known = accepted.end();
            Ok(accepted)
        })
        .collect()
}
