//! A whole model on this machine: messages in, streamed text out.
//!
//! The same sessions and frames as between peers, over a [`LocalChain`]; for
//! the command line, for tests and for models that need no one else. It
//! blocks the calling thread while it computes.

use std::ops::ControlFlow;
use std::sync::Arc;

use exo_model::id::JobId;
use exo_model::weights::{LayerRange, ModelManifest};

use crate::chat::{ChatError, ChatTemplate, Message};
use crate::link::{LinkError, LocalChain, ShardLink};
use crate::llama::{LoadError, Stage};
use crate::manifest::read_checked_header;
use crate::sample::Sampling;
use crate::session::{
    FinishReason, RequesterError, RequesterInput, RequesterOutput, RequesterSession, SessionRequest,
};
use crate::source::WeightSource;
use crate::tokenizer::{TextStream, Tokenizer, TokenizerError};

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The tokenizer is not usable.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template is not usable.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The weights could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The messages could not become a prompt.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The prompt does not fit.
    #[error(transparent)]
    Session(#[from] RequesterError),
    /// The settings are bad, or computing failed.
    #[error(transparent)]
    Chain(#[from] LinkError),
    /// The chain fell silent: a bug in this crate.
    #[error("the chain gave no token")]
    Silent,
}

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// Most tokens of prompt and answer together, cut at the model's context;
    /// decides the memory for keys and values.
    pub context_tokens: u32,
    /// How tokens are drawn.
    pub sampling: Sampling,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The whole text.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer, without the end token.
    pub answer_tokens: u32,
    /// Why it ended.
    pub finish: FinishReason,
}

/// A model that is wholly on this machine.
pub struct LocalModel {
    stages: Vec<Arc<Stage>>,
    tokenizer: Arc<Tokenizer>,
    chat: ChatTemplate,
}

impl LocalModel {
    /// Loads all layers in one stage.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(source: &dyn WeightSource, manifest: &ModelManifest) -> Result<Self, OpenError> {
        let all: Vec<LayerRange> = manifest.all_layers().into_iter().collect();
        Self::open_in_stages(source, manifest, &all)
    }

    /// Loads the model in these stages, which must follow each other and
    /// cover all layers; says the same as in one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_in_stages(
        source: &dyn WeightSource,
        manifest: &ModelManifest,
        stages: &[LayerRange],
    ) -> Result<Self, OpenError> {
        let header = read_checked_header(source, manifest).map_err(LoadError::from)?;
        let tokenizer = Arc::new(Tokenizer::from_header(&header)?);
        let chat = ChatTemplate::from_header(&header)?;
        let stages = stages
            .iter()
            .map(|&layers| Stage::load(source, manifest, layers).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { stages, tokenizer, chat })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Answers `messages`. `on_text` gets the text as it grows, in whole
    /// characters, and can stop it.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub fn generate(
        &self,
        messages: &[Message],
        options: &GenerateOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, GenerateError> {
        let prompt = self.chat.encode(&self.tokenizer, messages)?;
        let context = self.stages.first().map_or(0, |stage| stage.config().context_length);
        let wanted = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let context_tokens =
            wanted.saturating_add(options.max_tokens).min(options.context_tokens).min(context);
        // One session at a time and nobody to confuse it with.
        let session = JobId::from_bytes([0; JobId::LEN]);
        let request = SessionRequest {
            session,
            max_tokens: options.max_tokens,
            end_tokens: self.tokenizer.end_tokens().clone(),
            context_tokens,
            prompt,
        };
        let requester = RequesterSession::new(request)?;
        let chain = LocalChain::new(&self.stages, session, 0, options.sampling, context_tokens)?;
        let stream = TextStream::new(Arc::clone(&self.tokenizer));
        let run = Run { requester, chain, stream, text: String::new(), on_text };
        let (text, requester, finish) = run.finish()?;
        Ok(Answer {
            text,
            prompt_tokens: wanted,
            answer_tokens: u32::try_from(requester.answer().len()).unwrap_or(u32::MAX),
            finish,
        })
    }
}

/// One answer in the making.
struct Run<'a> {
    requester: RequesterSession,
    chain: LocalChain,
    stream: TextStream,
    text: String,
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
}

impl Run<'_> {
    fn finish(mut self) -> Result<(String, RequesterSession, FinishReason), GenerateError> {
        let mut input = RequesterInput::Begin { epoch: 0 };
        loop {
            let mut stop = false;
            for output in self.requester.handle(input)? {
                match output {
                    RequesterOutput::Send(frame) => self.chain.send_frame(frame)?,
                    RequesterOutput::Token { token, .. } => {
                        let grown = self.stream.push(token);
                        stop |= self.say(grown).is_break();
                    }
                    RequesterOutput::Computed { .. } => {}
                    RequesterOutput::Finished(reason) => {
                        let rest = self.stream.finish();
                        // Whether to stop no longer matters.
                        let _ = self.say(rest);
                        return Ok((self.text, self.requester, reason));
                    }
                }
            }
            input = match self.chain.take_token() {
                _ if stop => RequesterInput::Stop,
                Some(token) => RequesterInput::Token(token),
                None => return Err(GenerateError::Silent),
            };
        }
    }

    fn say(&mut self, text: Option<String>) -> ControlFlow<()> {
        let Some(text) = text else {
            return ControlFlow::Continue(());
        };
        self.text.push_str(&text);
        (self.on_text)(&text)
    }
}

#[cfg(test)]
mod tests;
