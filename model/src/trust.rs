//! Trust: what a level allows, how sure I am who somebody is, and what they
//! have been worth so far, as seen from where I stand.
//!
//! Flow: events of a community become [`Evidence`]; [`Reputation::of`] turns
//! it into one [`Score`] per person with the reasons beside it; a provider
//! reads [`TrustLevel::unlocks`] and the score to decide whom it serves, how
//! soon and how much. `docs/design/trust.md` explains it all to a newcomer and
//! proves the bounds.
//!
//! Never here: a global score, a vote on somebody, an entry into the shared
//! state. Two people may see a third differently and both are right; nothing
//! in here decides about membership, roles or credits.

pub mod evidence;
pub mod flow;
pub mod level;
pub mod opinion;
pub mod reputation;
pub mod verification;

pub use evidence::{Evidence, Failures, Moderation, Settled, Severity, SpotChecks, Vouch, VouchKind};
pub use level::{TrustLevel, Unlocks};
pub use reputation::{Reason, Reputation, Score};
pub use verification::Verification;

/// One person known as well as can be, in the millionths that weights and
/// points are counted in.
pub const ONE: u64 = 1_000_000;

/// Most weight that one link from an honest person into a region of Sybils
/// gives the whole region: two persons' worth. It is the `c` of the bound
/// `weight(region) ≤ c·g`, which `docs/design/trust.md` proves: the linked
/// Sybil's own weight, and as much again that it may pass on.
pub const WEIGHT_PER_LINK_MAX: u64 = 2 * ONE;

/// A report takes away at most this part of its reporter's weight: one
/// quarter, half of what the same reporter's praise could add at best, since
/// a report is cheaper to invent than a job.
pub const REPORT_DIVISOR: u64 = 4;

/// Most that the reports of a whole region of slanderers take from one
/// person's score, per link from an honest person into the region.
pub const SLANDER_PER_LINK_MAX: u64 = WEIGHT_PER_LINK_MAX / REPORT_DIVISOR;
