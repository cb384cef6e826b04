//! §4: trust levels, what invites may give of them, and vouching.

use exo_model::amount::Amount;
use exo_model::charter::{ActStanding, Role};
use exo_model::decide::{Intent, Refusal};
use exo_model::event::charter::VouchGround;
use exo_model::event::ledger::Account;
use exo_model::ledger::LedgerFault;
use exo_model::trust::TrustLevel;
use exo_model::{InviteKey, PersonId};

use crate::home::{Home, Person, garden, meet, meet_in_every_order};
use crate::{all_say, refused};

use ActStanding::{Counts, NotEntitled};

fn trust(home: &Home, person: &PersonId) -> TrustLevel {
    home.community.state().charter.members[person].trust
}

#[test]
fn trust_is_set_by_admins_for_lower_ranks_and_by_owners_for_anyone() {
    let (people, [mut a, mut b, mut c, mut d, mut e]) =
        garden([Role::Owner, Role::Owner, Role::Admin, Role::Admin, Role::Member]);
    let [ana, ben, chloe, dan, eve] = people.each_ref().map(Person::id);
    let to = Intent::SetTrust;
    let mut acts = vec![(c.act(to(eve, TrustLevel::Known)), Counts)];
    for person in [chloe, dan, ana] {
        acts.push((refused(&mut c, &to(person, TrustLevel::Public)), NotEntitled));
    }
    for (person, level) in [(ana, TrustLevel::Known), (ben, TrustLevel::Public), (dan, TrustLevel::Known)] {
        acts.push((a.act(to(person, level)), Counts));
    }
    let stranger = Person::new(99).id();
    acts.push((refused(&mut a, &to(stranger, TrustLevel::Friends)), NotEntitled));
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    for (act, standing) in &acts {
        all_say(&[&a, &b, &c, &d, &e], act, *standing);
    }
    let expected =
        [TrustLevel::Known, TrustLevel::Public, TrustLevel::Friends, TrustLevel::Known, TrustLevel::Known];
    assert_eq!([ana, ben, chloe, dan, eve].map(|person| trust(&b, &person)), expected);

    // A level is worth the credit of its floor.
    let floors = [ben, eve, chloe].map(|person| b.community.charter().now().floor(&person));
    assert_eq!(floors, [0, -10_000, -100_000].map(Amount::from_token_mib));
    let gift = |token_mib| Intent::Transfer {
        to: Account::Device(a.device()),
        amount: Amount::from_token_mib(token_mib),
        note: String::new(),
    };
    let (available, wanted) = (Amount::from_token_mib(10_000), Amount::from_token_mib(10_001));
    let refusal = Refusal::Ledger(LedgerFault::Headroom { available, wanted });
    assert_eq!(e.try_act(gift(10_001)), Err(refusal));
    e.act(gift(10_000));
}

#[test]
fn an_invite_gives_more_trust_than_its_issuers_only_by_who_may_set_it() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Moderator]);
    a.act(Intent::SetTrust(people[1].id(), TrustLevel::Public));
    a.act(Intent::SetTrust(people[2].id(), TrustLevel::Known));
    meet(&mut [&mut a, &mut b, &mut c]);
    let issue = |number: u8, trust| {
        let key = InviteKey::from_bytes([number; 32]);
        Intent::IssueInvite { key, uses: 1, expires_ms: i64::MAX, role: Role::Member, trust }
    };
    let acts = [
        (b.act(issue(1, TrustLevel::Friends)), Counts),
        (c.act(issue(2, TrustLevel::Public)), Counts),
        (c.act(issue(3, TrustLevel::Known)), Counts),
        (refused(&mut c, &issue(4, TrustLevel::Friends)), NotEntitled),
    ];
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    for (act, standing) in &acts {
        all_say(&[&a, &b, &c], act, *standing);
    }
}

#[test]
fn a_vouch_is_for_another_member_and_taken_back_at_any_time() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Member, Role::Member, Role::Member]);
    let [ana, ben, chloe, dan] = people.each_ref().map(Person::id);
    let vouch = |person| Intent::Vouch(person, Some(VouchGround::SafetyWords));
    let mut acts = vec![
        (refused(&mut b, &vouch(ben)), NotEntitled),
        (refused(&mut b, &vouch(Person::new(99).id())), NotEntitled),
    ];
    for person in [ana, chloe, dan] {
        acts.push((b.act(vouch(person)), Counts));
    }
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    let vouched = |home: &Home| -> Vec<PersonId> {
        let vouches = &home.community.state().charter.vouches;
        [ana, chloe, dan].into_iter().filter(|person| vouches.contains_key(&(ben, *person))).collect()
    };
    assert_eq!(vouched(&a), [ana, chloe, dan]);

    // One of them leaves, and Ben becomes a guest, who may not vouch any more.
    d.act(Intent::Leave);
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    assert_eq!(vouched(&a), [ana, chloe], "only among members");
    a.act(Intent::SetRole(ben, Role::Guest));
    meet(&mut [&mut a, &mut b, &mut c]);
    acts.push((refused(&mut b, &vouch(chloe)), NotEntitled));
    acts.push((b.act(Intent::Vouch(chloe, None)), Counts));
    acts.push((b.act(Intent::Vouch(dan, None)), Counts));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    for (act, standing) in &acts {
        all_say(&[&a, &b, &c], act, *standing);
    }
    assert_eq!(vouched(&c), [ana], "what is not taken back stands");
}
