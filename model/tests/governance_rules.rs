//! What `docs/design/governance.md` says, through whole communities: honest
//! people ask `decide`, dishonest ones write the event all the same, and what
//! came of it is asked of other replicas.
//!
//! Every module holds the program to one part of the design. Sentences of the
//! design that the program once broke are in `once_broken`, one test each.

mod home;

#[path = "governance_rules/acts.rs"]
mod acts;
#[path = "governance_rules/channels.rs"]
mod channels;
#[path = "governance_rules/leaving.rs"]
mod leaving;
#[path = "governance_rules/once_broken.rs"]
mod once_broken;
#[path = "governance_rules/ranks.rs"]
mod ranks;
#[path = "governance_rules/returns.rs"]
mod returns;
#[path = "governance_rules/settings.rs"]
mod settings;
#[path = "governance_rules/signatures.rs"]
mod signatures;
#[path = "governance_rules/succession.rs"]
mod succession;
#[path = "governance_rules/trust.rs"]
mod trust;

use exo_model::charter::{ActStanding, Role};
use exo_model::decide::{self, Intent, Refusal};
use exo_model::event::{CharterEvent, Event, TalkEvent};
use exo_model::feed::Stream;
use exo_model::feed::fence::Fence;
use exo_model::sealing::EpochKey;
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, PersonId};

use home::{Home, Person, found, meet};

/// A community of any size: the first person founds it, the others join in
/// their order and get their roles; then everyone has everything.
pub(crate) fn crowd(roles: &[Role]) -> (Vec<Person>, Vec<Home>) {
    let people: Vec<Person> = (1_u8..).zip(roles).map(|(number, _)| Person::new(number)).collect();
    let mut founder = found("owner", &people[0]);
    founder.open_channel(1, false);
    let mut homes = Vec::new();
    for (person, role) in people.iter().zip(roles).skip(1) {
        let joins_as = (*role).min(Role::Member);
        let ticket = founder.invite_as(1, joins_as, TrustLevel::Friends);
        homes.push(founder.admit(role.as_str(), person, &ticket));
        if *role > joins_as {
            founder.act(Intent::SetRole(person.id(), *role));
        }
    }
    homes.insert(0, founder);
    meet_all(&mut homes);
    (people, homes)
}

/// Everybody gets everything.
pub(crate) fn meet_all(homes: &mut [Home]) {
    meet(&mut homes.iter_mut().collect::<Vec<_>>());
}

/// Hands all keys on, by someone's mistake or malice.
pub(crate) fn leak(from: &Home, to: &mut Home) {
    for id in from.community.keyring().ids() {
        let key = from.community.keyring().key(id).expect("held");
        to.community.learn_key(EpochKey::from_bytes(key.as_bytes()));
    }
    to.read_again();
}

/// What an honest program of this member would write.
pub(crate) fn decided(home: &Home, intent: Intent) -> Result<(Stream, Event), Refusal> {
    decide::decide(&home.community, home.now_ms, intent)
}

/// The event of an intent, for who does not ask `decide`.
pub(crate) fn event_of(intent: &Intent) -> CharterEvent {
    match intent.clone() {
        Intent::IssueInvite { key, uses, expires_ms, role, trust } => {
            CharterEvent::InviteIssued { key, uses, expires_ms, role, trust }
        }
        Intent::RevokeInvite(key) => CharterEvent::InviteRevoked { key },
        Intent::Remove { person, ban, reason } => {
            CharterEvent::Removed { person, ban, reason, fence: Fence::default() }
        }
        Intent::CoSign(act) => CharterEvent::CoSigned { act },
        Intent::SetRole(person, role) => CharterEvent::RoleSet { person, role },
        Intent::SetTrust(person, level) => CharterEvent::TrustSet { person, level },
        Intent::ChangeSetting(setting) => CharterEvent::SettingChanged { setting },
        Intent::AdoptRules(version) => CharterEvent::RulesAdopted { version },
        Intent::CreateChannel { channel, name, closed, guests } => {
            CharterEvent::ChannelCreated { channel, name, closed, guests }
        }
        Intent::ChannelPeople { channel, add, remove } => {
            CharterEvent::ChannelPeople { channel, add, remove }
        }
        Intent::GrantHistory(person, audience) => CharterEvent::HistoryGranted { person, audience },
        Intent::Allot { person, amount, note } => CharterEvent::Allotted { person, amount, note },
        Intent::Vouch(person, Some(ground)) => CharterEvent::Vouched { person, ground },
        Intent::Vouch(person, None) => CharterEvent::VouchWithdrawn { person },
        other => panic!("{other:?} is no plain act"),
    }
}

/// `decide` refuses it for lack of a right, and written all the same it counts
/// for nothing.
pub(crate) fn refused(home: &mut Home, intent: &Intent) -> ChangeHash {
    assert_eq!(home.try_act(intent.clone()), Err(Refusal::NotEntitled), "{}: {intent:?}", home.name);
    let forced = home.force(event_of(intent));
    assert_eq!(home.standing(&forced), Some(ActStanding::NotEntitled), "{}: {intent:?}", home.name);
    forced
}

/// All of these replicas say the same of an act.
pub(crate) fn all_say(homes: &[&Home], act: &ChangeHash, standing: ActStanding) {
    for home in homes {
        assert_eq!(home.standing(act), Some(standing), "{} of {act}", home.name);
    }
}

/// A removal without a ban.
pub(crate) fn remove(person: PersonId) -> Intent {
    Intent::Remove { person, ban: false, reason: String::new() }
}

/// A removal with one.
pub(crate) fn ban(person: PersonId) -> Intent {
    Intent::Remove { person, ban: true, reason: "spam".into() }
}

pub(crate) fn posted(text: &str) -> TalkEvent {
    TalkEvent::Posted { text: text.into(), reply_to: None, mentions: vec![], attachments: vec![] }
}
