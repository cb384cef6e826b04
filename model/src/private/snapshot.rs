//! The private state as bytes: to open it without replaying its feeds.
//!
//! Canonical CBOR. Decoding takes bytes from anyone: what is read is written
//! again through [`PrivateState::insert`], with its checks and bounds, and the
//! result must encode to these very bytes. Only memory in proportion to the
//! bytes is taken.

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::codec::{self, DecodeError};
use crate::event::PrivateEvent;
use crate::event::private::{Notify, Speaker, Subject, TURN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::hash::blake3;
use crate::id::{BlobHash, ChangeHash, CommunityId, PersonId, ThreadId};
use crate::register::Stamp;
use crate::snapshot::{SNAPSHOT_VERSION, SnapshotError, array_len, expect_array, expect_version};
use crate::trust::TrustLevel;

use super::threads::{Thread, Threads};
use super::{Membership, Noted, PrivateState, Written};

/// Largest snapshot that is read. A larger state is made from its feeds.
pub const SNAPSHOT_BYTES_MAX: usize = 3 << 29;
/// Number of parts of a snapshot, the version first.
const PARTS: u64 = 13;

/// A thread without its turns.
#[derive(Encode, Decode)]
struct ThreadRecord<'a> {
    #[n(0)]
    id: ThreadId,
    #[n(1)]
    deleted: bool,
    #[b(2)]
    titled: Option<Titled<'a>>,
    #[n(3)]
    chosen: Option<(Stamp, ChangeHash)>,
}

#[derive(Encode, Decode)]
struct Titled<'a> {
    #[n(0)]
    stamp: Stamp,
    #[b(1)]
    title: &'a str,
    #[b(2)]
    folder: &'a str,
}

/// A turn; one whose thread is gone has only a place and a size.
#[derive(Encode, Decode)]
struct TurnRecord<'a> {
    #[n(0)]
    thread: ThreadId,
    #[n(1)]
    stamp: Stamp,
    #[n(2)]
    bytes: u32,
    #[b(3)]
    said: Option<SaidRecord<'a>>,
}

#[derive(Encode, Decode)]
struct SaidRecord<'a> {
    #[n(0)]
    time_ms: i64,
    #[n(1)]
    parent: Option<ChangeHash>,
    #[n(2)]
    speaker: Speaker,
    #[b(3)]
    text: &'a str,
    #[b(4)]
    about: &'a str,
}

/// `[threads by id, the newest turn left out, turns by stamp]`, inlined as three
/// parts.
struct ThreadParts<'a>(&'a Threads);

impl<C> Encode<C> for ThreadParts<'_> {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let Self(threads) = self;
        e.array(threads.by_id.len() as u64)?;
        for (id, thread) in &threads.by_id {
            e.encode(thread_record(*id, thread.as_ref()))?;
        }
        e.encode(threads.window.below())?;
        let turns = threads.window.iter();
        e.array(turns.len() as u64)?;
        for (stamp, thread, bytes) in turns {
            let said =
                threads.get(&thread).and_then(|held| held.turns.get(&stamp.id)).map(|turn| SaidRecord {
                    time_ms: turn.time_ms,
                    parent: turn.parent,
                    speaker: turn.speaker,
                    text: &turn.text,
                    about: &turn.about,
                });
            e.encode(TurnRecord { thread, stamp, bytes, said })?;
        }
        Ok(())
    }
}

fn thread_record(id: ThreadId, thread: Option<&Thread>) -> ThreadRecord<'_> {
    let titled = thread.and_then(|held| held.titled.as_ref()).map(|(stamp, title, folder)| Titled {
        stamp: *stamp,
        title,
        folder,
    });
    let chosen = thread.and_then(|held| held.chosen);
    ThreadRecord { id, deleted: thread.is_none(), titled, chosen }
}

/// All parts.
struct Content<'a>(&'a PrivateState);

impl<C> Encode<C> for Content<'_> {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let PrivateState { threads, texts, attention, trust, communities } = self.0;
        e.array(PARTS)?.encode(SNAPSHOT_VERSION)?;
        e.encode(ThreadParts(threads))?;
        e.encode(&texts.prompts)?.encode(&texts.drafts)?.encode(&texts.settings)?;
        e.encode(&attention.reads)?.encode(&attention.notify)?;
        e.encode(&attention.blocked)?.encode(&attention.hidden)?;
        e.encode(trust)?.encode(communities)?;
        Ok(())
    }
}

impl PrivateState {
    /// The state as bytes. Equal states give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&Content(self))
    }

    /// The state hash: BLAKE3 of `("exo/private/1", snapshot)`. Devices that have
    /// the same facts have the same one.
    pub fn hash(&self) -> BlobHash {
        blake3(&codec::encode(&("exo/private/1", Content(self))))
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
        expect_array(&mut d, PARTS)?;
        expect_version(&mut d)?;
        let mut state = Self::default();
        state.read_threads(&mut d)?;
        state.read_registers(&mut d)?;
        if state.encode() == bytes { Ok(state) } else { Err(DecodeError::NotCanonical.into()) }
    }

    fn read_threads(&mut self, d: &mut Decoder<'_>) -> Result<(), SnapshotError> {
        for _ in 0..array_len(d)? {
            let ThreadRecord { id: thread, deleted, titled, chosen } = d.decode()?;
            self.threads.entry(thread);
            if deleted {
                self.rewrite(
                    Stamp { lamport: 0, id: ChangeHash::from_bytes([0; 32]) },
                    &PrivateEvent::ThreadDeleted { thread },
                )?;
            }
            if let Some(Titled { stamp, title, folder }) = titled {
                let (title, folder) = (title.to_owned(), folder.to_owned());
                self.rewrite(stamp, &PrivateEvent::ThreadTitled { thread, title, folder })?;
            }
            if let Some((stamp, leaf)) = chosen {
                self.rewrite(stamp, &PrivateEvent::BranchChosen { thread, leaf })?;
            }
        }
        self.threads.window.start_above(d.decode()?);
        for _ in 0..array_len(d)? {
            let record: TurnRecord<'_> = d.decode()?;
            self.read_turn(record)?;
        }
        Ok(())
    }

    fn read_turn(&mut self, record: TurnRecord<'_>) -> Result<(), SnapshotError> {
        let TurnRecord { thread, stamp, bytes, said } = record;
        let Some(SaidRecord { time_ms, parent, speaker, text, about }) = said else {
            let gone = match self.threads.by_id.get(&thread) {
                Some(held) => held.is_none(),
                None => self.threads.is_full(),
            };
            let possible =
                gone && usize::try_from(bytes).is_ok_and(|bytes| bytes <= TURN_BYTES_MAX + VALUE_BYTES_MAX);
            let noted = possible && self.threads.note(thread, stamp, bytes);
            return if noted {
                Ok(())
            } else {
                Err(SnapshotError::Content("a turn has no text, or no place"))
            };
        };
        let written = Written { id: stamp.id, lamport: stamp.lamport, time_ms };
        let (text, about) = (text.to_owned(), about.to_owned());
        self.rewrite_at(&written, &PrivateEvent::TurnAdded { thread, parent, speaker, text, about })
    }

    fn read_registers(&mut self, d: &mut Decoder<'_>) -> Result<(), SnapshotError> {
        self.read_each(d, |name: String, text| PrivateEvent::PromptSaved { name, text })?;
        self.read_each(d, |subject: Subject, text| PrivateEvent::DraftSaved { subject, text })?;
        self.read_each(d, |name: String, value| PrivateEvent::SettingSet { name, value })?;
        for _ in 0..array_len(d)? {
            let (subject, read, ()): (Subject, Stamp, ()) = d.decode()?;
            self.rewrite(read, &PrivateEvent::ReadUpTo { subject, lamport: read.lamport })?;
        }
        self.read_each(d, |subject: Subject, notify: Notify| PrivateEvent::NotifySet { subject, notify })?;
        self.read_each(d, |person: PersonId, blocked| PrivateEvent::BlockSet { person, blocked })?;
        self.read_each(d, |message: ChangeHash, hidden| PrivateEvent::HideSet { message, hidden })?;
        self.read_each(d, |person: PersonId, level: Option<TrustLevel>| PrivateEvent::TrustOverridden {
            person,
            level,
        })?;
        self.read_each(d, |community: CommunityId, Membership { name, archived }| {
            PrivateEvent::CommunityJoined { community, name: name.into(), archived }
        })
    }

    fn read_each<'b, K, V>(
        &mut self,
        d: &mut Decoder<'b>,
        event: impl Fn(K, V) -> PrivateEvent,
    ) -> Result<(), SnapshotError>
    where
        K: Decode<'b, ()>,
        V: Decode<'b, ()>,
    {
        for _ in 0..array_len(d)? {
            let (key, stamp, value): (K, Stamp, V) = d.decode()?;
            self.rewrite(stamp, &event(key, value))?;
        }
        Ok(())
    }

    fn rewrite(&mut self, stamp: Stamp, event: &PrivateEvent) -> Result<(), SnapshotError> {
        self.rewrite_at(&Written { id: stamp.id, lamport: stamp.lamport, time_ms: 0 }, event)
    }

    fn rewrite_at(&mut self, written: &Written, event: &PrivateEvent) -> Result<(), SnapshotError> {
        match self.insert(written, event) {
            Noted::Changed => Ok(()),
            Noted::Unchanged => Err(SnapshotError::Content("something is there twice, or too much is")),
            Noted::Malformed(_) => Err(SnapshotError::Content("a fact is malformed")),
        }
    }
}

impl PartialEq for PrivateState {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Eq for PrivateState {}
