//! One community as the mesh sees it: who is in it, where its lines end here,
//! what is being fetched, and which links it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_model::feed::FeedId;
use exo_model::id::{CommunityId, DeviceId};

use super::chases::Chases;
use super::peers::Peers;
use super::presence::Presences;
use super::{
    CHECK_EVERY_MS, Company, DEGREE, Effect, FULL_MESH_MAX, Farewell, Hint, LINKS_MAX, NEWS_MAX,
    ROTATE_EVERY_MS, Random,
};
use crate::session::{Ends, FeedHead};

/// Shortest pause before what came without a hint is passed on by one, ms; up to
/// twice as long. Whoever hears somebody else say it meanwhile says nothing.
const PASS_ON_MS: u64 = 500;
/// Feeds that wait to be passed on. What is beyond needs no hint of its own:
/// whoever fetches one thing fetches all.
const UNTOLD_MAX: usize = 256;
/// Neighbours by gossip below which linked devices are named to it again.
const NEIGHBOURS_FEW: usize = 2;
/// Shortest pause before linked devices are named to gossip again, ms; up to
/// twice as long.
const INTRODUCE_EVERY_MS: u64 = 15_000;

#[derive(Debug)]
pub(super) struct Circle {
    pub(super) company: Arc<Company>,
    /// Neighbours by gossip.
    pub(super) neighbours: BTreeSet<DeviceId>,
    /// Linked devices that gossip was told of. Each is named once: whoever joins
    /// takes the place of another neighbour there, who would be named again.
    introduced: BTreeSet<DeviceId>,
    next_introduction_ms: u64,
    pub(super) presences: Presences,
    pub(super) chases: Chases,
    ends: Arc<Ends>,
    /// What others wrote and nobody hinted at.
    untold: BTreeMap<FeedId, u64>,
    pass_on_ms: Option<u64>,
    /// When each device was last heard of by gossip.
    heard_ms: BTreeMap<DeviceId, u64>,
    next_check_ms: u64,
    next_rotation_ms: u64,
}

impl Circle {
    pub(super) fn new(ends: Arc<Ends>, now_ms: u64, random: &mut dyn Random) -> Self {
        Self {
            company: Arc::default(),
            neighbours: BTreeSet::new(),
            introduced: BTreeSet::new(),
            next_introduction_ms: now_ms,
            presences: Presences::new(now_ms),
            chases: Chases::default(),
            ends,
            untold: BTreeMap::new(),
            pass_on_ms: None,
            heard_ms: BTreeMap::new(),
            next_check_ms: now_ms + random.jitter(CHECK_EVERY_MS),
            next_rotation_ms: now_ms + random.jitter(ROTATE_EVERY_MS),
        }
    }

    /// Takes new company.
    pub(super) fn meet(&mut self, company: Arc<Company>) {
        self.chases.retain_members(&company.devices);
        self.heard_ms.retain(|device, _| company.devices.contains(device));
        self.presences.share_with(company.devices.len());
        self.company = company;
    }

    /// Takes new ends. Returns what to tell the others at once of what this device
    /// wrote; the rest is passed on unless somebody hinted at it.
    pub(super) fn advance(
        &mut self,
        me: DeviceId,
        ends: Arc<Ends>,
        now_ms: u64,
        random: &mut dyn Random,
    ) -> Option<Hint> {
        let news = ends.news_since(&self.ends, usize::MAX);
        self.ends = ends;
        let (own, others): (Vec<_>, Vec<_>) = news.into_iter().partition(|head| head.device == me);
        let community = self.ends.community();
        for head in others {
            let feed = head.feed(community);
            if self.untold.len() < UNTOLD_MAX && !self.chases.covers(&feed, head.end.seq) {
                self.untold.insert(feed, head.end.seq);
                self.pass_on_ms.get_or_insert_with(|| now_ms + random.jitter(PASS_ON_MS));
            }
        }
        self.chases.settle(&self.ends);
        (!own.is_empty()).then(|| self.hint(own))
    }

    fn hint(&self, mut news: Vec<FeedHead>) -> Hint {
        let more = news.len() > NEWS_MAX;
        news.truncate(NEWS_MAX);
        Hint { root: self.ends.root(), news, more }
    }

    /// What to tell the others of what came from others without a hint: they may
    /// lack it too. A few ends are enough, because whoever lacks one fetches all.
    pub(super) fn pass_on(&mut self, now_ms: u64) -> Option<Hint> {
        if self.pass_on_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return None;
        }
        self.pass_on_ms = None;
        let untold = std::mem::take(&mut self.untold);
        let ends = untold.keys().flat_map(|feed| {
            let furthest = self.ends.of_feed(feed).iter().max_by_key(|end| end.seq);
            furthest.map(|end| FeedHead::new(feed, *end))
        });
        let news: Vec<_> = ends.take(NEWS_MAX).collect();
        (!news.is_empty()).then(|| self.hint(news))
    }

    /// Takes a hint: what is not here is fetched, what is need not be said again.
    pub(super) fn hinted(&mut self, now_ms: u64, origin: DeviceId, by: DeviceId, hint: &Hint) {
        let community = self.ends.community();
        for head in hint.news.iter().take(NEWS_MAX) {
            let feed = head.feed(community);
            if self.untold.get(&feed).is_some_and(|seq| *seq <= head.end.seq) {
                self.untold.remove(&feed);
            }
        }
        if self.untold.is_empty() {
            self.pass_on_ms = None;
        }
        self.chases.take(now_ms, origin, by, hint, &self.ends);
    }

    /// A device showed that gossip reaches it.
    pub(super) fn heard(&mut self, device: DeviceId, now_ms: u64) {
        if self.company.devices.contains(&device) {
            self.heard_ms.insert(device, now_ms);
        }
    }

    /// Whether gossip does not reach a device, as far as is known: keepers, and
    /// whoever has just come.
    pub(super) fn is_deaf(&self, device: &DeviceId, now_ms: u64) -> bool {
        let lasts_ms = self.presences.last_for_ms();
        let is_heard = || self.heard_ms.get(device).is_some_and(|at_ms| now_ms < at_ms + lasts_ms);
        !self.neighbours.contains(device) && !is_heard()
    }

    pub(super) const fn check_now(&mut self, now_ms: u64) {
        self.next_check_ms = now_ms;
    }

    /// Compares with someone, without any reason, when it is time.
    pub(super) fn check(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        community: CommunityId,
        peers: &mut Peers,
    ) {
        if self.next_check_ms > now_ms {
            return;
        }
        self.next_check_ms = now_ms + random.jitter(CHECK_EVERY_MS);
        let idle = peers.idle_links(&community);
        if let Some((link, _)) = idle.get(random.below(idle.len())) {
            peers.exchange_due(*link, community, now_ms);
        }
    }

    /// In a large community: a new link now and then, and not too many.
    pub(super) fn rotate(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        peers: &mut Peers,
        effects: &mut Vec<Effect>,
    ) {
        if self.is_small() {
            return;
        }
        let links = peers.links_in(&self.ends.community());
        let is_spare = |(link, device): &(_, DeviceId)| {
            !self.company.close.contains(device) && peers.communities_on(*link) == 1
        };
        let mut spare: Vec<_> = links.iter().copied().filter(is_spare).collect();
        for _ in LINKS_MAX..links.len() {
            if spare.is_empty() {
                break;
            }
            let (link, _) = spare.swap_remove(random.below(spare.len()));
            if peers.close(link, now_ms, random) {
                effects.push(Effect::Close(link, Farewell::Enough));
            }
        }
        if self.next_rotation_ms > now_ms {
            return;
        }
        self.next_rotation_ms = now_ms + random.jitter(ROTATE_EVERY_MS);
        let candidates = self.candidates(now_ms, peers);
        if let Some(device) = candidates.get(random.below(candidates.len()))
            && peers.begin_dial(*device, now_ms)
        {
            effects.push(Effect::Dial(*device));
        }
    }

    /// Dials whoever is missing.
    pub(super) fn dial(
        &self,
        now_ms: u64,
        random: &mut dyn Random,
        peers: &mut Peers,
        effects: &mut Vec<Effect>,
    ) {
        let always = if self.is_small() { &self.company.devices } else { &self.company.close };
        for device in always {
            if peers.begin_dial(*device, now_ms) {
                effects.push(Effect::Dial(*device));
            }
        }
        let lacking = self.lacking(peers);
        if lacking == 0 {
            return;
        }
        let mut candidates = self.candidates(now_ms, peers);
        for _ in 0..lacking.min(candidates.len()) {
            let device = candidates.swap_remove(random.below(candidates.len()));
            if peers.begin_dial(device, now_ms) {
                effects.push(Effect::Dial(device));
            }
        }
    }

    /// In a large community: how many links are lacking that no dial is under way
    /// for.
    fn lacking(&self, peers: &Peers) -> usize {
        if self.is_small() { 0 } else { DEGREE.saturating_sub(peers.met(&self.company.devices)) }
    }

    /// When somebody is to be dialled next.
    pub(super) fn next_dial_ms(&self, peers: &Peers) -> Option<u64> {
        let is_anyone = self.is_small() || self.lacking(peers) > 0;
        let devices = if is_anyone { &self.company.devices } else { &self.company.close };
        devices.iter().filter_map(|device| peers.next_dial_ms(device)).min()
    }

    /// Linked devices to name to gossip: each once, and all of them again while
    /// there are few neighbours.
    pub(super) fn introduce(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        peers: &Peers,
    ) -> Option<Vec<DeviceId>> {
        let linked = self.linked(peers);
        self.introduced.retain(|device| linked.contains(device));
        if self.is_lonely(&linked) && self.next_introduction_ms <= now_ms {
            self.next_introduction_ms = now_ms + random.jitter(INTRODUCE_EVERY_MS);
            self.introduced.clear();
        }
        let is_new =
            |device: &&DeviceId| !self.neighbours.contains(*device) && !self.introduced.contains(*device);
        let strangers: Vec<_> = linked.iter().filter(is_new).copied().collect();
        self.introduced.extend(linked);
        (!strangers.is_empty()).then_some(strangers)
    }

    fn linked(&self, peers: &Peers) -> BTreeSet<DeviceId> {
        peers.links_in(&self.ends.community()).into_iter().map(|(_, device)| device).collect()
    }

    /// Whether gossip has few neighbours, and could have more.
    fn is_lonely(&self, linked: &BTreeSet<DeviceId>) -> bool {
        self.neighbours.len() < NEIGHBOURS_FEW && !linked.is_subset(&self.neighbours)
    }

    pub(super) fn next_wake_ms(&self, peers: &Peers) -> u64 {
        let rotation = (!self.is_small()).then_some(self.next_rotation_ms);
        let introduction = self.is_lonely(&self.linked(peers)).then_some(self.next_introduction_ms);
        let some = [rotation, introduction, self.chases.next_ms(), self.pass_on_ms, self.next_dial_ms(peers)];
        let soonest = some.into_iter().flatten().min().unwrap_or(u64::MAX);
        self.next_check_ms.min(self.presences.next_ms()).min(soonest)
    }

    fn is_small(&self) -> bool {
        self.company.devices.len() <= FULL_MESH_MAX
    }

    fn candidates(&self, now_ms: u64, peers: &Peers) -> Vec<DeviceId> {
        self.company.devices.iter().filter(|device| peers.may_dial(device, now_ms)).copied().collect()
    }
}
