//! Questions about a conversation. Every answer is bounded.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::talk::Attachment;
use crate::id::{ChangeHash, DeviceId, PersonId};
use crate::register::Stamp;

use super::messages::{Message, Slot};
use super::{Conversation, Marks, Position};

/// Most entries of one answer.
pub const PAGE_MAX: usize = 500;
/// Most messages of one [thread](Conversation::thread).
pub const THREAD_MAX: usize = 1_000;
/// Most messages that are looked at to count the unread ones.
pub const UNREAD_SCAN_MAX: usize = 10_000;

/// What a person has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Messages of others.
    pub messages: usize,
    /// Those among them that mention or answer the person.
    pub for_me: usize,
    /// There are older ones that were not looked at ([`UNREAD_SCAN_MAX`]).
    pub more: bool,
}

/// One message, as people see it.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    conversation: &'a Conversation,
    slot: Slot,
}

impl<'a> MessageView<'a> {
    fn message(&self) -> &'a Message {
        self.conversation.messages.get(self.slot)
    }

    fn marks(&self) -> Marks {
        self.conversation.marks.get(&self.id()).copied().unwrap_or_default()
    }

    /// The change that posted it.
    pub fn id(&self) -> ChangeHash {
        self.message().id
    }

    /// Where it stands; also its Lamport and wall time.
    pub fn position(&self) -> Position {
        self.message().position()
    }

    /// Who wrote it.
    pub fn author(&self) -> PersonId {
        self.conversation.messages.author(self.slot)
    }

    /// The device it was written on.
    pub fn device(&self) -> DeviceId {
        self.conversation.messages.writer(self.slot).1
    }

    /// What it says now; none if it is deleted. Hidden ones still say it.
    pub fn text(&self) -> Option<&'a str> {
        self.message().text.as_deref()
    }

    /// Whether its author took it back.
    pub fn is_deleted(&self) -> bool {
        self.text().is_none()
    }

    /// How often it was edited; stops at
    /// [`EDITS_COUNTED_MAX`](super::EDITS_COUNTED_MAX).
    pub fn edit_count(&self) -> usize {
        self.conversation.facts.edits(self.slot).map_or(0, |edits| edits.counted.len())
    }

    /// Whether it was edited.
    pub fn is_edited(&self) -> bool {
        self.edit_count() > 0
    }

    /// The edit that stands.
    pub fn last_edit(&self) -> Option<Stamp> {
        self.conversation.facts.edits(self.slot).map(|edits| edits.last)
    }

    /// The message it answers, here or not.
    pub fn reply_to(&self) -> Option<ChangeHash> {
        self.conversation.facts.parent(self.slot)
    }

    /// Who is meant to notice, in order of ids.
    pub fn mentions(&self) -> &'a [PersonId] {
        self.conversation.facts.mentions(self.slot)
    }

    /// What goes with it.
    pub fn attachments(&self) -> &'a [Attachment] {
        self.conversation.facts.attachments(self.slot)
    }

    /// Who reacted how.
    pub fn reactions(&self) -> BTreeMap<&'a str, BTreeSet<PersonId>> {
        let mut out: BTreeMap<&'a str, BTreeSet<PersonId>> = BTreeMap::new();
        for (person, reaction, held) in self.conversation.facts.reactions(self.slot) {
            if held.on {
                out.entry(reaction).or_default().insert(person);
            }
        }
        out
    }

    /// Who pinned it, if it is pinned.
    pub fn pinned_by(&self) -> Option<PersonId> {
        self.conversation.facts.pin_of(self.slot).filter(|pin| pin.on).map(|pin| pin.person)
    }

    /// Whether it is on a branch of a forked feed: its author said different
    /// things to different people.
    pub fn is_forked(&self) -> bool {
        self.marks().forked
    }

    /// Whether the moderators hide it.
    pub fn is_hidden(&self) -> bool {
        self.marks().hidden
    }
}

impl Conversation {
    pub(super) const fn view(&self, slot: Slot) -> MessageView<'_> {
        MessageView { conversation: self, slot }
    }

    /// One message.
    pub fn message(&self, id: &ChangeHash) -> Option<MessageView<'_>> {
        Some(self.view(self.messages.slot(id)?))
    }

    /// The last `limit` messages (at most [`PAGE_MAX`]) before a position, or
    /// before the end; in order.
    pub fn page_before(&self, before: Option<&Position>, limit: usize) -> Vec<MessageView<'_>> {
        let mut page: Vec<_> =
            self.messages.before(before).take(limit.min(PAGE_MAX)).map(|slot| self.view(slot)).collect();
        page.reverse();
        page
    }

    /// The first `limit` messages (at most [`PAGE_MAX`]) after a position, or
    /// from the start; in order.
    pub fn page_after(&self, after: Option<&Position>, limit: usize) -> Vec<MessageView<'_>> {
        let limit = limit.min(PAGE_MAX);
        match after {
            Some(position) => self.messages.after(position).take(limit).map(|slot| self.view(slot)).collect(),
            None => self.messages.ascending().take(limit).map(|slot| self.view(slot)).collect(),
        }
    }

    /// Messages that answer one directly, here or not itself: at most `limit`
    /// (and [`PAGE_MAX`]) after a position; in order.
    pub fn replies(
        &self,
        parent: &ChangeHash,
        after: Option<&Position>,
        limit: usize,
    ) -> Vec<MessageView<'_>> {
        self.facts
            .replies(*parent, after)
            .take(limit.min(PAGE_MAX))
            .filter_map(|position| self.message(&position.id))
            .collect()
    }

    /// Messages that answer one, directly or through others; in order. At most
    /// [`THREAD_MAX`], the nearest to the root first.
    pub fn thread(&self, root: &ChangeHash) -> Vec<MessageView<'_>> {
        let mut seen = BTreeSet::from([*root]);
        let mut found: Vec<Position> = Vec::new();
        let mut next = 0;
        let mut parent = Some(*root);
        while let Some(id) = parent {
            for position in self.facts.replies(id, None) {
                if found.len() < THREAD_MAX && seen.insert(position.id) {
                    found.push(position);
                } else if found.len() >= THREAD_MAX {
                    break;
                }
            }
            parent = found.get(next).map(|position| position.id);
            next += 1;
        }
        found.sort_unstable();
        found.iter().filter_map(|position| self.message(&position.id)).collect()
    }

    /// Pinned messages, last pinned first: at most `limit` (and [`PAGE_MAX`]).
    pub fn pinned(&self, limit: usize) -> Vec<MessageView<'_>> {
        self.facts.pinned().take(limit.min(PAGE_MAX)).map(|slot| self.view(slot)).collect()
    }

    /// What `person` has not read, having read up to Lamport time `read`: one's
    /// own, deleted and hidden messages do not count.
    pub fn unread(&self, person: &PersonId, read: u64) -> Unread {
        let mut out = Unread::default();
        let newer = self.messages.before(None).take_while(|slot| self.messages.get(*slot).lamport > read);
        for (looked_at, slot) in newer.enumerate() {
            if looked_at == UNREAD_SCAN_MAX {
                out.more = true;
                break;
            }
            let message = self.view(slot);
            if message.author() == *person || message.is_deleted() || message.is_hidden() {
                continue;
            }
            out.messages += 1;
            let Position { lamport, id, .. } = message.position();
            if self.activity.contains_key(&(*person, Stamp { lamport, id })) {
                out.for_me += 1;
            }
        }
        out
    }
}
