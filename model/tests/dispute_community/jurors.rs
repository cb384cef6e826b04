//! Whose vote counts: jurors who are removed, those who stand in for them, and
//! people who are no jurors.

use exo_model::ChangeHash;
use exo_model::charter::{ActStanding, Role};
use exo_model::decide::{Intent, Refusal};
use exo_model::dispute::{Status, Vote};
use exo_model::event::dispute::DisputeEvent;

use crate::village::{FOUNDER, PAYEE, PAYER, Village, mib, voted};

fn remove(village: &mut Village, who: usize) -> ChangeHash {
    let person = village.id(who);
    village.homes[FOUNDER].act(Intent::Remove { person, ban: false, reason: String::new() })
}

/// A dispute before three jurors: one who is going to be removed, and two.
fn before_three() -> (Village, ChangeHash, usize, [usize; 2]) {
    let mut village = Village::of([Role::Member; 5]);
    let lock = village.job(500);
    let dispute = village.disputed(lock, 500);
    let jurors = village.jurors(dispute, 0);
    assert_eq!(jurors.len(), 3);
    let gone = jurors.iter().copied().find(|juror| *juror != FOUNDER).expect("at most one is the founder");
    let others: Vec<usize> = jurors.into_iter().filter(|juror| *juror != gone).collect();
    (village, dispute, gone, [others[0], others[1]])
}

fn events_of(votes: &[Vote]) -> Vec<ChangeHash> {
    sorted(votes.iter().map(|vote| vote.event).collect())
}

fn sorted(mut events: Vec<ChangeHash>) -> Vec<ChangeHash> {
    events.sort_unstable();
    events
}

#[test]
fn the_vote_of_a_juror_that_the_remover_did_not_know_counts_for_nothing() {
    let (mut village, dispute, gone, others) = before_three();
    let void = village.votes(dispute, 0, &[gone], &[400])[0];
    remove(&mut village, gone);
    let votes = village.votes(dispute, 0, &others, &[100, 50]);
    village.meet_in_every_order(&[FOUNDER, gone, others[0], others[1]]);
    village.agreed();
    assert!(!village.homes[FOUNDER].is_member(&village.id(gone)));
    assert_eq!(village.homes[FOUNDER].standing(&void), Some(ActStanding::Void));
    let round = village.dispute(dispute).round(0).expect("the first");
    assert_eq!(events_of(round.votes()), sorted(votes));
    assert_eq!(village.dispute(dispute).status(), Status::Judging(0), "two of three seats, and no majority");
    assert_eq!(village.jurors(dispute, 0).len(), 2, "nobody stands in");
    assert_eq!(village.balances(), [-500, 500]);

    // An owner who is no party ends it: with two votes, and not with three.
    let closed = village.act(FOUNDER, DisputeEvent::RoundClosed { dispute, round: 0 });
    village.meet_in_every_order(&[FOUNDER, PAYER, PAYEE, others[1]]);
    village.agreed();
    let verdict = village.dispute(dispute).verdict().expect("more than half of the seats");
    assert_eq!((verdict.refund, verdict.decided_by), (mib(50), closed));
    assert_eq!(village.balances(), [-450, 450]);
}

#[test]
fn the_vote_of_a_juror_that_the_remover_knew_keeps_its_seat() {
    let (mut village, dispute, gone, others) = before_three();
    let kept = village.votes(dispute, 0, &[gone], &[400])[0];
    village.meet();
    remove(&mut village, gone);
    let mut votes = village.votes(dispute, 0, &others, &[100, 50]);
    votes.push(kept);
    village.meet_in_every_order(&[FOUNDER, gone, others[0], others[1]]);
    village.agreed();
    assert!(!village.homes[FOUNDER].is_member(&village.id(gone)));
    assert_eq!(village.homes[FOUNDER].standing(&kept), Some(ActStanding::Counts));
    let round = village.dispute(dispute).round(0).expect("the first");
    assert_eq!(events_of(round.votes()), sorted(votes));
    assert_eq!(village.dispute(dispute).verdict().map(|verdict| verdict.refund), Some(mib(100)));
    assert_eq!(village.balances(), [-400, 400]);
}

/// Eleven could judge: four are on the bench, and three of them sit.
#[test]
fn a_juror_who_is_removed_is_replaced_by_the_next_in_the_draw() {
    let mut village = Village::of([Role::Member; 12]);
    let lock = village.job(500);
    let dispute = village.disputed(lock, 500);
    let bench = village.bench(dispute, 0);
    assert_eq!(bench.len(), 4);
    assert_eq!(village.jurors(dispute, 0), bench[..3]);
    let stand_in = bench[3];
    let early = village.try_act(stand_in, voted(dispute, 0, 500));
    assert_eq!(early, Err(Refusal::NotEntitled), "three sit before");
    let forced = village.force(stand_in, voted(dispute, 0, 500));

    let gone = bench[..3].iter().copied().find(|juror| *juror != FOUNDER).expect("three");
    remove(&mut village, gone);
    village.meet();
    let sitting: Vec<usize> = bench.iter().copied().filter(|juror| *juror != gone).collect();
    assert_eq!(village.jurors(dispute, 0), sitting);
    let late = village.try_act(gone, voted(dispute, 0, 500));
    assert_eq!(late, Err(Refusal::NotAMember));
    let votes = village.votes(dispute, 0, &sitting, &[300, 100, 200]);
    village.meet_in_every_order(&[PAYER, sitting[0], sitting[1], sitting[2]]);
    village.agreed();
    assert_eq!(village.homes[FOUNDER].standing(&forced), Some(ActStanding::NotEntitled));
    let round = village.dispute(dispute).round(0).expect("the first");
    assert_eq!(events_of(round.votes()), sorted(votes));
    assert_eq!(village.dispute(dispute).verdict().map(|verdict| verdict.refund), Some(mib(200)));
    assert_eq!(village.balances(), [-300, 300]);
}

/// Parties, who was not drawn, who came after the opening, and a juror who
/// votes again or before the appeal.
#[test]
fn who_is_no_juror_votes_for_nothing() {
    let mut village = Village::of([Role::Member; 5]);
    let lock = village.job(500);
    let dispute = village.disputed(lock, 500);
    let jurors = village.jurors(dispute, 0);
    let latecomer = village.people.len();
    village.join(Role::Member);
    village.meet();
    assert_eq!(village.jurors(dispute, 0), jurors, "the bench is fixed");
    let undrawn =
        [FOUNDER, 3, 4, 5].into_iter().find(|person| !jurors.contains(person)).expect("one of four");

    let mut forced = Vec::new();
    for who in [PAYER, PAYEE, undrawn, latecomer] {
        assert_eq!(village.try_act(who, voted(dispute, 0, 500)), Err(Refusal::NotEntitled), "{who}");
        forced.push(village.force(who, voted(dispute, 0, 500)));
    }
    let votes = village.votes(dispute, 0, &jurors, &[50, 100, 150]);
    for round in [0, 1] {
        assert_eq!(village.try_act(jurors[0], voted(dispute, round, 500)), Err(Refusal::NotEntitled));
        forced.push(village.force(jurors[0], voted(dispute, round, 500)));
    }
    village.meet_in_every_order(&[undrawn, jurors[0], jurors[1], jurors[2]]);
    village.agreed();
    for vote in &forced {
        assert_eq!(village.homes[FOUNDER].standing(vote), Some(ActStanding::NotEntitled));
    }
    let round = village.dispute(dispute).round(0).expect("the first");
    assert_eq!(events_of(round.votes()), sorted(votes));
    assert_eq!(village.dispute(dispute).verdict().map(|verdict| verdict.refund), Some(mib(100)));
    assert_eq!(village.balances(), [-400, 400]);
}
