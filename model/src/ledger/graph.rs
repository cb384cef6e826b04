//! The ledger's events as trees: every device's changes, each below the one
//! it follows. An honest device's tree is a line.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::charter::{LedgerCharter, Place};
use super::fault::Standing;
use crate::event::Event;
use crate::event::LedgerEvent;
use crate::feed::{FeedId, Meaningless, Stream, VerifiedEvent};
use crate::id::{ChangeHash, CommunityId, DeviceId};

/// What the first change of a ledger names as the one before it.
const NOTHING: ChangeHash = ChangeHash::from_bytes([0; 32]);

/// One change of a ledger feed, as the gate let it through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// The hash of the change.
    pub id: ChangeHash,
    /// The feed it is in; `feed.device` wrote it.
    pub feed: FeedId,
    /// Its place in the feed, from 1.
    pub seq: u64,
    /// The change before it on the device's line, across segments; zeros for
    /// the very first.
    pub previous: ChangeHash,
    /// The charter heads it was written under.
    pub heads: Arc<[ChangeHash]>,
    /// Wall time of writing, ms since the Unix epoch: for whoever asks how old
    /// work is. No account depends on it.
    pub time_ms: i64,
    /// The event; none where it means nothing to this program. A change that
    /// cannot be read *yet* is not posted yet: what follows it waits.
    pub event: Option<Arc<LedgerEvent>>,
}

impl Posted {
    /// A verified change of a ledger feed; `None` for other feeds, and while
    /// the key it is sealed with is missing.
    pub fn of(verified: &VerifiedEvent) -> Option<Self> {
        let event = match &verified.event {
            Ok(Event::Ledger(event)) => Some(Arc::new(event.clone())),
            Err(Meaningless::NoKey(_)) => return None,
            Ok(_) | Err(_) => None,
        };
        (verified.feed.stream == Stream::Ledger).then(|| Self {
            id: verified.hash,
            feed: verified.feed,
            seq: verified.seq,
            previous: verified.previous,
            heads: Arc::clone(&verified.heads),
            time_ms: verified.time_ms,
            event,
        })
    }

    const fn place(&self) -> Place {
        Place { segment: self.feed.segment, seq: self.seq }
    }
}

/// A change with what is known about it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) device: DeviceId,
    pub(super) place: Place,
    pub(super) previous: ChangeHash,
    pub(super) heads: Arc<[ChangeHash]>,
    pub(super) time_ms: i64,
    pub(super) event: Option<Arc<LedgerEvent>>,
    /// What follows it; more than one where the device forked.
    pub(super) children: Vec<ChangeHash>,
    /// Whether it lies beyond a fence.
    pub(super) void: bool,
    /// Whether its voucher verifies; asked once, because that is what costs.
    pub(super) voucher: Option<bool>,
    /// What became of it; none while it waits.
    pub(super) standing: Option<Standing>,
    /// Whether what it brings once has been counted.
    pub(super) taken: bool,
}

impl Node {
    pub(super) fn counts(&self) -> bool {
        self.standing == Some(Standing::Counted)
    }
}

/// What lies directly before a change.
pub(super) enum Before {
    /// Nothing: it is a ledger's first.
    Start,
    /// This change.
    Change(ChangeHash),
    /// Something that is not here, or that it cannot follow.
    Missing,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    nodes: BTreeMap<ChangeHash, Node>,
    roots: BTreeMap<DeviceId, Vec<ChangeHash>>,
    /// Changes by the one they follow, while that is not here.
    orphans: BTreeMap<ChangeHash, Vec<ChangeHash>>,
}

impl Graph {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ChangeHash, &Node)> {
        self.nodes.iter()
    }

    pub(super) fn get(&self, id: &ChangeHash) -> Option<&Node> {
        self.nodes.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ChangeHash) -> Option<&mut Node> {
        self.nodes.get_mut(id)
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = ChangeHash> + '_ {
        self.roots.values().flatten().copied()
    }

    pub(super) fn void(&self) -> impl Iterator<Item = ChangeHash> + '_ {
        self.nodes.iter().filter(|(_, node)| node.void).map(|(id, _)| *id)
    }

    /// Takes a change in; false where it was here already.
    pub(super) fn insert(&mut self, posted: Posted, void: bool) -> bool {
        if self.nodes.contains_key(&posted.id) {
            return false;
        }
        let (id, device, place) = (posted.id, posted.feed.device, posted.place());
        let children = self.orphans.remove(&id).unwrap_or_default();
        let children = children
            .into_iter()
            .filter(|child| self.nodes.get(child).is_some_and(|child| follows(device, place, child)))
            .collect();
        let node = Node {
            device,
            place,
            previous: posted.previous,
            heads: posted.heads,
            time_ms: posted.time_ms,
            event: posted.event,
            children,
            void,
            voucher: None,
            standing: None,
            taken: false,
        };
        if posted.previous == NOTHING {
            if (place == Place { segment: 0, seq: 1 }) {
                self.roots.entry(device).or_default().push(id);
            }
        } else if let Some(parent) = self.nodes.get_mut(&posted.previous) {
            if follows(parent.device, parent.place, &node) {
                parent.children.push(id);
            }
        } else {
            self.orphans.entry(posted.previous).or_default().push(id);
        }
        self.nodes.insert(id, node);
        true
    }

    pub(super) fn before(&self, node: &Node) -> Before {
        if node.previous == NOTHING {
            let first = node.place == Place { segment: 0, seq: 1 };
            return if first { Before::Start } else { Before::Missing };
        }
        match self.nodes.get(&node.previous) {
            Some(parent) if follows(parent.device, parent.place, node) => Before::Change(node.previous),
            _ => Before::Missing,
        }
    }

    /// Where the device's line parts directly after `before`, if it does; what
    /// lies beyond a fence is no line.
    pub(super) fn parting(&self, device: &DeviceId, before: &Before) -> Option<Place> {
        let next = self.next(device, before);
        if next.len() < 2 {
            return None;
        }
        let mut lines = next.iter().filter_map(|id| self.nodes.get(id)).filter(|node| !node.void);
        let first = lines.next()?.place;
        let lowest = lines.map(|node| node.place).min()?;
        Some(first.min(lowest))
    }

    /// The change beside which `id` makes a fork; none where there is none, or
    /// there was one already.
    pub(super) fn parts_from(&self, id: &ChangeHash) -> Option<ChangeHash> {
        let node = self.nodes.get(id).filter(|node| !node.void)?;
        let next = self.next(&node.device, &self.before(node)).iter();
        let mut lines =
            next.filter(|other| *other != id && self.nodes.get(other).is_some_and(|node| !node.void));
        lines.next().filter(|_| lines.next().is_none()).copied()
    }

    /// Whether a change was judged as one of a line that does not part.
    pub(super) fn is_judged_on_line(&self, id: &ChangeHash) -> bool {
        let standing = self.nodes.get(id).and_then(|node| node.standing.as_ref());
        matches!(standing, Some(Standing::Counted | Standing::Faulty(_) | Standing::Meaningless))
    }

    fn next(&self, device: &DeviceId, before: &Before) -> &[ChangeHash] {
        match before {
            Before::Start => self.roots.get(device).map_or(&[], Vec::as_slice),
            Before::Change(parent) => self.nodes.get(parent).map_or(&[], |parent| &parent.children),
            Before::Missing => &[],
        }
    }

    /// Forgets every judgement, and asks again what lies beyond a fence.
    pub(super) fn reset(&mut self) {
        for node in self.nodes.values_mut() {
            node.standing = None;
            node.taken = false;
        }
    }

    /// Asks again what lies beyond a fence.
    pub(super) fn fence(&mut self, community: &CommunityId, charter: &dyn LedgerCharter) {
        for (id, node) in &mut self.nodes {
            node.void = charter.is_beyond_fence(&feed(community, node), node.place.seq, id);
        }
    }
}

fn feed(community: &CommunityId, node: &Node) -> FeedId {
    FeedId::new(*community, node.device, Stream::Ledger).with_segment(node.place.segment)
}

/// Whether `next` is the same author's, at a place right after `place`. A
/// segment names the end of the one before by signature, not by chain, so an
/// author can name anything there.
fn follows(device: DeviceId, place: Place, next: &Node) -> bool {
    let same = next.place.segment == place.segment && place.seq.checked_add(1) == Some(next.place.seq);
    let opens = place.segment.checked_add(1) == Some(next.place.segment) && next.place.seq == 1;
    next.device == device && (same || opens)
}
