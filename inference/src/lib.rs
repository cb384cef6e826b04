//! The engine: models, plans, stages and sessions on candle.
//!
//! Flow, for a model that several machines hold together:
//!
//! ```text
//! WeightSource ─▶ gguf::Header ─▶ manifest (shared in the community)
//!                                    │
//!      plan: who hosts which layers ◀┘
//!        │
//!        └▶ llama::Stage (only its layers' bytes) ─┐
//! messages ─▶ chat ─▶ tokenizer ─▶ session ⇄ stages┘ ─▶ sample ─▶ text
//! ```
//!
//! `plan` and `session` are pure: no clock, no threads, ordered maps only.
//! Nothing in this crate is asynchronous or touches the network; other crates
//! implement its ports ([`source::WeightSource`], [`link::ShardLink`]) and run
//! its blocking work on threads of their own. A file or frame from a stranger
//! may be refused, but never panics and never allocates what it merely claims.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss))]

pub mod chat;
pub mod engine;
pub mod generate;
pub mod gguf;
pub mod link;
pub mod llama;
pub mod manifest;
pub mod plan;
pub mod sample;
pub mod session;
pub mod source;
pub mod starter;
#[doc(hidden)]
pub mod testing;
pub mod tokenizer;
