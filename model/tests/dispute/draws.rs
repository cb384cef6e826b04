//! The draw: the format, and whether it is fair.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::charter::role::Role;
use exo_model::dispute::{BENCH_MAX, DisputeFault, commitment, rank, seed};
use exo_model::event::DisputeEvent;
use exo_model::{ChangeHash, PersonId};

use crate::court::{
    Court, LOCK, OPENER, OPENER_HALF, OTHER_HALF, OWNER, PAYEE, drawn, opened, opened_with, person, seeded,
};
use crate::seeded::Rng;

fn hex(bytes: &[u8; 32]) -> String {
    ChangeHash::from_bytes(*bytes).to_hex()
}

/// Values from the Python package `blake3`, with `derive_key_context`.
#[test]
fn the_hashes_are_the_format() {
    let (lock, dispute) = (ChangeHash::from_bytes([1; 32]), ChangeHash::from_bytes([4; 32]));
    assert_eq!(
        hex(&commitment(&lock, &person(2), &[3; 32])),
        "a7d26031216a71e1cf83d20f0abd753ab5a777f5f2c30d3454280aba6f3441c4"
    );
    let seed = seed(&dispute, &[3; 32], &[5; 32]);
    assert_eq!(hex(&seed), "befd20be7c763d668b6a6845ff1fdfc42d8468a238a44d5515e32924c3409b7d");
    assert_eq!(
        hex(&rank(&seed, 1, &person(6))),
        "62e54ee13f8b22e68fede008452a7231f97a4b9fb473247ed2ebe4bda5fb8915"
    );
}

/// Ranked by a script around the Python package.
#[test]
fn the_benches_are_the_format() {
    let mut court = Court::new(10);
    court.roles.insert(OWNER, Role::Guest);
    let (id, blind) = (ChangeHash::from_bytes([4; 32]), BTreeSet::new());
    court.apply(id, OPENER, &opened_with(LOCK, OPENER, [3; 32]), &blind).unwrap();
    court.step(PAYEE, seeded(id, [5; 32])).unwrap();
    court.step(OPENER, DisputeEvent::Drawn { dispute: id, half: [3; 32] }).unwrap();
    assert_eq!(court.bench(id, 0), [17, 15, 18].map(person));
    assert_eq!(court.bench(id, 1), [14, 10, 12, 13, 19, 16, 11].map(person));
}

/// The benches of `court` for a draw from these halves.
fn benches(mut court: Court, opener_half: [u8; 32], other_half: [u8; 32]) -> [Vec<PersonId>; 2] {
    let id = court.step(OPENER, opened_with(LOCK, OPENER, opener_half)).expect("it opens");
    court.step(PAYEE, seeded(id, other_half)).expect("the payee gives a half");
    court.step(OPENER, DisputeEvent::Drawn { dispute: id, half: opener_half }).expect("the opener draws");
    [court.bench(id, 0), court.bench(id, 1)]
}

#[test]
fn benches_are_disjoint_bounded_and_without_the_parties() {
    for members in [0, 1, 2, 3, 6, 7, 8, 20, 43, 100, 200] {
        let [first, second] = benches(Court::new(members), OPENER_HALF, OTHER_HALF);
        assert!(first.len() <= BENCH_MAX && second.len() <= BENCH_MAX);
        for people in [&first, &second] {
            assert!(!people.contains(&OPENER) && !people.contains(&PAYEE));
        }
        assert!(first.iter().all(|juror| !second.contains(juror)));
        // With the owner, one more may judge than there are members.
        match members {
            0 | 1 => assert_eq!((&*first, second.len()), (&[OWNER][..], 0)),
            2..=6 => assert!(first.len() == 3 && second.len() <= 1),
            _ => assert!(first.len() >= 3 && second.len() >= 5),
        }
    }
}

#[test]
fn the_bench_is_fixed_by_who_could_judge_at_the_opening() {
    let mut court = Court::new(12);
    let id = court.open().unwrap();
    let stuffed: Vec<_> = (100..200).map(person).collect();
    court.roles.extend(stuffed.iter().map(|person| (*person, Role::Member)));
    court.step(PAYEE, seeded(id, OTHER_HALF)).unwrap();
    court.step(OPENER, drawn(id)).unwrap();
    let judges = [court.bench(id, 0), court.bench(id, 1)].concat();
    assert!(!judges.is_empty() && judges.iter().all(|judge| !stuffed.contains(judge)));
}

/// Pearson's statistic of how often each person sat against equal chances.
/// Three seats drawn without putting back vary less than a multinomial, so
/// the bound, the 0.1 % point for 19 degrees of freedom, is on the safe side.
fn chi_square(seats: &BTreeMap<PersonId, u32>, people: f64) -> f64 {
    let total: u32 = seats.values().sum();
    let expected = f64::from(total) / people;
    let missing = people - seats.len() as f64;
    seats.values().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum::<f64>()
        + missing * expected
}

#[test]
fn whoever_varies_one_half_spreads_the_seats_evenly() {
    let court = Court::new(19);
    for opener_varies in [true, false] {
        let mut rng = Rng(7);
        let mut seats = [BTreeMap::new(), BTreeMap::new()];
        for _ in 0..2_000 {
            let half = rng.array();
            let halves = if opener_varies { (half, OTHER_HALF) } else { (OPENER_HALF, half) };
            let benches = benches(court.clone(), halves.0, halves.1);
            for (seats, (bench, jurors)) in seats.iter_mut().zip(benches.iter().zip([3, 5])) {
                bench.iter().take(jurors).for_each(|juror| *seats.entry(*juror).or_insert(0) += 1);
            }
        }
        for seats in seats {
            let statistic = chi_square(&seats, 20.0);
            assert!(statistic < 43.82, "{statistic}");
            assert!(statistic > 1.0, "too even to be drawn: {statistic}");
        }
    }
}

#[test]
fn an_opener_cannot_try_ten_thousand_halves() {
    let mut court = Court::new(20);
    let id = court.step(OPENER, opened(LOCK)).unwrap();
    court.step(PAYEE, seeded(id, OTHER_HALF)).unwrap();
    let mut rng = Rng(11);
    for _ in 0..10_000 {
        let event = DisputeEvent::Drawn { dispute: id, half: rng.array() };
        assert_eq!(court.step(OPENER, event), Err(DisputeFault::Commitment));
    }
    court.step(OPENER, drawn(id)).unwrap();
}

/// Without the opener's half, the other half's author learns nothing by
/// trying: a half that would seat a friend with one opener's half seats them
/// with another's no more often than chance.
#[test]
fn a_payee_who_grinds_against_a_guess_gains_nothing() {
    let (court, friend, guess) = (Court::new(19), person(10), [9; 32]);
    let mut rng = Rng(13);
    let seats_friend =
        |opener: [u8; 32], other| benches(court.clone(), opener, other)[0][..3].contains(&friend);
    let (mut ground, mut sat) = (0, 0);
    while ground < 200 {
        let half = rng.array();
        if seats_friend(guess, half) {
            ground += 1;
            sat += u32::from(seats_friend(rng.array(), half));
        }
    }
    // 3 of 20 seats: 30 of 200 expected, deviation about 5.
    assert!((15..=45).contains(&sat), "{sat}");
}
