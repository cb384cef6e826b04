//! What crosses the boundary between stages, and the narrow trait through
//! which sessions ask for computation.
//!
//! Model families implement [`StageCompute`] (through [`LocalStage`]);
//! `session` knows nothing of weights. Activations are plain f32 rows, so that
//! a result does not depend on where a model is cut.

use std::sync::Arc;

use crate::llama::{KvCache, Stage};

/// Most rows (consecutive positions) of one forward pass and one frame.
pub const ROWS_MAX: usize = 64;

/// Why a stage did not compute. [`ForwardError::is_rejection`] tells a peer's
/// fault from our own.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No row, or more than [`ROWS_MAX`].
    #[error("{rows} rows in one step; 1 to {ROWS_MAX} are allowed")]
    Rows {
        /// Rows given.
        rows: usize,
    },
    /// Positions between what was computed and this input are missing.
    #[error("position {position} leaves a gap: the next one is {expected}")]
    Gap {
        /// First position of the input.
        position: u32,
        /// The next position without a gap.
        expected: u32,
    },
    /// The session's context is full.
    #[error("the context of {capacity} tokens is full")]
    ContextFull {
        /// Its length in tokens.
        capacity: u32,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is not in the vocabulary")]
    UnknownToken {
        /// The id.
        token: u32,
    },
    /// Activations of another width than the model's.
    #[error("activations are {found} wide, the model is {expected} wide")]
    Width {
        /// Width given.
        found: usize,
        /// The model's.
        expected: usize,
    },
    /// The number of values is not rows times width.
    #[error("{values} values are not {rows} rows of {width}")]
    Shape {
        /// Values given.
        values: usize,
        /// Rows claimed.
        rows: usize,
        /// Width claimed.
        width: usize,
    },
    /// Token ids for a later stage, or activations for the first one.
    #[error("this stage takes {wanted}")]
    WrongKind {
        /// What it takes.
        wanted: &'static str,
    },
    /// The input has NaN or infinite values.
    #[error("the activations received are not all finite")]
    NonFiniteInput,
    /// This stage itself computed NaN or infinite values.
    #[error("this stage computed values that are not finite")]
    NonFiniteOutput,
    /// There is no memory for a session's keys and values.
    #[error("there is no memory for the keys and values of {tokens} tokens")]
    NoMemory {
        /// Tokens asked for.
        tokens: u32,
    },
    /// A cache that was made for another stage.
    #[error("the cache belongs to another stage")]
    ForeignCache,
    /// The kernels failed.
    #[error("the computation failed")]
    Kernel(#[from] candle_core::Error),
}

impl ForwardError {
    /// Whether the input was at fault (refuse it, blame its sender) rather
    /// than this machine or its weights.
    pub fn is_rejection(&self) -> bool {
        !matches!(self, Self::NonFiniteOutput | Self::NoMemory { .. } | Self::ForeignCache | Self::Kernel(_))
    }
}

/// Rows of f32 activations, one per position, as they travel between stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    rows: usize,
    width: usize,
    values: Vec<f32>,
}

impl Activations {
    /// `rows` rows of `width` values each, row by row.
    ///
    /// # Errors
    /// [`ForwardError::Shape`] where the lengths do not fit.
    pub fn new(rows: usize, width: usize, values: Vec<f32>) -> Result<Self, ForwardError> {
        if rows.checked_mul(width) != Some(values.len()) {
            return Err(ForwardError::Shape { values: values.len(), rows, width });
        }
        Ok(Self { rows, width, values })
    }

    /// Number of positions.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per position.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, row by row.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Whether no value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        all_finite(&self.values)
    }
}

/// Whether no value is NaN or infinite.
fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// What a stage is given.
#[derive(Debug, Clone, PartialEq)]
pub enum StageInput<'a> {
    /// Token ids, for the stage with the first layer.
    Tokens(&'a [u32]),
    /// The previous stage's output, for every other stage.
    Hidden(Activations),
}

impl StageInput<'_> {
    /// Number of positions.
    pub fn rows(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Hidden(activations) => activations.rows(),
        }
    }
}

/// What a stage gives.
#[derive(Debug, Clone, PartialEq)]
pub enum StageOutput {
    /// One row per input row, for the next stage.
    Hidden(Activations),
    /// One logit per vocabulary entry for what follows the last row; from the
    /// stage with the last layer.
    Logits(Vec<f32>),
}

impl StageOutput {
    /// Whether no value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Hidden(activations) => activations.is_finite(),
            Self::Logits(logits) => all_finite(logits),
        }
    }
}

/// One session's computation in one stage.
pub trait StageCompute {
    /// Positions computed so far: where the next input may start at most.
    fn position(&self) -> u32;

    /// Computes rows at positions `position..`; lower than
    /// [`StageCompute::position`] forgets what was there.
    ///
    /// # Errors
    /// See [`ForwardError`].
    fn forward(&mut self, input: StageInput<'_>, position: u32) -> Result<StageOutput, ForwardError>;
}

/// A loaded stage together with one session's cache.
pub struct LocalStage {
    stage: Arc<Stage>,
    cache: KvCache,
}

impl LocalStage {
    /// A fresh session of at most `context_tokens` in `stage`.
    ///
    /// # Errors
    /// [`ForwardError::NoMemory`].
    pub fn new(stage: Arc<Stage>, context_tokens: u32) -> Result<Self, ForwardError> {
        let cache = stage.new_cache(context_tokens)?;
        Ok(Self { stage, cache })
    }
}

impl StageCompute for LocalStage {
    fn position(&self) -> u32 {
        self.cache.len()
    }

    fn forward(&mut self, input: StageInput<'_>, position: u32) -> Result<StageOutput, ForwardError> {
        self.stage.forward(&mut self.cache, input, position)
    }
}
