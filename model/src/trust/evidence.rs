//! Evidence: who stated what about whom, as plain data, and which of it is
//! looked at when there is too much.
//!
//! Every statement has one *witness*, the person whose signature it rests on
//! (who vouches, who paid, who was let down, who checked, who moderated), and
//! one *subject*. The reducers upstream verify signatures and add up what one
//! witness settled with one subject; nothing here checks a signature.
//!
//! # Which statements count when there are too many
//! A stranger must not push honest evidence out by flooding, so the choice
//! never looks at a statement whose witness has no weight with me. What
//! remains is cut at three distances, each with a share of its own of the
//! [`EVIDENCE_MAX`] statements of a kind: my own, my direct people's, theirs.
//! Within a distance, weightier witnesses come first (then the smaller id),
//! each with at most [`WITNESS_MAX`] statements of a kind, the newest first
//! (then the smaller subject).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::opinion::What;
use crate::id::PersonId;

/// Most statements of one kind that are considered at all.
pub const EVIDENCE_MAX: usize = 65_536;
/// Of these, most that are my own.
pub const OWN_MAX: usize = EVIDENCE_MAX / 4;
/// Of these, most that come from people I have evidence about myself.
pub const FIRST_HOP_MAX: usize = EVIDENCE_MAX / 2;
/// Of these, most that come from people one hop further.
pub const SECOND_HOP_MAX: usize = EVIDENCE_MAX - OWN_MAX - FIRST_HOP_MAX;
/// Most statements of one kind considered from one witness other than me:
/// more than one person can know people, and 1/32 of what a distance holds.
pub const WITNESS_MAX: usize = 1_024;

/// How somebody knows the person they vouch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum VouchKind {
    /// "I know them": nothing was compared.
    #[n(0)]
    Plain,
    /// Safety words were compared over a channel that shows who speaks.
    #[n(1)]
    SafetyWords,
    /// They met, and one scanned the other's code.
    #[n(2)]
    MetInPerson,
}

/// What a moderator did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Severity {
    /// Said that something was wrong.
    #[n(0)]
    Warned,
    /// Took the right to write for a while.
    #[n(1)]
    Muted,
    /// Removed or banned.
    #[n(2)]
    Removed,
}

/// `from` vouches for `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouch {
    /// Who vouches.
    pub from: PersonId,
    /// For whom.
    pub to: PersonId,
    /// On what ground.
    pub kind: VouchKind,
    /// When, ms since the Unix epoch.
    pub time_ms: i64,
}

/// All that `payer` has paid to `payee`: evidence by the payer about the
/// payee, and never the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Who signed the vouchers.
    pub payer: PersonId,
    /// Who did the work.
    pub payee: PersonId,
    /// Sum of all settlements, token·MiB.
    pub token_mib: u64,
    /// When the last job settled.
    pub last_ms: i64,
}

/// All jobs in which `provider` let `asker` down, as the asker states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// Who should have done the work.
    pub provider: PersonId,
    /// Who waited for it.
    pub asker: PersonId,
    /// Number of jobs.
    pub count: u64,
    /// When the last one failed.
    pub last_ms: i64,
}

/// All recomputations of `subject`'s results by `checker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpotChecks {
    /// Whose results.
    pub subject: PersonId,
    /// Who recomputed them.
    pub checker: PersonId,
    /// Number of equal hashes.
    pub passed: u64,
    /// Number of unequal hashes.
    pub failed: u64,
    /// When the last check was made.
    pub last_ms: i64,
}

/// One act of a moderator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moderation {
    /// Against whom.
    pub subject: PersonId,
    /// By whom.
    pub by: PersonId,
    /// What was done.
    pub severity: Severity,
    /// When.
    pub time_ms: i64,
}

/// Everything a reputation is computed from. Order and duplicates do not
/// matter, and what somebody states about themselves is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Vouches that were not withdrawn.
    pub vouches: Vec<Vouch>,
    /// Settled work, one entry for a payer and payee.
    pub settled: Vec<Settled>,
    /// Failures, one entry for a provider and asker.
    pub failures: Vec<Failures>,
    /// Spot checks, one entry for a subject and checker.
    pub spot_checks: Vec<SpotChecks>,
    /// Moderation outcomes that stand after appeal.
    pub moderation: Vec<Moderation>,
}

/// What all kinds of statements have in common.
pub(super) trait Statement: Copy {
    fn witness(&self) -> PersonId;
    fn subject(&self) -> PersonId;
    fn time_ms(&self) -> i64;
    /// Statements by one witness about one subject in the same slot are
    /// versions of each other.
    fn slot(&self) -> u8 {
        0
    }
    /// Which version stands: the largest. Totals only grow, so the largest
    /// total is the latest.
    fn version(&self) -> (u64, u64, i64) {
        (0, 0, self.time_ms())
    }
    /// What it says.
    fn facts(&self) -> [Option<What>; 2];
}

impl Statement for Vouch {
    fn witness(&self) -> PersonId {
        self.from
    }
    fn subject(&self) -> PersonId {
        self.to
    }
    fn time_ms(&self) -> i64 {
        self.time_ms
    }
    fn slot(&self) -> u8 {
        self.kind as u8
    }
    fn facts(&self) -> [Option<What>; 2] {
        [Some(What::Vouched(self.kind)), None]
    }
}

impl Statement for Settled {
    fn witness(&self) -> PersonId {
        self.payer
    }
    fn subject(&self) -> PersonId {
        self.payee
    }
    fn time_ms(&self) -> i64 {
        self.last_ms
    }
    fn version(&self) -> (u64, u64, i64) {
        (self.token_mib, 0, self.last_ms)
    }
    fn facts(&self) -> [Option<What>; 2] {
        [Some(What::Settled { token_mib: self.token_mib }), None]
    }
}

impl Statement for Failures {
    fn witness(&self) -> PersonId {
        self.asker
    }
    fn subject(&self) -> PersonId {
        self.provider
    }
    fn time_ms(&self) -> i64 {
        self.last_ms
    }
    fn version(&self) -> (u64, u64, i64) {
        (self.count, 0, self.last_ms)
    }
    fn facts(&self) -> [Option<What>; 2] {
        [Some(What::Failed { count: self.count }), None]
    }
}

impl Statement for SpotChecks {
    fn witness(&self) -> PersonId {
        self.checker
    }
    fn subject(&self) -> PersonId {
        self.subject
    }
    fn time_ms(&self) -> i64 {
        self.last_ms
    }
    fn version(&self) -> (u64, u64, i64) {
        (self.passed.saturating_add(self.failed), self.failed, self.last_ms)
    }
    fn facts(&self) -> [Option<What>; 2] {
        [Some(What::ChecksPassed { count: self.passed }), Some(What::ChecksFailed { count: self.failed })]
    }
}

impl Statement for Moderation {
    fn witness(&self) -> PersonId {
        self.by
    }
    fn subject(&self) -> PersonId {
        self.subject
    }
    fn time_ms(&self) -> i64 {
        self.time_ms
    }
    fn slot(&self) -> u8 {
        self.severity as u8
    }
    fn facts(&self) -> [Option<What>; 2] {
        [Some(What::Moderated(self.severity)), None]
    }
}

/// People whose statements are looked at, with their rank: 0 comes first.
pub(super) type Ranks = BTreeMap<PersonId, u32>;

/// How many statements of one kind are taken.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) each: usize,
    pub(super) all: usize,
}

/// The statements by `witnesses` that are considered, with the rank of their
/// witness, in an order that depends on the set of statements alone.
pub(super) fn choose<T: Statement>(
    me: PersonId,
    statements: &[T],
    witnesses: &Ranks,
    share: Share,
) -> Vec<(u32, T)> {
    let mut relevant: Vec<(u32, T)> = statements
        .iter()
        .filter(|s| s.subject() != me && s.subject() != s.witness())
        .filter_map(|s| Some((*witnesses.get(&s.witness())?, *s)))
        .collect();
    relevant.sort_unstable_by_key(|(rank, s)| (*rank, s.subject(), s.slot(), Reverse(s.version())));
    relevant.dedup_by_key(|(rank, s)| (*rank, s.subject(), s.slot()));

    let mut chosen: Vec<(u32, T)> = Vec::with_capacity(relevant.len().min(share.all));
    for one_witness in relevant.chunk_by_mut(|a, b| a.0 == b.0) {
        let take = share.each.min(share.all - chosen.len()).min(one_witness.len());
        if take < one_witness.len() {
            one_witness.sort_unstable_by_key(|(_, s)| (Reverse(s.time_ms()), s.subject(), s.slot()));
        }
        chosen.extend_from_slice(&one_witness[..take]);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(number: u8) -> PersonId {
        PersonId::from_bytes([number; 32])
    }

    fn settled(payer: u8, payee: u8, token_mib: u64, last_ms: i64) -> Settled {
        Settled { payer: person(payer), payee: person(payee), token_mib, last_ms }
    }

    #[test]
    fn the_choice_takes_ranks_then_the_newest_and_forgets_strangers() {
        let witnesses = Ranks::from([(person(1), 1), (person(2), 0)]);
        let statements = [
            settled(1, 10, 5, 100),
            settled(1, 11, 5, 300),
            settled(1, 12, 5, 200),
            settled(1, 11, 4, 900), // an older total
            settled(1, 1, 9, 999),  // about oneself
            settled(1, 0, 9, 999),  // about me
            settled(9, 10, 9, 999), // by a stranger
            settled(2, 10, 1, 1),
        ];
        let payees = |each, all| -> Vec<(u32, u8, u64)> {
            choose(person(0), &statements, &witnesses, Share { each, all })
                .into_iter()
                .map(|(rank, s)| (rank, s.payee.as_bytes()[0], s.token_mib))
                .collect()
        };
        assert_eq!(payees(9, 9), [(0, 10, 1), (1, 10, 5), (1, 11, 5), (1, 12, 5)]);
        assert_eq!(payees(2, 9), [(0, 10, 1), (1, 11, 5), (1, 12, 5)]);
        assert_eq!(payees(9, 2), [(0, 10, 1), (1, 11, 5)]);
        assert_eq!(payees(9, 0), []);
    }

    #[test]
    fn the_shares_are_the_whole() {
        assert_eq!(OWN_MAX + FIRST_HOP_MAX + SECOND_HOP_MAX, EVIDENCE_MAX);
    }
}
