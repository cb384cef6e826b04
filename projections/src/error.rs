//! What can go wrong with views, per operation.
//!
//! None of it loses anything: views are derived. [`OpenError::is_rebuildable`]
//! and [`ViewsError::is_rebuildable`] tell when to delete the file and derive
//! it again; [`ViewsError::Gap`] tells which events to hand in.

use std::path::PathBuf;

use exo_model::{CommunityId, FeedId};
use rusqlite::ErrorCode;

/// Why a views file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A later version of the program wrote it. It is left as it is.
    #[error(
        "{path} was written by a newer version of this program (views version {found}, this \
         program knows {supported}): please update, or remove the file to have it made again"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Schema version met.
        found: u32,
        /// Latest schema version this build knows.
        supported: u32,
    },
    /// Only from a [`Reader`](crate::Reader): the writer has not brought the
    /// file up to date yet.
    #[error("{path} has views version {found}; open it for writing first, to reach {supported}")]
    Older {
        /// The file.
        path: PathBuf,
        /// Schema version met; 0 for an empty file.
        found: u32,
        /// Schema version this build reads.
        supported: u32,
    },
    /// A SQLite file, but of something else. It is left as it is.
    #[error("{path} is a database of another program")]
    NotViews {
        /// The file.
        path: PathBuf,
    },
    /// Not readable as a database.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite met.
        source: rusqlite::Error,
    },
    /// A table is missing that its schema version has.
    #[error("{path} is damaged: it has no table {table}")]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// The first missing table.
        table: &'static str,
    },
    /// Views of another community.
    #[error("{path} belongs to community {found}, not to {expected}")]
    OtherCommunity {
        /// The file.
        path: PathBuf,
        /// Whose views it holds.
        found: CommunityId,
        /// Whose it should hold.
        expected: CommunityId,
    },
    /// A discarded views file could not be deleted.
    #[error("{path} could not be removed")]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The medium failed: no such folder, no permission, a full disk.
    #[error("{path} could not be opened")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite met.
        source: rusqlite::Error,
    },
}

impl OpenError {
    /// Whether deleting the file and applying all events again is the cure.
    /// Not for [`OpenError::Newer`] and [`OpenError::NotViews`]: those files
    /// are somebody's.
    pub const fn is_rebuildable(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Incomplete { .. } | Self::OtherCommunity { .. })
    }

    pub(crate) fn sqlite(path: impl Into<PathBuf>, source: rusqlite::Error) -> Self {
        let path = path.into();
        if is_damage(&source) { Self::Damaged { path, source } } else { Self::Sqlite { path, source } }
    }
}

/// Why a batch was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// Events of a feed are missing before this batch: hand in that feed from
    /// `from_seq` on.
    #[error("feed {feed} goes on at {met_seq} here, but its events from {from_seq} on are missing")]
    Gap {
        /// The feed.
        feed: FeedId,
        /// The first sequence number that is needed.
        from_seq: u64,
        /// The one met instead.
        met_seq: u64,
    },
    /// The state is of another community than the views.
    #[error("the views belong to community {found}, not to {expected}")]
    OtherCommunity {
        /// Whose views these are.
        found: CommunityId,
        /// Whose state was given.
        expected: CommunityId,
    },
    /// An event is of another community than the state.
    #[error("an event of community {found} came with the state of {expected}")]
    ForeignEvent {
        /// The event's community.
        found: CommunityId,
        /// The state's.
        expected: CommunityId,
    },
    /// A number the gate never lets through.
    #[error("event {seq} of feed {feed} has a number out of range")]
    OutOfRange {
        /// The feed.
        feed: FeedId,
        /// The event.
        seq: u64,
    },
    /// The file is damaged: delete it and derive it again.
    #[error("the views are damaged (while {doing})")]
    Damaged {
        /// What was being done.
        doing: &'static str,
        /// What SQLite met.
        source: rusqlite::Error,
    },
    /// The medium failed, a full disk for one; the same call may succeed
    /// later.
    #[error("the views could not be written (while {doing})")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// What SQLite met.
        source: rusqlite::Error,
    },
}

impl ViewsError {
    /// Whether deleting the file and applying all events again is the cure.
    pub const fn is_rebuildable(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::OtherCommunity { .. })
    }

    pub(crate) fn while_doing(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| {
            if is_damage(&source) { Self::Damaged { doing, source } } else { Self::Sqlite { doing, source } }
        }
    }
}

/// Why something could not be read from the views.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The file is damaged: delete it and derive it again.
    #[error("the views are damaged (while reading {what})")]
    Damaged {
        /// What was being read.
        what: &'static str,
        /// What SQLite met.
        source: rusqlite::Error,
    },
    /// The medium failed.
    #[error("could not read {what}")]
    Sqlite {
        /// What was being read.
        what: &'static str,
        /// What SQLite met.
        source: rusqlite::Error,
    },
}

impl QueryError {
    pub(crate) fn reading(what: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| {
            if is_damage(&source) { Self::Damaged { what, source } } else { Self::Sqlite { what, source } }
        }
    }
}

/// Whether this says that the file's contents are not what was written, rather
/// than that the medium is unwilling. A value of the wrong type or size in our
/// own STRICT tables is damage too.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        other => {
            matches!(other.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        }
    }
}
