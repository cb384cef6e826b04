//! The gate's property: whatever is done to the bytes of a run or to its
//! parts, nothing but the honest run gets in, nothing panics, a bad run leaves
//! nothing, and honest feeds beside it land.

use std::collections::BTreeMap;

use exo_model::codec::{decode, encode};
use exo_model::envelope::{ENVELOPE_VERSION, Envelope, SegmentEnd};
use exo_model::feed::gate::admit;
use exo_model::feed::{FeedId, FeedPosition, Run, Stream, chunk};
use exo_model::signature::Signature;

use crate::seeded::{Rng, mutate};
use crate::{
    Twist, content_twists, end_of, feed, honest, identity_twists, list_twists, payloads, place_twists, signed,
};

const BYTE_MUTANTS: usize = 60_000;
const PART_MUTANTS: usize = 8_000;
const ROUNDS: usize = 400;

/// Honest runs of several feeds, with the end each continues.
fn honest_runs() -> Vec<(FeedPosition, Run)> {
    let ledger = honest();
    let charter = feed(Stream::Charter);
    let first = signed(charter, FeedPosition::START, payloads(1));
    let end = end_of(&charter, FeedPosition::START, &first.changes);
    let previous = Some(SegmentEnd { end, signature: first.signature });
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        lamport: 2,
        body: b"sealed".to_vec(),
        heads: Some(Vec::new()),
        key: None,
        previous,
    };
    let mut changes = payloads(3);
    changes[0].payload = envelope.encode();
    let later = signed(charter.with_segment(1), FeedPosition::START, changes);
    let keys = signed(feed(Stream::Keys), FeedPosition::START, payloads(12));
    vec![ledger, (FeedPosition::START, first), (FeedPosition::START, later), (FeedPosition::START, keys)]
}

/// The chunks that a run puts into its feed.
fn canonical(known: FeedPosition, run: &Run) -> Vec<u8> {
    let mut at = known;
    let chunks = run.changes.iter().flat_map(|change| {
        let (bytes, hash) = chunk::encode(&run.feed.device, &at, change);
        at = FeedPosition { seq: at.seq + 1, hash };
        bytes
    });
    chunks.collect()
}

#[test]
fn no_mutant_of_an_encoded_run_gets_in() {
    let runs = honest_runs();
    let encoded: Vec<_> = runs.iter().map(|(_, run)| encode(run)).collect();
    let mut rng = Rng(21);
    let (mut decoded_count, mut accepted_count) = (0, 0);
    for _ in 0..BYTE_MUTANTS {
        let which = rng.below(runs.len());
        let mut mutant = mutate(&mut rng, &encoded[which]);
        if rng.one_in(8) {
            // The end of another run behind the beginning of this one.
            let other = &encoded[rng.below(encoded.len())];
            mutant.truncate(rng.below(mutant.len() + 1));
            mutant.extend_from_slice(&other[rng.below(other.len())..]);
        }
        let Ok(run) = decode::<Run>(&mutant, 1 << 20) else { continue };
        decoded_count += 1;
        assert_eq!(encode(&run), mutant, "one value has one form");
        let honest = runs.iter().find(|(_, honest)| honest.feed == run.feed);
        let known = honest.map_or(FeedPosition::START, |(known, _)| *known);
        let Ok(accepted) = admit(run.clone(), &known) else { continue };
        accepted_count += 1;
        let (_, honest) = honest.expect("no other feed has an author");
        assert_eq!(run, *honest, "only the author's own run");
        assert_eq!(canonical(known, &run), canonical(known, honest));
        assert_eq!(accepted.end(), end_of(&honest.feed, known, &honest.changes));
    }
    assert!(decoded_count > BYTE_MUTANTS / 8, "the mutants reach the gate: {decoded_count}");
    assert!(accepted_count < decoded_count / 8, "and are mutants: {accepted_count} of {decoded_count}");
}

fn flipped(signature: &Signature, rng: &mut Rng) -> Signature {
    let mut bytes = *signature.as_bytes();
    bytes[rng.below(64)] ^= 1 << rng.below(8);
    Signature::from_bytes(bytes)
}

/// Changes one part of a run of at least four changes.
fn twisted(rng: &mut Rng, run: &Run, twists: &[(&'static str, Twist)]) -> Run {
    let mut bad = run.clone();
    match rng.below(4) {
        0 => bad.signature = flipped(&run.signature, rng),
        1 => {
            let at = rng.below(run.changes.len());
            bad.changes[at].payload = mutate(rng, &run.changes[at].payload);
        }
        2 => {
            let at = rng.below(run.changes.len());
            bad.changes[at].time_ms ^= 1 << rng.below(63);
        }
        _ => twists[rng.below(twists.len())].1(&mut bad),
    }
    bad
}

fn all_twists() -> Vec<(&'static str, Twist)> {
    [identity_twists(), place_twists(), content_twists(), list_twists()].concat()
}

#[test]
fn no_run_with_a_part_changed_gets_in() {
    let (known, run) = honest();
    let (twists, mut rng) = (all_twists(), Rng(2));
    let mut bad_count = 0;
    for round in 0..PART_MUTANTS {
        let bad = twisted(&mut rng, &run, &twists);
        bad_count += usize::from(bad != run);
        assert!(bad == run || admit(bad, &known).is_err(), "round {round}");
    }
    assert!(bad_count > PART_MUTANTS * 9 / 10, "{bad_count}");
}

/// Five feeds grow side by side; in every round one of their runs is bad.
#[test]
fn a02_a_bad_run_leaves_nothing_and_the_others_land() {
    let (twists, mut rng) = (all_twists(), Rng(3));
    let streams = [Stream::Keys, Stream::Charter, Stream::Ledger, Stream::Cluster, Stream::Library];
    let mut held: BTreeMap<FeedId, FeedPosition> =
        streams.into_iter().map(|stream| (feed(stream), FeedPosition::START)).collect();
    for round in 0..ROUNDS {
        let mut runs: Vec<_> = held.iter().map(|(feed, known)| signed(*feed, *known, payloads(4))).collect();
        let which = rng.below(runs.len());
        let good = runs[which].clone();
        runs[which] = twisted(&mut rng, &good, &twists);
        let expected: BTreeMap<_, _> = held
            .iter()
            .map(|(feed, known)| {
                let spoilt = *feed == good.feed && runs[which] != good;
                (*feed, if spoilt { *known } else { end_of(feed, *known, &payloads(4)) })
            })
            .collect();
        rng.shuffle(&mut runs);
        for run in runs {
            let known = held.get(&run.feed).copied().unwrap_or(FeedPosition::START);
            if let Ok(accepted) = admit(run, &known) {
                held.insert(*accepted.feed(), accepted.end());
            }
        }
        assert_eq!(held, expected, "round {round}");
    }
}
