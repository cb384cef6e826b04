//! §2 and §4: what leaving takes away, and what does not come back.

use std::collections::BTreeSet;

use exo_model::charter::Role;
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::charter::VouchGround;
use exo_model::event::keys::Audience;
use exo_model::trust::TrustLevel;

use crate::home::{Person, garden, meet, settle};
use crate::{posted, refused};

/// Ben is an admin with two devices, in a closed channel, vouched for and
/// vouching. He leaves by one device; the other does not know yet.
#[test]
fn who_leaves_goes_with_all_devices_and_comes_back_with_nothing_of_before() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Admin, Role::Member, Role::Moderator]);
    let [ana, ben, chloe, _] = people.each_ref().map(Person::id);
    let room = a.channel();
    let den = a.open_channel(2, true);
    a.act(Intent::ChannelPeople { channel: den, add: vec![ben], remove: vec![] });
    a.act(Intent::Vouch(ben, Some(VouchGround::MetInPerson)));
    settle(&mut [&mut a, &mut b, &mut c, &mut d]);
    b.act(Intent::Vouch(chloe, Some(VouchGround::Known)));
    let phone_key = people[1].device(1);
    let mut phone = b.add_device(&people[1], &phone_key, 2);
    let ticket = b.invite(1);
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut phone]);
    let said = [b.say(room, "before"), phone.say(den, "in the den")];
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut phone]);
    assert_eq!(a.community.state().charter.vouches.len(), 2);
    refused(&mut d, &Intent::RevokeInvite(ticket.key()));

    b.act(Intent::Leave);
    let late = phone.say(room, "still here");
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut phone]);
    for home in [&a, &c, &d] {
        let charter = &home.community.state().charter;
        assert!(!home.is_member(&ben), "{}", home.name);
        assert_eq!(charter.former.get(&ben).map(String::as_str), Some("Ben"));
        assert!(charter.devices.values().all(|device| device.person != ben));
        let former: BTreeSet<_> = charter.former_devices.keys().copied().collect();
        assert_eq!(former, BTreeSet::from([b.device(), phone.device()]));
        assert!(charter.vouches.is_empty(), "for him and by him");
        let reads = |person| home.community.charter().now().reads(person, &Audience::Channel(den));
        assert_eq!([&ana, &ben].map(reads), [true, false], "{}", home.name);
        assert_eq!(said.map(|word| home.word(&word)), [WordStanding::Counts; 2]);
        assert_eq!(home.word(&late), WordStanding::Void, "{}", home.name);
    }
    for gone in [&mut b, &mut phone] {
        assert_eq!(gone.try_act(Intent::Leave), Err(Refusal::NotAMember));
    }

    settle(&mut [&mut a, &mut c, &mut d]);
    let after =
        [a.say(room, "after"), a.say(den, "after"), a.act(Intent::SetTrust(chloe, TrustLevel::Known))];
    settle(&mut [&mut a, &mut c, &mut d]);
    for gone in [&mut b, &mut phone] {
        a.send_to(gone);
        assert!(after.iter().all(|change| !gone.opens(change)), "{} reads nothing more", gone.name);
    }
    // Of an issuer who is gone: whoever may invite.
    d.act(Intent::RevokeInvite(ticket.key()));
    d.send_to(&mut a);

    let ticket = a.invite_as(1, Role::Guest, TrustLevel::Public);
    for spent in [&people[1].key, &phone_key] {
        let refusal = a.try_admit("Ben", &people[1], spent, &ticket).err();
        assert_eq!(refusal, Some(Refusal::SpentDevice));
    }
    let mut again = a.try_admit("Ben", &people[1], &people[1].device(2), &ticket).expect("invited anew");
    settle(&mut [&mut a, &mut c, &mut d, &mut again]);
    for home in [&a, &c, &d, &again] {
        let charter = &home.community.state().charter;
        let member = &charter.members[&ben];
        assert_eq!((member.role, member.trust), (Role::Guest, TrustLevel::Public), "the invite's");
        assert_eq!(member.devices, [again.device()]);
        assert!(!charter.channels[&den].people.contains(&ben));
        assert!(!home.community.charter().now().reads(&ben, &Audience::Channel(den)));
        assert_eq!(home.hash(), a.hash(), "{}", home.name);
    }
    assert_eq!(again.try_act(Intent::Talk(room, posted("as ever"))), Err(Refusal::NotEntitled));
}

#[test]
fn the_last_owner_comes_back_without_the_office() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let ana = &people[0];
    a.act(Intent::Leave);
    meet(&mut [&mut a, &mut b, &mut c]);
    let ticket = b.invite(1);
    let mut again = b.try_admit("Ana", ana, &ana.device(1), &ticket).expect("anyone lifts a leaving");
    meet(&mut [&mut b, &mut c, &mut again]);
    for home in [&b, &c, &again] {
        assert_eq!(home.role(&ana.id()), Some(Role::Member), "{}", home.name);
        assert!(home.community.state().charter.members.values().all(|member| member.role < Role::Owner));
    }
    refused(&mut again, &Intent::SetRole(ana.id(), Role::Owner));
}

/// What was said of them by someone who did not know that they had come back,
/// or had left, does not count for who came back.
#[test]
fn a_role_or_trust_given_in_ignorance_of_the_return_does_not_hold() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Member, Role::Owner, Role::Member]);
    let ben = &people[1];
    a.act(Intent::SetTrust(ben.id(), TrustLevel::Known));
    b.act(Intent::Leave);
    b.send_to(&mut a);
    let ticket = a.invite_as(1, Role::Member, TrustLevel::Public);
    let mut again = a.try_admit("Ben", ben, &ben.device(1), &ticket).expect("invited anew");
    // Chloe, another owner, has heard nothing of all this, and writes so much
    // that her word on him comes late in the order.
    for about in ["one", "two", "three", "four", "five", "six"] {
        c.act(Intent::SetProfile { name: "Chloe".into(), about: about.into() });
    }
    c.act(Intent::SetRole(ben.id(), Role::Moderator));
    c.act(Intent::SetTrust(ben.id(), TrustLevel::Friends));
    meet(&mut [&mut a, &mut c, &mut d, &mut again]);
    for home in [&a, &c, &d, &again] {
        let member = &home.community.state().charter.members[&ben.id()];
        assert_eq!((member.role, member.trust), (Role::Member, TrustLevel::Public), "{}", home.name);
    }
    // Said in knowledge of it, it does.
    c.act(Intent::SetRole(ben.id(), Role::Moderator));
    c.send_to(&mut again);
    assert_eq!(again.role(&ben.id()), Some(Role::Moderator));
}
