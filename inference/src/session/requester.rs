//! The asker's side of a session.

use std::collections::{BTreeSet, VecDeque};

use exo_model::id::JobId;

use super::FRAMES_IN_FLIGHT_MAX;
use super::frame::{Payload, StageFrame, TokenFrame};
use crate::engine::ROWS_MAX;

/// A question, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// The job.
    pub session: JobId,
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// Tokens that end the answer; they are not part of it.
    pub end_tokens: BTreeSet<u32>,
    /// Positions every stage has room for.
    pub context_tokens: u32,
}

/// What the requester is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequesterInput {
    /// The line-up is ready: begin, or begin again in a higher epoch (some
    /// stage was replaced). What was generated so far is kept and computed
    /// again from position 0.
    Begin {
        /// The epoch of the line-up.
        epoch: u32,
    },
    /// A token arrived from the tail.
    Token(TokenFrame),
    /// The person has read enough.
    Stop,
}

/// What the requester wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum RequesterOutput {
    /// Send to the first stage.
    Send(StageFrame),
    /// Every stage has computed this many positions for this session so far,
    /// repeated ones counted again: what can be vouched for.
    Computed {
        /// Positions, counted over all epochs.
        positions: u64,
    },
    /// The next token of the answer.
    Token {
        /// Its absolute position.
        position: u32,
        /// Its id.
        token: u32,
    },
    /// The session is over.
    Finished(FinishReason),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model said so.
    EndToken,
    /// It reached the number of tokens asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The person stopped it.
    Stopped,
}

/// Why an input was refused. The session goes on as if it had not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequesterError {
    /// The prompt is empty, or leaves no room in the context.
    #[error("a prompt of {prompt} tokens does not fit a context of {context}")]
    Prompt {
        /// Its length.
        prompt: usize,
        /// Room in tokens.
        context: u32,
    },
    /// Begun in an epoch that is not higher than the last.
    #[error("epoch {epoch} is not after epoch {current}")]
    EpochNotNew {
        /// Epoch asked for.
        epoch: u32,
        /// The current one.
        current: u32,
    },
    /// A frame of another session or epoch: late or misdirected.
    #[error("the token belongs to another session or epoch")]
    Stale,
    /// A position that is not the next one awaited.
    #[error("a token for position {found}, expected {expected:?}")]
    UnexpectedPosition {
        /// The frame's position.
        found: u32,
        /// The one awaited, if any.
        expected: Option<u32>,
    },
    /// The session is over, or has not begun.
    #[error("the session is not running")]
    NotRunning,
}

/// The asker: feeds the first stage, gathers the answer.
#[derive(Debug, Clone)]
pub struct RequesterSession {
    request: SessionRequest,
    /// Prompt and answer so far.
    tokens: Vec<u32>,
    epoch: Option<u32>,
    /// Positions sent in this epoch.
    sent: usize,
    /// Ends of frames under way, in order.
    awaited: VecDeque<u32>,
    /// Positions acknowledged: in this epoch, and over all.
    computed_in_epoch: u32,
    computed: u64,
    finished: Option<FinishReason>,
}

impl RequesterSession {
    /// A session that has not begun.
    ///
    /// # Errors
    /// [`RequesterError::Prompt`] where nothing could be generated.
    pub fn new(request: SessionRequest) -> Result<Self, RequesterError> {
        let (prompt, context) = (request.prompt.len(), request.context_tokens);
        if prompt == 0 || prompt > context as usize {
            return Err(RequesterError::Prompt { prompt, context });
        }
        Ok(Self {
            tokens: request.prompt.clone(),
            request,
            epoch: None,
            sent: 0,
            awaited: VecDeque::new(),
            computed_in_epoch: 0,
            computed: 0,
            finished: None,
        })
    }

    /// Positions each stage has computed so far, over all epochs; repeated
    /// ones count again.
    pub fn computed(&self) -> u64 {
        self.computed
    }

    /// The answer so far.
    pub fn answer(&self) -> &[u32] {
        &self.tokens[self.request.prompt.len()..]
    }

    /// Why it ended, if it has.
    pub fn finished(&self) -> Option<FinishReason> {
        self.finished
    }

    /// Takes an input.
    ///
    /// # Errors
    /// See [`RequesterError`]; nothing has changed then.
    pub fn handle(&mut self, input: RequesterInput) -> Result<Vec<RequesterOutput>, RequesterError> {
        if self.finished.is_some() {
            return Err(RequesterError::NotRunning);
        }
        match input {
            RequesterInput::Begin { epoch } => self.begin(epoch),
            RequesterInput::Token(frame) => self.take(&frame),
            RequesterInput::Stop => Ok(vec![self.finish(FinishReason::Stopped)]),
        }
    }

    fn begin(&mut self, epoch: u32) -> Result<Vec<RequesterOutput>, RequesterError> {
        if let Some(current) = self.epoch.filter(|current| epoch <= *current) {
            return Err(RequesterError::EpochNotNew { epoch, current });
        }
        self.epoch = Some(epoch);
        self.sent = 0;
        self.computed_in_epoch = 0;
        self.awaited.clear();
        let mut outputs = Vec::new();
        if self.request.max_tokens == 0 {
            outputs.push(self.finish(FinishReason::MaxTokens));
        }
        self.send(epoch, &mut outputs);
        Ok(outputs)
    }

    fn take(&mut self, frame: &TokenFrame) -> Result<Vec<RequesterOutput>, RequesterError> {
        let epoch = self.epoch.ok_or(RequesterError::NotRunning)?;
        if frame.session != self.request.session || frame.epoch != epoch {
            return Err(RequesterError::Stale);
        }
        let expected = self.awaited.front().copied();
        if expected != Some(frame.position) {
            return Err(RequesterError::UnexpectedPosition { found: frame.position, expected });
        }
        self.awaited.pop_front();
        self.computed += u64::from(frame.position - self.computed_in_epoch);
        self.computed_in_epoch = frame.position;
        let mut outputs = vec![RequesterOutput::Computed { positions: self.computed }];
        // In the middle of what is known the token only says "computed".
        if frame.position as usize == self.tokens.len() {
            self.append(frame, &mut outputs);
        }
        self.send(epoch, &mut outputs);
        Ok(outputs)
    }

    /// Takes a sampled token into the answer, or ends.
    fn append(&mut self, frame: &TokenFrame, outputs: &mut Vec<RequesterOutput>) {
        let TokenFrame { position, token, .. } = *frame;
        if self.request.end_tokens.contains(&token) {
            outputs.push(self.finish(FinishReason::EndToken));
            return;
        }
        self.tokens.push(token);
        outputs.push(RequesterOutput::Token { position, token });
        if self.answer().len() >= self.request.max_tokens as usize {
            outputs.push(self.finish(FinishReason::MaxTokens));
        } else if self.tokens.len() > self.request.context_tokens as usize {
            // The last token has no room to be computed.
            outputs.push(self.finish(FinishReason::ContextFull));
        }
    }

    fn finish(&mut self, reason: FinishReason) -> RequesterOutput {
        self.finished = Some(reason);
        self.awaited.clear();
        RequesterOutput::Finished(reason)
    }

    /// Sends what is known and not sent, as far as frames may be under way.
    fn send(&mut self, epoch: u32, outputs: &mut Vec<RequesterOutput>) {
        while self.finished.is_none()
            && self.awaited.len() < FRAMES_IN_FLIGHT_MAX
            && self.sent < self.tokens.len()
        {
            let end = self.tokens.len().min(self.sent + ROWS_MAX);
            let frame = StageFrame {
                session: self.request.session,
                epoch,
                // The context's length is a u32, so these fit.
                position: u32::try_from(self.sent).unwrap_or(u32::MAX),
                payload: Payload::Tokens(self.tokens[self.sent..end].to_vec()),
                sample_last: true,
            };
            self.sent = end;
            self.awaited.push_back(frame.end());
            outputs.push(RequesterOutput::Send(frame));
        }
    }
}
