//! What is known of people, devices, invites, channels and settings, seen
//! from any point of the charter.
//!
//! Everything is kept as a history of the counting acts that wrote it, in the
//! order. "At `e`" is the last entry that `e` knows; "now" is the last of all.

use std::collections::{BTreeMap, BTreeSet};

use crate::amount::Amount;
use crate::certificate::DeviceCertificate;
use crate::charter::dag::{ActIx, Dag, Past};
use crate::charter::role::{Permission, Role};
use crate::charter::settings::{CommunityKind, Floors, Setting, Settings};
use crate::event::charter::VouchGround;
use crate::event::keys::Audience;
use crate::id::{ChangeHash, ChannelId, DeviceId, InviteKey, PersonId};
use crate::trust::TrustLevel;

/// Signatures an act needs besides its author's, and those that came.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    pub(super) count: usize,
    pub(super) signers: Vec<(ActIx, PersonId)>,
}

impl Needs {
    /// Whether enough different people signed, going by signatures that
    /// `is_known`.
    pub(super) fn are_met(&self, is_known: impl Fn(ActIx) -> bool) -> bool {
        if self.count == 0 {
            return true;
        }
        let known = self.signers.iter().filter(|(by, _)| is_known(*by));
        known.map(|(_, person)| person).collect::<BTreeSet<_>>().len() >= self.count
    }
}

/// One written value: by which act, once it has the signatures it needs.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub(super) by: ActIx,
    pub(super) needs: Needs,
    pub(super) value: T,
}

impl<T> Entry<T> {
    /// Whether someone with this past knows the entry, and enough signatures.
    pub(super) fn is_known(&self, dag: &Dag, past: &Past) -> bool {
        dag.knows(past, self.by) && self.needs.are_met(|by| dag.knows(past, by))
    }
}

/// All values that one thing had.
#[derive(Clone, Debug)]
pub(super) struct History<T>(pub(super) Vec<Entry<T>>);

impl<T> Default for History<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> History<T> {
    /// Writes a value; acts come in their order.
    pub(super) fn push(&mut self, by: ActIx, value: T) {
        self.0.push(Entry { by, needs: Needs::default(), value });
    }

    /// The value for someone with this past.
    pub(super) fn at(&self, dag: &Dag, past: &Past) -> Option<&T> {
        self.0.iter().rfind(|entry| entry.is_known(dag, past)).map(|entry| &entry.value)
    }

    /// The entries someone with this past knows, in the order.
    pub(super) fn known<'a>(
        &'a self,
        dag: &'a Dag,
        past: &'a Past,
    ) -> impl DoubleEndedIterator<Item = &'a Entry<T>> {
        self.0.iter().filter(move |entry| entry.is_known(dag, past))
    }

    pub(super) fn now(&self) -> Option<&T> {
        self.0.iter().rfind(|entry| entry.needs.are_met(|_| true)).map(|entry| &entry.value)
    }
}

/// One coming of a person.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) by: PersonId,
    pub(super) time_ms: i64,
    pub(super) lifts: Vec<ActIx>,
}

/// One going of a person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    /// Rank of the author at a ban; none for what anyone may lift.
    pub(super) ban: Option<Role>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    pub(super) admissions: History<Admission>,
    pub(super) removals: History<Removal>,
    pub(super) roles: History<Role>,
    pub(super) trust: History<TrustLevel>,
    pub(super) name: History<String>,
    pub(super) about: History<String>,
    pub(super) devices: BTreeSet<DeviceId>,
}

#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) person: PersonId,
    pub(super) certificate: DeviceCertificate,
    pub(super) enrolled: ActIx,
}

#[derive(Clone, Debug)]
pub(super) struct Invite {
    pub(super) issued: ActIx,
    pub(super) issuer: PersonId,
    pub(super) uses: u32,
    pub(super) used: u32,
    pub(super) expires_ms: i64,
    pub(super) role: Role,
    pub(super) trust: TrustLevel,
    pub(super) revoked: Vec<ActIx>,
}

#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) created: ActIx,
    pub(super) about: History<(String, bool)>,
    pub(super) closed: bool,
    pub(super) guests: bool,
    pub(super) people: BTreeMap<PersonId, History<bool>>,
}

#[derive(Clone, Debug)]
pub(super) struct Allotment {
    pub(super) by: ActIx,
    pub(super) person: PersonId,
    pub(super) amount: Amount,
    pub(super) note: String,
}

/// Everything that counting acts wrote.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) founded: Option<(ActIx, Settings)>,
    /// Once founded.
    pub(super) kind: Option<CommunityKind>,
    pub(super) people: BTreeMap<PersonId, Person>,
    pub(super) devices: BTreeMap<DeviceId, Device>,
    /// Revocations and proofs of a charter fork, by device: also of one whose
    /// enrolment turned out void, and that may be enrolled again.
    ended: BTreeMap<DeviceId, Vec<ActIx>>,
    pub(super) invites: BTreeMap<InviteKey, Invite>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    pub(super) settings: BTreeMap<u8, History<Setting>>,
    pub(super) allotments: BTreeMap<ChangeHash, Allotment>,
    pub(super) vouches: BTreeMap<(PersonId, PersonId), History<Option<VouchGround>>>,
    pub(super) grants: BTreeMap<(PersonId, Audience), History<()>>,
    pub(super) rules: u32,
    /// Proofs of forks that count, in the order.
    pub(super) proofs: Vec<ActIx>,
}

impl Records {
    /// Ends a device's part in the community for whoever knows `by`.
    pub(super) fn end_device(&mut self, device: DeviceId, by: ActIx) {
        self.ended.entry(device).or_default().push(by);
    }

    /// The acts that ended a device's part, in the order.
    pub(super) fn endings_of(&self, device: &DeviceId) -> &[ActIx] {
        self.ended.get(device).map_or(&[], Vec::as_slice)
    }

    /// The acts that ended any device's part.
    pub(super) fn endings(&self) -> impl Iterator<Item = ActIx> + '_ {
        self.ended.values().flatten().copied()
    }
}

/// A point of view on the records.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) dag: &'a Dag,
    pub(super) records: &'a Records,
    pub(super) past: &'a Past,
}

impl At<'_> {
    pub(super) fn knows(&self, act: ActIx) -> bool {
        self.dag.knows(self.past, act)
    }

    /// Whose device this is: enrolled, not revoked, and not gone with its
    /// person in a removal that its enrolment did not know of. (Who comes back
    /// comes with new devices.)
    pub(super) fn person_of(&self, device: &DeviceId) -> Option<PersonId> {
        let record = self.records.devices.get(device)?;
        if !self.knows(record.enrolled) || self.records.endings_of(device).iter().any(|act| self.knows(*act))
        {
            return None;
        }
        let person = self.records.people.get(&record.person)?;
        let when_enrolled = &self.dag.node(record.enrolled).past;
        let mut removals = person.removals.known(self.dag, self.past);
        removals.all(|removal| self.dag.knows(when_enrolled, removal.by)).then_some(record.person)
    }

    /// The member whose device this is.
    pub(super) fn member_of(&self, device: &DeviceId) -> Option<PersonId> {
        self.person_of(device).filter(|person| self.is_member(person))
    }

    /// Whether the person came, and no going of theirs is left standing.
    pub(super) fn is_member(&self, person: &PersonId) -> bool {
        let Some(person) = self.records.people.get(person) else { return false };
        let admissions = || person.admissions.known(self.dag, self.past);
        admissions().next().is_some()
            && person
                .removals
                .known(self.dag, self.past)
                .all(|removal| admissions().any(|admission| admission.value.lifts.contains(&removal.by)))
    }

    pub(super) fn role(&self, person: &PersonId) -> Option<Role> {
        if !self.is_member(person) {
            return None;
        }
        let record = self.records.people.get(person)?;
        self.since_admission(record, &record.roles).copied()
    }

    /// The last value written in knowledge of the person's last coming: what
    /// was said of them before they left does not come back with them.
    fn since_admission<'a, T>(&self, person: &Person, history: &'a History<T>) -> Option<&'a T> {
        self.last_since_admission(person, history).map(|entry| &entry.value)
    }

    fn last_since_admission<'a, T>(&self, person: &Person, history: &'a History<T>) -> Option<&'a Entry<T>> {
        let came = person.admissions.0.iter().rfind(|entry| entry.is_known(self.dag, self.past))?.by;
        history
            .0
            .iter()
            .rfind(|entry| entry.is_known(self.dag, self.past) && self.is_of_admission(entry.by, came))
    }

    fn is_of_admission(&self, act: ActIx, came: ActIx) -> bool {
        act == came || self.dag.knows(&self.dag.node(act).past, came)
    }

    pub(super) fn trust(&self, person: &PersonId) -> TrustLevel {
        self.records
            .people
            .get(person)
            .and_then(|record| self.since_admission(record, &record.trust))
            .copied()
            .unwrap_or(TrustLevel::Public)
    }

    pub(super) fn may(&self, person: &PersonId, permission: Permission) -> bool {
        self.role(person).is_some_and(|role| {
            role.may(permission)
                || (permission == Permission::Invite && role == Role::Member && self.members_invite())
        })
    }

    /// Whether it is one person's own community.
    pub(super) fn is_private(&self) -> bool {
        self.records.kind == Some(CommunityKind::Private)
    }

    /// Members of this rank.
    pub(super) fn people_of_rank(&self, role: Role) -> impl Iterator<Item = PersonId> + '_ {
        self.records.people.keys().filter(move |person| self.role(person) == Some(role)).copied()
    }

    /// How many there are.
    pub(super) fn of_rank(&self, role: Role) -> usize {
        self.people_of_rank(role).count()
    }

    /// The highest rank that somebody has.
    pub(super) fn highest_rank(&self) -> Option<Role> {
        self.records.people.keys().filter_map(|person| self.role(person)).max()
    }

    fn members_invite(&self) -> bool {
        match self.setting(&Setting::MembersInvite(false)) {
            Some(Setting::MembersInvite(may)) => *may,
            _ => self.records.founded.as_ref().is_some_and(|(_, settings)| settings.members_invite),
        }
    }

    pub(super) fn floors(&self) -> Option<Floors> {
        let founded = self.records.founded.as_ref()?.1.floors;
        let zero = Floors { public: Amount::ZERO, known: Amount::ZERO, friends: Amount::ZERO };
        Some(match self.setting(&Setting::Floors(zero)) {
            Some(Setting::Floors(floors)) => *floors,
            _ => founded,
        })
    }

    pub(super) fn community_floor(&self) -> Amount {
        match self.setting(&Setting::CommunityFloor(Amount::ZERO)) {
            Some(Setting::CommunityFloor(floor)) => *floor,
            _ => self.records.founded.as_ref().map_or(Amount::ZERO, |(_, founded)| founded.community_floor),
        }
    }

    pub(super) fn open_history(&self) -> bool {
        match self.setting(&Setting::OpenHistory(false)) {
            Some(Setting::OpenHistory(open)) => *open,
            _ => self.records.founded.as_ref().is_some_and(|(_, founded)| founded.open_history),
        }
    }

    fn setting(&self, kind: &Setting) -> Option<&Setting> {
        self.records.settings.get(&kind.number())?.at(self.dag, self.past)
    }

    /// The place of a device's enrolment in the order.
    pub(super) fn enrolment(&self, device: &DeviceId) -> Option<(u32, ChangeHash)> {
        self.records.devices.get(device).map(|record| self.dag.place_of(record.enrolled))
    }

    /// Whether the person was added to a closed channel since they came.
    pub(super) fn is_in_closed(&self, person: &PersonId, channel: &Channel) -> bool {
        let Some(record) = self.records.people.get(person) else { return false };
        let added = channel.people.get(person);
        added.and_then(|history| self.since_admission(record, history)) == Some(&true)
    }

    /// Whether the person was granted the audience's history since they came.
    pub(super) fn is_granted(&self, person: &PersonId, audience: &Audience) -> bool {
        let granted = self.records.grants.get(&(*person, *audience));
        let record = self.records.people.get(person);
        granted.zip(record).is_some_and(|(granted, record)| self.since_admission(record, granted).is_some())
    }

    /// What one person vouches for another for: said since that one came.
    pub(super) fn vouch<'a>(
        &self,
        to: &PersonId,
        history: &'a History<Option<VouchGround>>,
    ) -> Option<&'a Entry<Option<VouchGround>>> {
        let record = self.records.people.get(to)?;
        self.last_since_admission(record, history).filter(|entry| entry.value.is_some())
    }

    /// Whether the person reads what this audience is sealed to. A direct
    /// conversation's people are known to themselves only.
    pub(super) fn reads(&self, person: &PersonId, audience: &Audience) -> bool {
        let Some(role) = self.role(person) else { return false };
        match audience {
            Audience::Governance => role >= Role::Guest,
            Audience::Members => role >= Role::Member,
            Audience::Moderators => role >= Role::Moderator,
            Audience::Channel(channel) => self.records.channels.get(channel).is_some_and(|channel| {
                self.knows(channel.created)
                    && (role >= Role::Member || (role == Role::Guest && channel.guests))
                    && (!channel.closed || self.is_in_closed(person, channel))
            }),
            Audience::Direct(_) => role >= Role::Guest,
        }
    }
}
