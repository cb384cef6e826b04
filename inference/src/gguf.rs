//! A bounded reader of GGUF v2/v3 headers: metadata and tensor directory.
//!
//! The first thing that touches a stranger's model file. Every length is
//! checked against a fixed limit and against the bytes that are there before
//! anything is allocated for it; every sum is overflow-checked. It never
//! panics, never reads tensor data, and never interprets metadata: that is
//! for `manifest`, `llama`, `tokenizer` and `chat`.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod dtype;
mod value;

use std::collections::BTreeMap;

use candle_core::quantized::GgmlDType;
use exo_model::weights::ByteRange;

use crate::source::{SourceError, WeightSource};
use cursor::Cursor;
pub(crate) use dtype::id_of;
pub use value::{Array, Value};

/// Longest header read, in bytes.
pub const HEADER_BYTES_MAX: u64 = exo_model::weights::HEADER_BYTES_MAX;
/// Most metadata entries.
pub const METADATA_ENTRIES_MAX: u64 = 4_096;
/// Most tensors.
pub const TENSORS_MAX: u64 = 65_536;
/// Longest metadata key, in bytes.
pub const KEY_BYTES_MAX: u64 = 256;
/// Longest tensor name, in bytes.
pub const TENSOR_NAME_BYTES_MAX: u64 = 128;
/// Longest string value, in bytes.
pub const STRING_BYTES_MAX: u64 = 1 << 20;
/// Most elements of one array value.
pub const ARRAY_ITEMS_MAX: u64 = 1 << 20;
/// Most dimensions of a tensor.
pub const DIMS_MAX: u32 = 4;
/// Largest `general.alignment`, in bytes.
pub const ALIGNMENT_MAX: u64 = 1 << 16;

/// First window read from a source, in bytes; grown fourfold on demand.
const FIRST_WINDOW_BYTES: u64 = 1 << 20;
const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
const ALIGNMENT_DEFAULT: u64 = 32;

/// What is wrong with a GGUF header.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file")]
    NotGguf,
    /// A version this reader does not know, or a big-endian file.
    #[error("GGUF version {0} is not supported (2 and 3 are, little-endian)")]
    Version(u32),
    /// The header ends in the middle of something.
    #[error("the GGUF header ends within {what} at byte {at}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Offset in the file, in bytes.
        at: u64,
    },
    /// The header is longer than [`HEADER_BYTES_MAX`].
    #[error("the GGUF header is longer than {HEADER_BYTES_MAX} bytes")]
    HeaderTooLong,
    /// A count or length is over its fixed limit.
    #[error("GGUF {what}: {value} is over the limit of {limit}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// The count the file claims.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A text is not UTF-8.
    #[error("a GGUF {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A metadata value or array of a type that does not exist or is nested.
    #[error("GGUF metadata `{key}` has unsupported type {type_id}")]
    ValueType {
        /// The entry's key.
        key: String,
        /// The file's type number.
        type_id: u32,
    },
    /// A key or tensor appears twice.
    #[error("GGUF {what} `{name}` appears twice")]
    Duplicate {
        /// Key or tensor.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// `general.alignment` is not a power of two from 8 to [`ALIGNMENT_MAX`].
    #[error("GGUF alignment {0} is not a power of two between 8 and {ALIGNMENT_MAX}")]
    Alignment(u64),
    /// A tensor's number type is not supported.
    #[error("tensor `{tensor}` has unsupported type {name}")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The type's name in ggml, or its number.
        name: String,
    },
    /// A tensor's shape is empty, overflows, or is no whole number of blocks.
    #[error("tensor `{tensor}` has a bad shape: {why}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A tensor's bytes are unaligned, outside the file, or another's too.
    #[error("tensor `{tensor}` has bad data bytes: {why}")]
    Extent {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The bytes could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Where and what one tensor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Number format.
    pub dtype: GgmlDType,
    /// Lengths, innermost (contiguous) first as in the file; never empty, no 0.
    pub dims: Vec<u64>,
    /// The tensor's bytes in the file.
    pub range: ByteRange,
}

/// A parsed and checked GGUF header.
#[derive(Debug, Clone)]
pub struct Header {
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
    range: ByteRange,
    file_size: u64,
}

impl Header {
    /// Reads the header of the file behind `source`, whose length in bytes is
    /// not known: in growing windows, so a whole file is needed.
    ///
    /// # Errors
    /// See [`GgufError`].
    pub fn read(source: &dyn WeightSource) -> Result<Self, GgufError> {
        let available = source.size().min(HEADER_BYTES_MAX);
        let mut window = FIRST_WINDOW_BYTES.min(available);
        loop {
            let bytes = source.read_at(ByteRange { start: 0, end: window })?;
            match Self::parse(&bytes, source.size()) {
                Err(GgufError::Truncated { .. }) if window < available => {
                    window = (window * 4).min(available);
                }
                Err(GgufError::Truncated { .. }) if available < source.size() => {
                    return Err(GgufError::HeaderTooLong);
                }
                parsed => return parsed,
            }
        }
    }

    /// Parses a header from `bytes`, the beginning of a file of `file_size`
    /// bytes; bytes after the header are ignored.
    ///
    /// # Errors
    /// See [`GgufError`].
    pub fn parse(bytes: &[u8], file_size: u64) -> Result<Self, GgufError> {
        let limit = usize::try_from(HEADER_BYTES_MAX).unwrap_or(usize::MAX);
        let mut cursor = Cursor::new(&bytes[..bytes.len().min(limit)]);
        if cursor.u32("the magic number")? != MAGIC {
            return Err(GgufError::NotGguf);
        }
        let version = cursor.u32("the version")?;
        if !matches!(version, 2 | 3) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = cursor.count("tensors", TENSORS_MAX)?;
        let entry_count = cursor.count("metadata entries", METADATA_ENTRIES_MAX)?;
        let metadata = read_metadata(&mut cursor, entry_count)?;
        let alignment = alignment_of(&metadata)?;
        let raw = (0..tensor_count).map(|_| RawTensor::read(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
        let end = cursor.position();
        let data_start = end.next_multiple_of(alignment);
        let tensors = place(raw, data_start, alignment, file_size)?;
        let range = ByteRange { start: 0, end };
        Ok(Self { metadata, tensors, range, file_size })
    }

    /// The header's own bytes: from 0 to the end of the tensor directory.
    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// Length of the whole file in bytes.
    pub fn file_size(&self) -> u64 {
        self.file_size
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// One metadata value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A text value; `None` where absent or of another type.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_text)
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = cursor.text("metadata key", KEY_BYTES_MAX)?.to_owned();
        let value = Value::read(cursor, &key)?;
        if metadata.contains_key(&key) {
            return Err(GgufError::Duplicate { what: "metadata key", name: key });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn alignment_of(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(ALIGNMENT_DEFAULT);
    };
    let alignment = value.as_u64().unwrap_or(0);
    // At least 8, as the format demands: blocks and f32 then never straddle
    // their own alignment in a mapped file.
    if alignment.is_power_of_two() && (8..=ALIGNMENT_MAX).contains(&alignment) {
        Ok(alignment)
    } else {
        Err(GgufError::Alignment(alignment))
    }
}

/// A directory entry before its place in the file is known.
struct RawTensor {
    name: String,
    dtype: GgmlDType,
    dims: Vec<u64>,
    offset: u64,
    bytes: u64,
}

impl RawTensor {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, GgufError> {
        let name = cursor.text("tensor name", TENSOR_NAME_BYTES_MAX)?.to_owned();
        let rank = cursor.u32("a tensor's rank")?;
        if rank > DIMS_MAX {
            let (value, limit) = (u64::from(rank), u64::from(DIMS_MAX));
            return Err(GgufError::TooMany { what: "tensor dimensions", value, limit });
        }
        let dims = (0..rank).map(|_| cursor.u64("a tensor's shape")).collect::<Result<Vec<_>, _>>()?;
        let type_id = cursor.u32("a tensor's type")?;
        let offset = cursor.u64("a tensor's offset")?;
        let dtype = dtype::from_id(type_id)
            .map_err(|kind| GgufError::TensorType { tensor: name.clone(), name: kind })?;
        let bytes = byte_len(dtype, &dims).map_err(|why| GgufError::Shape { tensor: name.clone(), why })?;
        Ok(Self { name, dtype, dims, offset, bytes })
    }
}

/// Bytes of a tensor: whole blocks along the innermost dimension.
fn byte_len(dtype: GgmlDType, dims: &[u64]) -> Result<u64, &'static str> {
    let Some(&innermost) = dims.first() else {
        return Err("it has no dimension");
    };
    if dims.contains(&0) {
        return Err("a dimension is 0");
    }
    let block = dtype.block_size() as u64;
    if !innermost.is_multiple_of(block) {
        return Err("a row is no whole number of blocks");
    }
    dims.iter()
        .try_fold(1_u64, |product, &dim| product.checked_mul(dim))
        .map(|elements| elements / block)
        .and_then(|blocks| blocks.checked_mul(dtype.type_size() as u64))
        .ok_or("its size overflows")
}

/// Turns directory entries into places in the file and checks that these are
/// aligned, inside the file, and nobody else's.
fn place(
    raw: Vec<RawTensor>,
    data_start: u64,
    alignment: u64,
    file_size: u64,
) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    let mut tensors = BTreeMap::new();
    for tensor in raw {
        let extent = |why| GgufError::Extent { tensor: tensor.name.clone(), why };
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(extent("the offset is not aligned"));
        }
        let start = data_start.checked_add(tensor.offset);
        let range = start
            .and_then(|start| Some(ByteRange { start, end: start.checked_add(tensor.bytes)? }))
            .filter(|range| range.end <= file_size)
            .ok_or_else(|| extent("they reach past the end of the file"))?;
        let info = TensorInfo { dtype: tensor.dtype, dims: tensor.dims, range };
        if tensors.contains_key(&tensor.name) {
            return Err(GgufError::Duplicate { what: "tensor", name: tensor.name });
        }
        tensors.insert(tensor.name, info);
    }
    let mut by_place: Vec<_> = tensors.iter().map(|(name, info)| (info.range, name)).collect();
    by_place.sort_unstable();
    for pair in by_place.windows(2) {
        if pair[1].0.start < pair[0].0.end {
            let why = "they overlap another tensor's";
            return Err(GgufError::Extent { tensor: pair[1].1.clone(), why });
        }
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests;
