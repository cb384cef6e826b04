//! One community as the mesh sees it: who is in it, where its lines end here,
//! what is being fetched, and which links it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_model::feed::FeedId;
use exo_model::id::{CommunityId, DeviceId};

use super::peers::Peers;
use super::presence::{PRESENCE_LASTS_MS, Presences};
use super::{
    CHECK_EVERY_MS, Company, DEGREE, Effect, Exchanged, FULL_MESH_MAX, Farewell, Hint, LINKS_MAX, LinkId,
    NEWS_MAX, ROTATE_EVERY_MS, Random,
};
use crate::session::{Ends, FeedHead};

/// Things fetched at once. A hint beyond it makes for a comparison instead.
const CHASES_MAX: usize = 64;
/// Links asked for one thing before it is left to the next comparison.
const TRIES_MAX: u32 = 6;
/// Pause before the second link is asked, ms; twice as long for each further one.
const TRY_AGAIN_MS: u64 = 100;

/// Changes that were hinted at and are not here yet.
#[derive(Debug)]
struct Chase {
    missing: Vec<(FeedId, u64)>,
    /// Where more changed than was named: how all ends were there.
    root: Option<[u8; 32]>,
    /// Who is asked first.
    first: Vec<DeviceId>,
    tries: u32,
    next_ms: u64,
}

impl Chase {
    fn is_over(&self, ends: &Ends) -> bool {
        let is_here = |(feed, seq): &(FeedId, u64)| ends.reaches(feed, *seq);
        self.missing.iter().all(is_here) && (self.root.is_none_or(|root| root == ends.root()))
    }
}

#[derive(Debug)]
pub(super) struct Circle {
    pub(super) company: Arc<Company>,
    /// Neighbours by gossip.
    pub(super) neighbours: BTreeSet<DeviceId>,
    /// Of whom gossip was told since its neighbours changed.
    pub(super) introduced: BTreeSet<DeviceId>,
    pub(super) presences: Presences,
    ends: Arc<Ends>,
    /// The ends of which the others were told.
    told: Arc<Ends>,
    chases: Vec<Chase>,
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
            presences: Presences::new(now_ms),
            told: ends.clone(),
            ends,
            chases: Vec::new(),
            heard_ms: BTreeMap::new(),
            next_check_ms: now_ms + random.jitter(CHECK_EVERY_MS),
            next_rotation_ms: now_ms + random.jitter(ROTATE_EVERY_MS),
        }
    }

    /// Takes new ends. Returns what to tell the others of what this device
    /// wrote.
    pub(super) fn advance(&mut self, me: DeviceId, ends: Arc<Ends>) -> Option<Hint> {
        let news = ends.news_since(&self.ends, usize::MAX);
        self.ends = ends;
        let ends = &self.ends;
        self.chases.retain(|chase| !chase.is_over(ends));
        let own: Vec<_> = news.into_iter().filter(|head| head.device == me).collect();
        (!own.is_empty()).then(|| {
            self.told = self.ends.clone();
            self.hint(own)
        })
    }

    /// What to tell the others after an exchange that brought something
    /// nobody hinted at: they may lack it too.
    pub(super) fn passes_on(&mut self, outcome: Exchanged) -> Option<Hint> {
        if outcome.stored == 0 || self.ends.root() == self.told.root() {
            return None;
        }
        let news = self.ends.news_since(&self.told, NEWS_MAX + 1);
        self.told = self.ends.clone();
        // What was fetched because of a hint is known by whoever heard it.
        (!news.is_empty()).then(|| self.hint(news))
    }

    fn hint(&self, mut news: Vec<FeedHead>) -> Hint {
        let more = news.len() > NEWS_MAX;
        news.truncate(NEWS_MAX);
        Hint { root: self.ends.root(), news, more }
    }

    /// A device showed that gossip reaches it.
    pub(super) fn heard(&mut self, device: DeviceId, now_ms: u64) {
        if self.company.devices.contains(&device) {
            self.heard_ms.insert(device, now_ms);
        }
    }

    /// Devices that gossip does not reach, as far as is known: keepers, and
    /// whoever has just come.
    pub(super) fn deaf(&self, now_ms: u64) -> Vec<DeviceId> {
        let heard = |device: &DeviceId| {
            self.neighbours.contains(device)
                || self.heard_ms.get(device).is_some_and(|at_ms| now_ms < at_ms + PRESENCE_LASTS_MS)
        };
        self.company.devices.iter().filter(|device| !heard(device)).copied().collect()
    }

    /// Takes a hint: what is not here is fetched.
    pub(super) fn chase(&mut self, now_ms: u64, origin: DeviceId, by: DeviceId, hint: Hint) {
        let community = self.ends.community();
        let missing = |head: &FeedHead| {
            let feed = head.feed(community);
            (!self.ends.reaches(&feed, head.end.seq)).then_some((feed, head.end.seq))
        };
        let missing: Vec<_> = hint.news.iter().take(NEWS_MAX).filter_map(missing).collect();
        let root = hint.more.then_some(hint.root);
        let chase = Chase { missing, root, first: vec![origin, by], tries: 0, next_ms: now_ms };
        if chase.is_over(&self.ends) {
            return;
        }
        if self.chases.len() == CHASES_MAX {
            self.chases.remove(0);
            self.check_now(now_ms);
        }
        // Others heard the same hint: nobody needs to be told of this again.
        self.chases.push(chase);
    }

    pub(super) fn check_now(&mut self, now_ms: u64) {
        self.next_check_ms = now_ms;
    }

    /// Begins exchanges for what is missing.
    pub(super) fn fetch(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        community: CommunityId,
        peers: &mut Peers,
    ) {
        for chase in self.chases.iter_mut().filter(|chase| chase.next_ms <= now_ms) {
            let idle = peers.idle_links(&community);
            let Some(link) = choose(chase, &idle, random) else {
                // All are busy with this community, and may bring it.
                chase.next_ms = now_ms + TRY_AGAIN_MS;
                continue;
            };
            peers.exchange_due(link, community, now_ms);
            chase.next_ms = now_ms + (TRY_AGAIN_MS << chase.tries);
            chase.tries += 1;
        }
        self.chases.retain(|chase| chase.tries <= TRIES_MAX);
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
        let community = self.ends.community();
        let links = peers.links_in(&community);
        if links.len() > LINKS_MAX {
            let spare: Vec<_> = links
                .iter()
                .filter(|(link, device, _)| {
                    !self.company.close.contains(device) && peers.communities_on(*link) == 1
                })
                .collect();
            if let Some((link, ..)) = spare.get(random.below(spare.len())) {
                peers.part(*link);
                effects.push(Effect::Close(*link, Farewell::Enough));
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
        let mut dial = |device: DeviceId| {
            if peers.begin_dial(device, now_ms) {
                effects.push(Effect::Dial(device));
            }
        };
        if self.is_small() {
            self.company.devices.iter().copied().for_each(dial);
            return;
        }
        self.company.close.iter().copied().for_each(&mut dial);
        let is_met = |device: &&DeviceId| peers.is_linked(device) || peers.is_dialling(device);
        let met = self.company.devices.iter().filter(is_met).count();
        let mut candidates = self.candidates(now_ms, peers);
        for _ in met..DEGREE.min(self.company.devices.len()) {
            if candidates.is_empty() {
                return;
            }
            let device = candidates.swap_remove(random.below(candidates.len()));
            if peers.begin_dial(device, now_ms) {
                effects.push(Effect::Dial(device));
            }
        }
    }

    /// Whether a device would be dialled if it were its turn.
    pub(super) fn wants(&self, device: &DeviceId, is_linked: impl Fn(&DeviceId) -> bool) -> bool {
        if !self.company.devices.contains(device) {
            return false;
        }
        self.is_small()
            || self.company.close.contains(device)
            || self.company.devices.iter().filter(|other| is_linked(other)).count() < DEGREE
    }

    /// Linked devices that gossip was not told of.
    pub(super) fn introduce(&mut self, peers: &Peers) -> Option<Vec<DeviceId>> {
        let links = peers.links_in(&self.ends.community());
        let linked: BTreeSet<_> = links.into_iter().map(|(_, device, _)| device).collect();
        let strangers: Vec<_> = linked
            .iter()
            .filter(|device| !self.neighbours.contains(device) && !self.introduced.contains(device))
            .copied()
            .collect();
        self.introduced.retain(|device| linked.contains(device));
        self.introduced.extend(&strangers);
        (!strangers.is_empty()).then_some(strangers)
    }

    pub(super) fn next_wake_ms(&self) -> u64 {
        let chase = self.chases.iter().map(|chase| chase.next_ms).min().unwrap_or(u64::MAX);
        let rotation = if self.is_small() { u64::MAX } else { self.next_rotation_ms };
        self.next_check_ms.min(chase).min(rotation).min(self.presences.next_ms())
    }

    fn is_small(&self) -> bool {
        self.company.devices.len() <= FULL_MESH_MAX
    }

    fn candidates(&self, now_ms: u64, peers: &Peers) -> Vec<DeviceId> {
        self.company.devices.iter().filter(|device| peers.may_dial(device, now_ms)).copied().collect()
    }
}

/// Whom to ask: who wrote it, who passed the hint on, then anyone.
fn choose(chase: &mut Chase, idle: &[(LinkId, DeviceId)], random: &mut dyn Random) -> Option<LinkId> {
    while !chase.first.is_empty() {
        let device = chase.first.remove(0);
        if let Some((link, _)) = idle.iter().find(|(_, of)| *of == device) {
            return Some(*link);
        }
    }
    idle.get(random.below(idle.len())).map(|(link, _)| *link)
}
