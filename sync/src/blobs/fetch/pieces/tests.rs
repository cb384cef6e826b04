use super::*;

const MIB: u64 = 1 << 20;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start, end }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[track_caller]
fn piece(next: Next) -> Piece {
    match next {
        Next::Piece(piece) => piece,
        other => panic!("no piece: {other:?}"),
    }
}

#[test]
fn each_byte_is_given_out_once() {
    let mut pieces = Pieces::new(vec![range(0, 3 * MIB), range(5 * MIB, 6 * MIB + 5)], 2);
    let mut given = Vec::new();
    for lane in 0..5 {
        given.push(piece(pieces.next((lane % 2, lane), ms(0))).range);
    }
    assert!(matches!(pieces.next((0, 9), ms(0)), Next::Wait), "others are at it");
    assert_eq!(merge_ranges(given), [range(0, 3 * MIB), range(5 * MIB, 6 * MIB + 5)]);
}

#[test]
fn what_a_lane_did_not_get_is_free_again() {
    let mut pieces = Pieces::new(vec![range(0, MIB)], 2);
    let first = piece(pieces.next((0, 0), ms(0)));
    assert_eq!(first.range, range(0, MIB));
    pieces.came((0, 0), MIB / 2, MIB / 2, ms(1));
    pieces.end((0, 0));
    assert_eq!(piece(pieces.next((1, 0), ms(2))).range, range(MIB / 2, MIB));
    pieces.came((1, 0), MIB, MIB / 2, ms(3));
    pieces.end((1, 0));
    for source in 0..2 {
        assert!(matches!(pieces.next((source, 0), ms(4)), Next::Nothing), "all is here");
    }
}

#[test]
fn a_silent_source_loses_its_piece() {
    let mut pieces = Pieces::new(vec![range(0, MIB)], 2);
    let slow = piece(pieces.next((0, 0), ms(0)));
    pieces.came((0, 0), 16 * 1024, 16 * 1024, ms(10));
    assert!(matches!(pieces.next((1, 0), ms(100)), Next::Wait), "not silent for long enough");
    let late = ms(10) + STALLED;
    assert_eq!(piece(pieces.next((1, 0), late)).range, range(16 * 1024, MIB));
    assert_eq!(slow.end.load(Ordering::Relaxed), 16 * 1024, "the first lane stops there");
    pieces.end((0, 0));
    assert!(matches!(pieces.next((0, 0), late), Next::Wait));
}

#[test]
fn a_slow_source_shares_its_piece_in_whole_blocks() {
    let mut pieces = Pieces::new(vec![range(0, MIB)], 2);
    let slow = piece(pieces.next((0, 0), ms(0)));
    // 64 KiB in a second: the rest would last 15 more.
    pieces.came((0, 0), 0, 0, ms(0));
    pieces.came((0, 0), 65_536, 65_536, ms(1000));
    let shared = piece(pieces.next((1, 0), ms(1000)));
    assert_eq!(shared.range.end, MIB);
    assert_eq!(shared.range.start % ALIGNMENT_BYTES, 0);
    assert_eq!(slow.end.load(Ordering::Relaxed), shared.range.start);
    assert!(shared.range.start > MIB / 2 && shared.range.start < MIB);
    assert!(matches!(pieces.next((0, 1), ms(1000)), Next::Wait), "never from itself");
}

#[test]
fn sources_get_only_what_they_have() {
    let mut pieces = Pieces::new(vec![range(0, 4 * MIB)], 3);
    pieces.lacks(0, &[range(0, 2 * MIB)]);
    pieces.lacks(0, &[range(3 * MIB, 9 * MIB)]);
    pieces.lacks(1, &[range(0, 4 * MIB)]);
    assert!(matches!(pieces.next((1, 0), ms(0)), Next::Nothing));
    assert_eq!(piece(pieces.next((0, 0), ms(0))).range, range(2 * MIB, 3 * MIB));
    assert!(matches!(pieces.next((0, 1), ms(0)), Next::Nothing));
    assert_eq!(piece(pieces.next((2, 0), ms(0))).range, range(0, MIB));
    // A stalled piece of which this one lacks a part is not taken over.
    pieces.lacks(1, &[]);
    assert!(matches!(pieces.next((1, 0), ms(60_000)), Next::Nothing));
}

#[test]
fn fast_sources_get_larger_pieces() {
    let mut pieces = Pieces::new(vec![range(0, 1000 * MIB)], 1);
    assert_eq!(piece(pieces.next((0, 0), ms(0))).range.len(), PIECE_BYTES.0);
    pieces.came((0, 0), 0, 0, ms(0));
    pieces.came((0, 0), MIB, MIB, ms(100));
    pieces.end((0, 0));
    // 10 MiB a second.
    assert_eq!(piece(pieces.next((0, 0), ms(100))).range, range(MIB, 6 * MIB));
    pieces.came((0, 0), 6 * MIB, 500 * MIB, ms(250));
    pieces.came((0, 0), 6 * MIB, 5000 * MIB, ms(450));
    pieces.end((0, 0));
    assert_eq!(piece(pieces.next((0, 0), ms(500))).range.len(), PIECE_BYTES.1, "but not for ever");
}

/// Lanes of any speed that come, stall, fail and lack things: every byte is
/// brought in the end, and little of it twice.
#[test]
fn any_course_of_things_brings_everything() {
    for seed in 0..200_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let size = 20 * MIB + random(3 * MIB);
        let mut pieces = Pieces::new(vec![range(0, size)], 4);
        // One source has everything, so that it can end.
        for source in 1..4 {
            let start = random(size / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
            pieces.lacks(source, &[range(start, size)]);
        }
        let mut here = Vec::new();
        let mut running: BTreeMap<Lane, (u64, Arc<AtomicU64>)> = BTreeMap::new();
        let mut now = ms(0);
        for step in 0.. {
            assert!(step < 100_000, "seed {seed} does not end");
            now += ms(random(50));
            let lane =
                (usize::try_from(random(4)).expect("small"), usize::try_from(random(2)).expect("small"));
            let Some((at, end)) = running.get(&lane).cloned() else {
                match pieces.next(lane, now) {
                    Next::Piece(piece) => drop(running.insert(lane, (piece.range.start, piece.end))),
                    Next::Wait => {}
                    Next::Nothing if lane.0 == 0 && running.is_empty() => break,
                    Next::Nothing => {}
                }
                continue;
            };
            let end = end.load(Ordering::Relaxed);
            // Sources 2 and 3 stall often; any lane may fail.
            let stalls = lane.0 > 1 && random(4) > 0;
            if at >= end || random(100) == 0 {
                pieces.end(lane);
                running.remove(&lane);
            } else if !stalls {
                let to = end.min(at + (1 + random(16)) * ALIGNMENT_BYTES);
                here.push(range(at, to));
                pieces.came(lane, to, to - at, now);
                running.insert(lane, (to, running[&lane].1.clone()));
            }
        }
        assert_eq!(merge_ranges(here.clone()), [range(0, size)], "seed {seed}");
        let brought: u64 = here.iter().map(|part| part.len()).sum();
        assert!(brought <= size, "seed {seed}: a lane stops where another takes over");
    }
}
