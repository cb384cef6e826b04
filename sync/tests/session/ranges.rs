//! Version 3: narrowing down where two sides differ, what goes first, which
//! version is spoken.

use super::*;

/// What two sides say to each other, in frames and bytes, until both are done.
fn cost(a: &mut Half, b: &mut Half) -> (usize, usize) {
    let (mut frames, mut bytes) = (0, 0);
    let mut queues = [VecDeque::from(a.take(Input::Opened)), VecDeque::new()];
    loop {
        let mut moved = false;
        for to in 0..2 {
            let (here, there) = if to == 0 { (&mut *b, 1) } else { (&mut *a, 0) };
            while let Some(frame) = queues[1 - there].pop_front() {
                moved = true;
                frames += 1;
                let len = codec::encode(&frame).len();
                assert!(len <= FRAME_BYTES_MAX, "{len}");
                if !matches!(frame, Frame::Changes(_)) {
                    bytes += len;
                }
                let answers = here.take(Input::Frame(frame));
                queues[there].extend(answers);
            }
            while here.read.is_some() {
                moved = true;
                let read = here.read();
                let sent = here.take(read);
                queues[there].extend(sent);
            }
        }
        if !moved {
            return (frames, bytes);
        }
    }
}

fn segments(streams: u8, devices: u8, count: u32) -> BTreeMap<FeedId, u64> {
    let mut feeds = BTreeMap::new();
    for stream in 0..streams {
        for n in 0..devices {
            for segment in 0..count {
                let stream = Stream::Channel(ChannelId::from_bytes([stream; 16]));
                let feed = FeedId { segment, ..FeedId::new(GARDEN, device(1 + n), stream) };
                feeds.insert(feed, 1 + u64::from(segment % 3));
            }
        }
    }
    feeds
}

/// A year of 20 channels by 20 devices: who has the same says so in two
/// greetings; who lacks a little learns of it in few words; who has nothing gets
/// everything without being asked about each.
#[test]
fn what_is_said_grows_with_what_differs_and_not_with_what_there_is() {
    let all = segments(20, 20, 12);
    assert_eq!(all.len(), 4_800);
    let pair = |ours: &BTreeMap<FeedId, u64>, theirs: &BTreeMap<FeedId, u64>| {
        let mut a = Half::new(Side::Initiator, Stored::linear(ours), 64);
        let mut b = Half::new(Side::Responder, Stored::linear(theirs), 64);
        let cost = cost(&mut a, &mut b);
        assert_union(&a, &b, &union(ours, theirs));
        cost
    };
    let (frames, bytes) = pair(&all, &all);
    assert_eq!(frames, 4);
    assert!(bytes < 250, "{bytes}");
    let mut ahead = all.clone();
    *ahead.values_mut().nth(2_345).expect("there") += 2;
    let (frames, bytes) = pair(&ahead, &all);
    assert!(frames <= 16 && bytes < 8_000, "{frames} frames, {bytes} bytes");
    // Both ahead in a few places.
    let mut theirs = all.clone();
    for n in [7, 1_234, 4_321] {
        *theirs.values_mut().nth(n).expect("there") += 1;
    }
    let (_, bytes) = pair(&ahead, &theirs);
    assert!(bytes < 25_000, "{bytes} bytes");
    let (frames, bytes) = pair(&BTreeMap::new(), &all);
    assert!(frames < 4_800 + 12 && bytes < 400, "{frames} frames, {bytes} bytes");
}

#[test]
fn the_open_channel_comes_first_and_of_words_the_newest() {
    let mut all = segments(3, 2, 4);
    all.insert(feed(0), 2);
    all.insert(feed(8), 2);
    all.insert(feed(1), 1);
    let stored = Stored::linear(&all);
    let wanted = Stream::Channel(ChannelId::from_bytes([1; 16]));
    let terms = Terms { wanted: Some(wanted), ..Terms::new(Side::Initiator, Stored::default().ends()) };
    let mut a = Half::new(Side::Initiator, Stored::default(), 9);
    a.session = SyncSession::new(terms);
    let mut b = Half::new(Side::Responder, stored, 9);
    let mut order = Vec::new();
    let mut to_b = VecDeque::from(a.take(Input::Opened));
    while let Some(frame) = to_b.pop_front() {
        let mut to_a = VecDeque::from(b.take(Input::Frame(frame)));
        while b.read.is_some() {
            let read = b.read();
            to_a.extend(b.take(read));
        }
        while let Some(frame) = to_a.pop_front() {
            if let Frame::Changes(run) = &frame {
                order.push((run.run.feed.stream, run.run.feed.segment));
            }
            to_b.extend(a.take(Input::Frame(frame)));
        }
    }
    assert_eq!(order.len(), all.len());
    assert_eq!((order[0].0, order[1].0), (Stream::Keys, Stream::Charter));
    let of_wanted = order[2..10].to_vec();
    assert!(of_wanted.iter().all(|(stream, _)| *stream == wanted), "{order:?}");
    assert!(of_wanted.is_sorted_by_key(|(_, segment)| std::cmp::Reverse(*segment)), "{order:?}");
    assert_eq!(order[10].0, Stream::Ledger);
    assert!(order[11..].is_sorted_by_key(|(_, segment)| std::cmp::Reverse(*segment)), "{order:?}");
}

/// A session in the middle of narrowing down, which has `stored`.
fn narrowing(stored: &Stored) -> SyncSession {
    let mut session = SyncSession::new(Terms::new(Side::Initiator, stored.ends()));
    session.handle(Input::Opened).expect("opens");
    session.handle(Input::Frame(Frame::Greeting(greeting([7; 32])))).expect("in order");
    session
}

#[test]
fn n6_claims_out_of_bounds_are_violations() {
    let stored = Stored::linear(&segments(2, 2, 3));
    let place = Place::of(&feed(3));
    let claim = |from: Option<Place>, upto: Option<Place>, ends: Vec<FeedHead>| Claim {
        range: PlaceRange { from, upto },
        says: Says::Ends(ends),
    };
    let refused = |claims: Vec<Claim>| narrowing(&stored).handle(Input::Frame(Frame::Claims(claims))).err();
    assert_eq!(refused(vec![claim(Some(place), Some(place), Vec::new())]), Some(Violation::Range));
    let outside = claim(Some(place), None, vec![head(feed(0), 1)]);
    assert_eq!(refused(vec![outside]), Some(Violation::Range));
    let many = vec![claim(None, None, Vec::new()); CLAIMS_PER_FRAME + 1];
    assert_eq!(refused(many), Some(Violation::TooMany("claims")));
    // Ends without end, turns without end.
    let mut session = narrowing(&stored);
    let flood = || Frame::Claims(vec![claim(None, None, vec![head(feed(0), 1); ENDS_PER_FRAME])]);
    let flooded = (0..100).find_map(|_| session.handle(Input::Frame(flood())).err());
    assert_eq!(flooded, Some(Violation::TooMany("feeds")));
    let mut session = narrowing(&stored);
    let turn = || Frame::Claims(vec![Claim { range: PlaceRange::ALL, says: Says::Answer(Vec::new()) }]);
    let endless = (0..2_000).find_map(|_| session.handle(Input::Frame(turn())).err());
    assert_eq!(endless, Some(Violation::TooMany("turns")));
    // Claims by someone who has the same, or who did not greet.
    let mut equal = SyncSession::new(Terms::new(Side::Responder, stored.ends()));
    assert_eq!(equal.handle(Input::Frame(Frame::Claims(Vec::new()))).err(), Some(Violation::UnexpectedFrame));
    equal.handle(Input::Frame(Frame::Greeting(greeting(stored.ends().root())))).expect("in order");
    assert_eq!(equal.handle(Input::Frame(Frame::Claims(Vec::new()))).err(), Some(Violation::UnexpectedFrame));
}

/// Versions: the newest that both know; whoever greets as of old is answered as
/// of old; what is too new or too old is told apart.
#[test]
fn n10_versions_are_negotiated() {
    let ours = Stored::linear(&segments(2, 2, 2));
    let theirs = Stored::linear(&segments(3, 1, 3));
    let all: BTreeSet<_> = ours.changes().union(&theirs.changes()).copied().collect();
    let mut a = Half::speaking(WIRE_VERSION_OLDEST, Side::Initiator, ours, 3);
    let mut b = Half::new(Side::Responder, theirs, 3);
    exchange(&mut a, &mut b, |n| n - 1);
    assert_eq!((a.stored.changes(), b.stored.changes()), (all.clone(), all));
    let fresh = || SyncSession::new(Terms::new(Side::Responder, Stored::default().ends()));
    let newer = Greeting { newest: WIRE_VERSION + 5, ..greeting([0; 32]) };
    fresh().handle(Input::Frame(Frame::Greeting(newer.clone()))).expect("both know this one");
    for (oldest, newest) in [(WIRE_VERSION + 1, WIRE_VERSION + 5), (1, WIRE_VERSION - 1), (9, 1)] {
        let other = Greeting { oldest, newest, ..newer.clone() };
        let refused = fresh().handle(Input::Frame(Frame::Greeting(other))).err();
        assert_eq!(refused, Some(Violation::Version(newest)));
    }
    let elsewhere = Greeting { community: ELSEWHERE, ..newer };
    assert_eq!(fresh().handle(Input::Frame(Frame::Greeting(elsewhere))).err(), Some(Violation::Community));
}
