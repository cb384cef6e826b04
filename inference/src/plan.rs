//! Who hosts which layers: a pure planner.
//!
//! Input: a manifest, the devices that offer memory, what a layer costs on
//! each and the round-trip times between them. Output: consecutive layer
//! ranges on distinct devices. It minimises, per token,
//!
//! ```text
//! Σ layers · µs_per_layer  +  half the round trips along
//!     requester → first → … → last → requester   (nothing to oneself)
//! ```
//!
//! under memory: weights + keys and values for the whole context + 20 % must
//! fit what a device offers. All arithmetic is in whole microseconds and
//! bytes, so that every peer computes the same plan. Of equal plans the one
//! with fewer stages wins, then the one whose device ids come first; of equal
//! cuts the one that gives earlier stages more layers.
//!
//! Up to [`EXACT_CANDIDATES_MAX`] candidates the search is exact: every
//! ordered subset, with dynamic programming over the cuts, shared between
//! orders with a common beginning. Beyond, it is a beam search over the same
//! steps: after each stage only the [`BEAM_WIDTH`] most promising beginnings
//! are kept, half of them by an optimistic cost and half by how many layers
//! they have placed already; it finds a plan whenever the kept ones lead to
//! one, not always the best.
//!
//! Nothing here measures, waits or asks a peer.

mod memory;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use exo_model::id::DeviceId;
use exo_model::weights::{LayerRange, ModelManifest};

pub use memory::stage_memory_bytes;

/// Most candidates that are searched exactly.
pub const EXACT_CANDIDATES_MAX: usize = 8;
/// Beginnings kept per number of stages beyond that.
pub const BEAM_WIDTH: usize = 128;
/// Most candidates looked at; a caller with more chooses.
pub const CANDIDATES_MAX: usize = 64;
/// Most stages of a plan.
pub const STAGES_MAX: usize = 16;
/// Assumed round trip between devices that were not measured, in µs.
pub const RTT_UNKNOWN_US: u32 = 100_000;

/// A device that could host layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub device: DeviceId,
    /// Memory it offers, in bytes.
    pub offered_bytes: u64,
    /// Time it needs for one layer and one token, in µs.
    pub us_per_layer: u32,
}

/// Measured round-trip times between devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RttTable {
    us: BTreeMap<(DeviceId, DeviceId), u32>,
}

impl RttTable {
    /// Records the round trip between two devices, in µs; both directions.
    pub fn set(&mut self, a: DeviceId, b: DeviceId, rtt_us: u32) {
        self.us.insert((a.min(b), a.max(b)), rtt_us);
    }

    /// The round trip in µs: 0 to oneself, [`RTT_UNKNOWN_US`] where it was
    /// not measured.
    pub fn get(&self, a: DeviceId, b: DeviceId) -> u32 {
        if a == b {
            return 0;
        }
        self.us.get(&(a.min(b), a.max(b))).copied().unwrap_or(RTT_UNKNOWN_US)
    }

    /// One way, in µs.
    fn hop(&self, a: DeviceId, b: DeviceId) -> u64 {
        u64::from(self.get(a, b)).div_ceil(2)
    }
}

/// What is to be placed, and on what.
#[derive(Debug, Clone, Copy)]
pub struct PlanRequest<'a> {
    /// The model.
    pub manifest: &'a ModelManifest,
    /// Who asks: where tokens start and end. Hosts layers only if it is also
    /// a candidate.
    pub requester: DeviceId,
    /// Who offers, in any order.
    pub candidates: &'a [Candidate],
    /// How far they are apart.
    pub rtt: &'a RttTable,
    /// Context to reserve keys and values for, in tokens.
    pub context_tokens: u32,
}

/// One device's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// Who.
    pub device: DeviceId,
    /// Which layers.
    pub layers: LayerRange,
}

/// A way to run the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// All layers in order, on distinct devices.
    pub stages: Vec<StagePlan>,
    /// Estimated time per token, in µs.
    pub estimated_us_per_token: u64,
}

impl Plan {
    /// Estimated time per token, in ms.
    #[allow(clippy::cast_precision_loss)]
    pub fn estimated_ms_per_token(&self) -> f64 {
        self.estimated_us_per_token as f64 / 1_000.0
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The manifest has no layers, or too many.
    #[error("the model has no layers to place")]
    NoLayers,
    /// More candidates than [`CANDIDATES_MAX`].
    #[error("{0} candidates are over the limit of {CANDIDATES_MAX}")]
    TooManyCandidates(usize),
    /// A device appears twice.
    #[error("device {0} is offered twice")]
    Repeated(DeviceId),
    /// The devices do not offer enough memory.
    #[error(
        "not enough memory: one more device offering {missing_bytes} bytes would do \
         (the model needs {needed_bytes}, {offered_bytes} are offered)"
    )]
    NotEnoughMemory {
        /// What the whole model needs on one device, with context and reserve.
        needed_bytes: u64,
        /// What all candidates offer together.
        offered_bytes: u64,
        /// What the layers that could not be placed would need: the least
        /// found.
        missing_bytes: u64,
    },
}

/// Finds the fastest plan.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(request: &PlanRequest<'_>) -> Result<Plan, PlanError> {
    if request.candidates.len() > CANDIDATES_MAX {
        return Err(PlanError::TooManyCandidates(request.candidates.len()));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = request.candidates.iter().find(|one| !seen.insert(one.device)) {
        return Err(PlanError::Repeated(twice.device));
    }
    let all = request.manifest.all_layers().ok_or(PlanError::NoLayers)?;
    let needs = memory::Needs::new(request.manifest, request.context_tokens);
    let mut search = search::Search::new(request, &needs);
    if request.candidates.len() <= EXACT_CANDIDATES_MAX {
        search.run_exact();
    } else {
        search.run_beam();
    }
    let missing_bytes = search.missing_bytes();
    search.into_plan().ok_or_else(|| PlanError::NotEnoughMemory {
        needed_bytes: stage_memory_bytes(request.manifest, all, request.context_tokens),
        offered_bytes: request
            .candidates
            .iter()
            .fold(0, |sum, candidate| sum.saturating_add(candidate.offered_bytes)),
        missing_bytes,
    })
}

#[cfg(test)]
mod tests;
