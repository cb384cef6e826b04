//! §4, removal and lowering of equals: `k = ⌊(n − 1)/2⌋ + 1` of the `n` people
//! of the rank sign, the author among them and never the subject; of owners at
//! least two.

use std::collections::BTreeSet;

use exo_model::charter::{ActStanding, Role};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::event::charter::VouchGround;

use crate::home::{Home, Person, garden, meet, settle};
use crate::{all_say, crowd, meet_all, refused, remove};

/// How many of a rank there are, and how many further signatures an act of one
/// about another takes; none where they are never enough.
const FURTHER: [(Role, usize, Option<usize>); 12] = [
    // The one who is left may not sign: it is about them.
    (Role::Owner, 2, None),
    (Role::Owner, 3, Some(1)),
    (Role::Owner, 4, Some(1)),
    (Role::Owner, 5, Some(2)),
    (Role::Admin, 2, Some(0)),
    (Role::Admin, 3, Some(1)),
    (Role::Admin, 4, Some(1)),
    (Role::Admin, 5, Some(2)),
    (Role::Moderator, 2, Some(0)),
    (Role::Moderator, 3, Some(1)),
    (Role::Moderator, 4, Some(1)),
    (Role::Moderator, 5, Some(2)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Remove,
    Lower,
}

/// One acts about another of the same rank; everyone who may not sign signs
/// first, and then those who may, one by one.
fn sign(deed: Deed, rank: Role, equals: usize, further: Option<usize>) {
    let shown = format!("{deed:?} among {equals} of rank {rank}");
    let mut roles = vec![rank; equals];
    let first = usize::from(rank != Role::Owner);
    if rank == Role::Owner {
        roles.push(Role::Admin);
    } else {
        roles.insert(0, Role::Owner);
    }
    roles.push(Role::Member);
    let (people, mut homes) = crowd(&roles);
    let (author, subject) = (first, first + 1);
    let person = people[subject].id();
    let act = homes[author].act(match deed {
        Deed::Remove => remove(person),
        Deed::Lower => Intent::SetRole(person, Role::Guest),
    });
    meet_all(&mut homes);

    let has_effect = |home: &Home| match deed {
        Deed::Remove => !home.is_member(&person),
        Deed::Lower => home.role(&person) == Some(Role::Guest),
    };
    // What everyone else makes of it: one answer.
    let told = |homes: &[Home]| {
        let others = homes.iter().enumerate().filter(|(at, _)| *at != subject);
        let told: BTreeSet<_> = others.map(|(_, home)| (home.standing(&act), has_effect(home))).collect();
        assert_eq!(told.len(), 1, "{shown}: {told:?}");
        told.into_iter().next().expect("one")
    };
    let open = (Some(ActStanding::Unsigned), false);
    let done = (Some(ActStanding::Counts), true);
    if further == Some(0) {
        assert_eq!(told(&homes), done, "{shown}: nobody else is needed");
        return;
    }

    let may_sign = first + 2..first + equals;
    let mut forced = Vec::new();
    for at in (0..homes.len()).filter(|at| !may_sign.contains(at)) {
        let answer = homes[at].try_act(Intent::CoSign(act));
        assert_eq!(answer, Err(Refusal::NotEntitled), "{shown}: {}", roles[at]);
        forced.push((at, homes[at].force(CharterEvent::CoSigned { act })));
    }
    meet_all(&mut homes);
    let witness = homes.len() - 1;
    for (at, signature) in &forced {
        let standing = homes[witness].standing(signature);
        assert_eq!(standing, Some(ActStanding::NotEntitled), "{shown}: {at}");
    }
    assert_eq!(told(&homes), open, "{shown}: none of these signatures helps");

    let Some(further) = further else { return };
    for (given, at) in may_sign.enumerate().take(further) {
        assert_eq!(told(&homes), open, "{shown}: {given} have signed");
        homes[at].act(Intent::CoSign(act));
        if given + 1 < further {
            // One person is one signature, however often they give it.
            homes[at].force(CharterEvent::CoSigned { act });
        }
        meet_all(&mut homes);
    }
    assert_eq!(told(&homes), done, "{shown}: {further} have signed");
    if deed == Deed::Remove {
        let own = forced.iter().find(|(at, _)| *at == subject).expect("the subject signed too");
        let standing = homes[witness].standing(&own.1);
        assert_eq!(standing, Some(ActStanding::Void), "{shown}: beyond the removal's fence");
    }
}

#[test]
fn removing_an_equal_takes_exactly_as_many_signatures_as_the_design_says() {
    for (rank, equals, further) in FURTHER {
        sign(Deed::Remove, rank, equals, further);
    }
}

#[test]
fn lowering_an_equal_takes_the_signatures_of_a_removal() {
    // Moderators give no roles.
    for (rank, equals, further) in FURTHER.into_iter().filter(|(rank, ..)| *rank >= Role::Admin) {
        sign(Deed::Lower, rank, equals, further);
    }
}

#[test]
fn raising_an_equal_or_leaving_one_as_they_are_is_no_act() {
    let (people, [mut a, mut b, mut c, mut d]) = garden([Role::Owner, Role::Owner, Role::Admin, Role::Admin]);
    let [_, ben, _, dan] = people.each_ref().map(Person::id);
    let acts = [
        refused(&mut a, &Intent::SetRole(ben, Role::Owner)),
        refused(&mut c, &Intent::SetRole(dan, Role::Owner)),
        refused(&mut c, &Intent::SetRole(dan, Role::Admin)),
    ];
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    for act in &acts {
        all_say(&[&a, &b, &c, &d], act, ActStanding::NotEntitled);
    }
    assert_eq!([ben, dan].map(|person| d.role(&person)), [Some(Role::Owner), Some(Role::Admin)]);
}

#[test]
fn the_last_owner_is_neither_removed_nor_lowered_not_even_by_themselves() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Admin]);
    let ana = people[0].id();
    let mut acts = vec![
        refused(&mut a, &Intent::SetRole(ana, Role::Admin)),
        refused(&mut a, &remove(ana)),
        refused(&mut b, &remove(ana)),
        refused(&mut b, &Intent::SetRole(ana, Role::Member)),
    ];
    meet(&mut [&mut a, &mut b, &mut c]);
    // Nor does it help to agree to it.
    let removal = acts[2];
    acts.push(refused(&mut c, &Intent::CoSign(removal)));
    meet(&mut [&mut a, &mut b, &mut c]);
    for act in &acts {
        all_say(&[&a, &b, &c], act, ActStanding::NotEntitled);
    }
    assert_eq!(c.role(&ana), Some(Role::Owner));
}

/// Who signs a removal is looked at where they sign: someone who was lowered
/// since does not count, someone who was raised since does.
#[test]
fn a_signature_goes_by_the_rank_of_its_signer_when_they_sign() {
    let (people, [mut a, mut b, mut c, mut d, mut e]) =
        garden([Role::Owner, Role::Admin, Role::Admin, Role::Admin, Role::Member]);
    let [_, _, chloe, dan, eve] = people.each_ref().map(Person::id);
    let act = b.act(remove(chloe));
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    a.act(Intent::SetRole(dan, Role::Member));
    a.act(Intent::SetRole(eve, Role::Admin));
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);

    let lowered = refused(&mut d, &Intent::CoSign(act));
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    all_say(&[&a, &b, &c, &d, &e], &lowered, ActStanding::NotEntitled);
    all_say(&[&a, &b, &c, &d, &e], &act, ActStanding::Unsigned);
    assert!(a.is_member(&chloe));

    e.act(Intent::CoSign(act));
    meet(&mut [&mut a, &mut b, &mut d, &mut e]);
    all_say(&[&a, &b, &d, &e], &act, ActStanding::Counts);
    assert!(!a.is_member(&chloe));
}

/// The removal has its own place and its own fence, whenever the signatures
/// come; and whoever knows it without them does not know it to count.
#[test]
fn signatures_count_from_where_one_stands_and_the_fence_from_the_act_on() {
    let (people, [mut a, mut b, mut c, mut d, mut e]) =
        garden([Role::Owner, Role::Admin, Role::Admin, Role::Admin, Role::Member]);
    let chloe = people[2].id();
    let room = a.channel();
    let before = c.say(room, "before");
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    let act = b.act(remove(chloe));
    let late = c.say(room, "late");
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    assert_eq!([before, late].map(|word| a.word(&word)), [WordStanding::Counts; 2], "nobody signed yet");

    let vouch = Intent::Vouch(chloe, Some(VouchGround::Known));
    d.act(Intent::CoSign(act));
    let apart = e.act(vouch.clone());
    meet(&mut [&mut a, &mut b, &mut d, &mut e]);
    all_say(&[&a, &b, &d, &e], &act, ActStanding::Counts);
    all_say(&[&a, &b, &d, &e], &apart, ActStanding::Counts);
    let after = refused(&mut e, &vouch);
    e.send_to(&mut a);
    all_say(&[&a], &after, ActStanding::NotEntitled);
    for home in [&a, &b, &d, &e] {
        assert!(!home.is_member(&chloe), "{}", home.name);
        assert_eq!(home.word(&before), WordStanding::Counts, "{}", home.name);
        assert_eq!(home.word(&late), WordStanding::Void, "{}", home.name);
    }
}
