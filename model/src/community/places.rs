//! Where feeds end, and how much room there is.

use std::collections::BTreeSet;

use super::Community;
use crate::feed::fence::{Fence, FenceEntry};
use crate::feed::{FeedId, FeedPosition, LineId, Stream};
use crate::id::{ChangeHash, DeviceId};

impl Community {
    /// Where every feed of a device ends that is known here.
    pub fn fence_of(&self, devices: &BTreeSet<DeviceId>) -> Fence {
        Fence::new(self.frontier().filter(|(feed, _)| devices.contains(&feed.device)).map(|(feed, end)| {
            FenceEntry {
                device: feed.device,
                stream: feed.stream,
                segment: feed.segment,
                seq: end.seq,
                head: end.hash,
            }
        }))
    }

    /// Where each stream of each device ends: its last segment that is here.
    /// Of a feed whose lines part, the line that arrived first.
    pub fn frontier(&self) -> impl Iterator<Item = (FeedId, FeedPosition)> + '_ {
        let first_lines =
            self.contexts.iter().filter(|(line, context)| line.number == 0 && context.at.seq > 0);
        let mut feeds = first_lines.map(|(line, context)| (line.feed, context)).peekable();
        std::iter::from_fn(move || {
            loop {
                let (feed, context) = feeds.next()?;
                let is_last =
                    feeds.peek().is_none_or(|(next, _)| next.with_segment(0) != feed.with_segment(0));
                if is_last {
                    return Some((feed, context.at));
                }
            }
        })
    }

    /// How many charter events of a device more may wait for their past; a run
    /// that brings more is left for later.
    pub fn waiting_room(&self, device: &DeviceId) -> usize {
        self.charter.waiting_room(device)
    }

    /// Whether changes of this feed are here.
    pub fn knows_feed(&self, feed: &FeedId) -> bool {
        self.contexts.contains_key(&(*feed).into())
    }

    /// How many feeds of a device are here, segments and lines counted.
    pub fn feeds_of(&self, device: &DeviceId) -> usize {
        let first = FeedId::new(self.id, *device, Stream::Keys);
        let of_device = self.contexts.range(LineId::from(first)..);
        of_device.take_while(|(line, _)| line.feed.device == *device).count()
    }

    /// Charter heads: what a new event cites.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.charter.heads()
    }
}
