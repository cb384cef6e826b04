//! The writer on a thread of its own, behind a bounded inbox.
//!
//! SQLite blocks, so it never runs where the interface or the network does.
//! Batches are applied in the order they were submitted; each one's outcome is
//! handed to a callback on the writer's thread. A batch that fails does not
//! stop the thread: later batches of the same feeds fail with
//! [`ViewsError::Gap`](crate::ViewsError::Gap), and who then submits from
//! where that says (or from [`Views::cursors`](crate::Views::cursors) after a
//! restart) has caught up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::JoinHandle;

use exo_model::{CommunityState, VerifiedEvent};

use crate::error::ViewsError;
use crate::views::{Applied, Views};

/// Most batches that wait for the writer; beyond that submitting waits or is
/// refused.
pub const INBOX_BATCHES_MAX: usize = 16;
/// Name of the writer's thread.
pub const THREAD_NAME: &str = "exo-views";

/// What became of one submitted batch.
#[derive(Debug)]
pub struct Outcome {
    /// What submitting it returned.
    pub ticket: u64,
    /// What it changed, or why nothing.
    pub result: Result<Applied, ViewsError>,
}

/// The writer's thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the thread that writes the views could not be started")]
pub struct SpawnError(#[source] std::io::Error);

/// The writer's thread is gone: its callback panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the thread that writes the views has stopped")]
pub struct WriterGone;

/// A batch that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TrySubmitError {
    /// The inbox is full: here is the batch again.
    #[error("the writer of the views is {INBOX_BATCHES_MAX} batches behind")]
    Full(Vec<VerifiedEvent>),
    /// See [`WriterGone`].
    #[error(transparent)]
    Gone(#[from] WriterGone),
}

enum Job {
    Apply { ticket: u64, batch: Vec<VerifiedEvent>, state: Arc<CommunityState>, from_start: bool },
    Flush(SyncSender<()>),
}

/// A handle to the thread that writes the views. Dropping it is
/// [`ViewsWriter::shutdown`] with the result ignored.
#[derive(Debug)]
pub struct ViewsWriter {
    /// Taken when shutting down, which closes the inbox.
    inbox: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    next_ticket: AtomicU64,
}

impl ViewsWriter {
    /// Starts the thread with views the caller opened (and whose cursors it
    /// read, to know what to submit first).
    ///
    /// `on_outcome` runs on the writer's thread, once per batch: it should
    /// only pass the news on, and must not wait for this handle. To get
    /// outcomes through a channel: `move |outcome| drop(sender.send(outcome))`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(views: Views, on_outcome: impl FnMut(Outcome) + Send + 'static) -> Result<Self, SpawnError> {
        let (inbox, jobs) = mpsc::sync_channel(INBOX_BATCHES_MAX);
        let thread = std::thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || run(views, &jobs, on_outcome))
            .map_err(SpawnError)?;
        Ok(Self { inbox: Some(inbox), thread: Some(thread), next_ticket: AtomicU64::new(1) })
    }

    /// Submits a batch with the state of the community that knows at least its
    /// events; waits while the inbox is full, so never call it on an async
    /// runtime. Give the same `Arc` again as long as the state is the same:
    /// that spares the comparison ([`Views::apply_shared`]). Returns the
    /// batch's ticket.
    ///
    /// # Errors
    /// [`WriterGone`].
    pub fn submit(&self, batch: Vec<VerifiedEvent>, state: Arc<CommunityState>) -> Result<u64, WriterGone> {
        self.send_batch(batch, state, false)
    }

    /// Like [`ViewsWriter::submit`], but takes the place of everything that
    /// was there ([`Views::apply_from_start`]): the batch and those after it
    /// tell all events again from the first.
    ///
    /// # Errors
    /// [`WriterGone`].
    pub fn submit_from_start(
        &self,
        batch: Vec<VerifiedEvent>,
        state: Arc<CommunityState>,
    ) -> Result<u64, WriterGone> {
        self.send_batch(batch, state, true)
    }

    /// Like [`ViewsWriter::submit`], but hands the batch back instead of
    /// waiting. A batch handed back must go in before later ones of its feeds.
    ///
    /// # Errors
    /// See [`TrySubmitError`].
    pub fn try_submit(
        &self,
        batch: Vec<VerifiedEvent>,
        state: Arc<CommunityState>,
    ) -> Result<u64, TrySubmitError> {
        let ticket = self.ticket();
        let inbox = self.inbox.as_ref().ok_or(WriterGone)?;
        match inbox.try_send(Job::Apply { ticket, batch, state, from_start: false }) {
            Ok(()) => Ok(ticket),
            Err(TrySendError::Full(Job::Apply { batch, .. })) => Err(TrySubmitError::Full(batch)),
            Err(_) => Err(WriterGone.into()),
        }
    }

    /// Waits until everything submitted before is applied (or refused) and its
    /// outcome was handed over.
    ///
    /// # Errors
    /// [`WriterGone`].
    pub fn flush(&self) -> Result<(), WriterGone> {
        let (done, wait) = mpsc::sync_channel(1);
        self.send(Job::Flush(done))?;
        wait.recv().map_err(|_| WriterGone)
    }

    /// Applies what was submitted, closes the file and ends the thread.
    ///
    /// # Errors
    /// [`WriterGone`] where it had ended before.
    pub fn shutdown(mut self) -> Result<(), WriterGone> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), WriterGone> {
        self.inbox = None;
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| WriterGone),
            None => Ok(()),
        }
    }

    fn ticket(&self) -> u64 {
        self.next_ticket.fetch_add(1, Ordering::Relaxed)
    }

    fn send_batch(
        &self,
        batch: Vec<VerifiedEvent>,
        state: Arc<CommunityState>,
        from_start: bool,
    ) -> Result<u64, WriterGone> {
        let ticket = self.ticket();
        self.send(Job::Apply { ticket, batch, state, from_start })?;
        Ok(ticket)
    }

    fn send(&self, job: Job) -> Result<(), WriterGone> {
        let inbox = self.inbox.as_ref().ok_or(WriterGone)?;
        inbox.send(job).map_err(|_| WriterGone)
    }
}

impl Drop for ViewsWriter {
    fn drop(&mut self) {
        // Who wants to know calls `shutdown`.
        let _ = self.stop();
    }
}

fn run(mut views: Views, jobs: &Receiver<Job>, mut on_outcome: impl FnMut(Outcome)) {
    for job in jobs {
        match job {
            Job::Apply { ticket, batch, state, from_start } => {
                let result = if from_start {
                    views.apply_from_start(&batch, &state)
                } else {
                    views.apply_shared(&batch, &state)
                };
                match &result {
                    Ok(applied) => tracing::trace!(ticket, ?applied, "views applied"),
                    Err(error) => tracing::warn!(ticket, %error, "views not applied"),
                }
                on_outcome(Outcome { ticket, result });
            }
            // Whoever waited may have given up.
            Job::Flush(done) => drop(done.send(())),
        }
    }
}
