//! Metadata values, widened to a few types.

use super::cursor::Cursor;
use super::{ARRAY_ITEMS_MAX, GgufError, STRING_BYTES_MAX};

/// One metadata value. Number widths of the file are not kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// A float of either width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// Values of one type.
    Array(Array),
}

/// An array value; arrays of arrays are refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Integers and truth values (0 or 1); `u64` above `i64::MAX` saturates.
    Integers(Vec<i64>),
    /// Floats of either width.
    Floats(Vec<f64>),
    /// UTF-8 texts.
    Texts(Vec<String>),
}

const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

impl Value {
    /// A non-negative integer of any type.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A float, or an integer that a person wrote without a point.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            #[allow(clippy::cast_precision_loss)]
            Self::Unsigned(value) => Some(*value as f64),
            #[allow(clippy::cast_precision_loss)]
            Self::Signed(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// An array of texts.
    pub fn as_texts(&self) -> Option<&[String]> {
        match self {
            Self::Array(Array::Texts(values)) => Some(values),
            _ => None,
        }
    }

    /// An array of integers.
    pub fn as_integers(&self) -> Option<&[i64]> {
        match self {
            Self::Array(Array::Integers(values)) => Some(values),
            _ => None,
        }
    }

    /// Reads a type number and the value behind it.
    pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        match cursor.u32("a metadata type")? {
            TYPE_STRING => {
                let text = cursor.text("text value", STRING_BYTES_MAX)?;
                Ok(Self::Text(text.to_owned()))
            }
            TYPE_ARRAY => Array::read(cursor, key).map(Self::Array),
            type_id => Self::read_scalar(cursor, type_id, key),
        }
    }

    fn read_scalar(cursor: &mut Cursor<'_>, type_id: u32, key: &str) -> Result<Self, GgufError> {
        const WHAT: &str = "a metadata value";
        Ok(match type_id {
            0 => Self::Unsigned(u8::from_le_bytes(cursor.array(WHAT)?).into()),
            1 => Self::Signed(i8::from_le_bytes(cursor.array(WHAT)?).into()),
            2 => Self::Unsigned(u16::from_le_bytes(cursor.array(WHAT)?).into()),
            3 => Self::Signed(i16::from_le_bytes(cursor.array(WHAT)?).into()),
            4 => Self::Unsigned(u32::from_le_bytes(cursor.array(WHAT)?).into()),
            5 => Self::Signed(i32::from_le_bytes(cursor.array(WHAT)?).into()),
            6 => Self::Float(f32::from_le_bytes(cursor.array(WHAT)?).into()),
            7 => Self::Bool(cursor.array::<1>(WHAT)? != [0]),
            10 => Self::Unsigned(u64::from_le_bytes(cursor.array(WHAT)?)),
            11 => Self::Signed(i64::from_le_bytes(cursor.array(WHAT)?)),
            12 => Self::Float(f64::from_le_bytes(cursor.array(WHAT)?)),
            _ => {
                return Err(GgufError::ValueType { key: key.to_owned(), type_id });
            }
        })
    }
}

impl Array {
    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, GgufError> {
        let type_id = cursor.u32("an array's type")?;
        let count = cursor.count("array items", ARRAY_ITEMS_MAX)?;
        // Before allocating: no item is shorter than its type's least length.
        if count.saturating_mul(least_bytes(type_id)) > cursor.remaining() {
            return Err(cursor.truncated("an array"));
        }
        let capacity = usize::try_from(count).unwrap_or(0);
        if type_id == TYPE_STRING {
            let mut texts = Vec::with_capacity(capacity);
            for _ in 0..count {
                texts.push(cursor.text("text in an array", STRING_BYTES_MAX)?.to_owned());
            }
            return Ok(Self::Texts(texts));
        }
        let mut integers = Vec::new();
        let mut floats = Vec::new();
        for _ in 0..count {
            match Value::read_scalar(cursor, type_id, key)? {
                Value::Unsigned(value) => integers.push(i64::try_from(value).unwrap_or(i64::MAX)),
                Value::Signed(value) => integers.push(value),
                Value::Bool(value) => integers.push(value.into()),
                Value::Float(value) => floats.push(value),
                Value::Text(_) | Value::Array(_) => {}
            }
        }
        match type_id {
            6 | 12 => Ok(Self::Floats(floats)),
            0..=5 | 7 | 10 | 11 => Ok(Self::Integers(integers)),
            // An empty array of a type that does not exist, or of arrays.
            _ => Err(GgufError::ValueType { key: key.to_owned(), type_id }),
        }
    }
}

/// Fewest bytes one value of this type takes; 1 for types that do not exist,
/// which are refused when the first is read.
fn least_bytes(type_id: u32) -> u64 {
    match type_id {
        2 | 3 => 2,
        4..=6 => 4,
        TYPE_STRING | 10..=12 => 8,
        _ => 1,
    }
}
