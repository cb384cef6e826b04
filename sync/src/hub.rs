//! The mesh as a state machine without I/O: whom to link with, when to exchange
//! what with whom, and what to say by gossip.
//!
//! The shell reports what happens ([`Input`]) with the time, and does what comes
//! back ([`Effect`]). Time is in ms from any fixed moment, randomness is an
//! argument: a simulation runs the same code as a node does.
//!
//! - **Links.** A small community is fully linked. In a large one every node
//!   keeps a few links, always to its person's other devices and to keepers, the
//!   rest at random, and changes one of them now and then, so that a mesh that was
//!   split finds together again. What anyone writes reaches all over some links.
//! - **Exchanges.** Whoever hears by a hint of changes that are not here fetches
//!   them from who wrote them, from who passed the hint on, or from anyone. Who
//!   dialled exchanges at once. Every half a minute or so one link is compared
//!   without any reason: hints may be lost, and nothing depends on them.
//! - **Dials** back off, with jitter, and are as many at once as is stated.
//!
//! Never here: what changes mean, who is a member, addresses, connections.

mod chases;
mod circle;
mod peers;
mod presence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minicbor::{Decode, Encode};

use exo_model::id::{CommunityId, DeviceId};

use crate::session::{Ends, FeedHead};

pub use presence::{Load, PRESENCE_LASTS_MS, Presence, Presences, TYPING_LASTS_MS};

use circle::Circle;
use peers::Peers;

/// Names a connection to a peer; given by the shell, never twice.
pub type LinkId = u64;

/// Other devices of a community up to which everyone is linked with everyone.
pub const FULL_MESH_MAX: usize = 8;
/// Links that a node keeps in a larger community.
pub const DEGREE: usize = 6;
/// Links of a node in one community beyond which it gives one up.
pub const LINKS_MAX: usize = 12;
/// Shortest pause between comparisons without a reason, ms; up to twice as long.
const CHECK_EVERY_MS: u64 = 30_000;
/// Shortest pause before an exchange that failed is tried again, ms; up to twice as
/// long.
const RETRY_MS: u64 = 1_000;
/// Shortest pause before a large community's node changes one of its links, ms;
/// up to twice as long.
const ROTATE_EVERY_MS: u64 = 240_000;
/// Exchanges after each other while new members make more acceptable.
const ROUNDS_MAX: u32 = 8;
/// Most ends of changed feeds that one hint names.
pub const NEWS_MAX: usize = 16;

/// Where chance comes from.
pub trait Random {
    /// Any number.
    fn next(&mut self) -> u64;

    /// A number below `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// From `ms` to twice as long.
    fn jitter(&mut self, ms: u64) -> u64 {
        ms + self.next() % ms.max(1)
    }
}

/// "My feeds now end somewhere else": what is gossiped. A lost, forged or
/// repeated hint costs at most a few empty exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hint {
    /// [`Ends::root`] of who says it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub root: [u8; 32],
    /// Ends of feeds that changed, at most [`NEWS_MAX`].
    #[n(1)]
    pub news: Vec<FeedHead>,
    /// Whether more changed than is named.
    #[n(2)]
    pub more: bool,
}

/// Who belongs to a community, as far as links are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Company {
    /// Devices that may connect, without this one.
    pub devices: BTreeSet<DeviceId>,
    /// Of these, those that this node is always linked with: its person's other
    /// devices, and keepers.
    pub close: BTreeSet<DeviceId>,
}

/// How an exchange went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Changes stored.
    pub stored: usize,
    /// Runs put off because something they need is not here yet.
    pub deferred: usize,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A community is open here, or something about it changed.
    Community {
        /// Who is in it.
        company: Arc<Company>,
        /// Where its lines end here.
        ends: Arc<Ends>,
    },
    /// A community is not open here any more.
    Left(CommunityId),
    /// This node talks to others, or does not.
    Online(bool),
    /// Addresses changed, or the machine slept: everyone is worth a dial.
    NetworkChanged,
    /// A device may be reachable: it was seen nearby.
    Seen(DeviceId),
    /// A connection stands.
    Linked {
        /// Which one.
        link: LinkId,
        /// To whom.
        device: DeviceId,
        /// Whether this side dialled.
        dialled: bool,
    },
    /// A connection is gone.
    Unlinked(LinkId),
    /// A dial failed.
    DialFailed(DeviceId),
    /// An exchange that this side began is over; nothing where it broke off.
    Exchanged(LinkId, CommunityId, Option<Exchanged>),
    /// A hint came by gossip.
    Hinted {
        /// Of which community.
        community: CommunityId,
        /// Who says it.
        origin: DeviceId,
        /// Who passed it on.
        by: DeviceId,
        /// The hint.
        hint: Hint,
    },
    /// The gossip neighbours in a community are these.
    Neighbours(CommunityId, BTreeSet<DeviceId>),
    /// Messages of gossip were lost.
    Lagged(CommunityId),
    /// Somebody wants an exchange with a device now.
    Wanted(CommunityId, DeviceId),
    /// A member's ephemeral message came by gossip.
    Presence(CommunityId, DeviceId, Presence),
    /// What this node says of itself.
    Present(Load),
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Dial a device; report [`Input::Linked`] or [`Input::DialFailed`].
    Dial(DeviceId),
    /// Close a link.
    Close(LinkId, Farewell),
    /// Begin an exchange; report [`Input::Exchanged`].
    Exchange(LinkId, CommunityId),
    /// Gossip a hint.
    Hint(CommunityId, Hint),
    /// Gossip what this node says of itself.
    Announce(CommunityId, Load),
    /// Tell gossip of devices that are linked and no neighbours yet.
    Introduce(CommunityId, Vec<DeviceId>),
}

/// Why a link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Not in a common community, any more.
    NotAMember,
    /// There are enough links.
    Enough,
    /// Working offline.
    Offline,
}

/// The state of a node's mesh.
#[derive(Debug)]
pub struct Hub {
    me: DeviceId,
    online: bool,
    circles: BTreeMap<CommunityId, Circle>,
    peers: Peers,
    load: Load,
}

impl Hub {
    /// The mesh of a device, without any community yet.
    pub fn new(me: DeviceId) -> Self {
        Self { me, online: true, circles: BTreeMap::new(), peers: Peers::default(), load: Load::default() }
    }

    /// Takes one input and returns what to do.
    pub fn handle(&mut self, now_ms: u64, random: &mut dyn Random, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Community { company, ends } => self.update(now_ms, random, company, ends, &mut effects),
            Input::Left(community) => self.leave(now_ms, random, &community, &mut effects),
            Input::Online(online) => self.switch(now_ms, random, online, &mut effects),
            Input::NetworkChanged => self.peers.forget_pauses(),
            Input::Seen(device) => self.peers.seen(&device),
            Input::Linked { link, device, dialled } => {
                self.linked(now_ms, random, link, device, dialled, &mut effects);
            }
            Input::Unlinked(link) => self.peers.unlinked(link, now_ms, random),
            Input::DialFailed(device) => self.peers.dial_failed(&device, now_ms, random),
            Input::Exchanged(link, community, outcome) => {
                self.exchanged(now_ms, random, link, community, outcome, &mut effects);
            }
            Input::Hinted { community, origin, by, hint } => {
                if let Some(circle) = self.circles.get_mut(&community) {
                    circle.heard(origin, now_ms);
                    circle.hinted(now_ms, origin, by, &hint);
                }
            }
            Input::Neighbours(community, neighbours) => self.meet(now_ms, community, neighbours),
            Input::Lagged(community) => {
                if let Some(circle) = self.circles.get_mut(&community) {
                    circle.check_now(now_ms);
                }
            }
            Input::Wanted(community, device) => {
                for link in self.peers.links_of(&device) {
                    self.peers.exchange_wanted(link, community, now_ms);
                }
            }
            Input::Presence(community, device, presence) => {
                if let Some(circle) = self.circles.get_mut(&community) {
                    circle.heard(device, now_ms);
                    circle.presences.take(device, presence, now_ms);
                }
            }
            Input::Present(load) => self.present(now_ms, load),
            Input::Tick => {}
        }
        self.proceed(now_ms, random, &mut effects);
        effects
    }

    /// When something is due that no input brings about.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if !self.online {
            return None;
        }
        let circles = self.circles.values().map(|circle| circle.next_wake_ms(&self.peers));
        circles.chain(self.peers.next_exchange_ms()).min()
    }

    /// What members say of themselves, by device.
    pub fn presences(&self, community: &CommunityId) -> Option<&Presences> {
        self.circles.get(community).map(|circle| &circle.presences)
    }

    /// Devices with a link.
    pub fn linked_devices(&self) -> impl Iterator<Item = DeviceId> {
        self.peers.linked()
    }

    fn update(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        company: Arc<Company>,
        ends: Arc<Ends>,
        effects: &mut Vec<Effect>,
    ) {
        let community = ends.community();
        let circle =
            self.circles.entry(community).or_insert_with(|| Circle::new(ends.clone(), now_ms, random));
        let is_new = circle.company != company;
        if is_new {
            circle.meet(company.clone());
        }
        if let Some(hint) = circle.advance(self.me, ends, now_ms, random) {
            effects.push(Effect::Hint(community, hint));
            for (link, device) in self.peers.links_in(&community) {
                if circle.is_deaf(&device, now_ms) {
                    self.peers.exchange_due(link, community, now_ms);
                }
            }
        }
        if is_new {
            self.peers.settle(community, &company.devices);
            self.part_with_strangers(now_ms, random, effects);
        }
    }

    fn leave(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        community: &CommunityId,
        effects: &mut Vec<Effect>,
    ) {
        self.circles.remove(community);
        self.peers.leave(community);
        self.part_with_strangers(now_ms, random, effects);
    }

    /// A link to someone who is in no common community any more ends at once.
    fn part_with_strangers(&mut self, now_ms: u64, random: &mut dyn Random, effects: &mut Vec<Effect>) {
        let strangers: Vec<_> = self.peers.all_links().filter(|(_, device)| !self.is_known(device)).collect();
        for (link, _) in strangers {
            self.close(now_ms, random, link, Farewell::NotAMember, effects);
        }
        let circles = &self.circles;
        let is_known = |device: &DeviceId| circles.values().any(|circle| circle.company.devices.contains(device));
        self.peers.retain_known(is_known);
    }

    /// Closes a link, once.
    fn close(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        link: LinkId,
        farewell: Farewell,
        effects: &mut Vec<Effect>,
    ) {
        if self.peers.close(link, now_ms, random) {
            effects.push(Effect::Close(link, farewell));
        }
    }

    fn switch(&mut self, now_ms: u64, random: &mut dyn Random, online: bool, effects: &mut Vec<Effect>) {
        self.online = online;
        if !online {
            let links: Vec<_> = self.peers.all_links().map(|(link, _)| link).collect();
            for link in links {
                self.close(now_ms, random, link, Farewell::Offline, effects);
            }
        }
        self.peers.forget_pauses();
    }

    fn linked(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        link: LinkId,
        device: DeviceId,
        dialled: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.peers.linked_by(link, device, dialled);
        for (community, circle) in &self.circles {
            if circle.company.devices.contains(&device) {
                // Whoever dialled begins; an exchange goes both ways.
                self.peers.common(link, *community, dialled);
            }
        }
        if !self.online {
            self.close(now_ms, random, link, Farewell::Offline, effects);
        } else if !self.is_known(&device) {
            // Put out while it was being dialled.
            self.close(now_ms, random, link, Farewell::NotAMember, effects);
        }
    }

    fn exchanged(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        link: LinkId,
        community: CommunityId,
        outcome: Option<Exchanged>,
        effects: &mut Vec<Effect>,
    ) {
        self.peers.exchanged(link, community, outcome, now_ms, random);
        if let Some(circle) = self.circles.get_mut(&community) {
            circle.chases.exchanged(link, now_ms);
        }
        if outcome.is_some() {
            for second in self.peers.second_links(&self.me, link) {
                self.close(now_ms, random, second, Farewell::Enough, effects);
            }
        }
    }

    fn meet(&mut self, now_ms: u64, community: CommunityId, neighbours: BTreeSet<DeviceId>) {
        let Some(circle) = self.circles.get_mut(&community) else { return };
        // Whoever comes up as a neighbour may have been away.
        for device in neighbours.difference(&circle.neighbours) {
            for link in self.peers.links_of(device) {
                self.peers.exchange_due(link, community, now_ms);
            }
        }
        if circle.neighbours.is_empty() && !neighbours.is_empty() {
            // What was said before went nowhere.
            circle.presences.announce_soon(now_ms);
        }
        circle.neighbours = neighbours;
    }

    fn present(&mut self, now_ms: u64, load: Load) {
        if self.load != load {
            self.load = load;
            for circle in self.circles.values_mut() {
                circle.presences.announce_soon(now_ms);
            }
        }
    }

    fn is_known(&self, device: &DeviceId) -> bool {
        self.circles.values().any(|circle| circle.company.devices.contains(device))
    }

    /// Everything that is due.
    fn proceed(&mut self, now_ms: u64, random: &mut dyn Random, effects: &mut Vec<Effect>) {
        if !self.online {
            return;
        }
        let communities: Vec<_> = self.circles.keys().copied().collect();
        for community in communities {
            let Some(circle) = self.circles.get_mut(&community) else { continue };
            circle.chases.fetch(now_ms, random, community, &mut self.peers);
            circle.check(now_ms, random, community, &mut self.peers);
            circle.rotate(now_ms, random, &mut self.peers, effects);
            circle.dial(now_ms, random, &mut self.peers, effects);
            let introduced = circle.introduce(now_ms, random, &self.peers);
            effects.extend(introduced.map(|devices| Effect::Introduce(community, devices)));
            effects.extend(circle.pass_on(now_ms).map(|hint| Effect::Hint(community, hint)));
            if circle.presences.is_due(now_ms, random) {
                effects.push(Effect::Announce(community, self.load));
            }
        }
        effects.extend(self.peers.due_exchanges(now_ms).map(|(link, of)| Effect::Exchange(link, of)));
    }
}
