//! One pass over the acts in their order: judges each and takes its effect.
//!
//! A pass knows which fences are applied; which ones should be is found by
//! [`super::fences`], which runs passes until nothing changes. The rules are
//! those of `docs/design/governance.md` §3 and §4.

mod admission;
mod devices;
mod people;
mod things;

use std::collections::{BTreeMap, BTreeSet};

use super::dag::{ActIx, Dag, Node, Past};
use super::fences::Applied;
use super::people::{At, Entry, Needs, Records};
use super::role::{Permission, Role};
use crate::dispute::{DisputeContext, Disputes};
use crate::event::CharterEvent;
use crate::event::charter::{NOTE_BYTES_MAX, PROOF_SETTLED_MAX};
use crate::feed::Stream;
use crate::id::{ChangeHash, PersonId};
use crate::moderation::Moderation;
use crate::text::is_clean_message;

/// What became of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It counts.
    Counts,
    /// It counts once enough others sign it too.
    Unsigned,
    /// It lies beyond a fence, or where its device's line parts.
    Void,
    /// Its author had no right to it, or it is malformed.
    NotEntitled,
    /// Its place was taken by an act before it in the order.
    Lost,
}

/// An act that takes several: who may sign it, and where its entry is.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    rank: Role,
    /// Who cannot sign it: its author, and whoever it is against.
    never: [PersonId; 2],
    /// Who can, where not everyone of the rank.
    among: Option<BTreeSet<PersonId>>,
    subject: PersonId,
    of_role: bool,
}

/// The state of one pass.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) records: Records,
    pub(super) standings: Vec<Standing>,
    pub(super) disputes: Disputes,
    pub(super) moderation: Moderation,
    /// Acts that carry a fence.
    pub(super) fencing: Vec<ActIx>,
    pub(super) pending: BTreeMap<ActIx, Pending>,
}

/// The author of an act, as entitled as they were when they wrote it.
#[derive(Clone, Copy)]
struct Author {
    person: PersonId,
    role: Role,
}

/// What an act comes to, before it is noted: `Ok` once its effect is taken.
type Judged = Result<Standing, Standing>;

impl Pass {
    pub(super) fn new() -> Self {
        Self {
            records: Records::default(),
            standings: Vec::new(),
            disputes: Disputes::default(),
            moderation: Moderation::default(),
            fencing: Vec::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Judges the act, the next in the order, and takes its effect.
    pub(super) fn take(&mut self, dag: &Dag, applied: &[Applied], number: ActIx) {
        let standing = if let Some(fence) = applied.iter().find(|fence| fence.by == number) {
            fence.take_effect(&mut self.records);
            if let Some(pending) = &fence.pending {
                self.pending.insert(number, pending.clone());
            }
            Standing::Counts
        } else if super::fences::is_void(dag, &self.records, applied, number) {
            Standing::Void
        } else {
            self.judge(dag, number).unwrap_or_else(|standing| standing)
        };
        let index = number as usize;
        if self.standings.len() <= index {
            self.standings.resize(index + 1, Standing::NotEntitled);
        }
        self.standings[index] = standing;
        self.log_removal(dag, number);
        if carries_fence(dag, number) && matches!(standing, Standing::Counts | Standing::Unsigned) {
            self.fencing.push(number);
        }
    }

    /// Removals that count are acts of moderation too.
    fn log_removal(&mut self, dag: &Dag, number: ActIx) {
        let act = &dag.node(number).act;
        let Some(event @ CharterEvent::Removed { .. }) = &act.event else { return };
        if self.standings[number as usize] == Standing::Counts
            && let Some(author) = self.records.devices.get(&act.device).map(|device| device.person)
            && let Err(fault) = self.moderation.apply(act.id, author, act.time_ms, event)
        {
            debug_assert!(false, "a removal is always logged: {fault}");
        }
    }

    fn judge(&mut self, dag: &Dag, number: ActIx) -> Judged {
        let node = dag.node(number);
        let event = node.act.event.as_ref().filter(|_| node.act.sound).ok_or(Standing::NotEntitled)?;
        if let CharterEvent::Founded { .. } = event {
            return self.found(node, number, event);
        }
        let at = At { dag, records: &self.records, past: &node.past };
        let person = at.member_of(&node.act.device).ok_or(Standing::NotEntitled)?;
        let role = at.role(&person).ok_or(Standing::NotEntitled)?;
        let author = Author { person, role };
        if role == Role::Keeper && !matches!(event, CharterEvent::Left { .. }) {
            return Err(Standing::NotEntitled);
        }
        match event {
            CharterEvent::Founded { .. } => Err(Standing::NotEntitled),
            CharterEvent::InviteIssued { .. } | CharterEvent::InviteRevoked { .. } => {
                self.invite(dag, number, author, event)
            }
            CharterEvent::Admitted { .. } => self.admit(dag, number, author, event),
            CharterEvent::Left { fence } => self.leave(number, author, fence),
            CharterEvent::Removed { .. } => self.remove(dag, number, author, event),
            CharterEvent::CoSigned { act } => self.co_sign(dag, number, author, act),
            CharterEvent::RoleSet { person, role } => self.set_role(dag, number, author, *person, *role),
            CharterEvent::TrustSet { person, level } => self.set_trust(dag, number, author, *person, *level),
            CharterEvent::DeviceAdded { certificate } => self.add_device(dag, number, author, certificate),
            CharterEvent::DeviceRevoked { .. } => self.revoke_device(dag, number, author, event),
            CharterEvent::EquivocationProven { proof, fence, settled } => {
                entitled(settled.len() <= PROOF_SETTLED_MAX)?;
                self.prove_equivocation(dag, number, proof, fence)
            }
            CharterEvent::ProfileSet { name, about } => self.set_profile(number, author, name, about),
            CharterEvent::Vouched { person, ground } => {
                self.vouch(dag, number, author, *person, Some(*ground))
            }
            CharterEvent::VouchWithdrawn { person } => self.vouch(dag, number, author, *person, None),
            CharterEvent::SettingChanged { .. }
            | CharterEvent::RulesAdopted { .. }
            | CharterEvent::HistoryGranted { .. }
            | CharterEvent::Allotted { .. } => self.decide_for_all(dag, number, author, event),
            CharterEvent::ChannelCreated { .. }
            | CharterEvent::ChannelChanged { .. }
            | CharterEvent::ChannelPeople { .. } => self.channel(dag, number, author, event),
            CharterEvent::MessageHidden { .. } | CharterEvent::ReportDecided { .. } => {
                self.moderate(dag, number, author, event)
            }
            CharterEvent::Dispute(step) => {
                let at = At { dag, records: &self.records, past: &node.past };
                let context = StepContext { at };
                match self.disputes.apply(node.act.id, author.person, step, &context) {
                    Ok(()) => Ok(Standing::Counts),
                    Err(_) => Err(Standing::NotEntitled),
                }
            }
        }
    }

    /// What the author of an act knew.
    fn at<'a>(&'a self, dag: &'a Dag, number: ActIx) -> At<'a> {
        At { dag, records: &self.records, past: &dag.node(number).past }
    }

    /// What is known after all acts so far.
    fn now<'a>(&'a self, dag: &'a Dag) -> At<'a> {
        At { dag, records: &self.records, past: &Past::ALL }
    }

    /// A further person of the right rank agrees to an act.
    fn co_sign(&mut self, dag: &Dag, number: ActIx, author: Author, act: &ChangeHash) -> Judged {
        let target = dag.find(act).filter(|target| dag.knows(&dag.node(number).past, *target));
        let target = target.ok_or(Standing::NotEntitled)?;
        let pending = self.pending.get(&target).ok_or(Standing::NotEntitled)?;
        entitled(
            author.role == pending.rank
                && !pending.never.contains(&author.person)
                && pending.among.as_ref().is_none_or(|among| among.contains(&author.person)),
        )?;
        let person = self.records.people.get_mut(&pending.subject).ok_or(Standing::NotEntitled)?;
        let needs = if pending.of_role {
            person.roles.0.iter_mut().find(|entry| entry.by == target).map(|entry| &mut entry.needs)
        } else {
            person.removals.0.iter_mut().find(|entry| entry.by == target).map(|entry| &mut entry.needs)
        };
        let needs = needs.ok_or(Standing::NotEntitled)?;
        if !needs.signers.contains(&(number, author.person)) {
            needs.signers.push((number, author.person));
        }
        // The order puts the act before its signatures.
        if needs.are_met(|_| true) && self.standings[target as usize] == Standing::Unsigned {
            self.standings[target as usize] = Standing::Counts;
            self.log_removal(dag, target);
        }
        Ok(Standing::Counts)
    }

    /// Notes that an act waits for `count` further signatures.
    fn await_signatures(&mut self, number: ActIx, count: usize, pending: Pending) -> Standing {
        self.pending.insert(number, pending);
        if count == 0 { Standing::Counts } else { Standing::Unsigned }
    }
}

/// Whether an act carries a fence, or may complete one.
pub(super) fn may_fence(dag: &Dag, number: ActIx) -> bool {
    carries_fence(dag, number) || matches!(dag.node(number).act.event, Some(CharterEvent::CoSigned { .. }))
}

/// Whether an act's fence cuts the charter. Proofs of other forks bar from
/// spending, or mark messages.
fn carries_fence(dag: &Dag, number: ActIx) -> bool {
    match &dag.node(number).act.event {
        Some(
            CharterEvent::Removed { .. } | CharterEvent::Left { .. } | CharterEvent::DeviceRevoked { .. },
        ) => true,
        Some(CharterEvent::EquivocationProven { proof, .. }) => proof.feed().stream == Stream::Charter,
        _ => false,
    }
}

/// An entry that waits for `count` signatures.
fn entry<T>(by: ActIx, count: usize, value: T) -> Entry<T> {
    Entry { by, needs: Needs { count, signers: Vec::new() }, value }
}

/// Signatures besides the author's for an act among equals, of whom there are
/// `n`: a majority of those it is not about; for owners two at least.
fn further_signatures(n: usize, rank: Role) -> usize {
    let majority = n.saturating_sub(1) / 2 + 1;
    let needed = if rank == Role::Owner { majority.max(2) } else { majority };
    needed - 1
}

const fn entitled(condition: bool) -> Result<(), Standing> {
    if condition { Ok(()) } else { Err(Standing::NotEntitled) }
}

const fn not_lost(condition: bool) -> Result<(), Standing> {
    if condition { Ok(()) } else { Err(Standing::Lost) }
}

/// A reason or note within its limits; may be empty.
fn is_note(text: &str) -> bool {
    text.len() <= NOTE_BYTES_MAX && (text.is_empty() || is_clean_message(text))
}

/// What a step of a dispute may ask of the charter.
struct StepContext<'a> {
    at: At<'a>,
}

impl DisputeContext for StepContext<'_> {
    fn role(&self, person: PersonId) -> Option<Role> {
        self.at.role(&person)
    }

    fn knew(&self, event: ChangeHash) -> bool {
        self.at.dag.find(&event).is_some_and(|act| self.at.knows(act))
    }

    fn jurors_at(&self, event: ChangeHash) -> Vec<PersonId> {
        self.people_at(event, |role| role.may(Permission::Judge))
    }

    fn owners_at(&self, event: ChangeHash) -> Vec<PersonId> {
        self.people_at(event, |role| role == Role::Owner)
    }
}

impl StepContext<'_> {
    fn people_at(&self, event: ChangeHash, wanted: impl Fn(Role) -> bool) -> Vec<PersonId> {
        let Some(past) = self.at.dag.past_of(&[event]) else { return Vec::new() };
        let at = At { past: &past, ..self.at };
        let people = at.records.people.keys();
        people.filter(|person| at.role(person).is_some_and(&wanted)).copied().collect()
    }
}

/// The founder's own act: there is one, and nothing comes before it.
impl Pass {
    fn found(&mut self, node: &Node, number: ActIx, event: &CharterEvent) -> Judged {
        let CharterEvent::Founded { kind, founder, founder_name, settings, .. } = event else {
            return Err(Standing::NotEntitled);
        };
        entitled(
            node.act.founding
                && node.act.seq == 1
                && node.act.segment == 0
                && node.act.heads.is_empty()
                && founder.claims.device == node.act.device
                && self.records.founded.is_none()
                && settings.is_usable()
                && crate::text::is_clean_name(founder_name),
        )?;
        self.records.founded = Some((number, settings.clone()));
        self.records.kind = Some(*kind);
        self.come(number, node.act.time_ms, founder, founder_name, founder.claims.person, Vec::new());
        self.give(number, founder.claims.person, Role::Owner, crate::trust::TrustLevel::Friends);
        Ok(Standing::Counts)
    }
}
