//! A provider's part in a session.

use std::collections::VecDeque;

use exo_model::id::JobId;

use super::FRAMES_IN_FLIGHT_MAX;
use super::frame::{Payload, StageFrame, TokenFrame};
use crate::engine::{ForwardError, StageCompute, StageInput, StageOutput};
use crate::sample::{SampleError, Sampling, sample};

/// Frames kept while waiting for a voucher: all that an honest requester has
/// under way. One more is refused.
pub const QUEUED_FRAMES_MAX: usize = FRAMES_IN_FLIGHT_MAX;

/// What a provider agreed to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageSettings {
    /// The job.
    pub session: JobId,
    /// The epoch of the line-up.
    pub epoch: u32,
    /// How the tail draws tokens; unused elsewhere.
    pub sampling: Sampling,
    /// Positions computed beyond those vouched for, before it waits. A frame
    /// that was begun is finished, so one frame more can be lost.
    pub unvouched_positions_max: u64,
}

/// What a provider is told.
#[derive(Debug, Clone, PartialEq)]
pub enum StageMessage {
    /// A frame arrived.
    Frame(StageFrame),
    /// The payer has signed for this many positions in all, over all epochs.
    Vouched {
        /// Positions; lower than before changes nothing.
        positions: u64,
    },
    /// A new line-up, in which this stage keeps its place. Frames that wait
    /// are dropped; keys and values stay until a frame truncates them.
    Epoch {
        /// Higher than the current one.
        epoch: u32,
    },
}

/// What a provider wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum StageEvent {
    /// Send to the next stage.
    Forward(StageFrame),
    /// Send to the requester.
    Token(TokenFrame),
    /// Work stops until more is vouched for.
    Waiting {
        /// Positions computed.
        computed: u64,
        /// Positions vouched for.
        vouched: u64,
    },
}

/// Why an input was not taken. [`StageError::is_rejection`] tells a peer's
/// fault from our own.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A frame of another session.
    #[error("the frame belongs to another session")]
    WrongSession,
    /// A frame of another epoch: late, or early.
    #[error("the frame is of epoch {found}, this is epoch {current}")]
    WrongEpoch {
        /// The frame's.
        found: u32,
        /// The current one.
        current: u32,
    },
    /// A frame that leaves positions out.
    #[error("position {found} leaves a gap: the next one is {expected}")]
    Gap {
        /// The frame's.
        found: u32,
        /// The next without a gap.
        expected: u32,
    },
    /// More frames than may wait.
    #[error("{QUEUED_FRAMES_MAX} frames are waiting already")]
    QueueFull,
    /// The rows could not be computed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// No token could be drawn.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

impl StageError {
    /// Whether the sender was at fault rather than this machine.
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Forward(error) => error.is_rejection(),
            Self::Sample(error) => matches!(error, SampleError::Settings(_)),
            _ => true,
        }
    }
}

/// One session in one stage: frames in, frames or tokens out.
#[derive(Debug)]
pub struct StageSession {
    settings: StageSettings,
    /// Frames that wait, in order.
    queue: VecDeque<StageFrame>,
    computed: u64,
    vouched: u64,
    /// Whether [`StageEvent::Waiting`] was said since the last progress.
    waiting: bool,
}

impl StageSession {
    /// A session in which nothing was computed.
    ///
    /// # Errors
    /// [`SampleError::Settings`] where the sampling settings are bad.
    pub fn new(settings: StageSettings) -> Result<Self, SampleError> {
        settings.sampling.check()?;
        Ok(Self { settings, queue: VecDeque::new(), computed: 0, vouched: 0, waiting: false })
    }

    /// Positions computed so far, repeated ones counted again: what is owed.
    pub fn computed(&self) -> u64 {
        self.computed
    }

    /// Positions the payer has signed for.
    pub fn vouched(&self) -> u64 {
        self.vouched
    }

    /// The current epoch.
    pub fn epoch(&self) -> u32 {
        self.settings.epoch
    }

    /// Takes a message; computes what may be computed through `compute`.
    ///
    /// # Errors
    /// See [`StageError`]. After one from computing, frames that waited and
    /// what the same call computed before are dropped: whatever follows a
    /// refused frame would only leave a gap, so the session needs a new epoch.
    pub fn handle(
        &mut self,
        compute: &mut dyn StageCompute,
        message: StageMessage,
    ) -> Result<Vec<StageEvent>, StageError> {
        match message {
            StageMessage::Frame(frame) => self.accept(compute.position(), frame)?,
            StageMessage::Vouched { positions } => self.vouched = self.vouched.max(positions),
            StageMessage::Epoch { epoch } => self.renew(epoch)?,
        }
        let result = self.work(compute);
        if result.is_err() {
            self.queue.clear();
        }
        result
    }

    /// Checks a frame and puts it in line.
    fn accept(&mut self, computed: u32, frame: StageFrame) -> Result<(), StageError> {
        if frame.session != self.settings.session {
            return Err(StageError::WrongSession);
        }
        if frame.epoch != self.settings.epoch {
            let (found, current) = (frame.epoch, self.settings.epoch);
            return Err(StageError::WrongEpoch { found, current });
        }
        let expected = self.queue.back().map_or(computed, StageFrame::end);
        if frame.position > expected {
            return Err(StageError::Gap { found: frame.position, expected });
        }
        if self.queue.len() >= QUEUED_FRAMES_MAX {
            return Err(StageError::QueueFull);
        }
        self.queue.push_back(frame);
        Ok(())
    }

    fn renew(&mut self, epoch: u32) -> Result<(), StageError> {
        if epoch <= self.settings.epoch {
            let (found, current) = (epoch, self.settings.epoch);
            return Err(StageError::WrongEpoch { found, current });
        }
        self.settings.epoch = epoch;
        self.queue.clear();
        Ok(())
    }

    /// Computes waiting frames until none is left or too much is unvouched.
    fn work(&mut self, compute: &mut dyn StageCompute) -> Result<Vec<StageEvent>, StageError> {
        let mut events = Vec::new();
        while !self.queue.is_empty() {
            let unvouched = self.computed.saturating_sub(self.vouched);
            if unvouched > self.settings.unvouched_positions_max {
                if !std::mem::replace(&mut self.waiting, true) {
                    let (computed, vouched) = (self.computed, self.vouched);
                    events.push(StageEvent::Waiting { computed, vouched });
                }
                break;
            }
            self.waiting = false;
            if let Some(frame) = self.queue.pop_front() {
                events.extend(self.run(compute, frame)?);
            }
        }
        Ok(events)
    }

    fn run(
        &mut self,
        compute: &mut dyn StageCompute,
        frame: StageFrame,
    ) -> Result<Option<StageEvent>, StageError> {
        let (end, rows) = (frame.end(), frame.payload.rows() as u64);
        let StageFrame { session, epoch, position, payload, sample_last } = frame;
        let output = match payload {
            Payload::Tokens(tokens) => compute.forward(StageInput::Tokens(&tokens), position)?,
            Payload::Hidden(activations) => compute.forward(StageInput::Hidden(activations), position)?,
        };
        self.computed += rows;
        match output {
            StageOutput::Hidden(activations) => {
                let payload = Payload::Hidden(activations);
                let frame = StageFrame { session, epoch, position, payload, sample_last };
                Ok(Some(StageEvent::Forward(frame)))
            }
            StageOutput::Logits(logits) if sample_last => {
                let token = sample(&self.settings.sampling, &logits, end)?;
                let frame = TokenFrame { session, epoch, position: end, token };
                Ok(Some(StageEvent::Token(frame)))
            }
            StageOutput::Logits(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
