//! What people try to get more back than one verdict gives.

use exo_model::charter::{ActStanding, Role};
use exo_model::decide::{Intent, Refusal};
use exo_model::dispute::{Status, Step};
use exo_model::event::CharterEvent;
use exo_model::event::keys::Audience;
use exo_model::feed::Stream;
use exo_model::ledger::LedgerCharter as _;

use crate::village::{FOUNDER, LINE, MAX, PAYEE, PAYER, Village, mib};

/// A bystander's verdict on the same lock comes first, and gives back all of
/// it. The ledger takes the first that names the lock's parties.
#[test]
fn two_verdicts_on_one_lock_move_credit_once() {
    const BYSTANDER: usize = 3;
    let mut village = Village::of([Role::Member; 5]);
    let lock = village.job(500);
    let theirs = village.disputed_by(BYSTANDER, lock, 500);
    let jurors = village.jurors(theirs, 0);
    assert!(!jurors.contains(&BYSTANDER) && !jurors.contains(&PAYEE));
    village.votes(theirs, 0, &jurors, &[500, 500]);
    village.meet();
    village.agreed();
    let verdict = village.dispute(theirs).verdict().expect("two of three agree");
    assert_eq!((verdict.payer, verdict.refund), (village.id(BYSTANDER), mib(500)));
    assert_eq!(village.balances(), [-500, 500], "they did not pay");
    assert_eq!(village.homes[BYSTANDER].try_act(Intent::Count), Err(Refusal::NothingToCount));

    let own = village.disputed(lock, 500);
    let jurors = village.jurors(own, 0);
    village.votes(own, 0, &jurors, &[200, 200]);
    village.meet_in_every_order(&[PAYER, BYSTANDER, jurors[0], jurors[1]]);
    let state = village.agreed();
    assert_eq!(state.disputes.verdicts().count(), 2);
    let in_order = village.homes[FOUNDER].community.charter().verdicts();
    assert_eq!(in_order.iter().map(|verdict| verdict.dispute).collect::<Vec<_>>(), [theirs, own]);
    assert_eq!(village.balances(), [-300, 300], "200, and not 500 or 700");
    assert_eq!(village.balance(BYSTANDER), 0);

    // Nor can anyone ask again.
    for opener in [PAYER, BYSTANDER] {
        let again = village.opening(opener, lock, 300);
        assert_eq!(village.try_act(opener, again.clone()), Err(Refusal::NotEntitled));
        let forced = village.force(opener, again);
        assert_eq!(village.homes[opener].standing(&forced), Some(ActStanding::NotEntitled));
    }
    village.homes[PAYER].act(Intent::Count);
    for who in [PAYER, PAYEE, BYSTANDER] {
        assert_eq!(village.homes[who].try_act(Intent::Count), Err(Refusal::NothingToCount));
    }
    village.meet();
    assert_eq!(village.agreed().disputes.iter().count(), 2);
    assert_eq!(village.balances(), [-300, 300]);
    assert_eq!(village.headrooms(), [LINE - MAX + 100 + 200, LINE + 500 - 200]);
}

/// The payer's phone opens a dispute of its own, to draw another jury if the
/// first is hard, and shows it only after the first has paid.
#[test]
fn two_devices_that_dispute_one_lock_apart_lose_the_refund() {
    let mut village = Village::of([Role::Member; 4]);
    let key = village.people[PAYER].device(1);
    let mut phone = village.homes[PAYER].add_device(&village.people[PAYER], &key, 2);
    village.meet();
    let lock = village.job(500);
    village.homes[PAYER].send_to(&mut phone);
    let hidden = phone.act(Intent::Dispute(village.opening(PAYER, lock, 500)));

    let shown = village.disputed(lock, 500);
    let jurors = village.jurors(shown, 0);
    village.votes(shown, 0, &jurors, &[400, 400]);
    village.meet();
    village.homes[PAYER].act(Intent::Count);
    village.meet();
    village.agreed();
    assert_eq!(village.balances(), [-100, 100]);
    assert_eq!(village.headrooms(), [LINE - MAX + 100 + 400, LINE + 500 - 400]);

    let last = village.homes.len();
    village.homes.push(phone);
    village.meet_in_every_order(&[FOUNDER, PAYER, PAYEE, last]);
    let state = village.agreed();
    let first = hidden.min(shown);
    assert_eq!(state.disputes.iter().map(|dispute| dispute.id).collect::<Vec<_>>(), [first]);
    assert_eq!(state.disputes.verdicts().count(), 0);
    let kept = village.dispute(first);
    assert_eq!(kept.status(), Status::Forfeited);
    let trail: Vec<_> = kept.history().iter().map(|entry| (entry.event, entry.step)).collect();
    assert_eq!(trail, [(first, Step::Opened), (hidden.max(shown), Step::Forfeited)]);
    assert_eq!(village.balances(), [-500, 500], "nothing went back");
    assert_eq!(village.headrooms(), [LINE - 500, LINE + 500]);
}

/// Opener and owner pick an era in which the owner alone would judge, from
/// before the lock. The verdict stands in the charter, and moves nothing.
#[test]
fn an_opening_that_reaches_behind_the_lock_moves_nothing() {
    let mut village = Village::of([Role::Member; 2]);
    let old = village.homes[PAYER].community.heads();
    let key = village.homes[PAYER].writing_key(Audience::Governance);
    for _ in 0..3 {
        village.join(Role::Member);
    }
    village.meet();
    let lock = village.job(500);
    let opening = CharterEvent::Dispute(village.opening(PAYER, lock, 500));
    let dispute = village.homes[PAYER].write_under(Stream::Charter, &opening.into(), &old, key);
    assert_eq!(village.homes[PAYER].standing(&dispute), Some(ActStanding::Counts));
    village.draw(PAYER, dispute);
    assert!(village.dispute(dispute).is_judged_by_owners());
    assert_eq!(village.jurors(dispute, 0), [FOUNDER]);
    village.votes(dispute, 0, &[FOUNDER], &[500]);
    village.meet_in_every_order(&[FOUNDER, PAYER, PAYEE, 3]);

    village.agreed();
    let verdict = village.dispute(dispute).verdict().expect("one seat, one vote");
    assert_eq!((verdict.lock, verdict.refund), (lock, mib(500)));
    assert_eq!(village.balances(), [-500, 500]);
    village.homes[PAYER].act(Intent::Count);
    assert_eq!(village.homes[PAYER].try_act(Intent::Count), Err(Refusal::NothingToCount));
    let again = village.opening(PAYER, lock, 500);
    assert_eq!(village.try_act(PAYER, again), Err(Refusal::NotEntitled), "once for each lock, ever");
    village.meet();
    village.agreed();
    assert_eq!(village.headrooms(), [LINE - MAX + 100, LINE + 500]);
}
