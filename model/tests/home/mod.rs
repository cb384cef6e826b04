//! Whole members in memory: a community, a store of runs, a clock, a seeded
//! entropy. What a test lets them exchange passes the gate as anywhere else.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod forgery;
mod joins;
mod meeting;
mod people;
#[path = "../support/seeded.rs"]
pub(crate) mod seeded;

use std::collections::BTreeMap;

use exo_model::charter::Standing;
use exo_model::charter::{ActStanding, Role};
use exo_model::community::{Community, Composed, FeedEnd, WordStanding};
use exo_model::decide::{self, Intent, Refusal};
use exo_model::epochs::KeyDuty;
use exo_model::event::keys::{Audience, KeyEvent};
use exo_model::event::{CharterEvent, Event, TalkEvent};
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{self, Change, FeedId, Meaningless, Stream, VerifiedEvent};
use exo_model::id::{ChannelId, KeyId};
use exo_model::port::Signer as _;
use exo_model::roll::KeeperAnchor;
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_model::weights::{ByteRange, ModelManifest};
use exo_model::{BlobHash, ChangeHash, CommunityId, DeviceId, PersonId};

pub(crate) use joins::{found, found_as, garden};
pub(crate) use meeting::{meet, meet_in_every_order, settle, to_run};
pub(crate) use people::{Person, Seeded};
pub(crate) use seeded::permutations;

/// One device's replica.
pub(crate) struct Home {
    pub(crate) name: String,
    pub(crate) key: SecretKey,
    pub(crate) community: Community,
    pub(crate) store: BTreeMap<FeedId, Vec<AcceptedRun>>,
    pub(crate) events: Vec<VerifiedEvent>,
    pub(crate) now_ms: i64,
    entropy: Seeded,
}

impl Home {
    pub(crate) fn new(name: &str, community: CommunityId, key: SecretKey, entropy: Seeded) -> Self {
        let sealing = SealingKey::of_device(&key);
        Self {
            name: name.into(),
            community: Community::new(community, key.device(), sealing),
            key,
            store: BTreeMap::new(),
            events: Vec::new(),
            now_ms: 10_000,
            entropy,
        }
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.key.device()
    }

    pub(crate) fn person(&self) -> PersonId {
        self.community.state().charter.person_of(&self.device()).expect("a member")
    }

    pub(crate) fn entropy(&self) -> &Seeded {
        &self.entropy
    }

    fn end_of(&self, stream: Stream) -> Option<FeedEnd> {
        let first = FeedId::new(self.community.id(), self.device(), stream);
        let (feed, runs) = self.store.range(first..=first.with_segment(u32::MAX)).next_back()?;
        let first_time_ms = runs.first()?.changes().first()?.time_ms;
        Some(FeedEnd { segment: feed.segment, at: runs.last()?.end(), first_time_ms })
    }

    /// Writes any event, whether it will count or not.
    pub(crate) fn write(&mut self, stream: Stream, event: &Event) -> ChangeHash {
        if let Some(audience) = stream.audience()
            && self.community.writing_key(&audience).is_none()
            && !self.community.has_fit_epoch(&audience)
        {
            self.rotate(audience);
        }
        let composed = self.compose(stream, event);
        let run = feed::author(&self.key, composed.feed, &composed.position, composed.change);
        let run = gate::admit(run, &composed.position).expect("one's own change");
        let hash = run.end().hash;
        self.keep(run);
        hash
    }

    fn compose(&mut self, stream: Stream, event: &Event) -> Composed {
        self.now_ms += 1;
        let end = self.end_of(stream);
        self.community
            .compose(&self.key, stream, end, event, self.now_ms, &self.entropy)
            .unwrap_or_else(|error| panic!("{} composes: {error}", self.name))
    }

    pub(crate) fn rotate(&mut self, audience: Audience) {
        let (key, event) = self.community.start_epoch(audience, &self.entropy);
        self.community.learn_key(key);
        self.write(Stream::Keys, &event.into());
    }

    /// Decides and writes, and sees to the keys after acts of governance.
    pub(crate) fn try_act(&mut self, intent: Intent) -> Result<ChangeHash, Refusal> {
        let (stream, event) = decide::decide(&self.community, self.now_ms, intent)?;
        let hash = self.write(stream, &event);
        if stream == Stream::Charter {
            self.tend();
        }
        Ok(hash)
    }

    pub(crate) fn act(&mut self, intent: Intent) -> ChangeHash {
        let shown = format!("{intent:?}");
        self.try_act(intent).unwrap_or_else(|refusal| panic!("{}: {shown}: {refusal}", self.name))
    }

    /// Writes a charter event that `decide` might refuse.
    pub(crate) fn force(&mut self, event: CharterEvent) -> ChangeHash {
        self.write(Stream::Charter, &event.into())
    }

    /// What holders of keys owe others.
    pub(crate) fn tend(&mut self) {
        for duty in self.community.duties() {
            match duty {
                KeyDuty::Rotate(audience) if self.community.has_fit_epoch(&audience) => {}
                KeyDuty::Rotate(audience) => self.rotate(audience),
                KeyDuty::Seal { audience, key, recipients } => {
                    let event = self.community.seal_more(audience, &key, &recipients, &self.entropy);
                    self.write(Stream::Keys, &event.expect("a held key").into());
                }
            }
        }
        for (audience, key) in self.community.wanted_keys() {
            let recipient = self.community.sealing_key();
            self.write(Stream::Keys, &KeyEvent::KeyWanted { audience, key, recipient }.into());
            self.community.complained(audience, key);
        }
        for event in self.community.list_due() {
            self.write(Stream::Keys, &event.into());
        }
    }

    /// What a keeper is told that this member lets in.
    pub(crate) fn keeper_anchor(&self) -> KeeperAnchor {
        self.community.keeper_anchor()
    }

    pub(crate) fn channel(&self) -> ChannelId {
        *self.community.state().charter.channels.keys().next().expect("a channel")
    }

    pub(crate) fn open_channel(&mut self, number: u8, closed: bool) -> ChannelId {
        let channel = ChannelId::from_bytes([number; 16]);
        self.act(Intent::CreateChannel { channel, name: format!("room {number}"), closed, guests: false });
        channel
    }

    pub(crate) fn say(&mut self, channel: ChannelId, text: &str) -> ChangeHash {
        self.act(Intent::Post {
            channel,
            text: text.into(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        })
    }

    /// Texts that this member can read and that count, in their order.
    pub(crate) fn read(&self, channel: ChannelId) -> Vec<String> {
        let mut words: Vec<_> = self
            .events
            .iter()
            .filter(|event| event.feed.stream == Stream::Channel(channel))
            .filter(|event| self.community.word_standing(event) == WordStanding::Counts)
            .filter_map(|event| match &event.event {
                Ok(Event::Talk(TalkEvent::Posted { text, .. })) => Some((event.order(), text.clone())),
                _ => None,
            })
            .collect();
        words.sort();
        words.dedup();
        words.into_iter().map(|(_, text)| text).collect()
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        self.community.state().hash()
    }

    pub(crate) fn is_member(&self, person: &PersonId) -> bool {
        self.community.state().charter.members.contains_key(person)
    }

    pub(crate) fn role(&self, person: &PersonId) -> Option<Role> {
        self.community.state().charter.members.get(person).map(|member| member.role)
    }

    /// All stored changes of a feed.
    pub(crate) fn changes(&self, feed: &FeedId) -> Vec<Change> {
        self.store.get(feed).into_iter().flatten().flat_map(|run| run.changes().to_vec()).collect()
    }

    pub(crate) fn role_of(&self, home: &Self) -> Option<Role> {
        self.community.state().charter.role_of(&home.device())
    }

    /// What became of a charter act.
    pub(crate) fn standing(&self, act: &ChangeHash) -> Option<ActStanding> {
        match self.community.charter().standing(act)? {
            Standing::Judged(standing) => Some(standing),
            Standing::Waiting => None,
        }
    }

    /// The event of a change, as far as this member can open it.
    pub(crate) fn event(&self, change: &ChangeHash) -> &VerifiedEvent {
        self.events.iter().rfind(|event| event.hash == *change).expect("here")
    }

    /// Whether a change is here and its seal opens.
    pub(crate) fn opens(&self, change: &ChangeHash) -> bool {
        !matches!(self.event(change).event, Err(Meaningless::NoKey(_) | Meaningless::Seal))
    }

    /// Whether words count.
    pub(crate) fn word(&self, change: &ChangeHash) -> WordStanding {
        self.community.word_standing(self.event(change))
    }

    /// The key that this member would write with.
    pub(crate) fn writing_key(&self, audience: Audience) -> KeyId {
        self.community.writing_key(&audience).expect("a key to write with")
    }
}

/// A small model of two layers.
pub(crate) fn manifest(file: BlobHash) -> ModelManifest {
    ModelManifest {
        file,
        size_bytes: 1_000,
        name: "Small".into(),
        architecture: "llama".into(),
        licence: "MIT".into(),
        context_length: 2_048,
        hidden_size: 192,
        kv_bytes_per_token_layer: 384,
        header: ByteRange { start: 0, end: 100 },
        embedding: vec![ByteRange { start: 100, end: 300 }],
        layers: vec![vec![ByteRange { start: 300, end: 600 }]; 2],
        head: vec![ByteRange { start: 900, end: 1_000 }],
    }
}
