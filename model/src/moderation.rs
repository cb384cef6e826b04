//! Moderation: what is out of sight, what was done, what waits.
//!
//! Two parts with two audiences. [`Moderation`] is reduced from the charter,
//! which feeds it the events that count in its order; everyone sees it.
//! [`ReportQueue`] is what the moderators' stream holds, less what the charter
//! says was decided; only they see it.
//!
//! Never here: rights and ranks (the charter judges them), what a report says
//! (it is sealed), anyone's own mutes and blocks (private facts).

mod log;
mod queue;

use std::collections::{BTreeMap, VecDeque};

use minicbor::Encode;

use crate::codec;
use crate::event::charter::{CharterEvent, ReportOutcome};
use crate::id::{ChangeHash, PersonId};

pub use log::{Deed, LOG_COLUMNS, LogRow};
pub use queue::{OpenReport, REPORTS_KEPT_PER_AUTHOR_MAX, REPORTS_OPEN_PER_AUTHOR_MAX, Report, ReportQueue};

/// Most messages out of sight at a time. Only moderators fill it, and they can
/// put one back to make room.
pub const HIDDEN_MAX: usize = 65_536;
/// Most decisions kept. Reports decided beyond it stay open.
pub const DECISIONS_MAX: usize = 65_536;
/// Most rows of the log kept in memory; beyond it the oldest are counted only,
/// as their events are in the feeds.
pub const LOG_ROWS_MAX: usize = 65_536;

/// An act that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModerationFault {
    /// As many messages are hidden as may be.
    #[error("{HIDDEN_MAX} messages are hidden already; put one back first")]
    HiddenFull,
    /// The message is in sight already.
    #[error("this message is not hidden")]
    NotHidden,
    /// As many reports were decided as may be.
    #[error("{DECISIONS_MAX} reports are decided already")]
    DecisionsFull,
}

/// Why a message is out of sight.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Hiding {
    /// The change that says so.
    #[n(0)]
    pub event: ChangeHash,
    /// Who.
    #[n(1)]
    pub by: PersonId,
    /// Why.
    #[n(2)]
    pub reason: String,
}

/// What came of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub struct Decision {
    /// The change that says so.
    #[n(0)]
    pub event: ChangeHash,
    /// Who.
    #[n(1)]
    pub by: PersonId,
    /// Whom the moderator took it to be about.
    #[n(2)]
    pub subject: PersonId,
    /// What.
    #[n(3)]
    pub outcome: ReportOutcome,
    /// When the moderator says it was, ms since the Unix epoch.
    #[n(4)]
    pub time_ms: i64,
}

/// Moderation as everyone sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moderation {
    hidden: BTreeMap<(PersonId, ChangeHash), Hiding>,
    decisions: BTreeMap<ChangeHash, Decision>,
    log: VecDeque<LogRow>,
    rows_dropped: u64,
}

impl Moderation {
    /// Takes the next counting event of the charter's order; those that are no
    /// moderation are ignored. `time_ms` is the author's clock, for display.
    ///
    /// # Errors
    /// [`ModerationFault`]: nothing changed.
    pub fn apply(
        &mut self,
        id: ChangeHash,
        author: PersonId,
        time_ms: i64,
        event: &CharterEvent,
    ) -> Result<(), ModerationFault> {
        let (subject, deed, note) = match event {
            CharterEvent::MessageHidden { author: subject, message, hidden, reason } => {
                self.hide(id, author, (*subject, *message), *hidden, reason)?;
                let deed = if *hidden { Deed::Hid(*message) } else { Deed::PutBack(*message) };
                (*subject, deed, reason)
            }
            CharterEvent::ReportDecided { report, subject, outcome, note } => {
                let decision =
                    Decision { event: id, by: author, subject: *subject, outcome: *outcome, time_ms };
                self.decide(*report, decision)?;
                (*subject, Deed::Decided(*report, *outcome), note)
            }
            CharterEvent::Removed { person, ban, reason, .. } => {
                (*person, if *ban { Deed::Banned } else { Deed::Removed }, reason)
            }
            _ => return Ok(()),
        };
        if self.log.len() >= LOG_ROWS_MAX {
            self.log.pop_front();
            self.rows_dropped = self.rows_dropped.saturating_add(1);
        }
        self.log.push_back(LogRow { event: id, time_ms, by: author, subject, deed, note: note.clone() });
        Ok(())
    }

    /// The last in the order stands.
    fn hide(
        &mut self,
        event: ChangeHash,
        by: PersonId,
        message: (PersonId, ChangeHash),
        hidden: bool,
        reason: &str,
    ) -> Result<(), ModerationFault> {
        if !hidden {
            return self.hidden.remove(&message).map(|_| ()).ok_or(ModerationFault::NotHidden);
        }
        if self.hidden.len() >= HIDDEN_MAX && !self.hidden.contains_key(&message) {
            return Err(ModerationFault::HiddenFull);
        }
        self.hidden.insert(message, Hiding { event, by, reason: reason.to_owned() });
        Ok(())
    }

    /// The last in the order stands.
    fn decide(&mut self, report: ChangeHash, decision: Decision) -> Result<(), ModerationFault> {
        if self.decisions.len() >= DECISIONS_MAX && !self.decisions.contains_key(&report) {
            return Err(ModerationFault::DecisionsFull);
        }
        self.decisions.insert(report, decision);
        Ok(())
    }

    /// Why a message is out of sight, if it is. `author` is who wrote it
    /// according to its feed: a hiding that names someone else, to get around
    /// the author's rank, hides nothing.
    pub fn hiding(&self, author: PersonId, message: ChangeHash) -> Option<&Hiding> {
        self.hidden.get(&(author, message))
    }

    /// What came of a report.
    pub fn decision(&self, report: ChangeHash) -> Option<&Decision> {
        self.decisions.get(&report)
    }

    /// Who did what to whom and when, in the charter's order.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = &LogRow> + ExactSizeIterator {
        self.log.iter()
    }

    /// How many older rows are in the feeds only.
    pub fn rows_dropped(&self) -> u64 {
        self.rows_dropped
    }

    /// The canonical form, for the hash of the community's state. Without the
    /// log, which repeats the events.
    pub fn encode_state(&self) -> Vec<u8> {
        codec::encode(&(&self.hidden, &self.decisions))
    }
}
