//! The sync exchange without I/O: two sides in every order of delivery end
//! with the union, and a peer that breaks the rules is told so.

mod common;

use std::collections::{BTreeMap, VecDeque};

use exo_model::codec;
use exo_model::feed::{Change, FeedId, FeedPosition, Run, Stream};
use exo_model::id::{ChangeHash, ChannelId, CommunityId};
use exo_model::signature::Signature;
use exo_sync::session::{
    Effect, FRAME_BYTES_MAX, FeedHead, Frame, HEADS_MAX, Input, RUNS_MAX, Side, SyncSession, Violation,
    WIRE_VERSION,
};

use common::{Rng, device};

const GARDEN: CommunityId = CommunityId::from_bytes([1; 32]);
const ELSEWHERE: CommunityId = CommunityId::from_bytes([2; 32]);

fn feed(n: u8) -> FeedId {
    let stream = match n % 4 {
        0 if n == 8 => Stream::Keys,
        0 => Stream::Charter,
        1 => Stream::Ledger,
        2 => Stream::Cluster,
        _ => Stream::Channel(ChannelId::from_bytes([n; 16])),
    };
    FeedId::new(GARDEN, device(1 + n / 4), stream)
}

fn change(feed: &FeedId, seq: u64) -> Change {
    Change { time_ms: i64::try_from(seq).expect("small"), payload: codec::encode(&(feed.device, seq)) }
}

fn run(feed: FeedId, first_seq: u64, count: u64) -> Run {
    let changes = (first_seq..first_seq + count).map(|seq| change(&feed, seq)).collect();
    Run { feed, first_seq, changes, signature: Signature::from_bytes([0; 64]) }
}

fn hello(version: u32, community: CommunityId, heads: Vec<FeedHead>) -> Input {
    Input::Frame(Frame::Hello { version, community, heads })
}

fn head(feed: FeedId, seq: u64) -> FeedHead {
    let end = FeedPosition { seq, hash: ChangeHash::from_bytes([9; 32]) };
    FeedHead { device: feed.device, stream: feed.stream, segment: feed.segment, end }
}

/// How much of each feed one side has, and its half of the exchange.
struct Half {
    feeds: BTreeMap<FeedId, u64>,
    session: SyncSession,
    inbox: VecDeque<Frame>,
    read: Option<(FeedId, u64)>,
    finished: u32,
    run_len: u64,
}

impl Half {
    fn new(side: Side, feeds: BTreeMap<FeedId, u64>, run_len: u64) -> Self {
        let own: Vec<_> = feeds
            .iter()
            .map(|(feed, seq)| (*feed, FeedPosition { seq: *seq, hash: ChangeHash::from_bytes([9; 32]) }))
            .collect();
        let session = SyncSession::new(side, GARDEN, own);
        Self { feeds, session, inbox: VecDeque::new(), read: None, finished: 0, run_len }
    }

    /// Takes one input; returns what goes to the other side.
    fn take(&mut self, input: Input) -> Vec<Frame> {
        let mut sent = Vec::new();
        for effect in self.session.handle(input).expect("an honest peer") {
            match effect {
                Effect::Send(frame) => sent.push(frame),
                Effect::Read { feed, after_seq } => {
                    assert_eq!(self.read.replace((feed, after_seq)), None, "one read at a time");
                }
                Effect::Ingest(run) => {
                    let end = self.feeds.entry(run.feed).or_insert(0);
                    assert_eq!(run.first_seq, *end + 1, "only what is missing, in order");
                    *end += run.changes.len() as u64;
                    for (seq, sent) in (run.first_seq..).zip(&run.changes) {
                        assert_eq!(*sent, change(&run.feed, seq));
                    }
                }
                Effect::Finish => self.finished += 1,
            }
        }
        sent
    }

    fn read(&mut self) -> Input {
        let (feed, after) = self.read.take().expect("a read is wanted");
        let left = self.feeds[&feed] - after;
        Input::Read((left > 0).then(|| run(feed, after + 1, left.min(self.run_len))))
    }
}

/// Runs one exchange; `choose(n)` picks one of `n` possible next steps.
fn exchange(a: &mut Half, b: &mut Half, mut choose: impl FnMut(usize) -> usize) {
    let opened = a.take(Input::Opened);
    b.inbox.extend(opened);
    assert!(b.take(Input::Opened).is_empty(), "the responder waits");
    loop {
        let possible: Vec<usize> =
            [a.inbox.is_empty(), a.read.is_none(), b.inbox.is_empty(), b.read.is_none()]
                .iter()
                .enumerate()
                .filter_map(|(step, idle)| (!idle).then_some(step))
                .collect();
        if possible.is_empty() {
            return;
        }
        let step = possible[choose(possible.len())];
        let (from, to) = if step < 2 { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
        let input = match step % 2 {
            0 => Input::Frame(from.inbox.pop_front().expect("not empty")),
            _ => from.read(),
        };
        to.inbox.extend(from.take(input));
    }
}

fn union(a: &BTreeMap<FeedId, u64>, b: &BTreeMap<FeedId, u64>) -> BTreeMap<FeedId, u64> {
    let mut all = a.clone();
    for (feed, seq) in b {
        let end = all.entry(*feed).or_insert(0);
        *end = (*end).max(*seq);
    }
    all
}

fn assert_union(a: &Half, b: &Half, all: &BTreeMap<FeedId, u64>) {
    assert_eq!((&a.feeds, &b.feeds), (all, all));
    assert_eq!((a.finished, b.finished), (1, 1), "each side finishes once");
}

#[test]
fn n3_random_histories_in_random_order_end_with_the_union() {
    for seed in 0..1_500 {
        let mut rng = Rng(seed);
        let mut history = || {
            let mut feeds = BTreeMap::new();
            for n in 0..12 {
                if rng.below(3) > 0 {
                    feeds.insert(feed(n), 1 + rng.below(30) as u64);
                }
            }
            feeds
        };
        let (ours, theirs) = (history(), history());
        let all = union(&ours, &theirs);
        let mut a = Half::new(Side::Initiator, ours, 1 + rng.below(9) as u64);
        let mut b = Half::new(Side::Responder, theirs, 1 + rng.below(9) as u64);
        exchange(&mut a, &mut b, |n| rng.below(n));
        assert_union(&a, &b, &all);
        // Again, both have everything: nothing travels but the greetings.
        let mut a = Half::new(Side::Initiator, a.feeds, 5);
        let mut b = Half::new(Side::Responder, b.feeds, 5);
        let mut steps = 0;
        exchange(&mut a, &mut b, |n| {
            steps += 1;
            rng.below(n)
        });
        assert_eq!(steps, 4, "seed {seed}: two greetings, two Dones");
    }
}

#[test]
fn n3_every_interleaving_of_a_small_exchange_ends_with_the_union() {
    let ours = BTreeMap::from([(feed(0), 2), (feed(1), 1)]);
    let theirs = BTreeMap::from([(feed(0), 1), (feed(3), 2)]);
    let all = union(&ours, &theirs);
    // Choices made so far with how many there were: counted up like digits.
    let mut script: Vec<(usize, usize)> = Vec::new();
    let mut runs = 0;
    loop {
        let mut a = Half::new(Side::Initiator, ours.clone(), 1);
        let mut b = Half::new(Side::Responder, theirs.clone(), 1);
        let mut depth = 0;
        exchange(&mut a, &mut b, |n| {
            if depth == script.len() {
                script.push((0, n));
            }
            depth += 1;
            script[depth - 1].0
        });
        assert_union(&a, &b, &all);
        runs += 1;
        while script.last().is_some_and(|(choice, n)| choice + 1 == *n) {
            script.pop();
        }
        match script.last_mut() {
            Some((choice, _)) => *choice += 1,
            None => break,
        }
    }
    assert!(runs > 100, "{runs} interleavings");
}

#[test]
fn keys_travel_first_then_the_charter_then_the_rest() {
    let feeds: Vec<_> = (0..12).map(|n| (feed(n), FeedPosition { seq: 1, ..FeedPosition::START })).collect();
    let mut session = SyncSession::new(Side::Responder, GARDEN, feeds);
    let mut effects = session.handle(hello(WIRE_VERSION, GARDEN, Vec::new())).expect("honest");
    let mut streams = Vec::new();
    while let Some(Effect::Read { feed, after_seq }) = effects.pop() {
        streams.push(feed.stream);
        effects = session.handle(Input::Read(Some(run(feed, after_seq + 1, 1)))).expect("honest");
    }
    assert_eq!(streams.len(), 12);
    assert!(streams.is_sorted(), "{streams:?}");
    assert_eq!(streams[..3], [Stream::Keys, Stream::Charter, Stream::Charter]);
}

#[test]
fn a_feed_that_vanished_is_skipped() {
    let own = [feed(0), feed(1)].map(|feed| (feed, FeedPosition { seq: 3, ..FeedPosition::START }));
    let mut session = SyncSession::new(Side::Responder, GARDEN, own);
    session.handle(hello(WIRE_VERSION, GARDEN, Vec::new())).expect("honest");
    let empty = Run { changes: Vec::new(), ..run(feed(0), 1, 0) };
    let next = session.handle(Input::Read(Some(empty))).expect("not the peer's fault");
    assert_eq!(next, [Effect::Read { feed: feed(1), after_seq: 0 }]);
    let done = session.handle(Input::Read(None)).expect("not the peer's fault");
    assert_eq!(done, [Effect::Send(Frame::Done)]);
}

fn greeted(side: Side) -> SyncSession {
    let mut session = SyncSession::new(side, GARDEN, Vec::new());
    session.handle(Input::Opened).expect("opens");
    session.handle(hello(WIRE_VERSION, GARDEN, Vec::new())).expect("honest");
    session
}

#[test]
fn frames_out_of_order_are_violations() {
    for side in [Side::Initiator, Side::Responder] {
        let unexpected = Some(Violation::UnexpectedFrame);
        let mut fresh = SyncSession::new(side, GARDEN, Vec::new());
        assert_eq!(fresh.handle(Input::Frame(Frame::Done)).err(), unexpected);
        assert_eq!(fresh.handle(Input::Frame(Frame::Changes(run(feed(0), 1, 1)))).err(), unexpected);
        let mut session = greeted(side);
        assert_eq!(session.handle(hello(WIRE_VERSION, GARDEN, Vec::new())).err(), unexpected, "greets twice");
        let finished = session.handle(Input::Frame(Frame::Done)).expect("in order");
        assert_eq!(finished, [Effect::Finish]);
        assert_eq!(session.handle(Input::Frame(Frame::Done)).err(), unexpected, "done twice");
        assert_eq!(session.handle(Input::Frame(Frame::Changes(run(feed(0), 1, 1)))).err(), unexpected);
        assert_eq!(session.handle(hello(WIRE_VERSION, GARDEN, Vec::new())).err(), unexpected);
    }
}

#[test]
fn n10_another_version_or_community_is_a_violation() {
    for side in [Side::Initiator, Side::Responder] {
        let fresh = || SyncSession::new(side, GARDEN, Vec::new());
        for version in [WIRE_VERSION + 1, u32::MAX] {
            assert_eq!(
                fresh().handle(hello(version, GARDEN, Vec::new())).err(),
                Some(Violation::Version(version))
            );
        }
        let elsewhere = fresh().handle(hello(WIRE_VERSION, ELSEWHERE, Vec::new())).err();
        assert_eq!(elsewhere, Some(Violation::Community));
        let foreign = FeedId { community: ELSEWHERE, ..feed(0) };
        let smuggled = greeted(side).handle(Input::Frame(Frame::Changes(run(foreign, 1, 1)))).err();
        assert_eq!(smuggled, Some(Violation::Community), "N1: replayed into another community");
    }
}

#[test]
fn n6_floods_of_heads_and_runs_are_violations() {
    let heads = vec![head(feed(0), 1); HEADS_MAX];
    let mut session = SyncSession::new(Side::Responder, GARDEN, Vec::new());
    session.handle(hello(WIRE_VERSION, GARDEN, heads.clone())).expect("just as many as allowed");
    let mut flooded = SyncSession::new(Side::Responder, GARDEN, Vec::new());
    let heads = [heads, vec![head(feed(1), 1)]].concat();
    assert_eq!(flooded.handle(hello(WIRE_VERSION, GARDEN, heads)).err(), Some(Violation::TooMany("feeds")));
    let again = Frame::Changes(run(feed(0), 1, 1));
    for _ in 0..RUNS_MAX {
        session.handle(Input::Frame(again.clone())).expect("just as many as allowed");
    }
    assert_eq!(session.handle(Input::Frame(again)).err(), Some(Violation::TooMany("runs")));
}

#[test]
fn n6_the_longest_honest_greeting_fits_a_frame() {
    let own = (0..HEADS_MAX + 10).map(|n| {
        let mut id = [0xff; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        let feed = FeedId { segment: u32::MAX, ..feed(3) };
        let feed = FeedId { stream: Stream::Channel(ChannelId::from_bytes(id)), ..feed };
        (feed, FeedPosition { seq: u64::MAX >> 1, ..FeedPosition::START })
    });
    let mut session = SyncSession::new(Side::Initiator, GARDEN, own);
    let effects = session.handle(Input::Opened).expect("opens");
    let [Effect::Send(frame)] = effects.as_slice() else { panic!("one greeting") };
    assert!(codec::encode(frame).len() <= FRAME_BYTES_MAX);
    let mut other = SyncSession::new(Side::Responder, GARDEN, Vec::new());
    other.handle(Input::Frame(frame.clone())).expect("a peer accepts what we send");
}

/// Claims of having more, less or the same twice only change what is sent.
#[test]
fn n2_false_heads_cost_at_most_a_useless_send() {
    let own = [(feed(0), FeedPosition { seq: 5, ..FeedPosition::START })];
    for (heads, after) in [
        (vec![head(feed(0), u64::MAX)], None),
        (vec![FeedHead { end: own[0].1, ..head(feed(0), 5) }], None),
        // Another change at the same place: sent, so that they see the fork.
        (vec![head(feed(0), 5)], Some(4)),
        (vec![head(feed(0), 9), head(feed(0), 2)], Some(2)),
        (vec![head(feed(1), 3)], Some(0)),
    ] {
        let mut session = SyncSession::new(Side::Initiator, GARDEN, own);
        session.handle(Input::Opened).expect("opens");
        let effects = session.handle(hello(WIRE_VERSION, GARDEN, heads)).expect("nothing forbidden");
        let expected = match after {
            Some(after_seq) => Effect::Read { feed: feed(0), after_seq },
            None => Effect::Send(Frame::Done),
        };
        assert_eq!(effects, [expected]);
    }
}

#[test]
fn n7_random_bytes_never_panic_the_frame_decoder() {
    let mut rng = Rng(0x5e55_0001);
    let frames = [
        Frame::Hello {
            version: WIRE_VERSION,
            community: GARDEN,
            heads: vec![head(feed(3), 4), head(feed(0), 1)],
        },
        Frame::Changes(run(feed(3), 1, 3)),
        Frame::Done,
    ];
    for frame in &frames {
        let bytes = codec::encode(frame);
        assert_eq!(codec::decode::<Frame>(&bytes, FRAME_BYTES_MAX).as_ref(), Ok(frame));
        for _ in 0..20_000 {
            let mut mutant = bytes.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(mutant.len());
                mutant[at] = rng.next().to_le_bytes()[0];
            }
            if rng.below(4) == 0 {
                mutant.truncate(rng.below(mutant.len()));
            }
            if let Ok(read) = codec::decode::<Frame>(&mutant, FRAME_BYTES_MAX) {
                assert_eq!(codec::encode(&read), mutant, "one form only");
            }
        }
    }
    for _ in 0..20_000 {
        let len = rng.below(200);
        let _ = codec::decode::<Frame>(&rng.bytes(len), FRAME_BYTES_MAX);
    }
    // Announces 2^62 heads, 2^62 changes, 2^62 bytes.
    let endless = [0x9b, 0x40, 0, 0, 0, 0, 0, 0, 0];
    let bytes = codec::encode(&frames[0]);
    for at in 0..bytes.len() {
        let bomb = [&bytes[..at], &endless[..], &bytes[at..]].concat();
        assert!(codec::decode::<Frame>(&bomb, FRAME_BYTES_MAX).is_err());
    }
}
