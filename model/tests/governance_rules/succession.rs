//! §4, succession: where nobody is owner, `⌊n/2⌋ + 1` of the `n` people of the
//! highest rank make one of them owner.

use std::collections::BTreeSet;

use exo_model::PersonId;
use exo_model::charter::{ActStanding, Role};
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::trust::TrustLevel;

use crate::home::{Home, Person, garden, meet};
use crate::{all_say, crowd, meet_all, refused};

/// How many there are of the highest rank, and how many have to agree.
const IN_ALL: [(usize, usize); 5] = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)];

fn owners(home: &Home) -> Vec<PersonId> {
    let members = &home.community.state().charter.members;
    members.iter().filter(|(_, member)| member.role == Role::Owner).map(|(person, _)| *person).collect()
}

/// The only owner leaves; the first of the highest rank names an heir, the
/// author or the next, and the others sign one by one.
fn choose(rank: Role, equals: usize, in_all: usize, heir: usize) {
    let shown = format!("{equals} of rank {rank}, number {heir} is the heir");
    let mut roles = vec![rank; equals];
    roles.insert(0, Role::Owner);
    roles.push(if rank == Role::Member { Role::Guest } else { Role::Member });
    let (people, mut homes) = crowd(&roles);
    let (author, lowest) = (1, equals + 1);
    let wanted = Intent::SetRole(people[heir].id(), Role::Owner);
    refused(&mut homes[author], &wanted);
    homes[0].act(Intent::Leave);
    meet_all(&mut homes);
    refused(&mut homes[lowest], &wanted);
    refused(&mut homes[author], &Intent::SetRole(people[lowest].id(), Role::Owner));

    let act = homes[author].act(wanted);
    meet_all(&mut homes);
    // What everyone who is left makes of it: one answer.
    let told = |homes: &[Home]| {
        let told: BTreeSet<_> = homes[1..].iter().map(|home| (home.standing(&act), owners(home))).collect();
        assert_eq!(told.len(), 1, "{shown}: {told:?}");
        told.into_iter().next().expect("one")
    };
    let open = (Some(ActStanding::Unsigned), Vec::<PersonId>::new());
    let done = (Some(ActStanding::Counts), vec![people[heir].id()]);
    // Neither the author once more, nor a lower rank.
    for at in [author, lowest] {
        let answer = homes[at].try_act(Intent::CoSign(act));
        assert_eq!(answer, Err(Refusal::NotEntitled), "{shown}: {}", roles[at]);
        homes[at].force(CharterEvent::CoSigned { act });
    }
    meet_all(&mut homes);
    for at in (2..=equals).take(in_all - 1) {
        assert_eq!(told(&homes), open, "{shown}, before {at} signs");
        homes[at].act(Intent::CoSign(act));
        meet_all(&mut homes);
    }
    assert_eq!(told(&homes), done, "{shown}");
}

#[test]
fn an_heir_takes_more_than_half_of_the_highest_rank_whichever_that_is() {
    for rank in [Role::Admin, Role::Moderator, Role::Member] {
        for (equals, in_all) in IN_ALL {
            choose(rank, equals, in_all, 1);
            if equals > 1 {
                choose(rank, equals, in_all, 2);
            }
        }
    }
}

#[test]
fn guests_and_keepers_make_nobody_owner() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Guest, Role::Guest]);
    a.act(Intent::Leave);
    meet(&mut [&mut a, &mut b, &mut c]);
    let acts = [
        refused(&mut b, &Intent::SetRole(people[1].id(), Role::Owner)),
        refused(&mut b, &Intent::SetRole(people[2].id(), Role::Owner)),
    ];
    meet(&mut [&mut b, &mut c]);
    for act in &acts {
        all_say(&[&b, &c], act, ActStanding::NotEntitled);
    }
    assert!(owners(&c).is_empty());
}

/// Who has not heard that the last owner left succeeds nobody, also in the
/// eyes of those who have.
#[test]
fn nobody_succeeds_an_owner_who_is_there_as_far_as_they_know() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    a.act(Intent::Leave);
    let early = refused(&mut b, &Intent::SetRole(people[1].id(), Role::Owner));
    meet(&mut [&mut a, &mut b, &mut c]);
    all_say(&[&b, &c], &early, ActStanding::NotEntitled);
    let late = b.act(Intent::SetRole(people[1].id(), Role::Owner));
    meet(&mut [&mut b, &mut c]);
    all_say(&[&b, &c], &late, ActStanding::Counts);
    assert_eq!(owners(&c), [people[1].id()]);
}

/// The `n` people are those at the act: members who come afterwards are of the
/// highest rank too, and do not sign.
#[test]
fn who_comes_after_the_act_has_no_say_in_it() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Member, Role::Member, Role::Member]);
    let ticket = a.invite_as(1, Role::Member, TrustLevel::Friends);
    a.act(Intent::Leave);
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    let act = b.act(Intent::SetRole(people[1].id(), Role::Owner));
    let gil = Person::new(40);
    let mut g = b.admit("Gil", &gil, &ticket);
    assert_eq!(b.role(&gil.id()), Some(Role::Member));
    let signature = refused(&mut g, &Intent::CoSign(act));
    meet(&mut [&mut b, &mut c, &mut d, &mut g]);
    all_say(&[&b, &c, &d, &g], &signature, ActStanding::NotEntitled);
    all_say(&[&b, &c, &d, &g], &act, ActStanding::Unsigned);
    assert!(owners(&d).is_empty());
    c.act(Intent::CoSign(act));
    meet(&mut [&mut b, &mut c, &mut d, &mut g]);
    all_say(&[&b, &c, &d, &g], &act, ActStanding::Counts);
    assert_eq!(owners(&d), [people[1].id()]);
}

/// Each of two owners makes room for the other, apart: both count where they
/// were written, and the community is without an owner.
#[test]
fn two_owners_who_step_down_apart_are_succeeded_by_the_admins() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Owner, Role::Admin]);
    let [ana, ben, chloe] = people.each_ref().map(Person::id);
    let down = [a.act(Intent::SetRole(ana, Role::Admin)), b.act(Intent::SetRole(ben, Role::Admin))];
    meet(&mut [&mut a, &mut b, &mut c]);
    for act in &down {
        all_say(&[&a, &b, &c], act, ActStanding::Counts);
    }
    assert!(owners(&c).is_empty());
    let act = c.act(Intent::SetRole(chloe, Role::Owner));
    meet(&mut [&mut a, &mut b, &mut c]);
    all_say(&[&a, &b, &c], &act, ActStanding::Unsigned);
    a.act(Intent::CoSign(act));
    meet(&mut [&mut a, &mut b, &mut c]);
    all_say(&[&a, &b, &c], &act, ActStanding::Counts);
    assert_eq!(owners(&b), [chloe], "two of three admins");
}
