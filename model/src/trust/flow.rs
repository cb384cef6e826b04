//! Weights: a bounded max-flow from me over at most two hops.
//!
//! Each person `a` whom I know has a *direct* weight. They pass on to others
//! at most as much again in total, however many they vouch for:
//!
//! ```text
//!              direct(a) is theirs
//!   me ──▶ a ─┬──────────────────────▶ (a)
//!             │ direct(a) in all       ┌▶ (b)   each edge at most
//!             └───────────▶ pass on ───┼▶ (c)   min(direct(a), trust(a→b)) / 2
//!                                      └▶ (d)
//! ```
//!
//! The total that leaves `a` is `min(direct(a), Σ edges)`, the maximum flow of
//! that network; where the edges want more, they share it in proportion.
//!
//! Why this shape: the flow of two-hop paths is Meulpolder, Pouwelse, Epema
//! and Sips's BarterCast ("BarterCast: a practical approach to prevent lazy
//! freeriding in P2P networks", 2009), but they compute it for one target at a
//! time, so one accomplice could lift ten thousand strangers at once. The limit
//! on what a *node* passes on, whatever its edges, is Levien's, who proved for
//! Advogato ("Attack-resistant trust metrics", 2009) that it bounds what an
//! attacker gains by the edges that honest people give them. With two hops no
//! search is needed: each term is closed, deterministic and linear in time.

use std::collections::BTreeMap;

use super::ONE;
use crate::id::PersonId;

/// What reaches a person over a friend is at most this part of it.
pub const HOP_DIVISOR: u64 = 2;

/// Where the weight goes, in millionths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    passed: BTreeMap<(PersonId, PersonId), u64>,
    weights: BTreeMap<PersonId, u64>,
}

impl Flow {
    /// Sends flow over `direct` (by person, clamped to [`ONE`]) and from those
    /// people over `trust` (by witness and subject). Edges of people without a
    /// direct weight, and of people to themselves, carry nothing.
    pub fn over(direct: &BTreeMap<PersonId, u64>, trust: &BTreeMap<(PersonId, PersonId), u64>) -> Self {
        let mut flow = Self::default();
        for (person, weight) in direct.iter().filter(|(_, weight)| **weight > 0) {
            flow.weights.insert(*person, (*weight).min(ONE));
        }
        let first = flow.weights.clone();
        let edges: Vec<(PersonId, PersonId, u64)> = trust
            .iter()
            .filter(|((via, to), _)| via != to)
            .filter_map(|((via, to), trust)| Some((*via, *to, (*trust).min(*first.get(via)?) / HOP_DIVISOR)))
            .collect();
        for from_one in edges.chunk_by(|a, b| a.0 == b.0) {
            let budget = first.get(&from_one[0].0).copied().unwrap_or(0);
            flow.pass_on(budget, from_one);
        }
        flow
    }

    /// Shares `budget` among the edges of one person. Rounding follows the
    /// running sum, so the parts add up to exactly the smaller of budget and
    /// demand, and none exceeds its edge.
    fn pass_on(&mut self, budget: u64, edges: &[(PersonId, PersonId, u64)]) {
        let demand: u128 = edges.iter().map(|edge| u128::from(edge.2)).sum();
        let supply = demand.min(u128::from(budget));
        let (mut wanted, mut given) = (0u128, 0u128);
        for (via, to, edge) in edges {
            wanted += u128::from(*edge);
            let upto = (supply * wanted).checked_div(demand).unwrap_or(0);
            // A part is at most its edge, a u64.
            let part = u64::try_from(upto - given).unwrap_or(*edge);
            given = upto;
            if part > 0 {
                self.passed.insert((*via, *to), part);
                let weight = self.weights.entry(*to).or_insert(0);
                *weight = weight.saturating_add(part).min(ONE);
            }
        }
    }

    /// A person's weight: direct and passed on, at most [`ONE`].
    pub fn weight(&self, person: &PersonId) -> u64 {
        self.weights.get(person).copied().unwrap_or(0)
    }

    /// Everybody with a weight.
    pub fn weights(&self) -> &BTreeMap<PersonId, u64> {
        &self.weights
    }

    /// What `via` passes on to `to`.
    pub fn passed(&self, via: &PersonId, to: &PersonId) -> u64 {
        self.passed.get(&(*via, *to)).copied().unwrap_or(0)
    }
}
