//! The phrase alone: a fresh device of the same person reads what the person
//! could read, and not a word more.

use exo_model::charter::{Role, Setting};
use exo_model::decide::Intent;
use exo_model::feed::{Stream, VerifiedEvent};
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;

use crate::home::{Home, Person, Seeded, garden, settle};
use crate::{open_direct, posted};

/// A device that holds nothing but what any peer may carry.
fn bare(name: &str, key: &SecretKey, from: &Home) -> Home {
    let key = SecretKey::from_bytes(&key.to_bytes());
    let seeded = Seeded::of_device(&key, 0);
    let mut home = Home::new(name, from.community.id(), key, seeded);
    from.send_to(&mut home);
    home
}

/// Opens everything that is sealed to the phrase.
fn recover(home: &mut Home, person: &Person) {
    let keys: Vec<VerifiedEvent> =
        home.events.iter().filter(|event| event.feed.stream == Stream::Keys).cloned().collect();
    let mut reopen = home.community.open_with(&person.phrase.recovery_key(), &keys);
    while let Some(feed) = reopen.pop_first() {
        let runs = home.store.get(&feed).cloned().unwrap_or_default();
        reopen.extend(home.community.reopen(&feed, &runs).reopen);
    }
    home.read_again();
}

#[test]
fn the_phrase_alone_reads_everything_its_person_could() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let room = a.channel();
    a.act(Intent::ChangeSetting(Setting::OpenHistory(false)));
    let closed = a.open_channel(2, true);
    let direct = open_direct(&mut b, &[&people[0], &people[1]]);
    settle(&mut [&mut a, &mut b, &mut c]);
    let secret = a.say(closed, "not for Ben");
    let mine = [
        b.say(room, "in the room"),
        b.act(Intent::TalkDirectly(direct, posted("to Ana"))),
        a.act(Intent::TalkDirectly(direct, posted("to Ben"))),
        c.say(room, "hello"),
    ];
    settle(&mut [&mut a, &mut b, &mut c]);

    // Ben's only device is gone. Its words are on the others' disks.
    let ben = &people[1];
    let fresh = ben.device(1);
    let mut again = bare("Ben again", &fresh, &c);
    assert!(again.community.state().charter.members.is_empty(), "without the phrase, nothing");
    recover(&mut again, ben);
    assert_eq!(again.hash(), a.hash());
    assert!(mine.iter().all(|change| again.opens(change)), "with it, everything that was his");
    assert!(!again.opens(&secret), "and nothing else");
    assert!(!again.community.state().charter.is_member(&fresh.device()), "reading is not being enrolled");

    // Any member posts the certificate; then he writes on.
    c.act(Intent::AddDevice(ben.certify(&fresh, 2)));
    c.send_to(&mut again);
    settle(&mut [&mut a, &mut c, &mut again]);
    let back = again.act(Intent::TalkDirectly(direct, posted("it is me")));
    settle(&mut [&mut a, &mut c, &mut again]);
    assert!(a.opens(&back) && !c.opens(&back));
    assert_eq!(again.hash(), a.hash());
}

/// Another's phrase opens nothing of Ben's; and who was removed has a phrase
/// for the time before only.
#[test]
fn a_phrase_opens_what_was_its_persons_and_ends_with_the_removal() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let room = a.channel();
    let before = b.say(room, "before");
    settle(&mut [&mut a, &mut b]);
    a.act(Intent::Remove { person: people[1].id(), ban: false, reason: String::new() });
    let after = a.say(room, "after");
    let mut thief = bare("thief", &SecretKey::from_bytes(&[77; 32]), &a);
    recover(&mut thief, &Person::new(9));
    assert_eq!(thief.community.keyring().ids().count(), 0);
    let mut gone = bare("Ben again", &people[1].device(1), &a);
    recover(&mut gone, &people[1]);
    assert!(gone.opens(&before) && !gone.opens(&after));
}
