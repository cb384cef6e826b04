//! Governance: who belongs to a community, and what they may do.
//!
//! Charter events cite the heads their authors knew, and so form a DAG.
//! [`Charter`] is a function of the *set* of these events: whatever order they
//! arrive in, every peer comes to one [`CharterState`]. The rules are in
//! `docs/design/governance.md`; they are judged in [`pass`], and removals that
//! cross each other are settled in [`fences`].
//!
//! Flow: [`community`](crate::community) inserts verified charter events here
//! first; ledger, talk and everything else then ask what their authors were
//! entitled to, [seen from](Charter::seen_from) the heads they cite. Never
//! here: anything sealed, any clock.

mod credit;
mod dag;
mod fences;
mod pass;
mod people;
pub mod relay;
pub mod role;
pub mod settings;
mod sound;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use dag::{Act, ActIx, Dag, Past};
use fences::Applied;
use pass::Pass;
use people::{At, Entry};

use crate::amount::Amount;
use crate::dispute::Disputes;
use crate::event::charter::VouchGround;
use crate::event::keys::Audience;
use crate::event::{CharterEvent, Event};
use crate::feed::{FeedId, Stream, VerifiedEvent};
use crate::id::{ChangeHash, CommunityId, DeviceId, PersonId};
use crate::moderation::Moderation;
use crate::trust::TrustLevel;

pub use dag::{ORPHANS_MAX, ORPHANS_PER_DEVICE_MAX};
pub use pass::Standing as ActStanding;
pub use relay::{Relay, RelayError};
pub use role::{Permission, Role};
pub use settings::{CommunityKind, Floors, Setting, Settings};
pub use sound::{Soundness, is_sound};
pub use state::{Allotment, Channel, CharterState, Invite, Member, MemberDevice};

/// The version of the rules that this build knows.
pub const RULES_VERSION: u32 = 1;
/// Most members of one community.
pub const MEMBERS_MAX: usize = 1_024;
/// Most devices one person may ever have had in a community.
pub const DEVICES_PER_PERSON_MAX: usize = 32;
/// Most channels of one community.
pub const CHANNELS_MAX: usize = 256;
/// Most invites of one community.
pub const INVITES_MAX: usize = 4_096;
/// Most allotments of one community.
pub const ALLOTMENTS_MAX: usize = 4_096;

/// What became of a charter event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It waits for events that its author knew.
    Waiting,
    /// It was judged.
    Judged(ActStanding),
}

/// All charter events of a community, and what they come to.
#[derive(Clone, Debug)]
pub struct Charter {
    community: CommunityId,
    sound: Soundness,
    dag: Dag,
    pass: Pass,
    applied: Vec<Applied>,
    /// The last act in the order that was judged.
    last: (u32, ChangeHash),
    /// Counts the times that something judged before may be judged otherwise.
    generation: u64,
}

impl Charter {
    /// A charter of which nothing is known yet but the community's id.
    pub fn new(community: CommunityId) -> Self {
        Self::verifying_with(community, is_sound)
    }

    /// A charter that takes another's word on the signatures inside events:
    /// for simulations of a million histories, where ed25519 would be most of
    /// the work.
    pub fn verifying_with(community: CommunityId, sound: Soundness) -> Self {
        Self {
            community,
            sound,
            dag: Dag::default(),
            pass: Pass::new(),
            applied: Vec::new(),
            last: (0, dag::NONE),
            generation: 0,
        }
    }

    /// Takes verified events of charter feeds, in any order; returns whether
    /// anything is known that was not before. Events of other feeds, and
    /// those that are here already, change nothing.
    ///
    /// Events that cannot be opened do not come here: they would take the
    /// place that they have once they can be.
    pub fn insert<'a>(&mut self, events: impl IntoIterator<Item = &'a VerifiedEvent>) -> bool {
        let mut ready = Vec::new();
        for event in events {
            if event.feed.stream == Stream::Charter && event.feed.community == self.community {
                ready.extend(self.dag.insert(self.act(event)));
            }
        }
        if ready.is_empty() {
            return false;
        }
        ready.sort_unstable_by_key(|number| self.dag.place_of(*number));
        self.judge(&ready);
        true
    }

    fn act(&self, event: &VerifiedEvent) -> Act {
        let body = match &event.event {
            Ok(Event::Charter(body)) => Some(body.clone()),
            _ => None,
        };
        let sound = body.as_ref().is_some_and(|body| (self.sound)(&self.community, body));
        Act {
            id: event.hash,
            device: event.feed.device,
            segment: event.feed.segment,
            seq: event.seq,
            previous: event.previous,
            heads: event.heads.clone(),
            time_ms: event.time_ms,
            founding: event.founding,
            event: body,
            sound,
        }
    }

    /// Judges acts that became ready, in their order: alone where they come
    /// after all others and none has to do with a fence, else everything anew.
    fn judge(&mut self, ready: &[ActIx]) {
        let appended = ready.first().is_some_and(|first| self.dag.place_of(*first) > self.last);
        if let Some(last) = ready.last() {
            self.last = self.last.max(self.dag.place_of(*last));
        }
        // Which fences apply, and in which turn, depends on all of them.
        if appended && !ready.iter().any(|number| pass::may_fence(&self.dag, *number)) {
            for number in ready {
                self.append(*number);
            }
            return;
        }
        self.generation += 1;
        (self.pass, self.applied) = fences::settle(&self.dag);
    }

    /// What would become of an act of `device` that cites all heads, without
    /// taking it: for whoever is about to write it.
    pub fn rehearse(&self, device: DeviceId, time_ms: i64, event: &CharterEvent) -> ActStanding {
        let act = Act {
            id: ChangeHash::from_bytes([0xff; 32]),
            device,
            // Beyond every fence, if there is one for this device.
            segment: u32::MAX,
            seq: u64::MAX,
            previous: dag::NONE,
            heads: self.dag.heads().into(),
            time_ms,
            founding: false,
            event: Some(event.clone()),
            sound: (self.sound)(&self.community, event),
        };
        let mut dag = self.dag.clone();
        let mut pass = self.pass.clone();
        match dag.insert(act).as_slice() {
            [number] => {
                pass.take(&dag, &self.applied, *number);
                pass.standings[*number as usize]
            }
            _ => ActStanding::NotEntitled,
        }
    }

    /// Changes whenever a fence, a proof, a verdict or a late act may have changed
    /// what was said before; mere growth leaves it as it is.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Judges the next act in the order, which changes nothing that was judged
    /// before but the state of a dispute, and what the ledger lets a device do
    /// that forked there.
    fn append(&mut self, number: ActIx) {
        self.pass.take(&self.dag, &self.applied, number);
        let event = &self.dag.node(number).act.event;
        if matches!(event, Some(CharterEvent::Dispute(_) | CharterEvent::EquivocationProven { .. })) {
            self.generation += 1;
        }
    }

    /// How many events of a device more may wait for their past. Whoever
    /// inserts defers what is beyond: it is fetched again later, nothing is
    /// lost.
    pub fn waiting_room(&self, device: &DeviceId) -> usize {
        self.dag.orphan_room(device)
    }

    /// Whether acts of other people than `author`'s wait for something that is
    /// not here, and whether for one of these: whoever wrote them has seen it.
    pub fn are_awaited(&self, acts: &BTreeSet<ChangeHash>, author: &DeviceId) -> (bool, bool) {
        let person = |device: &DeviceId| self.pass.records.devices.get(device).map(|record| record.person);
        let of_author = person(author);
        let is_other = |device: &DeviceId| person(device) != of_author && device != author;
        let mut waits = false;
        for cited in self.dag.awaited(is_other) {
            if acts.contains(cited) {
                return (true, true);
            }
            waits |= self.dag.find(cited).is_none() && !self.dag.is_orphan(cited);
        }
        (waits, false)
    }

    /// How many lines a device's ready acts form: one, unless it lied.
    pub fn lines_of(&self, device: &DeviceId) -> usize {
        self.dag.lines_of(device)
    }

    /// Ids of the events that nobody has cited: what a new event cites.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.dag.heads()
    }

    /// Number of events that are not waiting.
    pub fn len(&self) -> usize {
        self.dag.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.dag.len() == 0
    }

    /// What became of an event; `None` for one that never came.
    pub fn standing(&self, id: &ChangeHash) -> Option<Standing> {
        match self.dag.find(id) {
            Some(number) => {
                self.pass.standings.get(number as usize).map(|standing| Standing::Judged(*standing))
            }
            None => self.dag.is_orphan(id).then_some(Standing::Waiting),
        }
    }

    /// The state that all events reduce to.
    pub fn state(&self) -> CharterState {
        CharterState::of(self)
    }

    /// All disputes.
    pub const fn disputes(&self) -> &Disputes {
        &self.pass.disputes
    }

    /// What moderators did.
    pub const fn moderation(&self) -> &Moderation {
        &self.pass.moderation
    }

    /// Who vouches for whom among members, on what ground, and since when by
    /// the voucher's clock.
    pub fn vouches(&self) -> impl Iterator<Item = (PersonId, PersonId, VouchGround, i64)> + '_ {
        let now = self.now();
        self.pass.records.vouches.iter().filter_map(move |((from, to), history)| {
            let at = now.at();
            let entry = at.vouch(to, history).filter(|_| at.is_member(from) && at.is_member(to))?;
            let ground = entry.value?;
            Some((*from, *to, ground, self.dag.node(entry.by).act.time_ms))
        })
    }

    /// The point of view of someone who knows these heads and their past;
    /// `None` while one of them is not here.
    pub fn seen_from(&self, heads: &[ChangeHash]) -> Option<View<'_>> {
        Some(View { charter: self, past: self.dag.past_of(heads)? })
    }

    /// The point of view of this replica, now.
    pub fn now(&self) -> View<'_> {
        View { charter: self, past: Past::ALL }
    }

    /// Whether a change outside the charter lies beyond a fence: void,
    /// whatever it says.
    pub fn is_beyond_fence(&self, feed: &FeedId, seq: u64, hash: &ChangeHash) -> bool {
        !self.applied.is_empty()
            && fences::is_beyond(&self.dag, &self.pass.records, &self.applied, feed, seq, hash)
    }

    /// Acts whose fences apply, in the order in which they were applied.
    pub fn applied_order(&self) -> Vec<ChangeHash> {
        self.applied.iter().map(|fence| self.dag.node(fence.by).act.id).collect()
    }

    /// How far the feeds of fenced devices count.
    fn fences(&self) -> BTreeMap<DeviceId, BTreeMap<Stream, (u32, u64)>> {
        fences::limits(&self.dag, &self.pass.records, &self.applied)
    }

    /// Proofs that count, with the change that carries each, in the order.
    pub fn equivocations(&self) -> impl Iterator<Item = (ChangeHash, &CharterEvent)> {
        self.pass.records.proofs.iter().filter_map(|number| {
            let act = &self.dag.node(*number).act;
            Some((act.id, act.event.as_ref()?))
        })
    }
}

/// What people were entitled to, seen from some heads of the charter.
#[derive(Clone, Debug)]
pub struct View<'a> {
    charter: &'a Charter,
    past: Past,
}

impl View<'_> {
    fn at(&self) -> At<'_> {
        At { dag: &self.charter.dag, records: &self.charter.pass.records, past: &self.past }
    }

    /// Whether the event is part of what is known here.
    pub fn knows(&self, act: &ChangeHash) -> bool {
        self.charter.dag.find(act).is_some_and(|act| self.at().knows(act))
    }

    /// Whether everything known to `other` that takes rights to read away
    /// (removals, revocations, a lower role, leaving a channel) is known here.
    pub fn reflects_removals_known_to(&self, other: &View<'_>) -> bool {
        let records = &self.charter.pass.records;
        let is_reflected = |act: ActIx| self.at().knows(act) || !other.at().knows(act);
        records.people.values().all(|person| {
            person.removals.0.iter().all(|entry| self.reflects(other, entry))
                && person
                    .roles
                    .0
                    .windows(2)
                    .filter(|two| two[1].value < two[0].value)
                    .all(|two| self.reflects(other, &two[1]))
        }) && records.endings().all(is_reflected)
            && records.channels.values().all(|channel| {
                let entries = channel.people.values().flat_map(|history| &history.0);
                entries.filter(|entry| !entry.value).all(|entry| is_reflected(entry.by))
            })
    }

    /// Whether this view knows the entry if the other does. What takes several
    /// is there once enough signatures are.
    fn reflects<T>(&self, other: &View<'_>, entry: &Entry<T>) -> bool {
        let dag = &self.charter.dag;
        entry.is_known(dag, &self.past) || !entry.is_known(dag, &other.past)
    }

    /// The member whose device this is.
    pub fn member_of(&self, device: &DeviceId) -> Option<PersonId> {
        self.at().member_of(device)
    }

    /// Whether this was a member's device and is so no longer.
    pub fn is_former(&self, device: &DeviceId) -> bool {
        let record = self.charter.pass.records.devices.get(device);
        record.is_some_and(|record| self.at().knows(record.enrolled)) && self.member_of(device).is_none()
    }

    /// The person whose device this is or was.
    pub fn ever_of(&self, device: &DeviceId) -> Option<PersonId> {
        self.charter.pass.records.devices.get(device).map(|device| device.person)
    }

    /// The place of a person's first coming in the order: whose is lower is
    /// the more senior.
    pub fn seniority(&self, person: &PersonId) -> Option<(u32, ChangeHash)> {
        let person = self.charter.pass.records.people.get(person)?;
        person.admissions.0.first().map(|entry| self.charter.dag.place_of(entry.by))
    }

    /// The place of a device's enrolment in the order.
    pub fn enrolment(&self, device: &DeviceId) -> Option<(u32, ChangeHash)> {
        self.at().enrolment(device)
    }

    /// A member's role.
    pub fn role(&self, person: &PersonId) -> Option<Role> {
        self.at().role(person)
    }

    /// Whether a person has a permission.
    pub fn may(&self, person: &PersonId, permission: Permission) -> bool {
        self.at().may(person, permission)
    }

    /// How far the community trusts a person.
    pub fn trust(&self, person: &PersonId) -> TrustLevel {
        self.at().trust(person)
    }

    /// Whether a person reads what the audience is sealed to.
    pub fn reads(&self, person: &PersonId, audience: &Audience) -> bool {
        self.at().reads(person, audience)
    }

    /// Whether only people who were added read the audience.
    pub fn is_closed(&self, audience: &Audience) -> bool {
        match audience {
            Audience::Channel(channel) => {
                self.charter.pass.records.channels.get(channel).is_some_and(|channel| channel.closed)
            }
            Audience::Governance | Audience::Members => false,
            Audience::Direct(_) | Audience::Moderators => true,
        }
    }

    /// Whether newcomers read what was written before they came.
    pub fn open_history(&self) -> bool {
        self.at().open_history()
    }

    /// Whether a person was granted an audience's history.
    pub fn is_granted(&self, person: &PersonId, audience: &Audience) -> bool {
        self.at().is_granted(person, audience)
    }

    /// Whether the device writes in a stream: talk, boards, machines.
    pub fn may_write(&self, device: &DeviceId, stream: &Stream) -> bool {
        let at = self.at();
        let Some(person) = at.member_of(device) else { return false };
        let Some(role) = at.role(&person) else { return false };
        match stream {
            Stream::Charter | Stream::Keys => true,
            Stream::Ledger | Stream::Cluster | Stream::Library => role.may(Permission::Share),
            Stream::Moderation => role >= Role::Member,
            Stream::Board(_) => role.may(Permission::Write),
            // Its readers are the members: all of them one's own devices.
            Stream::Private => at.is_private() && role.may(Permission::Write),
            Stream::Channel(channel) => at.reads(&person, &Audience::Channel(*channel)),
            Stream::Direct(_) => role >= Role::Guest,
        }
    }

    /// The device with the person's credit line.
    pub fn line_holder(&self, person: &PersonId) -> Option<DeviceId> {
        self.at().line_holder(person)
    }

    /// The lowest balance a person may reach.
    pub fn floor(&self, person: &PersonId) -> Amount {
        self.at().floors().map_or(Amount::ZERO, |floors| floors.at(self.trust(person)))
    }

    /// The lowest balance of the community's account.
    pub fn community_floor(&self) -> Amount {
        self.at().community_floor()
    }

    /// Whom an allotment that counts is for, and how much it is.
    pub fn allotment(&self, id: &ChangeHash) -> Option<(PersonId, Amount)> {
        let allotment = self.charter.pass.records.allotments.get(id)?;
        self.at().knows(allotment.by).then_some((allotment.person, allotment.amount))
    }

    /// Sealing keys of everyone who reads an audience: devices and recovery
    /// keys, each with its person, in order.
    pub fn recipients(&self, audience: &Audience) -> BTreeMap<crate::id::SealingPublicKey, PersonId> {
        let at = self.at();
        let mut recipients = BTreeMap::new();
        for (device, record) in &self.charter.pass.records.devices {
            if at.member_of(device) == Some(record.person) && at.reads(&record.person, audience) {
                recipients.insert(record.certificate.claims.sealing, record.person);
                recipients.insert(record.certificate.claims.recovery, record.person);
            }
        }
        recipients
    }
}
