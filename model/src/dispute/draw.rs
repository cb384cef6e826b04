//! The draw: two halves become a seed, the seed becomes two benches.
//!
//! The opener commits to one half before the other half exists, and whoever
//! gives the other half does not know the first. So neither can steer the
//! draw alone. Both benches are dealt at once, so nothing that happens in the
//! first round moves the second.

use std::collections::BTreeMap;

use minicbor::Encode;

use crate::id::{ChangeHash, PersonId};

/// People who judge in each round, where there are enough: odd, so that a
/// whole jury has a middle.
pub const JURORS: [u8; ROUNDS] = [3, 5];
/// The first judgement and the appeal.
pub const ROUNDS: usize = 2;
/// Most people on a bench: the jurors and those who stand in for them.
pub const BENCH_MAX: usize = 16;

const COMMITMENT_CONTEXT: &str = "exo-studio 2026 dispute commitment v1";
const SEED_CONTEXT: &str = "exo-studio 2026 dispute seed v1";
const RANK_CONTEXT: &str = "exo-studio 2026 dispute rank v1";

/// What an opener publishes of their half. It is bound to the lock and the
/// opener, so that another's commitment is of no use to anyone.
pub fn commitment(lock: &ChangeHash, opener: &PersonId, half: &[u8; 32]) -> [u8; 32] {
    hash(COMMITMENT_CONTEXT, &[lock.as_bytes(), opener.as_bytes(), half])
}

/// What the ranks are made of.
pub fn seed(dispute: &ChangeHash, opener_half: &[u8; 32], other_half: &[u8; 32]) -> [u8; 32] {
    hash(SEED_CONTEXT, &[dispute.as_bytes(), opener_half, other_half])
}

/// A person's place in a round's draw; the lowest judge.
pub fn rank(seed: &[u8; 32], round: u8, person: &PersonId) -> [u8; 32] {
    hash(RANK_CONTEXT, &[seed, &[round], person.as_bytes()])
}

/// Every part has a fixed length in its context, so joining them is unambiguous.
fn hash(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Who a bench is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
#[cbor(index_only)]
pub enum BenchKind {
    /// People drawn from all who may judge.
    #[n(0)]
    Jurors,
    /// Owners who are no party: the community is too small for a jury.
    #[n(1)]
    Owners,
}

/// The people of one round, best rank first: the jurors, then those who stand
/// in for them.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Bench {
    /// Who they are.
    #[n(0)]
    pub kind: BenchKind,
    /// How many of them judge.
    #[n(1)]
    pub seats: u8,
    /// All of them, at most [`BENCH_MAX`].
    #[n(2)]
    pub people: Vec<PersonId>,
}

impl Bench {
    fn new(kind: BenchKind, round: usize, mut people: Vec<PersonId>) -> Self {
        people.truncate(BENCH_MAX);
        let most = JURORS[round];
        let seats = u8::try_from(people.len()).map_or(most, |len| len.min(most));
        Self { kind, seats, people }
    }

    /// How many findings decide: more than half of the seats.
    pub fn quorum(&self) -> usize {
        usize::from(self.seats) / 2 + 1
    }

    /// A person's place on the bench.
    pub fn place(&self, person: &PersonId) -> Option<usize> {
        self.people.iter().position(|other| other == person)
    }
}

/// Deals both benches. Nobody sits on two.
pub(super) fn deal(
    seed: &[u8; 32],
    jurors: Vec<PersonId>,
    owners: Vec<PersonId>,
    parties: [PersonId; 2],
) -> [Bench; ROUNDS] {
    let mut first = ranked(seed, 0, jurors, &parties);
    if first.len() < usize::from(JURORS[0]) {
        let owners = ranked(seed, 0, owners, &parties);
        return [Bench::new(BenchKind::Owners, 0, owners), Bench::new(BenchKind::Owners, 1, Vec::new())];
    }
    // Shared out as the seats are, 3 to 5.
    let first_len = (first.len() * 3 / 8).clamp(usize::from(JURORS[0]), BENCH_MAX);
    let rest = first.split_off(first_len);
    let second = if rest.len() >= usize::from(JURORS[1]) {
        Bench::new(BenchKind::Jurors, 1, ranked(seed, 1, rest, &parties))
    } else {
        let mut owners = ranked(seed, 1, owners, &parties);
        owners.retain(|owner| !first.contains(owner));
        Bench::new(BenchKind::Owners, 1, owners)
    };
    [Bench::new(BenchKind::Jurors, 0, first), second]
}

/// Everyone but the parties, by rank, none twice.
fn ranked(seed: &[u8; 32], round: u8, people: Vec<PersonId>, parties: &[PersonId; 2]) -> Vec<PersonId> {
    let by_rank: BTreeMap<_, _> = people
        .into_iter()
        .filter(|person| !parties.contains(person))
        .map(|person| (rank(seed, round, &person), person))
        .collect();
    by_rank.into_values().collect()
}
