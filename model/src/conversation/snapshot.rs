//! A conversation as bytes: to open it without replaying its feeds, and to
//! compare it between peers.
//!
//! `[version, content, marks]` in canonical CBOR. The content is what the facts
//! say; the marks come from outside the conversation's feeds and are no part of
//! its hash. Indexes are not written; they are made again. Decoding takes bytes
//! from anyone: it rebuilds the conversation through the same doors as
//! [`Conversation::insert`], within the same bounds, and then demands that the
//! result encodes to these very bytes. Only memory in proportion to the bytes is
//! taken.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::codec::{self, DecodeError};
use crate::event::TalkEvent;
use crate::event::talk::Attachment;
use crate::hash::blake3;
use crate::id::{BlobHash, ChangeHash, CommunityId, PersonId};
use crate::register::Stamp;
use crate::snapshot::{SNAPSHOT_VERSION, SnapshotError, array_len, expect_array, expect_version};

use super::check::Post;
use super::facts::{Edits, Fact, Pin, Said};
use super::messages::{Slot, Writer};
use super::{Conversation, Marks, Place, Spoken, Taken, check};

/// Largest snapshot that is read. A larger conversation is made from its feeds.
pub const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// One message with all that hangs on it. The tail that it lacks is not written.
#[derive(Encode, Decode)]
struct Record<'a> {
    #[n(0)]
    id: ChangeHash,
    #[n(1)]
    lamport: u64,
    #[n(2)]
    time_ms: i64,
    /// Number in the sorted list of writers.
    #[n(3)]
    writer: u32,
    #[b(4)]
    text: Option<&'a str>,
    #[n(5)]
    parent: Option<ChangeHash>,
    #[n(6)]
    more: Option<More>,
}

/// What few messages have.
#[derive(Default, PartialEq, Encode, Decode)]
struct More {
    #[n(0)]
    mentions: Vec<PersonId>,
    #[n(1)]
    attachments: Vec<Attachment>,
    #[n(2)]
    edits: Option<Edits>,
    #[n(3)]
    pin: Option<Pin>,
    #[n(4)]
    reactions: Vec<ReactionRecord>,
}

#[derive(PartialEq, Encode, Decode)]
struct ReactionRecord {
    #[n(0)]
    person: PersonId,
    #[n(1)]
    reaction: Box<str>,
    #[n(2)]
    stamp: Stamp,
    #[n(3)]
    on: bool,
}

/// A fact that waits.
#[derive(Encode, Decode)]
struct WaitingRecord {
    #[n(0)]
    message: ChangeHash,
    #[n(1)]
    stamp: Stamp,
    #[n(2)]
    person: PersonId,
    #[n(3)]
    fact: Fact,
}

/// What the facts say: `[community, place, people, writers, messages, waiting]`,
/// messages in order, everything else by id.
struct Content<'a>(&'a Conversation);

impl<C> Encode<C> for Content<'_> {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let Self(conversation) = self;
        let messages = &conversation.messages;
        e.array(6)?
            .encode(conversation.community)?
            .encode(conversation.place)?
            .encode(&conversation.people)?;
        let writers: Vec<&Writer> = messages.writers().keys().collect();
        e.encode(&writers)?;
        let mut ranks = vec![0; writers.len()];
        for (rank, number) in (0_u32..).zip(messages.writers().values()) {
            ranks[*number as usize] = rank;
        }
        e.array(messages.len() as u64)?;
        for slot in messages.ascending() {
            e.encode(conversation.record(slot, &ranks))?;
        }
        let waiting = conversation.waiting.iter();
        e.array(waiting.len() as u64)?;
        for (message, said, fact) in waiting {
            let Said { stamp, person } = said;
            e.encode(WaitingRecord { message, stamp, person, fact: fact.clone() })?;
        }
        Ok(())
    }
}

impl Conversation {
    /// The conversation as bytes. Equal conversations give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&(SNAPSHOT_VERSION, Content(self), &self.marks))
    }

    /// The state hash: BLAKE3 of `("exo/conversation/1", content)`. Peers that
    /// took the same facts, with none deferred, have the same one; marks from
    /// outside are not in it.
    pub fn hash(&self) -> BlobHash {
        blake3(&codec::encode(&("exo/conversation/1", Content(self))))
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`SnapshotError`], for anything that `encode` cannot have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(DecodeError::TooLong { len: bytes.len(), max: SNAPSHOT_BYTES_MAX }.into());
        }
        let mut d = Decoder::new(bytes);
        expect_array(&mut d, 3)?;
        expect_version(&mut d)?;
        let mut conversation = decode_content(&mut d)?;
        let marks: BTreeMap<ChangeHash, Marks> = d.decode()?;
        if marks.len() > super::MARKS_MAX {
            return Err(SnapshotError::Content("too many marks"));
        }
        // A mark that says nothing is not kept, which the comparison below sees.
        conversation.marks = marks;
        conversation.marks.retain(|_, marks| *marks != Marks::default());
        if conversation.encode() == bytes { Ok(conversation) } else { Err(DecodeError::NotCanonical.into()) }
    }

    fn record(&self, slot: Slot, ranks: &[u32]) -> Record<'_> {
        let message = self.messages.get(slot);
        let facts = &self.facts;
        let more = More {
            mentions: facts.mentions(slot).to_vec(),
            attachments: facts.attachments(slot).to_vec(),
            edits: facts.edits(slot).cloned(),
            pin: facts.pin_of(slot).cloned(),
            reactions: facts
                .reactions(slot)
                .map(|(person, reaction, held)| ReactionRecord {
                    person,
                    reaction: reaction.into(),
                    stamp: held.stamp,
                    on: held.on,
                })
                .collect(),
        };
        Record {
            id: message.id,
            lamport: message.lamport,
            time_ms: message.time_ms,
            writer: ranks[message.writer as usize],
            text: message.text.as_deref(),
            parent: facts.parent(slot),
            more: (more != More::default()).then_some(more),
        }
    }

    /// Puts one message back, with what hangs on it.
    fn restore(&mut self, record: Record<'_>, writers: &[Writer]) -> Result<(), SnapshotError> {
        let (author, device) = *usize::try_from(record.writer)
            .ok()
            .and_then(|writer| writers.get(writer))
            .ok_or(SnapshotError::Content("a message has no writer"))?;
        let Record { id, lamport, time_ms, text, parent, .. } = record;
        if text.is_none() && record.more.is_some() {
            return Err(SnapshotError::Content("something hangs on a deleted message"));
        }
        let more = record.more.unwrap_or_default();
        // A deleted message passes as one with a text of its own, until below.
        let post = Post {
            text: text.unwrap_or("deleted"),
            reply_to: parent,
            mentions: &more.mentions,
            attachments: &more.attachments,
        };
        check::post(&post).map_err(|_| SnapshotError::Content("a message is malformed"))?;
        let spoken = Spoken { id, author, device, lamport, time_ms };
        if !matches!(self.post(&spoken, post), Taken::Changed(_)) {
            return Err(SnapshotError::Content("a message is there twice, or too many are"));
        }
        let slot = self.messages.slot(&id).ok_or(SnapshotError::Content("a message has no place"))?;
        if text.is_none() {
            self.apply(slot, Said { stamp: spoken.stamp(), person: author }, Fact::Deleted);
        }
        if let Some(edits) = more.edits {
            self.restore_edits(slot, &edits)?;
        }
        if let Some(pin) = more.pin {
            self.facts.pin(slot, Said { stamp: pin.stamp, person: pin.person }, pin.on);
        }
        for ReactionRecord { person, reaction, stamp, on } in more.reactions {
            let event = TalkEvent::Reacted { message: id, reaction: reaction.clone().into(), on };
            check::fact(&event).map_err(|_| SnapshotError::Content("a reaction is malformed"))?;
            self.apply(slot, Said { stamp, person }, Fact::Reacted { reaction, on });
        }
        Ok(())
    }

    /// The text is already the edited one; only the count and the stamp are told.
    /// The last edit need not be among the counted ones where these are full.
    fn restore_edits(&mut self, slot: Slot, edits: &Edits) -> Result<(), SnapshotError> {
        let Edits { last, counted } = edits;
        let full = counted.len() == super::EDITS_COUNTED_MAX;
        let last_known = counted.contains(&last.id) || (full && counted.last() < Some(&last.id));
        if !last_known || counted.len() > super::EDITS_COUNTED_MAX {
            return Err(SnapshotError::Content("the edits of a message do not add up"));
        }
        self.facts.edit(slot, *last);
        for id in counted {
            self.facts.edit(slot, Stamp { lamport: 0, id: *id }.min(*last));
        }
        Ok(())
    }
}

fn decode_content(d: &mut Decoder<'_>) -> Result<Conversation, SnapshotError> {
    expect_array(d, 6)?;
    let community: CommunityId = d.decode()?;
    let place: Place = d.decode()?;
    let people: Option<BTreeSet<PersonId>> = d.decode()?;
    let mut conversation = Conversation::new(community, place);
    if let Some(people) = people {
        let people: Vec<PersonId> = people.into_iter().collect();
        let opened = TalkEvent::DirectOpened { people: people.clone() };
        let known = check::fact(&opened).is_ok()
            && people.first().is_some_and(|author| conversation.open(author, &people) == Taken::Opened);
        if !known {
            return Err(SnapshotError::Content("these are not the people of this conversation"));
        }
    }
    let writers: Vec<Writer> = d.decode()?;
    for _ in 0..array_len(d)? {
        let record: Record<'_> = d.decode()?;
        conversation.restore(record, &writers)?;
    }
    for _ in 0..array_len(d)? {
        let WaitingRecord { message, stamp, person, fact } = d.decode()?;
        check::fact(&fact.to_event(message)).map_err(|_| SnapshotError::Content("a fact is malformed"))?;
        if conversation.tell(message, Said { stamp, person }, fact) != Taken::Waits {
            return Err(SnapshotError::Content("a fact has nothing to wait for, or no room"));
        }
    }
    Ok(conversation)
}

impl PartialEq for Conversation {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Eq for Conversation {}
