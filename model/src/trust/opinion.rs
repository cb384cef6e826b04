//! Opinions: what one witness's statements about one subject add up to.
//!
//! Points are millionths of [`ONE`](super::ONE), signed. Good evidence has
//! ceilings that add up to exactly one; counts and amounts saturate, so that
//! the hundredth job says less than the first; everything fades with age, by
//! half every half-life. All of it is integer arithmetic: the same evidence
//! gives the same points on every platform.

use std::collections::BTreeMap;
use std::fmt;

use super::ONE;
use super::evidence::{Evidence, Ranks, Severity, Share, Statement, VouchKind, choose};
use crate::amount::Amount;
use crate::id::PersonId;

/// Milliseconds in a day.
const DAY_MS: u64 = 86_400_000;
/// Vouches halve in two years: people stay who they are, but acquaintance
/// fades and keys get lost.
pub const VOUCH_HALF_LIFE_MS: u64 = 720 * DAY_MS;
/// Work, failures, checks and moderation halve in half a year: machines,
/// habits and moods change.
pub const DEED_HALF_LIFE_MS: u64 = 180 * DAY_MS;

/// Settled work worth half of its ceiling: 32,768 work units, eight answers of
/// 1,024 tokens from 4 GiB of weights. One cheap answer is not yet a friendship.
const SETTLED_HALF: u64 = 32_768 * Amount::PER_WORK_UNIT.unsigned_abs();
/// Passed checks worth half of their ceiling.
const PASSED_HALF: u64 = 16;
/// Failed checks worth half of their ceiling. Results are equal or wrong, so
/// the second one is enough to doubt somebody.
const CHECKS_FAILED_HALF: u64 = 2;
/// Failures worth half of their ceiling: machines are switched off, and that
/// is no crime.
const FAILED_HALF: u64 = 8;

/// One thing a witness states about a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Vouches for them.
    Vouched(VouchKind),
    /// Paid them for work done.
    Settled {
        /// Sum of all settlements, token·MiB.
        token_mib: u64,
    },
    /// Recomputed results of theirs that were right.
    ChecksPassed {
        /// How many.
        count: u64,
    },
    /// Recomputed results of theirs that were wrong.
    ChecksFailed {
        /// How many.
        count: u64,
    },
    /// Was let down by them.
    Failed {
        /// In how many jobs.
        count: u64,
    },
    /// Had to moderate them.
    Moderated(Severity),
}

impl What {
    /// Points when fresh; for amounts and counts the ceiling they approach.
    const fn ceiling(self) -> i64 {
        match self {
            Self::Vouched(VouchKind::Plain) => 200_000,
            Self::Vouched(VouchKind::SafetyWords) => 400_000,
            Self::Vouched(VouchKind::MetInPerson) => 600_000,
            Self::Settled { .. } => 300_000,
            Self::ChecksPassed { .. } => 100_000,
            Self::ChecksFailed { .. } => -1_000_000,
            Self::Failed { .. } => -400_000,
            Self::Moderated(Severity::Warned) => -100_000,
            Self::Moderated(Severity::Muted) => -300_000,
            Self::Moderated(Severity::Removed) => -800_000,
        }
    }

    /// Of several facts in one family only the strongest counts: a person who
    /// was met is not also vouched for plainly.
    const fn family(self) -> u8 {
        match self {
            Self::Vouched(_) => 0,
            Self::Settled { .. } => 1,
            Self::ChecksPassed { .. } => 2,
            Self::ChecksFailed { .. } => 3,
            Self::Failed { .. } => 4,
            Self::Moderated(_) => 5,
        }
    }

    /// Points of this fact at an age.
    fn points(self, age_ms: u64) -> i64 {
        let ceiling = self.ceiling();
        let fresh = match self {
            Self::Vouched(_) | Self::Moderated(_) => ceiling,
            Self::Settled { token_mib } => saturating_part(ceiling, token_mib, SETTLED_HALF),
            Self::ChecksPassed { count } => saturating_part(ceiling, count, PASSED_HALF),
            Self::ChecksFailed { count } => saturating_part(ceiling, count, CHECKS_FAILED_HALF),
            Self::Failed { count } => saturating_part(ceiling, count, FAILED_HALF),
        };
        let half_life = if matches!(self, Self::Vouched(_)) { VOUCH_HALF_LIFE_MS } else { DEED_HALF_LIFE_MS };
        scaled(fresh, remaining(age_ms, half_life), ONE)
    }
}

/// `ceiling · n / (n + half)`, toward zero.
fn saturating_part(ceiling: i64, n: u64, half: u64) -> i64 {
    let n = u128::from(n);
    let part = u128::from(ceiling.unsigned_abs()) * n / (n + u128::from(half));
    // The part is at most the ceiling, which came from an i64.
    i64::try_from(part).unwrap_or(i64::MAX) * ceiling.signum()
}

/// `value · numerator / denominator`, toward zero, saturating.
pub(super) fn scaled(value: i64, numerator: u64, denominator: u64) -> i64 {
    let exact = i128::from(value) * i128::from(numerator) / i128::from(denominator.max(1));
    i64::try_from(exact).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// What of [`ONE`] is left after `age_ms`: halved by every half-life, and
/// between by sixteen steps of 2^(−1/16) joined by straight lines (at most
/// 0.03 % above the curve).
fn remaining(age_ms: u64, half_life_ms: u64) -> u64 {
    const STEPS: [u64; 17] = [
        1_000_000, 957_603, 917_004, 878_126, 840_896, 805_245, 771_105, 738_413, 707_107, 677_128, 648_420,
        620_929, 594_604, 569_394, 545_254, 522_137, 500_000,
    ];
    let halvings = u32::try_from(age_ms / half_life_ms).unwrap_or(u32::MAX);
    let step_ms = half_life_ms / 16;
    let rest_ms = age_ms % half_life_ms;
    let step = usize::try_from(rest_ms / step_ms).unwrap_or(15).min(15);
    let fall = (STEPS[step] - STEPS[step + 1]) * (rest_ms % step_ms) / step_ms;
    (STEPS[step] - fall).checked_shr(halvings).unwrap_or(0)
}

/// A fact with its points today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What was stated.
    pub what: What,
    /// When it was, or the last of it; ms since the Unix epoch.
    pub time_ms: i64,
    /// What it is worth in its witness's opinion, in millionths.
    pub points: i64,
}

/// What one witness's statements about one subject add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opinion {
    facts: Vec<Fact>,
}

impl Opinion {
    /// The facts behind it, at most one of each kind.
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// Their sum, between −[`ONE`] and [`ONE`].
    pub fn points(&self) -> i64 {
        let one = ONE.cast_signed();
        self.facts.iter().map(|fact| fact.points).sum::<i64>().clamp(-one, one)
    }

    /// The sum where it is good, in millionths; else zero.
    pub fn trust(&self) -> u64 {
        u64::try_from(self.points()).unwrap_or(0)
    }

    /// The sum where it is bad, as a positive number; else zero.
    pub fn blame(&self) -> u64 {
        if self.points() < 0 { self.points().unsigned_abs() } else { 0 }
    }

    fn add(&mut self, fact: Fact) {
        let strength = |fact: &Fact| (fact.points.unsigned_abs(), fact.what, fact.time_ms);
        match self.facts.iter_mut().find(|other| other.what.family() == fact.what.family()) {
            Some(other) if strength(&fact) > strength(other) => *other = fact,
            Some(_) => {}
            None => self.facts.push(fact),
        }
    }
}

/// Where opinions are looked at from.
#[derive(Clone, Copy)]
pub(super) struct Viewpoint<'a> {
    pub(super) me: PersonId,
    pub(super) evidence: &'a Evidence,
    pub(super) now_ms: i64,
}

/// A witness, a subject, and what the first thinks of the second.
pub(super) type Said = (PersonId, PersonId, Opinion);

impl Viewpoint<'_> {
    /// The opinions of `witnesses` (weightiest first), by their order and
    /// subject. A time in the future counts as now: a wrong clock makes nothing
    /// stronger than fresh.
    pub(super) fn said_by(&self, witnesses: &[PersonId], share: Share) -> Vec<Said> {
        let ranks: Ranks = witnesses.iter().copied().zip(0..).collect();
        let mut book = BTreeMap::new();
        self.enter(&mut book, &self.evidence.vouches, &ranks, share);
        self.enter(&mut book, &self.evidence.settled, &ranks, share);
        self.enter(&mut book, &self.evidence.spot_checks, &ranks, share);
        self.enter(&mut book, &self.evidence.failures, &ranks, share);
        self.enter(&mut book, &self.evidence.moderation, &ranks, share);
        book.into_iter().map(|((_, subject), (witness, opinion))| (witness, subject, opinion)).collect()
    }

    fn enter<T: Statement>(&self, book: &mut Book, statements: &[T], ranks: &Ranks, share: Share) {
        for (rank, statement) in choose(self.me, statements, ranks, share) {
            let time_ms = statement.time_ms();
            let age_ms = u64::try_from(self.now_ms.saturating_sub(time_ms)).unwrap_or(0);
            for what in statement.facts().into_iter().flatten() {
                let fact = Fact { what, time_ms, points: what.points(age_ms) };
                if fact.points != 0 {
                    let new = || (statement.witness(), Opinion::default());
                    book.entry((rank, statement.subject())).or_insert_with(new).1.add(fact);
                }
            }
        }
    }
}

/// Opinions by their witness's rank and subject.
type Book = BTreeMap<(u32, PersonId), (PersonId, Opinion)>;

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vouched(VouchKind::Plain) => f.write_str("vouched for them"),
            Self::Vouched(VouchKind::SafetyWords) => f.write_str("compared safety words"),
            Self::Vouched(VouchKind::MetInPerson) => f.write_str("met them in person"),
            Self::Settled { token_mib } => {
                let whole = token_mib / Amount::PER_WORK_UNIT.unsigned_abs();
                write!(f, "paid {whole} WU for work")
            }
            Self::ChecksPassed { count } => write!(f, "checked {count} results: right"),
            Self::ChecksFailed { count } => write!(f, "checked {count} results: wrong"),
            Self::Failed { count } => write!(f, "was let down in {count} jobs"),
            Self::Moderated(Severity::Warned) => f.write_str("warned them as a moderator"),
            Self::Moderated(Severity::Muted) => f.write_str("muted them as a moderator"),
            Self::Moderated(Severity::Removed) => f.write_str("removed them as a moderator"),
        }
    }
}

/// The table of what evidence is worth, as Markdown, one line per row.
pub fn points_table() -> String {
    let half = |half: u64, unit: &str| format!("half of it at {half} {unit}");
    let (settled, any) = (SETTLED_HALF / Amount::PER_WORK_UNIT.unsigned_abs(), 0);
    let rows = [
        ("vouches, plainly", What::Vouched(VouchKind::Plain), String::new()),
        ("vouches, having compared safety words", What::Vouched(VouchKind::SafetyWords), String::new()),
        ("vouches, having met in person", What::Vouched(VouchKind::MetInPerson), String::new()),
        ("paid for work", What::Settled { token_mib: any }, half(settled, "WU")),
        ("spot checks, right", What::ChecksPassed { count: any }, half(PASSED_HALF, "checks")),
        ("spot checks, wrong", What::ChecksFailed { count: any }, half(CHECKS_FAILED_HALF, "checks")),
        ("jobs that failed", What::Failed { count: any }, half(FAILED_HALF, "jobs")),
        ("moderated: warned", What::Moderated(Severity::Warned), String::new()),
        ("moderated: muted", What::Moderated(Severity::Muted), String::new()),
        ("moderated: removed", What::Moderated(Severity::Removed), String::new()),
    ];
    let mut table =
        "| what a witness states | points | grows | halves every |\n|---|---|---|---|\n".to_owned();
    for (label, what, grows) in rows {
        let half_life = if what.family() == 0 { VOUCH_HALF_LIFE_MS } else { DEED_HALF_LIFE_MS };
        let grows = if grows.is_empty() { "at once" } else { &grows };
        let (sign, points) =
            (if what.ceiling() < 0 { "−" } else { "" }, what.ceiling().unsigned_abs() / 1_000);
        let points = format!("{sign}{}.{:03}", points / 1_000, points % 1_000);
        table += &format!("| {label} | {points} | {grows} | {} days |\n", half_life / DAY_MS);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_shows_what_evidence_is_worth() {
        let document = include_str!("../../../docs/design/trust.md");
        let table = points_table();
        assert!(document.contains(&table), "docs/design/trust.md should contain:\n{table}");
    }

    #[test]
    fn good_evidence_adds_up_to_one_and_never_more() {
        let most = u64::MAX;
        let best = [
            What::Vouched(VouchKind::MetInPerson),
            What::Settled { token_mib: most },
            What::ChecksPassed { count: most },
        ];
        let sum: i64 = best.iter().map(|what| what.points(0)).sum();
        assert!((999_990..=1_000_000).contains(&sum), "{sum}");
        assert_eq!(best.iter().map(|what| what.ceiling()).sum::<i64>(), 1_000_000);
        assert_eq!(What::ChecksFailed { count: 2 }.points(0), -500_000);
        assert_eq!(What::Settled { token_mib: 0 }.points(0), 0);
    }

    /// The fixed-point curve beside the platform's own 2^x.
    #[test]
    fn ageing_follows_the_exponential() {
        let half = DEED_HALF_LIFE_MS;
        let mut before = ONE;
        for sample in 0..4_000u32 {
            let age = u64::from(sample) * half / 400;
            let left = remaining(age, half);
            let exact = 1e6 * (-f64::from(sample) / 400.0).exp2();
            let error = left as f64 - exact;
            assert!(error.abs() <= exact * 3e-4 + 1.0, "{sample}: {left} instead of {exact}");
            assert!(left <= before, "never grows");
            before = left;
        }
        assert_eq!(
            [remaining(0, half), remaining(half, half), remaining(3 * half, half)],
            [ONE, ONE / 2, ONE / 8]
        );
        assert_eq!(remaining(u64::MAX, half), 0);
    }

    #[test]
    fn only_the_strongest_vouch_counts() {
        let mut opinion = Opinion::default();
        for kind in [VouchKind::Plain, VouchKind::MetInPerson, VouchKind::SafetyWords] {
            let what = What::Vouched(kind);
            opinion.add(Fact { what, time_ms: 0, points: what.points(0) });
        }
        assert_eq!((opinion.points(), opinion.facts().len()), (600_000, 1));
        opinion.add(Fact { what: What::Moderated(Severity::Removed), time_ms: 0, points: -800_000 });
        assert_eq!((opinion.points(), opinion.trust(), opinion.blame()), (-200_000, 0, 200_000));
    }
}
