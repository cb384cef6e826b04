//! What the charter tells the ledger.

use super::dag::ActIx;
use super::fences::{self, Subject};
use super::people::At;
use super::{Charter, Permission};
use crate::amount::Amount;
use crate::event::CharterEvent;
use crate::feed::fence::Fence;
use crate::feed::{FeedId, Stream};
use crate::id::{ChangeHash, DeviceId, PersonId};
use crate::ledger::{Bar, FormerDevice, LedgerCharter, Member, Verdict};

impl Charter {
    fn at_heads<T>(&self, heads: &[ChangeHash], ask: impl FnOnce(At<'_>) -> Option<T>) -> Option<T> {
        let past = self.dag.past_of(heads)?;
        ask(At { dag: &self.dag, records: &self.pass.records, past: &past })
    }

    /// The last change of a device's ledger that all fences on it let count,
    /// that of `act` among them.
    fn ledger_end(&self, device: &DeviceId, act: ActIx) -> Option<ChangeHash> {
        let enrolled = self.pass.records.devices.get(device);
        let in_force = fences::in_force(&self.dag, &self.applied, device, enrolled, &Stream::Ledger);
        // A proof of a fork in the ledger is no fence of the charter.
        let is_applied = self.applied.iter().any(|fence| fence.by == act);
        let own = self.fence_in(act).filter(|_| !is_applied);
        let mut lowest: Option<(u32, u64, ChangeHash)> = None;
        for fence in in_force.iter().map(|fence| &fence.fence).chain(own) {
            let entry = fence.entry(device, &Stream::Ledger)?;
            let end = (entry.segment, entry.seq, entry.head);
            lowest = Some(lowest.map_or(end, |other| other.min(end)));
        }
        lowest.map(|(_, _, head)| head)
    }

    fn fence_in(&self, act: ActIx) -> Option<&Fence> {
        match self.dag.node(act).act.event.as_ref()? {
            CharterEvent::Removed { fence, .. }
            | CharterEvent::Left { fence }
            | CharterEvent::DeviceRevoked { fence, .. }
            | CharterEvent::EquivocationProven { fence, .. } => Some(fence),
            _ => None,
        }
    }

    /// Whether a fence on the device was known to whoever proved its fork:
    /// that fence names the line, and the proof changes nothing.
    fn line_was_named(&self, device: &DeviceId, proof: ActIx) -> bool {
        let past = &self.dag.node(proof).past;
        let enrolled = self.pass.records.devices.get(device);
        self.applied.iter().any(|fence| {
            !matches!(fence.subject, Subject::Fork { .. })
                && fence.concerns(&self.dag, device, enrolled, &Stream::Ledger)
                && self.dag.knows(past, fence.by)
        })
    }
}

impl At<'_> {
    /// The device with the person's credit line: the first one they came with
    /// and, when it was revoked, the earliest of those that the revocation's
    /// author knew, and so on. One of a person's devices at a time.
    pub(super) fn line_holder(&self, person: &PersonId) -> Option<DeviceId> {
        let record = self.records.people.get(person)?;
        let came = record.admissions.known(self.dag, self.past).next_back()?.by;
        let enrolled_by = |device: &&DeviceId| {
            self.records.devices.get(*device).is_some_and(|record| record.enrolled == came)
        };
        let mut holder = *record.devices.iter().find(enrolled_by)?;
        for _ in 0..=record.devices.len() {
            if self.person_of(&holder) == Some(*person) {
                return Some(holder);
            }
            let ended = self.records.endings_of(&holder).iter().filter(|act| self.knows(**act));
            let revoked = *ended.min_by_key(|act| self.dag.place_of(**act))?;
            let then = At { past: &self.dag.node(revoked).past, ..*self };
            let heirs = record.devices.iter().filter(|device| **device != holder);
            holder = *heirs
                .filter(|device| then.person_of(device) == Some(*person))
                .min_by(|one, other| then.enrolment(one).cmp(&then.enrolment(other)))?;
        }
        None
    }
}

impl LedgerCharter for Charter {
    fn is_ready(&self, heads: &[ChangeHash]) -> bool {
        heads.iter().all(|head| self.dag.find(head).is_some())
    }

    fn has(&self, change: &ChangeHash) -> bool {
        self.dag.find(change).is_some()
    }

    fn in_past(&self, change: &ChangeHash, heads: &[ChangeHash]) -> bool {
        let Some(act) = self.dag.find(change) else { return false };
        self.dag.past_of(heads).is_some_and(|past| self.dag.knows(&past, act))
    }

    fn person_of(&self, device: &DeviceId) -> Option<PersonId> {
        self.pass.records.devices.get(device).map(|device| device.person)
    }

    fn member(&self, device: &DeviceId, heads: &[ChangeHash]) -> Option<Member> {
        self.at_heads(heads, |at| {
            let person = at.member_of(device)?;
            Some(Member { person, may_share: at.may(&person, Permission::Share) })
        })
    }

    fn line(&self, device: &DeviceId, heads: &[ChangeHash]) -> Option<Amount> {
        self.at_heads(heads, |at| {
            let person = at.member_of(device)?;
            if at.line_holder(&person) != Some(*device) {
                return None;
            }
            Amount::ZERO.checked_sub(at.floors()?.at(at.trust(&person)))
        })
    }

    fn former_devices(&self, person: &PersonId, heads: &[ChangeHash]) -> Vec<FormerDevice> {
        let Some(past) = self.dag.past_of(heads) else { return Vec::new() };
        let at = At { dag: &self.dag, records: &self.pass.records, past: &past };
        let Some(record) = at.records.people.get(person) else { return Vec::new() };
        let gone = record.removals.known(at.dag, at.past).map(|removal| removal.by);
        let gone: Vec<ActIx> = gone.collect();
        let former = |device: &DeviceId| {
            let enrolled = at.records.devices.get(device)?;
            let ended = at.records.endings_of(device).iter().copied().filter(|act| at.knows(*act));
            let left = gone.iter().copied().filter(|act| {
                // Devices enrolled in the knowledge of a removal are new ones.
                !at.dag.knows(&at.dag.node(enrolled.enrolled).past, *act)
            });
            let by = ended.chain(left).min_by_key(|act| at.dag.place_of(*act))?;
            let act = &at.dag.node(by).act;
            let end = self.ledger_end(device, by);
            let revoked = matches!(act.event, Some(CharterEvent::DeviceRevoked { .. }));
            Some(FormerDevice { device: *device, by: act.id, revoked, end })
        };
        record.devices.iter().filter_map(former).collect()
    }

    fn allotment(&self, change: &ChangeHash, heads: &[ChangeHash]) -> Option<(PersonId, Amount)> {
        let allotment = self.pass.records.allotments.get(change)?;
        self.at_heads(heads, |at| at.knows(allotment.by).then_some((allotment.person, allotment.amount)))
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts: Vec<_> = self.pass.disputes.verdicts().collect();
        let place = |change: &ChangeHash| self.dag.find(change).map(|act| self.dag.place_of(act));
        verdicts.sort_by_key(|verdict| place(&verdict.decided_by));
        let said = |verdict: crate::dispute::Verdict| Verdict {
            id: verdict.decided_by,
            lock: verdict.lock,
            dispute: verdict.dispute,
            payer: verdict.payer,
            payee: verdict.payee,
            refund: verdict.refund,
        };
        verdicts.into_iter().map(said).collect()
    }

    fn is_beyond_fence(&self, feed: &FeedId, seq: u64, hash: &ChangeHash) -> bool {
        Self::is_beyond_fence(self, feed, seq, hash)
    }

    fn bar(&self, device: &DeviceId) -> Option<Bar> {
        let mut bar: Option<Bar> = None;
        for act in &self.pass.records.proofs {
            let Some(CharterEvent::EquivocationProven { proof, settled, .. }) =
                &self.dag.node(*act).act.event
            else {
                continue;
            };
            let feed = proof.feed();
            if feed.device != *device || feed.stream != Stream::Ledger || self.line_was_named(device, *act) {
                continue;
            }
            let Some((_, proven)) = Bar::of_proof(&self.community, proof, settled) else { continue };
            match &mut bar {
                None => bar = Some(proven),
                Some(first) => first.place = first.place.min(proven.place),
            }
        }
        bar
    }
}
