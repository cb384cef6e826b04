//! Text that grows token by token, never cut inside a character.

use std::sync::Arc;

use super::Tokenizer;

/// Turns tokens, as they arrive, into text that is always valid UTF-8: the
/// beginning of an unfinished character waits for its other bytes (at most
/// three), and what can never become a character turns into U+FFFD.
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    pending: Vec<u8>,
}

impl TextStream {
    /// A stream with nothing in it.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// Adds a token; gives the text that is complete now, if any.
    pub fn push(&mut self, token: u32) -> Option<String> {
        self.pending.extend(self.tokenizer.bytes(token));
        let mut text = String::new();
        let mut start = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            let rest = start + chunk.valid().len();
            start = rest + chunk.invalid().len();
            if start == self.pending.len() && is_unfinished(chunk.invalid()) {
                start = rest;
                break;
            }
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..start);
        (!text.is_empty()).then_some(text)
    }

    /// Ends the stream; gives what was held back, as U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

/// Whether more bytes could complete these to a character.
fn is_unfinished(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
