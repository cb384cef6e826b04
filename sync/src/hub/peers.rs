//! Devices and the links to them: which are dialled when, which exchange.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::id::{CommunityId, DeviceId};

use super::{Exchanged, LinkId, RETRY_MS, ROUNDS_MAX, Random};

/// First pause after a dial that failed, ms; each further one is twice as long.
const PAUSE_FIRST_MS: u64 = 250;
/// Longest pause between dials, ms. Whoever comes back dials by themselves.
const PAUSE_MAX_MS: u64 = 300_000;
/// Shortest pause before a device is dialled again that was parted with because
/// there were enough links, ms; up to twice as long.
const PARTED_MS: u64 = 60_000;
/// Dials under way at once.
const DIALS_MAX: usize = 16;
/// Exchanges that failed in a row after which the pause grows no more: it is
/// then half a minute to a minute, as between comparisons without a reason.
const FAILURES_MAX: u32 = 5;

#[derive(Debug, Default)]
struct Peer {
    /// Links that are not being closed.
    links: usize,
    next_dial_ms: u64,
    pause_ms: Option<u64>,
}

/// Exchanges of one community on a link.
#[derive(Debug, Default)]
struct Talk {
    running: bool,
    /// When the next one is to begin.
    due_ms: Option<u64>,
    /// Exchanges since something else than the last one asked for one.
    rounds: u32,
    /// Exchanges that failed since the last one that did not.
    failures: u32,
}

#[derive(Debug)]
struct Link {
    device: DeviceId,
    dialled: bool,
    /// Whether the shell was told to close it: it counts no more.
    closing: bool,
    talks: BTreeMap<CommunityId, Talk>,
}

/// All peers of a node.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<DeviceId, Peer>,
    links: BTreeMap<LinkId, Link>,
    dialling: BTreeSet<DeviceId>,
}

impl Peers {
    pub(super) fn linked_by(&mut self, link: LinkId, device: DeviceId, dialled: bool) {
        let peer = self.peers.entry(device).or_default();
        peer.links += 1;
        if dialled {
            self.dialling.remove(&device);
        } else {
            // It is there, and knows us.
            peer.pause_ms = None;
        }
        self.links.insert(link, Link { device, dialled, closing: false, talks: BTreeMap::new() });
    }

    /// A community that both sides are in; `now` for an exchange at once.
    pub(super) fn common(&mut self, link: LinkId, community: CommunityId, now: bool) {
        if let Some(link) = self.links.get_mut(&link) {
            link.talks.entry(community).or_default().due_ms = now.then_some(0);
        }
    }

    /// Links to members of a community serve it, others do not.
    pub(super) fn settle(&mut self, community: CommunityId, members: &BTreeSet<DeviceId>) {
        for link in self.links.values_mut() {
            if !members.contains(&link.device) {
                link.talks.remove(&community);
            } else {
                let new = || Talk { due_ms: Some(0), ..Talk::default() };
                link.talks.entry(community).or_insert_with(new);
            }
        }
    }

    /// No link serves a community any more.
    pub(super) fn leave(&mut self, community: &CommunityId) {
        for link in self.links.values_mut() {
            link.talks.remove(community);
        }
    }

    /// Forgets devices that have no link and are in no community.
    pub(super) fn retain_known(&mut self, is_known: impl Fn(&DeviceId) -> bool) {
        self.peers.retain(|device, peer| peer.links > 0 || is_known(device));
    }

    /// A link is to be closed; false where that was said before.
    pub(super) fn close(&mut self, link: LinkId, now_ms: u64, random: &mut dyn Random) -> bool {
        let Some(link) = self.links.get_mut(&link).filter(|link| !link.closing) else { return false };
        link.closing = true;
        if let Some(peer) = self.peers.get_mut(&link.device) {
            peer.links -= 1;
            if peer.links == 0 {
                peer.next_dial_ms = peer.next_dial_ms.max(now_ms + random.jitter(PARTED_MS));
            }
        }
        true
    }

    pub(super) fn unlinked(&mut self, link: LinkId, now_ms: u64, random: &mut dyn Random) {
        let Some(link) = self.links.remove(&link) else { return };
        let Some(peer) = self.peers.get_mut(&link.device) else { return };
        if !link.closing {
            peer.links -= 1;
            if peer.links == 0 {
                peer.wait_longer(now_ms, random);
            }
        }
        // What it may have been asked for is asked of the one that is left.
        for other in self.links.values_mut().filter(|other| other.device == link.device) {
            for (community, talk) in &mut other.talks {
                if link.talks.contains_key(community) {
                    talk.due_ms = Some(now_ms);
                }
            }
        }
    }

    pub(super) fn dial_failed(&mut self, device: &DeviceId, now_ms: u64, random: &mut dyn Random) {
        self.dialling.remove(device);
        if let Some(peer) = self.peers.get_mut(device).filter(|peer| peer.links == 0) {
            peer.wait_longer(now_ms, random);
        }
    }

    /// Lets every peer be dialled at once.
    pub(super) fn forget_pauses(&mut self) {
        for peer in self.peers.values_mut() {
            peer.pause_ms = None;
            peer.next_dial_ms = 0;
        }
    }

    /// Lets one peer be dialled at once.
    pub(super) fn seen(&mut self, device: &DeviceId) {
        if let Some(peer) = self.peers.get_mut(device) {
            peer.pause_ms = None;
            peer.next_dial_ms = 0;
        }
    }

    /// Begins a dial, unless there is a link or it is too early.
    pub(super) fn begin_dial(&mut self, device: DeviceId, now_ms: u64) -> bool {
        if self.dialling.len() >= DIALS_MAX || !self.may_dial(&device, now_ms) {
            return false;
        }
        self.peers.entry(device).or_default();
        self.dialling.insert(device)
    }

    pub(super) fn is_linked(&self, device: &DeviceId) -> bool {
        self.peers.get(device).is_some_and(|peer| peer.links > 0)
    }

    /// Whether a device may be dialled now.
    pub(super) fn may_dial(&self, device: &DeviceId, now_ms: u64) -> bool {
        let may = |peer: &Peer| peer.links == 0 && peer.next_dial_ms <= now_ms;
        !self.dialling.contains(device) && self.peers.get(device).is_none_or(may)
    }

    /// When a device may be dialled; nothing while it is linked or being dialled, or
    /// while as many are as may be.
    pub(super) fn next_dial_ms(&self, device: &DeviceId) -> Option<u64> {
        if self.dialling.len() >= DIALS_MAX || self.dialling.contains(device) || self.is_linked(device) {
            return None;
        }
        self.peers.get(device).map(|peer| peer.next_dial_ms)
    }

    /// How many of these devices are linked or being dialled.
    pub(super) fn met(&self, devices: &BTreeSet<DeviceId>) -> usize {
        let linked = self.links.values().filter(|link| !link.closing).map(|link| link.device);
        let met: BTreeSet<_> = linked.chain(self.dialling.iter().copied()).collect();
        met.intersection(devices).count()
    }

    pub(super) fn linked(&self) -> impl Iterator<Item = DeviceId> {
        self.peers.iter().filter(|(_, peer)| peer.links > 0).map(|(device, _)| *device)
    }

    /// Links that are not being closed.
    pub(super) fn all_links(&self) -> impl Iterator<Item = (LinkId, DeviceId)> {
        self.links.iter().filter(|(_, link)| !link.closing).map(|(id, link)| (*id, link.device))
    }

    /// The links to a device, the newest first.
    pub(super) fn links_of(&self, device: &DeviceId) -> Vec<LinkId> {
        let links = self.all_links().filter(|(_, of)| of == device);
        let mut links: Vec<_> = links.map(|(id, _)| id).collect();
        links.reverse();
        links
    }

    /// Second links to the device of a link that works: of two, the one stays that
    /// the device with the smaller id dialled, or else the newest, so that both
    /// sides give up the same. They come about when both dial at once.
    pub(super) fn second_links(&self, me: &DeviceId, link: LinkId) -> Vec<LinkId> {
        let Some(works) = self.links.get(&link).filter(|link| !link.closing) else { return Vec::new() };
        let is_lower = |link: &Link| link.dialled == (*me < works.device);
        let links = self.links_of(&works.device);
        let stays = links.iter().find(|id| self.links.get(id).is_some_and(is_lower)).or(links.first());
        if stays != Some(&link) {
            return Vec::new();
        }
        links.into_iter().filter(|other| *other != link).collect()
    }

    /// Links in a community on which nothing runs, and the last exchange did not
    /// fail.
    pub(super) fn idle_links(&self, community: &CommunityId) -> Vec<(LinkId, DeviceId)> {
        let is_idle = |link: &&Link| {
            let talk = link.talks.get(community);
            !link.closing && talk.is_some_and(|talk| !talk.running && talk.failures == 0)
        };
        let links = self.links.iter().filter(|(_, link)| is_idle(link));
        links.map(|(id, link)| (*id, link.device)).collect()
    }

    /// Links in a community.
    pub(super) fn links_in(&self, community: &CommunityId) -> Vec<(LinkId, DeviceId)> {
        let serves = |link: &Link| !link.closing && link.talks.contains_key(community);
        let links = self.links.iter().filter(|(_, link)| serves(link));
        links.map(|(id, link)| (*id, link.device)).collect()
    }

    /// How many communities a link serves.
    pub(super) fn communities_on(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, |link| link.talks.len())
    }

    /// An exchange is to begin at `at_ms`, or after the one that runs; where the
    /// last one failed, when it is tried again. A link that does not serve the
    /// community serves it no more for this.
    pub(super) fn exchange_due(&mut self, link: LinkId, community: CommunityId, at_ms: u64) {
        let Some(talk) = self.links.get_mut(&link).and_then(|link| link.talks.get_mut(&community)) else {
            return;
        };
        if talk.failures == 0 || talk.due_ms.is_none() {
            talk.due_ms = Some(talk.due_ms.map_or(at_ms, |due_ms| due_ms.min(at_ms)));
        }
        talk.rounds = 0;
    }

    /// An exchange is to begin whatever became of the last one.
    pub(super) fn exchange_wanted(&mut self, link: LinkId, community: CommunityId, now_ms: u64) {
        if let Some(talk) = self.links.get_mut(&link).and_then(|link| link.talks.get_mut(&community)) {
            talk.failures = 0;
        }
        self.exchange_due(link, community, now_ms);
    }

    pub(super) fn exchanged(
        &mut self,
        link: LinkId,
        community: CommunityId,
        outcome: Option<Exchanged>,
        now_ms: u64,
        random: &mut dyn Random,
    ) {
        let Some(link) = self.links.get_mut(&link) else { return };
        if outcome.is_some()
            && let Some(peer) = self.peers.get_mut(&link.device)
        {
            // It knows us: a lost link is worth dialling at once.
            peer.pause_ms = None;
        }
        let Some(talk) = link.talks.get_mut(&community) else { return };
        talk.running = false;
        let Some(Exchanged { stored, deferred }) = outcome else {
            talk.due_ms = Some(now_ms + random.jitter(RETRY_MS << talk.failures));
            talk.failures = (talk.failures + 1).min(FAILURES_MAX);
            return;
        };
        talk.failures = 0;
        if stored > 0 && deferred > 0 {
            talk.rounds += 1;
            if talk.rounds < ROUNDS_MAX {
                talk.due_ms = Some(now_ms);
            }
        }
    }

    /// Exchanges that are to begin now; they count as running.
    pub(super) fn due_exchanges(&mut self, now_ms: u64) -> impl Iterator<Item = (LinkId, CommunityId)> {
        let mut due = Vec::new();
        for (id, link) in self.links.iter_mut().filter(|(_, link)| !link.closing) {
            for (community, talk) in &mut link.talks {
                if !talk.running && talk.due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
                    talk.due_ms = None;
                    talk.running = true;
                    due.push((*id, *community));
                }
            }
        }
        due.into_iter()
    }

    /// When an exchange is due.
    pub(super) fn next_exchange_ms(&self) -> Option<u64> {
        let talks = self.links.values().filter(|link| !link.closing).flat_map(|link| link.talks.values());
        talks.filter(|talk| !talk.running).filter_map(|talk| talk.due_ms).min()
    }
}

impl Peer {
    fn wait_longer(&mut self, now_ms: u64, random: &mut dyn Random) {
        let pause_ms = self.pause_ms.map_or(PAUSE_FIRST_MS, |pause_ms| (pause_ms * 2).min(PAUSE_MAX_MS));
        self.pause_ms = Some(pause_ms);
        self.next_dial_ms = now_ms + random.jitter(pause_ms / 2);
    }
}
