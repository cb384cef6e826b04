//! What only some messages have: what they answer, mention and carry, and what
//! was said about them since.
//!
//! Side tables by slot. Every table is a function of the facts applied to it;
//! [`Facts::drop_all`] is what a deletion does.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use crate::event::TalkEvent;
use crate::event::talk::Attachment;
use crate::id::{ChangeHash, PersonId};
use crate::register::Stamp;

use super::Position;
use super::messages::Slot;

/// Edits of one message that are told apart, so that a repeated one is not
/// counted twice: those with the smallest ids. The count stops there.
pub const EDITS_COUNTED_MAX: usize = 256;
/// Reactions one person may have on one message, taken-off ones included; those
/// with the greatest stamps stay.
pub const REACTIONS_PER_PERSON_MAX: usize = 16;

/// Who says a fact, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) stamp: Stamp,
    pub(super) person: PersonId,
}

/// A fact about a message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Fact {
    #[n(0)]
    Edited {
        #[n(0)]
        text: Box<str>,
    },
    #[n(1)]
    Deleted,
    #[n(2)]
    Reacted {
        #[n(0)]
        reaction: Box<str>,
        #[n(1)]
        on: bool,
    },
    #[n(3)]
    Pinned {
        #[n(0)]
        on: bool,
    },
}

impl Fact {
    /// The event that says it.
    pub(super) fn to_event(&self, message: ChangeHash) -> TalkEvent {
        match self {
            Self::Edited { text } => TalkEvent::Edited { message, text: text.to_string() },
            Self::Deleted => TalkEvent::Deleted { message },
            Self::Reacted { reaction, on } => {
                TalkEvent::Reacted { message, reaction: reaction.to_string(), on: *on }
            }
            Self::Pinned { on } => TalkEvent::Pinned { message, on: *on },
        }
    }
}

/// The edits of one message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Edits {
    /// The one that stands.
    #[n(0)]
    pub(super) last: Stamp,
    /// The ones counted.
    #[n(1)]
    pub(super) counted: BTreeSet<ChangeHash>,
}

/// The last word on a message's pin.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Pin {
    #[n(0)]
    pub(super) stamp: Stamp,
    #[n(1)]
    pub(super) person: PersonId,
    #[n(2)]
    pub(super) on: bool,
}

/// The last word of a person on a reaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reaction {
    pub(super) stamp: Stamp,
    pub(super) on: bool,
}

/// What an edit did.
pub(super) struct Edited {
    pub(super) stands: bool,
    pub(super) changed: bool,
}

/// What a reaction did: which of the person's reactions came and went.
#[derive(Default)]
pub(super) struct Reacted {
    pub(super) changed: bool,
    pub(super) on: Option<Said>,
    pub(super) off: [Option<Stamp>; 2],
}

#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    parents: BTreeMap<Slot, ChangeHash>,
    replies: BTreeSet<(ChangeHash, Position)>,
    mentions: BTreeMap<Slot, Box<[PersonId]>>,
    attachments: BTreeMap<Slot, Box<[Attachment]>>,
    edits: BTreeMap<Slot, Edits>,
    reactions: BTreeMap<(Slot, PersonId, Box<str>), Reaction>,
    pins: BTreeMap<Slot, Pin>,
    pinned: BTreeSet<(Stamp, Slot)>,
}

impl Facts {
    /// Mentions are a set, attachments a list.
    pub(super) fn attach(&mut self, slot: Slot, mentions: &[PersonId], attachments: &[Attachment]) {
        if !mentions.is_empty() {
            let people: BTreeSet<PersonId> = mentions.iter().copied().collect();
            self.mentions.insert(slot, people.into_iter().collect());
        }
        if !attachments.is_empty() {
            self.attachments.insert(slot, attachments.into());
        }
    }

    pub(super) fn reply(&mut self, slot: Slot, parent: ChangeHash, position: Position) {
        self.parents.insert(slot, parent);
        self.replies.insert((parent, position));
    }

    pub(super) fn edit(&mut self, slot: Slot, stamp: Stamp) -> Edited {
        let Some(edits) = self.edits.get_mut(&slot) else {
            self.edits.insert(slot, Edits { last: stamp, counted: BTreeSet::from([stamp.id]) });
            return Edited { stands: true, changed: true };
        };
        let counted = edits.counted.len();
        edits.counted.insert(stamp.id);
        if edits.counted.len() > EDITS_COUNTED_MAX {
            edits.counted.pop_last();
        }
        let stands = stamp > edits.last;
        edits.last = edits.last.max(stamp);
        Edited { stands, changed: stands || edits.counted.len() > counted }
    }

    pub(super) fn react(&mut self, slot: Slot, said: Said, reaction: Box<str>, on: bool) -> Reacted {
        let mut out = Reacted::default();
        let key = (slot, said.person, reaction);
        if let Some(held) = self.reactions.get(&key) {
            if held.stamp >= said.stamp {
                return out;
            }
            out.off[0] = held.on.then_some(held.stamp);
            out.changed = held.on != on;
        } else {
            let theirs = || self.reactions_by(slot, &said.person);
            if theirs().count() >= REACTIONS_PER_PERSON_MAX
                && let Some((oldest, held)) = theirs().min_by_key(|(_, held)| held.stamp)
            {
                if held.stamp >= said.stamp {
                    return out;
                }
                out.off[1] = held.on.then_some(held.stamp);
                out.changed = held.on;
                let oldest = (slot, said.person, oldest.into());
                self.reactions.remove(&oldest);
            }
            out.changed |= on;
        }
        out.on = on.then_some(said);
        self.reactions.insert(key, Reaction { stamp: said.stamp, on });
        out
    }

    pub(super) fn pin(&mut self, slot: Slot, said: Said, on: bool) -> bool {
        let held = self.pins.get(&slot).map(|pin| (pin.stamp, pin.on));
        if held.is_some_and(|(stamp, _)| stamp >= said.stamp) {
            return false;
        }
        if let Some((stamp, true)) = held {
            self.pinned.remove(&(stamp, slot));
        }
        if on {
            self.pinned.insert((said.stamp, slot));
        }
        self.pins.insert(slot, Pin { stamp: said.stamp, person: said.person, on });
        on || held.is_some_and(|(_, on)| on)
    }

    /// All but the place among the answers goes.
    pub(super) fn drop_all(&mut self, slot: Slot) {
        self.mentions.remove(&slot);
        self.attachments.remove(&slot);
        self.edits.remove(&slot);
        if let Some(pin) = self.pins.remove(&slot) {
            self.pinned.remove(&(pin.stamp, slot));
        }
        let keys: Vec<_> = self.reaction_range(slot).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.reactions.remove(&key);
        }
    }

    pub(super) fn parent(&self, slot: Slot) -> Option<ChangeHash> {
        self.parents.get(&slot).copied()
    }

    /// Messages that answer `parent`, in order; only those after a position.
    pub(super) fn replies(
        &self,
        parent: ChangeHash,
        after: Option<&Position>,
    ) -> impl Iterator<Item = Position> {
        const FIRST: Position =
            Position { lamport: 0, time_ms: i64::MIN, id: ChangeHash::from_bytes([0; ChangeHash::LEN]) };
        let from = (parent, after.copied().unwrap_or(FIRST));
        let skip = after.copied();
        self.replies
            .range(from..)
            .take_while(move |(other, _)| *other == parent)
            .map(|(_, position)| *position)
            .filter(move |position| Some(*position) != skip)
    }

    pub(super) fn mentions(&self, slot: Slot) -> &[PersonId] {
        self.mentions.get(&slot).map_or(&[], |people| people)
    }

    pub(super) fn attachments(&self, slot: Slot) -> &[Attachment] {
        self.attachments.get(&slot).map_or(&[], |files| files)
    }

    pub(super) fn edits(&self, slot: Slot) -> Option<&Edits> {
        self.edits.get(&slot)
    }

    pub(super) fn pin_of(&self, slot: Slot) -> Option<&Pin> {
        self.pins.get(&slot)
    }

    /// Pinned messages, last pinned first.
    pub(super) fn pinned(&self) -> impl Iterator<Item = Slot> {
        self.pinned.iter().rev().map(|(_, slot)| *slot)
    }

    /// All reactions on a message, by person and reaction, taken-off ones too.
    pub(super) fn reactions(&self, slot: Slot) -> impl Iterator<Item = (PersonId, &str, Reaction)> {
        self.reaction_range(slot).map(|((_, person, reaction), held)| (*person, &**reaction, *held))
    }

    /// One person's reactions on a message, taken-off ones too.
    pub(super) fn reactions_by(
        &self,
        slot: Slot,
        person: &PersonId,
    ) -> impl Iterator<Item = (&str, Reaction)> {
        let person = *person;
        self.reactions
            .range((slot, person, Box::default())..)
            .take_while(move |((other, by, _), _)| *other == slot && *by == person)
            .map(|((_, _, reaction), held)| (&**reaction, *held))
    }

    fn reaction_range(&self, slot: Slot) -> impl Iterator<Item = (&(Slot, PersonId, Box<str>), &Reaction)> {
        let nobody = PersonId::from_bytes([0; PersonId::LEN]);
        self.reactions
            .range((slot, nobody, Box::default())..)
            .take_while(move |((other, ..), _)| *other == slot)
    }
}
