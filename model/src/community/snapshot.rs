//! What a replica remembers so that opening it does not mean reading every
//! word again.
//!
//! Charter, ledger, keys, machines and models are always replayed from the
//! signed changes: they are few, and everything rests on them. Of feeds of
//! words only the end and what the next change inherits is kept. A snapshot is
//! this device's own file: it is checked against the store, and thrown away
//! where it does not fit.

use minicbor::{Decode, Encode};

use super::Community;
use crate::codec::{self, DecodeError};
use crate::envelope::{HEADS_MAX, LAMPORT_MAX};
use crate::feed::opening::FeedContext;
use crate::feed::{FeedId, FeedPosition, LineId, Stream};
use crate::id::{ChangeHash, CommunityId, KeyId};

/// The version this build writes and reads.
pub const SNAPSHOT_VERSION: u8 = 2;
/// Longest snapshot, in bytes.
pub const SNAPSHOT_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Encode, Decode)]
struct Stored {
    #[n(0)]
    version: u8,
    #[n(1)]
    community: CommunityId,
    #[n(2)]
    lamport: u64,
    #[n(3)]
    feeds: Vec<StoredFeed>,
}

#[derive(Debug, Encode, Decode)]
struct StoredFeed {
    #[n(0)]
    feed: FeedId,
    #[n(1)]
    at: FeedPosition,
    #[n(2)]
    heads: Vec<ChangeHash>,
    #[n(3)]
    key: Option<KeyId>,
    /// Keys that were missing to read some of it.
    #[n(4)]
    lacking: Vec<KeyId>,
}

/// A snapshot that is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not a snapshot.
    #[error("snapshot: {0}")]
    Decode(#[from] DecodeError),
    /// Another version, another community, or out of bounds.
    #[error("the snapshot is of another version or community")]
    Other,
}

/// Whether a stream's words shape the state: then they are always replayed.
pub const fn is_replayed(stream: &Stream) -> bool {
    !matches!(stream, Stream::Channel(_) | Stream::Direct(_) | Stream::Board(_) | Stream::Private)
}

impl Community {
    /// What to remember. The people of direct conversations are learned from
    /// their first changes, so these feeds are read again too, and so are
    /// those whose lines part: they are rare.
    pub fn snapshot(&self) -> Vec<u8> {
        let parts = |feed: &FeedId| self.contexts.contains_key(&LineId { feed: *feed, number: 1 });
        let words = self.contexts.iter().filter(|(line, context)| {
            let feed = &line.feed;
            let is_word = !is_replayed(&feed.stream) && !matches!(feed.stream, Stream::Direct(_));
            is_word && context.at.seq > 0 && line.number == 0 && !parts(feed)
        });
        let feeds = words.map(|(LineId { feed, .. }, context)| StoredFeed {
            feed: *feed,
            at: context.at,
            heads: context.heads.to_vec(),
            key: context.key,
            lacking: self
                .sealed
                .iter()
                .filter(|(_, feeds)| feeds.contains(feed))
                .map(|(key, _)| *key)
                .collect(),
        });
        codec::encode(&Stored {
            version: SNAPSHOT_VERSION,
            community: self.id,
            lamport: self.lamport,
            feeds: feeds.collect(),
        })
    }

    /// Takes over what a snapshot remembers of feeds that `is_stored` says are
    /// stored so far, with this change at that place; returns how far each
    /// need not be read again. Call it before anything is inserted.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing is taken over then.
    pub fn restore(
        &mut self,
        bytes: &[u8],
        is_stored: impl Fn(&FeedId, &FeedPosition) -> bool,
    ) -> Result<Vec<(FeedId, u64)>, SnapshotError> {
        let stored: Stored = codec::decode(bytes, SNAPSHOT_BYTES_MAX)?;
        let fits = stored.version == SNAPSHOT_VERSION && stored.community == self.id;
        if !fits || stored.lamport > LAMPORT_MAX {
            return Err(SnapshotError::Other);
        }
        let mut restored = Vec::new();
        for feed in stored.feeds {
            let fits = feed.feed.community == self.id
                && !is_replayed(&feed.feed.stream)
                && feed.heads.len() <= HEADS_MAX
                && feed.at.seq > 0
                && !self.contexts.contains_key(&feed.feed.into())
                && is_stored(&feed.feed, &feed.at);
            if !fits {
                continue;
            }
            for key in feed.lacking {
                self.sealed.entry(key).or_default().insert(feed.feed);
            }
            let context = FeedContext { at: feed.at, heads: feed.heads.into(), key: feed.key };
            self.contexts.insert(feed.feed.into(), context);
            restored.push((feed.feed, feed.at.seq));
        }
        self.lamport = self.lamport.max(stored.lamport);
        Ok(restored)
    }
}
