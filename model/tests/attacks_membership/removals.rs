//! M1–M4, M6: removals that cross, and what those who are gone still try.

use exo_model::amount::Amount;
use exo_model::charter::{ActStanding, Role};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::keys::Audience;
use exo_model::event::ledger::Account;
use exo_model::event::{CharterEvent, Event, LedgerEvent, TalkEvent};
use exo_model::feed::Stream;
use exo_model::id::InviteKey;
use exo_model::ledger::Standing;
use exo_model::trust::TrustLevel;

use crate::home::{Person, garden, meet, meet_in_every_order, settle};
use crate::{ban, remove};

const ADMINS: [Role; 4] = [Role::Owner, Role::Admin, Role::Admin, Role::Admin];

fn words(text: &str) -> Event {
    TalkEvent::Posted { text: text.into(), reply_to: None, mentions: vec![], attachments: vec![] }.into()
}

#[test]
fn m01_mutual_removal_takes_the_less_senior() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Admin]);
    let by_ben = b.act(remove(people[2].id()));
    let by_chloe = c.act(remove(people[1].id()));
    assert!(!b.is_member(&people[2].id()) && !c.is_member(&people[1].id()), "each believes to have won");
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(a.standing(&by_ben), Some(ActStanding::Counts));
    assert_eq!(a.standing(&by_chloe), Some(ActStanding::Void));
    assert_eq!(a.role(&people[1].id()), Some(Role::Admin));
    assert!(!a.is_member(&people[2].id()));
}

#[test]
fn m01_mutual_removal_goes_by_rank_before_seniority() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Moderator, Role::Admin]);
    // Ben came earlier; while he writes apart he is made an admin and so could
    // not be removed by Chloe alone, did she know.
    let by_chloe = c.act(remove(people[1].id()));
    a.act(Intent::SetRole(people[1].id(), Role::Admin));
    a.send_to(&mut b);
    let by_ben = b.act(remove(people[2].id()));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(a.standing(&by_ben), Some(ActStanding::Counts), "both are admins where they act");
    assert_eq!(a.standing(&by_chloe), Some(ActStanding::Void));
}

/// Each of three admins removes the next, each removal signed by the third:
/// the most senior one's stands, and takes away a signature that the last
/// needs.
#[test]
fn m01_ring_of_three_ends_with_one_gone() {
    let (people, [mut a, mut b, mut c, mut d]) = garden(ADMINS);
    let [_, ben, chloe, dan] = people.each_ref().map(Person::id);
    let acts = [b.act(remove(chloe)), c.act(remove(dan)), d.act(remove(ben))];
    assert!(b.is_member(&chloe), "one signature is not enough");
    let told = [b.missing_at(&d), c.missing_at(&b), d.missing_at(&c)];
    for (home, (runs, act)) in [&mut d, &mut b, &mut c].into_iter().zip(told.into_iter().zip(acts)) {
        runs.into_iter().for_each(|run| home.take(run).expect("honest"));
        home.act(Intent::CoSign(act));
    }
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut d]);
    assert_eq!(
        acts.map(|act| a.standing(&act)),
        [Some(ActStanding::Counts), Some(ActStanding::Void), Some(ActStanding::Unsigned),]
    );
    assert_eq!([ben, chloe, dan].map(|person| a.is_member(&person)), [true, false, true]);
}

#[test]
fn m02_a_colluder_cannot_wash_a_removal_off_that_they_did_not_know() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let mallory = &people[2];
    a.act(remove(mallory.id()));
    b.act(remove(mallory.id()));
    let ticket = b.invite(1);
    let fresh = mallory.device(1);
    let mut again = b.try_admit("Mallory", mallory, &fresh, &ticket).expect("as far as Ben knows");
    let late = again.say(a.channel(), "I am back");
    assert!(b.is_member(&mallory.id()));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut again]);
    assert!(!a.is_member(&mallory.id()), "Ana's removal is lifted by nobody who knew it");
    b.read_again();
    assert_eq!(b.word(&late), WordStanding::Void, "Ana's fence is around devices that she did not know");
    assert_eq!(again.try_act(Intent::Leave), Err(Refusal::NotAMember));

    // Who knows both can lift both.
    let ticket = b.invite(1);
    let third = mallory.device(2);
    b.try_admit("Mallory", mallory, &third, &ticket).expect("lifted");
    b.send_to(&mut a);
    assert!(a.is_member(&mallory.id()) && a.hash() == b.hash());
}

#[test]
fn m02_a_ban_is_not_washed_off_by_a_lower_rank() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let mallory = &people[2];
    a.act(ban(mallory.id()));
    b.act(remove(mallory.id()));
    let ticket = b.invite(2);
    b.try_admit("Mallory", mallory, &mallory.device(1), &ticket).expect("as far as Ben knows");
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    assert!(!a.is_member(&mallory.id()));
    let refused = b.try_admit("Mallory", mallory, &mallory.device(2), &ticket);
    assert_eq!(refused.err(), Some(Refusal::Banned));
}

/// The removed one writes on as though nothing had happened: under the heads
/// that they knew while they were an admin, in streams that the remover has
/// seen and in one that they have not.
#[test]
fn m03_writing_under_old_heads_after_a_removal_is_void() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let room = a.channel();
    let fair = b.say(room, "before");
    settle(&mut [&mut a, &mut b, &mut c]);
    let old = b.community.heads();
    let keys = [Audience::Governance, Audience::Channel(room), Audience::Members].map(|of| b.writing_key(of));
    a.act(remove(people[1].id()));
    settle(&mut [&mut a, &mut b, &mut c]);
    assert!(!b.is_member(&people[1].id()), "Ben knows");

    let promote = CharterEvent::RoleSet { person: people[2].id(), role: Role::Moderator };
    let act = b.write_under(Stream::Charter, &promote.into(), &old, keys[0]);
    let late = b.write_under(Stream::Channel(room), &words("after"), &old, keys[1]);
    let gift = LedgerEvent::Transferred {
        to: Account::Device(c.device()),
        amount: Amount::from_token_mib(50),
        note: String::new(),
    };
    let gift = b.write_under(Stream::Ledger, &gift.into(), &old, keys[0]);
    let board = Stream::Board(exo_model::id::BoardId::from_bytes([3; 16]));
    let contents = exo_model::board::BoardContents::default();
    let unseen = exo_model::event::BoardEvent::Started { contents };
    let unseen = b.write_under(board, &unseen.into(), &old, keys[2]);
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);

    for home in [&a, &b, &c] {
        assert_eq!(home.standing(&act), Some(ActStanding::Void), "{}", home.name);
        assert_eq!(home.role(&people[2].id()), Some(Role::Member));
        assert_eq!(home.word(&fair), WordStanding::Counts, "what was said before stays");
        assert_eq!(home.word(&late), WordStanding::Void);
        assert_eq!(home.word(&unseen), WordStanding::Void, "a feed the remover never saw is void whole");
        assert_ne!(home.community.state().ledger.standing(&gift), Some(Standing::Counted));
        assert_eq!(home.community.state().ledger.balance(&Account::Device(c.device())), Amount::ZERO);
        assert_eq!(home.read(room), ["before"]);
    }
}

/// A lower role has no fence. Whoever showed that they know of it cannot go
/// back: their own feed tells.
#[test]
fn m03_a_demoted_admin_cannot_unknow_it() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let old = b.community.heads();
    let key = b.writing_key(Audience::Governance);
    a.act(Intent::SetRole(people[1].id(), Role::Member));
    settle(&mut [&mut a, &mut b, &mut c]);
    b.act(Intent::SetProfile { name: "Ben".into(), about: "only a member now".into() });
    let promote = CharterEvent::RoleSet { person: people[2].id(), role: Role::Moderator };
    let act = b.write_under(Stream::Charter, &promote.into(), &old, key);
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(a.standing(&act), Some(ActStanding::NotEntitled));
    assert_eq!(a.role(&people[2].id()), Some(Role::Member));
}

#[test]
fn m04_invites_of_a_removed_admin_and_their_invitees_count_for_nothing() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let room = a.channel();
    let fair = b.say(room, "good morning");
    settle(&mut [&mut a, &mut b, &mut c]);
    a.act(remove(people[1].id()));

    // Ben does not know yet, or pretends: he lets Eve in, and she acts.
    let eve = Person::new(9);
    let ticket = b.invite(5);
    let mut e = b.admit("Eve", &eve, &ticket);
    let promoted = b.act(Intent::SetRole(eve.id(), Role::Moderator));
    b.send_to(&mut e);
    e.tend();
    let hers = e.say(room, "hello, I am Eve");
    let friend = Person::new(10);
    let second = e.invite(1);
    let mut f = e.admit("Finn", &friend, &second);
    let evicted = e.act(remove(people[2].id()));
    let his = b.say(room, "welcome Eve");
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut e]);
    meet(&mut [&mut a, &mut b, &mut c, &mut e, &mut f]);

    for home in [&a, &c, &e] {
        let state = &home.community.state().charter;
        assert!(!home.is_member(&eve.id()) && !home.is_member(&friend.id()), "{}", home.name);
        assert!(!state.invites.contains_key(&ticket.key()) && !state.invites.contains_key(&second.key()));
        assert_eq!(home.standing(&promoted), Some(ActStanding::Void));
        assert_eq!(home.standing(&evicted), Some(ActStanding::NotEntitled), "drawn from what is void");
        assert!(home.is_member(&people[2].id()));
        assert_eq!(home.word(&fair), WordStanding::Counts);
        assert_eq!(home.word(&his), WordStanding::Void);
        assert_eq!(home.word(&hers), WordStanding::NotEntitled);
        assert_eq!(home.read(room), ["good morning"]);
    }
}

#[test]
fn m06_the_last_owner_leaves_and_the_admins_choose() {
    let (people, [mut a, mut b, mut c, mut d]) = garden(ADMINS);
    let [ana, ben, chloe, dan] = people.each_ref().map(Person::id);
    assert_eq!(a.try_act(Intent::SetRole(ana, Role::Admin)), Err(Refusal::NotEntitled), "cannot step down");
    assert_eq!(b.try_act(remove(ana)), Err(Refusal::NotEntitled), "nor be removed");
    a.act(Intent::Leave);
    a.send_to(&mut b);
    meet(&mut [&mut b, &mut c, &mut d]);
    assert!(b.community.state().charter.members.values().all(|member| member.role < Role::Owner));

    // Two of three have to agree. Ben and Chloe each want to be it, apart.
    let for_ben = b.act(Intent::SetRole(ben, Role::Owner));
    let for_chloe = c.act(Intent::SetRole(chloe, Role::Owner));
    assert_eq!((b.role(&ben), c.role(&chloe)), (Some(Role::Admin), Some(Role::Admin)), "nobody alone");
    assert_eq!(b.try_act(Intent::CoSign(for_ben)), Err(Refusal::NotEntitled), "one signs once");
    c.send_to(&mut d);
    d.act(Intent::CoSign(for_chloe));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut d]);
    assert_eq!(
        [ben, chloe, dan].map(|person| b.role(&person)),
        [Some(Role::Admin), Some(Role::Owner), Some(Role::Admin),]
    );
    assert_eq!(b.standing(&for_ben), Some(ActStanding::Unsigned));
    c.act(Intent::ChangeSetting(exo_model::charter::Setting::MembersInvite(true)));
}

#[test]
fn m06_succession_is_for_the_highest_rank_only() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Admin, Role::Member, Role::Member]);
    a.act(Intent::Leave);
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    for person in [people[1].id(), people[2].id()] {
        assert_eq!(c.try_act(Intent::SetRole(person, Role::Owner)), Err(Refusal::NotEntitled));
        let forced = c.force(CharterEvent::RoleSet { person, role: Role::Owner });
        assert_eq!(c.standing(&forced), Some(ActStanding::NotEntitled));
    }
    assert_eq!(b.try_act(Intent::SetRole(people[2].id(), Role::Owner)), Err(Refusal::NotEntitled));
    b.act(Intent::SetRole(people[1].id(), Role::Owner));
    meet_in_every_order(&mut [&mut b, &mut c, &mut d]);
    assert_eq!(d.role(&people[1].id()), Some(Role::Owner), "the only admin is a majority");
}

/// Two removals of one person, apart, are two removals: a way back lifts both.
#[test]
fn bans_are_lifted_by_rank() {
    let (people, [mut a, mut b, mut c, mut d]) =
        garden([Role::Owner, Role::Admin, Role::Moderator, Role::Member]);
    let dan = &people[3];
    b.act(ban(dan.id()));
    meet(&mut [&mut a, &mut b, &mut c, &mut d]);
    let ticket = c.invite(1);
    c.send_to(&mut a);
    assert_eq!(c.try_admit("Dan", dan, &dan.device(1), &ticket).err(), Some(Refusal::Banned));
    let mut again = a.try_admit("Dan", dan, &dan.device(1), &ticket).expect("an owner is above an admin");
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut again]);
    assert_eq!(b.role(&dan.id()), Some(Role::Member));
}

#[test]
fn an_invite_from_before_the_removal_brings_nobody_back() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let ben = &people[1];
    let old = a.invite(5);
    a.act(remove(ben.id()));
    assert_eq!(a.try_admit("Ben", ben, &ben.device(1), &old).err(), Some(Refusal::WasRemoved));
    let fresh = a.invite(1);
    let again = a.try_admit("Ben", ben, &ben.device(1), &fresh).expect("invited anew");
    a.send_to(&mut b);
    assert!(a.is_member(&ben.id()) && again.is_member(&ben.id()));
    assert_eq!(b.try_act(Intent::Leave), Err(Refusal::NotAMember), "the old device is not back");
}

#[test]
fn removing_upwards_or_oneself_is_refused_and_counts_for_nothing() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Moderator]);
    for person in [people[0].id(), people[1].id(), people[2].id()] {
        assert_eq!(c.try_act(remove(person)), Err(Refusal::NotEntitled));
        let fence = c.community.fence_of(&[a.device(), b.device()].into());
        let forced = CharterEvent::Removed { person, ban: true, reason: String::new(), fence };
        let forced = c.force(forced);
        assert_eq!(c.standing(&forced), Some(ActStanding::NotEntitled));
    }
    let key = InviteKey::from_bytes([8; 32]);
    let raised = Intent::IssueInvite {
        key,
        uses: 1,
        expires_ms: i64::MAX,
        role: Role::Moderator,
        trust: TrustLevel::Public,
    };
    assert_eq!(c.try_act(raised), Err(Refusal::NotEntitled), "an invite gives member at most");
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    assert!(people.iter().all(|person: &Person| a.is_member(&person.id())));
}
