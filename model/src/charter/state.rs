//! The charter's state as plain data: what decisions, views and the mesh read.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::Encode;

use super::people::{At, Records};
use super::{Charter, RULES_VERSION};
use crate::amount::Amount;
use crate::charter::role::Role;
use crate::charter::settings::{CommunityKind, Setting, Settings};
use crate::codec;
use crate::event::charter::VouchGround;
use crate::event::keys::Audience;
use crate::feed::Stream;
use crate::id::{ChangeHash, ChannelId, DeviceId, InviteKey, PersonId, SealingPublicKey};
use crate::trust::TrustLevel;

/// A person who belongs to the community.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Member {
    /// Chosen name.
    #[n(0)]
    pub name: String,
    /// A few words about themselves; may be empty.
    #[n(1)]
    pub about: String,
    /// What they may do.
    #[n(2)]
    pub role: Role,
    /// How far the community trusts them.
    #[n(3)]
    pub trust: TrustLevel,
    /// Who let them in; themselves for the founder.
    #[n(4)]
    pub admitted_by: PersonId,
    /// When, by the admitting device's clock; ms since the Unix epoch.
    #[n(5)]
    pub admitted_ms: i64,
    /// Their devices, in order.
    #[n(6)]
    pub devices: Vec<DeviceId>,
}

/// A device that takes part.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct MemberDevice {
    /// Whose it is.
    #[n(0)]
    pub person: PersonId,
    /// What they call it.
    #[n(1)]
    pub name: String,
    /// What keys for it are sealed to.
    #[n(2)]
    pub sealing: SealingPublicKey,
    /// The person's recovery key.
    #[n(3)]
    pub recovery: SealingPublicKey,
    /// Counts the person's certificates.
    #[n(4)]
    pub serial: u64,
}

/// An invite that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Invite {
    /// Who issued it.
    #[n(0)]
    pub issuer: PersonId,
    /// How many people may join with it.
    #[n(1)]
    pub uses: u32,
    /// How many did.
    #[n(2)]
    pub used: u32,
    /// Wall time of expiry, ms since the Unix epoch.
    #[n(3)]
    pub expires_ms: i64,
    /// The role it gives.
    #[n(4)]
    pub role: Role,
    /// The trust level it gives.
    #[n(5)]
    pub trust: TrustLevel,
    /// Whether it was revoked.
    #[n(6)]
    pub revoked: bool,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Channel {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Whether nobody writes in it any more.
    #[n(1)]
    pub archived: bool,
    /// Whether only people who were added read it.
    #[n(2)]
    pub closed: bool,
    /// Whether guests read and write in it.
    #[n(3)]
    pub guests: bool,
    /// In a closed channel, who was added.
    #[n(4)]
    pub people: BTreeSet<PersonId>,
}

/// Credit that an officer may spend from the community's account.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Allotment {
    /// Who.
    #[n(0)]
    pub person: PersonId,
    /// How much in all.
    #[n(1)]
    pub amount: Amount,
    /// For what.
    #[n(2)]
    pub note: String,
}

/// A community's governance at some set of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CharterState {
    /// What kind of community; `None` until the founding event is there.
    pub kind: Option<CommunityKind>,
    /// Its settings; `None` until the founding event is there.
    pub settings: Option<Settings>,
    /// The version of its rules.
    pub rules: u32,
    /// Members.
    pub members: BTreeMap<PersonId, Member>,
    /// Names of people who were members once.
    pub former: BTreeMap<PersonId, String>,
    /// Devices of members.
    pub devices: BTreeMap<DeviceId, MemberDevice>,
    /// Devices that take part no longer, with their people.
    pub former_devices: BTreeMap<DeviceId, PersonId>,
    /// Invites by key.
    pub invites: BTreeMap<InviteKey, Invite>,
    /// Channels by id.
    pub channels: BTreeMap<ChannelId, Channel>,
    /// Allotments by the change that carries them.
    pub allotments: BTreeMap<ChangeHash, Allotment>,
    /// Who vouches for whom, on what ground.
    pub vouches: BTreeMap<(PersonId, PersonId), VouchGround>,
    /// Removals that a person's next admission must lift, and whether one of
    /// them is a ban.
    pub removals: BTreeMap<PersonId, (Vec<ChangeHash>, bool)>,
    /// Devices whose feeds count up to a fence only: in which streams, and up
    /// to which segment and sequence number. Other streams of theirs are void.
    pub fences: BTreeMap<DeviceId, BTreeMap<Stream, (u32, u64)>>,
    /// Who was granted the history of which audience.
    pub granted: BTreeSet<(PersonId, Audience)>,
    /// Ids of the events that nobody has cited.
    pub heads: Vec<ChangeHash>,
}

impl CharterState {
    pub(super) fn of(charter: &Charter) -> Self {
        let view = charter.now();
        let at = view.at();
        let records = at.records;
        let mut state = Self {
            kind: records.kind,
            settings: current_settings(records),
            rules: records.rules.max(1),
            fences: charter.fences(),
            granted: records
                .grants
                .keys()
                .filter(|(person, audience)| at.is_member(person) && at.is_granted(person, audience))
                .copied()
                .collect(),
            heads: charter.heads(),
            ..Self::default()
        };
        state.add_people(&at);
        state.add_things(&at);
        state
    }

    fn add_people(&mut self, at: &At<'_>) {
        for (id, device) in &at.records.devices {
            if at.member_of(id) == Some(device.person) {
                let claims = &device.certificate.claims;
                let device = MemberDevice {
                    person: device.person,
                    name: claims.name.clone(),
                    sealing: claims.sealing,
                    recovery: claims.recovery,
                    serial: claims.serial,
                };
                self.devices.insert(*id, device);
            } else {
                self.former_devices.insert(*id, device.person);
            }
        }
        // Someone whose every admission was void may still have been removed.
        let people = at.records.people.iter().filter(|(_, person)| !person.admissions.0.is_empty());
        for (id, person) in people {
            let name = person.name.now().cloned().unwrap_or_default();
            let about = person.about.now().cloned().unwrap_or_default();
            let lifted = || person.admissions.0.iter().flat_map(|admission| &admission.value.lifts);
            let standing = person
                .removals
                .known(at.dag, at.past)
                .filter(|removal| !lifted().any(|lift| *lift == removal.by));
            let (mut removals, mut banned) = (Vec::new(), false);
            for removal in standing {
                removals.push(at.dag.node(removal.by).act.id);
                banned |= removal.value.ban.is_some();
            }
            let Some(role) = at.role(id) else {
                self.former.insert(*id, name);
                self.removals.insert(*id, (removals, banned));
                continue;
            };
            let Some(admission) = person.admissions.now() else { continue };
            let devices = person.devices.iter().filter(|device| self.devices.contains_key(device)).copied();
            let member = Member {
                name,
                about,
                role,
                trust: at.trust(id),
                admitted_by: admission.by,
                admitted_ms: admission.time_ms,
                devices: devices.collect(),
            };
            self.members.insert(*id, member);
        }
    }

    fn add_things(&mut self, at: &At<'_>) {
        let records = at.records;
        for (key, invite) in &records.invites {
            let invite = Invite {
                issuer: invite.issuer,
                uses: invite.uses,
                used: invite.used,
                expires_ms: invite.expires_ms,
                role: invite.role,
                trust: invite.trust,
                revoked: !invite.revoked.is_empty(),
            };
            self.invites.insert(*key, invite);
        }
        for (id, channel) in &records.channels {
            let (name, archived) = channel.about.now().cloned().unwrap_or_default();
            let people = channel
                .people
                .keys()
                .filter(|person| at.is_member(person) && at.is_in_closed(person, channel));
            let channel = Channel {
                name,
                archived,
                closed: channel.closed,
                guests: channel.guests,
                people: if channel.closed { people.copied().collect() } else { BTreeSet::new() },
            };
            self.channels.insert(*id, channel);
        }
        for (id, allotment) in &records.allotments {
            let allotment = Allotment {
                person: allotment.person,
                amount: allotment.amount,
                note: allotment.note.clone(),
            };
            self.allotments.insert(*id, allotment);
        }
        for (pair, history) in &records.vouches {
            let members = self.members.contains_key(&pair.0) && self.members.contains_key(&pair.1);
            let vouch = at.vouch(&pair.1, history).filter(|_| members);
            if let Some(ground) = vouch.and_then(|entry| entry.value) {
                self.vouches.insert(*pair, ground);
            }
        }
    }

    /// The community's name; empty until the founding event is there.
    pub fn name(&self) -> &str {
        self.settings.as_ref().map_or("", |settings| &settings.name)
    }

    /// The member whose device this is.
    pub fn person_of(&self, device: &DeviceId) -> Option<PersonId> {
        self.devices.get(device).map(|device| device.person)
    }

    /// Whether this device belongs to a member.
    pub fn is_member(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    /// A member's role, by device.
    pub fn role_of(&self, device: &DeviceId) -> Option<Role> {
        self.members.get(&self.person_of(device)?).map(|member| member.role)
    }

    /// The name of a person who is or was a member; the short id of others.
    pub fn person_name(&self, person: &PersonId) -> String {
        self.members
            .get(person)
            .map(|member| &member.name)
            .or_else(|| self.former.get(person))
            .map_or_else(|| person.to_string(), Clone::clone)
    }

    /// The name of a device's person; the short id of an unknown device.
    pub fn name_of(&self, device: &DeviceId) -> String {
        self.person_of(device)
            .or_else(|| self.former_devices.get(device).copied())
            .map_or_else(|| device.to_string(), |person| self.person_name(&person))
    }

    /// Whether this build knows the rules the community adopted. If not, it
    /// changes nothing of the charter.
    pub const fn knows_rules(&self) -> bool {
        self.rules <= RULES_VERSION
    }

    /// The canonical form of everything but the heads: what the state hash
    /// covers.
    pub fn encode(&self) -> Vec<u8> {
        let removals: Vec<_> =
            self.removals.iter().map(|(person, (acts, ban))| (person, acts, ban)).collect();
        let vouches: Vec<_> = self.vouches.iter().map(|((from, to), ground)| (from, to, ground)).collect();
        let fences: Vec<_> = self
            .fences
            .iter()
            .map(|(device, ends)| {
                (device, ends.iter().map(|(stream, end)| (stream, *end)).collect::<Vec<_>>())
            })
            .collect();
        let granted: Vec<_> = self.granted.iter().collect();
        codec::encode(&(
            (&self.kind, &self.settings, self.rules),
            (&self.members, &self.former, &self.devices, &self.former_devices),
            (&self.invites, &self.channels, &self.allotments),
            (vouches, removals, fences, granted),
        ))
    }
}

fn current_settings(records: &Records) -> Option<Settings> {
    let mut settings = records.founded.as_ref()?.1.clone();
    let changed: Vec<&Setting> = records.settings.values().filter_map(|history| history.now()).collect();
    for setting in changed {
        settings.set(setting);
    }
    Some(settings)
}
