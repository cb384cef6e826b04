//! §4: channels, closed ones and those for guests; grants of history.

use std::collections::BTreeSet;

use exo_model::ChannelId;
use exo_model::charter::{ActStanding, Role};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::event::keys::Audience;
use exo_model::feed::Stream;
use exo_model::id::DirectId;

use crate::home::{Home, Person, garden, meet, meet_in_every_order, settle};
use crate::{all_say, leak, posted, refused};

use ActStanding::{Counts, Lost, NotEntitled};

fn create(number: u8, name: &str, closed: bool, guests: bool) -> Intent {
    let channel = ChannelId::from_bytes([number; 16]);
    Intent::CreateChannel { channel, name: name.into(), closed, guests }
}

/// Brings someone into a channel.
fn add(channel: ChannelId, person: &Person) -> Intent {
    Intent::ChannelPeople { channel, add: vec![person.id()], remove: vec![] }
}

fn say(channel: ChannelId) -> Intent {
    Intent::Talk(channel, posted("a word"))
}

fn reads(home: &Home, person: &Person, audience: Audience) -> bool {
    home.community.charter().now().reads(&person.id(), &audience)
}

#[test]
fn an_id_counts_once_and_names_need_not_differ() {
    let (_, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let by_ana = a.act(create(2, "by Ana", false, false));
    let by_ben = b.act(create(2, "by Ben", false, true));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    let (first, second, name) =
        if by_ana < by_ben { (by_ana, by_ben, "by Ana") } else { (by_ben, by_ana, "by Ben") };
    all_say(&[&a, &b, &c], &first, Counts);
    all_say(&[&a, &b, &c], &second, Lost);
    let channel = ChannelId::from_bytes([2; 16]);
    assert_eq!(c.community.state().charter.channels[&channel].name, name);
    assert_eq!(a.try_act(create(2, "once more", false, false)), Err(Refusal::Lost));
    let namesake = a.act(create(3, name, false, false));
    a.send_to(&mut c);
    all_say(&[&a, &c], &namesake, Counts);
}

#[test]
fn nobody_changes_a_channel_that_is_not_there() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Admin]);
    let channel = ChannelId::from_bytes([9; 16]);
    let refusal = a.try_act(add(channel, &people[1]));
    assert_eq!(refusal, Err(Refusal::UnknownChannel));
    let acts = [
        a.force(CharterEvent::ChannelChanged { channel, name: "nowhere".into(), archived: false }),
        a.force(CharterEvent::ChannelPeople { channel, add: vec![people[1].id()], remove: vec![] }),
    ];
    a.send_to(&mut b);
    for act in &acts {
        all_say(&[&a, &b], act, NotEntitled);
    }
}

#[test]
fn an_archived_channel_is_open_again_when_it_is_opened_again() {
    let (_, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let room = a.channel();
    let change = |archived| Intent::ChangeChannel { channel: room, name: "the old room".into(), archived };
    b.act(change(true));
    meet(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(c.try_act(say(room)), Err(Refusal::Archived));
    assert_eq!(c.community.state().charter.channels[&room].name, "the old room");
    b.act(change(false));
    meet(&mut [&mut a, &mut b, &mut c]);
    let said = c.say(room, "again");
    c.send_to(&mut a);
    assert_eq!(a.word(&said), WordStanding::Counts);
}

/// Ben, an admin, has a closed channel. Rank opens it to nobody: only who may
/// manage channels *and* is in it brings others in.
#[test]
fn a_closed_channel_is_for_its_creator_and_whom_someone_in_it_added() {
    let (people, [mut a, mut b, mut c, mut d, mut g]) =
        garden([Role::Owner, Role::Admin, Role::Admin, Role::Member, Role::Guest]);
    let [ana, ben, chloe, dan, gus] = &people;
    let den = b.open_channel(2, true);
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    let in_den = |home: &Home| home.community.state().charter.channels[&den].people.clone();
    assert_eq!(in_den(&a), BTreeSet::from([ben.id()]));
    let mut refusals = vec![refused(&mut a, &add(den, ana)), refused(&mut c, &add(den, chloe))];
    refusals.push(refused(&mut b, &add(den, &Person::new(99))));

    b.act(add(den, dan));
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    refusals.push(refused(&mut d, &add(den, ana)));
    let inside = d.say(den, "inside");
    b.act(add(den, chloe));
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    // Chloe is in it now, and an admin. Guests are members of the community,
    // but this channel is not for guests.
    c.act(add(den, gus));
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    for act in &refusals {
        all_say(&[&a, &b, &c, &d, &g], act, NotEntitled);
    }
    assert_eq!(in_den(&a), BTreeSet::from([ben.id(), chloe.id(), dan.id(), gus.id()]));
    let den_readers = people.each_ref().map(|person| reads(&a, person, Audience::Channel(den)));
    assert_eq!(den_readers, [false, true, true, true, false]);

    // The owner and the guest get hold of the key, and write.
    leak(&b, &mut a);
    leak(&b, &mut g);
    for home in [&mut a, &mut g] {
        assert_eq!(home.try_act(say(den)), Err(Refusal::NotEntitled), "{}", home.name);
        let forced = home.write(Stream::Channel(den), &posted("a word").into());
        home.send_to(&mut b);
        assert_eq!(b.word(&forced), WordStanding::NotEntitled, "{}", home.name);
    }
    assert_eq!(b.word(&inside), WordStanding::Counts);

    // Dan is taken out, and Ben leaves the community.
    c.act(Intent::ChannelPeople { channel: den, add: vec![], remove: vec![dan.id()] });
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    let after = c.say(den, "without Dan");
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    assert!(b.opens(&after) && !d.opens(&after));
    assert_eq!(d.try_act(say(den)), Err(Refusal::NotEntitled));
    b.act(Intent::Leave);
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    c.act(add(den, dan));
    settle(&mut [&mut a, &mut c, &mut d, &mut g]);
    let den_readers = people.each_ref().map(|person| reads(&a, person, Audience::Channel(den)));
    assert_eq!(den_readers, [false, false, true, true, false]);
}

#[test]
fn guests_write_where_guests_may_and_in_closed_channels_once_added() {
    let (people, [mut a, mut g, mut h]) = garden([Role::Owner, Role::Guest, Role::Guest]);
    let (room, parlour, cabinet) =
        (a.channel(), ChannelId::from_bytes([2; 16]), ChannelId::from_bytes([3; 16]));
    a.act(create(2, "parlour", false, true));
    a.act(create(3, "cabinet", true, true));
    a.act(add(cabinet, &people[1]));
    settle(&mut [&mut a, &mut g, &mut h]);
    for (home, may) in [(&mut g, [false, true, true]), (&mut h, [false, true, false])] {
        for (channel, may) in [room, parlour, cabinet].into_iter().zip(may) {
            let expected = if may { None } else { Some(Refusal::NotEntitled) };
            assert_eq!(home.try_act(say(channel)).err(), expected, "{} in {channel}", home.name);
        }
    }
    settle(&mut [&mut a, &mut g, &mut h]);
    assert_eq!([room, parlour, cabinet].map(|channel| a.read(channel).len()), [0, 2, 1]);
}

#[test]
fn history_is_granted_by_who_reads_to_who_reads() {
    let (people, [mut a, mut b, mut c, mut d, mut g]) =
        garden([Role::Owner, Role::Admin, Role::Moderator, Role::Member, Role::Guest]);
    let [_, ben, chloe, dan, gus] = &people;
    let room = Audience::Channel(a.channel());
    let den = Audience::Channel(a.open_channel(2, true));
    let direct = Audience::Direct(DirectId::from_bytes([1; 16]));
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    let grant = |person: &Person, audience| Intent::GrantHistory(person.id(), audience);
    let refusals = [
        // Ben is not in the closed channel: not as the granter, nor otherwise.
        refused(&mut b, &grant(ben, den)),
        refused(&mut a, &grant(ben, den)),
        refused(&mut a, &grant(gus, room)),
        refused(&mut a, &grant(gus, Audience::Members)),
        refused(&mut a, &grant(dan, Audience::Moderators)),
        refused(&mut a, &grant(&Person::new(99), room)),
        refused(&mut a, &grant(ben, direct)),
    ];
    let granted =
        [(gus, Audience::Governance), (chloe, Audience::Moderators), (dan, Audience::Members), (dan, room)];
    let acts = granted.map(|(person, audience)| b.act(grant(person, audience)));
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut g]);
    for act in &refusals {
        all_say(&[&a, &b, &c, &d, &g], act, NotEntitled);
    }
    for act in &acts {
        all_say(&[&a, &b, &c, &d, &g], act, Counts);
    }
    let now = d.community.charter().now();
    assert!(granted.iter().all(|(person, audience)| now.is_granted(&person.id(), audience)));
    assert!(!now.is_granted(&ben.id(), &den) && !now.is_granted(&gus.id(), &room));
}
