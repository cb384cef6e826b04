//! What is void: acts beyond an applied fence. And who goes first, where removals are concurrent.

use std::cmp::Reverse;

use exo_model::charter::role::Role;
use exo_model::event::CharterEvent as E;
use exo_model::feed::Stream;
use exo_model::feed::equivocation::EquivocationProof;
use exo_model::feed::fence::{Fence, FenceEntry};
use exo_model::{ChangeHash, DeviceId, PersonId};

use super::dag::Dag;
use super::signing;
use super::view::{Verdict, View, enrols};

/// A fence in force, with what its event was when it was applied.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) at: usize,
    pub(crate) verdict: Verdict,
    pub(crate) author: Option<(PersonId, Role)>,
    pub(crate) signatures: std::collections::BTreeMap<usize, PersonId>,
}

/// The fence an event carries, if it cuts the charter.
pub(crate) fn fence_of(event: &E) -> Option<&Fence> {
    match event {
        E::Left { fence } | E::Removed { fence, .. } | E::DeviceRevoked { fence, .. } => Some(fence),
        // Other proofs bar from spending, or mark messages: not our matter.
        E::EquivocationProven { proof, fence, .. } if proof.feed().stream == Stream::Charter => Some(fence),
        _ => None,
    }
}

/// Whether the fence of `applied` is about the feeds of `device`, whose
/// enrolment is `enrolment`.
pub(crate) fn concerns(dag: &Dag, applied: &Applied, device: DeviceId, enrolment: Option<usize>) -> bool {
    // A person's devices are those whose enrolment did not know the removal:
    // who comes back comes with new ones.
    let is_of = |subject: PersonId| {
        enrolment.is_some_and(|at| {
            enrols(&dag.acts[at].event).is_some_and(|card| signing::person_of(card) == subject)
                && !dag.past[at].contains(&applied.at)
        })
    };
    match &dag.acts[applied.at].event {
        E::Removed { person, .. } => is_of(*person),
        E::Left { .. } => applied.author.is_some_and(|(person, _)| is_of(person)),
        E::DeviceRevoked { device: revoked, .. } => *revoked == device,
        E::EquivocationProven { proof, .. } => proof.feed().device == device,
        _ => false,
    }
}

/// Whether `at` is void under what was applied, in this order.
pub(crate) fn is_void(dag: &Dag, at: usize, applied: &[Applied], past: &View<'_>) -> bool {
    let act = &dag.acts[at];
    if applied.iter().any(|one| one.at == at) {
        return false;
    }
    let enrolment = past.enrolment(act.device);
    let in_force: Vec<&Applied> =
        applied.iter().filter(|one| concerns(dag, one, act.device, enrolment)).collect();

    let mut holding: Vec<(&Applied, Option<&FenceEntry>)> = Vec::new();
    for one in in_force {
        let entry =
            fence_of(&dag.acts[one.at].event).and_then(|fence| fence.entry(&act.device, &Stream::Charter));
        // Where fences name different lines, the one applied first holds.
        let contradicts = holding.iter().any(|(_, other)| match (entry, other) {
            (Some(entry), Some(other)) => !is_one_line(dag, entry, other),
            _ => false,
        });
        if !contradicts {
            holding.push((one, entry));
        }
    }
    holding.iter().any(|(one, entry)| {
        !dag.past[one.at].contains(&at)
            && !is_before_fork(dag, one, at)
            && entry.is_none_or(|entry| is_beyond(dag, at, entry))
    })
}

/// A proof's fence does not reach before the place where the lines part.
fn is_before_fork(dag: &Dag, applied: &Applied, at: usize) -> bool {
    let act = &dag.acts[at];
    matches!(&dag.acts[applied.at].event, E::EquivocationProven { proof: EquivocationProof::Fork { feed, left, .. }, .. }
        if (act.segment, act.seq) < (feed.segment, left.at.seq))
}

/// A head that is not here, or is no change of the device, cuts by its place.
fn is_beyond(dag: &Dag, at: usize, entry: &FenceEntry) -> bool {
    let act = &dag.acts[at];
    let (place, end) = ((act.segment, act.seq), (entry.segment, entry.seq));
    let is_known = dag.find(&entry.head).is_some_and(|head| dag.acts[head].device == act.device);
    place > end || (place == end && act.id != entry.head) || (is_known && !dag.is_on_line_to(&entry.head, at))
}

/// Whether one head lies on the line that leads to the other.
/// At one place only one head is; heads that are not here contradict nothing
/// else.
fn is_one_line(dag: &Dag, one: &FenceEntry, other: &FenceEntry) -> bool {
    if (one.segment, one.seq) == (other.segment, other.seq) {
        return one.head == other.head;
    }
    match (dag.find(&one.head), dag.find(&other.head)) {
        (Some(from), Some(to)) => dag.is_on_line_to(&other.head, from) || dag.is_on_line_to(&one.head, to),
        _ => true,
    }
}

/// The order in which fences are applied; the least first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// Those with the phrase's signature first, then by enrolment depth of the
    /// device that posts.
    Revocation {
        without_phrase: bool,
        enrolment_depth: u64,
        id: ChangeHash,
    },
    LeavingOrProof {
        id: ChangeHash,
    },
    Removal {
        rank: Reverse<Option<Role>>,
        admission_depth: u64,
        id: ChangeHash,
    },
}

/// When it is an event's turn; `past` is what it has seen. `has_phrase` says
/// whether a revocation carries a phrase's word that verifies.
pub(crate) fn turn(dag: &Dag, at: usize, past: &View<'_>, has_phrase: bool) -> Turn {
    let act = &dag.acts[at];
    let depth = |at: Option<usize>| at.map_or(u64::MAX, |at| dag.depth[at]);
    match &act.event {
        E::DeviceRevoked { .. } => Turn::Revocation {
            without_phrase: !has_phrase,
            enrolment_depth: depth(past.enrolment(act.device)),
            id: act.id,
        },
        E::Removed { .. } => {
            let author = past.author(at);
            let first = author.and_then(|author| past.admissions(author).first().copied());
            Turn::Removal {
                rank: Reverse(past.rank_of_author(at)),
                admission_depth: depth(first),
                id: act.id,
            }
        }
        _ => Turn::LeavingOrProof { id: act.id },
    }
}
