//! Disputes: the rules, one by one. Attacks are in `dispute/attacks.rs`,
//! orders in `dispute/orders.rs`, faults in `dispute/faults.rs`.

#[path = "dispute/attacks.rs"]
mod attacks;
#[path = "dispute/court.rs"]
mod court;
#[path = "dispute/draws.rs"]
mod draws;
#[path = "dispute/faults.rs"]
mod faults;
#[path = "dispute/orders.rs"]
mod orders;
mod samples;
#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;

use court::{
    Court, LOCK, OPENER, OTHER_HALF, OWNER, PAYEE, appealed, closed, declined, drawn, evidence, person,
    seeded, voted, withdrawn,
};
use exo_model::charter::role::Role;
use exo_model::dispute::{BenchKind, DisputeFault, EVIDENCE_PER_PARTY_MAX, JURORS, Status, Step};

#[test]
fn a_dispute_runs_from_opening_to_verdict_and_leaves_a_trail() {
    let mut court = Court::new(12);
    let id = court.open().unwrap();
    assert_eq!(court.get(id).status(), Status::WaitsForHalf);
    court.step(PAYEE, seeded(id, OTHER_HALF)).unwrap();
    assert_eq!(court.get(id).status(), Status::WaitsForDraw);
    court.step(OPENER, drawn(id)).unwrap();
    assert_eq!(court.get(id).status(), Status::Judging(0));
    court.step(PAYEE, evidence(id)).unwrap();

    let jurors = court.seated(id, 0);
    assert_eq!(jurors.len(), usize::from(JURORS[0]));
    assert!(!jurors.contains(&OPENER) && !jurors.contains(&PAYEE));
    court.vote(id, jurors[0], 100).unwrap();
    court.vote(id, jurors[1], 0).unwrap();
    assert_eq!(court.verdict(id), None);
    let last = court.vote(id, jurors[2], 40).unwrap();

    let verdict = court.verdict(id).unwrap();
    assert_eq!((verdict.dispute, verdict.lock, verdict.payer, verdict.payee), (id, LOCK, OPENER, PAYEE));
    assert_eq!((verdict.refund.token_mib(), verdict.round, verdict.decided_by), (40, 0, last));
    assert_eq!(court.get(id).status(), Status::Decided(0));

    let trail: Vec<_> = court.get(id).history().iter().map(|entry| (entry.author, entry.step)).collect();
    let vote = |amount| Step::Voted { round: 0, finding: court::refund(amount) };
    let expected = [
        (OPENER, Step::Opened),
        (PAYEE, Step::Seeded),
        (OPENER, Step::Drawn),
        (PAYEE, Step::EvidenceAdded),
        (jurors[0], vote(100)),
        (jurors[1], vote(0)),
        (jurors[2], vote(40)),
    ];
    assert_eq!(trail, expected);
}

#[test]
fn two_who_agree_are_enough_and_a_majority_that_dismisses_dismisses() {
    for (findings, refund) in [([30, 30], 30), ([0, 0], 0)] {
        let (mut court, id) = Court::drawn(12);
        let jurors = court.seated(id, 0);
        court.vote(id, jurors[2], findings[0]).unwrap();
        court.vote(id, jurors[1], findings[1]).unwrap();
        assert_eq!(court.refund(id), Some(refund));
        assert_eq!(court.vote(id, jurors[0], 100), Err(DisputeFault::RoundOver));
    }
}

#[test]
fn an_owner_gives_the_other_half_for_a_silent_payee_who_may_still_come() {
    let mut court = Court::new(12);
    let id = court.open().unwrap();
    court.step(OWNER, seeded(id, [1; 32])).unwrap();
    assert_eq!(court.step(OWNER, seeded(id, [2; 32])), Err(DisputeFault::AlreadySeeded));
    let of_payee = court.step(PAYEE, seeded(id, [3; 32])).unwrap();
    assert_eq!(court.step(PAYEE, seeded(id, [4; 32])), Err(DisputeFault::AlreadySeeded));
    court.step(OPENER, drawn(id)).unwrap();
    assert_eq!(court.get(id).draw().unwrap().half, of_payee);
    assert_eq!(court.step(PAYEE, seeded(id, [5; 32])), Err(DisputeFault::AlreadyDrawn));
}

#[test]
fn who_declines_or_is_removed_is_replaced_by_the_next_in_the_draw() {
    let (mut court, id) = Court::drawn(40);
    let bench = court.bench(id, 0);
    assert!(bench.len() > 6);
    court.step(bench[1], declined(id)).unwrap();
    assert_eq!(court.seated(id, 0), [bench[0], bench[2], bench[3]]);
    court.roles.remove(&bench[0]);
    court.roles.insert(bench[2], Role::Guest);
    assert_eq!(court.seated(id, 0), [bench[3], bench[4], bench[5]]);
    assert_eq!(court.vote(id, bench[0], 9), Err(DisputeFault::NotAllowed));
    assert_eq!(court.vote(id, bench[1], 9), Err(DisputeFault::NotSeated));
    assert_eq!(court.vote(id, bench[2], 9), Err(DisputeFault::NotSeated));
    assert_eq!(court.vote(id, bench[6], 9), Err(DisputeFault::NotSeated));
    court.vote(id, bench[5], 10).unwrap();
    // Whoever voted keeps the seat, member or not.
    court.roles.remove(&bench[5]);
    court.vote(id, bench[4], 20).unwrap();
    court.vote(id, bench[3], 30).unwrap();
    assert_eq!(court.refund(id), Some(20));
}

#[test]
fn an_owner_closes_with_a_quorum_excuses_once_and_then_gives_up() {
    let (mut court, id) = Court::drawn(40);
    let bench = court.bench(id, 0);
    court.vote(id, bench[0], 10).unwrap();
    court.step(OWNER, closed(id, 0)).unwrap();
    assert_eq!(court.get(id).history().last().unwrap().step, Step::Excused { round: 0 });
    assert_eq!(court.seated(id, 0), [bench[0], bench[3], bench[4]]);

    let mut with_quorum = court.clone();
    with_quorum.vote(id, bench[4], 50).unwrap();
    assert_eq!(with_quorum.refund(id), None);
    with_quorum.step(OWNER, closed(id, 0)).unwrap();
    assert_eq!(with_quorum.refund(id), Some(10), "the lower of two");
    assert_eq!(with_quorum.get(id).history().last().unwrap().step, Step::Closed { round: 0 });

    court.step(OWNER, closed(id, 0)).unwrap();
    assert_eq!(court.get(id).status(), Status::GivenUp);
    assert_eq!(court.verdict(id), None);
    assert_eq!(court.step(OWNER, closed(id, 0)), Err(DisputeFault::RoundOver));
}

#[test]
fn a_round_is_given_up_at_once_where_nobody_is_left_to_make_a_quorum() {
    let (mut court, id) = Court::drawn(4);
    let bench = court.bench(id, 0);
    assert_eq!(bench.len(), 3);
    court.vote(id, bench[0], 10).unwrap();
    court.step(OWNER, closed(id, 0)).unwrap();
    assert_eq!(court.get(id).status(), Status::GivenUp);
}

#[test]
fn an_appeal_goes_before_other_jurors_and_its_verdict_replaces_the_first() {
    for appellant in [OPENER, PAYEE] {
        let (mut court, id) = Court::drawn(12);
        let first = court.bench(id, 0);
        assert_eq!(court.step(appellant, appealed(id)), Err(DisputeFault::RoundNotOver));
        court.vote(id, first[0], 60).unwrap();
        court.vote(id, first[1], 60).unwrap();
        assert_eq!(court.refund(id), Some(60));
        court.step(appellant, appealed(id)).unwrap();
        assert_eq!(court.get(id).status(), Status::Judging(1));
        assert_eq!(court.refund(id), Some(60), "it stands until it is replaced");

        let second = court.seated(id, 1);
        assert_eq!(second.len(), usize::from(JURORS[1]));
        assert!(second.iter().all(|juror| !first.contains(juror)));
        for (juror, amount) in second.iter().zip([100, 0, 70, 20, 30]) {
            court.step(*juror, voted(id, 1, amount)).unwrap();
        }
        let verdict = court.verdict(id).unwrap();
        assert_eq!((verdict.refund.token_mib(), verdict.round), (30, 1));
        for party in [OPENER, PAYEE] {
            assert_eq!(court.step(party, appealed(id)), Err(DisputeFault::AlreadyAppealed));
        }
    }
}

#[test]
fn an_appeal_that_is_given_up_leaves_the_first_verdict() {
    let (mut court, id) = Court::drawn(12);
    let first = court.bench(id, 0);
    court.vote(id, first[0], 60).unwrap();
    court.vote(id, first[1], 60).unwrap();
    court.step(PAYEE, appealed(id)).unwrap();
    court.step(OWNER, closed(id, 1)).unwrap();
    court.step(OWNER, closed(id, 1)).unwrap();
    assert_eq!(court.refund(id), Some(60));
    assert_eq!(court.get(id).status(), Status::Decided(0));
}

#[test]
fn what_the_first_jurors_could_not_decide_may_be_appealed() {
    let (mut court, id) = Court::drawn(12);
    court.step(OWNER, closed(id, 0)).unwrap();
    if court.get(id).status() != Status::GivenUp {
        court.step(OWNER, closed(id, 0)).unwrap();
    }
    court.step(OPENER, appealed(id)).unwrap();
    for juror in court.seated(id, 1).into_iter().take(3) {
        court.step(juror, voted(id, 1, 25)).unwrap();
    }
    assert_eq!(court.refund(id), Some(25));
}

#[test]
fn in_a_small_family_the_owners_who_are_no_party_judge() {
    // Opener, payee, one owner, one member: two who could judge, not three.
    let (mut court, id) = Court::drawn(1);
    assert!(court.get(id).is_judged_by_owners());
    assert_eq!(court.seated(id, 0), [OWNER]);
    assert_eq!(court.vote(id, person(10), 5), Err(DisputeFault::NotOnBench));
    court.vote(id, OWNER, 5).unwrap();
    assert_eq!(court.refund(id), Some(5));
    assert_eq!(court.step(PAYEE, appealed(id)), Err(DisputeFault::NoSecondBench));
}

#[test]
fn two_owners_both_have_to_judge_and_the_lower_finding_holds() {
    let mut court = Court::new(1);
    court.roles.insert(person(10), Role::Owner);
    let id = court.open().unwrap();
    court.step(PAYEE, seeded(id, OTHER_HALF)).unwrap();
    court.step(OPENER, drawn(id)).unwrap();
    court.vote(id, OWNER, 70).unwrap();
    assert_eq!(court.refund(id), None);
    court.vote(id, person(10), 20).unwrap();
    assert_eq!(court.refund(id), Some(20));
}

#[test]
fn where_nobody_can_judge_the_dispute_says_so() {
    let mut court = Court::new(1);
    court.roles.insert(PAYEE, Role::Owner);
    court.roles.insert(OWNER, Role::Member);
    let id = court.open().unwrap();
    court.step(PAYEE, seeded(id, OTHER_HALF)).unwrap();
    court.step(OPENER, drawn(id)).unwrap();
    assert_eq!(court.get(id).status(), Status::Undecidable);
    assert_eq!(court.verdict(id), None);
}

#[test]
fn a_middle_family_has_a_jury_and_the_owners_for_the_appeal() {
    // Six who could judge: a jury of three, and no five others.
    for seed in 0..32 {
        let mut court = Court::new(5);
        let id = court.open().unwrap();
        court.step(PAYEE, seeded(id, [seed; 32])).unwrap();
        court.step(OPENER, drawn(id)).unwrap();
        let benches = &court.get(id).draw().unwrap().benches;
        assert_eq!((benches[0].kind, benches[0].people.len()), (BenchKind::Jurors, 3));
        let owner_judged = benches[0].people.contains(&OWNER);
        let expected: &[_] = if owner_judged { &[] } else { &[OWNER] };
        assert_eq!((benches[1].kind, &*benches[1].people), (BenchKind::Owners, expected));
    }
}

#[test]
fn a_withdrawn_dispute_rests() {
    let (mut court, id) = Court::drawn(12);
    court.step(OPENER, withdrawn(id)).unwrap();
    assert_eq!(court.get(id).status(), Status::Withdrawn);
    let juror = court.seated(id, 0)[0];
    assert_eq!(court.vote(id, juror, 1), Err(DisputeFault::Withdrawn));
    assert_eq!(court.open(), Err(DisputeFault::AlreadyOpened));
}

#[test]
fn evidence_is_bounded_for_each_party() {
    let (mut court, id) = Court::drawn(12);
    for party in [OPENER, PAYEE] {
        for _ in 0..EVIDENCE_PER_PARTY_MAX {
            court.step(party, evidence(id)).unwrap();
        }
        assert_eq!(court.step(party, evidence(id)), Err(DisputeFault::TooManySteps));
    }
}
