//! What one edit of a board says, and the bounds it must keep.
//!
//! An edit travels inside its author's signed feed. It names the edits it was
//! made on and says what was meant by it; it carries no Automerge bytes.

use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::id::ChangeHash;
use crate::text;

/// Most edits one edit may cite. A board with more heads is merged first.
pub const HEADS_MAX: usize = 64;
/// Most intents in one edit.
pub const INTENTS_MAX: usize = 64;
/// Most text one edit may bring, values included, in bytes: it fits into one
/// envelope together with its citations.
pub const INSERT_BYTES_MAX: usize = 8 * 1024;
/// Most characters one edit may ask to delete: each costs Automerge some
/// microseconds.
pub const DELETE_CHARS_MAX: u64 = 64 * 1024;

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BoardValue {
    /// A short text, replaced as a whole.
    #[n(0)]
    Text(#[n(0)] String),
    /// A number.
    #[n(1)]
    Integer(#[n(0)] i64),
    /// Yes or no.
    #[n(2)]
    Flag(#[n(0)] bool),
}

/// One thing an author meant to do.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BoardIntent {
    /// Deletes and inserts text. Positions count Unicode scalar values of the
    /// text as it was at the cited edits, earlier intents of this edit done;
    /// what lies beyond its end is cut off, so that no text is lost.
    #[n(0)]
    Splice {
        /// Which text.
        #[n(0)]
        field: String,
        /// Where.
        #[n(1)]
        index: u64,
        /// How many characters go.
        #[n(2)]
        delete: u64,
        /// What comes in their place.
        #[n(3)]
        insert: String,
    },
    /// Gives a key a value. Of values given at the same time one wins.
    #[n(1)]
    Put {
        /// The key.
        #[n(0)]
        key: String,
        /// Its new value.
        #[n(1)]
        value: BoardValue,
    },
    /// Takes a key away. A value given at the same time stays.
    #[n(2)]
    Delete {
        /// The key.
        #[n(0)]
        key: String,
    },
}

/// What an event carries: intents, and the edits they were made on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BoardEdit {
    /// The board's heads as the author saw them, in ascending order.
    #[n(0)]
    pub heads: Vec<ChangeHash>,
    /// What to do, in this order. None at all only merges the heads.
    #[n(1)]
    pub intents: Vec<BoardIntent>,
}

/// Why an edit is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Over [`HEADS_MAX`].
    #[error("the edit cites {0} edits; at most {HEADS_MAX} are possible: merge the board first")]
    TooManyHeads(usize),
    /// Not in ascending order, or one of them twice.
    #[error("the cited edits are not in ascending order")]
    HeadsUnordered,
    /// Over [`INTENTS_MAX`].
    #[error("the edit has {0} steps; at most {INTENTS_MAX} are possible: split it")]
    TooManyIntents(usize),
    /// No intent, and not two heads to merge.
    #[error("the edit does nothing")]
    Empty,
    /// Over [`INSERT_BYTES_MAX`].
    #[error("the edit brings {0} bytes of text; at most {INSERT_BYTES_MAX} are possible: split it")]
    TooMuchText(u64),
    /// Over [`DELETE_CHARS_MAX`].
    #[error("the edit deletes {0} characters; at most {DELETE_CHARS_MAX} are possible: split it")]
    TooMuchDeleted(u64),
    /// A field or key that is empty, too long, or not visible throughout.
    #[error("the name of a text or key must be one visible line of at most 64 bytes")]
    Name,
    /// A control or direction-changing character.
    #[error("the text has control characters")]
    Unclean,
}

impl BoardIntent {
    /// The text field it touches.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Splice { field, .. } => Some(field),
            Self::Put { .. } | Self::Delete { .. } => None,
        }
    }

    /// The key it touches.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Splice { .. } => None,
            Self::Put { key, .. } | Self::Delete { key } => Some(key),
        }
    }

    /// The text it brings.
    fn insert(&self) -> &str {
        match self {
            Self::Splice { insert, .. } => insert,
            Self::Put { value: BoardValue::Text(text), .. } => text,
            Self::Put { .. } | Self::Delete { .. } => "",
        }
    }
}

impl BoardEdit {
    /// Reads an edit of any origin.
    ///
    /// # Errors
    /// [`DecodeError`]; the bounds are asked of [`Self::check`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, ENVELOPE_BYTES_MAX)
    }

    /// Whether the edit keeps its bounds, whatever board it is for.
    ///
    /// # Errors
    /// The first bound it breaks.
    pub fn check(&self) -> Result<(), EditError> {
        if self.heads.len() > HEADS_MAX {
            return Err(EditError::TooManyHeads(self.heads.len()));
        }
        if !self.heads.is_sorted_by(|left, right| left < right) {
            return Err(EditError::HeadsUnordered);
        }
        if self.intents.len() > INTENTS_MAX {
            return Err(EditError::TooManyIntents(self.intents.len()));
        }
        if self.intents.is_empty() && self.heads.len() < 2 {
            return Err(EditError::Empty);
        }
        let inserted = inserted_bytes(&self.intents);
        if inserted > INSERT_BYTES_MAX as u64 {
            return Err(EditError::TooMuchText(inserted));
        }
        let deleted = deleted_chars(&self.intents);
        if deleted > DELETE_CHARS_MAX {
            return Err(EditError::TooMuchDeleted(deleted));
        }
        for intent in &self.intents {
            if !intent.field().or(intent.key()).is_some_and(text::is_clean_name) {
                return Err(EditError::Name);
            }
            if !is_clean(intent.insert()) {
                return Err(EditError::Unclean);
            }
        }
        Ok(())
    }
}

/// The text that intents bring, in bytes.
pub(super) fn inserted_bytes(intents: &[BoardIntent]) -> u64 {
    intents.iter().fold(0, |sum: u64, intent| sum.saturating_add(intent.insert().len() as u64))
}

/// How many characters intents ask to delete, whether they exist or not: a
/// claim costs its author as much as the deed.
pub(super) fn deleted_chars(intents: &[BoardIntent]) -> u64 {
    intents.iter().fold(0, |sum: u64, intent| match intent {
        BoardIntent::Splice { delete, .. } => sum.saturating_add(*delete),
        BoardIntent::Put { .. } | BoardIntent::Delete { .. } => sum,
    })
}

/// Whether every character may stand in a board's text.
pub(super) fn is_clean(text: &str) -> bool {
    text.chars().all(is_clean_char)
}

/// The rule of messages, asked of one character: between two others, so that
/// white space is no fault where a splice begins or ends.
pub(super) fn is_clean_char(c: char) -> bool {
    c.is_ascii_graphic()
        || matches!(c, ' ' | '\n' | '\t')
        || !c.is_ascii() && text::is_clean_message(&format!("|{c}|"))
}
