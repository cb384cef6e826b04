//! The hub alone: inputs and times in, effects out.

#[path = "hub/exchanges.rs"]
mod exchanges;
#[path = "hub/links.rs"]
mod links;
#[path = "hub/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::sync::Arc;

use exo_model::feed::{FeedId, FeedPosition, LineId, Stream};
use exo_model::id::{ChangeHash, CommunityId, DeviceId};
use exo_model::port::StoredLine;
use exo_sync::hub::{Company, Effect, Exchanged, Hint, Hub, Input, LinkId, Random};
use exo_sync::session::{Ends, FeedHead};

/// The community of most tests.
const GARDEN: CommunityId = CommunityId::from_bytes([1; 32]);
/// Another one.
const CHOIR: CommunityId = CommunityId::from_bytes([2; 32]);

/// SplitMix64.
struct Dice(u64);

impl Random for Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A device that is nobody's key: the hub does not look.
fn device(n: usize) -> DeviceId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    DeviceId::from_bytes(bytes)
}

fn devices(of: impl IntoIterator<Item = usize>) -> BTreeSet<DeviceId> {
    of.into_iter().map(device).collect()
}

/// The feed that a device writes words to.
fn feed(of: CommunityId, n: usize) -> FeedId {
    FeedId::new(of, device(n), Stream::Library)
}

fn end(seq: u64) -> FeedPosition {
    FeedPosition { seq, hash: ChangeHash::from_bytes([seq.to_le_bytes()[0]; 32]) }
}

/// Ends of a community in which these devices wrote so much.
fn ends(of: CommunityId, written: &[(usize, u64)]) -> Arc<Ends> {
    let line = |(n, seq): &(usize, u64)| {
        let id = LineId::from(&feed(of, *n));
        StoredLine { id, parent: None, base_seq: 0, end: end(*seq) }
    };
    Arc::new(Ends::of(of, &written.iter().map(line).collect::<Vec<_>>()))
}

/// A hint that a device wrote so much.
fn hint(n: usize, seq: u64) -> Hint {
    Hint { root: [9; 32], news: vec![FeedHead::new(&feed(GARDEN, n), end(seq))], more: false }
}

/// A hub with its time and its chance. Device 0 is its own.
struct Node {
    hub: Hub,
    now_ms: u64,
    dice: Dice,
    links: LinkId,
}

impl Node {
    fn new(seed: u64) -> Self {
        Self { hub: Hub::new(device(0)), now_ms: 1_000, dice: Dice(seed), links: 0 }
    }

    /// One of a community of these, with nothing written yet.
    fn among(seed: u64, others: impl IntoIterator<Item = usize>) -> (Self, Vec<Effect>) {
        let mut node = Self::new(seed);
        let effects = node.meet(GARDEN, others, []);
        (node, effects)
    }

    fn hear(&mut self, input: Input) -> Vec<Effect> {
        self.hub.handle(self.now_ms, &mut self.dice, input)
    }

    fn meet(
        &mut self,
        community: CommunityId,
        others: impl IntoIterator<Item = usize>,
        close: impl IntoIterator<Item = usize>,
    ) -> Vec<Effect> {
        let company = Arc::new(Company { devices: devices(others), close: devices(close) });
        self.hear(Input::Community { company, ends: ends(community, &[]) })
    }

    /// New ends in the garden, whose company stays what it is.
    fn write(&mut self, others: impl IntoIterator<Item = usize>, written: &[(usize, u64)]) -> Vec<Effect> {
        let company = Arc::new(Company { devices: devices(others), close: BTreeSet::new() });
        self.hear(Input::Community { company, ends: ends(GARDEN, written) })
    }

    /// A link with a device; returns it, and what comes of it.
    fn link(&mut self, n: usize, dialled: bool) -> (LinkId, Vec<Effect>) {
        self.links += 1;
        let link = self.links;
        (link, self.hear(Input::Linked { link, device: device(n), dialled }))
    }

    /// An exchange is over, well and with nothing new.
    fn done(&mut self, link: LinkId) -> Vec<Effect> {
        self.exchanged(link, Some((0, 0)))
    }

    fn exchanged(&mut self, link: LinkId, outcome: Option<(usize, usize)>) -> Vec<Effect> {
        let outcome = outcome.map(|(stored, deferred)| Exchanged { stored, deferred });
        self.hear(Input::Exchanged(link, GARDEN, outcome))
    }

    /// Lets time pass as the shell does, from one wake-up to the next; returns what
    /// was to be done, with when. Fails where the hub wants to be woken again and
    /// again for nothing.
    fn pass(&mut self, ms: u64) -> Vec<(u64, Effect)> {
        let until_ms = self.now_ms + ms;
        let mut done = Vec::new();
        let mut idle = 0;
        while let Some(next_ms) = self.hub.next_wake_ms().filter(|next_ms| *next_ms <= until_ms) {
            idle = if next_ms > self.now_ms { 0 } else { idle + 1 };
            assert!(idle < 3, "woken for nothing at {next_ms}");
            self.now_ms = self.now_ms.max(next_ms);
            let effects = self.hear(Input::Tick);
            done.extend(effects.into_iter().map(|effect| (self.now_ms, effect)));
        }
        self.now_ms = until_ms;
        done
    }
}

fn dials(effects: &[Effect]) -> BTreeSet<DeviceId> {
    effects.iter().filter_map(|effect| if let Effect::Dial(of) = effect { Some(*of) } else { None }).collect()
}

fn exchanges(effects: &[Effect]) -> Vec<LinkId> {
    let link = |effect: &Effect| if let Effect::Exchange(link, _) = effect { Some(*link) } else { None };
    effects.iter().filter_map(link).collect()
}

fn closed(effects: &[Effect]) -> BTreeSet<LinkId> {
    let link = |effect: &Effect| if let Effect::Close(link, _) = effect { Some(*link) } else { None };
    effects.iter().filter_map(link).collect()
}

fn hints(effects: &[Effect]) -> Vec<Hint> {
    let hint = |effect: &Effect| if let Effect::Hint(_, hint) = effect { Some(hint.clone()) } else { None };
    effects.iter().filter_map(hint).collect()
}

/// Without their times.
fn plain(done: Vec<(u64, Effect)>) -> Vec<Effect> {
    done.into_iter().map(|(_, effect)| effect).collect()
}
