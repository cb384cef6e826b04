//! Facts about messages that are not here yet.
//!
//! Bounded in bytes, as a whole and for each person, so that one who speaks of
//! messages that never come crowds out only themselves. What finds no room is
//! not taken, and its feeder is told; nothing that was taken is dropped.

use std::collections::BTreeMap;

use crate::id::{ChangeHash, PersonId};
use crate::register::Stamp;

use super::facts::{Fact, Said};

/// Most bytes that wait in one conversation.
pub const WAITING_BYTES_MAX: usize = 4 << 20;
/// Most bytes of one person that wait in one conversation.
pub const WAITING_BYTES_PER_PERSON_MAX: usize = 128 << 10;
/// What a waiting fact counts for, besides its text.
pub const WAITING_FACT_BYTES: usize = 160;

#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    facts: BTreeMap<(ChangeHash, Stamp), (PersonId, Fact)>,
    bytes: usize,
    by_person: BTreeMap<PersonId, usize>,
}

impl Waiting {
    /// Keeps a fact until its message comes; whether it is kept.
    pub(super) fn hold(&mut self, message: ChangeHash, said: Said, fact: Fact) -> bool {
        let key = (message, said.stamp);
        if self.facts.contains_key(&key) {
            return true;
        }
        let bytes = cost(&fact);
        let theirs = self.by_person.get(&said.person).copied().unwrap_or(0);
        if theirs + bytes > WAITING_BYTES_PER_PERSON_MAX || self.bytes + bytes > WAITING_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.by_person.insert(said.person, theirs + bytes);
        self.facts.insert(key, (said.person, fact));
        true
    }

    /// Gives out what waits for a message.
    pub(super) fn take(&mut self, message: &ChangeHash) -> Vec<(Said, Fact)> {
        if self.facts.is_empty() {
            return Vec::new();
        }
        let keys: Vec<_> = self.range(message).map(|(key, _)| *key).collect();
        let mut out = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some((person, fact)) = self.facts.remove(&key) {
                self.release(&person, cost(&fact));
                out.push((Said { stamp: key.1, person }, fact));
            }
        }
        out
    }

    fn release(&mut self, person: &PersonId, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(theirs) = self.by_person.get_mut(person) {
            *theirs = theirs.saturating_sub(bytes);
            if *theirs == 0 {
                self.by_person.remove(person);
            }
        }
    }

    fn range(&self, message: &ChangeHash) -> impl Iterator<Item = (&(ChangeHash, Stamp), &(PersonId, Fact))> {
        let message = *message;
        let first = Stamp { lamport: 0, id: ChangeHash::from_bytes([0; ChangeHash::LEN]) };
        self.facts.range((message, first)..).take_while(move |((other, _), _)| *other == message)
    }

    /// Everything that waits, by message and stamp.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (ChangeHash, Said, &Fact)> {
        self.facts.iter().map(|((message, stamp), (person, fact))| {
            (*message, Said { stamp: *stamp, person: *person }, fact)
        })
    }
}

fn cost(fact: &Fact) -> usize {
    WAITING_FACT_BYTES
        + match fact {
            Fact::Edited { text } => text.len(),
            Fact::Reacted { reaction, .. } => reaction.len(),
            Fact::Deleted | Fact::Pinned { .. } => 0,
        }
}
