//! What the ledger asks of the charter.
//!
//! Every answer about heads is seen from their past only, and so never
//! changes but by a fence, a bar or a verdict. The ledger never looks into the
//! charter by any other way.

use crate::amount::Amount;
use crate::feed::equivocation::EquivocationProof;
use crate::feed::{FeedId, Stream, segment_end};
use crate::id::{ChangeHash, CommunityId, DeviceId, PersonId};

/// A change's place in its author's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the segment, from 0.
    pub segment: u32,
    /// Sequence number in it, from 1.
    pub seq: u64,
}

/// A device that is enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whose it is.
    pub person: PersonId,
    /// Whether the person may use credit (`Permission::Share`).
    pub may_share: bool,
}

/// A device of a person that was enrolled and is so no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerDevice {
    /// Which.
    pub device: DeviceId,
    /// The charter change that ended it.
    pub by: ChangeHash,
    /// Whether that was a revocation: only then is what it left inherited.
    pub revoked: bool,
    /// The last change of its ledger that every fence in force lets count, not
    /// only those in the past of the heads; none where the whole ledger is
    /// void. What cites the heads waits for it.
    pub end: Option<ChangeHash>,
}

/// What a dispute came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The charter change that decided it.
    pub id: ChangeHash,
    /// The change that carries the lock.
    pub lock: ChangeHash,
    /// The change that opened the dispute.
    pub dispute: ChangeHash,
    /// Who is said to have paid.
    pub payer: PersonId,
    /// Who is said to have been paid.
    pub payee: PersonId,
    /// The most that goes back to the payer; not negative.
    pub refund: Amount,
}

/// A proven double spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Where the lines part: the place of both changes.
    pub place: Place,
    /// Settlements that the prover knew: their locks stand first.
    pub settled: Vec<ChangeHash>,
}

impl Bar {
    /// The bar that a proof means, if it is one: of a ledger of `community`,
    /// with both signatures.
    pub fn of_proof(
        community: &CommunityId,
        proof: &EquivocationProof,
        settled: &[ChangeHash],
    ) -> Option<(DeviceId, Self)> {
        let feed = proof.feed();
        if feed.community != *community || feed.stream != Stream::Ledger || proof.verify().is_err() {
            return None;
        }
        let seq = match proof {
            EquivocationProof::Fork { left, .. } => left.at.seq,
            EquivocationProof::Overrun { opening, .. } => segment_end(opening)?.end.seq.checked_add(1)?,
        };
        let place = Place { segment: feed.segment, seq };
        Some((feed.device, Self { place, settled: settled.to_vec() }))
    }
}

/// The charter, as far as credit is concerned.
///
/// `heads` are charter heads that an event cites. Apart from
/// [`is_ready`](Self::is_ready) they are only asked about when they are ready.
pub trait LedgerCharter {
    /// Whether the whole past of these heads is here.
    fn is_ready(&self, heads: &[ChangeHash]) -> bool;

    /// Whether this charter change is here.
    fn has(&self, change: &ChangeHash) -> bool;

    /// Whether `change` is one of `heads` or in their past, whether it counts
    /// or not.
    fn in_past(&self, change: &ChangeHash, heads: &[ChangeHash]) -> bool;

    /// Whose device this was when it was first enrolled, seen from now.
    fn person_of(&self, device: &DeviceId) -> Option<PersonId>;

    /// The device at these heads; `None` where it is not enrolled there.
    fn member(&self, device: &DeviceId, heads: &[ChangeHash]) -> Option<Member>;

    /// The credit line (−floor, not negative) of the device at these heads, if
    /// it is its person's line holder there.
    ///
    /// The charter sees to it that one person never has two: the line passes
    /// from one device to the next only over the former's revocation, to the
    /// device that *that revocation's own past* names; a device that was
    /// enrolled beside it never takes the line.
    fn line(&self, device: &DeviceId, heads: &[ChangeHash]) -> Option<Amount>;

    /// The person's devices that these heads know as no longer enrolled, by
    /// revocation, removal or leaving.
    fn former_devices(&self, person: &PersonId, heads: &[ChangeHash]) -> Vec<FormerDevice>;

    /// The officer and the amount of a counting allotment in the past of these
    /// heads. The charter sees to it that all that count fit the community's
    /// floor together.
    fn allotment(&self, change: &ChangeHash, heads: &[ChangeHash]) -> Option<(PersonId, Amount)>;

    /// All verdicts that stand, in the charter's order. The charter knows no
    /// locks: of several about one, the ledger takes the first that names its
    /// parties and was opened in knowledge of what the lock cites.
    fn verdicts(&self) -> Vec<Verdict>;

    /// Whether a change lies beyond a fence on its author, or on another line
    /// than the fence names. The fence of a proof that the *ledger* forked is
    /// no such fence: it is answered by [`bar`](Self::bar).
    fn is_beyond_fence(&self, feed: &FeedId, seq: u64, hash: &ChangeHash) -> bool;

    /// Whether a device is proven to have forked its ledger: the lowest proven
    /// place, with what the first proof in the charter's order names as settled.
    /// A fork of which an earlier fence already names the one line bars nobody:
    /// a stolen key, once revoked, could else undo its owner's past.
    fn bar(&self, device: &DeviceId) -> Option<Bar>;
}
