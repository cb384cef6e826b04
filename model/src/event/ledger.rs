//! Facts about credits. What they do is decided by [`ledger`](crate::ledger).

use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::id::{BlobHash, ChangeHash, DeviceId, JobId};
use crate::signature::Signature;

/// Most changes one [`LedgerEvent::Counted`] names.
pub const COUNTED_MAX: usize = 256;
/// Longest title or note, in bytes.
pub const LEDGER_TEXT_BYTES_MAX: usize = 256;

/// What credit is locked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Purpose {
    /// One inference job.
    #[n(0)]
    Job(#[n(0)] JobId),
    /// An order on an offer.
    #[n(1)]
    Order {
        /// The change that carries the offer.
        #[n(0)]
        offer: ChangeHash,
        /// How many units of it.
        #[n(1)]
        units: u32,
    },
    /// Hours reserved on an offer.
    #[n(2)]
    Booking {
        /// The change that carries the offer.
        #[n(0)]
        offer: ChangeHash,
        /// From when, ms since the Unix epoch.
        #[n(1)]
        from_ms: i64,
        /// Until when, ms since the Unix epoch.
        #[n(2)]
        until_ms: i64,
    },
}

/// What an offer is about.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum OfferKind {
    /// Work through a model, priced by work unit.
    #[n(0)]
    Model(#[n(0)] BlobHash),
    /// The whole machine for a while, priced by hour.
    #[n(1)]
    Hours,
    /// Something else that the title tells, priced by piece.
    #[n(2)]
    Other,
}

/// Who can receive credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Account {
    /// A device's own.
    #[n(0)]
    Device(#[n(0)] DeviceId),
    /// The community's.
    #[n(1)]
    Community,
}

/// Why the community pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum GrantReason {
    /// A gift, a start, a thank-you.
    #[n(0)]
    Grant,
    /// A bounty was earned.
    #[n(1)]
    Bounty,
    /// Layers were hosted.
    #[n(2)]
    Hosting,
    /// A machine was there.
    #[n(3)]
    Uptime,
}

/// One fact in a device's ledger feed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LedgerEvent {
    /// The author sets credit aside, before the work is done.
    #[n(0)]
    Locked {
        /// Who may be paid from the lock.
        #[n(0)]
        payee: DeviceId,
        /// For what.
        #[n(1)]
        purpose: Purpose,
        /// The most that can be paid.
        #[n(2)]
        max: Amount,
    },
    /// A voucher of the lock's payer, posted by payer or payee. The largest
    /// one is the settlement.
    #[n(1)]
    Settled {
        /// The change that carries the lock.
        #[n(0)]
        lock: ChangeHash,
        /// The total so far.
        #[n(1)]
        amount: Amount,
        /// The payer's signature over community, lock, payee and amount.
        #[n(2)]
        voucher: Signature,
    },
    /// The payee names the final amount and gives the rest of the lock back.
    #[n(2)]
    Closed {
        /// The change that carries the lock.
        #[n(0)]
        lock: ChangeHash,
        /// The final total.
        #[n(1)]
        amount: Amount,
        /// The payer's signature over it; none for zero.
        #[n(2)]
        voucher: Option<Signature>,
    },
    /// From here on the author spends what these changes brought or freed.
    #[n(3)]
    Counted {
        /// Settlements, transfers, grants, awards to the author; closed locks
        /// of the author; disputes with a verdict; revocations of own devices.
        #[n(0)]
        events: Vec<ChangeHash>,
    },
    /// Credit given away: a gift, a share for another own device.
    #[n(4)]
    Transferred {
        /// To whom.
        #[n(0)]
        to: Account,
        /// How much.
        #[n(1)]
        amount: Amount,
        /// A few words; may be empty.
        #[n(2)]
        note: String,
    },
    /// An officer pays from the community's account.
    #[n(5)]
    Granted {
        /// The charter change that allots the money.
        #[n(0)]
        allotment: ChangeHash,
        /// To whom.
        #[n(1)]
        to: DeviceId,
        /// How much.
        #[n(2)]
        amount: Amount,
        /// Why.
        #[n(3)]
        reason: GrantReason,
        /// A few words; may be empty.
        #[n(4)]
        note: String,
    },
    /// The author offers something for credit.
    #[n(6)]
    OfferPosted {
        /// What.
        #[n(0)]
        kind: OfferKind,
        /// In a few words.
        #[n(1)]
        title: String,
        /// Price of one unit.
        #[n(2)]
        price: Amount,
    },
    /// The author offers it no longer.
    #[n(7)]
    OfferWithdrawn {
        /// The change that carries the offer.
        #[n(0)]
        offer: ChangeHash,
    },
    /// The provider takes an order or a booking on. Declining is `Closed`
    /// with zero.
    #[n(8)]
    OrderAccepted {
        /// The change that carries the lock.
        #[n(0)]
        lock: ChangeHash,
    },
    /// Credit set aside for whoever does something.
    #[n(9)]
    BountyPosted {
        /// What is to be done.
        #[n(0)]
        title: String,
        /// How much it brings.
        #[n(1)]
        amount: Amount,
    },
    /// The author's bounty was earned.
    #[n(10)]
    BountyAwarded {
        /// The change that carries the bounty.
        #[n(0)]
        bounty: ChangeHash,
        /// By whom.
        #[n(1)]
        to: DeviceId,
    },
    /// The author's bounty is off.
    #[n(11)]
    BountyWithdrawn {
        /// The change that carries the bounty.
        #[n(0)]
        bounty: ChangeHash,
    },
}
