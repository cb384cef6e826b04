//! Attacks: most are written under old heads, by someone who has seen how it
//! came out and would have it otherwise.

use std::collections::BTreeSet;

use exo_model::charter::role::Role;
use exo_model::dispute::{DISPUTES_PER_OPENER_MAX, DisputeFault, Disputes, Status};
use exo_model::event::DisputeEvent;

use crate::court::{
    Court, LOCK, OPENER, OTHER_HALF, OWNER, PAYEE, change, closed, declined, drawn, opened, opened_with,
    person, seeded, voted, withdrawn,
};

#[test]
fn opening_again_under_old_heads_forfeits_instead_of_drawing_again() {
    // In either place of the order: before what it would replace, or after.
    let (mut court, id) = Court::drawn(12);
    let jurors = court.seated(id, 0);
    court.vote(id, jurors[0], 60).unwrap();
    court.vote(id, jurors[1], 60).unwrap();
    court.step_knowing(OPENER, opened_with(LOCK, OPENER, [7; 32]), &BTreeSet::new()).unwrap();
    assert_eq!(court.get(id).status(), Status::Forfeited);
    assert_eq!(court.verdict(id), None);
    assert_eq!(court.step(PAYEE, seeded(id, OTHER_HALF)), Err(DisputeFault::Forfeited));

    let mut court = Court::new(12);
    let slipped_in = court.step(OPENER, opened_with(LOCK, OPENER, [7; 32])).unwrap();
    court.step_knowing(OPENER, opened(LOCK), &BTreeSet::new()).unwrap();
    assert_eq!(court.get(slipped_in).status(), Status::Forfeited);
}

#[test]
fn a_full_house_does_not_hide_a_second_opening() {
    let mut court = Court::new(12);
    let first = court.step(OPENER, opened_with(LOCK, OPENER, [7; 32])).unwrap();
    for n in 1..DISPUTES_PER_OPENER_MAX {
        court.step(OPENER, opened(change(5_000 + n as u64))).unwrap();
    }
    let past = BTreeSet::new();
    court.step_knowing(OPENER, opened(LOCK), &past).unwrap();
    assert_eq!(court.get(first).status(), Status::Forfeited);
}

#[test]
fn a_half_slipped_in_after_the_reveal_changes_nothing() {
    // The payee has seen the opener's half, picks a jury, and writes the half
    // for it under old heads, so that it comes first in the order.
    let mut court = Court::new(12);
    let id = court.open().unwrap();
    let at_opening = court.known.clone();
    court.step_knowing(PAYEE, seeded(id, [0x66; 32]), &at_opening).unwrap();
    let honest = court.step_knowing(OWNER, seeded(id, OTHER_HALF), &at_opening).unwrap();
    let mut known_to_opener = at_opening;
    known_to_opener.insert(honest);
    court.step_knowing(OPENER, drawn(id), &known_to_opener).unwrap();
    let draw = court.get(id).draw().unwrap();
    assert_eq!(draw.half, honest);
    assert_eq!(draw.seed, exo_model::dispute::seed(&id, &[0xaa; 32], &OTHER_HALF));
}

#[test]
fn drawing_twice_on_different_halves_forfeits() {
    let mut court = Court::new(12);
    let id = court.open().unwrap();
    let at_opening = court.known.clone();
    let with = |half| at_opening.iter().copied().chain([half]).collect::<BTreeSet<_>>();
    let of_payee = court.step_knowing(PAYEE, seeded(id, [1; 32]), &at_opening).unwrap();
    let of_owner = court.step_knowing(OWNER, seeded(id, [2; 32]), &at_opening).unwrap();
    court.step_knowing(OPENER, drawn(id), &with(of_payee)).unwrap();
    // On the same half it is the same draw.
    court.step_knowing(OPENER, drawn(id), &with(of_payee)).unwrap();
    assert_eq!(court.get(id).status(), Status::Judging(0));
    court.step_knowing(OPENER, drawn(id), &with(of_owner)).unwrap();
    assert_eq!(court.get(id).status(), Status::Forfeited);
}

#[test]
fn an_owner_who_excuses_under_old_heads_cannot_seat_another_jury() {
    let (mut court, id) = Court::drawn(40);
    let (bench, at_draw) = (court.bench(id, 0), court.known.clone());
    for (juror, amount) in bench.iter().zip([100, 90, 80]) {
        court.step_knowing(*juror, voted(id, 0, amount), &at_draw).unwrap();
    }
    assert_eq!(court.refund(id), Some(90));
    let excused = court.step_knowing(OWNER, closed(id, 0), &at_draw).unwrap();
    let mut plot = at_draw;
    plot.insert(excused);
    for juror in &bench[3..6] {
        court.step_knowing(*juror, voted(id, 0, 0), &plot).unwrap();
    }
    assert_eq!(court.refund(id), Some(90));
}

#[test]
fn an_owner_who_closes_on_chosen_votes_does_not_overturn_the_whole_jury() {
    let (mut court, id) = Court::drawn(12);
    let (jurors, at_draw) = (court.seated(id, 0), court.known.clone());
    let mut chosen = at_draw.clone();
    chosen.insert(court.step_knowing(jurors[0], voted(id, 0, 0), &at_draw).unwrap());
    chosen.insert(court.step_knowing(jurors[1], voted(id, 0, 50), &at_draw).unwrap());
    court.step_knowing(OWNER, closed(id, 0), &chosen).unwrap();
    assert_eq!(court.refund(id), Some(0), "with what was there");
    court.step_knowing(jurors[2], voted(id, 0, 60), &at_draw).unwrap();
    assert_eq!(court.refund(id), Some(50), "the jury's own end goes first");
    // Who knew of the closing comes too late.
    let (mut court, id) = Court::drawn(12);
    court.vote(id, jurors[0], 0).unwrap();
    court.vote(id, jurors[1], 50).unwrap();
    court.step(OWNER, closed(id, 0)).unwrap();
    assert_eq!(court.vote(id, jurors[2], 60), Err(DisputeFault::RoundOver));
}

#[test]
fn an_owner_cannot_skip_jurors_until_friends_sit() {
    let (mut court, id) = Court::drawn(40);
    court.step(OWNER, closed(id, 0)).unwrap();
    court.step(OWNER, closed(id, 0)).unwrap();
    assert_eq!(court.get(id).status(), Status::GivenUp);
}

#[test]
fn owners_who_do_not_know_of_each_other_excuse_once() {
    let (mut court, id) = Court::drawn(40);
    let other = person(49);
    court.roles.insert(other, Role::Owner);
    let (bench, at_draw) = (court.bench(id, 0), court.known.clone());
    for owner in [OWNER, other] {
        court.step_knowing(owner, closed(id, 0), &at_draw).unwrap();
    }
    assert_eq!(court.get(id).status(), Status::Judging(0));
    assert_eq!(court.seated(id, 0), bench[3..6]);
}

#[test]
fn a_withdrawal_under_old_heads_undoes_no_verdict() {
    let (mut court, id) = Court::drawn(12);
    let (jurors, at_draw) = (court.seated(id, 0), court.known.clone());
    court.vote(id, jurors[0], 0).unwrap();
    court.vote(id, jurors[1], 0).unwrap();
    assert_eq!(court.step(OPENER, withdrawn(id)), Err(DisputeFault::RoundOver));
    court.step_knowing(OPENER, withdrawn(id), &at_draw).unwrap();
    assert_eq!((court.refund(id), court.get(id).status()), (Some(0), Status::Decided(0)));
    // Nor does it stop a jury that does not know of it.
    let (mut court, id) = Court::drawn(12);
    court.step_knowing(OPENER, withdrawn(id), &at_draw).unwrap();
    court.step_knowing(jurors[0], voted(id, 0, 0), &at_draw).unwrap();
    court.step_knowing(jurors[1], voted(id, 0, 0), &at_draw).unwrap();
    assert_eq!(court.get(id).status(), Status::Decided(0));
}

#[test]
fn a_juror_moves_the_verdict_no_further_than_a_neighbour() {
    let (mut court, id) = Court::drawn(12);
    let jurors = court.seated(id, 0);
    court.vote(id, jurors[0], 20).unwrap();
    court.vote(id, jurors[1], 30).unwrap();
    court.vote(id, jurors[2], 100).unwrap();
    assert_eq!(court.refund(id), Some(30));
}

#[test]
fn a_juror_who_votes_twice_has_one_vote() {
    let (mut court, id) = Court::drawn(12);
    let (jurors, at_draw) = (court.seated(id, 0), court.known.clone());
    court.step_knowing(jurors[0], voted(id, 0, 50), &at_draw).unwrap();
    let again = court.step_knowing(jurors[0], voted(id, 0, 100), &at_draw);
    assert_eq!(again, Err(DisputeFault::AlreadyVoted));
    assert_eq!(court.get(id).round(0).unwrap().votes().len(), 1);
}

#[test]
fn a_juror_who_declines_and_votes_has_voted_in_either_order() {
    for declines_first in [true, false] {
        let (mut court, id) = Court::drawn(40);
        let (bench, at_draw) = (court.bench(id, 0), court.known.clone());
        let acts = [declined(id), voted(id, 0, 70)];
        for at in if declines_first { [0, 1] } else { [1, 0] } {
            court.step_knowing(bench[0], acts[at].clone(), &at_draw).unwrap();
        }
        assert_eq!(court.seated(id, 0), bench[..3]);
    }
}

#[test]
fn one_seat_is_never_counted_twice() {
    // A juror declines; the stand-in votes; then the juror's vote turns up.
    let (mut court, id) = Court::drawn(40);
    let (bench, at_draw) = (court.bench(id, 0), court.known.clone());
    let gone = court.step_knowing(bench[0], declined(id), &at_draw).unwrap();
    let mut after = at_draw.clone();
    after.insert(gone);
    for (juror, amount) in [(bench[1], 10), (bench[2], 20), (bench[3], 90)] {
        court.step_knowing(juror, voted(id, 0, amount), &after).unwrap();
    }
    assert_eq!(court.refund(id), Some(20));
    court.step_knowing(bench[0], voted(id, 0, 0), &at_draw).unwrap();
    assert_eq!(court.refund(id), Some(10), "0, 10 and 20: the better places in the draw");
}

#[test]
fn a_stranger_to_the_lock_only_wastes_their_own_places() {
    // Nobody here knows who paid whom. The ledger takes the dispute whose
    // parties are the lock's, and this one does not stand in its way.
    let mut court = Court::new(12);
    let stranger = person(10);
    court.step(stranger, opened_with(LOCK, stranger, [1; 32])).unwrap();
    let id = court.open().unwrap();
    assert_eq!(court.get(id).claim.parties(), [OPENER, PAYEE]);
}

#[test]
fn the_state_has_one_form() {
    let (court, id) = Court::drawn(12);
    let (other, _) = Court::drawn(12);
    assert_eq!(court.disputes.encode_state(), other.disputes.encode_state());
    let mut other = other;
    other.step(OPENER, DisputeEvent::Withdrawn { dispute: id }).unwrap();
    assert_ne!(court.disputes.encode_state(), other.disputes.encode_state());
    assert_eq!(Disputes::default().encode_state(), [0xa0], "an empty map");
}
