//! Who may do what: the table in the design, guests, and keepers.

use std::collections::BTreeMap;

use exo_model::charter::{ActStanding, Permission, Role, role};
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::event::charter::VouchGround;
use exo_model::event::keys::Audience;
use exo_model::feed::Stream;
use exo_model::id::ChannelId;

use crate::home::{garden, meet_in_every_order, settle};
use crate::remove;

/// The design's table, row by row.
fn documented() -> BTreeMap<String, Vec<String>> {
    let text = include_str!("../../../docs/design/governance.md");
    let rows = text.lines().skip_while(|line| !line.starts_with("| permission |"));
    rows.take_while(|line| line.starts_with('|'))
        .filter(|line| !line.starts_with("|---"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
            (cells.next().expect("a first cell"), cells.collect())
        })
        .collect()
}

#[test]
fn the_table_in_the_design_is_the_table_of_the_program() {
    let mut documented = documented();
    let header = documented.remove("permission").expect("a header");
    assert_eq!(header, Role::ALL.map(|role| role.as_str().to_owned()));
    assert_eq!(documented.len(), role::PERMISSIONS.len());
    for (permission, least) in role::PERMISSIONS {
        let row = documented
            .get(permission.as_str())
            .unwrap_or_else(|| panic!("{} is missing", permission.as_str()));
        for (role, cell) in Role::ALL.into_iter().zip(row) {
            let expected = match (role >= least, permission, role) {
                (true, ..) => "yes",
                (false, Permission::Invite, Role::Member) => "by setting",
                (false, Permission::Write, Role::Guest) => "only where guests may",
                _ => "–",
            };
            assert_eq!(cell, expected, "{}, {role}", permission.as_str());
            assert_eq!(role.may(permission), cell == "yes");
        }
    }
}

#[test]
fn a_guest_reads_governance_and_talks_where_guests_may() {
    let (people, [mut a, mut b, mut g]) = garden([Role::Owner, Role::Member, Role::Guest]);
    let room = a.channel();
    let parlour = ChannelId::from_bytes([2; 16]);
    let name = "parlour".to_owned();
    a.act(Intent::CreateChannel { channel: parlour, name, closed: false, guests: true });
    settle(&mut [&mut a, &mut b, &mut g]);
    assert_eq!(g.hash(), a.hash(), "the charter and the ledger are readable");
    let secret = b.say(room, "among members");
    let open = b.say(parlour, "hello guest");
    b.send_to(&mut g);
    let reply = g.say(parlour, "hello");
    settle(&mut [&mut a, &mut b, &mut g]);
    assert!(!g.opens(&secret) && g.opens(&open) && a.opens(&reply));
    assert_eq!(a.read(parlour), ["hello guest", "hello"]);

    let talk = |channel| Intent::Post {
        channel,
        text: "x".into(),
        reply_to: None,
        mentions: vec![],
        attachments: vec![],
    };
    assert_eq!(g.try_act(talk(room)), Err(Refusal::NotEntitled));
    assert_eq!(g.try_act(Intent::Vouch(people[1].id(), Some(VouchGround::Known))), Err(Refusal::NotEntitled));
    assert_eq!(g.try_act(remove(people[1].id())), Err(Refusal::NotEntitled));
    let offer = Intent::OfferMachine { memory_bytes: 1, micros_per_mib: 1, addresses: vec![] };
    assert_eq!(g.try_act(offer), Err(Refusal::NotEntitled));
    g.act(Intent::SetProfile { name: "Gus".into(), about: String::new() });
    g.act(Intent::Leave);
    meet_in_every_order(&mut [&mut a, &mut b, &mut g]);
    assert!(!a.is_member(&people[2].id()));
}

#[test]
fn a_keeper_carries_what_it_cannot_read() {
    let (people, [mut a, mut b, mut k]) = garden([Role::Owner, Role::Member, Role::Keeper]);
    let room = a.channel();
    b.say(room, "over your head");
    settle(&mut [&mut a, &mut b, &mut k]);
    assert!(k.community.state().charter.members.is_empty(), "it cannot even tell who is a member");
    assert_eq!(k.read(room), Vec::<String>::new());
    assert_eq!(k.try_act(Intent::Leave), Err(Refusal::NotAMember), "nor can it write what it would say");
    let readable = k.events.iter().filter(|event| event.event.is_ok());
    assert!(readable.clone().count() > 0 && readable.clone().all(|event| event.feed.stream == Stream::Keys));
    assert!(k.community.keyring().ids().next().is_none());

    // Whoever was away gets everything from the keeper alone.
    let mut away = b.blank();
    b.hand_governance_to(&mut away);
    k.send_to(&mut away);
    assert_eq!((away.hash(), away.read(room)), (a.hash(), a.read(room)));

    // A keeper with keys, by someone's mistake or malice, still does nothing.
    a.hand_governance_to(&mut k);
    k.read_again();
    let profile = CharterEvent::ProfileSet { name: "King".into(), about: String::new() };
    let key = a.writing_key(Audience::Governance);
    let heads = k.community.heads();
    let act = k.write_under(Stream::Charter, &profile.into(), &heads, key);
    meet_in_every_order(&mut [&mut a, &mut b]);
    k.send_to(&mut a);
    assert_eq!(a.standing(&act), Some(ActStanding::NotEntitled));
    assert_eq!(a.community.state().charter.person_name(&people[2].id()), "Chloe");
}
