//! Faults: every one, and (by the court's own check) that none changes
//! anything.

use std::collections::BTreeSet;

use exo_model::amount::Amount;
use exo_model::charter::role::Role;
use exo_model::dispute::{
    CLOSINGS_MAX, DISPUTES_MAX, DISPUTES_PER_OPENER_MAX, DisputeFault, HALVES_MAX, commitment,
};
use exo_model::event::DisputeEvent;
use exo_model::event::dispute::Finding;

use crate::court::{
    CLAIM, Court, LOCK, OPENER, OPENER_HALF, OTHER_HALF, OWNER, PAYEE, appealed, change, closed, declined,
    drawn, evidence, opened, opened_with, person, seeded, voted, withdrawn,
};

fn opening(payee: exo_model::PersonId, claim: i64, summary: &str) -> DisputeEvent {
    DisputeEvent::Opened {
        lock: LOCK,
        payee,
        claim: Amount::from_token_mib(claim),
        summary: summary.to_owned(),
        commitment: commitment(&LOCK, &OPENER, &OPENER_HALF),
    }
}

#[test]
fn openings() {
    let mut court = Court::new(12);
    court.roles.insert(person(40), Role::Keeper);
    let mut fails = |author, event, fault| assert_eq!(court.step(author, event), Err(fault));
    fails(person(99), opened(LOCK), DisputeFault::NotAllowed);
    fails(person(40), opened(LOCK), DisputeFault::NotAllowed);
    fails(OPENER, opening(OPENER, CLAIM, "me"), DisputeFault::OwnPayee);
    for claim in [0, -1, i64::MIN, i64::MAX, (1 << 48) + 1] {
        fails(OPENER, opening(PAYEE, claim, "much"), DisputeFault::Claim);
    }
    for summary in [&"x".repeat(1_025), "a\u{202e}b", ""] {
        fails(OPENER, opening(PAYEE, CLAIM, summary), DisputeFault::Summary);
    }
    court.open().unwrap();
    assert_eq!(court.open(), Err(DisputeFault::AlreadyOpened));
}

#[test]
fn halves_and_draws() {
    let mut court = Court::new(12);
    let nowhere = change(77);
    assert_eq!(court.step(PAYEE, seeded(nowhere, OTHER_HALF)), Err(DisputeFault::Unknown));
    let id = court.open().unwrap();
    let blind = BTreeSet::new();
    assert_eq!(court.step_knowing(PAYEE, seeded(id, OTHER_HALF), &blind), Err(DisputeFault::Unknown));
    for author in [OPENER, person(10)] {
        assert_eq!(court.step(author, seeded(id, OTHER_HALF)), Err(DisputeFault::NotNeutralOwner));
    }
    assert_eq!(court.step(OPENER, drawn(id)), Err(DisputeFault::NotSeeded));
    assert_eq!(court.step(PAYEE, evidence(id)), Err(DisputeFault::NotDrawn));
    court.step(PAYEE, seeded(id, OTHER_HALF)).unwrap();
    assert_eq!(court.step(OWNER, seeded(id, OTHER_HALF)), Err(DisputeFault::AlreadySeeded));
    assert_eq!(court.step(PAYEE, drawn(id)), Err(DisputeFault::NotOpener));
    let wrong = DisputeEvent::Drawn { dispute: id, half: OTHER_HALF };
    assert_eq!(court.step(OPENER, wrong), Err(DisputeFault::Commitment));
    court.step(OPENER, drawn(id)).unwrap();
    assert_eq!(court.step(OPENER, drawn(id)), Err(DisputeFault::AlreadyDrawn));
    assert_eq!(court.step(PAYEE, withdrawn(id)), Err(DisputeFault::NotOpener));
}

#[test]
fn an_owner_who_is_a_party_is_an_owner_no_more() {
    let mut court = Court::new(12);
    court.roles.insert(OPENER, Role::Owner);
    let id = court.open().unwrap();
    assert_eq!(court.step(OPENER, seeded(id, OTHER_HALF)), Err(DisputeFault::NotNeutralOwner));
    court.step(PAYEE, seeded(id, OTHER_HALF)).unwrap();
    court.step(OPENER, drawn(id)).unwrap();
    assert_eq!(court.step(OPENER, closed(id, 0)), Err(DisputeFault::NotNeutralOwner));
}

#[test]
fn judging() {
    let (mut court, id) = Court::drawn(40);
    let bench = court.bench(id, 0);
    let before_the_draw: BTreeSet<_> = [id].into();
    let early = court.step_knowing(bench[0], voted(id, 0, 1), &before_the_draw);
    assert_eq!(early, Err(DisputeFault::NotDrawn));
    assert_eq!(court.vote(id, PAYEE, 1), Err(DisputeFault::NotOnBench));
    assert_eq!(court.vote(id, court.bench(id, 1)[0], 1), Err(DisputeFault::NotOnBench));
    assert_eq!(court.vote(id, bench[3], 1), Err(DisputeFault::NotSeated));
    for amount in [0, -1, i64::MIN, CLAIM + 1, i64::MAX] {
        let finding = Finding::Refund(Amount::from_token_mib(amount));
        let event = DisputeEvent::Voted { dispute: id, round: 0, finding };
        assert_eq!(court.step(bench[0], event), Err(DisputeFault::Refund));
    }
    for round in [1, 2, u8::MAX] {
        assert_eq!(court.step(bench[0], voted(id, round, 1)), Err(DisputeFault::NoSuchRound));
        assert_eq!(court.step(OWNER, closed(id, round)), Err(DisputeFault::NoSuchRound));
    }
    court.vote(id, bench[0], 1).unwrap();
    assert_eq!(court.vote(id, bench[0], 2), Err(DisputeFault::AlreadyVoted));
    assert_eq!(court.step(bench[0], declined(id)), Err(DisputeFault::AlreadyVoted));
    court.step(bench[1], declined(id)).unwrap();
    assert_eq!(court.step(bench[1], declined(id)), Err(DisputeFault::AlreadyDeclined));
    assert_eq!(court.step(PAYEE, declined(id)), Err(DisputeFault::NotOnBench));
    assert_eq!(court.step(bench[4], evidence(id)), Err(DisputeFault::NotParty));
    assert_eq!(court.step(bench[4], appealed(id)), Err(DisputeFault::NotParty));
    court.vote(id, bench[2], 1).unwrap();
    for late in [declined(id), voted(id, 0, 5)] {
        assert_eq!(court.step(bench[3], late), Err(DisputeFault::RoundOver));
    }
    for late in [evidence(id), withdrawn(id)] {
        assert_eq!(court.step(OPENER, late), Err(DisputeFault::RoundOver));
    }
    court.step(PAYEE, appealed(id)).unwrap();
    court.step(OPENER, evidence(id)).unwrap();
}

#[test]
fn what_is_repeated_without_knowing_is_bounded() {
    let mut court = Court::new(12);
    let id = court.open().unwrap();
    let blind = court.known.clone();
    for n in 0..HALVES_MAX {
        let half = [u8::try_from(n).unwrap(); 32];
        court.step_knowing(PAYEE, seeded(id, half), &blind).unwrap();
        court.step_knowing(OWNER, seeded(id, half), &blind).unwrap();
    }
    for author in [PAYEE, OWNER] {
        let more = court.step_knowing(author, seeded(id, OTHER_HALF), &blind);
        assert_eq!(more, Err(DisputeFault::TooManySteps));
    }
    court.step(OPENER, drawn(id)).unwrap();
    let blind = court.known.clone();
    for _ in 0..CLOSINGS_MAX {
        court.step_knowing(OWNER, closed(id, 0), &blind).unwrap();
    }
    assert_eq!(court.step_knowing(OWNER, closed(id, 0), &blind), Err(DisputeFault::TooManySteps));
}

#[test]
fn nobody_takes_all_the_places_and_there_is_an_end_of_them() {
    let mut court = Court::new(120);
    let blind = BTreeSet::new();
    let mut opened_so_far = 0;
    for n in 10_u8.. {
        for lock in 0..DISPUTES_PER_OPENER_MAX {
            court
                .light_step(person(n), opened_with(change(lock as u64), person(n), OPENER_HALF), &blind)
                .unwrap();
            opened_so_far += 1;
        }
        let more = court.light_step(person(n), opened(change(999)), &blind);
        assert_eq!(more, Err(DisputeFault::TooManyOfOpener));
        if opened_so_far == DISPUTES_MAX {
            break;
        }
    }
    assert_eq!(court.light_step(OPENER, opened(LOCK), &blind), Err(DisputeFault::TooMany));
    assert_eq!(court.disputes.iter().count(), DISPUTES_MAX);
}
