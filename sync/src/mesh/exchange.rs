//! Runs one [`SyncSession`] over a stream.
//!
//! Reading, writing and deciding go on at once, so that two peers with much to
//! tell each other never wait for one another with full buffers.

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iroh::endpoint::{RecvStream, SendStream};
use tokio::sync::mpsc;

use exo_model::feed::{FeedId, Rejection};
use exo_model::id::DeviceId;

use super::Inner;
use crate::replica::{Ingested, ReplicaError};
use crate::session::{Effect, FRAME_BYTES_MAX, Frame, Input, LineRun, Side, SyncSession, Violation};
use crate::wire::{self, FrameError};

/// Longest silence of a peer within an exchange.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Frames under way in each direction.
const FRAMES_IN_FLIGHT: usize = 4;

/// Feeds by which one greeting begins after another, where it cannot name all.
const TURN_STEP: usize = 4_099;

/// What an exchange brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// Changes stored.
    pub(super) stored: usize,
    /// Runs put off because their author is not known yet.
    pub(super) deferred: usize,
}

/// Why an exchange ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error("the peer fell silent")]
    Silence,
    #[error("the stream ended early")]
    Ended,
}

impl ExchangeError {
    /// Whether the peer did something it must not, as opposed to a line that
    /// broke.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Violation(_) | Self::Frame(FrameError::Oversize { .. } | FrameError::Malformed(_))
        )
    }
}

/// Runs one exchange with `peer` to its end. Refusals are noted.
pub(super) async fn run(
    inner: &Inner,
    peer: DeviceId,
    side: Side,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<Outcome, ExchangeError> {
    let (frames_in, mut incoming) = mpsc::channel(FRAMES_IN_FLIGHT);
    let (outgoing, mut frames_out) = mpsc::channel::<Frame>(FRAMES_IN_FLIGHT);
    let written = AtomicUsize::new(0);
    let reader = async {
        loop {
            let mut read = pin!(wire::read::<_, Frame>(&mut recv, FRAME_BYTES_MAX));
            // Who waits for what we send has nothing to say meanwhile.
            let frame = loop {
                let before = written.load(Ordering::Relaxed);
                let frame = tokio::time::timeout(SILENCE_MAX, &mut read).await;
                if frame.is_ok() || written.load(Ordering::Relaxed) == before {
                    break frame;
                }
            };
            let (item, last) = match frame {
                Ok(Ok(Some(frame))) => (Ok(frame), false),
                Ok(Ok(None)) => (Err(ExchangeError::Ended), true),
                Ok(Err(error)) => (Err(error.into()), true),
                Err(_) => (Err(ExchangeError::Silence), true),
            };
            if frames_in.send(item).await.is_err() || last {
                return;
            }
        }
    };
    // Owns its end of the queue: whoever sends to a broken writer hears of it.
    let written = &written;
    let writer = async move {
        while let Some(frame) = frames_out.recv().await {
            match tokio::time::timeout(SILENCE_MAX, wire::write(&mut send, &frame, FRAME_BYTES_MAX)).await {
                Ok(Ok(())) => drop(written.fetch_add(1, Ordering::Relaxed)),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(ExchangeError::Silence),
            }
        }
        // Finished, not reset: the last frames must still arrive.
        let _ = send.finish();
        Ok(())
    };
    let decide = decide(inner, peer, side, &mut incoming, outgoing);
    let both = async {
        let (decided, written) = tokio::join!(decide, writer);
        // What we decided explains a broken writer, not the other way round.
        let outcome = decided?;
        written.map(|()| outcome)
    };
    tokio::pin!(reader, both);
    let result = tokio::select! {
        result = &mut both => result,
        () = &mut reader => both.await,
    };
    if let Err(error) = &result
        && error.is_refusal()
    {
        inner.note_refusal(peer, error.to_string());
    }
    result
}

async fn decide(
    inner: &Inner,
    peer: DeviceId,
    side: Side,
    incoming: &mut mpsc::Receiver<Result<Frame, ExchangeError>>,
    outgoing: mpsc::Sender<Frame>,
) -> Result<Outcome, ExchangeError> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let (community, own) = (inner.replica.state().id, inner.replica.positions().await?);
    let turn = TURN.fetch_add(TURN_STEP, Ordering::Relaxed);
    let mut session = SyncSession::new(side, community, own, turn);
    let mut outcome = Outcome::default();
    // No more than the runs that the session lets a peer send.
    let mut put_off = BTreeSet::new();
    let mut waiting = VecDeque::new();
    let mut to_read = None;
    let mut finished = false;
    let mut effects = VecDeque::from(session.handle(Input::Opened)?);
    loop {
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send(frame) => waiting.push_back(frame),
                Effect::Read { feed, tip, after_seq } => to_read = Some((feed, tip, after_seq)),
                Effect::Ingest(run) => ingest(inner, peer, run, &mut outcome, &mut put_off).await?,
                Effect::Compare(known) => {
                    let comparison = inner.replica.compare(known).await?;
                    effects.extend(session.handle(Input::Compared(comparison))?);
                }
                Effect::Finish => finished = true,
            }
        }
        if finished && waiting.is_empty() {
            return Ok(outcome);
        }
        // Receiving never waits for sending: two peers with much to tell each
        // other would wait for ever. At most a greeting, a run and "done" wait.
        effects = tokio::select! {
            frame = incoming.recv(), if session.expects_frames() => {
                let frame = frame.ok_or(ExchangeError::Ended)??;
                session.handle(Input::Frame(frame))?.into()
            }
            room = outgoing.reserve(), if !waiting.is_empty() || to_read.is_some() => {
                let room = room.map_err(|_| ExchangeError::Ended)?;
                if let Some(frame) = waiting.pop_front() {
                    room.send(frame);
                    VecDeque::new()
                } else {
                    drop(room);
                    let (feed, tip, after_seq) = to_read.take().ok_or(ExchangeError::Ended)?;
                    let run = inner.replica.read_line(feed, tip, after_seq).await?;
                    session.handle(Input::Read(run))?.into()
                }
            }
            // Nothing to wait for and nothing to do: no honest exchange comes here.
            else => return Err(ExchangeError::Ended),
        };
    }
}

/// A bad run hurts only its own feed: it is refused whole, noted, and the
/// exchange goes on.
async fn ingest(
    inner: &Inner,
    peer: DeviceId,
    run: LineRun,
    outcome: &mut Outcome,
    put_off: &mut BTreeSet<FeedId>,
) -> Result<(), ExchangeError> {
    let feed = run.run.feed;
    match inner.replica.ingest_line(run).await {
        Ok(Ingested::Stored(count)) => outcome.stored += count,
        Ok(Ingested::Known) => {}
        Ok(Ingested::Deferred) => {
            outcome.deferred += 1;
            put_off.insert(feed);
        }
        // The rest of a line that was put off has no place either, and that is no
        // fault of the peer's.
        Err(ReplicaError::Rejected(Rejection::OutOfPlace { .. })) if put_off.contains(&feed) => {}
        Err(error @ (ReplicaError::Rejected(_) | ReplicaError::OtherCommunity)) => {
            inner.note_refusal(peer, format!("change of feed {feed} refused: {error}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
