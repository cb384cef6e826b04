//! Devices and the links to them: which are dialled when, which exchange.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::id::{CommunityId, DeviceId};

use super::{Exchanged, LinkId, RETRY_MS, ROUNDS_MAX, Random};

/// First pause after a dial that failed, ms; each further one is twice as long.
const PAUSE_FIRST_MS: u64 = 250;
/// Longest pause between dials, ms. Whoever comes back dials by themselves.
const PAUSE_MAX_MS: u64 = 300_000;
/// Dials under way at once.
const DIALS_MAX: usize = 16;

#[derive(Debug, Default)]
struct Peer {
    links: usize,
    dialling: bool,
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
}

#[derive(Debug)]
struct Link {
    device: DeviceId,
    dialled: bool,
    /// It is being closed: nothing more is to happen on it.
    is_parting: bool,
    talks: BTreeMap<CommunityId, Talk>,
}

/// All peers of a node.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<DeviceId, Peer>,
    links: BTreeMap<LinkId, Link>,
}

impl Peers {
    pub(super) fn linked_by(&mut self, link: LinkId, device: DeviceId, dialled: bool) {
        let peer = self.peers.entry(device).or_default();
        peer.links += 1;
        peer.dialling = false;
        self.links.insert(link, Link { device, dialled, is_parting: false, talks: BTreeMap::new() });
    }

    /// A community that both sides are in; `now` for an exchange at once.
    pub(super) fn common(&mut self, link: LinkId, community: CommunityId, now: bool) {
        if let Some(link) = self.links.get_mut(&link) {
            link.talks.entry(community).or_default().due_ms = now.then_some(0);
        }
    }

    /// Links to members of a community serve it, others do not.
    pub(super) fn settle(&mut self, community: CommunityId, members: &BTreeSet<DeviceId>) {
        for link in self.links.values_mut().filter(|link| !link.is_parting) {
            if !members.contains(&link.device) {
                link.talks.remove(&community);
            } else {
                let new = || Talk { due_ms: Some(0), ..Talk::default() };
                link.talks.entry(community).or_insert_with(new);
            }
        }
    }

    pub(super) fn unlinked(&mut self, link: LinkId, now_ms: u64, random: &mut dyn Random) {
        let Some(link) = self.links.remove(&link) else { return };
        let Some(peer) = self.peers.get_mut(&link.device) else { return };
        peer.links -= 1;
        if peer.links == 0 {
            peer.wait_longer(now_ms, random);
            return;
        }
        // What it may have been asked for is asked of the one that is left.
        for other in self.links.values_mut().filter(|other| other.device == link.device) {
            for community in link.talks.keys() {
                other.talks.entry(*community).or_default().due_ms = Some(now_ms);
            }
        }
    }

    pub(super) fn dial_failed(&mut self, device: &DeviceId, now_ms: u64, random: &mut dyn Random) {
        let Some(peer) = self.peers.get_mut(device) else { return };
        peer.dialling = false;
        peer.wait_longer(now_ms, random);
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
        let under_way = self.peers.values().filter(|peer| peer.dialling).count();
        let peer = self.peers.entry(device).or_default();
        if peer.links > 0 || peer.dialling || peer.next_dial_ms > now_ms || under_way >= DIALS_MAX {
            return false;
        }
        peer.dialling = true;
        true
    }

    pub(super) fn is_linked(&self, device: &DeviceId) -> bool {
        self.peers.get(device).is_some_and(|peer| peer.links > 0)
    }

    /// Whether a device is linked, being dialled, or may be now.
    pub(super) fn may_dial(&self, device: &DeviceId, now_ms: u64) -> bool {
        let peer = self.peers.get(device);
        peer.is_none_or(|peer| peer.links == 0 && !peer.dialling && peer.next_dial_ms <= now_ms)
    }

    pub(super) fn is_dialling(&self, device: &DeviceId) -> bool {
        self.peers.get(device).is_some_and(|peer| peer.dialling)
    }

    pub(super) fn linked(&self) -> impl Iterator<Item = DeviceId> {
        self.peers.iter().filter(|(_, peer)| peer.links > 0).map(|(device, _)| *device)
    }

    pub(super) fn all_links(&self) -> Vec<(LinkId, DeviceId)> {
        self.links.iter().map(|(id, link)| (*id, link.device)).collect()
    }

    /// The links to a device, the newest first.
    pub(super) fn links_of(&self, device: &DeviceId) -> Vec<LinkId> {
        let links = self.links.iter().rev().filter(|(_, link)| link.device == *device);
        links.map(|(id, _)| *id).collect()
    }

    /// Links in a community on which nothing runs.
    pub(super) fn idle_links(&self, community: &CommunityId) -> Vec<(LinkId, DeviceId)> {
        let is_idle = |link: &&Link| link.talks.get(community).is_some_and(|talk| !talk.running);
        let links = self.links.iter().filter(|(_, link)| is_idle(link));
        links.map(|(id, link)| (*id, link.device)).collect()
    }

    /// Links in a community, with who dialled.
    pub(super) fn links_in(&self, community: &CommunityId) -> Vec<(LinkId, DeviceId, bool)> {
        let links = self.links.iter().filter(|(_, link)| link.talks.contains_key(community));
        links.map(|(id, link)| (*id, link.device, link.dialled)).collect()
    }

    /// How many communities a link serves.
    pub(super) fn communities_on(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, |link| link.talks.len())
    }

    /// A link is about to be closed.
    pub(super) fn part(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.is_parting = true;
            link.talks.clear();
        }
    }

    /// An exchange is to begin at `at_ms`, or after the one that runs.
    pub(super) fn exchange_due(&mut self, link: LinkId, community: CommunityId, at_ms: u64) {
        if let Some(link) = self.links.get_mut(&link).filter(|link| !link.is_parting) {
            let talk = link.talks.entry(community).or_default();
            talk.due_ms = Some(talk.due_ms.map_or(at_ms, |due_ms| due_ms.min(at_ms)));
            talk.rounds = 0;
        }
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
        match outcome {
            None => talk.due_ms = Some(now_ms + random.jitter(RETRY_MS)),
            Some(Exchanged { stored, deferred }) if stored > 0 && deferred > 0 => {
                talk.rounds += 1;
                if talk.rounds < ROUNDS_MAX {
                    talk.due_ms = Some(now_ms);
                }
            }
            Some(_) => {}
        }
    }

    /// Exchanges that are to begin now; they count as running.
    pub(super) fn due_exchanges(&mut self, now_ms: u64) -> impl Iterator<Item = (LinkId, CommunityId)> {
        let mut due = Vec::new();
        for (id, link) in &mut self.links {
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

    /// When an exchange is due, or a dial of one of these devices.
    pub(super) fn next_wake_ms(&self, is_candidate: impl Fn(&DeviceId) -> bool) -> impl Iterator<Item = u64> {
        let talks = self.links.values().flat_map(|link| link.talks.values());
        let exchange = talks.filter(|talk| !talk.running).filter_map(|talk| talk.due_ms).min();
        let mut dial: Option<u64> = None;
        for (device, peer) in &self.peers {
            let is_earlier = dial.is_none_or(|dial| peer.next_dial_ms < dial);
            if peer.links == 0 && !peer.dialling && is_earlier && is_candidate(device) {
                dial = Some(peer.next_dial_ms);
            }
        }
        exchange.into_iter().chain(dial)
    }
}

impl Peer {
    fn wait_longer(&mut self, now_ms: u64, random: &mut dyn Random) {
        let pause_ms = self.pause_ms.map_or(PAUSE_FIRST_MS, |pause_ms| (pause_ms * 2).min(PAUSE_MAX_MS));
        self.pause_ms = Some(pause_ms);
        self.next_dial_ms = now_ms + random.jitter(pause_ms / 2);
    }
}
