//! The llama architecture (Llama 2/3, Mistral, SmolLM, …) on candle's
//! quantised blocks.
//!
//! [`Config`] is read from a header; a [`Stage`] holds the weights of
//! consecutive layers and turns token ids or activations into activations or
//! logits; a [`KvCache`] holds what one session has attended to so far.
//! A layer is: RMSNorm, grouped-query attention with interleaved RoPE,
//! residual, RMSNorm, SwiGLU, residual.
//!
//! Every row is computed by itself, in one fixed order, so results do not
//! depend on how a prompt is chunked or where a model is cut. Nothing here
//! knows sessions, peers or text.

mod attention;
mod cache;
mod config;
mod layer;
mod math;
mod matrix;
mod rope;
mod serial;
mod stage;

pub use cache::KvCache;
pub use config::{Config, ConfigError};
pub use matrix::LoadError;
pub use stage::Stage;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
