//! Sentences of the design that the program once broke, one test each.

use std::collections::BTreeSet;

use exo_model::BlobHash;
use exo_model::charter::{
    ALLOTMENTS_MAX, ActStanding, CHANNELS_MAX, DEVICES_PER_PERSON_MAX, INVITES_MAX, MEMBERS_MAX, ORPHANS_MAX,
    ORPHANS_PER_DEVICE_MAX, Role, relay,
};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::envelope::HEADS_MAX;
use exo_model::event::charter::{CHANNEL_PEOPLE_PER_EVENT_MAX, LIFTS_MAX, VouchGround};
use exo_model::event::keys::Audience;
use exo_model::event::{ClusterEvent, LibraryEvent, ModerationEvent, TalkEvent};
use exo_model::feed::Stream;
use exo_model::feed::fence::FENCE_ENTRIES_MAX;
use exo_model::sealing::{SealContext, SealedFor};

use crate::home::{Home, Person, garden, manifest, meet, settle};
use crate::{decided, leak, posted, remove};

const DESIGN: &str = include_str!("../../../docs/design/governance.md");

/// A number as the design writes it.
fn shown(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

/// The limits that the design states in its table, and the constants it names.
const LIMITS: [(&str, usize); 11] = [
    ("charter::MEMBERS_MAX", MEMBERS_MAX),
    ("DEVICES_PER_PERSON_MAX", DEVICES_PER_PERSON_MAX),
    ("INVITES_MAX", INVITES_MAX),
    ("CHANNELS_MAX", CHANNELS_MAX),
    ("ALLOTMENTS_MAX", ALLOTMENTS_MAX),
    ("event::charter::LIFTS_MAX", LIFTS_MAX),
    ("CHANNEL_PEOPLE_PER_EVENT_MAX", CHANNEL_PEOPLE_PER_EVENT_MAX),
    ("feed::fence::FENCE_ENTRIES_MAX", FENCE_ENTRIES_MAX),
    ("envelope::HEADS_MAX", HEADS_MAX),
    ("charter::relay::RELAYS_MAX", relay::RELAYS_MAX),
    ("charter::relay::RELAY_URL_BYTES_MAX", relay::RELAY_URL_BYTES_MAX),
];

#[test]
fn the_limits_in_the_design_are_those_of_the_program() {
    for (name, limit) in LIMITS {
        let row = DESIGN.lines().find(|line| line.ends_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} is missing"));
        assert!(row.contains(&format!("| {} |", shown(limit))), "{limit}, says the program: {row}");
    }
    let text = DESIGN.split_whitespace().collect::<Vec<_>>().join(" ");
    let (all, of_one) = (shown(ORPHANS_MAX), shown(ORPHANS_PER_DEVICE_MAX));
    let waiting = format!("{all} events wait for their past, {of_one} of one device");
    assert!(text.contains(&waiting), "the design does not say: {waiting}");
}

#[test]
fn the_design_names_no_limit_that_the_program_does_not_have() {
    let known: Vec<&str> =
        LIMITS.iter().map(|(name, _)| *name).chain(["ORPHANS_MAX", "ORPHANS_PER_DEVICE_MAX"]).collect();
    // Every other piece between backticks is code.
    for name in DESIGN.split('`').skip(1).step_by(2).filter(|code| code.ends_with("_MAX")) {
        assert!(known.contains(&name), "{name} is no limit of the charter");
    }
}

/// §3: guests offer no machines and share no models. Their event is none of a
/// member's in `word_standing`, and so must not be one in the state.
#[test]
fn a_guests_machine_and_models_are_nowhere_in_the_state() {
    let (_, [mut a, mut b, mut g]) = garden([Role::Owner, Role::Member, Role::Guest]);
    leak(&a, &mut g);
    let offer = ClusterEvent::MachineOffered { memory_bytes: 1, micros_per_mib: 1, addresses: vec![] };
    let model = LibraryEvent::ModelAdded { manifest: manifest(BlobHash::from_bytes([4; 32])) };
    let written = [g.write(Stream::Cluster, &offer.into()), g.write(Stream::Library, &model.into())];
    meet(&mut [&mut a, &mut b, &mut g]);
    for home in [&a, &b] {
        assert_eq!(written.map(|event| home.word(&event)), [WordStanding::NotEntitled; 2], "{}", home.name);
        let state = home.community.state();
        assert!(!state.machines.contains_key(&g.device()), "{}: a guest's machine", home.name);
        assert!(state.models.is_empty(), "{}: a guest's model", home.name);
    }
}

/// §3: a guest writes in the conversations between a few people that they are
/// part of: whoever opened one wanted to hear from them.
#[test]
fn a_guest_writes_directly_where_they_are_part_of_it() {
    let (people, [mut a, mut b, mut g]) = garden([Role::Owner, Role::Member, Role::Guest]);
    let both: BTreeSet<_> = [people[0].id(), people[2].id()].into();
    let direct = a.community.open_direct(both.clone());
    a.act(Intent::TalkDirectly(direct, TalkEvent::DirectOpened { people: both.into_iter().collect() }));
    settle(&mut [&mut a, &mut b, &mut g]);
    leak(&a, &mut g);
    let answer = decided(&g, Intent::TalkDirectly(direct, posted("hello Ana")));
    let key = a.writing_key(Audience::Direct(direct));
    let heads = g.community.heads();
    let forced = g.write_under(Stream::Direct(direct), &posted("hello Ana").into(), &heads, key);
    g.send_to(&mut a);
    assert_eq!(a.word(&forced), WordStanding::Counts);
    assert!(answer.is_ok());
}

/// The stream of reports is sealed to members (`encryption.md` §1), so a guest
/// has no key to write one with. `decide` must not say that they can, and one
/// that is written with a key that leaked is no report.
#[test]
fn a_guest_files_no_reports_where_only_members_read() {
    let (people, [mut a, mut b, mut g]) = garden([Role::Owner, Role::Member, Role::Guest]);
    let context = SealContext { community: a.community.id(), audience: b"report" };
    let account = SealedFor::seal(b"rude", &[a.community.sealing_key()].into(), &context, a.entropy());
    let report = ModerationEvent::ReportFiled {
        subject: people[1].id(),
        message: None,
        account: account.expect("few recipients"),
    };
    assert!(g.community.writing_key(&Audience::Members).is_none(), "no key to write it with");
    let answer = decided(&g, Intent::Report(report.clone()));
    leak(&a, &mut g);
    let forced = g.write(Stream::Moderation, &report.into());
    meet(&mut [&mut a, &mut b, &mut g]);
    assert_eq!(a.word(&forced), WordStanding::NotEntitled);
    assert!(a.community.open_reports().is_empty());
    assert_eq!(answer.err(), Some(Refusal::NotEntitled));
}

/// A removal that takes signatures counts from the last of them on. Until then
/// its subject is sealed every new key; afterwards nobody may write with one of
/// these (`encryption.md`, E01: who was removed reads nothing new).
#[test]
fn who_goes_by_signatures_reads_nothing_that_comes_after_the_last_of_them() {
    let (people, [mut a, mut b, mut c, mut d, mut e]) =
        garden([Role::Owner, Role::Admin, Role::Admin, Role::Admin, Role::Member]);
    let chloe = people[2].id();
    let room = a.channel();
    let act = b.act(remove(chloe));
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    assert_eq!(a.standing(&act), Some(ActStanding::Unsigned));
    let between = a.say(room, "she is still one of us");
    settle(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    assert!(c.opens(&between));

    d.act(Intent::CoSign(act));
    settle(&mut [&mut a, &mut b, &mut d, &mut e]);
    assert_eq!(a.standing(&act), Some(ActStanding::Counts));
    let profile = Intent::SetProfile { name: "Ana".into(), about: "relieved".into() };
    let after = [a.say(room, "she is gone"), a.act(profile)];
    settle(&mut [&mut a, &mut b, &mut d, &mut e]);
    a.send_to(&mut c);
    assert!(after.iter().all(|change| e.opens(change)));
    assert_eq!(after.map(|change| c.opens(&change)), [false; 2], "a word and an act of governance");
}

/// Likewise where a signature lowers an equal to where they read less.
#[test]
fn who_is_lowered_by_signatures_reads_no_more_than_their_role_allows() {
    let (people, [mut a, mut b, mut c, mut d]) = garden([Role::Owner, Role::Admin, Role::Admin, Role::Admin]);
    let chloe = people[2].id();
    let room = a.channel();
    let act = b.act(Intent::SetRole(chloe, Role::Guest));
    settle(&mut [&mut a, &mut b, &mut c, &mut d]);
    d.act(Intent::CoSign(act));
    settle(&mut [&mut a, &mut b, &mut c, &mut d]);
    assert_eq!(a.role(&chloe), Some(Role::Guest));
    let after = a.say(room, "not for guests");
    settle(&mut [&mut a, &mut b, &mut c, &mut d]);
    assert!(d.opens(&after) && !c.opens(&after));
}

/// Takes someone out and lets them in again with a fresh device.
fn out_and_in(home: &mut Home, person: &Person) -> Home {
    home.act(remove(person.id()));
    let ticket = home.invite(1);
    home.try_admit("Ben", person, &person.device(1), &ticket).expect("invited anew")
}

/// §2: "what was said of them before they left does not come back with them".
#[test]
fn a_vouch_from_before_they_went_does_not_come_back_with_them() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    c.act(Intent::Vouch(people[1].id(), Some(VouchGround::MetInPerson)));
    meet(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(a.community.state().charter.vouches.len(), 1);
    let mut again = out_and_in(&mut a, &people[1]);
    meet(&mut [&mut a, &mut c, &mut again]);
    assert!(c.is_member(&people[1].id()));
    assert!(c.community.state().charter.vouches.is_empty(), "Chloe said it of who he was then");
}

/// The same of a grant of history: it was for what was written before they
/// came the first time, and not for what is written while they are gone.
#[test]
fn a_grant_of_history_does_not_open_what_was_written_while_they_were_gone() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let ben = people[1].id();
    let den = a.open_channel(2, true);
    let bring_in = Intent::ChannelPeople { channel: den, add: vec![ben], remove: vec![] };
    a.act(bring_in.clone());
    a.act(Intent::GrantHistory(ben, Audience::Channel(den)));
    settle(&mut [&mut a, &mut b, &mut c]);
    a.act(remove(ben));
    settle(&mut [&mut a, &mut c]);
    let meanwhile = a.say(den, "what we think of Ben");
    let ticket = a.invite(1);
    let mut again = a.try_admit("Ben", &people[1], &people[1].device(1), &ticket).expect("invited anew");
    a.act(bring_in);
    settle(&mut [&mut a, &mut c, &mut again]);
    let welcome = a.say(den, "welcome back");
    settle(&mut [&mut a, &mut c, &mut again]);
    assert!(again.opens(&welcome));
    assert!(!again.opens(&meanwhile), "closed channels keep their history closed");
}

/// §2 and §4: who is gone is in no closed channel; the list says who is.
#[test]
fn who_is_gone_is_no_longer_listed_in_a_closed_channel() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let ben = people[1].id();
    let den = a.open_channel(2, true);
    a.act(Intent::ChannelPeople { channel: den, add: vec![ben], remove: vec![] });
    settle(&mut [&mut a, &mut b]);
    b.act(Intent::Leave);
    b.send_to(&mut a);
    assert!(!a.is_member(&ben));
    assert_eq!(a.community.state().charter.channels[&den].people, BTreeSet::from([people[0].id()]));
}
