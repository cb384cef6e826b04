//! What the set of all events means: `reduce`.
//!
//! [`Community`] holds the events that shape the shared state (everything but
//! messages) and the [`CommunityState`] they reduce to. The state is a function
//! of the *set* of events: they take effect in Lamport order with the hash as
//! tie-break, whatever order they arrived in. An event without the right it
//! needs counts for nothing and stays in its feed.
//!
//! Rights in this version: the founder is the owner; owners issue invites and
//! create channels; any member admits on an owner's invite, writes, offers
//! machines, adds models and spends.

use std::collections::BTreeMap;

use crate::amount::Amount;
use crate::codec;
use crate::envelope::{Envelope, LAMPORT_MAX};
use crate::event::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, Event};
use crate::feed::{Change, FeedId, FeedPosition, Stream, VerifiedEvent};
use crate::id::{BlobHash, ChangeHash, ChannelId, CommunityId, DeviceId, InviteKey};
use crate::invite::{self, INVITE_USES_MAX};
use crate::ledger::{Ledger, Voucher};
use crate::text::is_clean_name;
use crate::weights::{LayerRange, ModelManifest};

/// Furthest an event may be ahead of the clock and still move it.
pub const LAMPORT_JUMP_MAX: u64 = 1 << 32;
/// Most members of one community.
pub const MEMBERS_MAX: usize = 1_024;
/// Most channels of one community.
pub const CHANNELS_MAX: usize = 256;
/// Most invites of one community.
pub const INVITES_MAX: usize = 4_096;
/// Most models of one community.
pub const MODELS_MAX: usize = 1_024;
/// Most models one machine can host parts of.
pub const SHARDS_PER_MACHINE_MAX: usize = 64;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Founded the community: invites people and creates channels.
    Owner,
    /// Takes part in everything else.
    Member,
}

impl Role {
    /// The word shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }
}

/// One device that belongs to the community.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Chosen name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Who let it in; itself for the founder.
    pub admitted_by: DeviceId,
    /// When, by the admitting device's clock; ms since the Unix epoch.
    pub admitted_ms: i64,
}

/// An invite that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// The owner who issued it.
    pub issuer: DeviceId,
    /// How many devices may join with it.
    pub uses: u32,
    /// How many did.
    pub used: u32,
    /// Wall time of expiry, ms since the Unix epoch.
    pub expires_ms: i64,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: String,
}

/// What one member's machine offers and hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Memory offered for weights and caches, bytes.
    pub memory_bytes: u64,
    /// Measured speed, µs per MiB of weights and token; 0 when unknown.
    pub micros_per_mib: u32,
    /// Where it can be reached, `ip:port`.
    pub addresses: Vec<String>,
    /// Layers it holds ready, by model.
    pub shards: BTreeMap<BlobHash, LayerRange>,
}

/// A model known to the community.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Where its layers lie.
    pub manifest: ModelManifest,
    /// Members who hold the whole file.
    pub holders: Vec<DeviceId>,
}

/// A community's shared state at some set of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommunityState {
    /// Which community.
    pub id: CommunityId,
    /// Its name; empty until the founding event is there.
    pub name: String,
    /// Members by device.
    pub members: BTreeMap<DeviceId, Member>,
    /// Invites by key.
    pub invites: BTreeMap<InviteKey, Invite>,
    /// Channels by id.
    pub channels: BTreeMap<ChannelId, Channel>,
    /// Machines by device.
    pub machines: BTreeMap<DeviceId, Machine>,
    /// Models by file.
    pub models: BTreeMap<BlobHash, Model>,
    /// Locks and balances.
    pub ledger: Ledger,
}

impl CommunityState {
    /// Before any event.
    pub fn empty(id: CommunityId) -> Self {
        Self {
            id,
            name: String::new(),
            members: BTreeMap::new(),
            invites: BTreeMap::new(),
            channels: BTreeMap::new(),
            machines: BTreeMap::new(),
            models: BTreeMap::new(),
            ledger: Ledger::default(),
        }
    }

    /// Whether `device` belongs to the community.
    pub fn is_member(&self, device: &DeviceId) -> bool {
        self.members.contains_key(device)
    }

    /// Whether `device` is an owner.
    pub fn is_owner(&self, device: &DeviceId) -> bool {
        self.members.get(device).is_some_and(|member| member.role == Role::Owner)
    }

    /// A member's name, or the short id of an unknown device.
    pub fn name_of(&self, device: &DeviceId) -> String {
        self.members.get(device).map_or_else(|| device.to_string(), |member| member.name.clone())
    }

    /// Whether `device` may publish a shard of `model` beside its others.
    pub(crate) fn has_shard_room(&self, device: &DeviceId, model: &BlobHash) -> bool {
        self.machines.get(device).is_none_or(|machine| {
            machine.shards.len() < SHARDS_PER_MACHINE_MAX || machine.shards.contains_key(model)
        })
    }

    /// Applies one event, the next in order. Returns whether it counted.
    fn apply(&mut self, event: &VerifiedEvent) -> bool {
        let Ok(body) = &event.event else { return false };
        let author = event.feed.device;
        if let Event::Founded { .. } = body {
            return self.found(event, body);
        }
        if !self.is_member(&author) {
            return false;
        }
        match body {
            Event::InviteIssued { key, uses, expires_ms } => self.issue(author, *key, *uses, *expires_ms),
            Event::MemberAdmitted { .. } => self.admit(event, body),
            Event::ChannelCreated { channel, name } => self.create_channel(&author, *channel, name),
            Event::MachineOffered { memory_bytes, micros_per_mib, addresses } => {
                self.offer(author, *memory_bytes, *micros_per_mib, addresses)
            }
            Event::ShardHosted { model, layers } => self.host(author, *model, *layers),
            Event::ShardDropped { model } => {
                self.machines.get_mut(&author).is_some_and(|machine| machine.shards.remove(model).is_some())
            }
            Event::ModelAdded { manifest } => self.add_model(author, manifest),
            Event::Locked { job, payee, max } => {
                self.is_member(payee) && self.ledger.lock(event.hash, author, *payee, *job, *max).is_ok()
            }
            Event::Settled { lock, amount, voucher } => {
                let voucher = Voucher { lock: *lock, amount: *amount, signature: *voucher };
                self.ledger.settle(&self.id, &author, &voucher).is_ok()
            }
            Event::Closed { lock } => self.ledger.close(&author, lock).is_ok(),
            Event::Founded { .. } | Event::MessagePosted { .. } => false,
        }
    }

    fn found(&mut self, event: &VerifiedEvent, body: &Event) -> bool {
        let Event::Founded { name, founder, founder_name, floor, .. } = body else { return false };
        let authentic = self.members.is_empty()
            && event.seq == 1
            && event.payload_hash == *self.id.as_bytes()
            && *founder == event.feed.device
            && is_clean_name(name)
            && is_clean_name(founder_name);
        if !authentic {
            return false;
        }
        name.clone_into(&mut self.name);
        self.ledger = Ledger::new(*floor);
        self.members.insert(
            *founder,
            Member {
                name: founder_name.clone(),
                role: Role::Owner,
                admitted_by: *founder,
                admitted_ms: event.time_ms,
            },
        );
        true
    }

    fn issue(&mut self, issuer: DeviceId, key: InviteKey, uses: u32, expires_ms: i64) -> bool {
        let fits = self.is_owner(&issuer)
            && (1..=INVITE_USES_MAX).contains(&uses)
            && self.invites.len() < INVITES_MAX
            && !self.invites.contains_key(&key);
        if fits {
            self.invites.insert(key, Invite { issuer, uses, used: 0, expires_ms });
        }
        fits
    }

    fn admit(&mut self, event: &VerifiedEvent, body: &Event) -> bool {
        let Event::MemberAdmitted { device, name, invite, proof } = body else { return false };
        if self.is_member(device) || self.members.len() >= MEMBERS_MAX || !is_clean_name(name) {
            return false;
        }
        let Some(issued) = self.invites.get_mut(invite) else { return false };
        if issued.used >= issued.uses || invite::verify_proof(&self.id, device, name, invite, proof).is_err()
        {
            return false;
        }
        issued.used += 1;
        self.members.insert(
            *device,
            Member {
                name: name.clone(),
                role: Role::Member,
                admitted_by: event.feed.device,
                admitted_ms: event.time_ms,
            },
        );
        true
    }

    fn create_channel(&mut self, author: &DeviceId, channel: ChannelId, name: &str) -> bool {
        let fits = self.is_owner(author)
            && is_clean_name(name)
            && self.channels.len() < CHANNELS_MAX
            && !self.channels.contains_key(&channel);
        if fits {
            self.channels.insert(channel, Channel { name: name.to_owned() });
        }
        fits
    }

    fn offer(
        &mut self,
        author: DeviceId,
        memory_bytes: u64,
        micros_per_mib: u32,
        addresses: &[String],
    ) -> bool {
        let fits = are_addresses(addresses);
        if fits {
            let machine = self.machines.entry(author).or_default();
            machine.memory_bytes = memory_bytes;
            machine.micros_per_mib = micros_per_mib;
            machine.addresses = addresses.to_vec();
        }
        fits
    }

    fn host(&mut self, author: DeviceId, model: BlobHash, layers: LayerRange) -> bool {
        // A derived decoder does not know `LayerRange::new`'s rule.
        let fits =
            LayerRange::new(layers.start(), layers.end()).is_some() && self.has_shard_room(&author, &model);
        if fits {
            self.machines.entry(author).or_default().shards.insert(model, layers);
        }
        fits
    }

    fn add_model(&mut self, author: DeviceId, manifest: &ModelManifest) -> bool {
        if manifest.check().is_err() {
            return false;
        }
        if let Some(model) = self.models.get_mut(&manifest.file) {
            // The first manifest of a file stands; whoever fetches compares it
            // with the file's own header.
            if model.manifest == *manifest && !model.holders.contains(&author) {
                model.holders.push(author);
                return true;
            }
            return false;
        }
        if self.models.len() >= MODELS_MAX {
            return false;
        }
        let model = Model { manifest: manifest.clone(), holders: vec![author] };
        self.models.insert(manifest.file, model);
        true
    }

    /// Hash of what charter and ledger say: equal on every peer that has the
    /// same events.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("exo-studio 2026 community state v0");
        let mut add = |bytes: Vec<u8>| {
            hasher.update(&bytes);
        };
        add(codec::encode(&("state", self.id, self.name.as_str(), self.ledger.floor())));
        for (device, m) in &self.members {
            add(codec::encode(&(
                "member",
                *device,
                m.name.as_str(),
                m.role.as_str(),
                m.admitted_by,
                m.admitted_ms,
            )));
        }
        for (key, i) in &self.invites {
            add(codec::encode(&("invite", *key, i.issuer, i.uses, i.used, i.expires_ms)));
        }
        for (id, channel) in &self.channels {
            add(codec::encode(&("channel", *id, channel.name.as_str())));
        }
        for (hash, lock) in self.ledger.locks() {
            add(codec::encode(&("lock", *hash, lock)));
        }
        for device in self.members.keys() {
            add(codec::encode(&("balance", *device, self.ledger.balance(device))));
        }
        *hasher.finalize().as_bytes()
    }
}

/// Whether a list of addresses is bounded and each is `ip:port`.
pub(crate) fn are_addresses(addresses: &[String]) -> bool {
    addresses.len() <= ADDRESSES_MAX
        && addresses.iter().all(|address| {
            address.len() <= ADDRESS_BYTES_MAX && address.parse::<std::net::SocketAddr>().is_ok()
        })
}

/// A community's events and what they mean.
#[derive(Debug)]
pub struct Community {
    events: BTreeMap<(u64, ChangeHash), VerifiedEvent>,
    /// Lamport times along each feed, by sequence number: the event's own and
    /// the greatest up to it.
    times: BTreeMap<FeedId, BTreeMap<u64, (u64, u64)>>,
    /// Greatest Lamport time of a member's readable event.
    lamport: u64,
    state: CommunityState,
}

impl Community {
    /// A community of which nothing is known yet but its id.
    pub fn new(id: CommunityId) -> Self {
        Self { events: BTreeMap::new(), times: BTreeMap::new(), lamport: 0, state: CommunityState::empty(id) }
    }

    /// The state that all inserted events reduce to.
    pub const fn state(&self) -> &CommunityState {
        &self.state
    }

    /// Takes verified events of this community, in any order; ones already
    /// there change nothing. Returns whether the state may have changed.
    pub fn insert<'a>(&mut self, events: impl IntoIterator<Item = &'a VerifiedEvent>) -> bool {
        let mut first_new: Option<(u64, ChangeHash)> = None;
        let mut again = false;
        let last = self.events.last_key_value().map(|(order, _)| *order);
        let mut messages = Vec::new();
        for event in events {
            if event.feed.community != self.state.id || event.feed.segment != 0 || event.event.is_err() {
                continue;
            }
            // Messages shape views, not the state; keeping them out keeps
            // a long history out of memory.
            if matches!(event.feed.stream, Stream::Channel(_)) {
                messages.push((event.feed.device, event.lamport));
                continue;
            }
            let order = event.order();
            if self.events.insert(order, event.clone()).is_none() {
                first_new = Some(first_new.map_or(order, |first| first.min(order)));
                again |= self.note_time(event);
            }
        }
        if let Some(first_new) = first_new {
            // Something takes effect before what was already reduced: again
            // from the start.
            self.reduce(if again || last.is_some_and(|last| first_new < last) {
                None
            } else {
                Some(first_new)
            });
        }
        for (author, lamport) in messages {
            self.advance(&author, lamport);
        }
        first_new.is_some()
    }

    /// Notes when an event was written; returns whether that changes the
    /// standing of later events in its feed, which came first.
    fn note_time(&mut self, event: &VerifiedEvent) -> bool {
        let times = self.times.entry(event.feed).or_default();
        let mut greatest = times.range(..event.seq).next_back().map_or(0, |(_, (_, greatest))| *greatest);
        times.insert(event.seq, (event.lamport, greatest));
        let mut followed = false;
        for (seq, (own, upto)) in times.range_mut(event.seq..) {
            greatest = greatest.max(*own);
            *upto = greatest;
            followed |= *seq > event.seq;
        }
        followed
    }

    /// Applies events from `first` on, or all of them to an empty state.
    fn reduce(&mut self, first: Option<(u64, ChangeHash)>) {
        if first.is_none() {
            self.state = CommunityState::empty(self.state.id);
        }
        let from = first.unwrap_or((0, ChangeHash::from_bytes([0; 32])));
        let mut counted = Vec::new();
        for event in self.events.range(from..).map(|(_, event)| event) {
            if self.is_in_time(event) {
                self.state.apply(event);
                counted.push((event.feed.device, event.lamport));
            }
        }
        for (author, lamport) in counted {
            self.advance(&author, lamport);
        }
    }

    /// Whether an event's Lamport time exceeds all before it in its feed. One
    /// that was dated back counts for nothing: it would take effect before
    /// what its author had already said, without a fork as proof.
    fn is_in_time(&self, event: &VerifiedEvent) -> bool {
        self.times
            .get(&event.feed)
            .and_then(|times| times.range(..event.seq).next_back())
            .is_none_or(|(_, (_, greatest))| *greatest < event.lamport)
    }

    /// Moves the clock on. Strangers do not, and nobody moves it so far that
    /// it could run out: whoever writes such a time only puts their own words
    /// at the end.
    fn advance(&mut self, author: &DeviceId, lamport: u64) {
        if self.state.is_member(author) && lamport <= self.lamport.saturating_add(LAMPORT_JUMP_MAX) {
            self.lamport = self.lamport.max(lamport);
        }
    }

    /// The change that records `event` as this community's next: its Lamport
    /// time exceeds all known ones.
    pub fn next_change(&self, event: &Event, now_ms: i64) -> Change {
        let lamport = (self.lamport + 1).min(LAMPORT_MAX);
        Change {
            time_ms: now_ms.clamp(0, crate::feed::TIME_MS_MAX),
            payload: Envelope::new(lamport, event).encode(),
        }
    }
}

/// A new community: its id and the change that founds it, to be written at the
/// start of the founder's charter feed.
pub fn found(
    founder: DeviceId,
    founder_name: String,
    name: String,
    floor: Amount,
    nonce: [u8; 16],
    now_ms: i64,
) -> (FeedId, FeedPosition, Change) {
    let event = Event::Founded { name, founder, founder_name, floor, nonce };
    let payload = Envelope::new(1, &event).encode();
    let id = CommunityId::from_bytes(*blake3::hash(&payload).as_bytes());
    let change = Change { time_ms: now_ms.clamp(0, crate::feed::TIME_MS_MAX), payload };
    (FeedId::new(id, founder, Stream::Charter), FeedPosition::START, change)
}
