//! For authors: from an edited text to the edit that says so.

use super::edit::{self, DELETE_CHARS_MAX, HEADS_MAX, INSERT_BYTES_MAX};
use super::{Board, BoardEdit, BoardIntent, EditError};
use crate::id::DeviceId;

impl Board {
    /// What turns a text as it stands into `new_text`: one splice between what
    /// both begin and end with, or nothing. Line ends become `\n`; characters
    /// that no text may have are left out. A change too large for one edit is
    /// begun: sign it, insert it, and ask again until nothing is left.
    pub fn splice_for(&self, field: &str, new_text: &str) -> Vec<BoardIntent> {
        let old: Vec<char> = self.text(field).unwrap_or_default().chars().collect();
        let new = new_text.replace("\r\n", "\n").replace('\r', "\n");
        let new: Vec<char> = new.chars().filter(|c| edit::is_clean_char(*c)).collect();
        let begin = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[begin..], &new[begin..]);
        let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
        if old.is_empty() && new.is_empty() {
            return Vec::new();
        }
        let delete = (old.len() as u64).min(DELETE_CHARS_MAX);
        let mut insert = String::new();
        // New text comes once the old is gone, so that a rest left for the next
        // edit stays one splice.
        if delete == old.len() as u64 {
            for c in new {
                if insert.len() + c.len_utf8() > INSERT_BYTES_MAX {
                    break;
                }
                insert.push(*c);
            }
        }
        vec![BoardIntent::Splice { field: field.to_owned(), index: begin as u64, delete, insert }]
    }

    /// An edit of the board as it stands.
    ///
    /// # Errors
    /// When the intents break a bound, or the board has too many heads to cite:
    /// then [`Self::merge`] comes first.
    pub fn edit(&self, intents: Vec<BoardIntent>) -> Result<BoardEdit, EditError> {
        let edit = BoardEdit { heads: self.heads(), intents };
        edit.check()?;
        Ok(edit)
    }

    /// An edit that does nothing but bring heads together, as many as one may
    /// cite. None where there is one head or less.
    pub fn merge(&self) -> Option<BoardEdit> {
        let mut heads = self.heads();
        heads.truncate(HEADS_MAX);
        (heads.len() > 1).then_some(BoardEdit { heads, intents: Vec::new() })
    }

    /// The earliest time that the author's next edit may be signed with so that
    /// it is not too fast, ms since the Unix epoch. None before their first.
    pub fn next_edit_ms(&self, author: &DeviceId) -> Option<i64> {
        self.graph.pace(author).map(|pace| pace.next_ms())
    }
}
