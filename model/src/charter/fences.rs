//! Fences at work: what is void, and which fences are applied.
//!
//! See `docs/design/governance.md` §5. Acts that carry a fence (removals,
//! leavings, revocations, proofs) can void each other where they are
//! concurrent. They are applied one by one, by seniority, and everything is
//! judged again in between, until nothing that counts is left to apply.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::dag::{ActIx, Dag, Past};
use super::pass::{Pass, Pending, Standing};
use super::people::{At, Device, Entry, Records, Removal};
use super::role::Role;
use crate::event::CharterEvent;
use crate::feed::equivocation::EquivocationProof;
use crate::feed::fence::{Fence, FenceEntry};
use crate::feed::{FeedId, Stream};
use crate::id::{ChangeHash, DeviceId, PersonId};

/// Whose feeds a fence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// All devices a person had when its author wrote it.
    Person(PersonId),
    /// One device, in all streams.
    Device(DeviceId),
    /// One device that forked its charter feed, from the fork on.
    Fork {
        device: DeviceId,
        /// Segment and sequence number at which its line parts.
        place: (u32, u64),
    },
}

/// What the act does besides fencing.
#[derive(Clone, Debug)]
enum Effect {
    /// With the signatures it had.
    Remove(PersonId, Entry<Removal>),
    End(DeviceId),
    /// A proof, which also suspends.
    Suspend(DeviceId),
}

/// A fence that was applied.
#[derive(Clone, Debug)]
pub(super) struct Applied {
    pub(super) by: ActIx,
    pub(super) subject: Subject,
    pub(super) fence: Fence,
    effect: Effect,
    /// Who may sign it further, where it took several.
    pub(super) pending: Option<Pending>,
}

impl Applied {
    fn new(dag: &Dag, pass: &Pass, number: ActIx) -> Option<Self> {
        let records = &pass.records;
        let at = At { dag, records, past: &dag.node(number).past };
        let removal_of = |person: &PersonId| {
            let entries = &records.people.get(person)?.removals.0;
            entries.iter().find(|entry| entry.by == number).cloned()
        };
        let act = &dag.node(number).act;
        let (subject, fence, effect) = match act.event.as_ref()? {
            CharterEvent::Removed { person, fence, .. } => {
                (Subject::Person(*person), fence, Effect::Remove(*person, removal_of(person)?))
            }
            CharterEvent::Left { fence } => {
                let author = at.member_of(&act.device)?;
                (Subject::Person(author), fence, Effect::Remove(author, removal_of(&author)?))
            }
            CharterEvent::DeviceRevoked { device, fence, .. } => {
                (Subject::Device(*device), fence, Effect::End(*device))
            }
            CharterEvent::EquivocationProven { proof, fence, .. } => {
                let device = proof.feed().device;
                (Subject::Fork { device, place: fork_place(proof) }, fence, Effect::Suspend(device))
            }
            _ => return None,
        };
        let pending = pass.pending.get(&number).cloned();
        Some(Self { by: number, subject, fence: fence.clone(), effect, pending })
    }

    /// Takes the effect that was there when it was applied, whatever became
    /// of its author since.
    pub(super) fn take_effect(&self, records: &mut Records) {
        match &self.effect {
            Effect::Remove(person, entry) => {
                records.people.entry(*person).or_default().removals.0.push(entry.clone());
            }
            Effect::End(device) => records.end_device(*device, self.by),
            Effect::Suspend(device) => {
                records.proofs.push(self.by);
                records.end_device(*device, self.by);
            }
        }
    }

    /// Whether the fence is about `device`'s feed in `stream`, going by the
    /// device's enrolment as far as that is known. Devices that were enrolled
    /// in the knowledge of a removal are new ones.
    pub(super) fn concerns(
        &self,
        dag: &Dag,
        device: &DeviceId,
        enrolled: Option<&Device>,
        stream: &Stream,
    ) -> bool {
        match self.subject {
            Subject::Device(subject) => subject == *device,
            Subject::Fork { device: subject, .. } => subject == *device && *stream == Stream::Charter,
            Subject::Person(person) => enrolled.is_some_and(|record| {
                record.person == person && !dag.knows(&dag.node(record.enrolled).past, self.by)
            }),
        }
    }

    /// Whether a place of a feed lies beyond the fence, going by numbers and
    /// the hash at the fence itself.
    fn is_beyond(&self, feed: &FeedId, seq: u64, hash: &ChangeHash) -> bool {
        if self.is_before_fork(feed.segment, seq) {
            return false;
        }
        let Some(entry) = self.fence.entry(&feed.device, &feed.stream) else { return true };
        let (place, end) = ((feed.segment, seq), (entry.segment, entry.seq));
        place > end || (place == end && *hash != entry.head)
    }

    /// Whether a charter act lies beyond the fence: by its place, or because
    /// it is not on the line that leads to the head. A head that is not here
    /// cuts by its place alone. What the fence's own act knew it never cuts.
    fn cuts(&self, dag: &Dag, number: ActIx) -> bool {
        let act = &dag.node(number).act;
        if number == self.by || dag.knows(&dag.node(self.by).past, number) {
            return false;
        }
        let feed = charter_feed(act.device, act.segment);
        let entry = self.fence.entry(&act.device, &Stream::Charter);
        let is_off_line =
            || fenced_line(dag, &act.device, entry).is_some_and(|head| !dag.is_on_line(number, head));
        self.is_beyond(&feed, act.seq, &act.id)
            || (!self.is_before_fork(act.segment, act.seq) && is_off_line())
    }

    /// A proof's fence does not reach before the place where the lines part.
    fn is_before_fork(&self, segment: u32, seq: u64) -> bool {
        matches!(self.subject, Subject::Fork { place, .. } if (segment, seq) < place)
    }
}

/// Segment and sequence number from which the proven lines differ.
fn fork_place(proof: &EquivocationProof) -> (u32, u64) {
    match proof {
        EquivocationProof::Fork { feed, left, .. } => (feed.segment, left.at.seq),
        EquivocationProof::Overrun { feed, beyond, .. } => {
            let end = proof.overrun_end().unwrap_or(beyond.at.seq);
            (feed.segment, end.saturating_add(1))
        }
    }
}

/// Of the fences applied, in this order, those that hold for a device's feed:
/// that concern it, and name no other line than one applied before.
pub(super) fn in_force<'a>(
    dag: &Dag,
    applied: impl IntoIterator<Item = &'a Applied>,
    device: &DeviceId,
    enrolled: Option<&Device>,
    stream: &Stream,
) -> Vec<&'a Applied> {
    let mut holding: Vec<&Applied> = Vec::new();
    for fence in applied {
        if !fence.concerns(dag, device, enrolled, stream) {
            continue;
        }
        let entry = fence.fence.entry(device, stream);
        let names_other_line = holding.iter().any(|earlier| {
            entry
                .zip(earlier.fence.entry(device, stream))
                .is_some_and(|(one, other)| are_on_different_lines(dag, one, other))
        });
        if !names_other_line {
            holding.push(fence);
        }
    }
    holding
}

/// Whether an act lies beyond a fence that holds, of those applied in this
/// order.
pub(super) fn is_void<'a>(
    dag: &Dag,
    records: &Records,
    applied: impl IntoIterator<Item = &'a Applied>,
    number: ActIx,
) -> bool {
    let node = dag.node(number);
    let device = &node.act.device;
    // A device is known by its enrolment, where the act knows that.
    let enrolled = records.devices.get(device).filter(|device| dag.knows(&node.past, device.enrolled));
    in_force(dag, applied, device, enrolled, &Stream::Charter).iter().any(|fence| fence.cuts(dag, number))
}

/// The head that a fence names, if it is here and is the device's own.
fn fenced_line(dag: &Dag, device: &DeviceId, entry: Option<&FenceEntry>) -> Option<ActIx> {
    let head = dag.find(&entry?.head)?;
    (dag.node(head).act.device == *device).then_some(head)
}

/// Whether a change outside the charter lies beyond an applied fence.
pub(super) fn is_beyond(
    dag: &Dag,
    records: &Records,
    applied: &[Applied],
    feed: &FeedId,
    seq: u64,
    hash: &ChangeHash,
) -> bool {
    let enrolled = records.devices.get(&feed.device);
    in_force(dag, applied, &feed.device, enrolled, &feed.stream)
        .iter()
        .any(|fence| fence.is_beyond(feed, seq, hash))
}

/// How far the feeds of each fenced device count, over all fences; streams
/// that are not named do not count at all.
pub(super) fn limits(
    dag: &Dag,
    records: &Records,
    applied: &[Applied],
) -> BTreeMap<DeviceId, BTreeMap<Stream, (u32, u64)>> {
    let mut limits: BTreeMap<DeviceId, BTreeMap<Stream, (u32, u64)>> = BTreeMap::new();
    for (device, record) in &records.devices {
        // A proven fork limits the stream that parts, not the device.
        let whole = applied.iter().filter(|fence| !matches!(fence.subject, Subject::Fork { .. }));
        for fence in whole.filter(|fence| fence.concerns(dag, device, Some(record), &Stream::Keys)) {
            let named: BTreeMap<_, _> = fence
                .fence
                .entries()
                .iter()
                .filter(|entry| entry.device == *device)
                .map(|entry| (entry.stream, (entry.segment, entry.seq)))
                .collect();
            match limits.get_mut(device) {
                None => {
                    limits.insert(*device, named);
                }
                Some(lowest) => lowest.retain(|stream, end| match named.get(stream) {
                    Some(other) => {
                        *end = (*end).min(*other);
                        true
                    }
                    None => false,
                }),
            }
        }
    }
    limits
}

/// Only device, stream and segment matter to a fence.
const fn charter_feed(device: DeviceId, segment: u32) -> FeedId {
    FeedId {
        community: crate::id::CommunityId::from_bytes([0; 32]),
        device,
        stream: Stream::Charter,
        segment,
    }
}

/// Judges all acts from the first on, and finds the fences that apply.
pub(super) fn settle(dag: &Dag) -> (Pass, Vec<Applied>) {
    let mut applied: Vec<Applied> = Vec::new();
    loop {
        let mut pass = Pass::new();
        for number in dag.in_order() {
            pass.take(dag, &applied, number);
        }
        let mut done = true;
        while let Some(fence) = next(dag, &pass, &applied) {
            let harmless = is_harmless(dag, &pass.records, &fence);
            applied.push(fence);
            if !harmless {
                done = false;
                break;
            }
        }
        if done {
            return (pass, applied);
        }
    }
}

/// The fence whose turn it is: of those that no other one takes away
/// one-sidedly the most senior, or the most senior of all where everyone
/// takes someone away.
fn next(dag: &Dag, pass: &Pass, applied: &[Applied]) -> Option<Applied> {
    let waiting: Vec<Applied> = candidates(dag, pass, applied)
        .into_iter()
        .filter_map(|number| Applied::new(dag, pass, number))
        .collect();
    // As if it were applied next, after those that are.
    let voids =
        |one: &Applied, other: &Applied| is_void(dag, &pass.records, applied.iter().chain([one]), other.by);
    let is_beaten = |fence: &Applied| waiting.iter().any(|other| voids(other, fence) && !voids(fence, other));
    let turn = waiting.iter().position(|fence| !is_beaten(fence)).unwrap_or(0);
    waiting.into_iter().nth(turn)
}

/// Acts with a fence that count and are not applied, the most senior first.
fn candidates(dag: &Dag, pass: &Pass, applied: &[Applied]) -> Vec<ActIx> {
    let mut found: Vec<_> = pass
        .fencing
        .iter()
        .filter(|number| pass.standings[**number as usize] == Standing::Counts)
        .filter(|number| !applied.iter().any(|fence| fence.by == **number))
        .filter_map(|number| seniority(dag, &pass.records, *number).map(|key| (key, *number)))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, number)| number).collect()
}

/// Revocations first, by the phrase before others, then by how early the
/// device was enrolled; then leavings and proofs; then removals, by rank, then
/// by how early the author came. All of one kind by hash in the end.
type Seniority = (u8, Reverse<Option<Role>>, u32, ChangeHash);

fn seniority(dag: &Dag, records: &Records, number: ActIx) -> Option<Seniority> {
    let node = dag.node(number);
    let at = At { dag, records, past: &node.past };
    let act = &node.act;
    Some(match act.event.as_ref()? {
        CharterEvent::DeviceRevoked { phrase, .. } => {
            let (enrolled, _) = at.enrolment(&act.device)?;
            (u8::from(phrase.is_none()), Reverse(None), enrolled, act.id)
        }
        CharterEvent::Left { .. } | CharterEvent::EquivocationProven { .. } => (2, Reverse(None), 0, act.id),
        CharterEvent::Removed { .. } => {
            let person = at.member_of(&act.device)?;
            let first = records.people.get(&person)?.admissions.known(dag, &node.past).next()?;
            (3, Reverse(at.role(&person)), dag.node(first.by).depth, act.id)
        }
        _ => return None,
    })
}

/// Whether two fences name ends that are not on one line.
fn are_on_different_lines(dag: &Dag, one: &FenceEntry, other: &FenceEntry) -> bool {
    if (one.segment, one.seq) == (other.segment, other.seq) {
        return one.head != other.head;
    }
    if one.stream != Stream::Charter {
        return false;
    }
    match (dag.find(&one.head), dag.find(&other.head)) {
        (Some(one), Some(other)) => !dag.is_on_line(one, other) && !dag.is_on_line(other, one),
        _ => false,
    }
}

/// Whether applying the fence changes the standing of no act. Then nothing
/// has to be judged again.
fn is_harmless(dag: &Dag, records: &Records, fence: &Applied) -> bool {
    if dag.node(fence.by).past == Past::Before(fence.by) && fence.by as usize + 1 == dag.len() {
        return true;
    }
    let devices: Vec<DeviceId> = match fence.subject {
        Subject::Device(device) | Subject::Fork { device, .. } => vec![device],
        Subject::Person(person) => records
            .people
            .get(&person)
            .map(|person| person.devices.iter().copied().collect())
            .unwrap_or_default(),
    };
    let known = &dag.node(fence.by).past;
    devices.iter().all(|device| dag.acts_of(device).all(|act| act == fence.by || dag.knows(known, act)))
}
