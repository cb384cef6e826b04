//! The port through which a session's frames leave this machine, and the
//! chain that needs no leaving.

use std::collections::VecDeque;
use std::sync::Arc;

use exo_model::id::JobId;

use crate::engine::LocalStage;
use crate::llama::Stage;
use crate::sample::Sampling;
use crate::session::{
    StageError, StageEvent, StageFrame, StageMessage, StageSession, StageSettings, TokenFrame,
};

/// Why a frame was not sent.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side is gone.
    #[error("the connection is closed")]
    Closed,
    /// Too much is under way already.
    #[error("the connection is congested")]
    Full,
    /// A stage on this machine did not take the frame.
    #[error(transparent)]
    Stage(#[from] StageError),
}

/// Sends frames on: to the next hop, or tokens to the requester.
///
/// Implementations hand over to a queue and return; they never wait for the
/// network.
pub trait ShardLink: Send {
    /// Sends a frame to the next stage.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn send_frame(&mut self, frame: StageFrame) -> Result<(), LinkError>;

    /// Sends a sampled token to the requester.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn send_token(&mut self, frame: TokenFrame) -> Result<(), LinkError>;
}

/// All stages of a model on this machine, in memory: a frame sent to it runs
/// through the whole chain at once, and its tokens wait to be taken.
pub struct LocalChain {
    links: Vec<(StageSession, LocalStage)>,
    tokens: VecDeque<TokenFrame>,
}

impl LocalChain {
    /// A session through `stages`, in order, with room for `context_tokens`.
    /// Nothing needs vouching for on one's own machine.
    ///
    /// # Errors
    /// [`LinkError::Stage`] where the sampling settings are bad or there is no
    /// memory.
    pub fn new(
        stages: &[Arc<Stage>],
        session: JobId,
        epoch: u32,
        sampling: Sampling,
        context_tokens: u32,
    ) -> Result<Self, LinkError> {
        let unvouched_positions_max = u64::MAX;
        let settings = StageSettings { session, epoch, sampling, unvouched_positions_max };
        let links = stages
            .iter()
            .map(|stage| {
                let local = LocalStage::new(Arc::clone(stage), context_tokens).map_err(StageError::from)?;
                Ok((StageSession::new(settings).map_err(StageError::from)?, local))
            })
            .collect::<Result<_, LinkError>>()?;
        Ok(Self { links, tokens: VecDeque::new() })
    }

    /// The oldest token not taken yet.
    pub fn take_token(&mut self) -> Option<TokenFrame> {
        self.tokens.pop_front()
    }
}

impl ShardLink for LocalChain {
    fn send_frame(&mut self, frame: StageFrame) -> Result<(), LinkError> {
        let mut frames = VecDeque::from([(0, frame)]);
        while let Some((index, frame)) = frames.pop_front() {
            let Some((session, local)) = self.links.get_mut(index) else {
                return Err(LinkError::Closed);
            };
            for event in session.handle(local, StageMessage::Frame(frame))? {
                match event {
                    StageEvent::Forward(frame) => frames.push_back((index + 1, frame)),
                    StageEvent::Token(token) => self.tokens.push_back(token),
                    // Cannot happen: the limit is the largest number.
                    StageEvent::Waiting { .. } => {}
                }
            }
        }
        Ok(())
    }

    fn send_token(&mut self, frame: TokenFrame) -> Result<(), LinkError> {
        self.tokens.push_back(frame);
        Ok(())
    }
}
