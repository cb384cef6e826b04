//! Messages to tokens, by the model's own Jinja template.
//!
//! The template decides where control tokens stand; what people typed must
//! not. So in every content each character that begins some control token
//! gets a private-use stand-in before the template sees it, and its own place
//! back after control tokens were found: whatever a template trims, splits or
//! joins, no content can spell one. (A template that itself looks for such
//! text inside contents, as some reasoning models' do, does not find it.)
//!
//! Templates come from model files, so they run with fuel, which bounds time
//! and memory, and without a clock, files or includes.

mod python;
mod stand_in;

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};

use crate::gguf::Header;
use crate::tokenizer::{EncodeError, Segment, Tokenizer};
use stand_in::StandIns;

/// Most messages of one conversation.
pub const MESSAGES_MAX: usize = 1_024;
/// Most bytes of all contents together.
pub const CONTENT_BYTES_MAX: usize = 1 << 19;
/// Longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 1 << 16;
/// Work a template may do: instructions, or units of 64 bytes.
const FUEL: u64 = 1 << 20;
/// Calls a template may nest.
const RECURSION_MAX: usize = 32;
const NAME: &str = "chat";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Instructions to the model.
    System,
    /// A person.
    User,
    /// The model.
    Assistant,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        })
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said: plain text, never markup.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// Why messages could not become tokens.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The file has no `tokenizer.chat_template`.
    #[error("this model has no chat template")]
    NoTemplate,
    /// A count or length is over its limit.
    #[error("too long: {0}")]
    TooLong(&'static str),
    /// The template is not valid, or failed.
    #[error("the model's chat template failed")]
    Template(#[source] minijinja::Error),
    /// The template refused the messages (`raise_exception`).
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template used up its fuel.
    #[error("the model's chat template does more work than is allowed")]
    OutOfFuel,
    /// The contents use every private-use character.
    #[error("the messages leave no character free to protect control tokens with")]
    NoStandIn,
    /// The text could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A model's chat template, compiled.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
}

impl ChatTemplate {
    /// Compiles the template of the file with this header.
    ///
    /// # Errors
    /// [`ChatError::NoTemplate`], [`ChatError::TooLong`] or
    /// [`ChatError::Template`].
    pub fn from_header(header: &Header) -> Result<Self, ChatError> {
        let source = header.text("tokenizer.chat_template").ok_or(ChatError::NoTemplate)?;
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(ChatError::TooLong("the chat template"));
        }
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_MAX);
        // As the templates' authors render them (transformers' defaults).
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(ChatError::Template)?);
        environment.set_unknown_method_callback(python::call_method);
        environment.add_function("raise_exception", |message: &str| {
            let detail = format!("{REFUSAL}{message}");
            Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, detail))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(ChatError::Template)?;
        Ok(Self { environment, source: source.to_owned() })
    }

    /// The prompt for the model's next answer to `messages`.
    ///
    /// # Errors
    /// See [`ChatError`].
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>, ChatError> {
        if messages.len() > MESSAGES_MAX {
            return Err(ChatError::TooLong("the number of messages"));
        }
        if messages.iter().map(|message| message.content.len()).sum::<usize>() > CONTENT_BYTES_MAX {
            return Err(ChatError::TooLong("the messages"));
        }
        let stand_ins = StandIns::choose(tokenizer, &self.source, messages)?;
        let markup = self.render(tokenizer, messages, &stand_ins)?;
        let mut tokens = Vec::new();
        for segment in tokenizer.segments(&markup) {
            match segment {
                Segment::Special(id) => tokens.push(id),
                Segment::Text(text) => tokens.extend(tokenizer.encode(&stand_ins.restore(text))?),
            }
        }
        if let Some(begin) = tokenizer.begin().filter(|_| tokenizer.adds_begin())
            && tokens.first() != Some(&begin)
        {
            tokens.insert(0, begin);
        }
        Ok(tokens)
    }

    fn render(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        stand_ins: &StandIns,
    ) -> Result<String, ChatError> {
        let messages: Value = messages
            .iter()
            .map(|message| {
                let content = stand_ins.protect(&message.content);
                context! { role => message.role.to_string(), content => content }
            })
            .collect();
        let special = |id: Option<u32>| id.and_then(|id| tokenizer.special_text(id)).unwrap_or_default();
        let context = context! {
            messages => messages,
            bos_token => special(tokenizer.begin()),
            eos_token => special(tokenizer.end()),
            add_generation_prompt => true,
        };
        let template = self.environment.get_template(NAME).map_err(ChatError::Template)?;
        template.render(context).map_err(|error| {
            let refusal = error.detail().and_then(|detail| detail.strip_prefix(REFUSAL));
            match refusal {
                Some(why) => ChatError::Refused(stand_ins.restore(why)),
                None if error.kind() == ErrorKind::OutOfFuel => ChatError::OutOfFuel,
                None => ChatError::Template(error),
            }
        })
    }
}

/// Marks an error that the template itself raised.
const REFUSAL: &str = "refused by the template: ";

#[cfg(test)]
mod tests;
