//! Whether words count: by what their author was entitled to, and by fences.

use std::sync::Arc;

use super::Community;
use crate::charter::View;
use crate::event::keys::Audience;
use crate::feed::{FeedId, Stream, VerifiedEvent};
use crate::id::{ChangeHash, DeviceId};

/// Whether words count, and what is to be said about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordStanding {
    /// They count.
    Counts,
    /// They were written in knowledge of charter events that are not here yet.
    Waiting,
    /// They lie beyond a fence.
    Void,
    /// Their author had no right to write there.
    NotEntitled,
}

/// Whether a feed's author may write there under some heads.
pub(super) struct Entitled {
    feed: FeedId,
    heads: Arc<[ChangeHash]>,
    standing: WordStanding,
}

impl Community {
    /// Whether an event outside charter and ledger counts, by what its author
    /// was entitled to, and by fences.
    pub fn word_standing(&self, event: &VerifiedEvent) -> WordStanding {
        let feed = &event.feed;
        if self.charter.is_beyond_fence(feed, event.seq, &event.hash) || self.is_beyond_rotation(event) {
            return WordStanding::Void;
        }
        if let Some(last) = &*self.entitled.borrow()
            && last.feed == *feed
            && Arc::ptr_eq(&last.heads, &event.heads)
        {
            return last.standing;
        }
        let standing = match self.charter.seen_from(&event.heads) {
            None => WordStanding::Waiting,
            Some(view) if self.may_write(&view, &feed.device, &feed.stream) => WordStanding::Counts,
            Some(_) => WordStanding::NotEntitled,
        };
        self.entitled.replace(Some(Entitled { feed: *feed, heads: event.heads.clone(), standing }));
        standing
    }

    /// Whether this device may write in a stream, as things are.
    pub fn may_write_now(&self, stream: &Stream) -> bool {
        self.may_write(&self.charter.now(), &self.local.device, stream)
    }

    fn may_write(&self, view: &View<'_>, device: &DeviceId, stream: &Stream) -> bool {
        view.may_write(device, stream)
            && match stream {
                Stream::Direct(direct) => view.member_of(device).is_some_and(|person| {
                    self.epochs.direct_people(direct).is_some_and(|people| people.contains(&person))
                }),
                _ => true,
            }
    }

    /// In audiences that a remover cannot see, the first rotation after the
    /// removal says how far the removed person's feeds count.
    fn is_beyond_rotation(&self, event: &VerifiedEvent) -> bool {
        let Some(audience) = event.feed.stream.audience() else { return false };
        if !matches!(audience, Audience::Channel(_) | Audience::Direct(_)) {
            return false;
        }
        self.epochs.fences(&self.charter, &audience, &event.feed.device).any(|fence| {
            fence.entry(&event.feed.device, &event.feed.stream).is_some_and(|entry| {
                let (place, end) = ((event.feed.segment, event.seq), (entry.segment, entry.seq));
                place > end || (place == end && event.hash != entry.head)
            })
        })
    }
}
