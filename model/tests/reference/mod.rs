//! Governance a second time, for comparison: `docs/design/governance.md` read
//! literally, slowly, and without a look at `model/src/charter`; and a
//! generator of histories to run both on.
//!
//! - [`charter`]: what goes in, what comes out, and the fixpoint of §5.
//! - [`dag`]: readiness, past, depth, the order, lines and forks (§1, §6).
//! - [`view`]: the value of anything, seen from a set of events (§1, §4).
//! - [`rules`]: the right each kind of act needs, and when it is lost (§2–§4).
//! - [`cuts`]: what fences and forks void, and who goes first (§5, §6).
//! - [`normal`]: the result as sorted lines of text, to compare.
//! - [`signing`]: signatures, and everything that touches certificates.
//! - [`generator`]: peers that act, gossip, part and lie.

pub(crate) mod charter;
pub(crate) mod cuts;
pub(crate) mod dag;
pub(crate) mod generator;
pub(crate) mod guess;
pub(crate) mod normal;
pub(crate) mod rules;
pub(crate) mod signing;
pub(crate) mod view;
