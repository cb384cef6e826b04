//! §4, re-admission: who lifts what, and that an admission lifts every removal
//! that it knows.

use exo_model::ChangeHash;
use exo_model::charter::{ActStanding, Role};
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::feed::Stream;
use exo_model::invite::JoinRequest;

use crate::home::{Person, garden, meet, meet_in_every_order};
use crate::{all_say, ban, decided, remove};

/// How somebody went: removed by someone of a rank, with a ban or without, or
/// by themselves.
const GOINGS: [(Option<Role>, bool); 7] = [
    (Some(Role::Owner), true),
    (Some(Role::Admin), true),
    (Some(Role::Moderator), true),
    (Some(Role::Owner), false),
    (Some(Role::Admin), false),
    (Some(Role::Moderator), false),
    (None, false),
];

/// The admission of a request, lifting these.
fn admitted(request: &JoinRequest, lifts: Vec<ChangeHash>) -> CharterEvent {
    CharterEvent::Admitted {
        certificate: request.certificate.clone(),
        name: request.name.clone(),
        invite: request.invite,
        proof: request.proof,
        lifts,
    }
}

#[test]
fn a_ban_is_lifted_from_its_rank_up_and_any_other_going_by_whoever_admits() {
    for (by, is_ban) in GOINGS {
        let shown = format!("gone by {by:?}, banned: {is_ban}");
        let (people, [mut a, mut b, mut c, mut d, mut g, mut f]) =
            garden([Role::Owner, Role::Admin, Role::Moderator, Role::Member, Role::Guest, Role::Member]);
        let finn = &people[5];
        let intent = if is_ban { ban(finn.id()) } else { remove(finn.id()) };
        match by {
            Some(Role::Owner) => a.act(intent),
            Some(Role::Admin) => b.act(intent),
            Some(_) => c.act(intent),
            None => f.act(Intent::Leave),
        };
        meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut g, &mut f]);
        let ticket = a.invite(5);
        meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);

        let request = ticket.request(finn.certify(&finn.device(1), 1), "Finn".into());
        let (_, event) = decided(&a, Intent::Admit(request.clone())).expect("an owner lifts everything");
        let mut forced = Vec::new();
        for (home, role) in [
            (&mut a, Role::Owner),
            (&mut b, Role::Admin),
            (&mut c, Role::Moderator),
            (&mut d, Role::Member),
            (&mut g, Role::Guest),
        ] {
            let lifts = by.is_none_or(|rank| !is_ban || role >= rank);
            let may = role >= Role::Member && lifts;
            let answer = decided(home, Intent::Admit(request.clone()));
            assert_eq!(answer.is_ok(), may, "{shown}: by a {role}");
            if !may {
                if !lifts {
                    assert_eq!(answer.err(), Some(Refusal::Banned), "{shown}: by a {role}");
                }
                forced.push(home.write(Stream::Charter, &event));
            }
        }
        meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
        for act in &forced {
            all_say(&[&a, &b, &c, &d, &g], act, ActStanding::NotEntitled);
        }
        assert!(!a.is_member(&finn.id()), "{shown}");

        // The lowest who may.
        let lifter = match by {
            Some(Role::Owner) if is_ban => &mut a,
            Some(Role::Admin) if is_ban => &mut b,
            Some(_) if is_ban => &mut c,
            _ => &mut d,
        };
        let mut again = lifter.try_admit("Finn", finn, &finn.device(1), &ticket).expect("lifted");
        meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut g, &mut again]);
        for home in [&a, &b, &c, &d, &g, &again] {
            assert_eq!(home.role(&finn.id()), Some(Role::Member), "{shown}, says {}", home.name);
        }
    }
}

/// The rank of a ban is the one that its author had; the rank of who lifts it
/// is the one they have.
#[test]
fn a_ban_keeps_the_rank_it_was_spoken_with() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Admin, Role::Moderator, Role::Member]);
    let [_, ben, chloe, _] = people.each_ref().map(Person::id);
    let dan = &people[3];
    b.act(ban(dan.id()));
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    a.act(Intent::SetRole(ben, Role::Member));
    let ticket = a.invite(5);
    meet(&mut [&mut a, &mut b, &mut c]);
    let request = ticket.request(dan.certify(&dan.device(1), 1), "Dan".into());
    let (_, event) = decided(&a, Intent::Admit(request.clone())).expect("an owner lifts everything");
    let mut forced = Vec::new();
    for home in [&mut b, &mut c] {
        assert_eq!(home.try_act(Intent::Admit(request.clone())), Err(Refusal::Banned), "{}", home.name);
        forced.push(home.write(Stream::Charter, &event));
    }
    a.act(Intent::SetRole(chloe, Role::Admin));
    meet(&mut [&mut a, &mut b, &mut c]);
    for act in &forced {
        all_say(&[&a, &b, &c], act, ActStanding::NotEntitled);
    }
    c.try_admit("Dan", dan, &dan.device(1), &ticket).expect("an admin now, as the one who banned was");
    c.send_to(&mut a);
    assert_eq!(a.role(&dan.id()), Some(Role::Member));
}

/// Two removals apart, and a third person's; of the sets of these an admission
/// may name, one is right.
#[test]
fn an_admission_lifts_every_removal_it_knows_and_nothing_else() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Admin, Role::Member, Role::Member]);
    let dan = &people[3];
    let one = a.act(remove(dan.id()));
    let two = b.act(remove(dan.id()));
    let others = a.act(remove(people[2].id()));
    let profile = a.act(Intent::SetProfile { name: "Ana".into(), about: String::new() });
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    all_say(&[&a, &b], &one, ActStanding::Counts);
    all_say(&[&a, &b], &two, ActStanding::Counts);
    let ticket = a.invite(5);
    let request = ticket.request(dan.certify(&dan.device(1), 1), "Dan".into());

    let unknown = ChangeHash::from_bytes([9; 32]);
    let wrong = [
        vec![],
        vec![one],
        vec![two],
        vec![one, others],
        vec![one, two, others],
        vec![one, two, profile],
        vec![one, two, unknown],
    ];
    let wrong = wrong.map(|lifts| a.force(admitted(&request, lifts)));
    let right = a.force(admitted(&request, vec![one, two]));
    meet_in_every_order(&mut [&mut a, &mut b]);
    for act in &wrong {
        all_say(&[&a, &b], act, ActStanding::NotEntitled);
    }
    all_say(&[&a, &b], &right, ActStanding::Counts);
    assert!(b.is_member(&dan.id()));
    assert_eq!(b.community.state().charter.invites[&ticket.key()].used, 1);
}

#[test]
fn what_an_admission_lifted_is_not_lifted_again() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let ben = &people[1];
    let first = a.act(remove(ben.id()));
    let ticket = a.invite(1);
    let mut back = a.try_admit("Ben", ben, &ben.device(1), &ticket).expect("invited anew");
    let second = a.act(remove(ben.id()));
    let state = a.community.state().charter.clone();
    assert_eq!(state.removals.get(&ben.id()), Some(&(vec![second], false)), "not the one that was lifted");

    let ticket = a.invite(1);
    let request = ticket.request(ben.certify(&ben.device(2), 1), "Ben".into());
    let wrong = [vec![], vec![first]].map(|lifts| a.force(admitted(&request, lifts)));
    let right = a.force(admitted(&request, vec![second]));
    meet(&mut [&mut a, &mut b, &mut c, &mut back]);
    for act in &wrong {
        all_say(&[&a, &c], act, ActStanding::NotEntitled);
    }
    all_say(&[&a, &c], &right, ActStanding::Counts);
    assert!(c.is_member(&ben.id()));
}

/// A removal asks for an invite that knew of it; a ban asks for a rank.
#[test]
fn an_invite_from_before_serves_after_a_ban_only() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Member, Role::Member, Role::Member]);
    let (chloe, dan) = (&people[2], &people[3]);
    let old = a.invite(5);
    let removal = a.act(remove(chloe.id()));
    a.act(ban(dan.id()));
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    let request = old.request(chloe.certify(&chloe.device(1), 1), "Chloe".into());
    assert_eq!(a.try_act(Intent::Admit(request.clone())), Err(Refusal::WasRemoved));
    let forced = a.force(admitted(&request, vec![removal]));
    a.try_admit("Dan", dan, &dan.device(1), &old).expect("an owner");
    a.send_to(&mut b);
    all_say(&[&a, &b], &forced, ActStanding::NotEntitled);
    assert!(!b.is_member(&chloe.id()) && b.is_member(&dan.id()));
}
