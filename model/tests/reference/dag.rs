//! The graph of charter events: who is ready, what each has in its past, how
//! deep it lies, and where each stands in the order.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::ChangeHash;

use super::charter::CharterAct;

/// The ready acts in the order `(depth, hash)`. An index is a place in it, so
/// that a greater index is later in the order.
pub(crate) struct Dag {
    pub(crate) acts: Vec<CharterAct>,
    pub(crate) depth: Vec<u64>,
    /// Everything reachable over parents, without the act itself.
    pub(crate) past: Vec<BTreeSet<usize>>,
    /// At or after a fork of its own feed.
    pub(crate) forked: Vec<bool>,
    pub(crate) waiting: BTreeSet<ChangeHash>,
    index: BTreeMap<ChangeHash, usize>,
}

impl Dag {
    pub(crate) fn of(acts: &[CharterAct]) -> Self {
        let given: BTreeMap<ChangeHash, &CharterAct> = acts.iter().map(|act| (act.id, act)).collect();
        let depths = depths(&given);
        let waiting = given.keys().filter(|id| !depths.contains_key(id)).copied().collect();

        let order: BTreeSet<(u64, ChangeHash)> = depths.iter().map(|(id, depth)| (*depth, *id)).collect();
        let acts: Vec<CharterAct> = order.iter().map(|(_, id)| given[id].clone()).collect();
        let index = acts.iter().enumerate().map(|(at, act)| (act.id, at)).collect();
        let mut dag = Self {
            depth: order.iter().map(|(depth, _)| *depth).collect(),
            past: Vec::new(),
            forked: Vec::new(),
            acts,
            waiting,
            index,
        };
        for act in &dag.acts {
            let mut past = BTreeSet::new();
            for parent in parents(act) {
                let parent = dag.index[&parent];
                past.extend(&dag.past[parent]);
                past.insert(parent);
            }
            dag.past.push(past);
        }
        dag.forked = (0..dag.acts.len()).map(|at| dag.is_forked(at)).collect();
        dag
    }

    pub(crate) fn len(&self) -> usize {
        self.acts.len()
    }

    pub(crate) fn find(&self, id: &ChangeHash) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The act and everything before it on its device's line, latest first.
    pub(crate) fn line(&self, head: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(head), |at| self.find(&self.acts[*at].previous))
    }

    /// Whether the line that leads to the change `head` passes through `at`.
    /// A head that is not here, or not ready, has no line.
    pub(crate) fn is_on_line_to(&self, head: &ChangeHash, at: usize) -> bool {
        self.find(head).is_some_and(|head| self.line(head).any(|step| step == at))
    }

    /// Lines of one feed part where two of its changes follow the same one.
    fn is_forked(&self, at: usize) -> bool {
        self.line(at).any(|step| {
            let here = &self.acts[step];
            self.acts.iter().any(|other| {
                other.id != here.id && other.device == here.device && other.previous == here.previous
            })
        })
    }
}

/// The changes an act rests on: the heads it cites and the one before it in
/// its own feed.
pub(crate) fn parents(act: &CharterAct) -> BTreeSet<ChangeHash> {
    let first = act.previous == ChangeHash::from_bytes([0; 32]);
    act.heads.iter().copied().chain((!first).then_some(act.previous)).collect()
}

/// Depth of every act that is ready. What is missing has none, and neither has
/// what rests on it.
fn depths(given: &BTreeMap<ChangeHash, &CharterAct>) -> BTreeMap<ChangeHash, u64> {
    let mut depths: BTreeMap<ChangeHash, u64> = BTreeMap::new();
    loop {
        let known = depths.len();
        for (id, act) in given {
            let parents: Option<Vec<u64>> =
                parents(act).iter().map(|parent| depths.get(parent).copied()).collect();
            if let Some(parents) = parents {
                depths.insert(*id, 1 + parents.into_iter().max().unwrap_or(0));
            }
        }
        if depths.len() == known {
            return depths;
        }
    }
}
