//! The DAG of charter acts: who knew what.
//!
//! Acts form *lanes*: unbroken stretches of one device's line. An honest
//! device has one; each fork adds one. The past of an act is kept as "all
//! that were ready before it" where that is true (it is, unless people wrote
//! apart), else as a count for each lane: a vector clock. So "did `e` know
//! `x`?" is one comparison.
//!
//! Acts whose past is not here yet wait as orphans. Never here: any judgement
//! of what an act means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::CharterEvent;
use crate::id::{ChangeHash, DeviceId};

/// Most acts that wait for their past. More are deferred by whoever inserts:
/// not stored, fetched again later.
pub const ORPHANS_MAX: usize = 65_536;
/// Most of them by one device: whoever cites what does not exist holds up
/// nobody but themselves.
pub const ORPHANS_PER_DEVICE_MAX: usize = 8_192;

/// No change: before the first of a feed.
pub(crate) const NONE: ChangeHash = ChangeHash::from_bytes([0; 32]);

/// The number of a ready act: acts are numbered as they become ready, so that
/// parents have smaller numbers.
pub(crate) type ActIx = u32;

/// One charter event at its place.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) id: ChangeHash,
    pub(crate) device: DeviceId,
    pub(crate) segment: u32,
    pub(crate) seq: u64,
    pub(crate) previous: ChangeHash,
    pub(crate) heads: Arc<[ChangeHash]>,
    pub(crate) time_ms: i64,
    /// Whether its payload's hash is the community's id.
    pub(crate) founding: bool,
    /// The event; `None` for one that this build cannot read. It still links
    /// others to their past.
    pub(crate) event: Option<CharterEvent>,
    /// Whether the signatures inside the event verify; judged once.
    pub(crate) sound: bool,
}

/// What an act knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// Every act with a smaller number.
    Before(ActIx),
    /// So many acts of each lane, from its first on.
    Lanes(Box<[u32]>),
}

impl Past {
    /// Everything there is and will be.
    pub(crate) const ALL: Self = Self::Before(ActIx::MAX);
}

/// A ready act with its place in the DAG.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) act: Act,
    pub(crate) past: Past,
    /// 1 without parents, else one more than the deepest parent.
    pub(crate) depth: u32,
    lane: u32,
    /// Its place in the lane, from 0.
    index: u32,
}

#[derive(Clone, Debug)]
struct Lane {
    acts: Vec<ActIx>,
    /// The act of the same device that the first one follows.
    parent: Option<ActIx>,
}

/// All acts of a charter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dag {
    nodes: Vec<Node>,
    by_id: BTreeMap<ChangeHash, ActIx>,
    lanes: Vec<Lane>,
    lanes_of: BTreeMap<DeviceId, Vec<u32>>,
    heads: BTreeSet<ActIx>,
    order: BTreeMap<(u32, ChangeHash), ActIx>,
    orphans: BTreeMap<ChangeHash, Act>,
    orphans_of: BTreeMap<DeviceId, usize>,
    /// Orphans by one parent they lack.
    missing: BTreeMap<ChangeHash, Vec<ChangeHash>>,
}

impl Dag {
    /// Takes an act, and with it orphans that waited for it. Returns the
    /// numbers of those that became ready; an act that is here already, or
    /// for which there is no room, changes nothing.
    pub(crate) fn insert(&mut self, act: Act) -> Vec<ActIx> {
        let mut ready = Vec::new();
        if self.by_id.contains_key(&act.id) || self.orphans.contains_key(&act.id) {
            return ready;
        }
        let mut next = vec![act];
        while let Some(act) = next.pop() {
            if let Some(parent) = self.missing_parent(&act) {
                if self.orphan_room(&act.device) > 0 {
                    *self.orphans_of.entry(act.device).or_default() += 1;
                    self.missing.entry(parent).or_default().push(act.id);
                    self.orphans.insert(act.id, act);
                }
                continue;
            }
            let id = act.id;
            let Some(number) = self.place(act) else { continue };
            ready.push(number);
            let waiting = self.missing.remove(&id).unwrap_or_default();
            for orphan in waiting.into_iter().filter_map(|orphan| self.orphans.remove(&orphan)) {
                if let Some(count) = self.orphans_of.get_mut(&orphan.device) {
                    *count -= 1;
                }
                next.push(orphan);
            }
        }
        ready
    }

    fn missing_parent(&self, act: &Act) -> Option<ChangeHash> {
        std::iter::once(&act.previous)
            .filter(|previous| **previous != NONE)
            .chain(act.heads.iter())
            .find(|parent| !self.by_id.contains_key(parent))
            .copied()
    }

    /// Gives a ready act its place; `None` only beyond what numbers can count.
    fn place(&mut self, act: Act) -> Option<ActIx> {
        let number = ActIx::try_from(self.nodes.len()).ok()?;
        let parents: BTreeSet<ActIx> = std::iter::once(&act.previous)
            .chain(act.heads.iter())
            .filter_map(|parent| self.by_id.get(parent).copied())
            .collect();
        let lane = self.lane_for(&act)?;
        let past = self.past_of_parents(&parents);
        let depth = parents.iter().map(|parent| self.node(*parent).depth).max().unwrap_or(0) + 1;
        let acts = &mut self.lanes[lane as usize].acts;
        let index = u32::try_from(acts.len()).ok()?;
        acts.push(number);
        for parent in &parents {
            self.heads.remove(parent);
        }
        self.heads.insert(number);
        self.by_id.insert(act.id, number);
        self.order.insert((depth, act.id), number);
        self.nodes.push(Node { act, past, depth, lane, index });
        Some(number)
    }

    fn lane_for(&mut self, act: &Act) -> Option<u32> {
        // Only a lie names another device's act as one's own line.
        let previous = self
            .by_id
            .get(&act.previous)
            .copied()
            .filter(|previous| self.node(*previous).act.device == act.device);
        if let Some(previous) = previous {
            let lane = self.node(previous).lane;
            if self.lanes[lane as usize].acts.last() == Some(&previous) {
                return Some(lane);
            }
        }
        let lane = u32::try_from(self.lanes.len()).ok()?;
        self.lanes_of.entry(act.device).or_default().push(lane);
        self.lanes.push(Lane { acts: Vec::new(), parent: previous });
        Some(lane)
    }

    fn past_of_parents(&self, parents: &BTreeSet<ActIx>) -> Past {
        if self.heads.is_subset(parents) {
            return Past::Before(ActIx::try_from(self.nodes.len()).unwrap_or(ActIx::MAX));
        }
        let mut clock = vec![0; self.lanes.len()];
        for parent in parents {
            let node = self.node(*parent);
            self.merge(&mut clock, &node.past);
            let own = &mut clock[node.lane as usize];
            *own = (*own).max(node.index + 1);
        }
        Past::Lanes(clock.into())
    }

    fn merge(&self, clock: &mut [u32], past: &Past) {
        match past {
            Past::Before(number) => {
                for (count, lane) in clock.iter_mut().zip(&self.lanes) {
                    let known = lane.acts.partition_point(|act| act < number);
                    *count = (*count).max(u32::try_from(known).unwrap_or(u32::MAX));
                }
            }
            Past::Lanes(counts) => {
                for (count, other) in clock.iter_mut().zip(counts) {
                    *count = (*count).max(*other);
                }
            }
        }
    }

    /// What someone knows who has seen these heads, the heads included;
    /// `None` while one of them is not ready here.
    pub(crate) fn past_of(&self, heads: &[ChangeHash]) -> Option<Past> {
        let parents: Option<BTreeSet<_>> = heads.iter().map(|head| self.by_id.get(head).copied()).collect();
        Some(self.past_of_parents(&parents?))
    }

    /// Whether `past` includes the act.
    pub(crate) fn knows(&self, past: &Past, act: ActIx) -> bool {
        match past {
            Past::Before(number) => act < *number,
            Past::Lanes(counts) => {
                let node = self.node(act);
                counts.get(node.lane as usize).is_some_and(|count| node.index < *count)
            }
        }
    }

    /// Whether the act is on the line of its device that leads to `head`, or
    /// is `head` itself.
    pub(crate) fn is_on_line(&self, act: ActIx, head: ActIx) -> bool {
        let act = self.node(act);
        let mut at = Some(head);
        while let Some(number) = at {
            let node = self.node(number);
            if node.lane == act.lane {
                return act.index <= node.index;
            }
            at = self.lanes[node.lane as usize].parent;
        }
        false
    }

    /// All acts of a device.
    pub(crate) fn acts_of(&self, device: &DeviceId) -> impl Iterator<Item = ActIx> + '_ {
        let lanes = self.lanes_of.get(device).into_iter().flatten();
        lanes.flat_map(|lane| self.lanes[*lane as usize].acts.iter().copied())
    }

    /// A ready act. Numbers come from this DAG only.
    pub(crate) fn node(&self, number: ActIx) -> &Node {
        &self.nodes[number as usize]
    }

    /// The number of a ready act.
    pub(crate) fn find(&self, id: &ChangeHash) -> Option<ActIx> {
        self.by_id.get(id).copied()
    }

    /// Ready acts in the order in which they take effect.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = ActIx> + '_ {
        self.order.values().copied()
    }

    /// The place of an act in the order.
    pub(crate) fn place_of(&self, number: ActIx) -> (u32, ChangeHash) {
        let node = self.node(number);
        (node.depth, node.act.id)
    }

    /// Ids of the acts that nobody has cited: what a new act cites.
    pub(crate) fn heads(&self) -> Vec<ChangeHash> {
        let mut heads: Vec<_> = self.heads.iter().map(|head| self.node(*head).act.id).collect();
        heads.sort_unstable();
        heads
    }

    /// Number of ready acts.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many acts of a device more may wait.
    pub(crate) fn orphan_room(&self, device: &DeviceId) -> usize {
        let of_device = self.orphans_of.get(device).copied().unwrap_or(0);
        (ORPHANS_MAX - self.orphans.len()).min(ORPHANS_PER_DEVICE_MAX - of_device)
    }

    /// What waiting acts of devices that `is_other` accepts cite.
    pub(crate) fn awaited<'a>(
        &'a self,
        is_other: impl Fn(&DeviceId) -> bool + 'a,
    ) -> impl Iterator<Item = &'a ChangeHash> {
        let others = self.orphans.values().filter(move |orphan| is_other(&orphan.device));
        others.flat_map(|orphan| orphan.heads.iter())
    }

    /// How many lines a device's acts form.
    pub(crate) fn lines_of(&self, device: &DeviceId) -> usize {
        self.lanes_of.get(device).map_or(0, Vec::len)
    }

    /// Whether the act waits for its past.
    pub(crate) fn is_orphan(&self, id: &ChangeHash) -> bool {
        self.orphans.contains_key(id)
    }
}
