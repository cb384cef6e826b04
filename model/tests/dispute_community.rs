//! Disputes in whole communities, from the lock to the refund: real charters
//! draw, judge and decide, and real ledgers follow. The rules of disputes are
//! tested one by one in `dispute.rs`, before a court of the test's own, and
//! those of verdicts in `ledger_rules.rs`; here is what they do to each other.
//!
//! Who judges is in `dispute_community/jurors.rs`, what people try in
//! `attacks.rs` there, and orders of delivery in `orders.rs`.

mod home;

#[path = "dispute_community/attacks.rs"]
mod attacks;
#[path = "dispute_community/jurors.rs"]
mod jurors;
#[path = "dispute_community/orders.rs"]
mod orders;
#[path = "dispute_community/village.rs"]
mod village;

use exo_model::charter::{ActStanding, Role};
use exo_model::decide::{Intent, Refusal};
use exo_model::dispute::{BenchKind, Dispute, Status, Step, Verdict};
use exo_model::event::dispute::DisputeEvent;
use exo_model::event::ledger::Account;
use exo_model::ledger::{LockState, Standing};
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, DeviceId};

use village::{FOUNDER, LINE, MAX, PAYEE, PAYER, Village, finding, mib, voted};

/// Four who could judge: three do.
#[test]
fn a_verdict_gives_back_what_the_jurors_found() {
    const FOUND: [i64; 3] = [300, 0, 200];
    let mut village = Village::of([Role::Member; 5]);
    let lock = village.job(500);
    assert_eq!(village.balances(), [-500, 500]);

    let dispute = village.disputed(lock, 400);
    assert_eq!(village.dispute(dispute).status(), Status::Judging(0));
    let jurors = village.jurors(dispute, 0);
    assert_eq!(jurors.len(), 3);
    assert!(!jurors.contains(&PAYER) && !jurors.contains(&PAYEE));
    let votes = village.votes(dispute, 0, &jurors, &FOUND);
    assert_eq!(village.dispute(dispute).verdict(), None, "nobody knows of all three");
    assert_eq!(village.balances(), [-500, 500]);
    village.meet_in_every_order(&[PAYER, jurors[0], jurors[1], jurors[2]]);

    let state = village.agreed();
    let decided_by = *votes.iter().max().expect("three");
    let (payer, payee, refund) = (village.id(PAYER), village.id(PAYEE), mib(200));
    let verdict = Verdict { dispute, lock, payer, payee, refund, round: 0, decided_by };
    assert_eq!(state.disputes.verdicts().collect::<Vec<_>>(), [verdict]);
    assert_eq!(village.balances(), [-300, 300], "200 of 500 went back");
    let judged = state.ledger.lock(&lock).expect("it counts");
    assert_eq!((judged.final_amount(), judged.refunded()), (mib(500), refund));
    assert_eq!(judged.state(), LockState::Closed);

    assert_eq!(state.disputes.iter().map(|dispute| dispute.id).collect::<Vec<_>>(), [dispute]);
    let kept = village.dispute(dispute);
    assert_eq!(kept.status(), Status::Decided(0));
    assert_eq!((kept.claim.lock, kept.claim.opener, kept.claim.payee), (lock, payer, payee));
    let mut cast: Vec<_> = votes.iter().zip(jurors.iter().zip(FOUND)).collect();
    cast.sort_unstable();
    let mut trail = vec![(payer, Step::Opened), (payee, Step::Seeded), (payer, Step::Drawn)];
    trail.extend(cast.into_iter().map(|(_, (juror, amount))| {
        (village.id(*juror), Step::Voted { round: 0, finding: finding(amount) })
    }));
    let history = kept.history().iter().map(|entry| (entry.author, entry.step));
    assert_eq!(history.collect::<Vec<_>>(), trail);

    // What came back can be spent once it is counted, and is counted once.
    village.homes[PAYER].act(Intent::Count);
    for party in [PAYER, PAYEE] {
        assert_eq!(village.homes[party].try_act(Intent::Count), Err(Refusal::NothingToCount));
    }
    village.meet();
    village.agreed();
    assert_eq!(village.balances(), [-300, 300], "counting moves nothing");
    assert_eq!(village.headrooms(), [LINE - MAX + 100 + 200, LINE + 500 - 200]);
}

#[test]
fn a_refund_is_never_more_than_what_was_paid_and_follows_it() {
    let mut village = Village::of([Role::Member; 4]);
    let lock = village.lock();
    let voucher = village.voucher(lock, 300);
    village.homes[PAYEE].act(Intent::Settle(voucher));
    village.meet();
    assert_eq!(village.balances(), [-300, 300]);

    let dispute = village.disputed(lock, 600);
    let jurors = village.jurors(dispute, 0);
    village.votes(dispute, 0, &jurors, &[400, 400]);
    village.meet_in_every_order(&[PAYER, jurors[0], jurors[1], jurors[2]]);
    let state = village.agreed();
    let verdict = village.dispute(dispute).verdict().expect("two of three agree");
    assert_eq!(verdict.refund, mib(400));
    assert_eq!(state.ledger.lock(&lock).expect("it counts").refunded(), mib(300), "all there was");
    assert_eq!(village.balances(), [0, 0]);

    village.close(lock, 500);
    let refunded = village.agreed().ledger.lock(&lock).expect("it counts").refunded();
    assert_eq!(refunded, mib(400), "all that was found");
    assert_eq!(village.balances(), [-100, 100]);
    village.homes[PAYER].act(Intent::Count);
    village.meet();
    village.agreed();
    assert_eq!(village.headrooms(), [LINE - MAX + 100 + 400, LINE + 500 - 400]);
}

#[test]
fn an_appeal_overturns_the_verdict_and_the_balances_follow() {
    let mut village = Village::of([Role::Member; 9]);
    let lock = village.job(500);
    let dispute = village.disputed(lock, 400);
    let first = village.jurors(dispute, 0);
    assert_eq!(first.len(), 3);
    assert_eq!(village.try_act(PAYEE, DisputeEvent::Appealed { dispute }), Err(Refusal::NotEntitled));
    village.votes(dispute, 0, &first, &[300, 300]);
    village.meet();
    village.agreed();
    assert_eq!(village.balances(), [-200, 200]);
    village.homes[PAYER].act(Intent::Count);
    village.meet();
    village.agreed();
    assert_eq!(village.headrooms(), [LINE - MAX + 100 + 300, LINE + 500 - 300]);
    assert_eq!(village.try_act(first[2], voted(dispute, 0, 400)), Err(Refusal::NotEntitled), "it is over");

    village.act(PAYEE, DisputeEvent::Appealed { dispute });
    village.meet();
    assert_eq!(village.dispute(dispute).status(), Status::Judging(1));
    assert_eq!(village.balances(), [-200, 200], "it stands until it is replaced");
    assert_eq!(village.try_act(PAYER, DisputeEvent::Appealed { dispute }), Err(Refusal::NotEntitled));
    let second = village.jurors(dispute, 1);
    assert_eq!(second.len(), 5);
    assert!(second.iter().all(|juror| !first.contains(juror)), "nobody is on two benches");
    assert!(!second.contains(&PAYER) && !second.contains(&PAYEE));
    village.votes(dispute, 1, &second[..2], &[400, 0]);
    village.meet();
    let last = village.votes(dispute, 1, &second[2..], &[100, 0, 50]);
    village.meet_in_every_order(&[PAYER, second[2], second[3], second[4]]);

    let state = village.agreed();
    let decided_by = *last.iter().max().expect("three");
    let (payer, payee, refund) = (village.id(PAYER), village.id(PAYEE), mib(50));
    let verdict = Verdict { dispute, lock, payer, payee, refund, round: 1, decided_by };
    assert_eq!(state.disputes.verdicts().collect::<Vec<_>>(), [verdict]);
    assert_eq!(village.dispute(dispute).status(), Status::Decided(1));
    assert_eq!(village.balances(), [-450, 450], "50 of 500 went back, and not 300");

    // What was counted is what it came to in the end, not both.
    assert_eq!(village.homes[PAYER].try_act(Intent::Count), Err(Refusal::NothingToCount));
    village.meet();
    village.agreed();
    assert_eq!(village.headrooms(), [LINE - MAX + 100 + 50, LINE + 500 - 50]);
}

/// Four owners could judge: three do, and the appeal is the fourth one's.
#[test]
fn an_appeal_goes_to_an_owner_where_there_are_no_five_others() {
    let mut village = Village::of([Role::Member, Role::Member, Role::Owner, Role::Owner, Role::Owner]);
    let lock = village.job(500);
    let dispute = village.disputed(lock, 500);
    let first = village.jurors(dispute, 0);
    village.votes(dispute, 0, &first, &[0, 0]);
    village.meet();
    village.agreed();
    let dismissed = village.dispute(dispute).verdict().expect("two of three agree");
    assert_eq!((dismissed.refund, dismissed.round), (mib(0), 0));
    assert_eq!(village.balances(), [-500, 500]);

    village.act(PAYER, DisputeEvent::Appealed { dispute });
    village.meet();
    let left = [FOUNDER, 3, 4, 5].into_iter().filter(|owner| !first.contains(owner));
    let second = village.jurors(dispute, 1);
    assert_eq!(second, left.collect::<Vec<_>>());
    assert_eq!(second.len(), 1);
    let kinds = village.dispute(dispute).draw().map(|draw| draw.benches.each_ref().map(|bench| bench.kind));
    assert_eq!(kinds, Some([BenchKind::Jurors, BenchKind::Owners]));
    village.votes(dispute, 1, &second, &[500]);
    village.meet_in_every_order(&[PAYER, PAYEE, second[0], first[0]]);
    village.agreed();
    let verdict = village.dispute(dispute).verdict().expect("the owner decides");
    assert_eq!((verdict.refund, verdict.round), (mib(500), 1));
    assert_eq!(village.balances(), [0, 0]);
}

/// Four owners who could judge, and a payer who has no credit line and paid
/// all they had; returns the lock. What they spend of a refund rests on it.
fn with_a_payer_who_has_nothing_left() -> (Village, ChangeHash) {
    let mut village = Village::of([Role::Member, Role::Member, Role::Owner, Role::Owner, Role::Owner]);
    let (person, payer) = (village.id(PAYER), village.homes[PAYER].device());
    village.homes[FOUNDER].act(Intent::SetTrust(person, TrustLevel::Public));
    give(&mut village, FOUNDER, payer, MAX);
    village.meet();
    village.homes[PAYER].act(Intent::Count);
    let lock = village.job(MAX);
    assert_eq!(village.headrooms()[0], 0);
    (village, lock)
}

fn give(village: &mut Village, from: usize, to: DeviceId, amount: i64) -> ChangeHash {
    let (to, amount) = (Account::Device(to), mib(amount));
    village.homes[from].act(Intent::Transfer { to, amount, note: String::new() })
}

/// The payer gets 400 of 600 back, counts it, and gives it to the founder, who
/// counts it too; then an appeal finds `found`. Returns the gift.
fn spent_before_an_appeal(found: i64) -> (Village, ChangeHash) {
    let (mut village, lock) = with_a_payer_who_has_nothing_left();
    let dispute = village.disputed(lock, MAX);
    let first = village.jurors(dispute, 0);
    village.votes(dispute, 0, &first, &[400, 400]);
    village.meet();
    village.homes[PAYER].act(Intent::Count);
    let founder = village.homes[FOUNDER].device();
    let gift = give(&mut village, PAYER, founder, 400);
    village.meet();
    village.homes[FOUNDER].act(Intent::Count);
    village.meet();
    village.agreed();
    assert_eq!((village.balances(), village.balance(FOUNDER)), ([0, 200], -200));

    village.act(PAYEE, DisputeEvent::Appealed { dispute });
    village.meet();
    let second = village.jurors(dispute, 1);
    village.votes(dispute, 1, &second, &[found]);
    village.meet_in_every_order(&[FOUNDER, PAYER, PAYEE, second[0]]);
    village.agreed();
    let verdict = village.dispute(dispute).verdict().expect("the owner decides");
    assert_eq!((verdict.refund, verdict.round), (mib(found), 1));
    (village, gift)
}

/// Design of disputes, §4: a verdict is final once no appeal can change it. What
/// was spent of a refund before falls with it, alike for everyone.
#[test]
fn what_was_spent_of_a_refund_falls_with_it() {
    let (village, gift) = spent_before_an_appeal(0);
    let standing = village.agreed().ledger.standing(&gift);
    assert!(matches!(standing, Some(Standing::Faulty(_))), "{standing:?}");
    assert_eq!((village.balances(), village.balance(FOUNDER)), ([0, MAX], -MAX));
    assert_eq!(village.headrooms(), [0, LINE + MAX]);
}

#[test]
fn an_appeal_that_finds_the_same_takes_back_nothing_that_was_spent() {
    let (village, gift) = spent_before_an_appeal(400);
    let standing = village.agreed().ledger.standing(&gift);
    assert_eq!(standing, Some(Standing::Counted), "the refund stands");
    assert_eq!((village.balances(), village.balance(FOUNDER)), ([0, 200], -200));
}

/// The payer hears of two votes and spends what they found. The third one,
/// which finds the same, comes before one of them in the charter's order.
#[test]
fn a_third_vote_for_the_same_takes_back_nothing_that_was_spent() {
    let (mut village, lock) = with_a_payer_who_has_nothing_left();
    let dispute = village.disputed(lock, MAX);
    let jurors = village.jurors(dispute, 0);
    let votes = village.votes(dispute, 0, &jurors, &[400, 400, 400]);
    let mut cast: Vec<_> = votes.into_iter().zip(jurors.iter().copied()).collect();
    cast.sort_unstable();
    village.tell(cast[0].1, PAYER);
    village.tell(cast[2].1, PAYER);
    let known = village.homes[PAYER].community.state().disputes.verdicts().next().expect("two agree");
    assert_eq!((known.refund, known.decided_by), (mib(400), cast[2].0));
    village.homes[PAYER].act(Intent::Count);
    let founder = village.homes[FOUNDER].device();
    let gift = give(&mut village, PAYER, founder, 400);

    village.meet_in_every_order(&[PAYER, jurors[0], jurors[1], jurors[2]]);
    let state = village.agreed();
    let verdict = village.dispute(dispute).verdict().expect("all agree");
    assert_eq!((verdict.refund, verdict.decided_by), (mib(400), cast[1].0));
    assert_eq!(state.ledger.standing(&gift), Some(Standing::Counted), "the refund never was another");
    assert_eq!((village.balances(), village.balance(FOUNDER)), ([0, 200], -200));
}

/// Two could judge, not three: a member, and an owner, who does.
#[test]
fn in_a_small_community_the_owner_who_is_no_party_decides() {
    const MEMBER: usize = 3;
    let mut village = Village::of([Role::Member; 3]);
    let lock = village.job(500);
    let dispute = village.disputed(lock, 500);
    assert!(village.dispute(dispute).is_judged_by_owners());
    assert_eq!(village.jurors(dispute, 0), [FOUNDER]);
    let draw = village.dispute(dispute).draw().expect("it is drawn");
    assert!(draw.benches[1].people.is_empty());

    let refused = village.try_act(MEMBER, voted(dispute, 0, 500));
    assert_eq!(refused, Err(Refusal::NotEntitled));
    let forced = village.force(MEMBER, voted(dispute, 0, 500));
    let vote = village.votes(dispute, 0, &[FOUNDER], &[250])[0];
    village.meet_in_every_order(&[FOUNDER, PAYER, PAYEE, MEMBER]);
    village.agreed();
    assert_eq!(village.homes[FOUNDER].standing(&forced), Some(ActStanding::NotEntitled));
    let verdict = village.dispute(dispute).verdict().expect("one seat, one vote");
    assert_eq!((verdict.refund, verdict.round, verdict.decided_by), (mib(250), 0, vote));
    assert_eq!(village.dispute(dispute).status(), Status::Decided(0));
    assert_eq!(village.balances(), [-250, 250]);
    for party in [PAYER, PAYEE] {
        let appeal = village.try_act(party, DisputeEvent::Appealed { dispute });
        assert_eq!(appeal, Err(Refusal::NotEntitled), "there is nobody else");
    }
}

#[test]
fn two_owners_both_decide_and_the_lower_finding_holds() {
    const OTHER: usize = 3;
    let mut village = Village::of([Role::Member, Role::Member, Role::Owner]);
    let lock = village.job(500);
    let dispute = village.disputed(lock, 500);
    let mut owners = village.jurors(dispute, 0);
    owners.sort_unstable();
    assert_eq!(owners, [FOUNDER, OTHER]);
    let votes = village.votes(dispute, 0, &owners, &[300, 100]);
    assert_eq!(village.dispute(dispute).verdict(), None, "one of two is no majority");
    village.meet_in_every_order(&[FOUNDER, PAYER, PAYEE, OTHER]);
    village.agreed();
    let verdict = village.dispute(dispute).verdict().expect("both voted");
    assert_eq!((verdict.refund, Some(verdict.decided_by)), (mib(100), votes.into_iter().max()));
    assert_eq!(village.balances(), [-400, 400]);
}

/// The only owner is a party, and one member is no jury.
#[test]
fn where_nobody_can_judge_the_settlement_stands() {
    let mut village = Village::of([Role::Owner, Role::Member]);
    let founder = village.id(FOUNDER);
    village.homes[FOUNDER].act(Intent::SetRole(founder, Role::Member));
    village.meet();
    let lock = village.job(500);
    let dispute = village.disputed(lock, 500);
    assert_eq!(village.dispute(dispute).status(), Status::Undecidable);
    assert!(village.jurors(dispute, 0).is_empty());
    for who in [FOUNDER, PAYER, PAYEE] {
        let vote = village.try_act(who, voted(dispute, 0, 500));
        assert_eq!(vote, Err(Refusal::NotEntitled));
    }
    let close = village.try_act(PAYER, DisputeEvent::RoundClosed { dispute, round: 0 });
    assert_eq!(close, Err(Refusal::NotEntitled), "the owner is a party");
    let state = village.agreed();
    assert_eq!(state.disputes.get(&dispute).and_then(Dispute::verdict), None);
    assert_eq!(village.balances(), [-500, 500]);
}
