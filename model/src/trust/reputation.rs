//! Reputation: every person's score from where I stand, with its reasons.
//!
//! A score is what I have seen myself, plus what reaches me through people I
//! know ([`flow`](super::flow)), minus what people with weight report:
//!
//! ```text
//! my own facts  +  Σ passed on by friends  −  Σ weight(reporter) · blame / 4
//! ```
//!
//! My own experience dominates: hearsay takes at most what hearsay gave and
//! half of what I have seen myself, and it mends nothing where my own
//! experience is bad on balance. A bad score is zero, never below: a new key
//! starts there too, so dropping a bad one gains nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use super::evidence::{Evidence, FIRST_HOP_MAX, OWN_MAX, SECOND_HOP_MAX, Share, WITNESS_MAX};
use super::flow::Flow;
use super::opinion::{Fact, Opinion, Said, Viewpoint, scaled};
use super::verification::Verification;
use super::{ONE, REPORT_DIVISOR};
use crate::id::PersonId;

/// A score of one, in thousandths.
const FULL_MILLI: u16 = 1_000;

/// A rule that kept a score from being the plain sum of its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Reports take at most half of what I have seen myself.
    OwnExperience,
    /// No score is above one.
    Ceiling,
    /// No score is below zero.
    Floor,
}

/// One line of the answer to "why is this 0.62?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Something I have seen myself.
    Own {
        /// What.
        fact: Fact,
        /// What it adds, in thousandths.
        milli: i32,
    },
    /// Something that a person with weight has seen.
    Heard {
        /// Who.
        from: PersonId,
        /// What, and what it is worth to them.
        opinion: Opinion,
        /// What it adds here, in thousandths.
        milli: i32,
    },
    /// A rule that applied to the sum.
    Limit {
        /// Which.
        rule: Rule,
        /// What it adds, in thousandths.
        milli: i32,
    },
    /// There is no evidence that reaches me.
    Unknown,
    /// It is me.
    Myself,
}

impl Reason {
    /// What it adds to the score, in thousandths.
    pub fn milli(&self) -> i32 {
        match self {
            Self::Own { milli, .. } | Self::Heard { milli, .. } | Self::Limit { milli, .. } => *milli,
            Self::Unknown => 0,
            Self::Myself => i32::from(FULL_MILLI),
        }
    }
}

/// What a person is worth to me, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    value_milli: u16,
    reasons: Vec<Reason>,
}

impl Score {
    /// The score in thousandths, 0 to 1,000.
    pub fn value_milli(&self) -> u16 {
        self.value_milli
    }

    /// The evidence, my own first, then hearsay by what it adds or takes. What
    /// the reasons add makes up exactly [`Score::value_milli`].
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// Puts the parts together; see the module's formula.
    fn of(own: Opinion, mut heard: Vec<Heard>) -> Self {
        heard.sort_by_key(|part| (Reverse(part.points.unsigned_abs()), part.from));
        let half_of_own = (own.trust() / 2).cast_signed();
        let mut tally = Tally::default();
        for fact in own.facts() {
            tally.add(fact.points, |milli| Reason::Own { fact: *fact, milli });
        }
        let before_hearsay = tally.sum;
        for Heard { from, opinion, points } in heard {
            tally.add(points, |milli| Reason::Heard { from, opinion, milli });
        }
        let kept = before_hearsay - half_of_own;
        if own.trust() > 0 && tally.sum < kept {
            tally.add(kept - tally.sum, |milli| Reason::Limit { rule: Rule::OwnExperience, milli });
        }
        let bounded = tally.sum.clamp(0, ONE.cast_signed());
        let rule = if tally.sum < 0 { Rule::Floor } else { Rule::Ceiling };
        tally.add(bounded - tally.sum, |milli| Reason::Limit { rule, milli });
        Self { value_milli: u16::try_from(bounded / 1_000).unwrap_or(FULL_MILLI), reasons: tally.reasons }
    }
}

/// A running sum of points that turns them into reasons. Thousandths follow
/// the running sum, so that they add up to its own thousandths.
#[derive(Default)]
struct Tally {
    sum: i64,
    reasons: Vec<Reason>,
}

impl Tally {
    fn add(&mut self, points: i64, reason: impl FnOnce(i32) -> Reason) {
        if points == 0 {
            return;
        }
        let before = self.sum.div_euclid(1_000);
        self.sum = self.sum.saturating_add(points);
        let milli = self.sum.div_euclid(1_000) - before;
        self.reasons.push(reason(i32::try_from(milli).unwrap_or(0)));
    }
}

/// What one witness adds to a score or takes from it.
struct Heard {
    from: PersonId,
    opinion: Opinion,
    points: i64,
}

/// The scores of everybody whom any evidence connects to me.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reputation {
    flow: Flow,
    scores: BTreeMap<PersonId, Score>,
    verified: BTreeMap<PersonId, Verification>,
    unknown: Score,
}

impl Reputation {
    /// Computes all scores as seen from `me` at `now_ms` (ms since the Unix
    /// epoch). The result depends on the set of evidence alone; of too much
    /// evidence, [a part](super::evidence) is chosen that strangers cannot
    /// influence. Time: n log n in the number of statements.
    pub fn of(me: PersonId, evidence: &Evidence, now_ms: i64) -> Self {
        let view = Viewpoint { me, evidence, now_ms };
        let own = view.said_by(&[me], Share { each: OWN_MAX, all: OWN_MAX });
        let own: BTreeMap<PersonId, Opinion> =
            own.into_iter().map(|(_, to, opinion)| (to, opinion)).collect();
        let direct: BTreeMap<PersonId, u64> = own
            .iter()
            .map(|(person, opinion)| (*person, opinion.trust()))
            .filter(|(_, trust)| *trust > 0)
            .collect();

        let share = Share { each: WITNESS_MAX, all: FIRST_HOP_MAX };
        let mut said = view.said_by(&heaviest_first(&direct), share);
        // Praise mends nothing where my own experience is bad on balance.
        let praised = |subject| own.get(subject).is_none_or(|opinion| opinion.blame() == 0);
        let edges = said.iter().filter(|(_, subject, opinion)| opinion.trust() > 0 && praised(subject));
        let edges =
            edges.map(|(witness, subject, opinion)| ((*witness, *subject), opinion.trust())).collect();
        let flow = Flow::over(&direct, &edges);

        let mut second = flow.weights().clone();
        second.retain(|person, _| !direct.contains_key(person));
        // Two hops at most: people at the second may report, not recommend.
        let share = Share { each: WITNESS_MAX, all: SECOND_HOP_MAX };
        let reports = view.said_by(&heaviest_first(&second), share);
        said.extend(reports.into_iter().filter(|(_, _, opinion)| opinion.blame() > 0));

        let scores = Self::scored(me, own, said, &flow);
        let verified = Verification::all(me, &evidence.vouches);
        let unknown = Score { value_milli: 0, reasons: vec![Reason::Unknown] };
        Self { flow, scores, verified, unknown }
    }

    fn scored(
        me: PersonId,
        mut own: BTreeMap<PersonId, Opinion>,
        said: Vec<Said>,
        flow: &Flow,
    ) -> BTreeMap<PersonId, Score> {
        let mut heard: BTreeMap<PersonId, Vec<Heard>> = BTreeMap::new();
        for (from, subject, opinion) in said {
            let points = match opinion.blame() {
                0 => flow.passed(&from, &subject).cast_signed(),
                blame => -scaled(blame.cast_signed(), flow.weight(&from), ONE * REPORT_DIVISOR),
            };
            if points != 0 {
                heard.entry(subject).or_default().push(Heard { from, opinion, points });
            }
        }
        let mut scores = BTreeMap::new();
        for (person, parts) in heard {
            scores.insert(person, Score::of(own.remove(&person).unwrap_or_default(), parts));
        }
        scores.extend(own.into_iter().map(|(person, opinion)| (person, Score::of(opinion, Vec::new()))));
        scores.insert(me, Score { value_milli: FULL_MILLI, reasons: vec![Reason::Myself] });
        scores
    }

    /// A person's score; zero with [`Reason::Unknown`] where no evidence
    /// reaches me.
    pub fn score(&self, person: &PersonId) -> &Score {
        self.scores.get(person).unwrap_or(&self.unknown)
    }

    /// Everybody with a score of their own, myself included.
    pub fn scores(&self) -> impl Iterator<Item = (&PersonId, &Score)> {
        self.scores.iter()
    }

    /// The weight a person's word has with me, in millionths of
    /// [`ONE`](super::ONE): the flow that reaches them.
    pub fn weight(&self, person: &PersonId) -> u64 {
        self.flow.weight(person)
    }

    /// How the person has been verified, as seen from me.
    pub fn verification(&self, person: &PersonId) -> Verification {
        self.verified.get(person).copied().unwrap_or(Verification::Invited)
    }
}

/// People by falling weight, then by id.
fn heaviest_first(weights: &BTreeMap<PersonId, u64>) -> Vec<PersonId> {
    let mut people: Vec<_> = weights.iter().map(|(person, weight)| (Reverse(*weight), *person)).collect();
    people.sort_unstable();
    people.into_iter().map(|(_, person)| person).collect()
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.value_milli / 1_000, self.value_milli % 1_000)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnExperience => "reports take at most half of your own experience",
            Self::Ceiling => "no score is above 1",
            Self::Floor => "no score is below 0",
        })
    }
}

impl fmt::Display for Reason {
    /// A line such as `+0.300 a1b2c3d4 met them in person`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milli = self.milli();
        let sign = if milli < 0 { '−' } else { '+' };
        write!(f, "{sign}{}.{:03} ", milli.unsigned_abs() / 1_000, milli.unsigned_abs() % 1_000)?;
        match self {
            Self::Own { fact, .. } => write!(f, "you: {}", fact.what),
            Self::Heard { from, opinion, .. } => {
                let facts: Vec<String> = opinion.facts().iter().map(|fact| fact.what.to_string()).collect();
                write!(f, "{from}: {}", facts.join(", "))
            }
            Self::Limit { rule, .. } => write!(f, "{rule}"),
            Self::Unknown => f.write_str("nobody you know has worked with them"),
            Self::Myself => f.write_str("this is you"),
        }
    }
}
