//! The read side: SQLite views, asked from async code.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use exo_model::feed::LineId;
use exo_model::id::CommunityId;
use exo_projections::{OpenError, QueryError, Reader, Views, ViewsWriter};
use exo_sync::replica::Update;
use tokio::sync::watch;

use super::MembershipError;

/// The views of one community: a writer thread and a reader.
pub(super) struct ViewsPair {
    writer: Arc<ViewsWriter>,
    reader: Arc<Mutex<Reader>>,
    changed: watch::Sender<u64>,
}

impl ViewsPair {
    /// Opens the views (made again where they are damaged) and returns up to
    /// where each feed is in them.
    pub(super) fn open(
        path: &Path,
        community: &CommunityId,
    ) -> Result<(Self, Vec<(LineId, u64)>), MembershipError> {
        let views = Views::open_or_rebuild(path, community)?.views;
        let cursors = views.cursors().map_err(|error| MembershipError::Views(error.to_string()))?;
        let changed = watch::Sender::new(0_u64);
        let notify = changed.clone();
        let writer = ViewsWriter::spawn(views, move |outcome| {
            if let Err(error) = outcome.result {
                // They come back whole at the next start: the truth is stored.
                tracing::error!(%error, "views could not be written");
            }
            notify.send_modify(|count| *count += 1);
        })
        .map_err(|error| MembershipError::Views(error.to_string()))?;
        let reader = Reader::open(path)?;
        let pair = Self { writer: Arc::new(writer), reader: Arc::new(Mutex::new(reader)), changed };
        Ok((pair, cursors.into_iter().collect()))
    }

    /// What the replica calls with every update, on its own thread.
    pub(super) fn observer(&self) -> impl FnMut(Update) + Send + 'static {
        let writer = self.writer.clone();
        move |update| {
            if writer.submit(update.events, update.state).is_err() {
                tracing::error!("the views' thread is gone");
            }
        }
    }

    /// Signals after every batch written.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Runs a query beside the runtime, on views that hold everything the
    /// replica had told of when it was asked.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Reader) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, MembershipError> {
        let (reader, writer) = (self.reader.clone(), self.writer.clone());
        let asked = tokio::task::spawn_blocking(move || {
            // A writer that is gone leaves the views as they are.
            let _ = writer.flush();
            ask(&reader.lock().unwrap_or_else(PoisonError::into_inner))
        });
        asked
            .await
            .map_err(|error| MembershipError::Views(error.to_string()))?
            .map_err(|error| MembershipError::Views(error.to_string()))
    }
}

impl From<OpenError> for MembershipError {
    fn from(error: OpenError) -> Self {
        Self::Views(error.to_string())
    }
}
