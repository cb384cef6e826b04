//! From an accepted change to the event in it: reads the envelope, opens the
//! seal.
//!
//! Behind the gate, before `reduce`. What cannot be opened stays in its feed;
//! when the key arrives, the feed is read again. Never here: any judgement of
//! what an event means.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Change, FeedId, FeedPosition, LineId, Meaningless, Stream, VerifiedEvent};
use crate::envelope::{Envelope, EnvelopeError, sealed_context};
use crate::event::Event;
use crate::id::{ChangeHash, CommunityId, KeyId};
use crate::sealing::{Cipher, EpochKey};

/// Keys this device holds, ready to open with.
#[derive(Default)]
pub struct Keyring {
    keys: BTreeMap<KeyId, (EpochKey, Cipher)>,
}

impl Keyring {
    /// Takes a key; returns whether it is new.
    pub fn insert(&mut self, key: EpochKey) -> bool {
        let cipher = Cipher::new(&key);
        self.keys.insert(key.id(), (key, cipher)).is_none()
    }

    /// Whether the key is here.
    pub fn contains(&self, id: &KeyId) -> bool {
        self.keys.contains_key(id)
    }

    /// The key itself, to seal it for someone.
    pub fn key(&self, id: &KeyId) -> Option<&EpochKey> {
        self.keys.get(id).map(|(key, _)| key)
    }

    /// The key, ready to seal and open contents with.
    pub fn cipher(&self, id: &KeyId) -> Option<&Cipher> {
        self.keys.get(id).map(|(_, cipher)| cipher)
    }

    /// Every key that is here, by id.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.keys()
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

/// What a feed's next change inherits from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedContext {
    /// The last change that was read.
    pub at: FeedPosition,
    /// Charter heads it was written under.
    pub heads: Arc<[ChangeHash]>,
    /// The key it was sealed with.
    pub key: Option<KeyId>,
}

impl Default for FeedContext {
    fn default() -> Self {
        Self { at: FeedPosition::START, heads: Arc::new([]), key: None }
    }
}

impl FeedContext {
    /// Passes over the change after the last one, whose hash is `hash`: what
    /// follows inherits from it all the same. For where a line parts.
    pub fn pass_over(&mut self, feed: &FeedId, change: &Change, hash: ChangeHash) {
        self.at = FeedPosition { seq: self.at.seq + 1, hash };
        if let Ok(envelope) = Envelope::decode(&change.payload) {
            // What means nothing leaves nothing behind.
            let _ = self.inherit(feed, &envelope);
        }
    }

    /// Takes what the change that `at` names leaves to the next.
    fn inherit(&mut self, feed: &FeedId, envelope: &Envelope) -> Result<(), EnvelopeError> {
        // The gate let only a first change carry the end of a segment before.
        if envelope.previous.is_some() && (self.at.seq != 1 || feed.segment == 0) {
            return Err(EnvelopeError::Heads);
        }
        if let Some(heads) = &envelope.heads {
            self.heads = heads.as_slice().into();
        }
        if envelope.key.is_some() {
            self.key = envelope.key;
        }
        Ok(())
    }

    /// Reads the change after the last one, whose hash is `hash`.
    pub fn open(
        &mut self,
        line: &LineId,
        change: &Change,
        hash: ChangeHash,
        keyring: &Keyring,
    ) -> VerifiedEvent {
        let feed = &line.feed;
        let seq = self.at.seq + 1;
        let mut previous = self.at.hash;
        self.at = FeedPosition { seq, hash };
        // Only a charter's first change can be the one its community is named by.
        let founding = feed.stream == Stream::Charter
            && feed.segment == 0
            && seq == 1
            && blake3::hash(&change.payload).as_bytes() == feed.community.as_bytes();
        let envelope = Envelope::decode(&change.payload);
        let mut lamport = 0;
        let event = envelope.map_err(Meaningless::from).and_then(|envelope| {
            lamport = envelope.lamport;
            self.inherit(feed, &envelope)?;
            if let Some(end) = &envelope.previous {
                previous = end.end.hash;
            }
            self.read(feed, seq, &envelope, founding, keyring)
        });
        VerifiedEvent {
            feed: *feed,
            seq,
            hash,
            line: line.number,
            previous,
            time_ms: change.time_ms,
            lamport,
            heads: self.heads.clone(),
            founding,
            event,
        }
    }

    fn read(
        &self,
        feed: &FeedId,
        seq: u64,
        envelope: &Envelope,
        founding: bool,
        keyring: &Keyring,
    ) -> Result<Event, Meaningless> {
        let event = if feed.stream == Stream::Keys {
            Event::decode(&envelope.body)?
        } else {
            let id = self.key.ok_or(Meaningless::Seal)?;
            let cipher = keyring.cipher(&id).ok_or(Meaningless::NoKey(id))?;
            // A founding event was sealed before its community had an id.
            let unnamed = FeedId { community: CommunityId::from_bytes([0; 32]), ..*feed };
            let feed = if founding { &unnamed } else { feed };
            let context = sealed_context(feed, seq, envelope.lamport, envelope.heads.as_deref(), self.key);
            let mut opened = Vec::with_capacity(envelope.body.len());
            cipher.open_into(&context, &envelope.body, &mut opened).map_err(|_| Meaningless::Seal)?;
            Event::decode(&opened)?
        };
        if event.belongs_in(&feed.stream) { Ok(event) } else { Err(Meaningless::WrongStream) }
    }
}
