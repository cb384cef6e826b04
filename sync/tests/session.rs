//! The sync exchange without I/O: two sides in every order of delivery end
//! with the union, and a peer that breaks the rules is told so.

mod common;
#[path = "session/ranges.rs"]
mod ranges;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use exo_model::codec;
use exo_model::feed::{Change, FeedId, FeedPosition, LineId, Run, Stream};
use exo_model::id::{ChangeHash, ChannelId, CommunityId};
use exo_model::port::StoredLine;
use exo_model::signature::Signature;
use exo_sync::session::{
    CLAIMS_PER_FRAME, Claim, Comparison, ENDS_PER_FRAME, Effect, Ends, FRAME_BYTES_MAX, FeedHead,
    Fingerprint, Frame, Greeting, HEADS_MAX, Input, Known, LineIndex, LineRun, MARKS_MAX, Place, PlaceRange,
    RUNS_MAX, Says, Scope, Side, SyncSession, Terms, Told, Violation, WANTS_MAX, WIRE_VERSION,
    WIRE_VERSION_OLDEST, Window, compare,
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

/// Changes whose payloads are what others think their hashes are.
fn run(feed: FeedId, first_seq: u64, hashes: &[ChangeHash]) -> Run {
    let changes = hashes.iter().map(|hash| Change { time_ms: 1, payload: hash.as_bytes().to_vec() });
    Run { feed, first_seq, changes: changes.collect(), signature: Signature::from_bytes([0; 64]) }
}

fn one(feed: FeedId) -> LineRun {
    LineRun { after: ChangeHash::from_bytes([0; 32]), run: run(feed, 1, &[honest(1)]) }
}

/// A change of an author who never forks.
fn honest(seq: u64) -> ChangeHash {
    named(seq, 0)
}

/// One of several changes at a place.
fn named(seq: u64, which: u64) -> ChangeHash {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&seq.to_le_bytes());
    bytes[8..16].copy_from_slice(&which.to_le_bytes());
    ChangeHash::from_bytes(bytes)
}

fn hello(version: u32, community: CommunityId, heads: Vec<FeedHead>) -> Input {
    Input::Frame(Frame::Hello { version, community, heads, window: None })
}

fn head(feed: FeedId, seq: u64) -> FeedHead {
    FeedHead::new(&feed, FeedPosition { seq, hash: honest(seq) })
}

/// A line, as far as it is its own.
#[derive(Clone, Debug)]
struct Line {
    parent: Option<u32>,
    base_seq: u64,
    own: Vec<ChangeHash>,
}

/// What one side has.
#[derive(Clone, Debug, Default)]
struct Stored(BTreeMap<FeedId, Vec<Line>>);

impl Stored {
    fn linear(ends: &BTreeMap<FeedId, u64>) -> Self {
        let line = |end: &u64| Line { parent: None, base_seq: 0, own: (1..=*end).map(honest).collect() };
        Self(ends.iter().map(|(feed, end)| (*feed, vec![line(end)])).collect())
    }

    /// All hashes of a line from the first on.
    fn whole(&self, feed: &FeedId, number: u32) -> Vec<ChangeHash> {
        let line = &self.0[feed][number as usize];
        let mut whole = line.parent.map(|parent| self.whole(feed, parent)).unwrap_or_default();
        whole.truncate(usize::try_from(line.base_seq).expect("small"));
        whole.extend(&line.own);
        whole
    }

    fn lines(&self) -> Vec<StoredLine> {
        let mut lines = Vec::new();
        for (feed, of_feed) in &self.0 {
            for (number, line) in (0..).zip(of_feed) {
                let whole = self.whole(feed, number);
                let end = FeedPosition { seq: whole.len() as u64, hash: *whole.last().expect("a change") };
                let id = LineId { feed: *feed, number };
                lines.push(StoredLine { id, parent: line.parent, base_seq: line.base_seq, end });
            }
        }
        lines
    }

    fn ends(&self) -> Arc<Ends> {
        Arc::new(Ends::of(GARDEN, &self.lines()))
    }

    fn tips(&self) -> Vec<(FeedId, FeedPosition)> {
        self.lines().iter().map(|line| (line.id.feed, line.end)).collect()
    }

    /// All changes, and which each follows.
    fn changes(&self) -> BTreeSet<(FeedId, ChangeHash, ChangeHash)> {
        let mut changes = BTreeSet::new();
        for line in self.lines() {
            let mut before = FeedPosition::START.hash;
            for hash in self.whole(&line.id.feed, line.id.number) {
                changes.insert((line.id.feed, before, hash));
                before = hash;
            }
        }
        changes
    }

    /// As the replica does; returns how many changes are new.
    fn take(&mut self, after: ChangeHash, feed: FeedId, first_seq: u64, hashes: &[ChangeHash]) -> usize {
        let start = FeedPosition { seq: first_seq - 1, hash: after };
        let through = |stored: &Self, at: &FeedPosition| match at.seq {
            0 => Some(None),
            _ => stored.line_through(&feed, at).expect("infallible").map(Some),
        };
        let mut at = start;
        let mut parent = through(self, &at).expect("a run that follows something stored");
        let mut rest = hashes;
        while let Some((next, further)) = rest.split_first() {
            let place = FeedPosition { seq: at.seq + 1, hash: *next };
            let Some(line) = through(self, &place) else { break };
            (at, parent, rest) = (place, line, further);
        }
        if !rest.is_empty() {
            let ends: Vec<_> = self.lines().into_iter().filter(|line| line.id.feed == feed).collect();
            let lines = self.0.entry(feed).or_default();
            match ends.iter().find(|line| line.end == at) {
                Some(line) => lines[line.id.number as usize].own.extend(rest),
                None => lines.push(Line { parent, base_seq: at.seq, own: rest.to_vec() }),
            }
        }
        rest.len()
    }
}

impl LineIndex for Stored {
    type Error = std::convert::Infallible;

    fn line_through(&self, feed: &FeedId, at: &FeedPosition) -> Result<Option<u32>, Self::Error> {
        let numbers = 0..u32::try_from(self.0.get(feed).map_or(0, Vec::len)).expect("few");
        let index = usize::try_from(at.seq - 1).expect("small");
        Ok(numbers
            .into_iter()
            .find(|number| self.whole(feed, *number).get(index).is_some_and(|hash| *hash == at.hash)))
    }

    fn hash_at(&self, line: &LineId, seq: u64) -> Result<Option<ChangeHash>, Self::Error> {
        let index = usize::try_from(seq - 1).expect("small");
        Ok(self.whole(&line.feed, line.number).get(index).copied())
    }
}

/// What one side has, and its half of the exchange.
struct Half {
    stored: Stored,
    session: SyncSession,
    inbox: VecDeque<Frame>,
    read: Option<(FeedId, FeedPosition, u64)>,
    finished: u32,
    run_len: usize,
    /// Changes that came though they were here.
    useless: usize,
}

impl Half {
    fn new(side: Side, stored: Stored, run_len: usize) -> Self {
        Self::speaking(WIRE_VERSION, side, stored, run_len)
    }

    fn speaking(version: u32, side: Side, stored: Stored, run_len: usize) -> Self {
        let session = SyncSession::new(Terms { version, ..Terms::new(side, stored.ends()) });
        Self { stored, session, inbox: VecDeque::new(), read: None, finished: 0, run_len, useless: 0 }
    }

    /// Takes one input; returns what goes to the other side.
    fn take(&mut self, input: Input) -> Vec<Frame> {
        let mut sent = Vec::new();
        let mut effects = VecDeque::from(self.session.handle(input).expect("an honest peer"));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send(frame) => sent.push(frame),
                Effect::Read { feed, tip, after_seq } => {
                    assert_eq!(self.read.replace((feed, tip, after_seq)), None, "one read at a time");
                }
                Effect::Compare(known) => {
                    let compared =
                        compare(&self.stored, &self.stored.lines(), &known, 0).expect("infallible");
                    effects.extend(self.session.handle(Input::Compared(compared)).expect("an honest peer"));
                }
                Effect::Ingest(LineRun { after, run }) => {
                    let hash = |change: &Change| change.payload.as_slice().try_into().expect("32 bytes");
                    let hashes: Vec<_> =
                        run.changes.iter().map(|change| ChangeHash::from_bytes(hash(change))).collect();
                    let new = self.stored.take(after, run.feed, run.first_seq, &hashes);
                    self.useless += hashes.len() - new;
                }
                Effect::Finish => self.finished += 1,
            }
        }
        sent
    }

    fn read(&mut self) -> Input {
        let (feed, tip, after_seq) = self.read.take().expect("a read is wanted");
        let number = self.stored.line_through(&feed, &tip).expect("infallible").expect("stored");
        let whole = self.stored.whole(&feed, number);
        let after = usize::try_from(after_seq).expect("small");
        let hashes = &whole[after.min(whole.len())..whole.len().min(after + self.run_len)];
        let before = after.checked_sub(1).map_or(FeedPosition::START.hash, |index| whole[index]);
        Input::Read(
            (!hashes.is_empty()).then(|| LineRun { after: before, run: run(feed, after_seq + 1, hashes) }),
        )
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
    let all = Stored::linear(all).changes();
    assert_eq!((&a.stored.changes(), &b.stored.changes()), (&all, &all));
    assert_eq!((a.finished, b.finished), (1, 1), "each side finishes once");
    assert_eq!((a.useless, b.useless), (0, 0), "only what is missing");
}

/// All changes that authors signed: some of them in several lines.
fn signed_lines(rng: &mut Rng) -> BTreeMap<FeedId, Vec<Vec<ChangeHash>>> {
    let mut feeds = BTreeMap::new();
    for n in 0..3 {
        let mut lines: Vec<Vec<ChangeHash>> = Vec::new();
        for which in 0..=rng.below(5) as u64 {
            let mut line = Vec::new();
            if !lines.is_empty() {
                let other = &lines[rng.below(lines.len())];
                line.extend(&other[..rng.below(other.len() + 1)]);
            }
            for _ in 0..=rng.below(6) {
                line.push(named(line.len() as u64 + 1, which));
            }
            lines.push(line);
        }
        feeds.insert(feed(n), lines);
    }
    feeds
}

/// Some of them, as someone may have them.
fn some_of(feeds: &BTreeMap<FeedId, Vec<Vec<ChangeHash>>>, rng: &mut Rng) -> Stored {
    let mut stored = Stored::default();
    for (feed, lines) in feeds {
        for _ in 0..rng.below(2 * lines.len() + 1) {
            let line = &lines[rng.below(lines.len())];
            let line = &line[..=rng.below(line.len())];
            stored.take(FeedPosition::START.hash, *feed, 1, line);
        }
    }
    stored
}

/// All of them reach both, whatever each had.
#[test]
fn a01_l01_lines_that_part_reach_both_sides() {
    let mut useless = 0;
    for seed in 0..4_000 {
        let version = if seed % 4 == 0 { WIRE_VERSION_OLDEST } else { WIRE_VERSION };
        let mut rng = Rng(seed);
        let feeds = signed_lines(&mut rng);
        let (ours, theirs) = (some_of(&feeds, &mut rng), some_of(&feeds, &mut rng));
        let all: BTreeSet<_> = ours.changes().union(&theirs.changes()).copied().collect();
        let (mut ours, mut theirs) = (ours, theirs);
        // Of many lines some are asked for at once, the others next time.
        for _ in 0..3 {
            let mut a = Half::speaking(version, Side::Initiator, ours, 1 + rng.below(5));
            let mut b = Half::new(Side::Responder, theirs, 1 + rng.below(5));
            exchange(&mut a, &mut b, |n| rng.below(n));
            assert_eq!((a.finished, b.finished), (1, 1), "seed {seed}");
            useless += a.useless + b.useless;
            (ours, theirs) = (a.stored, b.stored);
            if ours.changes() == all && theirs.changes() == all {
                break;
            }
        }
        assert_eq!((ours.changes(), theirs.changes()), (all.clone(), all), "seed {seed}");
        // Again, both have everything: nothing travels but the greetings.
        let mut a = Half::new(Side::Initiator, ours, 5);
        let mut b = Half::new(Side::Responder, theirs, 5);
        let mut steps = 0;
        exchange(&mut a, &mut b, |n| {
            steps += 1;
            rng.below(n)
        });
        assert_eq!(steps, 4, "seed {seed}: two greetings, two Dones");
    }
    // Where lines part, a few changes around the place may come twice.
    assert!(useless < 8 * 4_000, "{useless} changes came twice");
}

#[test]
fn n3_random_histories_in_random_order_end_with_the_union() {
    for seed in 0..1_500 {
        let version = if seed % 4 == 0 { WIRE_VERSION_OLDEST } else { WIRE_VERSION };
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
        let mut a = Half::speaking(version, Side::Initiator, Stored::linear(&ours), 1 + rng.below(9));
        let mut b = Half::new(Side::Responder, Stored::linear(&theirs), 1 + rng.below(9));
        exchange(&mut a, &mut b, |n| rng.below(n));
        assert_union(&a, &b, &all);
        // Again, both have everything: nothing travels but the greetings.
        let mut a = Half::new(Side::Initiator, a.stored, 5);
        let mut b = Half::new(Side::Responder, b.stored, 5);
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
        let mut a = Half::new(Side::Initiator, Stored::linear(&ours), 1);
        let mut b = Half::new(Side::Responder, Stored::linear(&theirs), 1);
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

/// A session that speaks version 2.
fn old(side: Side, stored: &Stored) -> SyncSession {
    SyncSession::new(Terms { version: WIRE_VERSION_OLDEST, ..Terms::new(side, stored.ends()) })
}

/// Greets a session with what a peer has; returns what it does next.
fn greet(session: &mut SyncSession, stored: &Stored, heads: Vec<FeedHead>) -> Vec<Effect> {
    let mut effects = session.handle(hello(WIRE_VERSION_OLDEST, GARDEN, heads)).expect("honest");
    let Some(Effect::Compare(known)) = effects.pop() else { panic!("what there is to send?") };
    let compared = compare(stored, &stored.lines(), &known, 0).expect("infallible");
    effects.extend(session.handle(Input::Compared(compared)).expect("honest"));
    effects
}

#[test]
fn keys_travel_first_then_the_charter_then_the_rest() {
    let stored = Stored::linear(&(0..12).map(|n| (feed(n), 1)).collect());
    let mut session = old(Side::Responder, &stored);
    let mut effects = greet(&mut session, &stored, Vec::new());
    let mut streams = Vec::new();
    while let Some(Effect::Read { feed, .. }) = effects.pop() {
        streams.push(feed.stream);
        effects = session.handle(Input::Read(Some(one(feed)))).expect("honest");
    }
    assert_eq!(streams.len(), 12);
    let class = |stream: &Stream| match stream {
        Stream::Keys => 0,
        Stream::Charter => 1,
        Stream::Ledger => 2,
        Stream::Cluster => 3,
        _ => 4,
    };
    assert!(streams.is_sorted_by_key(class), "{streams:?}");
    assert_eq!(streams[..3], [Stream::Keys, Stream::Charter, Stream::Charter]);
}

#[test]
fn a_feed_that_vanished_is_skipped() {
    let stored = Stored::linear(&BTreeMap::from([(feed(0), 3), (feed(1), 3)]));
    let mut session = old(Side::Responder, &stored);
    greet(&mut session, &stored, Vec::new());
    let empty = LineRun { run: run(feed(0), 1, &[]), ..one(feed(0)) };
    let next = session.handle(Input::Read(Some(empty))).expect("not the peer's fault");
    let tip = FeedPosition { seq: 3, hash: honest(3) };
    assert_eq!(next, [Effect::Read { feed: feed(1), tip, after_seq: 0 }]);
    let done = session.handle(Input::Read(None)).expect("not the peer's fault");
    assert_eq!(done, [Effect::Send(Frame::Done)]);
}

fn greeted(side: Side) -> SyncSession {
    let mut session = old(side, &Stored::default());
    session.handle(Input::Opened).expect("opens");
    greet(&mut session, &Stored::default(), Vec::new());
    session
}

#[test]
fn frames_out_of_order_are_violations() {
    for side in [Side::Initiator, Side::Responder] {
        let unexpected = Some(Violation::UnexpectedFrame);
        let mut fresh = old(side, &Stored::default());
        assert_eq!(fresh.handle(Input::Frame(Frame::Done)).err(), unexpected);
        assert_eq!(fresh.handle(Input::Frame(Frame::Changes(one(feed(0))))).err(), unexpected);
        let mut session = greeted(side);
        assert_eq!(
            session.handle(hello(WIRE_VERSION_OLDEST, GARDEN, Vec::new())).err(),
            unexpected,
            "greets twice"
        );
        let finished = session.handle(Input::Frame(Frame::Done)).expect("in order");
        assert_eq!(finished, [Effect::Finish]);
        assert_eq!(session.handle(Input::Frame(Frame::Done)).err(), unexpected, "done twice");
        assert_eq!(session.handle(Input::Frame(Frame::Changes(one(feed(0))))).err(), unexpected);
        assert_eq!(session.handle(hello(WIRE_VERSION_OLDEST, GARDEN, Vec::new())).err(), unexpected);
        // Nobody asked for a line.
        let answered = Frame::Answered(head(feed(0), 1));
        assert_eq!(greeted(side).handle(Input::Frame(answered)).err(), unexpected);
    }
}

/// After `Done` comes only what was asked for; and of what is asked for, no
/// more than is allowed.
#[test]
fn n6_what_is_asked_for_is_bounded() {
    let want = |marks: usize| Frame::Want {
        line: head(feed(0), 3),
        marks: vec![FeedPosition { seq: 1, hash: honest(1) }; marks],
    };
    let mut session = greeted(Side::Initiator);
    assert_eq!(
        session.handle(Input::Frame(want(MARKS_MAX + 1))).err(),
        Some(Violation::TooMany("positions"))
    );
    let mut session = greeted(Side::Initiator);
    for _ in 0..WANTS_MAX {
        let effects = session.handle(Input::Frame(want(MARKS_MAX))).expect("just as many as allowed");
        assert!(matches!(effects.as_slice(), [Effect::Compare(Known::Some(_))]));
        let effects = session.handle(Input::Compared(Comparison::default())).expect("ours");
        assert_eq!(effects, [Effect::Send(Frame::Answered(head(feed(0), 3)))]);
    }
    assert_eq!(session.handle(Input::Frame(want(1))).err(), Some(Violation::TooMany("wants")));
    let mut session = greeted(Side::Initiator);
    session.handle(Input::Frame(Frame::Done)).expect("in order");
    assert_eq!(session.handle(Input::Frame(want(1))).err(), Some(Violation::UnexpectedFrame));
}

#[test]
fn n10_another_version_or_community_is_a_violation() {
    for side in [Side::Initiator, Side::Responder] {
        let fresh = || old(side, &Stored::default());
        for version in [WIRE_VERSION_OLDEST - 1, WIRE_VERSION + 1, u32::MAX] {
            assert_eq!(
                fresh().handle(hello(version, GARDEN, Vec::new())).err(),
                Some(Violation::Version(version))
            );
        }
        let elsewhere = fresh().handle(hello(WIRE_VERSION_OLDEST, ELSEWHERE, Vec::new())).err();
        assert_eq!(elsewhere, Some(Violation::Community));
        let foreign = FeedId { community: ELSEWHERE, ..feed(0) };
        let smuggled = greeted(side).handle(Input::Frame(Frame::Changes(one(foreign)))).err();
        assert_eq!(smuggled, Some(Violation::Community), "N1: replayed into another community");
    }
}

#[test]
fn n6_floods_of_heads_and_runs_are_violations() {
    let heads = vec![head(feed(0), 1); HEADS_MAX];
    let mut session = old(Side::Responder, &Stored::default());
    session.handle(hello(WIRE_VERSION_OLDEST, GARDEN, heads.clone())).expect("just as many as allowed");
    let mut flooded = old(Side::Responder, &Stored::default());
    let heads = [heads, vec![head(feed(1), 1)]].concat();
    assert_eq!(
        flooded.handle(hello(WIRE_VERSION_OLDEST, GARDEN, heads)).err(),
        Some(Violation::TooMany("feeds"))
    );
    let again = Frame::Changes(one(feed(0)));
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
        let end = FeedPosition { seq: u64::MAX >> 1, ..FeedPosition::START };
        StoredLine { id: feed.into(), parent: None, base_seq: 0, end }
    });
    let own = Arc::new(Ends::of(GARDEN, &own.collect::<Vec<_>>()));
    let mut session =
        SyncSession::new(Terms { version: WIRE_VERSION_OLDEST, ..Terms::new(Side::Initiator, own) });
    let effects = session.handle(Input::Opened).expect("opens");
    let [Effect::Send(frame)] = effects.as_slice() else { panic!("one greeting") };
    assert!(codec::encode(frame).len() <= FRAME_BYTES_MAX);
    let mut other = old(Side::Responder, &Stored::default());
    other.handle(Input::Frame(frame.clone())).expect("a peer accepts what we send");
}

/// More lines than a greeting names: each greeting names others, whole feeds,
/// and the other side sends nothing of those that are not named.
#[test]
fn n6_more_lines_than_a_greeting_names_are_named_in_turn() {
    let count = HEADS_MAX + 2_000;
    let numbered = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        FeedId { stream: Stream::Channel(ChannelId::from_bytes(id)), ..feed(3) }
    };
    let tip = FeedPosition { seq: 1, hash: honest(1) };
    let line = |n| StoredLine { id: numbered(n).into(), parent: None, base_seq: 0, end: tip };
    let stored: Vec<_> = (0..count).map(line).collect();
    let own = Arc::new(Ends::of(GARDEN, &stored));
    let mut named = BTreeSet::new();
    for turn in 0..4 {
        let terms = Terms::new(Side::Initiator, own.clone());
        let mut session =
            SyncSession::new(Terms { version: WIRE_VERSION_OLDEST, turn: turn * 4_099, ..terms });
        let effects = session.handle(Input::Opened).expect("opens");
        let [Effect::Send(Frame::Hello { heads, window, .. })] = effects.as_slice() else {
            panic!("one greeting")
        };
        let window = window.expect("not all");
        let feeds: BTreeSet<_> = heads.iter().map(|head| head.feed(GARDEN)).collect();
        assert_eq!(heads.len(), HEADS_MAX);
        assert!((0..count).all(|n| window.contains(&numbered(n)) == feeds.contains(&numbered(n))));
        named.extend(feeds);
        // A peer that has the same sends nothing, one that has nothing named sends nothing else.
        let ends: Vec<_> = heads.iter().map(|head| (head.feed(GARDEN), head.end)).collect();
        let same = Known::All(vec![Told { scope: Scope::Window(window), ends }]);
        let compared = compare(&Stored::default(), &stored, &same, turn).expect("infallible");
        assert_eq!(compared, Comparison::default());
        let less = Known::All(vec![Told { scope: Scope::Window(window), ends: Vec::new() }]);
        let compared = compare(&Stored::default(), &stored, &less, turn).expect("infallible");
        assert_eq!(compared.send.len(), HEADS_MAX);
        assert!(compared.send.iter().all(|sending| window.contains(&sending.feed)));
    }
    assert_eq!(named.len(), count, "all in a few turns");
}

/// Claims of having more, less or the same twice only change what is sent.
#[test]
fn n2_false_heads_cost_at_most_a_useless_send() {
    let stored = Stored::linear(&BTreeMap::from([(feed(0), 5)]));
    let tip = stored.tips()[0].1;
    let read = |after_seq| Effect::Read { feed: feed(0), tip, after_seq };
    let elsewhere = FeedHead::new(&feed(0), FeedPosition { seq: 4, hash: named(4, 1) });
    let marks = [0, 5, 4, 2].map(|seq| match seq {
        0 => FeedPosition::START,
        seq => FeedPosition { seq, hash: honest(seq) },
    });
    for (heads, expected) in [
        (vec![head(feed(0), u64::MAX)], Effect::Send(Frame::Done)),
        (vec![head(feed(0), 5)], Effect::Send(Frame::Done)),
        // Another change at a place that is here: a line that is asked for.
        (vec![elsewhere], Effect::Send(Frame::Want { line: elsewhere, marks: marks.to_vec() })),
        (vec![head(feed(0), 9), head(feed(0), 2)], read(2)),
        (vec![head(feed(1), 3)], read(0)),
    ] {
        let mut session = old(Side::Initiator, &stored);
        session.handle(Input::Opened).expect("opens");
        assert_eq!(greet(&mut session, &stored, heads), [expected]);
    }
}

#[test]
fn n7_random_bytes_never_panic_the_frame_decoder() {
    let mut rng = Rng(0x5e55_0001);
    let frames = [
        Frame::Hello {
            version: WIRE_VERSION_OLDEST,
            community: GARDEN,
            heads: vec![head(feed(3), 4), head(feed(0), 1)],
            window: Some(Window { first: feed(3), last: feed(0) }),
        },
        Frame::Changes(LineRun { after: honest(4), run: run(feed(3), 5, &[honest(5), honest(6)]) }),
        Frame::Done,
        Frame::Want { line: head(feed(3), 4), marks: vec![FeedPosition { seq: 3, hash: honest(3) }] },
        Frame::Answered(head(feed(1), 2)),
        Frame::Greeting(Greeting { wanted: Some(feed(3).stream), ..greeting([3; 32]) }),
        Frame::Claims(vec![
            Claim {
                range: PlaceRange { from: Some(Place::of(&feed(1))), upto: None },
                says: Says::Ends(vec![head(feed(3), 4)]),
            },
            Claim { range: PlaceRange::ALL, says: Says::Fingerprint(Fingerprint::NOTHING) },
            Claim { range: PlaceRange::ALL, says: Says::Answer(Vec::new()) },
        ]),
        Frame::Stored { all: true },
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

fn greeting(root: [u8; 32]) -> Greeting {
    Greeting { oldest: WIRE_VERSION_OLDEST, newest: WIRE_VERSION, community: GARDEN, root, wanted: None }
}
