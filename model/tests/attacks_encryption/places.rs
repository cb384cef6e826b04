//! Closed channels, conversations of two, and contents moved elsewhere.

use exo_model::charter::Role;
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::keys::{Audience, KeyEvent};
use exo_model::feed::fence::{Fence, FenceEntry};
use exo_model::feed::{Meaningless, Stream};
use exo_model::sealing::EpochKey;

use crate::home::{Person, garden, meet, settle};
use crate::{open_direct, posted};

#[test]
fn closed_channels_are_read_by_those_who_were_added() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let room = a.open_channel(2, true);
    let people_of = |add: &[usize], remove: &[usize]| Intent::ChannelPeople {
        channel: room,
        add: add.iter().map(|at| people[*at].id()).collect(),
        remove: remove.iter().map(|at| people[*at].id()).collect(),
    };
    let alone = a.say(room, "to myself");
    a.act(people_of(&[1], &[]));
    settle(&mut [&mut a, &mut b, &mut c]);
    let two = a.say(room, "the two of us");
    settle(&mut [&mut a, &mut b, &mut c]);
    assert!(b.opens(&two) && !b.opens(&alone), "closed channels keep their history closed");
    assert!(!c.opens(&two) && !c.community.audiences().contains(&Audience::Channel(room)));
    assert_eq!(c.try_act(Intent::Talk(room, posted("let me in"))), Err(Refusal::NotEntitled));
    assert_eq!(b.try_act(people_of(&[2], &[])), Err(Refusal::NotEntitled), "members add nobody");

    let before = a.writing_key(Audience::Channel(room));
    a.act(people_of(&[], &[1]));
    settle(&mut [&mut a, &mut b, &mut c]);
    assert_ne!(a.writing_key(Audience::Channel(room)), before, "leaving rotates");
    let after = a.say(room, "alone again");
    settle(&mut [&mut a, &mut b, &mut c]);
    assert!(!b.opens(&after) && b.opens(&two));
    assert_eq!(b.try_act(Intent::Talk(room, posted("hello?"))), Err(Refusal::NotEntitled));

    // An owner is no exception: who is not in a closed channel cannot join it
    // by adding themselves.
    let theirs = garden([Role::Owner, Role::Admin]);
    let ([ana, _], [mut owner, mut admin]) = theirs;
    let room = admin.open_channel(3, true);
    let secret = admin.say(room, "no owners");
    settle(&mut [&mut owner, &mut admin]);
    assert!(!owner.opens(&secret));
    let add = Intent::ChannelPeople { channel: room, add: vec![ana.id()], remove: vec![] };
    assert_eq!(owner.try_act(add), Err(Refusal::NotEntitled));
}

#[test]
fn a_conversation_of_two_is_read_by_two() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let direct = open_direct(&mut b, &[&people[1], &people[2]]);
    settle(&mut [&mut a, &mut b, &mut c]);
    let asked = b.act(Intent::TalkDirectly(direct, posted("psst")));
    settle(&mut [&mut a, &mut b, &mut c]);
    let answered = c.act(Intent::TalkDirectly(direct, posted("yes?")));
    settle(&mut [&mut a, &mut b, &mut c]);
    for change in [&asked, &answered] {
        assert!(b.opens(change) && c.opens(change) && !a.opens(change));
        assert_eq!(b.word(change), WordStanding::Counts);
    }
    assert_eq!(a.try_act(Intent::TalkDirectly(direct, posted("me too"))), Err(Refusal::NotEntitled));
}

/// Ana, who is not in it, starts an epoch for the conversation and seals its
/// key to both, hoping that they will write with a key she has.
#[test]
fn an_outsiders_epoch_for_a_conversation_is_ignored() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let direct = open_direct(&mut b, &[&people[1], &people[2]]);
    settle(&mut [&mut a, &mut b, &mut c]);
    let audience = Audience::Direct(direct);
    let fair = b.writing_key(audience);

    let bogus = EpochKey::generate(a.entropy());
    let mut liar = a.twin();
    liar.community.open_direct([people[0].id(), people[1].id(), people[2].id()].into());
    liar.community.learn_key(EpochKey::from_bytes(bogus.as_bytes()));
    let recipients = [b.community.sealing_key(), c.community.sealing_key()];
    let sealed = liar.community.seal_more(audience, &bogus.id(), &recipients, liar.entropy());
    let Some(KeyEvent::KeySealed { seals, .. }) = sealed else { panic!("a held key") };
    let started = KeyEvent::EpochStarted { audience, key: bogus.id(), seals, fence: Default::default() };
    a.write(Stream::Keys, &started.into());
    meet(&mut [&mut a, &mut b, &mut c]);
    assert!(b.community.keyring().contains(&bogus.id()), "the seal is well made");
    assert_eq!((b.writing_key(audience), c.writing_key(audience)), (fair, fair));
    assert!(b.community.duties().is_empty());

    // Nor does a word of hers count there, even one that both can read.
    a.community.learn_key(bogus.clone());
    let heads = a.community.heads();
    let forged = a.write_under(Stream::Direct(direct), &posted("I am Ben").into(), &heads, bogus.id());
    meet(&mut [&mut a, &mut b, &mut c]);
    assert!(b.opens(&forged));
    assert_eq!(b.word(&forged), WordStanding::NotEntitled);
}

/// The seal covers community, device, stream, segment, place and time: moved
/// by its own author, signed anew, it does not open.
#[test]
fn sealed_contents_cannot_be_moved() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let (room, other) = (a.channel(), a.open_channel(2, false));
    settle(&mut [&mut a, &mut b]);
    let said = b.say(room, "here and now");
    let payload = b.changes(&b.feed(Stream::Channel(room))).last().expect("written").payload.clone();
    let moved = [
        b.write_bytes(Stream::Channel(room), payload.clone()),
        b.write_bytes(Stream::Channel(other), payload.clone()),
        b.write_bytes(Stream::Ledger, payload.clone()),
        a.write_bytes(Stream::Channel(room), payload),
    ];
    settle(&mut [&mut a, &mut b]);
    assert!(a.opens(&said));
    for change in &moved {
        assert_eq!(a.event(change).event, Err(Meaningless::Seal));
        assert_eq!(b.event(change).event, Err(Meaningless::Seal));
    }
    assert_eq!(a.read(room), ["here and now"]);
    assert!(a.read(other).is_empty());
    let after = b.say(room, "and on it goes");
    b.send_to(&mut a);
    assert!(a.opens(&after), "the feed is not harmed by it");
}

/// A rotation's fence is for people who are gone: under any heads, it takes
/// away no word of someone who is there, or who came later.
#[test]
fn a_rotation_fences_nobody_who_is_still_there() {
    let ([.., eve], [mut a, mut e]) = garden([Role::Owner, Role::Member]);
    let room = a.channel();
    e.say(room, "first");
    settle(&mut [&mut a, &mut e]);
    let early = e.community.heads();
    let ben = Person::new(9);
    let ticket = a.invite(1);
    let mut b = a.admit("Ben", &ben, &ticket);
    settle(&mut [&mut a, &mut b, &mut e]);
    let said = [b.say(room, "one"), b.say(room, "two")];
    settle(&mut [&mut a, &mut b, &mut e]);

    let audience = Audience::Channel(room);
    let (stream, head) = (Stream::Channel(room), said[0]);
    let fence = Fence::new([FenceEntry { device: b.device(), stream, segment: 0, seq: 1, head }]);
    for heads in [early, e.community.heads()] {
        let key = EpochKey::generate(e.entropy());
        let started = KeyEvent::EpochStarted { audience, key: key.id(), seals: vec![], fence: fence.clone() };
        e.write_plain_under(Stream::Keys, &started.into(), &heads);
    }
    meet(&mut [&mut a, &mut b, &mut e]);
    assert_eq!(said.map(|change| a.word(&change)), [WordStanding::Counts; 2]);

    // Once he is gone, whoever is there says how far his words go; a fence of
    // someone who went before says nothing.
    a.act(Intent::Remove { person: eve.id(), ban: false, reason: String::new() });
    a.act(Intent::Remove { person: ben.id(), ban: false, reason: String::new() });
    a.send_to(&mut e);
    let late = KeyEvent::EpochStarted {
        audience,
        key: EpochKey::generate(e.entropy()).id(),
        seals: vec![],
        fence: fence.clone(),
    };
    let heads = e.community.heads();
    e.write_plain_under(Stream::Keys, &late.clone().into(), &heads);
    e.send_to(&mut a);
    assert_eq!(a.word(&said[1]), WordStanding::Counts);
    let heads = a.community.heads();
    a.write_plain_under(Stream::Keys, &late.into(), &heads);
    assert_eq!(said.map(|change| a.word(&change)), [WordStanding::Counts, WordStanding::Void]);
}
