//! M8, M9: devices that were stolen, restored, or already spent.

use exo_model::certificate::PhraseRevocation;
use exo_model::charter::{ActStanding, Role};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::event::keys::Audience;
use exo_model::feed::{Rejection, Stream, gate};
use exo_model::id::DeviceId;

use crate::home::{Home, Person, garden, meet, meet_in_every_order, settle, to_run};
use crate::remove;

/// Ana, and Ben with a laptop and, enrolled later, a phone.
fn laptop_and_phone() -> (Person, Home, Home, Home) {
    let ([_, ben], [mut a, mut laptop]) = garden([Role::Owner, Role::Admin]);
    let mut phone = laptop.add_device(&ben, &ben.device(1), 2);
    settle(&mut [&mut a, &mut laptop, &mut phone]);
    (ben, a, laptop, phone)
}

fn by_phrase(home: &Home, owner: &Person, device: DeviceId) -> Intent {
    let fence = home.community.fence_of(&[device].into()).hash();
    let phrase = PhraseRevocation::sign(&owner.phrase, &home.community.id(), device, &fence);
    Intent::RevokeDevice { device, phrase: Some(phrase) }
}

fn by_device(device: DeviceId) -> Intent {
    Intent::RevokeDevice { device, phrase: None }
}

#[test]
fn m08_a_stolen_phone_is_revoked_by_the_laptop() {
    let (ben, mut a, mut laptop, mut phone) = laptop_and_phone();
    let room = a.channel();
    let fair = phone.say(room, "on my way");
    settle(&mut [&mut a, &mut laptop, &mut phone]);
    assert_eq!(phone.try_act(by_device(laptop.device())), Err(Refusal::NotEntitled), "the later one cannot");
    laptop.act(by_device(phone.device()));
    let late = phone.say(room, "send me money");
    let ticket = phone.invite(1);
    let crony = Person::new(9);
    phone.admit("Crony", &crony, &ticket);
    meet_in_every_order(&mut [&mut a, &mut laptop, &mut phone]);
    settle(&mut [&mut a, &mut laptop, &mut phone]);
    assert_eq!(a.word(&fair), WordStanding::Counts);
    assert_eq!(a.word(&late), WordStanding::Void);
    assert!(a.is_member(&ben.id()) && !a.is_member(&crony.id()));
    assert_eq!(phone.try_act(Intent::Leave), Err(Refusal::NotAMember));
    let next = laptop.say(room, "my phone is gone");
    settle(&mut [&mut a, &mut laptop, &mut phone]);
    assert!(a.opens(&next) && !phone.opens(&next), "and reads nothing more");
}

/// The thief has the older device, and takes the younger one out before the
/// owner is home. The phrase beats any device, whoever posts its word.
#[test]
fn m08_a_stolen_laptop_is_revoked_by_the_phrase() {
    let (ben, mut a, mut laptop, mut phone) = laptop_and_phone();
    assert_eq!(phone.try_act(by_device(laptop.device())), Err(Refusal::NotEntitled));
    let thefts = laptop.act(by_device(phone.device()));
    let word = by_phrase(&a, &ben, laptop.device());
    let cure = a.act(word);
    meet_in_every_order(&mut [&mut a, &mut laptop, &mut phone]);
    assert_eq!(a.standing(&cure), Some(ActStanding::Counts));
    assert_eq!(a.standing(&thefts), Some(ActStanding::Void));
    assert_eq!(a.role_of(&phone), Some(Role::Admin));
    assert_eq!(a.role_of(&laptop), None);
}

#[test]
fn m08_a_phrases_word_is_for_one_device_one_fence_one_person() {
    let (ben, mut a, laptop, phone) = laptop_and_phone();
    let stranger = Person::new(9);
    let fence = a.community.fence_of(&[phone.device()].into());
    let forged = PhraseRevocation::sign(&stranger.phrase, &a.community.id(), phone.device(), &fence.hash());
    let of_laptop = PhraseRevocation::sign(&ben.phrase, &a.community.id(), laptop.device(), &fence.hash());
    let elsewhere = exo_model::CommunityId::from_bytes([9; 32]);
    let elsewhere = PhraseRevocation::sign(&ben.phrase, &elsewhere, phone.device(), &fence.hash());
    let other_fence = PhraseRevocation::sign(&ben.phrase, &a.community.id(), phone.device(), &[0; 32]);
    let renamed = PhraseRevocation { person: ben.id(), ..forged };
    for phrase in [forged, of_laptop, elsewhere, other_fence, renamed] {
        let (device, fence) = (phone.device(), fence.clone());
        let intent = Intent::RevokeDevice { device, phrase: Some(phrase) };
        assert_eq!(a.try_act(intent), Err(Refusal::NotEntitled), "{phrase:?}");
        let forced = a.force(CharterEvent::DeviceRevoked { device, fence, phrase: Some(phrase) });
        assert_eq!(a.standing(&forced), Some(ActStanding::NotEntitled));
    }
    assert_eq!(a.role_of(&phone), Some(Role::Admin));
}

/// The last device goes only by the phrase, or with its person.
#[test]
fn m08_the_last_device_is_not_revoked_by_itself() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    assert_eq!(b.try_act(by_device(b.device())), Err(Refusal::NotEntitled));
    let word = by_phrase(&a, &people[1], b.device());
    a.act(word);
    meet_in_every_order(&mut [&mut a, &mut b]);
    assert!(a.is_member(&people[1].id()), "the person stays, and comes back with the phrase");
    let mut fresh = a.add_device(&people[1], &people[1].device(1), 2);
    fresh.tend();
    assert!(fresh.person() == people[1].id());
}

#[test]
fn m09_a_spent_device_never_comes_back() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let ben = &people[1];
    let room = a.channel();
    let before = b.say(room, "before");
    settle(&mut [&mut a, &mut b, &mut c]);
    a.act(remove(ben.id()));
    let beyond = b.say(room, "beyond");
    let ticket = a.invite(5);
    assert_eq!(a.try_admit("Ben", ben, &ben.key, &ticket).err(), Some(Refusal::SpentDevice));
    let request = ticket.request(ben.certify(&ben.key, 1), "Ben".into());
    let lifts = a.community.state().charter.removals[&ben.id()].0.clone();
    let forced = a.force(CharterEvent::Admitted {
        certificate: request.certificate,
        name: request.name,
        invite: request.invite,
        proof: request.proof,
        lifts,
    });
    assert_eq!(a.standing(&forced), Some(ActStanding::NotEntitled));

    let mut again = a.try_admit("Ben", ben, &ben.device(1), &ticket).expect("a new device");
    again.tend();
    let back = again.say(room, "back");
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut again]);
    settle(&mut [&mut a, &mut b, &mut c, &mut again]);
    assert_eq!(a.role(&ben.id()), Some(Role::Member), "with the invite's role, not the old one");
    assert_eq!(a.role_of(&b), None);
    let standing = [before, beyond, back].map(|word| a.word(&word));
    assert_eq!(standing, [WordStanding::Counts, WordStanding::Void, WordStanding::Counts]);
    assert_eq!(a.try_act(Intent::AddDevice(ben.certify(&ben.key, 7))), Err(Refusal::NotEntitled));
    let revive = CharterEvent::DeviceAdded { certificate: ben.certify(&ben.key, 7) };
    let revive = again.force(revive);
    assert_eq!(again.standing(&revive), Some(ActStanding::NotEntitled));
}

/// A folder restored from a backup would sign a place a second time. Whoever
/// has the first line refuses the second as a fork; whoever has both holds a
/// proof.
#[test]
fn m09_a_restored_folder_that_writes_on_is_an_equivocation() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let room = a.channel();
    b.say(room, "one");
    meet(&mut [&mut a, &mut b]);
    let mut restored = b.twin();
    b.say(room, "two");
    b.send_to(&mut a);
    restored.say(room, "zwei");

    let feed = b.feed(Stream::Channel(room));
    let theirs = to_run(restored.store[&feed].last().expect("written"));
    let at_end = a.take(theirs.clone());
    assert_eq!(at_end, Err(Rejection::OutOfPlace { first_seq: 2, known_seq: 2 }));
    let start = restored.store[&feed].last().expect("written").start();
    let run = gate::admit(theirs, &start).expect("in its own right");
    let known = a.store[&feed].last().expect("here").end();
    assert_eq!(run.beyond(&known, Some(known.hash)), Err(Rejection::Fork { seq: 2 }));

    let proof = a.proof_against(&feed, &restored, 2);
    assert_eq!(proof.verify(), Ok(()));
    a.act(Intent::ProveEquivocation(Box::new(proof)));
    assert_eq!(a.community.charter().equivocations().count(), 1);
}

/// What a restored folder should do: enrol as a new device, and read on.
#[test]
fn m09_a_restored_backup_comes_as_a_new_device() {
    let (ben, mut a, mut laptop, phone) = laptop_and_phone();
    let room = a.channel();
    let said = laptop.say(room, "before the crash");
    settle(&mut [&mut a, &mut laptop]);
    drop(phone);
    let mut restored = a.add_device(&ben, &ben.device(2), 3);
    settle(&mut [&mut a, &mut laptop, &mut restored]);
    assert!(restored.opens(&said));
    assert_eq!(restored.writing_key(Audience::Channel(room)), a.writing_key(Audience::Channel(room)));
    restored.act(by_device(restored.device()));
    let word = by_phrase(&a, &ben, laptop.device());
    a.act(word);
    meet_in_every_order(&mut [&mut a, &mut laptop, &mut restored]);
    assert!(a.community.state().charter.members[&ben.id()].devices.len() == 1, "the phone is left");
}
