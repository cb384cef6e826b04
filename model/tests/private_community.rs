//! A person's own community: their devices, their facts, and nobody else.

mod home;

use exo_model::PersonId;
use exo_model::charter::{ActStanding, CommunityKind, Role};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::private::{Speaker, Subject};
use exo_model::event::{CharterEvent, Event, PrivateEvent};
use exo_model::feed::Stream;
use exo_model::id::{InviteKey, ThreadId};
use exo_model::invite::Ticket;
use exo_model::private::PrivateState;
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;
use home::{Home, Person, found_as, garden, meet, settle};

const THREAD: ThreadId = ThreadId::from_bytes([1; 16]);

fn turn(parent: Option<exo_model::ChangeHash>, speaker: Speaker, text: &str) -> Intent {
    Intent::Private(PrivateEvent::TurnAdded {
        thread: THREAD,
        parent,
        speaker,
        text: text.into(),
        about: String::new(),
    })
}

/// What a device makes of the facts that it can read.
fn facts(home: &Home) -> PrivateState {
    let mut state = PrivateState::default();
    for event in &home.events {
        if let (Ok(Event::Private(fact)), Some(written)) = (&event.event, home.community.own_fact(event)) {
            state.insert(&written, fact);
        }
    }
    state
}

/// Two devices of one person, in their private community.
fn devices() -> (Person, Home, Home) {
    let ana = Person::new(1);
    let mut desk = found_as(CommunityKind::Private, "Ana", &ana);
    let mut phone = desk.add_device(&ana, &ana.device(2), 2);
    settle(&mut [&mut desk, &mut phone]);
    (ana, desk, phone)
}

#[test]
fn what_one_device_notes_the_others_know() {
    let (_, mut desk, mut phone) = devices();
    let question = desk.act(turn(None, Speaker::Person, "Why is the sky blue?"));
    settle(&mut [&mut desk, &mut phone]);
    phone.act(turn(Some(question), Speaker::Model, "Because it scatters."));
    phone.act(Intent::Private(PrivateEvent::PromptSaved { name: "short".into(), text: "Be brief.".into() }));
    // Apart: a second branch, and a setting.
    desk.act(turn(Some(question), Speaker::Model, "Rayleigh."));
    let blocked = PersonId::from_bytes([9; 32]);
    desk.act(Intent::Private(PrivateEvent::BlockSet { person: blocked, blocked: true }));
    meet(&mut [&mut desk, &mut phone]);
    let (at_desk, on_phone) = (facts(&desk), facts(&phone));
    assert_eq!(at_desk.hash(), on_phone.hash());
    assert_eq!(on_phone.prompt("short"), Some("Be brief."));
    assert!(on_phone.is_blocked(&blocked));
    assert!(at_desk.thread(&THREAD).is_some());
    assert_eq!(desk.hash(), phone.hash());
}

#[test]
fn nobody_else_comes_in() {
    let (ana, mut desk, mut phone) = devices();
    let secret = SecretKey::from_bytes(&[7; 32]);
    let key = InviteKey::from_bytes(secret.public_bytes());
    let (uses, expires_ms, role, trust) = (1, i64::MAX, Role::Member, TrustLevel::Friends);
    let refused = desk.try_act(Intent::IssueInvite { key, uses, expires_ms, role, trust });
    assert_eq!(refused, Err(Refusal::PrivateCommunity));
    // Nor for a program that does not ask.
    let issued = desk.force(CharterEvent::InviteIssued { key, uses, expires_ms, role, trust });
    let ticket = Ticket::new(desk.community.id(), "Mine".into(), &secret, expires_ms, Vec::new());
    let eve = Person::new(5);
    let request = ticket.request(eve.certify(&eve.key, 1), "Eve".into());
    assert_eq!(desk.try_act(Intent::Admit(request.clone())), Err(Refusal::PrivateCommunity));
    let admitted = desk.force(CharterEvent::Admitted {
        certificate: request.certificate,
        name: request.name,
        invite: key,
        proof: request.proof,
        lifts: Vec::new(),
    });
    meet(&mut [&mut desk, &mut phone]);
    for home in [&desk, &phone] {
        for act in [issued, admitted] {
            assert_eq!(home.standing(&act), Some(ActStanding::NotEntitled));
        }
        assert_eq!(home.community.state().charter.members.keys().collect::<Vec<_>>(), [&ana.id()]);
    }
}

/// What only oneself should read is not written where others do, and counts
/// for nothing there.
#[test]
fn private_facts_have_no_place_in_a_shared_community() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let draft = PrivateEvent::DraftSaved { subject: Subject::Thread(THREAD), text: "not for Ben".into() };
    assert_eq!(a.try_act(Intent::Private(draft.clone())), Err(Refusal::NotPrivate));
    let forced = a.write(Stream::Private, &draft.into());
    settle(&mut [&mut a, &mut b]);
    for home in [&a, &b] {
        assert_eq!(home.word(&forced), WordStanding::NotEntitled);
        assert_eq!(facts(home).hash(), PrivateState::default().hash());
    }
}
