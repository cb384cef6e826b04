//! What travels between requester and stages, in CBOR.
//!
//! ```text
//! StageFrame  [session h'16', epoch, position, payload, sample_last]
//!   payload     [0, [token, …]]  or  [1, rows, width, h'f32 little-endian']
//! TokenFrame  [session h'16', epoch, position, token]
//! ```
//!
//! Decoding trusts nothing: lengths are checked before anything is allocated,
//! and bytes after a frame are refused. That values are finite and fit the
//! model is checked by the stage that computes with them.

use exo_model::id::JobId;
use minicbor::{Decoder, Encoder, decode};

use crate::engine::{Activations, ROWS_MAX};

/// Widest activations in a frame, in values per row.
pub const FRAME_WIDTH_MAX: usize = 65_536;
/// Longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

const KIND_TOKENS: u8 = 0;
const KIND_HIDDEN: u8 = 1;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// A count is 0 or over its limit, or lengths contradict each other.
    #[error("the frame's {0} is out of bounds")]
    Bounds(&'static str),
    /// There are bytes behind the frame.
    #[error("there are bytes behind the frame")]
    Trailing,
    /// Not the CBOR it should be.
    #[error("the frame is malformed")]
    Malformed(#[from] decode::Error),
}

/// What a stage is to compute.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Token ids for the first stage; 1 to [`ROWS_MAX`].
    Tokens(Vec<u32>),
    /// Activations for a later one; 1 to [`ROWS_MAX`] rows.
    Hidden(Activations),
}

impl Payload {
    /// Number of positions.
    pub fn rows(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Hidden(activations) => activations.rows(),
        }
    }
}

/// Input for one stage at consecutive positions.
#[derive(Debug, Clone, PartialEq)]
pub struct StageFrame {
    /// The job this belongs to.
    pub session: JobId,
    /// Grows with every new line-up of stages.
    pub epoch: u32,
    /// Absolute position of the first row.
    pub position: u32,
    /// The rows.
    pub payload: Payload,
    /// Whether the tail samples what follows the last row. During the prompt
    /// the answer is only an acknowledgement.
    pub sample_last: bool,
}

/// A token that the tail sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFrame {
    /// The job this belongs to.
    pub session: JobId,
    /// The epoch of the frame it answers.
    pub epoch: u32,
    /// The position the token will stand at: one past the frame's last row,
    /// and the number of positions every stage has computed.
    pub position: u32,
    /// The token.
    pub token: u32,
}

impl StageFrame {
    /// One past the last row's position, saturating.
    pub fn end(&self) -> u32 {
        let rows = u32::try_from(self.payload.rows()).unwrap_or(u32::MAX);
        self.position.saturating_add(rows)
    }

    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        // Writing to memory cannot fail.
        let _ = self.write(&mut encoder);
        encoder.into_writer()
    }

    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Result<(), Infallible> {
        to.array(5)?.bytes(self.session.as_bytes())?.u32(self.epoch)?.u32(self.position)?;
        match &self.payload {
            Payload::Tokens(tokens) => {
                to.array(2)?.u8(KIND_TOKENS)?.array(tokens.len() as u64)?;
                for token in tokens {
                    to.u32(*token)?;
                }
            }
            Payload::Hidden(activations) => {
                let (rows, width) = (activations.rows() as u64, activations.width() as u64);
                let bytes: Vec<u8> =
                    activations.values().iter().flat_map(|value| value.to_le_bytes()).collect();
                to.array(4)?.u8(KIND_HIDDEN)?.u64(rows)?.u64(width)?.bytes(&bytes)?;
            }
        }
        to.bool(self.sample_last)?;
        Ok(())
    }

    /// Reads a frame that is exactly `bytes`.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut from = start(bytes, 5)?;
        let frame = Self {
            session: session(&mut from)?,
            epoch: from.u32()?,
            position: from.u32()?,
            payload: payload(&mut from)?,
            sample_last: from.bool()?,
        };
        end(&from, bytes)?;
        Ok(frame)
    }
}

impl TokenFrame {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        // Writing to memory cannot fail.
        let _ = self.write(&mut encoder);
        encoder.into_writer()
    }

    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Result<(), Infallible> {
        to.array(4)?.bytes(self.session.as_bytes())?;
        to.u32(self.epoch)?.u32(self.position)?.u32(self.token)?;
        Ok(())
    }

    /// Reads a frame that is exactly `bytes`.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut from = start(bytes, 4)?;
        let frame = Self {
            session: session(&mut from)?,
            epoch: from.u32()?,
            position: from.u32()?,
            token: from.u32()?,
        };
        end(&from, bytes)?;
        Ok(frame)
    }
}

type Infallible = minicbor::encode::Error<std::convert::Infallible>;

fn start(bytes: &[u8], fields: u64) -> Result<Decoder<'_>, FrameError> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(bytes.len()));
    }
    let mut from = Decoder::new(bytes);
    fixed_array(&mut from, fields)?;
    Ok(from)
}

fn end(from: &Decoder<'_>, bytes: &[u8]) -> Result<(), FrameError> {
    if from.position() == bytes.len() { Ok(()) } else { Err(FrameError::Trailing) }
}

fn fixed_array(from: &mut Decoder<'_>, fields: u64) -> Result<(), FrameError> {
    if from.array()? == Some(fields) { Ok(()) } else { Err(FrameError::Bounds("number of fields")) }
}

fn session(from: &mut Decoder<'_>) -> Result<JobId, FrameError> {
    let bytes = from.bytes()?.try_into().map_err(|_| FrameError::Bounds("session id"))?;
    Ok(JobId::from_bytes(bytes))
}

/// A count from 1 to `max`.
fn count(value: u64, max: usize, what: &'static str) -> Result<usize, FrameError> {
    usize::try_from(value).ok().filter(|count| (1..=max).contains(count)).ok_or(FrameError::Bounds(what))
}

fn payload(from: &mut Decoder<'_>) -> Result<Payload, FrameError> {
    let fields = from.array()?;
    match (from.u8()?, fields) {
        (KIND_TOKENS, Some(2)) => {
            let rows = from.array()?.ok_or(FrameError::Bounds("number of rows"))?;
            let rows = count(rows, ROWS_MAX, "number of rows")?;
            let tokens = (0..rows).map(|_| from.u32()).collect::<Result<_, _>>()?;
            Ok(Payload::Tokens(tokens))
        }
        (KIND_HIDDEN, Some(4)) => {
            let rows = count(from.u64()?, ROWS_MAX, "number of rows")?;
            let width = count(from.u64()?, FRAME_WIDTH_MAX, "width")?;
            let (values, rest) = from.bytes()?.as_chunks();
            if !rest.is_empty() || values.len() != rows * width {
                return Err(FrameError::Bounds("number of values"));
            }
            let values = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
            let activations = Activations::new(rows, width, values);
            activations.map(Payload::Hidden).map_err(|_| FrameError::Bounds("number of values"))
        }
        _ => Err(FrameError::Bounds("kind")),
    }
}

#[cfg(test)]
mod tests;
