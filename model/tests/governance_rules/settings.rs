//! §4: settings, allotments up to the community's floor, and rules that a
//! program does not know.

use exo_model::amount::Amount;
use exo_model::charter::relay::RELAYS_MAX;
use exo_model::charter::settings::ABOUT_BYTES_MAX;
use exo_model::charter::{ActStanding, Floors, RULES_VERSION, Relay, RelayError, Role, Setting, Settings};
use exo_model::codec;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::CharterEvent;
use exo_model::event::charter::{ReportOutcome, VouchGround};
use exo_model::event::dispute::DisputeEvent;
use exo_model::event::keys::Audience;
use exo_model::event::ledger::Account;
use exo_model::id::{BoardId, CertificatePin};
use exo_model::invite::Ticket;
use exo_model::ledger::Standing;
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, ChannelId, InviteKey};

use crate::home::{Home, Person, garden, meet, meet_in_every_order, settle};
use crate::{all_say, event_of, refused, remove};

use ActStanding::{Counts, Lost, NotEntitled};

fn amount(token_mib: i64) -> Amount {
    Amount::from_token_mib(token_mib)
}

/// What the community has as its settings in `home`'s eyes.
fn settings(home: &Home) -> &Settings {
    home.community.state().charter.settings.as_ref().expect("founded")
}

#[test]
fn every_setting_is_the_owners_to_change() {
    let (_, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Admin, Role::Member]);
    let floors = Floors { public: amount(-1), known: amount(-2), friends: amount(-3) };
    let changed = [
        Setting::Name("Orchard".into()),
        Setting::Floors(floors),
        Setting::CommunityFloor(amount(-9)),
        Setting::MembersInvite(true),
        Setting::OpenHistory(false),
        Setting::About("apples".into()),
        Setting::Guidelines(Some(BoardId::from_bytes([3; 16]))),
        Setting::Relays(vec![relay("https://relay.example.org:8443")]),
    ];
    let mut expected = settings(&a).clone();
    for setting in changed {
        refused(&mut b, &Intent::ChangeSetting(setting.clone()));
        expected.set(&setting);
        a.act(Intent::ChangeSetting(setting));
    }
    meet(&mut [&mut a, &mut b, &mut c]);
    for home in [&a, &b, &c] {
        assert_eq!(settings(home), &expected, "{}", home.name);
    }

    // What is not well-formed counts for nothing, also by an owner.
    let too_low = amount(-Amount::LOCK_MAX.token_mib() - 1);
    let malformed = [
        Setting::Name("\u{202e}draged".into()),
        Setting::Floors(Floors { public: amount(1), ..floors }),
        Setting::CommunityFloor(amount(1)),
        Setting::CommunityFloor(too_low),
        Setting::About("x".repeat(ABOUT_BYTES_MAX + 1)),
        Setting::Relays(vec![relay("https://relay.example.org/other")]),
        Setting::Relays(vec![relay("http://relay.example.org")]),
        Setting::Relays(vec![relay("https://relay.example.org"); 2]),
        Setting::Relays((0..=RELAYS_MAX).map(|n| relay(&format!("https://r{n}.example.org"))).collect()),
    ];
    let acts = malformed.map(|setting| a.force(CharterEvent::SettingChanged { setting }));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    for act in &acts {
        all_say(&[&a, &b, &c], act, NotEntitled);
    }
    assert_eq!(settings(&c), &expected);
}

/// A relay at `url` with a pinned certificate, usable or not.
fn relay(url: &str) -> Relay {
    Relay { url: url.into(), pin: Some(CertificatePin::of_certificate(b"shown")) }
}

/// What a community had before there were relays keeps its bytes, and with
/// them its id and its hash; a list that was emptied leaves no trace.
#[test]
fn relays_are_in_the_state_and_settings_without_any_keep_their_bytes() {
    let (_, [mut a, mut b, _]) = garden([Role::Owner, Role::Member, Role::Member]);
    let without = codec::encode(settings(&a));
    assert_eq!(without[0], 0x86, "an array of six: neither guidelines nor relays");
    let relays = vec![relay("https://relay.example.org:8443"), relay("https://203.0.113.7")];
    let change = |relays: &[Relay]| Intent::ChangeSetting(Setting::Relays(relays.to_vec()));
    a.act(change(&[
        Relay { url: " https://Relay.Example.org:8443/ ".into(), pin: relays[0].pin },
        relays[1].clone(),
    ]));
    meet(&mut [&mut a, &mut b]);
    assert_eq!(settings(&b).relays, relays, "in the one form");
    assert_eq!(a.hash(), b.hash());
    let with = codec::encode(settings(&b));
    assert_eq!(codec::decode::<Settings>(&with, with.len()).as_ref(), Ok(settings(&b)));
    let hash = b.hash();

    // Another pin for the same relay is another state.
    a.act(change(&[relays[0].clone(), Relay { pin: None, ..relays[1].clone() }]));
    meet(&mut [&mut a, &mut b]);
    assert_ne!(b.hash(), hash);
    a.act(change(&[]));
    meet(&mut [&mut a, &mut b]);
    assert_eq!(codec::encode(settings(&b)), without);

    let twice = a.try_act(change(&[relays[0].clone(), relays[0].clone()]));
    assert!(matches!(twice, Err(Refusal::Relay(RelayError::Twice(_)))), "{twice:?}");
}

#[test]
fn of_a_setting_changed_apart_the_last_in_the_order_stands() {
    let (_, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Owner, Role::Member]);
    let about = |text: &str| Intent::ChangeSetting(Setting::About(text.into()));
    let (by_ana, by_ben) = (a.act(about("by Ana")), b.act(about("by Ben")));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    let last = if by_ana > by_ben { "by Ana" } else { "by Ben" };
    for home in [&a, &b, &c] {
        assert_eq!(settings(home).about, last, "{}", home.name);
    }
    b.act(about("by Ben, who knows"));
    b.send_to(&mut c);
    assert_eq!(settings(&c).about, "by Ben, who knows");
}

fn allot(person: &Person, token_mib: i64) -> Intent {
    Intent::Allot { person: person.id(), amount: amount(token_mib), note: String::new() }
}

#[test]
fn allotments_count_up_to_the_floor_and_not_beyond() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Owner, Role::Member]);
    let chloe = &people[2];
    assert_eq!(settings(&a).community_floor, amount(-100_000));
    let first = a.act(allot(chloe, 60_000));
    assert_eq!(a.try_act(allot(chloe, 40_001)), Err(Refusal::Lost));
    let beyond = a.force(event_of(&allot(chloe, 40_001)));
    let second = a.act(allot(chloe, 40_000));
    let one_more = a.force(event_of(&allot(chloe, 1)));
    meet(&mut [&mut a, &mut b, &mut c]);
    for (act, standing) in [(first, Counts), (beyond, Lost), (second, Counts), (one_more, Lost)] {
        all_say(&[&a, &b, &c], &act, standing);
    }

    // A lower floor makes room; a higher one takes nothing back.
    let floor = |token_mib| Intent::ChangeSetting(Setting::CommunityFloor(amount(token_mib)));
    b.act(floor(-160_000));
    let third = b.act(allot(chloe, 60_000));
    b.act(floor(-1));
    assert_eq!(b.try_act(allot(chloe, 1)), Err(Refusal::Lost));
    let mut refusals = Vec::new();
    for (person, token_mib) in
        [(chloe, 0), (chloe, -1), (chloe, Amount::LOCK_MAX.token_mib() + 1), (&Person::new(99), 1)]
    {
        refusals.push(refused(&mut b, &allot(person, token_mib)));
    }
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    for act in &refusals {
        all_say(&[&a, &b, &c], act, NotEntitled);
    }
    for home in [&a, &b, &c] {
        let allotted: Vec<_> = home.community.state().charter.allotments.keys().copied().collect();
        let mut expected = [first, second, third];
        expected.sort_unstable();
        assert_eq!(allotted, expected, "{}", home.name);
    }
}

#[test]
fn of_allotments_apart_that_do_not_fit_together_the_first_in_the_order_stands() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Owner, Role::Member]);
    let (by_ana, by_ben) = (a.act(allot(&people[0], 60_000)), b.act(allot(&people[1], 60_000)));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    let (first, second) = if by_ana < by_ben { (by_ana, by_ben) } else { (by_ben, by_ana) };
    all_say(&[&a, &b, &c], &first, Counts);
    all_say(&[&a, &b, &c], &second, Lost);
    let allotted: Vec<_> = c.community.state().charter.allotments.keys().copied().collect();
    assert_eq!(allotted, [first]);
}

/// Every kind of intent about governance, possible or not.
fn governance(people: &[Person], ticket: &Ticket, act: ChangeHash) -> Vec<Intent> {
    let (ben, newcomer) = (people[1].id(), Person::new(40));
    let channel = ChannelId::from_bytes([1; 16]);
    let device = people[1].certify(&people[1].key, 1).claims.device;
    let (reason, note) = (String::new(), String::new());
    let trust = TrustLevel::Public;
    let key = InviteKey::from_bytes([8; 32]);
    vec![
        Intent::IssueInvite { key, uses: 1, expires_ms: i64::MAX, role: Role::Member, trust },
        Intent::RevokeInvite(ticket.key()),
        Intent::Admit(ticket.request(newcomer.certify(&newcomer.key, 1), "Gil".into())),
        Intent::Leave,
        remove(ben),
        Intent::CoSign(act),
        Intent::SetRole(ben, Role::Member),
        Intent::SetTrust(ben, trust),
        Intent::AddDevice(people[1].certify(&people[1].device(1), 2)),
        Intent::RevokeDevice { device, phrase: None },
        Intent::SetProfile { name: "Somebody".into(), about: String::new() },
        Intent::ChangeSetting(Setting::MembersInvite(true)),
        Intent::AdoptRules(RULES_VERSION + 1),
        Intent::AdoptRules(RULES_VERSION + 2),
        Intent::CreateChannel { channel, name: "salon".into(), closed: false, guests: false },
        Intent::ChangeChannel { channel, name: "salon".into(), archived: true },
        Intent::ChannelPeople { channel, add: vec![ben], remove: vec![] },
        Intent::GrantHistory(ben, Audience::Members),
        allot(&people[1], 1),
        Intent::Vouch(ben, Some(VouchGround::Known)),
        Intent::Vouch(ben, None),
        Intent::Dispute(DisputeEvent::JurorDeclined { dispute: act }),
        Intent::HideMessage { author: ben, message: act, hidden: true, reason },
        Intent::DecideReport { report: act, subject: ben, outcome: ReportOutcome::Warned, note },
    ]
}

#[test]
fn a_program_that_does_not_know_the_rules_reads_on_changes_nothing_and_says_so() {
    let (people, [mut a, mut b, mut c, mut g]) =
        garden([Role::Owner, Role::Admin, Role::Member, Role::Guest]);
    let newer = RULES_VERSION + 1;
    let (room, ticket) = (a.channel(), a.invite(3));
    meet(&mut [&mut a, &mut b, &mut c, &mut g]);
    let mut refusals = Vec::new();
    for home in [&mut b, &mut c, &mut g] {
        refusals.push(refused(home, &Intent::AdoptRules(newer)));
    }
    meet(&mut [&mut a, &mut b, &mut c, &mut g]);
    for act in &refusals {
        all_say(&[&a, &b, &c, &g], act, NotEntitled);
    }
    assert_eq!(c.community.state().charter.rules, RULES_VERSION, "adopted by nobody who may");

    let before = a.hash();
    let adopted = a.act(Intent::AdoptRules(newer));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut g]);
    all_say(&[&a, &b, &c, &g], &adopted, Counts);
    assert_ne!(a.hash(), before, "the version is part of the state");
    for home in [&mut a, &mut b, &mut c, &mut g] {
        let charter = home.community.state().charter.clone();
        assert_eq!((charter.rules, charter.knows_rules()), (newer, false), "{}", home.name);
        for intent in governance(&people, &ticket, adopted) {
            let shown = format!("{}: {intent:?}", home.name);
            assert_eq!(home.try_act(intent), Err(Refusal::NewerRules(newer)), "{shown}");
        }
    }
    let said = Refusal::NewerRules(newer).to_string();
    assert!(said.contains(&format!("version {newer}")) && said.contains("update"), "{said}");

    // Words, machines and credit are no governance.
    let word = b.say(room, "still here");
    c.act(Intent::OfferMachine { memory_bytes: 1, micros_per_mib: 1, addresses: vec![] });
    let (to, note) = (Account::Device(b.device()), String::new());
    let gift = c.act(Intent::Transfer { to, amount: amount(5), note });
    settle(&mut [&mut a, &mut b, &mut c, &mut g]);
    assert!(c.opens(&word));
    assert_eq!(a.read(room), ["still here"]);
    assert!(a.community.state().machines.contains_key(&c.device()));
    assert_eq!(g.community.state().ledger.standing(&gift), Some(Standing::Counted));

    // Someone with a newer program goes on, and what can be read of it counts.
    let acts = [
        a.force(CharterEvent::SettingChanged { setting: Setting::Name("Orchard".into()) }),
        a.force(CharterEvent::RoleSet { person: people[2].id(), role: Role::Moderator }),
    ];
    let void = c.force(CharterEvent::SettingChanged { setting: Setting::Name("Chloe's".into()) });
    let hash = meet_in_every_order(&mut [&mut a, &mut b, &mut c, &mut g]);
    for act in &acts {
        all_say(&[&a, &b, &c, &g], act, Counts);
    }
    all_say(&[&a, &b, &c, &g], &void, NotEntitled);
    for home in [&a, &b, &c, &g] {
        assert_eq!(home.community.state().charter.name(), "Orchard", "{}", home.name);
        assert_eq!(home.role(&people[2].id()), Some(Role::Moderator), "{}", home.name);
        assert_eq!(home.hash(), hash, "{}", home.name);
    }
}
