//! The messages themselves, their order and their ids.
//!
//! Most messages are a short text and nothing else, and a busy channel has a
//! hundred thousand of them: one is 72 bytes here, its text, its place in the
//! order (4 bytes) and its place among the ids. What few messages have lies in
//! side tables ([`facts`](super::facts)). A message is never removed; a deleted
//! one has no text.

use std::collections::BTreeMap;

use crate::id::{ChangeHash, DeviceId, PersonId};

use super::{Position, Spoken};

/// Most messages of one conversation. Beyond it new ones are not taken: the
/// channel goes on in a new one.
pub const MESSAGES_MAX: usize = 1 << 21;
/// Messages of one piece of the order: what an insertion in the middle moves.
const PIECE_MAX: usize = 1_024;

/// Names a message in memory, by order of arrival.
pub(super) type Slot = u32;

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: ChangeHash,
    pub(super) lamport: u64,
    pub(super) time_ms: i64,
    /// None once it is deleted.
    pub(super) text: Option<Box<str>>,
    pub(super) writer: u32,
}

impl Message {
    pub(super) const fn position(&self) -> Position {
        Position { lamport: self.lamport, time_ms: self.time_ms, id: self.id }
    }
}

/// A device and its person.
pub(super) type Writer = (PersonId, DeviceId);

#[derive(Clone, Debug, Default)]
pub(super) struct Messages {
    slots: Vec<Message>,
    ids: BTreeMap<ChangeHash, Slot>,
    order: Order,
    writers: Vec<Writer>,
    writer_numbers: BTreeMap<Writer, u32>,
}

impl Messages {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slot(&self, id: &ChangeHash) -> Option<Slot> {
        self.ids.get(id).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> &Message {
        &self.slots[slot as usize]
    }

    pub(super) fn writer(&self, slot: Slot) -> Writer {
        self.writers[self.get(slot).writer as usize]
    }

    pub(super) fn author(&self, slot: Slot) -> PersonId {
        self.writer(slot).0
    }

    /// Every device that wrote a message, in order, with its number here.
    pub(super) const fn writers(&self) -> &BTreeMap<Writer, u32> {
        &self.writer_numbers
    }

    /// Adds a message whose id is new; none when there are too many.
    pub(super) fn push(&mut self, spoken: &Spoken, text: &str) -> Option<Slot> {
        if self.slots.len() >= MESSAGES_MAX {
            return None;
        }
        let slot = Slot::try_from(self.slots.len()).ok()?;
        let writer = self.number((spoken.author, spoken.device))?;
        let Spoken { id, lamport, time_ms, .. } = *spoken;
        self.slots.push(Message { id, lamport, time_ms, text: Some(text.into()), writer });
        self.ids.insert(id, slot);
        self.order.insert(&self.slots, slot);
        Some(slot)
    }

    fn number(&mut self, writer: Writer) -> Option<u32> {
        if let Some(number) = self.writer_numbers.get(&writer) {
            return Some(*number);
        }
        let number = u32::try_from(self.writers.len()).ok()?;
        self.writers.push(writer);
        self.writer_numbers.insert(writer, number);
        Some(number)
    }

    pub(super) fn set_text(&mut self, slot: Slot, text: Option<Box<str>>) {
        self.slots[slot as usize].text = text;
    }

    /// All messages, in order.
    pub(super) fn ascending(&self) -> impl Iterator<Item = Slot> {
        self.order.forward(Cursor::default())
    }

    /// The messages after a position, in order.
    pub(super) fn after(&self, position: &Position) -> impl Iterator<Item = Slot> {
        self.order.forward(self.order.seek(&self.slots, |other| other <= *position))
    }

    /// The messages before a position, or all of them, last first.
    pub(super) fn before(&self, position: Option<&Position>) -> impl Iterator<Item = Slot> {
        let cursor = match position {
            Some(position) => self.order.seek(&self.slots, |other| other < *position),
            None => Cursor { piece: self.order.pieces.len(), within: 0 },
        };
        self.order.backward(cursor)
    }
}

/// Slots by position, as a list of short sorted lists: four bytes a message, and
/// an insertion anywhere moves at most [`PIECE_MAX`] of them.
#[derive(Clone, Debug, Default)]
struct Order {
    pieces: Vec<Vec<Slot>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    piece: usize,
    within: usize,
}

impl Order {
    fn insert(&mut self, messages: &[Message], slot: Slot) {
        let position_of = |slot: Slot| messages[slot as usize].position();
        let position = position_of(slot);
        let is_last = self
            .pieces
            .last()
            .and_then(|piece| piece.last())
            .is_none_or(|last| position_of(*last) < position);
        if is_last {
            match self.pieces.last_mut() {
                Some(piece) if piece.len() < PIECE_MAX => piece.push(slot),
                _ => self.pieces.push(vec![slot]),
            }
            return;
        }
        let after = self.pieces.partition_point(|piece| position_of(piece[0]) < position);
        let at = after.saturating_sub(1);
        let piece = &mut self.pieces[at];
        let within = piece.partition_point(|other| position_of(*other) < position);
        piece.insert(within, slot);
        if piece.len() > PIECE_MAX {
            let rest = piece.split_off(PIECE_MAX / 2);
            self.pieces.insert(at + 1, rest);
        }
    }

    /// The first place whose position does not hold to `is_before`.
    fn seek(&self, messages: &[Message], is_before: impl Fn(Position) -> bool) -> Cursor {
        let holds = |slot: Slot| is_before(messages[slot as usize].position());
        let piece = self.pieces.partition_point(|piece| holds(piece[0])).saturating_sub(1);
        let within = self.pieces.get(piece).map_or(0, |slots| slots.partition_point(|slot| holds(*slot)));
        Cursor { piece, within }
    }

    fn forward(&self, cursor: Cursor) -> impl Iterator<Item = Slot> {
        self.pieces[cursor.piece.min(self.pieces.len())..].iter().flatten().skip(cursor.within).copied()
    }

    fn backward(&self, cursor: Cursor) -> impl Iterator<Item = Slot> {
        let (whole, rest) = self.pieces.split_at(cursor.piece.min(self.pieces.len()));
        let part = rest.first().map_or(&[][..], |piece| &piece[..cursor.within.min(piece.len())]);
        part.iter().rev().chain(whole.iter().rev().flat_map(|piece| piece.iter().rev())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_message_stays_small() {
        assert_eq!(size_of::<Message>(), 72);
    }
}
