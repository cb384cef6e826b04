//! One source of a fetch: reached, asked what it has, and kept busy.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh_blobs::protocol::ObserveRequest;
use n0_future::StreamExt as _;
use tokio::task::JoinSet;

use exo_model::weights::ByteRange;

use super::super::{ALIGNMENT_BYTES, byte_ranges, hash};
use super::SourceState;
use super::course::Shared;
use super::pieces::{Next, Piece, outside};
use super::stream::{RangeError, Request};
use crate::mesh::DIAL_DEADLINE;

/// Streams to one source at once: while one waits for its first byte, another
/// brings some.
const LANES: usize = 2;
/// Longest wait for what a source says it has; after that it is taken to have
/// everything, and is seen by what it sends.
const ASKING_DEADLINE: Duration = Duration::from_secs(3);
/// Pause before an idle lane looks again whether it can take something over.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often a broken connection is dialled again.
const REDIALS_MAX: u32 = 2;
/// Pause before an idle source, that may be fetching itself, is asked again
/// what it has.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Runs one source until it can bring no more.
pub(super) async fn run(shared: Arc<Shared>, source: usize) {
    let mut redials = 0;
    loop {
        let error = match dialled(&shared, source).await {
            Ok(connection) => match bring(&shared, source, &connection).await {
                Ok(()) => return shared.set_state(source, SourceState::Idle),
                Err(error) => error,
            },
            Err(reason) => RangeError::Lost(reason),
        };
        let reason = match error {
            RangeError::Lost(_) if redials < REDIALS_MAX => {
                redials += 1;
                continue;
            }
            RangeError::Lost(reason) | RangeError::Wrong(reason) => reason,
            RangeError::Refused => "it does not give this to this device".into(),
            RangeError::Silent => "it fell silent".into(),
            RangeError::NotThere => "it does not have it".into(),
            RangeError::Store(error) => return shared.fail(error),
        };
        tracing::debug!(blob = %shared.blob, %reason, "a source is dropped");
        return shared.set_state(source, SourceState::Dropped(reason));
    }
}

async fn dialled(shared: &Shared, source: usize) -> Result<Connection, String> {
    shared.set_state(source, SourceState::Dialling);
    let device = shared.device(source);
    match tokio::time::timeout(DIAL_DEADLINE, shared.dial.dial(device)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not answer within {} seconds", DIAL_DEADLINE.as_secs())),
    }
}

/// Keeps the streams of a source busy while it has something of use.
async fn bring(shared: &Arc<Shared>, source: usize, connection: &Connection) -> Result<(), RangeError> {
    loop {
        ask(shared, source, connection).await;
        shared.set_state(source, SourceState::Fetching);
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let (shared, connection) = (shared.clone(), connection.clone());
            lanes.spawn(async move { run_lane(&shared, (source, lane), &connection).await });
        }
        let mut result = Ok(());
        while result.is_ok() {
            let Some(ended) = lanes.join_next().await else { break };
            result = ended.unwrap_or(Ok(()));
        }
        lanes.shutdown().await;
        for lane in 0..LANES {
            shared.end((source, lane));
        }
        result?;
        shared.set_state(source, SourceState::Idle);
        // Others are at work; what fails there, or what this source gets
        // meanwhile, may be for it again.
        if !shared.is_busy() {
            return Ok(());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Asks which ranges the source has.
async fn ask(shared: &Shared, source: usize, connection: &Connection) {
    let size = shared.size.get();
    let remote = shared.blobs.inner.store.remote();
    let mut told = Box::pin(remote.observe(connection.clone(), ObserveRequest::new(hash(shared.blob))));
    let Ok(Some(Ok(field))) = tokio::time::timeout(ASKING_DEADLINE, told.next()).await else { return };
    let has: Vec<ByteRange> = byte_ranges(&field.ranges, size)
        .into_iter()
        .map(|range| whole_blocks(range, size))
        .filter(|range| !range.is_empty())
        .collect();
    shared.lacks(source, outside(ByteRange { start: 0, end: size }, &has), true);
}

/// The blocks that lie in `range` as a whole.
fn whole_blocks(range: ByteRange, size: u64) -> ByteRange {
    let start = range.start.div_ceil(ALIGNMENT_BYTES).saturating_mul(ALIGNMENT_BYTES);
    let end = if range.end == size { size } else { range.end / ALIGNMENT_BYTES * ALIGNMENT_BYTES };
    ByteRange { start, end }
}

async fn run_lane(shared: &Shared, lane: (usize, usize), connection: &Connection) -> Result<(), RangeError> {
    loop {
        // Listens before it looks, so that no change goes by between.
        let changed = shared.changed.notified();
        match shared.next(lane) {
            Next::Nothing => return Ok(()),
            Next::Wait => {
                let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
            }
            Next::Piece(piece) => {
                let result = fetch_piece(shared, lane, connection, &piece).await;
                shared.end(lane);
                result?;
            }
        }
    }
}

async fn fetch_piece(
    shared: &Shared,
    lane: (usize, usize),
    connection: &Connection,
    piece: &Piece,
) -> Result<(), RangeError> {
    if shared.blobs.check_disk(piece.range.len()).is_err() {
        return Err(RangeError::Store(std::io::ErrorKind::StorageFull.into()));
    }
    let request = Request {
        store: &shared.blobs.inner.store,
        connection,
        blob: shared.blob,
        size: shared.size,
        silence_max: shared.blobs.inner.options.silence_max,
    };
    let mut next = piece.range.start;
    let came = |at: u64, bytes: u64, overhead: u64| {
        next = at;
        shared.came(lane, at, bytes, overhead);
    };
    match request.run(piece, came).await {
        Err(RangeError::NotThere) => {
            let lacks = ByteRange { start: next, end: piece.range.end };
            shared.lacks(lane.0, vec![lacks], false);
            Ok(())
        }
        result => result,
    }
}
