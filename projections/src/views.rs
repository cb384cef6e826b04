//! The one writer of `views.db`.
//!
//! A batch of verified events and the state they lead to go in together, in
//! one transaction, with the cursors: after a crash the file is at some
//! earlier batch, whole, and [`Views::cursors`] says at which. One `Views` per
//! file; it never reads the event store and never decides what counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exo_model::feed::LineId;
use exo_model::{CommunityId, CommunityState, VerifiedEvent};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use crate::cursors::{self, News};
use crate::error::{OpenError, ViewsError};
use crate::{content, schema, tables};

/// What a batch changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that were new here.
    pub events: usize,
    /// Messages among them, shown or not.
    pub messages: usize,
    /// Rows written or deleted in the tables that mirror the state.
    pub state_rows: usize,
}

/// The views of one community, open for writing.
#[derive(Debug)]
pub struct Views {
    db: Connection,
    /// The state that the tables mirror, where it is known to be this one.
    mirrored: Option<Arc<CommunityState>>,
}

/// Views that [`Views::open_or_rebuild`] opened.
#[derive(Debug)]
pub struct Opened {
    /// The views; empty where `discarded` tells why.
    pub views: Views,
    /// Why the file that was there was deleted, if it was.
    pub discarded: Option<OpenError>,
}

impl Views {
    /// Opens the file, creates it where there is none, and brings an older
    /// schema up to date. The folder must exist.
    ///
    /// # Errors
    /// See [`OpenError`]; the file is unchanged then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self { db: schema::open_writer(path.as_ref())?, mirrored: None })
    }

    /// Like [`Views::open`], but starts over with an empty file where the
    /// present one is damaged or holds another community: nothing is lost, all
    /// of it comes back from the event store. Open [`Reader`](crate::Reader)s
    /// after this, not before: they would go on reading a deleted file.
    ///
    /// # Errors
    /// See [`OpenError`]: a newer file and one of another program are refused,
    /// never deleted.
    pub fn open_or_rebuild(path: impl AsRef<Path>, community: &CommunityId) -> Result<Opened, OpenError> {
        let path = path.as_ref();
        match Self::open_of(path, community) {
            Ok(views) => Ok(Opened { views, discarded: None }),
            Err(reason) if reason.is_rebuildable() => {
                tracing::warn!(path = %path.display(), %reason, "views are made again");
                Ok(Opened { views: Self::recreate(path)?, discarded: Some(reason) })
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes the file, whatever it holds, and opens an empty one: the cure
    /// where [`ViewsError::is_rebuildable`]. Damage deep in a file shows only
    /// when it is read, so [`Views::open_or_rebuild`] may not see it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn recreate(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        remove(path)?;
        Self::open(path)
    }

    fn open_of(path: &Path, community: &CommunityId) -> Result<Self, OpenError> {
        let views = Self::open(path)?;
        let held = held_community(&views.db).map_err(|source| OpenError::sqlite(path, source))?;
        match held {
            Some(found) if found != *community => {
                let (path, expected) = (path.to_owned(), *community);
                Err(OpenError::OtherCommunity { path, found, expected })
            }
            _ => Ok(views),
        }
    }

    /// Whose views these are; `None` before the first batch.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn community(&self) -> Result<Option<CommunityId>, ViewsError> {
        held_community(&self.db).map_err(ViewsError::while_doing("reading the community"))
    }

    /// Up to which sequence number each line was taken. What the event store
    /// has beyond it is to be applied; of those not named, everything. What could
    /// not be opened for want of a key lies beyond: it is to be applied again
    /// by whoever has the key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn cursors(&self) -> Result<BTreeMap<LineId, u64>, ViewsError> {
        match self.community()? {
            Some(community) => cursors::read_all(&self.db, community),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Takes events and the state of the community that knows at least them,
    /// in one transaction. Events of one line must come in the order of their
    /// sequence numbers; feeds may be mixed at will; ones applied before are
    /// passed over, unless they could not be opened then. An empty batch brings the mirrored state up to date.
    ///
    /// # Errors
    /// See [`ViewsError`]; nothing of the batch is kept then.
    pub fn apply(&mut self, batch: &[VerifiedEvent], state: &CommunityState) -> Result<Applied, ViewsError> {
        self.mirrored = None;
        self.commit(batch, state, Extent { mirror: true, from_start: false })
    }

    /// Like [`Views::apply`], without looking at the mirrored tables where the
    /// very same `state` (the same allocation) was given last: messages leave
    /// the state alone, and comparing it costs more than writing them.
    ///
    /// # Errors
    /// See [`ViewsError`]; nothing of the batch is kept then.
    pub fn apply_shared(
        &mut self,
        batch: &[VerifiedEvent],
        state: &Arc<CommunityState>,
    ) -> Result<Applied, ViewsError> {
        let same = self.mirrored.as_ref().is_some_and(|last| Arc::ptr_eq(last, state));
        let applied = self.commit(batch, state, Extent { mirror: !same, from_start: false })?;
        self.mirrored = Some(Arc::clone(state));
        Ok(applied)
    }

    /// Like [`Views::apply_shared`], after everything else was forgotten, in
    /// the same transaction: who reads meets the rows from before or those
    /// from after, never none. The batch and those after it tell all events
    /// from the first.
    ///
    /// # Errors
    /// See [`ViewsError`]; nothing is forgotten then.
    pub fn apply_from_start(
        &mut self,
        batch: &[VerifiedEvent],
        state: &Arc<CommunityState>,
    ) -> Result<Applied, ViewsError> {
        self.mirrored = None;
        let applied = self.commit(batch, state, Extent { mirror: true, from_start: true })?;
        self.mirrored = Some(Arc::clone(state));
        Ok(applied)
    }

    fn commit(
        &mut self,
        batch: &[VerifiedEvent],
        state: &CommunityState,
        extent: Extent,
    ) -> Result<Applied, ViewsError> {
        let failed = ViewsError::while_doing;
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("starting a transaction"))?;
        check_community(&transaction, &state.id)?;
        if extent.from_start {
            forget(&transaction)?;
        }
        let mut applied = Applied::default();
        let mut cursors = cursors::Cursors::default();
        for event in batch {
            if event.feed.community != state.id {
                let (found, expected) = (event.feed.community, state.id);
                return Err(ViewsError::ForeignEvent { found, expected });
            }
            let news = cursors.advance(&transaction, event)?;
            applied.events += usize::from(news == News::New);
            if news != News::Old {
                applied.messages += content::record(&transaction, event)?;
            }
        }
        cursors.write(&transaction)?;
        if extent.mirror {
            applied.state_rows =
                tables::mirror(&transaction, state).map_err(failed("mirroring the state"))?;
        }
        transaction.commit().map_err(failed("committing"))?;
        Ok(applied)
    }

    /// Forgets everything, the community included: afterwards all events are
    /// to be applied again.
    ///
    /// # Errors
    /// See [`ViewsError`]; nothing is forgotten then.
    pub fn clear(&mut self) -> Result<(), ViewsError> {
        let failed = ViewsError::while_doing;
        self.mirrored = None;
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("starting a transaction"))?;
        forget(&transaction)?;
        transaction.commit().map_err(failed("committing"))
    }

    pub(crate) const fn connection(&self) -> &Connection {
        &self.db
    }
}

/// What applying a batch extends to.
#[derive(Clone, Copy)]
struct Extent {
    /// Whether the tables that mirror the state are looked at.
    mirror: bool,
    /// Whether everything is forgotten first.
    from_start: bool,
}

fn forget(db: &Connection) -> Result<(), ViewsError> {
    for table in schema::TABLES {
        db.execute(&format!("DELETE FROM {table}"), []).map_err(ViewsError::while_doing("clearing"))?;
    }
    Ok(())
}

fn held_community(db: &Connection) -> rusqlite::Result<Option<CommunityId>> {
    db.prepare_cached("SELECT id FROM community")?
        .query_row([], |row| row.get(0).map(CommunityId::from_bytes))
        .optional()
}

fn check_community(db: &Connection, expected: &CommunityId) -> Result<(), ViewsError> {
    let held = held_community(db).map_err(ViewsError::while_doing("reading the community"))?;
    match held {
        Some(found) if found != *expected => Err(ViewsError::OtherCommunity { found, expected: *expected }),
        _ => Ok(()),
    }
}

/// Deletes a views file with its log. The file itself goes first: SQLite drops
/// a log beside an empty file, but would replay it into an older one.
fn remove(path: &Path) -> Result<(), OpenError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::Remove { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}
