//! Bounded CBOR: what every stored or received structure passes through.
//!
//! Encoding is deterministic (definite lengths, shortest heads, fields by
//! index). Decoding accepts exactly what encoding gives, so that one value has
//! one form in front of hashes and signatures.

use minicbor::{Decode, Encode};

/// Bytes that are not the structure they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than this kind of structure may be.
    #[error("{len} bytes, more than the {max} allowed")]
    TooLong {
        /// Length met.
        len: usize,
        /// Length allowed.
        max: usize,
    },
    /// Not CBOR, or not of the expected shape.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Readable, but not the one form that [`encode`] gives: bytes left over,
    /// longer heads, unknown fields.
    #[error("not in canonical form")]
    NotCanonical,
}

/// Encodes `value`. Writing into memory cannot fail for the types of this
/// workspace, whose encoders are all derived.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).unwrap_or_else(|error| unreachable!("derived encoder failed: {error}"))
}

/// Decodes exactly one value of at most `max` bytes.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<'b, T>(bytes: &'b [u8], max: usize) -> Result<T, DecodeError>
where
    T: Decode<'b, ()> + Encode<()>,
{
    if bytes.len() > max {
        return Err(DecodeError::TooLong { len: bytes.len(), max });
    }
    let value = minicbor::decode(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if encode(&value) == bytes { Ok(value) } else { Err(DecodeError::NotCanonical) }
}
