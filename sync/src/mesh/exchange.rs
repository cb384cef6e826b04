//! Runs one [`SyncSession`] over a stream.
//!
//! Reading, writing and deciding go on at once, so that two peers with much to
//! tell each other never wait for one another with full buffers.

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iroh::endpoint::{RecvStream, SendStream};
use tokio::sync::mpsc;

use exo_model::feed::{FeedId, Rejection};
use exo_model::id::DeviceId;

use super::Inner;
use super::community::Here;
use crate::hub::Exchanged;
use crate::replica::{Ingested, ReplicaError};
use crate::session::{
    Effect, Ends, FRAME_BYTES_MAX, Frame, Input, LineRun, Side, SyncSession, Terms, Violation,
};
use crate::wire::{self, FrameError};

/// Longest silence of a peer within an exchange.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Frames under way in each direction.
const FRAMES_IN_FLIGHT: usize = 4;
/// Feeds by which one greeting of version 2 begins after another, where it
/// cannot name all.
const TURN_STEP: usize = 4_099;

/// Where the next greeting of version 2 begins.
pub(super) fn turn() -> usize {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    TURN.fetch_add(TURN_STEP, Ordering::Relaxed)
}

/// An exchange that came to its end.
#[derive(Debug)]
pub(super) struct Ran {
    /// What it brought.
    pub(super) exchanged: Exchanged,
    /// What was here when it began.
    pub(super) own: Arc<Ends>,
    /// Whether the peer has all of that now.
    pub(super) peer_has_all: bool,
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
    #[error("the peer hung up on the greeting")]
    Unanswered,
    #[error("about a community that is not open to the peer here")]
    NotHere,
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

/// Notes an error that is the peer's doing.
pub(super) fn refused(inner: &Inner, peer: DeviceId, error: ExchangeError) -> ExchangeError {
    if error.is_refusal() {
        inner.note_refusal(peer, error.to_string());
    }
    error
}

/// Runs one exchange with `peer` to its end; `first` is a frame that was read
/// already. Refusals are noted.
pub(super) async fn run(
    inner: &Inner,
    here: &Here,
    peer: DeviceId,
    terms: Terms,
    first: Option<Frame>,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<Ran, ExchangeError> {
    let (frames_in, incoming) = mpsc::channel(FRAMES_IN_FLIGHT);
    let (outgoing, mut frames_out) = mpsc::channel::<Frame>(FRAMES_IN_FLIGHT);
    let written = AtomicUsize::new(0);
    let is_answered = first.is_some();
    let reader = async {
        let mut is_answered = is_answered;
        if let Some(first) = first
            && frames_in.send(Ok(first)).await.is_err()
        {
            return;
        }
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
                Ok(Ok(None) | Err(FrameError::Io(_))) if !is_answered => {
                    (Err(ExchangeError::Unanswered), true)
                }
                Ok(Ok(None)) => (Err(ExchangeError::Ended), true),
                Ok(Err(error)) => (Err(error.into()), true),
                Err(_) => (Err(ExchangeError::Silence), true),
            };
            is_answered = true;
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
    let exchange = Exchange { inner, here, peer, incoming, outgoing, put_off: BTreeSet::new() };
    let both = async {
        let (decided, written) = tokio::join!(exchange.decide(terms), writer);
        // What we decided explains a broken writer, not the other way round.
        let ran = decided?;
        written.map(|()| ran)
    };
    tokio::pin!(reader, both);
    let result = tokio::select! {
        result = &mut both => result,
        () = &mut reader => both.await,
    };
    result.map_err(|error| refused(inner, peer, error))
}

struct Exchange<'a> {
    inner: &'a Inner,
    here: &'a Here,
    peer: DeviceId,
    incoming: mpsc::Receiver<Result<Frame, ExchangeError>>,
    outgoing: mpsc::Sender<Frame>,
    /// Feeds of which something was put off. No more than the runs that the
    /// session lets a peer send.
    put_off: BTreeSet<FeedId>,
}

impl Exchange<'_> {
    async fn decide(mut self, terms: Terms) -> Result<Ran, ExchangeError> {
        let own = terms.own.clone();
        let is_initiator = terms.side == Side::Initiator;
        let mut session = SyncSession::new(terms);
        let mut exchanged = Exchanged { stored: 0, deferred: 0 };
        let mut waiting = VecDeque::new();
        let mut to_read = None;
        let mut finished = false;
        let opened = if is_initiator { session.handle(Input::Opened)? } else { Vec::new() };
        let mut effects = VecDeque::from(opened);
        loop {
            while let Some(effect) = effects.pop_front() {
                match effect {
                    Effect::Send(frame) => waiting.push_back(frame),
                    Effect::Read { feed, tip, after_seq } => to_read = Some((feed, tip, after_seq)),
                    Effect::Ingest(run) => {
                        if !self.ingest(run, &mut exchanged).await? {
                            effects.extend(session.handle(Input::PutOff)?);
                        }
                    }
                    Effect::Compare(known) => {
                        let comparison = self.here.replica().compare(known).await?;
                        effects.extend(session.handle(Input::Compared(comparison))?);
                    }
                    Effect::Finish => finished = true,
                }
            }
            if finished && waiting.is_empty() {
                return Ok(Ran { exchanged, own, peer_has_all: session.peer_has_all() });
            }
            // Receiving never waits for sending: two peers with much to tell each
            // other would wait for ever. At most a greeting, a run and "done" wait.
            effects = tokio::select! {
                frame = self.incoming.recv(), if session.expects_frames() => {
                    let frame = frame.ok_or(ExchangeError::Ended)??;
                    session.handle(Input::Frame(frame))?.into()
                }
                room = self.outgoing.reserve(), if !waiting.is_empty() || to_read.is_some() => {
                    let room = room.map_err(|_| ExchangeError::Ended)?;
                    if let Some(frame) = waiting.pop_front() {
                        room.send(frame);
                        VecDeque::new()
                    } else {
                        drop(room);
                        let (feed, tip, after_seq) = to_read.take().ok_or(ExchangeError::Ended)?;
                        let run = self.here.replica().read_line(feed, tip, after_seq).await?;
                        session.handle(Input::Read(run))?.into()
                    }
                }
                // Nothing to wait for and nothing to do: no honest exchange comes here.
                else => return Err(ExchangeError::Ended),
            };
        }
    }

    /// A bad run hurts only its own feed: it is refused whole, noted, and the
    /// exchange goes on. Returns whether it is dealt with, as opposed to put off.
    async fn ingest(&mut self, run: LineRun, exchanged: &mut Exchanged) -> Result<bool, ExchangeError> {
        let feed = run.run.feed;
        match self.here.replica().ingest_line(run).await {
            Ok(Ingested::Stored(count)) => exchanged.stored += count,
            Ok(Ingested::Known) => {}
            Ok(Ingested::Deferred) => {
                exchanged.deferred += 1;
                self.put_off.insert(feed);
                return Ok(false);
            }
            // The rest of a line that was put off has no place either, and that is
            // no fault of the peer's.
            Err(ReplicaError::Rejected(Rejection::OutOfPlace { .. })) if self.put_off.contains(&feed) => {}
            Err(error @ (ReplicaError::Rejected(_) | ReplicaError::OtherCommunity)) => {
                self.inner.note_refusal(self.peer, format!("change of feed {feed} refused: {error}"));
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}
