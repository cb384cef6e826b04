//! Whole communities with keepers: what members post, and what keepers make
//! of it.

use exo_model::charter::Role;
use exo_model::codec;
use exo_model::decide::Intent;
use exo_model::event::CharterEvent;
use exo_model::event::Event;
use exo_model::event::keys::KeyEvent;
use exo_model::feed::{FeedId, LineId, Stream};
use exo_model::roll::{KeeperAnchor, ListedPerson, Listing, Roll};
use exo_model::trust::TrustLevel;

use crate::home::{Home, Person, garden, meet, settle};

/// What a keeper believes that started from `anchor` and has all that `home`
/// has.
fn believes(anchor: &KeeperAnchor, home: &Home) -> Listing {
    let mut roll = Roll::default();
    for (feed, runs) in home.store.iter().filter(|(feed, _)| feed.stream == Stream::Keys) {
        for run in runs {
            roll.take_run(LineId::from(*feed), run);
        }
    }
    anchor.tree(&roll).expect("an anchor").listing()
}

fn lists(home: &Home) -> usize {
    let is_list = |event: &&Event| matches!(event, Event::Keys(KeyEvent::ListedForKeepers { .. }));
    home.events.iter().filter_map(|event| event.event.as_ref().ok()).filter(is_list).count()
}

fn remove(person: &Person) -> Intent {
    Intent::Remove { person: person.id(), ban: false, reason: String::new() }
}

/// The name of the list that a keeper believes.
fn last_list(home: &Home) -> Option<exo_model::ChangeHash> {
    let is_list =
        |event: &Event| matches!(event, Event::Keys(KeyEvent::ListedForKeepers { is_last: true, .. }));
    let lists = home.events.iter().filter(|event| event.event.as_ref().is_ok_and(is_list));
    lists.max_by_key(|event| event.order()).map(|event| event.hash)
}

/// Writes a list, true or not.
fn post(home: &mut Home, follows: Option<exo_model::ChangeHash>, listing: &Listing) {
    for event in listing.post(follows) {
        home.write(Stream::Keys, &event.into());
    }
}

#[test]
fn nobody_lists_anyone_where_there_is_no_keeper() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(lists(&a), 0);
    let dan = Person::new(4);
    let ticket = a.invite_as(1, Role::Keeper, TrustLevel::Public);
    a.admit("Dan", &dan, &ticket);
    assert_eq!(lists(&a), 1, "as soon as there is one");
    settle(&mut [&mut a, &mut b]);
    assert_eq!(lists(&a), 1, "once");
}

#[test]
fn members_list_all_who_take_part_whenever_that_changes() {
    let (people, [mut a, mut b, mut k]) = garden([Role::Owner, Role::Member, Role::Keeper]);
    let anchor = a.keeper_anchor();
    assert_eq!(b.keeper_anchor(), anchor, "whoever admits says the same");
    assert!(believes(&anchor, &k).keepers.contains(&k.device()));
    let room = a.channel();
    b.say(room, "here");
    settle(&mut [&mut a, &mut b, &mut k]);
    // A member lets someone in; an owner's device lists them.
    let dan = Person::new(4);
    let ticket = a.invite(1);
    settle(&mut [&mut a, &mut b]);
    let mut d = b.admit("Dan", &dan, &ticket);
    assert!(!believes(&anchor, &b).is_writer(&d.device()), "an ordinary member does not list");
    settle(&mut [&mut a, &mut b, &mut d, &mut k]);
    assert!(believes(&anchor, &k).is_writer(&d.device()));
    assert_eq!(believes(&anchor, &k), a.community.listing());

    a.act(Intent::SetRole(people[1].id(), Role::Moderator));
    meet(&mut [&mut a, &mut b, &mut d]);
    assert!(believes(&anchor, &b).is_lister(&b.device()));
    b.act(remove(&dan));
    b.send_to(&mut k);
    let listing = believes(&anchor, &k);
    assert!(!listing.knows(&d.device()));
    // What counted of theirs is still worth carrying, what comes is not.
    let feed = |home: &Home, stream| FeedId::new(home.community.id(), home.device(), stream);
    assert!(listing.carries(&feed(&d, Stream::Charter), 0));
    assert!(!listing.carries(&feed(&d, Stream::Channel(room)), 0), "they had written nothing there");
    a.send_to(&mut b);
    b.send_to(&mut a);
    a.act(remove(&people[1]));
    let listing = believes(&anchor, &a);
    let words = feed(&b, Stream::Channel(room));
    assert!(listing.carries(&words, 0) && !listing.carries(&words, 1));
    assert!(!listing.carries(&words.with_segment(1), 0));
}

#[test]
fn a_removed_device_that_lists_itself_and_its_friends_is_not_believed() {
    let (people, [mut a, mut b, mut c, mut k]) =
        garden([Role::Owner, Role::Admin, Role::Member, Role::Keeper]);
    settle(&mut [&mut a, &mut b, &mut c, &mut k]);
    let anchor = a.keeper_anchor();
    let before = last_list(&a);
    assert!(believes(&anchor, &k).is_lister(&b.device()));
    a.act(remove(&people[1]));
    let truth = a.community.listing();
    a.send_to(&mut b);
    let friends = Listing {
        listers: vec![ListedPerson { role: Role::Owner, devices: vec![b.device()] }],
        writers: [c.device()].into(),
        ..Listing::default()
    };
    // After the list that leaves them out, before it, and from the beginning.
    let after = last_list(&b);
    for follows in [after, before, None, before, after] {
        post(&mut b, follows, &friends);
        b.send_to(&mut k);
        assert_eq!(believes(&anchor, &k), truth, "a liar alone");
    }
    a.send_to(&mut k);
    assert_eq!(believes(&anchor, &k), truth);
    // Nor does it help to have known it before the others.
    let (_, [mut a, mut b, _, mut k]) = garden([Role::Owner, Role::Admin, Role::Member, Role::Keeper]);
    settle(&mut [&mut a, &mut b, &mut k]);
    let anchor = a.keeper_anchor();
    let before = last_list(&b);
    let friends = Listing { writers: Default::default(), ..friends };
    post(&mut b, before, &friends);
    b.send_to(&mut k);
    assert_eq!(believes(&anchor, &k), friends, "an admin is believed until an owner speaks");
    assert_eq!(codec::encode(&anchor), codec::encode(&a.keeper_anchor()));
    b.send_to(&mut a);
    a.act(remove(&people[1]));
    a.send_to(&mut k);
    assert_eq!(believes(&anchor, &k), a.community.listing());
}

#[test]
fn of_owners_who_remove_each_other_the_more_are_believed() {
    let (people, [mut a, mut b, mut c, mut k]) =
        garden([Role::Owner, Role::Owner, Role::Owner, Role::Keeper]);
    settle(&mut [&mut a, &mut b, &mut c, &mut k]);
    let anchor = b.keeper_anchor();
    let before = last_list(&a);
    // Ben and Chloe remove Ana, who founded it, and who does not accept it.
    let act = b.act(remove(&people[0]));
    b.send_to(&mut c);
    c.act(Intent::CoSign(act));
    assert!(!c.is_member(&people[0].id()));
    let alone = Listing {
        listers: vec![ListedPerson { role: Role::Owner, devices: vec![a.device()] }],
        ..Listing::default()
    };
    post(&mut a, before, &alone);
    for home in [&a, &c] {
        home.send_to(&mut k);
    }
    assert_eq!(believes(&anchor, &k), alone, "one each: the senior");
    a.send_to(&mut b);
    c.send_to(&mut b);
    b.tend();
    b.send_to(&mut k);
    assert_eq!(believes(&anchor, &k), b.community.listing());
    // What changes from here on goes on from there.
    b.send_to(&mut c);
    let dan = Person::new(5);
    let ticket = c.invite(1);
    let d = c.admit("Dan", &dan, &ticket);
    c.send_to(&mut k);
    assert!(believes(&anchor, &k).is_writer(&d.device()) && !believes(&anchor, &k).knows(&a.device()));
    c.send_to(&mut b);
    let posted = lists(&b);
    b.tend();
    assert_eq!(lists(&b), posted, "and nobody goes on repeating it");
}

#[test]
fn whoever_leaves_says_so_to_keepers() {
    let (_, [mut a, mut b, mut k]) = garden([Role::Owner, Role::Moderator, Role::Keeper]);
    settle(&mut [&mut a, &mut b, &mut k]);
    let anchor = a.keeper_anchor();
    b.act(Intent::Leave);
    a.force(CharterEvent::ProfileSet { name: "Ana".into(), about: String::new() });
    settle(&mut [&mut a, &mut b, &mut k]);
    let listing = believes(&anchor, &k);
    assert!(!listing.knows(&b.device()) && listing.is_lister(&a.device()));
    // Where nobody of a rank that may list is left, those of the highest may.
    let (people, [mut a, mut b, mut k]) = garden([Role::Owner, Role::Member, Role::Keeper]);
    settle(&mut [&mut a, &mut b, &mut k]);
    let anchor = a.keeper_anchor();
    a.act(Intent::Leave);
    settle(&mut [&mut a, &mut b, &mut k]);
    assert!(!b.is_member(&people[0].id()));
    assert_eq!(b.community.listing().listers.len(), 1);
    assert!(b.community.listing().is_lister(&b.device()));
    assert_eq!(believes(&anchor, &k), b.community.listing(), "who went last said so themselves");
}
