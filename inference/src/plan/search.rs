//! The search over ordered subsets of devices and cuts.

use std::collections::VecDeque;

use exo_model::id::DeviceId;
use exo_model::weights::LayerRange;

use super::memory::Needs;
use super::{BEAM_WIDTH, Candidate, Plan, PlanRequest, STAGES_MAX, StagePlan};

/// The cheapest way to have placed the first layers on a prefix's devices:
/// indexed by how many layers, with computing time in µs and the cut before
/// the last stage.
type Placed = Vec<Option<Step>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    us: u64,
    cut: usize,
}

/// An ordered choice of devices and what it can hold.
#[derive(Clone)]
struct Prefix {
    /// Indices into the candidates, in order.
    devices: Vec<usize>,
    /// One table per device.
    placed: Vec<Placed>,
    /// Hops from the requester to the last device, in µs.
    path_us: u64,
}

/// A complete plan while searching: compared by cost, stages, device ids.
type Found = (u64, usize, Vec<DeviceId>, Vec<LayerRange>);

/// The search and its best result so far.
pub(super) struct Search<'a> {
    request: &'a PlanRequest<'a>,
    needs: &'a Needs,
    /// In order of device id, so that results do not depend on the caller's.
    candidates: Vec<&'a Candidate>,
    best: Option<Found>,
    missing: u64,
}

impl<'a> Search<'a> {
    pub(super) fn new(request: &'a PlanRequest<'a>, needs: &'a Needs) -> Self {
        let mut candidates: Vec<_> = request.candidates.iter().collect();
        candidates.sort_unstable_by_key(|candidate| candidate.device);
        let missing = needs.bytes(0, needs.layer_count());
        Self { request, needs, candidates, best: None, missing }
    }

    /// Bytes one more device would have to offer: the least seen.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.missing
    }

    /// The best plan found.
    pub(super) fn into_plan(self) -> Option<Plan> {
        let (estimated_us_per_token, _, devices, layers) = self.best?;
        let stages =
            devices.into_iter().zip(layers).map(|(device, layers)| StagePlan { device, layers }).collect();
        Some(Plan { stages, estimated_us_per_token })
    }

    /// Every ordered subset, depth first.
    pub(super) fn run_exact(&mut self) {
        self.descend(&Prefix { devices: Vec::new(), placed: Vec::new(), path_us: 0 });
    }

    fn descend(&mut self, prefix: &Prefix) {
        for index in self.unused(prefix) {
            let Some(longer) = self.extend(prefix, index) else {
                continue;
            };
            self.consider(&longer);
            if longer.devices.len() < STAGES_MAX && self.is_promising(&longer) {
                self.descend(&longer);
            }
        }
    }

    /// Number of stages after number of stages, keeping the most promising.
    pub(super) fn run_beam(&mut self) {
        let empty = Prefix { devices: Vec::new(), placed: Vec::new(), path_us: 0 };
        let mut level = vec![empty];
        for _ in 0..STAGES_MAX.min(self.candidates.len()) {
            let mut next = Vec::new();
            for prefix in &level {
                for index in self.unused(prefix) {
                    let Some(longer) = self.extend(prefix, index) else {
                        continue;
                    };
                    self.consider(&longer);
                    next.push(longer);
                }
            }
            next.retain(|prefix| self.is_promising(prefix));
            level = self.most_promising(next);
        }
    }

    fn unused(&self, prefix: &Prefix) -> Vec<usize> {
        (0..self.candidates.len()).filter(|index| !prefix.devices.contains(index)).collect()
    }

    /// Whether an optimistic end of this beginning could still win (equal
    /// cost counts: it may win by its device ids only with fewer stages, but
    /// the check must not depend on the order of the search).
    fn is_promising(&self, prefix: &Prefix) -> bool {
        match (&self.best, self.optimistic_us(prefix)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some((best, ..)), Some(us)) => us <= *best,
        }
    }

    /// Path so far, plus the cheapest way to finish computing if the fastest
    /// device had room for all the rest; `None` where nothing is placed.
    fn optimistic_us(&self, prefix: &Prefix) -> Option<u64> {
        let fastest = self.unused(prefix).into_iter().map(|i| self.candidates[i].us_per_layer).min();
        let last = prefix.placed.last()?;
        let total = self.needs.layer_count();
        let ends = last.iter().enumerate().take(total);
        let us = ends.filter_map(|(end, step)| {
            let rest = (total - end) as u64 * u64::from(fastest?);
            Some((*step)?.us + rest)
        });
        us.min().map(|us| us + prefix.path_us)
    }

    fn most_promising(&self, prefixes: Vec<Prefix>) -> Vec<Prefix> {
        let reach =
            |prefix: &Prefix| prefix.placed.last().and_then(|last| last.iter().rposition(Option::is_some));
        let mut ranked: Vec<_> = prefixes
            .into_iter()
            .map(|prefix| (self.optimistic_us(&prefix), reach(&prefix), prefix))
            .collect();
        ranked.sort_by(|a, b| (a.0, &a.2.devices).cmp(&(b.0, &b.2.devices)));
        let rest = ranked.split_off(ranked.len().min(BEAM_WIDTH / 2));
        let mut by_reach = rest;
        by_reach.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.2.devices.cmp(&b.2.devices)));
        by_reach.truncate(BEAM_WIDTH / 2);
        ranked.into_iter().chain(by_reach).map(|(_, _, prefix)| prefix).collect()
    }

    /// Adds a device behind a prefix; `None` where it can host nothing there.
    fn extend(&mut self, prefix: &Prefix, index: usize) -> Option<Prefix> {
        let candidate = self.candidates[index];
        let total = self.needs.layer_count();
        let nothing = || {
            let mut start: Placed = vec![None; total + 1];
            start[0] = Some(Step { us: 0, cut: 0 });
            start
        };
        let start;
        let before = match prefix.placed.last() {
            Some(placed) => placed,
            None => {
                start = nothing();
                &start
            }
        };
        let placed = place(self.needs, candidate, before);
        let reach = placed.iter().rposition(Option::is_some)?;
        if reach < total {
            self.missing = self.missing.min(self.needs.bytes(reach, total));
        }
        let from = prefix.devices.last().map_or(self.request.requester, |&i| self.candidates[i].device);
        let mut longer = prefix.clone();
        longer.path_us += self.request.rtt.hop(from, candidate.device);
        longer.devices.push(index);
        longer.placed.push(placed);
        Some(longer)
    }

    /// Takes a prefix that holds all layers, if it is the best so far.
    fn consider(&mut self, prefix: &Prefix) {
        let total = self.needs.layer_count();
        let complete = prefix.placed.last().and_then(|placed| placed[total]);
        let (Some(step), Some(&last)) = (complete, prefix.devices.last()) else {
            return;
        };
        let last = self.candidates[last].device;
        let us = step.us + prefix.path_us + self.request.rtt.hop(last, self.request.requester);
        let devices: Vec<_> = prefix.devices.iter().map(|&i| self.candidates[i].device).collect();
        let found = (us, devices.len(), devices);
        let better =
            self.best.as_ref().is_none_or(|best| (found.0, found.1, &found.2) < (best.0, best.1, &best.2));
        if better && let Some(layers) = cuts(prefix, total) {
            self.best = Some((found.0, found.1, found.2, layers));
        }
    }
}

/// The table after one more device: for each number of layers the cheapest
/// cut, found with a sliding window, because a device that can host `s..e`
/// can host everything inside.
fn place(needs: &Needs, candidate: &Candidate, before: &Placed) -> Placed {
    let total = needs.layer_count();
    let rate = u64::from(candidate.us_per_layer);
    // The cost of a cut, made comparable between cuts: as if this device
    // hosted everything behind it.
    let key = |start: usize| before[start].map(|step| step.us + (total - start) as u64 * rate);
    let mut placed = vec![None];
    let mut window: VecDeque<(u64, usize)> = VecDeque::new();
    for end in 1..=total {
        if let Some(us) = key(end - 1) {
            // Of equal cuts the later one: earlier stages get more layers.
            while window.back().is_some_and(|(other, _)| *other >= us) {
                window.pop_back();
            }
            window.push_back((us, end - 1));
        }
        let too_much = |start: usize| needs.bytes(start, end) > candidate.offered_bytes;
        while window.front().is_some_and(|(_, start)| too_much(*start)) {
            window.pop_front();
        }
        let behind = (total - end) as u64 * rate;
        placed.push(window.front().map(|&(us, cut)| Step { us: us - behind, cut }));
    }
    placed
}

/// The layer ranges of a complete prefix, read back from its tables.
fn cuts(prefix: &Prefix, total: usize) -> Option<Vec<LayerRange>> {
    let mut end = total;
    let mut ranges = Vec::new();
    for placed in prefix.placed.iter().rev() {
        let cut = placed[end]?.cut;
        ranges.push(LayerRange::new(u32::try_from(cut).ok()?, u32::try_from(end).ok()?)?);
        end = cut;
    }
    ranges.reverse();
    Some(ranges)
}
