//! M7: invites reused, expired, revoked, answered by two members at once.

use exo_model::CommunityId;
use exo_model::charter::{ActStanding, Role};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::invite::JoinRequest;
use exo_model::trust::TrustLevel;

use crate::home::{Home, Person, found, garden, meet, meet_in_every_order};

fn admitted(request: &JoinRequest) -> CharterEvent {
    CharterEvent::Admitted {
        certificate: request.certificate.clone(),
        name: request.name.clone(),
        invite: request.invite,
        proof: request.proof,
        lifts: Vec::new(),
    }
}

/// What `decide` says, and that the charter agrees where someone writes it
/// all the same.
fn refused(home: &mut Home, request: &JoinRequest, refusal: &Refusal, standing: ActStanding) {
    assert_eq!(home.try_act(Intent::Admit(request.clone())).as_ref(), Err(refusal));
    let forced = home.force(admitted(request));
    assert_eq!(home.standing(&forced), Some(standing), "{refusal}");
}

#[test]
fn m07_an_invite_admits_as_often_as_it_says() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let ticket = a.invite(1);
    a.send_to(&mut b);
    let (chloe, dan) = (Person::new(7), Person::new(8));
    b.admit("Chloe", &chloe, &ticket);
    let request = ticket.request(dan.certify(&dan.key, 1), "Dan".into());
    refused(&mut b, &request, &Refusal::InviteUsed, ActStanding::Lost);
    let again = ticket.request(chloe.certify(&chloe.device(1), 2), "Chloe".into());
    refused(&mut b, &again, &Refusal::AlreadyMember, ActStanding::NotEntitled);
    assert!(!b.is_member(&dan.id()));
}

#[test]
fn m07_an_expired_invite_is_refused_by_the_admitting_clock_only() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let ticket = a.invite(1);
    a.send_to(&mut b);
    b.now_ms = ticket.expires_ms + 1;
    let dan = Person::new(8);
    let request = ticket.request(dan.certify(&dan.key, 1), "Dan".into());
    // Clocks differ: whoever's clock says otherwise may admit, and is believed.
    refused(&mut b, &request, &Refusal::InviteExpired, ActStanding::Counts);
    let mut on_time = b.twin();
    let other = a.invite(1);
    a.send_to(&mut on_time);
    on_time.now_ms = other.expires_ms;
    on_time.admit("Chloe", &Person::new(7), &other);
}

#[test]
fn m07_a_revoked_invite_admits_nobody_who_is_admitted_in_knowledge_of_it() {
    let (_, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let ticket = a.invite(5);
    meet(&mut [&mut a, &mut b, &mut c]);
    let (dan, eve) = (Person::new(7), Person::new(8));
    a.act(Intent::RevokeInvite(ticket.key()));
    b.admit("Dan", &dan, &ticket);
    a.send_to(&mut c);
    let request = ticket.request(eve.certify(&eve.key, 1), "Eve".into());
    refused(&mut c, &request, &Refusal::InviteRevoked, ActStanding::NotEntitled);
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    assert!(a.is_member(&dan.id()), "admitted before word of it came");
    assert!(!a.is_member(&eve.id()));
}

#[test]
fn m07_only_the_issuer_and_higher_ranks_revoke() {
    let (_, [mut a, mut b, mut c, mut d]) = garden([Role::Owner, Role::Admin, Role::Moderator, Role::Member]);
    let (by_ben, by_chloe) = (b.invite(1), c.invite(1));
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    assert_eq!(c.try_act(Intent::RevokeInvite(by_ben.key())), Err(Refusal::NotEntitled));
    assert_eq!(d.try_act(Intent::RevokeInvite(by_chloe.key())), Err(Refusal::NotEntitled));
    let unknown = Person::new(9).key.public_bytes();
    let unknown = exo_model::InviteKey::from_bytes(unknown);
    assert_eq!(a.try_act(Intent::RevokeInvite(unknown)), Err(Refusal::UnknownInvite));
    b.act(Intent::RevokeInvite(by_chloe.key()));
    a.act(Intent::RevokeInvite(by_ben.key()));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut d]);
    assert!(a.community.state().charter.invites.values().filter(|invite| invite.revoked).count() == 2);
}

#[test]
fn m07_one_use_answered_by_two_members_at_once_admits_one() {
    let (_, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let ticket = a.invite(1);
    meet(&mut [&mut a, &mut b, &mut c]);
    let (dan, eve) = (Person::new(7), Person::new(8));
    let mut d = b.admit("Dan", &dan, &ticket);
    let mut e = c.admit("Eve", &eve, &ticket);
    let room = a.channel();
    let said = [d.say(room, "I am in"), e.say(room, "so am I")];
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    let came = [&dan, &eve].map(|person| a.is_member(&person.id()));
    assert_eq!(came.iter().filter(|came| **came).count(), 1, "one use, one person");
    assert_eq!(a.community.state().charter.invites[&ticket.key()].used, 1);
    for (came, said) in came.into_iter().zip(said) {
        let expected = if came { WordStanding::Counts } else { WordStanding::NotEntitled };
        assert_eq!(a.word(&said), expected);
    }
}

/// One newcomer asks two members, who do not know of each other.
#[test]
fn m07_one_person_admitted_twice_at_once_is_there_once() {
    let (_, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let ticket = a.invite(5);
    meet(&mut [&mut a, &mut b, &mut c]);
    let dan = Person::new(7);
    b.admit("Dan", &dan, &ticket);
    c.try_admit("Daniel", &dan, &dan.device(1), &ticket).expect("as far as Chloe knows");
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(a.community.state().charter.members[&dan.id()].devices.len(), 1);
    assert_eq!(a.community.state().charter.invites[&ticket.key()].used, 1);
}

#[test]
fn m07_a_request_is_bound_to_community_person_device_name_and_invite() {
    let (_, [mut a]) = garden([Role::Owner]);
    let (ticket, other) = (a.invite(5), a.invite(5));
    let (dan, eve) = (Person::new(7), Person::new(8));
    let good = ticket.request(dan.certify(&dan.key, 1), "Dan".into());
    let bad = [
        JoinRequest { name: "Daniel".into(), ..good.clone() },
        JoinRequest { certificate: eve.certify(&eve.key, 1), ..good.clone() },
        JoinRequest { certificate: dan.certify(&dan.device(1), 1), ..good.clone() },
        JoinRequest { invite: other.key(), ..good.clone() },
    ];
    for request in &bad {
        refused(&mut a, request, &Refusal::InviteProof, ActStanding::NotEntitled);
    }
    let elsewhere = JoinRequest { community: CommunityId::from_bytes([9; 32]), ..good.clone() };
    assert_eq!(a.try_act(Intent::Admit(elsewhere)), Err(Refusal::OtherCommunity));
    let mut stranger = found("Zoe", &Person::new(30));
    let foreign = stranger.invite(1).request(dan.certify(&dan.key, 1), "Dan".into());
    let foreign = JoinRequest { community: a.community.id(), ..foreign };
    assert_eq!(a.try_act(Intent::Admit(foreign)), Err(Refusal::InviteProof));
    a.act(Intent::Admit(good));
    assert_eq!(a.community.state().charter.members.len(), 2);
}

#[test]
fn m07_who_may_not_invite_cannot_hand_out_keys() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let secret = Person::new(9).key;
    let key = exo_model::InviteKey::from_bytes(secret.public_bytes());
    let (role, trust, expires_ms) = (Role::Member, TrustLevel::Public, i64::MAX);
    let issue = |uses| Intent::IssueInvite { key, uses, expires_ms, role, trust };
    assert_eq!(b.try_act(issue(1)), Err(Refusal::NotEntitled));
    let forced = b.force(CharterEvent::InviteIssued { key, uses: 1, expires_ms, role, trust });
    assert_eq!(b.standing(&forced), Some(ActStanding::NotEntitled));
    assert_eq!(a.try_act(issue(0)), Err(Refusal::InviteUses));
    assert_eq!(a.try_act(issue(1_001)), Err(Refusal::InviteUses));
    a.act(issue(1));
    assert_eq!(a.try_act(issue(1)), Err(Refusal::Lost), "a key counts once");
    meet_in_every_order(&mut [&mut a, &mut b]);
}
