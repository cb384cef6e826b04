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
mod io;
mod peers;
mod presence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_model::id::{CommunityId, DeviceId};

use crate::session::Ends;

pub use io::{Company, Effect, Exchanged, Farewell, Hint, Input};
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
        }
        if is_new || self.peers.all_links().any(|(_, device)| !self.is_known(&device)) {
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
        let is_known =
            |device: &DeviceId| circles.values().any(|circle| circle.company.devices.contains(device));
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
        } else if dialled && !self.is_known(&device) {
            // Put out while it was being dialled. Who called was let in a moment ago:
            // perhaps as a new member, of whom nobody has told the hub yet.
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
