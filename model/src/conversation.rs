//! Conversations: what people see of the words in one channel, or between a few
//! people.
//!
//! Flow: the [`TalkEvent`]s of the stream's feeds come in, in any order and in
//! batches; out come pages of messages with their edits, reactions and pins,
//! what is unread, and what concerns one person. The result is a function of
//! the set of facts that were taken: order, batching and repetition change
//! nothing. Ids are those of changes, so one id never comes with two contents.
//!
//! - Messages stand in the order of [`Position`].
//! - An edit or a deletion counts if the person of the message says it. The last
//!   edit by [`Stamp`] stands. A deletion is final: text, attachments, mentions,
//!   reactions and pin are dropped at once, also when it comes first.
//! - A reaction is a register per message, person and reaction, a pin one per
//!   message: the last word by [`Stamp`] stands.
//! - A fact about a message that is not here waits, within bounds; beyond them
//!   it is [deferred](Taken::Deferred): not taken, to be fed again later.
//! - What is malformed counts for nothing.
//!
//! Never here: who may speak or moderate (the charter says), blocking and read
//! positions ([`private`](crate::private)), fetching, search.

mod activity;
mod check;
mod facts;
mod messages;
mod snapshot;
mod view;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use crate::codec;
use crate::event::TalkEvent;
use crate::feed::VerifiedEvent;
use crate::hash::blake3;
use crate::id::{ChangeHash, ChannelId, CommunityId, DeviceId, DirectId, PersonId};
use crate::register::Stamp;

pub use crate::snapshot::{SNAPSHOT_VERSION, SnapshotError};
pub use activity::{Activity, Cause};
pub use check::{ATTACHMENT_SIZE_MAX, Fault, MEDIA_TYPE_BYTES_MAX};
pub use facts::{EDITS_COUNTED_MAX, REACTIONS_PER_PERSON_MAX};
pub use messages::MESSAGES_MAX;
pub use snapshot::SNAPSHOT_BYTES_MAX;
pub use view::{MessageView, PAGE_MAX, THREAD_MAX, UNREAD_SCAN_MAX, Unread};
pub use waiting::{WAITING_BYTES_MAX, WAITING_BYTES_PER_PERSON_MAX, WAITING_FACT_BYTES};

use activity::ActivityIndex;
use check::Post;
use facts::{Fact, Facts, Said};
use messages::{Messages, Slot};
use waiting::Waiting;

/// Most messages that carry a mark from outside ([`Conversation::mark_forked`],
/// [`Conversation::set_hidden`]), here or not. Beyond it a new mark is refused.
pub const MARKS_MAX: usize = 1 << 20;

/// Which conversation of a community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Place {
    /// A channel.
    #[n(0)]
    Channel(#[n(0)] ChannelId),
    /// Between a few people.
    #[n(1)]
    Direct(#[n(0)] DirectId),
}

/// Who said a fact, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The change that carries it.
    pub id: ChangeHash,
    /// The person of the device.
    pub author: PersonId,
    /// The device whose feed it is in.
    pub device: DeviceId,
    /// Lamport time; grows along every feed.
    pub lamport: u64,
    /// Wall time of writing, ms since the Unix epoch.
    pub time_ms: i64,
}

impl Spoken {
    /// The circumstances of a verified event whose device belongs to `author`.
    pub const fn of(event: &VerifiedEvent, author: PersonId) -> Self {
        Self {
            id: event.hash,
            author,
            device: event.feed.device,
            lamport: event.lamport,
            time_ms: event.time_ms,
        }
    }

    const fn stamp(&self) -> Stamp {
        Stamp { lamport: self.lamport, id: self.id }
    }

    const fn position(&self) -> Position {
        Position { lamport: self.lamport, time_ms: self.time_ms, id: self.id }
    }
}

/// Where a message stands: by Lamport time, so that answers come after what they
/// answer; then by wall time, for words written apart; then by hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Lamport time.
    pub lamport: u64,
    /// Wall time, ms since the Unix epoch.
    pub time_ms: i64,
    /// The message.
    pub id: ChangeHash,
}

/// What became of one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This message is new or looks different now.
    Changed(ChangeHash),
    /// The people of a direct conversation are known now.
    Opened,
    /// Known before, overtaken by a later word, not the speaker's to say, or
    /// about a deleted message.
    Unchanged,
    /// The message is not here; the fact is kept until it comes.
    Waits,
    /// The message is not here and there is no room to wait: the fact is *not*
    /// taken. Feed it again once this message is here.
    Deferred(ChangeHash),
    /// [`MESSAGES_MAX`] is reached: the message is *not* taken.
    Full,
    /// It can mean nothing, ever.
    Malformed(Fault),
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Messages that are new or look different, by id.
    pub changed: Vec<ChangeHash>,
    /// Facts that were not taken, each with the message it needs: to be fed
    /// again once that is here.
    pub deferred: Vec<(ChangeHash, ChangeHash)>,
    /// Messages that were not taken because the conversation is full.
    pub full: Vec<ChangeHash>,
}

/// The id of the direct conversation between `people`: the first half of the
/// BLAKE3 hash of `("exo/direct/1", community, people)`.
pub fn direct_id(community: &CommunityId, people: &BTreeSet<PersonId>) -> DirectId {
    let hash = blake3(&codec::encode(&("exo/direct/1", *community, people)));
    let mut id = [0; DirectId::LEN];
    id.copy_from_slice(&hash.as_bytes()[..DirectId::LEN]);
    DirectId::from_bytes(id)
}

/// Checks what someone is about to say: what fails here counts for nothing.
///
/// # Errors
/// See [`Fault`].
pub fn check(event: &TalkEvent) -> Result<(), Fault> {
    check::fact(event)
}

/// The people that an opening of `direct` names, if they are the ones the
/// conversation is named by.
pub fn direct_people(
    community: &CommunityId,
    direct: &DirectId,
    people: &[PersonId],
) -> Option<BTreeSet<PersonId>> {
    let set: BTreeSet<PersonId> = people.iter().copied().collect();
    (set.len() == people.len() && direct_id(community, &set) == *direct).then_some(set)
}

/// One conversation, as far as its facts are here. Two are equal when their
/// contents are, however they came about.
#[derive(Clone, Debug)]
pub struct Conversation {
    community: CommunityId,
    place: Place,
    people: Option<BTreeSet<PersonId>>,
    messages: Messages,
    facts: Facts,
    activity: ActivityIndex,
    waiting: Waiting,
    marks: BTreeMap<ChangeHash, Marks>,
}

/// What others found out about a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
struct Marks {
    #[n(0)]
    forked: bool,
    #[n(1)]
    hidden: bool,
}

impl Conversation {
    /// Nothing said yet.
    pub fn new(community: CommunityId, place: Place) -> Self {
        Self {
            community,
            place,
            people: None,
            messages: Messages::default(),
            facts: Facts::default(),
            activity: ActivityIndex::default(),
            waiting: Waiting::default(),
            marks: BTreeMap::new(),
        }
    }

    /// Which conversation this is.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Whose direct conversation it is, once somebody opened it.
    pub const fn people(&self) -> Option<&BTreeSet<PersonId>> {
        self.people.as_ref()
    }

    /// Number of messages, deleted ones among them.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes many facts, messages first, so that what a batch says about its own
    /// messages never waits.
    pub fn insert_all(&mut self, batch: &[(Spoken, TalkEvent)]) -> Batch {
        let mut out = Batch::default();
        let is_message = |event: &TalkEvent| matches!(event, TalkEvent::Posted { .. });
        for messages in [true, false] {
            for (spoken, event) in batch.iter().filter(|(_, event)| is_message(event) == messages) {
                match self.insert(spoken, event) {
                    Taken::Changed(message) => out.changed.push(message),
                    Taken::Deferred(message) => out.deferred.push((spoken.id, message)),
                    Taken::Full => out.full.push(spoken.id),
                    Taken::Opened | Taken::Unchanged | Taken::Waits | Taken::Malformed(_) => {}
                }
            }
        }
        out.changed.sort_unstable();
        out.changed.dedup();
        out
    }

    /// Takes one fact.
    pub fn insert(&mut self, spoken: &Spoken, event: &TalkEvent) -> Taken {
        if let Err(fault) = check::fact(event) {
            return Taken::Malformed(fault);
        }
        let said = Said { stamp: spoken.stamp(), person: spoken.author };
        match event {
            TalkEvent::Posted { text, reply_to, mentions, attachments } => {
                self.post(spoken, Post { text, reply_to: *reply_to, mentions, attachments })
            }
            TalkEvent::DirectOpened { people } => self.open(&spoken.author, people),
            TalkEvent::Edited { message, text } => {
                self.tell(*message, said, Fact::Edited { text: text.as_str().into() })
            }
            TalkEvent::Deleted { message } => self.tell(*message, said, Fact::Deleted),
            TalkEvent::Reacted { message, reaction, on } => {
                self.tell(*message, said, Fact::Reacted { reaction: reaction.as_str().into(), on: *on })
            }
            TalkEvent::Pinned { message, on } => self.tell(*message, said, Fact::Pinned { on: *on }),
        }
    }

    /// The message is on one of the branches of a fork of its author's feed; for
    /// good. Says whether the mark is kept (see [`MARKS_MAX`]).
    pub fn mark_forked(&mut self, message: ChangeHash) -> bool {
        self.mark(message, |marks| marks.forked = true)
    }

    /// The moderators hide the message, or show it again. Says whether the mark
    /// is kept (see [`MARKS_MAX`]).
    pub fn set_hidden(&mut self, message: ChangeHash, hidden: bool) -> bool {
        self.mark(message, |marks| marks.hidden = hidden)
    }

    fn mark(&mut self, message: ChangeHash, change: impl FnOnce(&mut Marks)) -> bool {
        let mut marks = self.marks.get(&message).copied().unwrap_or_default();
        change(&mut marks);
        if marks == Marks::default() {
            self.marks.remove(&message);
        } else if self.marks.len() < MARKS_MAX || self.marks.contains_key(&message) {
            self.marks.insert(message, marks);
        } else {
            return false;
        }
        true
    }

    fn open(&mut self, author: &PersonId, people: &[PersonId]) -> Taken {
        let Place::Direct(direct) = self.place else {
            return Taken::Malformed(Fault::NotDirect);
        };
        let set: BTreeSet<PersonId> = people.iter().copied().collect();
        if !set.contains(author) || direct_id(&self.community, &set) != direct {
            return Taken::Malformed(Fault::People);
        }
        // Two sets with one id would be a collision of the hash; even then all
        // peers keep the same one.
        if self.people.as_ref().is_some_and(|held| *held <= set) {
            return Taken::Unchanged;
        }
        self.people = Some(set);
        Taken::Opened
    }

    fn post(&mut self, spoken: &Spoken, post: Post<'_>) -> Taken {
        let Post { text, reply_to, mentions, attachments } = post;
        if self.messages.slot(&spoken.id).is_some() {
            return Taken::Unchanged;
        }
        let Some(slot) = self.messages.push(spoken, text) else {
            return Taken::Full;
        };
        self.facts.attach(slot, mentions, attachments);
        if let Some(parent) = reply_to {
            self.facts.reply(slot, parent, spoken.position());
        }
        self.note_words(slot);
        for (said, fact) in self.waiting.take(&spoken.id) {
            self.apply(slot, said, fact);
        }
        Taken::Changed(spoken.id)
    }

    /// A fact about a message: applied if that is here, else it waits.
    fn tell(&mut self, message: ChangeHash, said: Said, fact: Fact) -> Taken {
        if let Some(slot) = self.messages.slot(&message) {
            if self.apply(slot, said, fact) { Taken::Changed(message) } else { Taken::Unchanged }
        } else if self.waiting.hold(message, said, fact) {
            Taken::Waits
        } else {
            Taken::Deferred(message)
        }
    }

    fn apply(&mut self, slot: Slot, said: Said, fact: Fact) -> bool {
        let message = self.messages.get(slot);
        if message.text.is_none() {
            return false;
        }
        let author = self.messages.author(slot);
        match fact {
            Fact::Edited { text } => {
                if said.person != author || (text.is_empty() && self.facts.attachments(slot).is_empty()) {
                    return false;
                }
                let noted = self.facts.edit(slot, said.stamp);
                if noted.stands {
                    self.messages.set_text(slot, Some(text));
                }
                noted.changed
            }
            Fact::Deleted => {
                if said.person != author {
                    return false;
                }
                self.forget_activity(slot);
                self.facts.drop_all(slot);
                self.messages.set_text(slot, None);
                true
            }
            Fact::Reacted { reaction, on } => {
                let noted = self.facts.react(slot, said, reaction, on);
                self.note_reaction(slot, &author, &noted);
                noted.changed
            }
            Fact::Pinned { on } => self.facts.pin(slot, said, on),
        }
    }
}
