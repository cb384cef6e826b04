//! The plain contents of a board: what compaction carries into a new one.
//!
//! Contents have no history and no authors. Who may start a board from them,
//! and that they are what the old board showed, is judged by the caller.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::edit::{INSERT_BYTES_MAX, is_clean};
use super::{BoardValue, FIELDS_MAX, KEYS_MAX};
use crate::codec::{self, DecodeError};
use crate::id::{BoardId, CommunityId, DeviceId};
use crate::text;

/// Most text a board may start with, values included, in bytes.
pub const CONTENTS_TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Largest encoded contents: all text, and names and numbers around it.
pub const CONTENTS_BYTES_MAX: usize = CONTENTS_TEXT_BYTES_MAX + 256 * 1024;

/// Longest encoded contents that one event carries, in bytes. A board that
/// begins with more begins with some of it, and edits bring the rest.
pub const STARTED_BYTES_MAX: usize = 24 * 1024;

/// The id of the board that `device` starts with these contents: nobody can
/// put other contents, or their own name, under a board that others know.
pub fn board_id(community: CommunityId, device: DeviceId, contents: &BoardContents) -> BoardId {
    let mut hasher = blake3::Hasher::new_derive_key("exo-studio exo/board/1");
    hasher.update(&codec::encode(&(community, device, contents)));
    let mut id = [0; BoardId::LEN];
    hasher.finalize_xof().fill(&mut id);
    BoardId::from_bytes(id)
}

/// Texts and values, as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BoardContents {
    /// The texts by their names.
    #[n(0)]
    pub texts: BTreeMap<String, String>,
    /// The values by their keys.
    #[n(1)]
    pub values: BTreeMap<String, BoardValue>,
}

/// Why contents cannot start a board.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// Over [`FIELDS_MAX`] or [`KEYS_MAX`].
    #[error("a board has at most {FIELDS_MAX} texts and {KEYS_MAX} keys")]
    TooMany,
    /// Over [`CONTENTS_TEXT_BYTES_MAX`].
    #[error("a board can start with at most {CONTENTS_TEXT_BYTES_MAX} bytes of text; please shorten it")]
    TooLong,
    /// Over [`STARTED_BYTES_MAX`].
    #[error(
        "one event carries at most {STARTED_BYTES_MAX} bytes of a board: start it with less, and edit the rest in"
    )]
    TooLongToStart,
    /// A name that no edit could have given.
    #[error("the name of a text or key must be one visible line of at most 64 bytes")]
    Name,
    /// A control character, or a value that no edit could have given.
    #[error("a text or value is not one that an edit could have written")]
    Unclean,
}

impl BoardContents {
    /// Reads contents of any origin.
    ///
    /// # Errors
    /// [`DecodeError`]; the bounds are asked of [`Self::check`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, CONTENTS_BYTES_MAX)
    }

    /// Whether edits could have brought a board here.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), ContentsError> {
        if self.texts.len() > FIELDS_MAX || self.values.len() > KEYS_MAX {
            return Err(ContentsError::TooMany);
        }
        if !self.texts.keys().chain(self.values.keys()).all(|name| text::is_clean_name(name)) {
            return Err(ContentsError::Name);
        }
        let short = self.values.values().filter_map(|value| match value {
            BoardValue::Text(text) => Some(text),
            BoardValue::Integer(_) | BoardValue::Flag(_) => None,
        });
        if short.clone().any(|text| text.len() > INSERT_BYTES_MAX) {
            return Err(ContentsError::Unclean);
        }
        let texts = self.texts.values().chain(short);
        if texts.clone().fold(0, |sum: usize, text| sum.saturating_add(text.len())) > CONTENTS_TEXT_BYTES_MAX
        {
            return Err(ContentsError::TooLong);
        }
        if texts.into_iter().all(|text| is_clean(text)) { Ok(()) } else { Err(ContentsError::Unclean) }
    }
}
