//! The moderators' queue: reports that nobody answered yet.
//!
//! A function of the set of reports and of what the charter decided: the order
//! of arrival does not matter. What of one author goes beyond a bound is set
//! aside, and nobody else's report is.

use std::collections::{BTreeMap, BTreeSet};

use super::Moderation;
use crate::event::moderation::ModerationEvent;
use crate::id::{ChangeHash, PersonId};

/// Most open reports of one author that moderators are shown. Further ones
/// wait and come up, oldest first, as these are decided.
pub const REPORTS_OPEN_PER_AUTHOR_MAX: usize = 64;
/// Most reports of one author that are kept, decided or not: the newest by
/// the author's clock.
pub const REPORTS_KEPT_PER_AUTHOR_MAX: usize = 1_024;

/// One report, as filed. Its account stays in its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The change that carries it.
    pub id: ChangeHash,
    /// Who filed it.
    pub author: PersonId,
    /// The author's clock, ms since the Unix epoch.
    pub time_ms: i64,
    /// About whom.
    pub subject: PersonId,
    /// About which message.
    pub message: Option<ChangeHash>,
}

/// A report that waits for a moderator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReport<'a> {
    /// The oldest of its matter.
    pub report: &'a Report,
    /// How often its author reported the same since.
    pub repeats: usize,
}

/// All reports that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportQueue {
    by_author: BTreeMap<PersonId, BTreeMap<(i64, ChangeHash), Report>>,
}

/// What a report is about: two of one author with the same are one.
type Matter = (PersonId, Option<ChangeHash>);

impl ReportQueue {
    /// Takes an event of the moderators' stream. Whether the author is a
    /// member, and whether their feed counts, is the caller's to judge.
    pub fn apply(&mut self, id: ChangeHash, author: PersonId, time_ms: i64, event: &ModerationEvent) {
        let ModerationEvent::ReportFiled { subject, message, .. } = event;
        let report = Report { id, author, time_ms, subject: *subject, message: *message };
        let of_author = self.by_author.entry(author).or_default();
        of_author.insert((time_ms, id), report);
        if of_author.len() > REPORTS_KEPT_PER_AUTHOR_MAX {
            of_author.pop_first();
        }
    }

    /// One report, decided or not.
    pub fn get(&self, author: PersonId, id: ChangeHash) -> Option<&Report> {
        self.by_author.get(&author)?.values().find(|report| report.id == id)
    }

    /// What waits, oldest first, within every author's quota.
    pub fn open(&self, moderation: &Moderation) -> Vec<OpenReport<'_>> {
        let mut open: Vec<_> = self
            .by_author
            .values()
            .flat_map(|reports| open_of(reports, moderation).into_iter().take(REPORTS_OPEN_PER_AUTHOR_MAX))
            .collect();
        open.sort_unstable_by_key(|open| (open.report.time_ms, open.report.id));
        open
    }

    /// How many reports of an author are open beyond the quota.
    pub fn waiting_beyond_quota(&self, author: PersonId, moderation: &Moderation) -> usize {
        let open = self.by_author.get(&author).map_or(0, |reports| open_of(reports, moderation).len());
        open.saturating_sub(REPORTS_OPEN_PER_AUTHOR_MAX)
    }
}

/// An author's open reports, oldest first, one for each matter.
fn open_of<'a>(
    reports: &'a BTreeMap<(i64, ChangeHash), Report>,
    moderation: &Moderation,
) -> Vec<OpenReport<'a>> {
    let matter = |report: &Report| -> Matter { (report.subject, report.message) };
    // A decision answers its report and what its author had repeated by then;
    // a later report of the same matter is a new one.
    let mut answered_ms: BTreeMap<Matter, i64> = BTreeMap::new();
    let mut answered: BTreeSet<ChangeHash> = BTreeSet::new();
    for report in reports.values() {
        if let Some(decision) = moderation.decision(report.id) {
            answered.insert(report.id);
            let until = answered_ms.entry(matter(report)).or_insert(i64::MIN);
            *until = decision.time_ms.max(*until);
        }
    }
    let mut open: Vec<OpenReport<'a>> = Vec::new();
    let mut place: BTreeMap<Matter, usize> = BTreeMap::new();
    for report in reports.values() {
        let matter = matter(report);
        if answered.contains(&report.id)
            || answered_ms.get(&matter).is_some_and(|until| report.time_ms <= *until)
        {
            continue;
        }
        match place.get(&matter) {
            Some(index) => open[*index].repeats += 1,
            None => {
                place.insert(matter, open.len());
                open.push(OpenReport { report, repeats: 0 });
            }
        }
    }
    open
}
