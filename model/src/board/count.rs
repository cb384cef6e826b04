//! Which edits count.
//!
//! Fences and limits depend on edits that come later, so they are judged over
//! all placed edits, in the order of their [`Place`]s. The rule is
//! [`Count::of`], a function of the set. [`Count::add`] takes the common case,
//! one more edit that changes nothing for the others, without going through
//! all of them again.

use std::collections::{BTreeMap, BTreeSet};

use super::edit::{BoardIntent, deleted_chars, inserted_bytes};
use super::graph::{Graph, Node, Place, Verdict};
use super::{BoardContents, DELETED_CHARS_MAX, EDITS_MAX, FIELDS_MAX, INSERTED_BYTES_MAX, KEYS_MAX};
use crate::id::{ChangeHash, DeviceId};

/// Where an author's line of edits can be continued.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tail {
    /// Before their first counting edit.
    Start(DeviceId),
    /// After this one.
    After(ChangeHash),
}

/// What the counting edits use of the board's limits.
#[derive(Clone, Default)]
struct Tally {
    edits: usize,
    inserted_bytes: u64,
    deleted_chars: u64,
    /// Fields and keys that ever were: Automerge keeps deleted ones too.
    fields: BTreeSet<String>,
    keys: BTreeSet<String>,
}

impl Tally {
    fn of_contents(contents: &BoardContents) -> Self {
        Self {
            fields: contents.texts.keys().cloned().collect(),
            keys: contents.values.keys().cloned().collect(),
            ..Self::default()
        }
    }

    /// Adds an edit's intents if they fit.
    fn add(&mut self, intents: &[BoardIntent]) -> bool {
        let inserted_bytes = self.inserted_bytes.saturating_add(inserted_bytes(intents));
        let deleted_chars = self.deleted_chars.saturating_add(deleted_chars(intents));
        let new_fields = fresh(&self.fields, intents.iter().filter_map(BoardIntent::field));
        let new_keys = fresh(&self.keys, intents.iter().filter_map(BoardIntent::key));
        let fits = self.edits < EDITS_MAX
            && inserted_bytes <= INSERTED_BYTES_MAX
            && deleted_chars <= DELETED_CHARS_MAX
            && self.fields.len() + new_fields.len() <= FIELDS_MAX
            && self.keys.len() + new_keys.len() <= KEYS_MAX;
        if fits {
            self.edits += 1;
            self.inserted_bytes = inserted_bytes;
            self.deleted_chars = deleted_chars;
            self.fields.extend(new_fields);
            self.keys.extend(new_keys);
        }
        fits
    }
}

fn fresh<'a>(known: &BTreeSet<String>, names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    names.filter(|name| !known.contains(*name)).map(str::to_owned).collect()
}

/// The verdict over the set of placed edits.
pub(super) struct Count {
    base: Tally,
    /// Of no more use once the board is full: then places decide.
    tally: Tally,
    counted: BTreeSet<Place>,
    /// The first edit there was no room for: from here on, none counts.
    full_from: Option<Place>,
    /// Of every placed edit, its author's nearest earlier edit that counts.
    follows: BTreeMap<ChangeHash, Option<ChangeHash>>,
    /// Who continues an author's line. Where an author signed two edits after
    /// the same one, the first in order does, and each other begins a line.
    heirs: BTreeMap<Tail, Place>,
}

/// Whether an addition stood alone.
#[must_use]
pub(super) enum Added {
    /// The verdict over the set is up to date.
    Alone,
    /// It bears on other edits: the whole set must be counted again.
    Bears,
}

impl Count {
    pub(super) fn new(contents: &BoardContents) -> Self {
        Self::empty(Tally::of_contents(contents))
    }

    fn empty(base: Tally) -> Self {
        Self {
            tally: base.clone(),
            base,
            counted: BTreeSet::new(),
            full_from: None,
            follows: BTreeMap::new(),
            heirs: BTreeMap::new(),
        }
    }

    pub(super) fn counts(&self, place: &Place) -> bool {
        self.counted.contains(place)
    }

    pub(super) fn counted(&self) -> &BTreeSet<Place> {
        &self.counted
    }

    pub(super) fn follows(&self, id: &ChangeHash) -> Option<ChangeHash> {
        self.follows.get(id).copied().flatten()
    }

    pub(super) fn heir(&self, tail: &Tail) -> Option<Place> {
        self.heirs.get(tail).copied()
    }

    /// Where a placed edit joins its author's line.
    pub(super) fn tail(&self, id: &ChangeHash, author: DeviceId) -> Tail {
        self.follows(id).map_or(Tail::Start(author), Tail::After)
    }

    /// Counts the whole set again.
    pub(super) fn recount(&mut self, graph: &Graph) {
        let mut order: Vec<(Place, &Node)> =
            graph.iter().map(|(id, node)| ((node.depth, *id), node)).collect();
        order.sort_unstable_by_key(|(place, _)| *place);
        let mut next = Self::empty(self.base.clone());
        next.counted = candidates(&order);
        next.full_from = next.fill(&order);
        if let Some(full_from) = next.full_from {
            // A fenced edit needs a counting one that cites it, so those cited
            // only from beyond the limit go too.
            let within = order.partition_point(|(place, _)| *place < full_from);
            next.counted = candidates(&order[..within]);
        }
        for (place, node) in order {
            next.join(graph, place, node);
            if next.counted.contains(&place) {
                let tail = next.tail(&place.1, node.author);
                next.heirs.entry(tail).or_insert(place);
            }
        }
        *self = next;
    }

    /// Counts one newly placed edit; those it builds on were added before.
    pub(super) fn add(&mut self, graph: &Graph, id: &ChangeHash) -> Added {
        let Some(node) = graph.get(id) else { return Added::Bears };
        let place = (node.depth, *id);
        self.join(graph, place, node);
        // Nobody cites it yet: a fenced one waits for that.
        if node.verdict != Verdict::Sound || node.fenced {
            return Added::Alone;
        }
        let founded = node.cites.iter().all(|cited| self.counts_id(graph, cited));
        if let Some(full_from) = self.full_from {
            let rescues = |cited| graph.get(cited).is_none_or(|node| node.fenced);
            let behind = full_from < place && (founded || !node.cites.iter().any(rescues));
            return if behind { Added::Alone } else { Added::Bears };
        }
        let tail = self.tail(id, node.author);
        let disinherits = self.heirs.get(&tail).is_some_and(|heir| *heir > place);
        // While all that counts fits together, the order does not matter.
        if !founded || disinherits || !self.tally.add(&node.intents) {
            return Added::Bears;
        }
        self.heirs.entry(tail).or_insert(place);
        self.counted.insert(place);
        Added::Alone
    }

    fn counts_id(&self, graph: &Graph, id: &ChangeHash) -> bool {
        graph.get(id).is_some_and(|node| self.counted.contains(&(node.depth, *id)))
    }

    fn join(&mut self, graph: &Graph, place: Place, node: &Node) {
        let follows = node.previous.and_then(|previous| {
            if self.counts_id(graph, &previous) { Some(previous) } else { self.follows(&previous) }
        });
        self.follows.insert(place.1, follows);
    }

    /// Goes through the candidates in order while they fit.
    fn fill(&mut self, order: &[(Place, &Node)]) -> Option<Place> {
        for (place, node) in order {
            if self.counted.contains(place) && !self.tally.add(&node.intents) {
                return Some(*place);
            }
        }
        None
    }
}

/// What would count without limits: the sound edits within their fences, and
/// those beyond that such an edit cites, at whatever distance.
fn candidates(order: &[(Place, &Node)]) -> BTreeSet<Place> {
    let mut cited = BTreeSet::new();
    let mut found = BTreeSet::new();
    // Backwards, so that all that cite an edit are known before it.
    for (place, node) in order.iter().rev() {
        if node.verdict == Verdict::Sound && (!node.fenced || cited.contains(&place.1)) {
            found.insert(*place);
            cited.extend(node.cites.iter().copied());
        }
    }
    found
}
