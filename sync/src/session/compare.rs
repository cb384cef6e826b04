//! What two replicas lack of each other, from where their lines end.
//!
//! A feed is one line as long as its author is honest, and then one number
//! says all. Where an author signed two lines, both must reach everyone:
//! others cite them. A line is found by its positions: whoever knows the hash
//! at a place has everything before it.

use std::collections::BTreeMap;

use exo_model::feed::{FeedId, FeedPosition, LineId, Stream};
use exo_model::id::{ChangeHash, DeviceId};
use exo_model::port::StoredLine;

use super::{FeedHead, MARKS_MAX, Place, PlaceRange, WANTS_MAX, WANTS_PER_DEVICE, Window};

/// Positions of one feed that are looked up at most, and of all feeds beyond
/// the first of each; the rest
/// of what a peer claims waits for another exchange.
const LOOKUPS_PER_FEED: usize = 16;
const LOOKUPS: usize = 512;
/// Lines of one feed that are asked for at once.
const WANTS_PER_FEED: usize = 4;

/// Looks up what is stored.
pub trait LineIndex {
    /// Failure of the medium.
    type Error;

    /// The number of the first line of a feed that goes through a position.
    ///
    /// # Errors
    /// When the medium fails.
    fn line_through(&self, feed: &FeedId, at: &FeedPosition) -> Result<Option<u32>, Self::Error>;

    /// The hash of a stored change of a line.
    ///
    /// # Errors
    /// When the medium fails.
    fn hash_at(&self, line: &LineId, seq: u64) -> Result<Option<ChangeHash>, Self::Error>;
}

/// What a peer has said of its feeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Where all its lines of some feeds end.
    All(Vec<Told>),
    /// Positions that it has, of some feeds.
    Some(Vec<(FeedId, FeedPosition)>),
}

/// Where all lines of feeds in a scope end: of those that are not named the
/// peer has nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of which feeds.
    pub scope: Scope,
    /// Where lines end.
    pub ends: Vec<(FeedId, FeedPosition)>,
}

/// Some feeds of a community.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Everything,
    /// Those in a window.
    Window(Window),
    /// Those in a range.
    Places(PlaceRange),
}

impl Scope {
    fn contains(&self, feed: &FeedId) -> bool {
        match self {
            Self::Everything => true,
            Self::Window(window) => window.contains(feed),
            Self::Places(range) => range.contains(&Place::of(feed)),
        }
    }
}

impl Known {
    /// The ranges it is about, where it is about such.
    pub fn ranges(&self) -> Option<Vec<PlaceRange>> {
        let Self::All(told) = self else { return None };
        let range = |told: &Told| match told.scope {
            Scope::Places(range) => Some(range),
            Scope::Everything | Scope::Window(_) => None,
        };
        told.iter().map(range).collect()
    }

    /// The feeds it names.
    pub fn feeds(&self) -> std::collections::BTreeSet<FeedId> {
        self.positions().map(|(feed, _)| *feed).collect()
    }

    fn positions(&self) -> impl Iterator<Item = &(FeedId, FeedPosition)> {
        let (told, some) = match self {
            Self::All(told) => (told.as_slice(), &[][..]),
            Self::Some(positions) => (&[][..], positions.as_slice()),
        };
        told.iter().flat_map(|told| &told.ends).chain(some)
    }

    /// Whether all that the peer has of a feed is named.
    fn names_all_of(&self, feed: &FeedId) -> bool {
        match self {
            Self::All(told) => told.iter().any(|told| told.scope.contains(feed)),
            Self::Some(_) => false,
        }
    }
}

/// A line that a peer lacks the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The feed.
    pub feed: FeedId,
    /// Where the line ends here.
    pub tip: FeedPosition,
    /// The last change of it that the peer has.
    pub after_seq: u64,
}

/// A line that is lacking here, and whose base the peer cannot know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it ends at the peer.
    pub line: FeedHead,
    /// Positions of the same feed that are here.
    pub marks: Vec<FeedPosition>,
}

/// What is to be sent, and what to be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Lines to send.
    pub send: Vec<Sending>,
    /// Lines to ask for.
    pub wants: Vec<Wanted>,
}

/// Compares what a peer has with the lines that are stored here.
///
/// Of a line that ends further on than all of a feed here nothing can be
/// said: the peer looks whether it goes on from here, and sends it. Any other
/// line of theirs that is not here parts from those that are.
///
/// Feeds are looked at from another one on each time, as `turn` says, so that
/// what bounds leave out comes up later.
///
/// # Errors
/// When the index fails.
pub fn compare<I: LineIndex>(
    index: &I,
    own: &[StoredLine],
    known: &Known,
    turn: usize,
) -> Result<Comparison, I::Error> {
    let mut theirs: BTreeMap<FeedId, Vec<FeedPosition>> = BTreeMap::new();
    for (feed, at) in known.positions() {
        theirs.entry(*feed).or_default().push(*at);
    }
    let mut feeds: BTreeMap<FeedId, Vec<StoredLine>> = BTreeMap::new();
    for line in own {
        feeds.entry(line.id.feed).or_default().push(*line);
    }
    // The charter first: what stands elsewhere waits for it.
    let mut feeds: Vec<_> = feeds.into_iter().collect();
    if !feeds.is_empty() {
        let start = turn % feeds.len();
        feeds.rotate_left(start);
    }
    feeds.sort_by_key(|(feed, _)| feed.stream != Stream::Charter);
    let mut found = Comparison::default();
    let mut lookups = LOOKUPS;
    for (feed, lines) in feeds {
        let lines = Lines(lines);
        match theirs.get(&feed) {
            Some(theirs) => lines.compare(index, theirs, &mut lookups, &mut found)?,
            None if known.names_all_of(&feed) => lines.send_all(&mut found),
            None => {}
        }
    }
    let mut asked: BTreeMap<DeviceId, usize> = BTreeMap::new();
    found.wants.retain(|want| {
        let of_device = asked.entry(want.line.device).or_default();
        *of_device += 1;
        *of_device <= WANTS_PER_DEVICE
    });
    found.wants.truncate(WANTS_MAX);
    Ok(found)
}

/// The lines of one feed, by number.
struct Lines(Vec<StoredLine>);

impl Lines {
    fn send_all(&self, found: &mut Comparison) {
        found.send.extend(self.0.iter().map(|line| sending(line, line.base_seq)));
    }

    fn compare<I: LineIndex>(
        &self,
        index: &I,
        theirs: &[FeedPosition],
        lookups: &mut usize,
        found: &mut Comparison,
    ) -> Result<(), I::Error> {
        let longest = self.0.iter().map(|line| line.end.seq).max().unwrap_or(0);
        let ends: BTreeMap<ChangeHash, &StoredLine> =
            self.0.iter().map(|line| (line.end.hash, line)).collect();
        let mut known = BTreeMap::new();
        let (mut looked_up, mut wants) = (0, 0);
        for at in theirs {
            if at.seq == 0 {
                known.entry(0).or_insert(0);
            } else if let Some(line) = ends.get(&at.hash).filter(|line| line.end == *at) {
                self.note(line.id.number, at.seq, &mut known);
            } else if at.seq <= longest && (looked_up == 0 || (looked_up < LOOKUPS_PER_FEED && *lookups > 0))
            {
                // The first is free: an honest feed needs no more.
                if looked_up > 0 {
                    *lookups -= 1;
                }
                looked_up += 1;
                let feed = &self.0[0].id.feed;
                match index.line_through(feed, at)? {
                    Some(number) => self.note(number, at.seq, &mut known),
                    None if wants < WANTS_PER_FEED => {
                        wants += 1;
                        found.wants.push(self.want(index, at)?);
                    }
                    None => {}
                }
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        for line in &self.0 {
            let chain = self.chain(line.id.number);
            let shared = |(number, upto): &(u32, u64)| known.get(number).map(|seq| *seq.min(upto));
            // Whoever knows any place knows the one before the first change.
            let after = chain.iter().rev().find_map(shared).unwrap_or(0);
            if after < line.end.seq {
                found.send.push(sending(line, after));
                // The next one that parts from it is sent from there.
                known.insert(line.id.number, line.end.seq);
            }
        }
        Ok(())
    }

    /// Notes that the peer has a line up to `seq`, and so those it parts from.
    fn note(&self, number: u32, seq: u64, known: &mut BTreeMap<u32, u64>) {
        for (number, upto) in self.chain(number) {
            let upto = upto.min(seq);
            let most = known.entry(number).or_insert(upto);
            *most = upto.max(*most);
        }
    }

    /// The lines that a line is read through, from the first on, and up to
    /// where each.
    fn chain(&self, number: u32) -> Vec<(u32, u64)> {
        let find = |number: u32| self.0.iter().find(|line| line.id.number == number);
        let mut chain = Vec::new();
        let mut next = find(number).map(|line| (line, line.end.seq));
        while let Some((line, upto)) = next {
            chain.push((line.id.number, upto));
            next = line.parent.and_then(find).map(|parent| (parent, line.base_seq));
        }
        chain.reverse();
        chain
    }

    fn want<I: LineIndex>(&self, index: &I, at: &FeedPosition) -> Result<Wanted, I::Error> {
        let mut marks = vec![FeedPosition::START];
        for line in &self.0 {
            // Further and further back: the lines parted lately, as a rule.
            let (mut seq, mut step) = (line.end.seq, 1);
            while seq > 0 && marks.len() < MARKS_MAX {
                if let Some(hash) = index.hash_at(&line.id, seq)? {
                    marks.push(FeedPosition { seq, hash });
                }
                seq = seq.saturating_sub(step);
                step *= 2;
            }
        }
        Ok(Wanted { line: FeedHead::new(&self.0[0].id.feed, *at), marks })
    }
}

const fn sending(line: &StoredLine, after_seq: u64) -> Sending {
    Sending { feed: line.id.feed, tip: line.end, after_seq }
}
