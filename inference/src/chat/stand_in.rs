//! Private-use characters that stand in for the first characters of control
//! tokens while a template handles contents.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChatError, Message};
use crate::tokenizer::Tokenizer;

/// The three private-use ranges of Unicode, rarest first.
const PRIVATE_USE: [std::ops::RangeInclusive<char>; 3] =
    ['\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}', '\u{e000}'..='\u{f8ff}'];

/// A reversible substitution.
pub(super) struct StandIns {
    forth: BTreeMap<char, char>,
    back: BTreeMap<char, char>,
}

impl StandIns {
    /// Chooses stand-ins that appear in no content, not in the template and
    /// in no control token.
    pub(super) fn choose(
        tokenizer: &Tokenizer,
        template: &str,
        messages: &[Message],
    ) -> Result<Self, ChatError> {
        let contents = messages.iter().map(|message| message.content.as_str());
        let taken: BTreeSet<char> = contents
            .chain([template])
            .flat_map(str::chars)
            .chain(tokenizer.special_first_chars())
            .filter(|char| PRIVATE_USE.iter().any(|range| range.contains(char)))
            .collect();
        let mut free = PRIVATE_USE.into_iter().flatten().filter(|char| !taken.contains(char));
        let mut forth = BTreeMap::new();
        for first in tokenizer.special_first_chars() {
            forth.insert(first, free.next().ok_or(ChatError::NoStandIn)?);
        }
        let back = forth.iter().map(|(&char, &stand_in)| (stand_in, char)).collect();
        Ok(Self { forth, back })
    }

    /// A content as the template sees it.
    pub(super) fn protect(&self, content: &str) -> String {
        content.chars().map(|char| self.forth.get(&char).copied().unwrap_or(char)).collect()
    }

    /// The text that was meant.
    pub(super) fn restore(&self, text: &str) -> String {
        text.chars().map(|char| self.back.get(&char).copied().unwrap_or(char)).collect()
    }
}
