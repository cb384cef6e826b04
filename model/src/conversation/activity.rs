//! What concerns one person: who mentions them, answers them, reacts to them.
//!
//! An index beside the messages, kept up as facts come; it holds places, no
//! content. What is deleted is gone from it; what the moderators hide is left
//! out when it is asked.

use std::collections::BTreeMap;

use crate::id::PersonId;
use crate::register::Stamp;

use super::facts::Reacted;
use super::messages::Slot;
use super::view::{MessageView, PAGE_MAX};
use super::{Conversation, Position};

/// By person and stamp: the message, and who reacted if somebody did.
pub(super) type ActivityIndex = BTreeMap<(PersonId, Stamp), (Slot, Option<PersonId>)>;

/// Something that concerns a person.
#[derive(Clone, Debug)]
pub struct Activity<'a> {
    /// Its place among the activities; a later one is newer.
    pub at: Stamp,
    /// The message that mentions or answers, or that was reacted to.
    pub message: MessageView<'a>,
    /// What happened.
    pub cause: Cause<'a>,
}

/// Why something concerns a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause<'a> {
    /// Somebody's words.
    Words {
        /// They mention the person.
        mentions: bool,
        /// They answer a message of the person.
        answers: bool,
    },
    /// A reaction to a message of the person.
    Reaction {
        /// Who reacted.
        person: PersonId,
        /// How.
        reaction: &'a str,
    },
}

impl Conversation {
    /// What concerns `person`, newest first: at most `limit` (and [`PAGE_MAX`])
    /// entries before `before`.
    pub fn activity(&self, person: &PersonId, before: Option<&Stamp>, limit: usize) -> Vec<Activity<'_>> {
        let first = Stamp { lamport: 0, id: crate::ChangeHash::from_bytes([0; 32]) };
        let last = Stamp { lamport: u64::MAX, id: crate::ChangeHash::from_bytes([0xff; 32]) };
        let end = before.copied().unwrap_or(last).max(first);
        self.activity
            .range((*person, first)..(*person, end))
            .rev()
            .filter_map(|((_, at), (slot, by))| self.activity_of(person, *at, *slot, *by))
            .take(limit.min(PAGE_MAX))
            .collect()
    }

    fn activity_of(
        &self,
        me: &PersonId,
        at: Stamp,
        slot: Slot,
        by: Option<PersonId>,
    ) -> Option<Activity<'_>> {
        let message = self.view(slot);
        if message.is_hidden() {
            return None;
        }
        let cause = match by {
            None => Cause::Words {
                mentions: message.mentions().binary_search(me).is_ok(),
                answers: self.answered(slot) == Some(*me),
            },
            Some(person) => {
                let (reaction, _) =
                    self.facts.reactions_by(slot, &person).find(|(_, held)| held.stamp == at)?;
                Cause::Reaction { person, reaction }
            }
        };
        Some(Activity { at, message, cause })
    }

    /// Whose message the one in `slot` answers, if that is here.
    fn answered(&self, slot: Slot) -> Option<PersonId> {
        let parent = self.messages.slot(&self.facts.parent(slot)?)?;
        Some(self.messages.author(parent))
    }

    /// A new message may concern those it mentions and the one it answers, and
    /// its author may be concerned by answers that came before it.
    pub(super) fn note_words(&mut self, slot: Slot) {
        for key in self.words(slot) {
            self.activity.insert(key, (slot, None));
        }
        let me = self.messages.author(slot);
        let answers: Vec<Position> = self.facts.replies(self.messages.get(slot).id, None).collect();
        for answer in answers {
            let Some(other) = self.messages.slot(&answer.id) else { continue };
            let concerns = self.messages.author(other) != me && self.messages.get(other).text.is_some();
            if concerns {
                let at = Stamp { lamport: answer.lamport, id: answer.id };
                self.activity.insert((me, at), (other, None));
            }
        }
    }

    /// A reaction concerns the author of the message, if it is another's.
    pub(super) fn note_reaction(&mut self, slot: Slot, author: &PersonId, noted: &Reacted) {
        for stamp in noted.off.iter().flatten() {
            self.activity.remove(&(*author, *stamp));
        }
        if let Some(said) = noted.on
            && said.person != *author
        {
            self.activity.insert((*author, said.stamp), (slot, Some(said.person)));
        }
    }

    /// A message is about to be deleted.
    pub(super) fn forget_activity(&mut self, slot: Slot) {
        for key in self.words(slot) {
            self.activity.remove(&key);
        }
        let author = self.messages.author(slot);
        let reactions: Vec<Stamp> = self.facts.reactions(slot).map(|(_, _, held)| held.stamp).collect();
        for stamp in reactions {
            self.activity.remove(&(author, stamp));
        }
    }

    /// Under which keys a message's words are noted.
    fn words(&self, slot: Slot) -> Vec<(PersonId, Stamp)> {
        let message = self.messages.get(slot);
        let author = self.messages.author(slot);
        let at = Stamp { lamport: message.lamport, id: message.id };
        let mentioned = self.facts.mentions(slot).iter().copied();
        mentioned
            .chain(self.answered(slot))
            .filter(|person| *person != author)
            .map(|person| (person, at))
            .collect()
    }
}
