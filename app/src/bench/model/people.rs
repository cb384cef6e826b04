//! People and their replicas in memory.

use std::collections::BTreeMap;

use anyhow::Context as _;
use exo_model::amount::Amount;
use exo_model::certificate::{DeviceCertificate, DeviceClaims, Enroller};
use exo_model::charter::{CommunityKind, Role, Settings};
use exo_model::community::{self, Community, FeedEnd};
use exo_model::event::keys::Audience;
use exo_model::event::{CharterEvent, Event};
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{FeedId, FeedPosition, Run, Stream};
use exo_model::id::InviteKey;
use exo_model::invite::Ticket;
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Signer as _;
use exo_model::sealing::{EpochKey, SealingKey};
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;

use crate::host::OsEntropy;

/// One member's device: its key, and where its streams end.
pub(super) struct Author {
    key: SecretKey,
    certificate: DeviceCertificate,
    ends: BTreeMap<Stream, FeedEnd>,
}

/// A community as one replica has it, and the keys of everyone in it: each
/// author writes into the same replica, as if all had met after every word.
pub(super) struct Village {
    pub(super) community: Community,
    pub(super) authors: Vec<Author>,
    pub(super) runs: Vec<Run>,
    governance: EpochKey,
    now_ms: i64,
}

impl Author {
    fn new() -> anyhow::Result<Self> {
        let key = SecretKey::generate(&OsEntropy);
        let phrase = RecoveryPhrase::generate(&OsEntropy);
        let claims = DeviceClaims {
            person: phrase.person(),
            recovery: phrase.recovery_key().public(),
            device: key.device(),
            sealing: SealingKey::of_device(&key).public(),
            name: "machine".into(),
            serial: 1,
        };
        let acceptance = claims.accept(Enroller::Phrase, &key);
        let certificate = DeviceCertificate::sign_with_phrase(claims, acceptance, &phrase)?;
        Ok(Self { key, certificate, ends: BTreeMap::new() })
    }
}

impl Village {
    /// `people` members; the first is the founder.
    pub(super) fn new(people: usize) -> anyhow::Result<Self> {
        let founder = Author::new()?;
        let governance = EpochKey::generate(&OsEntropy);
        let settings = Settings::of_friends("Village".into(), Amount::from_token_mib(-1_000_000));
        let (feed, change) = community::found(
            CommunityKind::Shared,
            founder.certificate.clone(),
            "Founder".into(),
            settings,
            crate::host::random(),
            &governance,
            1,
            &OsEntropy,
        );
        let sealing = SealingKey::of_device(&founder.key);
        let community = Community::new(feed.community, founder.key.device(), sealing);
        let mut village = Self { community, authors: vec![founder], runs: Vec::new(), governance, now_ms: 1 };
        village.community.learn_key(EpochKey::from_bytes(village.governance.as_bytes()));
        let founded = gate::author(&village.authors[0].key, feed, &FeedPosition::START, change)?;
        village.keep(0, &founded);
        let announced =
            village.community.announce_epoch(Audience::Governance, &village.governance, &OsEntropy);
        village.write(0, Stream::Keys, &announced.into())?;
        let members = village.community.start_epoch(Audience::Members, &OsEntropy);
        village.community.learn_key(members.0);
        village.write(0, Stream::Keys, &members.1.into())?;
        for _ in 1..people {
            village.admit()?;
        }
        Ok(village)
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
    pub(super) fn write(&mut self, author: usize, stream: Stream, event: &Event) -> anyhow::Result<()> {
        let accepted = self.sign(author, stream, event)?;
        self.keep(author, &accepted);
        Ok(())
    }

    /// Seals and signs an event, ready to be stored.
    pub(super) fn sign(
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
    pub(super) fn take(&mut self, author: usize, accepted: &AcceptedRun) {
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
    pub(super) fn secrets(&self) -> ([u8; 32], [u8; 32]) {
        (self.authors[0].key.to_bytes(), *self.governance.as_bytes())
    }

    /// A replica of the founder's that knows nothing yet.
    pub(super) fn fresh(&self) -> Community {
        let founder = &self.authors[0].key;
        let mut community =
            Community::new(self.community.id(), founder.device(), SealingKey::of_device(founder));
        community.learn_key(EpochKey::from_bytes(self.governance.as_bytes()));
        community
    }

    /// Everything written, as peers send it: feed by feed in the order of
    /// their streams, in runs of up to `changes`, each signed at its end.
    pub(super) fn as_sent(&self, changes: usize) -> Vec<Run> {
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
pub(super) fn admit_all(runs: Vec<Run>) -> anyhow::Result<Vec<AcceptedRun>> {
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
