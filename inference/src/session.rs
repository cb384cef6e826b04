//! Sessions: one question, running through a chain of stages, as state
//! machines without input or output of their own.
//!
//! [`RequesterSession`] is the asker: it cuts the prompt into frames, feeds
//! the first stage and receives tokens from the tail. [`StageSession`] is a
//! provider's part: it checks what arrives, computes in order, sends on to
//! the next stage or, at the tail, samples. [`frame`] is what travels.
//!
//! ```text
//! requester ──StageFrame──▶ stage ──StageFrame──▶ … ──▶ tail
//!     ▲                                                  │
//!     └───────────────────── TokenFrame ─────────────────┘
//! ```
//!
//! Every frame names the session, its epoch and an absolute position, so that
//! a late or repeated one is recognised and a stage can truncate its own
//! keys and values. Time, connections, payment and weights are elsewhere:
//! computing goes through [`StageCompute`](crate::engine::StageCompute).

pub mod frame;
mod requester;
mod stage;

pub use frame::{FrameError, Payload, StageFrame, TokenFrame};
pub use requester::{
    FinishReason, RequesterError, RequesterInput, RequesterOutput, RequesterSession, SessionRequest,
};
pub use stage::{QUEUED_FRAMES_MAX, StageError, StageEvent, StageMessage, StageSession, StageSettings};

/// Frames of a prompt under way at the same time: enough to keep a few stages
/// busy, few enough that little is lost when one dies.
pub const FRAMES_IN_FLIGHT_MAX: usize = 4;

#[cfg(test)]
mod tests;
