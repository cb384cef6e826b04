//! Credit of a whole community: lines by trust level, offers and orders,
//! bounties, grants and heirs, with the real charter.

mod home;

use exo_model::amount::Amount;
use exo_model::certificate::PhraseRevocation;
use exo_model::charter::Role;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::ledger::{Account, GrantReason, OfferKind, Purpose};
use exo_model::ledger::{LedgerFault, Voucher};
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, JobId};
use home::{Home, Person, garden, meet, meet_in_every_order, settle};

/// What friends may owe in `garden`, token·MiB.
const LINE: i64 = 100_000;
const HOUR_MS: i64 = 60 * 60 * 1_000;

const fn mib(amount: i64) -> Amount {
    Amount::from_token_mib(amount)
}

fn headroom(home: &Home) -> i64 {
    home.community.state().headroom[&home.device()].token_mib()
}

fn balance(home: &Home, of: &Home) -> i64 {
    home.community.state().ledger.balance(&Account::Device(of.device())).token_mib()
}

fn lock(home: &mut Home, payee: &Home, max: i64) -> Result<ChangeHash, Refusal> {
    let payee = payee.device();
    home.try_act(Intent::Lock { job: JobId::from_bytes([1; 16]), payee, max: mib(max) })
}

fn order(home: &mut Home, of: &Home, purpose: Purpose, max: i64) -> Result<ChangeHash, Refusal> {
    home.try_act(Intent::Order { payee: of.device(), purpose, max: mib(max) })
}

fn voucher(payer: &Home, lock: ChangeHash, payee: &Home, amount: i64) -> Voucher {
    Voucher::sign(&payer.key, &payer.community.id(), lock, &payee.device(), mib(amount))
}

/// The charter-set floors: nothing for the public, a tenth for known people,
/// all of it for friends.
#[test]
fn how_much_one_may_owe_follows_from_trust() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    settle(&mut [&mut a, &mut b]);
    for (level, line) in
        [(TrustLevel::Public, 0), (TrustLevel::Known, LINE / 10), (TrustLevel::Friends, LINE)]
    {
        a.act(Intent::SetTrust(people[1].id(), level));
        meet(&mut [&mut a, &mut b]);
        assert_eq!(headroom(&b), line, "{level:?}");
        let beyond = lock(&mut b, &a, line + 1);
        assert!(matches!(beyond, Err(Refusal::Ledger(LedgerFault::Headroom { .. }))), "{beyond:?}");
    }
    lock(&mut b, &a, LINE).expect("all of it");
    // A lock that one's line at the time allowed stands when the line falls.
    a.act(Intent::SetTrust(people[1].id(), TrustLevel::Public));
    meet_in_every_order(&mut [&mut a, &mut b]);
    assert_eq!(a.community.state().ledger.locks().len(), 1);
    assert_eq!(headroom(&b), -LINE);
}

#[test]
fn what_is_ordered_costs_what_was_offered() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    settle(&mut [&mut a, &mut b]);
    let jam = b.act(Intent::PostOffer { kind: OfferKind::Other, title: "jam".into(), price: mib(30) });
    let nights = b.act(Intent::PostOffer { kind: OfferKind::Hours, title: "nights".into(), price: mib(50) });
    meet(&mut [&mut a, &mut b]);
    let jars = |units| Purpose::Order { offer: jam, units };
    let hours = |hours| Purpose::Booking { offer: nights, from_ms: 0, until_ms: hours * HOUR_MS };
    for (purpose, max) in [(jars(3), 89), (jars(0), 100), (hours(2), 99), (hours(0), 100)] {
        assert!(order(&mut a, &b, purpose, max).is_err(), "{max}");
    }
    let crossed = Purpose::Order { offer: nights, units: 1 };
    assert!(order(&mut a, &b, crossed, 1_000).is_err(), "hours are booked");
    let jam_order = order(&mut a, &b, jars(3), 90).expect("three jars");
    let booking = order(&mut a, &b, hours(2), 100).expect("two hours");
    a.send_to(&mut b);
    b.act(Intent::AcceptOrder(jam_order));
    b.act(Intent::Close { lock: jam_order, voucher: Some(voucher(&a, jam_order, &b, 90)) });
    // Declined: nothing is paid, and the credit is free again.
    b.act(Intent::Close { lock: booking, voucher: None });
    b.act(Intent::WithdrawOffer(jam));
    meet(&mut [&mut a, &mut b]);
    assert_eq!(order(&mut a, &b, jars(1), 30), Err(Refusal::OfferWithdrawn), "no more jam");
    a.act(Intent::Count);
    b.act(Intent::Count);
    meet_in_every_order(&mut [&mut a, &mut b]);
    assert_eq!((balance(&a, &a), balance(&a, &b)), (-90, 90));
    assert_eq!((headroom(&a), headroom(&b)), (LINE - 90, LINE + 90));
}

#[test]
fn bounties_and_grants_come_to_whoever_is_named() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    settle(&mut [&mut a, &mut b, &mut c]);
    let [mow, rake] =
        ["mow", "rake"].map(|title| b.act(Intent::PostBounty { title: title.into(), amount: mib(200) }));
    assert_eq!(headroom(&b), LINE - 400, "set aside");
    b.act(Intent::AwardBounty { bounty: mow, to: c.device() });
    b.act(Intent::WithdrawBounty(rake));
    let allotment =
        a.act(Intent::Allot { person: people[1].id(), amount: mib(500), note: "for prizes".into() });
    meet(&mut [&mut a, &mut b, &mut c]);
    let grant = |amount| Intent::Grant {
        allotment,
        to: c.device(),
        amount: mib(amount),
        reason: GrantReason::Grant,
        note: String::new(),
    };
    let (first, beyond, rest) = (grant(300), grant(201), grant(200));
    b.act(first);
    assert!(b.try_act(beyond).is_err(), "more than was allotted");
    b.act(rest);
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    let ledger = &a.community.state().ledger;
    assert_eq!((balance(&a, &b), balance(&a, &c)), (-200, 700));
    assert_eq!(ledger.balance(&Account::Community).token_mib(), -500);
    assert_eq!(ledger.total(), 0);
}

/// Who loses a device loses no credit: the next one has its line, less what is
/// owed, and counts what it had.
#[test]
fn what_a_lost_device_had_is_the_next_ones() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let ben = Person::new(2);
    let mut tablet = a.add_device(&ben, &ben.device(7), 2);
    settle(&mut [&mut a, &mut b, &mut tablet]);
    let to = Account::Device(b.device());
    a.act(Intent::Transfer { to, amount: mib(1_000), note: String::new() });
    meet(&mut [&mut a, &mut b, &mut tablet]);
    b.act(Intent::Count);
    meet(&mut [&mut a, &mut b, &mut tablet]);
    assert_eq!(headroom(&tablet), 0, "one line for one person");
    let revoke = Intent::RevokeDevice { device: b.device(), phrase: None };
    assert!(tablet.try_act(revoke).is_err(), "an earlier device is not revoked by a later one");
    let fence = tablet.community.fence_of(&[b.device()].into());
    let phrase = PhraseRevocation::sign(&ben.phrase, &a.community.id(), b.device(), &fence.hash());
    tablet.act(Intent::RevokeDevice { device: b.device(), phrase: Some(phrase) });
    meet(&mut [&mut a, &mut tablet]);
    tablet.act(Intent::Count);
    meet(&mut [&mut a, &mut tablet]);
    assert_eq!(headroom(&tablet), LINE + 1_000);
    assert_eq!(a.hash(), tablet.hash());
}
