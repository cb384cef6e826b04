//! The log of moderation, one row for each act.

use data_encoding::HEXLOWER;

use crate::event::charter::ReportOutcome;
use crate::id::{ChangeHash, PersonId};

/// Names of the columns of [`LogRow::columns`].
pub const LOG_COLUMNS: [&str; 7] = ["time_ms", "event", "by", "deed", "whom", "about", "note"];

/// What a moderator did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Took a message out of sight.
    Hid(ChangeHash),
    /// Put a message back.
    PutBack(ChangeHash),
    /// Answered a report.
    Decided(ChangeHash, ReportOutcome),
    /// Removed a person.
    Removed,
    /// Removed a person, and only a rank like the remover's lets them back.
    Banned,
}

impl Deed {
    /// The word in the export.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hid(_) => "hid",
            Self::PutBack(_) => "put back",
            Self::Decided(_, ReportOutcome::Dismissed) => "dismissed report",
            Self::Decided(_, ReportOutcome::Warned) => "warned on report",
            Self::Decided(_, ReportOutcome::Hidden) => "hid on report",
            Self::Decided(_, ReportOutcome::Removed) => "removed on report",
            Self::Removed => "removed",
            Self::Banned => "banned",
        }
    }

    /// The message or the report it is about.
    pub const fn about(self) -> Option<ChangeHash> {
        match self {
            Self::Hid(about) | Self::PutBack(about) | Self::Decided(about, _) => Some(about),
            Self::Removed | Self::Banned => None,
        }
    }
}

/// Who did what to whom, when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// The change that carries it.
    pub event: ChangeHash,
    /// The author's clock, ms since the Unix epoch.
    pub time_ms: i64,
    /// Who.
    pub by: PersonId,
    /// To whom.
    pub subject: PersonId,
    /// What.
    pub deed: Deed,
    /// Why.
    pub note: String,
}

impl LogRow {
    /// The row as text, ids whole, in the order of [`LOG_COLUMNS`]. Quoting is
    /// the exporter's.
    pub fn columns(&self) -> [String; 7] {
        let about = self.deed.about().map(|about| HEXLOWER.encode(about.as_bytes())).unwrap_or_default();
        [
            self.time_ms.to_string(),
            self.event.to_hex(),
            self.by.to_hex(),
            self.deed.as_str().to_owned(),
            self.subject.to_hex(),
            about,
            self.note.clone(),
        ]
    }
}
