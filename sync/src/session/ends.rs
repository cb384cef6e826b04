//! Where the lines of a community's feeds end, so that two replicas can tell
//! quickly whether they have the same, and where they differ.
//!
//! Feeds stand in the order of their [`Place`]: by stream first, so that what
//! one audience reads is one range. A range has a fingerprint, a hash over
//! the ends in it; the whole has a root. What did not change is shared between
//! one version and the next, and its hashes are kept, so that a change costs the
//! feeds of its own stream and not of all.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use exo_model::codec;
use exo_model::feed::{FeedId, FeedPosition, Stream};
use exo_model::id::{CommunityId, DeviceId};
use exo_model::port::StoredLine;

use super::FeedHead;

/// Bytes of a fingerprint.
const FINGERPRINT_LEN: usize = 16;
/// Purpose of the hash over one feed's ends.
const FEED_CONTEXT: &str = "exo-studio exo/sync/feed/1";
/// Purpose of the hash over a range of feeds.
const RANGE_CONTEXT: &str = "exo-studio exo/sync/range/1";
/// Purpose of the hash over all streams.
const ROOT_CONTEXT: &str = "exo-studio exo/sync/root/1";

/// Where a feed stands among those of its community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Place {
    /// Stream.
    #[n(0)]
    pub stream: Stream,
    /// Author.
    #[n(1)]
    pub device: DeviceId,
    /// Segment.
    #[n(2)]
    pub segment: u32,
}

impl Place {
    /// The place of a feed.
    pub const fn of(feed: &FeedId) -> Self {
        Self { stream: feed.stream, device: feed.device, segment: feed.segment }
    }

    /// The feed there.
    pub const fn feed(&self, community: CommunityId) -> FeedId {
        FeedId { community, device: self.device, stream: self.stream, segment: self.segment }
    }

    /// The first place that a stream can have.
    const fn first_of(stream: Stream) -> Self {
        Self { stream, device: DeviceId::from_bytes([0; DeviceId::LEN]), segment: 0 }
    }
}

/// Places from one on and before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PlaceRange {
    /// The first place; none for the very first.
    #[n(0)]
    pub from: Option<Place>,
    /// The first place that is not in it; none for the end.
    #[n(1)]
    pub upto: Option<Place>,
}

impl PlaceRange {
    /// All places.
    pub const ALL: Self = Self { from: None, upto: None };

    /// Whether a place lies within.
    pub fn contains(&self, place: &Place) -> bool {
        self.from.is_none_or(|from| from <= *place) && self.upto.is_none_or(|upto| *place < upto)
    }

    /// The parts between these places, which lie within and ascend.
    pub(super) fn cut_at(&self, starts: &[Place]) -> Vec<Self> {
        let froms = std::iter::once(self.from).chain(starts.iter().copied().map(Some));
        let uptos = starts.iter().copied().map(Some).chain(std::iter::once(self.upto));
        froms.zip(uptos).map(|(from, upto)| Self { from, upto }).collect()
    }

    /// Whether anything can lie within.
    pub fn is_well_formed(&self) -> bool {
        match (self.from, self.upto) {
            (Some(from), Some(upto)) => from < upto,
            _ => true,
        }
    }
}

/// A hash over the ends in a range; zeros where there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fingerprint(#[cbor(n(0), with = "minicbor::bytes")] [u8; FINGERPRINT_LEN]);

impl Fingerprint {
    /// Of a range with nothing in it.
    pub const NOTHING: Self = Self([0; FINGERPRINT_LEN]);
}

/// The lines of one feed.
#[derive(Clone, Debug)]
struct FeedEnds {
    /// By hash: which of several came first is each replica's own matter.
    ends: Arc<[FeedPosition]>,
    /// Changes stored, over all lines.
    changes: u64,
    hash: [u8; 32],
}

/// The feeds of one stream.
#[derive(Clone, Debug, Default)]
struct StreamEnds {
    feeds: BTreeMap<(DeviceId, u32), FeedEnds>,
    hash: [u8; 32],
}

/// Where all lines of a community end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ends {
    community: CommunityId,
    streams: BTreeMap<Stream, Arc<StreamEnds>>,
    root: [u8; 32],
    lines: usize,
    changes: u64,
}

impl Ends {
    /// The root where nothing is stored.
    pub const ROOT_OF_NOTHING: [u8; 32] = [0; 32];

    /// Of a community of which nothing is stored.
    pub const fn nothing(community: CommunityId) -> Self {
        Self { community, streams: BTreeMap::new(), root: Self::ROOT_OF_NOTHING, lines: 0, changes: 0 }
    }

    /// Where stored lines end; those of one feed beside each other.
    pub fn of(community: CommunityId, lines: &[StoredLine]) -> Self {
        let mut ends = Self::nothing(community);
        let mut streams: BTreeMap<Stream, StreamEnds> = BTreeMap::new();
        for of_feed in lines.chunk_by(|one, other| one.id.feed == other.id.feed) {
            let Some(first) = of_feed.first() else { continue };
            let feed = feed_ends(&first.id.feed, of_feed);
            ends.lines += feed.ends.len();
            ends.changes = ends.changes.saturating_add(feed.changes);
            let place = (first.id.feed.device, first.id.feed.segment);
            streams.entry(first.id.feed.stream).or_default().feeds.insert(place, feed);
        }
        for (stream, mut of_stream) in streams {
            of_stream.seal();
            ends.streams.insert(stream, Arc::new(of_stream));
        }
        ends.seal();
        ends
    }

    /// Takes where the lines of one feed end now.
    pub fn set(&mut self, feed: &FeedId, lines: &[StoredLine]) {
        let place = (feed.device, feed.segment);
        let of_stream = Arc::make_mut(self.streams.entry(feed.stream).or_default());
        let before = if lines.is_empty() {
            of_stream.feeds.remove(&place)
        } else {
            let new = feed_ends(feed, lines);
            self.lines += new.ends.len();
            self.changes = self.changes.saturating_add(new.changes);
            of_stream.feeds.insert(place, new)
        };
        if let Some(before) = before {
            self.lines -= before.ends.len();
            self.changes = self.changes.saturating_sub(before.changes);
        }
        of_stream.seal();
        if of_stream.feeds.is_empty() {
            self.streams.remove(&feed.stream);
        }
        self.seal();
    }

    /// Which community.
    pub const fn community(&self) -> CommunityId {
        self.community
    }

    /// Hash over everything: equal replicas have equal roots.
    pub const fn root(&self) -> [u8; 32] {
        self.root
    }

    /// Changes stored, over all lines.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// How many lines there are.
    pub const fn line_count(&self) -> usize {
        self.lines
    }

    /// Where the lines of a feed end, by hash.
    pub fn of_feed(&self, feed: &FeedId) -> &[FeedPosition] {
        let of_stream = self.streams.get(&feed.stream);
        of_stream.and_then(|of| of.feeds.get(&(feed.device, feed.segment))).map_or(&[], |feed| &feed.ends)
    }

    /// Whether some line of a feed goes on to `seq` or beyond.
    pub fn reaches(&self, feed: &FeedId, seq: u64) -> bool {
        self.of_feed(feed).iter().any(|end| end.seq >= seq)
    }

    /// Ends that are here and were not in an earlier version, at most `limit`,
    /// in the order of places.
    pub fn news_since(&self, earlier: &Self, limit: usize) -> Vec<FeedHead> {
        let mut news = Vec::new();
        for (stream, now) in &self.streams {
            let before = earlier.streams.get(stream);
            if before.is_some_and(|before| Arc::ptr_eq(before, now) || before.hash == now.hash) {
                continue;
            }
            for (place, feed) in &now.feeds {
                let known = before.and_then(|before| before.feeds.get(place));
                if known.is_some_and(|known| known.hash == feed.hash) {
                    continue;
                }
                let known = known.map_or(&[][..], |known| &known.ends);
                let place = Place { stream: *stream, device: place.0, segment: place.1 };
                let feed_id = place.feed(self.community);
                for end in feed.ends.iter().filter(|end| !known.contains(end)) {
                    if news.len() == limit {
                        return news;
                    }
                    news.push(FeedHead::new(&feed_id, *end));
                }
            }
        }
        news
    }

    /// Every line with its end, in the order of places.
    pub fn iter(&self) -> impl Iterator<Item = (FeedId, FeedPosition)> {
        self.lines_in(&PlaceRange::ALL)
    }

    /// Lines of feeds in a range.
    pub fn lines_in(&self, range: &PlaceRange) -> impl Iterator<Item = (FeedId, FeedPosition)> {
        let community = self.community;
        self.feeds_in(range)
            .flat_map(move |(place, feed)| feed.ends.iter().map(move |end| (place.feed(community), *end)))
    }

    /// Feeds in a range.
    pub fn places_in(&self, range: &PlaceRange) -> impl Iterator<Item = Place> {
        self.feeds_in(range).map(|(place, _)| place)
    }

    /// The fingerprint of a range.
    pub(super) fn fingerprint(&self, range: &PlaceRange) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_derive_key(RANGE_CONTEXT);
        let mut is_empty = true;
        for (_, feed) in self.feeds_in(range) {
            hasher.update(&feed.hash);
            is_empty = false;
        }
        if is_empty {
            return Fingerprint::NOTHING;
        }
        let hash = hasher.finalize();
        let first = hash.as_bytes().first_chunk().copied();
        Fingerprint(first.unwrap_or_default())
    }

    /// One range for each stream that there is, together all places.
    pub(super) fn by_stream(&self) -> Vec<PlaceRange> {
        let starts: Vec<_> = self.streams.keys().skip(1).map(|stream| Place::first_of(*stream)).collect();
        PlaceRange::ALL.cut_at(&starts)
    }

    /// Cuts a range into `parts` of about as many feeds each.
    pub(super) fn cut(&self, range: &PlaceRange, parts: usize) -> Vec<PlaceRange> {
        let places: Vec<_> = self.places_in(range).collect();
        let each = places.len().div_ceil(parts).max(1);
        let starts: Vec<_> = places.iter().step_by(each).skip(1).copied().collect();
        range.cut_at(&starts)
    }

    fn feeds_in(&self, range: &PlaceRange) -> impl Iterator<Item = (Place, &FeedEnds)> {
        let PlaceRange { from, upto } = *range;
        let first = from.map_or(Bound::Unbounded, |from| Bound::Included(from.stream));
        self.streams
            .range((first, Bound::Unbounded))
            .take_while(move |(stream, _)| upto.is_none_or(|upto| **stream <= upto.stream))
            .flat_map(move |(stream, of_stream)| {
                let at = |place: Option<Place>| {
                    place.filter(|place| place.stream == *stream).map(|place| (place.device, place.segment))
                };
                let first = at(from).map_or(Bound::Unbounded, Bound::Included);
                let last = at(upto).map_or(Bound::Unbounded, Bound::Excluded);
                let stream = *stream;
                let range =
                    if is_range(&first, &last) { Some(of_stream.feeds.range((first, last))) } else { None };
                range.into_iter().flatten().map(move |((device, segment), feed)| {
                    (Place { stream, device: *device, segment: *segment }, feed)
                })
            })
    }

    fn seal(&mut self) {
        if self.streams.is_empty() {
            self.root = Self::ROOT_OF_NOTHING;
            return;
        }
        let mut hasher = blake3::Hasher::new_derive_key(ROOT_CONTEXT);
        for of_stream in self.streams.values() {
            hasher.update(&of_stream.hash);
        }
        self.root = *hasher.finalize().as_bytes();
    }
}

impl StreamEnds {
    fn seal(&mut self) {
        let mut hasher = blake3::Hasher::new_derive_key(RANGE_CONTEXT);
        for feed in self.feeds.values() {
            hasher.update(&feed.hash);
        }
        self.hash = *hasher.finalize().as_bytes();
    }
}

fn feed_ends(feed: &FeedId, lines: &[StoredLine]) -> FeedEnds {
    let mut ends: Vec<_> = lines.iter().map(|line| line.end).collect();
    ends.sort_by_key(|end| end.hash);
    let hash = blake3::derive_key(FEED_CONTEXT, &codec::encode(&(Place::of(feed), &ends)));
    let changes =
        lines.iter().map(|line| line.end.seq.saturating_sub(line.base_seq)).fold(0, u64::saturating_add);
    FeedEnds { ends: ends.into(), changes, hash }
}

/// Whether the bounds are in order: a map's `range` wants that.
fn is_range<T: Ord>(first: &Bound<T>, last: &Bound<T>) -> bool {
    match (first, last) {
        (Bound::Included(first), Bound::Excluded(last)) => first <= last,
        _ => true,
    }
}
