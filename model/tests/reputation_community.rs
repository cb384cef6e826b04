//! What reputations rest on, taken out of a real community: work that was paid
//! and when, vouches, and what moderators did.

mod home;

use exo_model::amount::Amount;
use exo_model::charter::Role;
use exo_model::decide::Intent;
use exo_model::event::charter::VouchGround;
use exo_model::ledger::Voucher;
use exo_model::trust::evidence::{Settled, Severity, VouchKind};
use exo_model::trust::reputation::Reputation;
use exo_model::{ChangeHash, JobId};
use home::{Home, garden, meet, settle};

/// 180 days in ms: what is so old is worth half.
const HALF_LIFE_MS: i64 = 180 * 24 * 60 * 60 * 1_000;

fn job(payer: &mut Home, payee: &mut Home, n: u8, amount: i64) -> ChangeHash {
    let max = Amount::from_token_mib(amount);
    let lock = payer.act(Intent::Lock { job: JobId::from_bytes([n; 16]), payee: payee.device(), max });
    payer.send_to(payee);
    let voucher = Voucher::sign(&payer.key, &payer.community.id(), lock, &payee.device(), max);
    payee.act(Intent::Close { lock, voucher: Some(voucher) });
    payee.send_to(payer);
    lock
}

#[test]
fn paid_work_is_as_old_as_its_last_settlement_and_decays() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    settle(&mut [&mut a, &mut b, &mut c]);
    job(&mut a, &mut b, 1, 60_000);
    let first_ms = b.now_ms;
    b.now_ms += 1_000;
    job(&mut a, &mut b, 2, 30_000);
    let last_ms = b.now_ms;
    assert!(last_ms > first_ms);
    // Work that was never paid, and words long after.
    a.act(Intent::Lock {
        job: JobId::from_bytes([3; 16]),
        payee: c.device(),
        max: Amount::from_token_mib(9),
    });
    c.now_ms = last_ms + 10 * HALF_LIFE_MS;
    let room = c.channel();
    c.say(room, "years later");
    meet(&mut [&mut a, &mut b, &mut c]);
    let settled = Settled { payer: people[0].id(), payee: people[1].id(), token_mib: 90_000, last_ms };
    for home in [&a, &b, &c] {
        assert_eq!(home.community.evidence().settled, [settled]);
    }
    let score = |now_ms| {
        // As much as shows: a score grows slowly with work.
        let mut evidence = a.community.evidence();
        evidence.settled[0].token_mib *= 1_000;
        Reputation::of(people[0].id(), &evidence, now_ms).score(&people[1].id()).value_milli()
    };
    let (now, later, much_later) =
        (score(last_ms), score(last_ms + HALF_LIFE_MS), score(last_ms + 20 * HALF_LIFE_MS));
    assert!(now > later && later > much_later, "{now} {later} {much_later}");
}

#[test]
fn vouches_and_what_moderators_did_are_evidence() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    settle(&mut [&mut a, &mut b, &mut c]);
    b.act(Intent::Vouch(people[2].id(), Some(VouchGround::MetInPerson)));
    let vouched_ms = b.now_ms;
    meet(&mut [&mut a, &mut b, &mut c]);
    let evidence = c.community.evidence();
    let [vouch] = evidence.vouches.as_slice() else { panic!("{:?}", evidence.vouches) };
    assert_eq!((vouch.from, vouch.to, vouch.kind), (people[1].id(), people[2].id(), VouchKind::MetInPerson));
    assert_eq!(vouch.time_ms, vouched_ms);
    assert!(evidence.moderation.is_empty());
    a.act(Intent::Remove { person: people[2].id(), ban: false, reason: "spam".into() });
    meet(&mut [&mut a, &mut b]);
    let evidence = b.community.evidence();
    let [deed] = evidence.moderation.as_slice() else { panic!("{:?}", evidence.moderation) };
    assert_eq!((deed.subject, deed.by, deed.severity), (people[2].id(), people[0].id(), Severity::Removed));
    assert!(evidence.vouches.is_empty(), "of people outside nothing is told");
}
