//! The model that ships inside the program: tiny, trained on the handbook, so
//! that the first question needs no download and no peer.
//!
//! It is an ordinary GGUF file and takes the ordinary path through
//! `manifest`, `llama`, `tokenizer` and `chat`; nothing here is special to it.

use crate::source::MemoryWeights;

/// The file, about 2.8 MB of the program.
pub static STARTER_GGUF: &[u8] = include_bytes!("../assets/starter.gguf");

/// The file as a source of weights.
pub fn starter_weights() -> MemoryWeights {
    MemoryWeights::from(STARTER_GGUF)
}
