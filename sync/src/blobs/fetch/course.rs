//! The course of one fetch: what its tasks share, from the first dial until
//! the store has written everything.

use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use exo_model::id::{BlobHash, DeviceId};
use exo_model::weights::{ByteRange, total_len};

use super::super::disk::{Reservation, is_full};
use super::super::{Blobs, hash};
use super::pieces::{Lane, Next, Pieces};
use super::{Dial, FetchError, FetchProgress, FetchRequest, Fetched, SourceProgress, SourceState, source};

/// Most sources of one fetch; further ones are not asked.
const SOURCES_MAX: usize = 16;
/// Pause between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(50);
/// How long the store may take to write what was handed to it last.
const SETTLE: (u32, Duration) = (1_000, Duration::from_millis(2));
/// How often what is missing in the end is shared out once more.
const ROUNDS_MAX: u32 = 3;

/// What the tasks of one fetch share.
pub(super) struct Shared {
    pub(super) blobs: Blobs,
    pub(super) blob: BlobHash,
    pub(super) size: NonZeroU64,
    pub(super) dial: Arc<dyn Dial>,
    /// Something may be free to take.
    pub(super) changed: Notify,
    course: Mutex<Course>,
    /// Nothing is left to do, or the store failed.
    finished: Notify,
    /// The first bytes came.
    first: (AtomicBool, Notify),
    began: Instant,
    progress: watch::Sender<FetchProgress>,
    reservation: Arc<Reservation>,
}

struct Course {
    pieces: Pieces,
    progress: FetchProgress,
    overhead_bytes: u64,
    reported: Duration,
    failed: Option<io::Error>,
}

impl Shared {
    pub(super) fn new(
        blobs: &Blobs,
        request: &FetchRequest,
        size: NonZeroU64,
        dial: Arc<dyn Dial>,
        progress: watch::Sender<FetchProgress>,
        reservation: Arc<Reservation>,
    ) -> Self {
        let source = |device: &DeviceId| SourceProgress {
            device: *device,
            state: SourceState::Dialling,
            received_bytes: 0,
            bytes_per_second: 0,
        };
        let sources = request.sources.iter().take(SOURCES_MAX).map(source).collect();
        let course = Course {
            pieces: Pieces::new(Vec::new(), 0),
            progress: FetchProgress { sources, ..FetchProgress::default() },
            overhead_bytes: 0,
            reported: Duration::ZERO,
            failed: None,
        };
        Self {
            blobs: blobs.clone(),
            blob: request.blob,
            size,
            dial,
            changed: Notify::new(),
            course: Mutex::new(course),
            finished: Notify::new(),
            first: (AtomicBool::new(false), Notify::new()),
            began: Instant::now(),
            progress,
            reservation,
        }
    }

    /// Gets `missing`, which is all that is not here of `wanted`.
    pub(super) async fn run(
        self: &Arc<Self>,
        wanted: &[ByteRange],
        missing: Vec<ByteRange>,
    ) -> Result<Fetched, FetchError> {
        // An import of nothing keeps the blob's files open: without it the store
        // would sync them to disk whenever no piece is under way.
        let open = self.blobs.inner.store.import_bao(hash(self.blob), self.size, 1).await;
        let _open = open.map_err(|error| self.store_failed(io::Error::other(error)))?;
        self.lock().progress.total_bytes = total_len(wanted);
        let mut missing = missing;
        for _ in 0..ROUNDS_MAX {
            self.round(wanted, missing).await?;
            missing = self.settled(wanted).await?;
            if missing.is_empty() || !self.has_sources() {
                break;
            }
        }
        let mut course = self.lock();
        self.report(&mut course);
        if missing.is_empty() {
            let payload_bytes = course.progress.received_bytes;
            return Ok(Fetched { payload_bytes, overhead_bytes: course.overhead_bytes });
        }
        let sources = course.progress.sources.clone();
        Err(FetchError::Sources { blob: self.blob, missing_bytes: total_len(&missing), sources })
    }

    /// Whether a source that was not dropped brought something: it is worth
    /// asking once more.
    fn has_sources(&self) -> bool {
        let is_useful = |source: &SourceProgress| {
            source.received_bytes > 0 && !matches!(source.state, SourceState::Dropped(_))
        };
        self.lock().progress.sources.iter().any(is_useful)
    }

    /// Lets the sources bring what they can.
    async fn round(
        self: &Arc<Self>,
        wanted: &[ByteRange],
        missing: Vec<ByteRange>,
    ) -> Result<(), FetchError> {
        let mut tasks = JoinSet::new();
        {
            let mut course = self.lock();
            let sources = course.progress.sources.len();
            course.progress.done_bytes = total_len(wanted).saturating_sub(total_len(&missing));
            course.pieces = Pieces::new(missing, sources);
            for (index, source) in course.progress.sources.iter().enumerate() {
                if !matches!(source.state, SourceState::Dropped(_)) {
                    tasks.spawn(source::run(self.clone(), index));
                }
            }
            self.report(&mut course);
        }
        loop {
            tokio::select! {
                () = self.finished.notified() => break,
                // The store writes its tables now and then only; a blob that they
                // do not list yet would be fetched anew after a kill.
                () = self.first.1.notified() => drop(self.blobs.inner.store.sync_db().await),
                ended = tasks.join_next() => if ended.is_none() { break },
            }
        }
        tasks.shutdown().await;
        let failed = self.lock().failed.take();
        match failed {
            None => Ok(()),
            Some(error) if is_full(&error) || self.blobs.is_disk_full() => {
                let needed = self.missing_bytes();
                Err(self.blobs.disk_full(needed).into())
            }
            Some(error) => Err(self.store_failed(error)),
        }
    }

    /// What is missing once the store has written what it was handed.
    async fn settled(&self, wanted: &[ByteRange]) -> Result<Vec<ByteRange>, FetchError> {
        let (tries, pause) = SETTLE;
        for _ in 0..tries {
            let missing = self.blobs.missing(self.blob, self.size.get(), wanted).await?;
            // Where pieces are left, nothing more is on its way.
            if missing.is_empty() || !self.lock().pieces.is_done() {
                return Ok(missing);
            }
            tokio::time::sleep(pause).await;
        }
        Ok(self.blobs.missing(self.blob, self.size.get(), wanted).await?)
    }

    fn store_failed(&self, source: io::Error) -> FetchError {
        FetchError::Store { blob: self.blob, source }
    }

    fn missing_bytes(&self) -> u64 {
        let course = self.lock();
        course.progress.total_bytes.saturating_sub(course.progress.done_bytes)
    }

    /// Something for an idle lane to do.
    pub(super) fn next(&self, lane: Lane) -> Next {
        self.lock().pieces.next(lane, self.began.elapsed())
    }

    /// A lane has everything of its piece before `at`.
    pub(super) fn came(&self, lane: Lane, at: u64, bytes: u64, overhead_bytes: u64) {
        let now = self.began.elapsed();
        self.reservation.used(bytes);
        let mut course = self.lock();
        course.pieces.came(lane, at, bytes, now);
        course.overhead_bytes += overhead_bytes;
        let progress = &mut course.progress;
        progress.received_bytes += bytes;
        progress.done_bytes = progress.total_bytes.min(progress.done_bytes + bytes);
        if now.saturating_sub(course.reported) >= REPORT_EVERY {
            course.reported = now;
            self.report(&mut course);
        }
        drop(course);
        if !self.first.0.swap(true, Ordering::Relaxed) {
            self.first.1.notify_one();
        }
    }

    /// A lane is done with its piece.
    pub(super) fn end(&self, lane: Lane) {
        let mut course = self.lock();
        course.pieces.end(lane);
        let is_done = course.pieces.is_done();
        drop(course);
        self.changed.notify_waiters();
        if is_done {
            self.finished.notify_one();
        }
    }

    /// The source has nothing of these ranges.
    pub(super) fn lacks(&self, source: usize, ranges: Vec<ByteRange>, anew: bool) {
        let mut course = self.lock();
        if anew {
            course.pieces.forget_lacks(source);
        }
        course.pieces.lacks(source, &ranges);
    }

    /// Whether lanes of any source are at work.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().pieces.is_busy()
    }

    /// This device's store failed: the fetch ends.
    pub(super) fn fail(&self, error: io::Error) {
        let mut course = self.lock();
        // That the disk is full explains whatever failed beside it.
        if course.failed.is_none() || is_full(&error) {
            course.failed = Some(error);
        }
        drop(course);
        self.finished.notify_one();
    }

    pub(super) fn set_state(&self, source: usize, state: SourceState) {
        let mut course = self.lock();
        course.progress.sources[source].state = state;
        self.report(&mut course);
    }

    pub(super) fn device(&self, source: usize) -> DeviceId {
        self.lock().progress.sources[source].device
    }

    fn report(&self, course: &mut Course) {
        for (index, source) in course.progress.sources.iter_mut().enumerate() {
            (source.received_bytes, source.bytes_per_second) = course.pieces.figures(index);
        }
        self.progress.send_replace(course.progress.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
