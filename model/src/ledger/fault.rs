//! What became of an event, and why one counts for nothing.

use crate::amount::Amount;
use crate::event::ledger::{COUNTED_MAX, LEDGER_TEXT_BYTES_MAX};

/// What became of one event of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Counted,
    /// It is a lock beyond a proven fork that still fits.
    Salvaged,
    /// It is a lock beyond a proven fork that no longer fits: worth nothing.
    Worthless,
    /// Something before it, or that it cites, is not here yet.
    Waiting,
    /// It lies beyond a fence.
    Void,
    /// It lies at or beyond a fork that nobody has proven yet.
    Forked,
    /// It lies at or beyond a proven fork.
    Barred,
    /// It is no event that this program knows.
    Meaningless,
    /// It breaks a rule, for ever.
    Faulty(LedgerFault),
}

/// Why a ledger event counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// A maximum that is not positive, or over [`Amount::LOCK_MAX`].
    #[error("a lock must be between 1 and {} token·MiB", Amount::LOCK_MAX.token_mib())]
    LockSize,
    /// Nothing, or less, is given or promised; or a price is out of range.
    #[error("the amount is not one that can be given or asked")]
    AmountSize,
    /// A title or note is empty, too long or not clean.
    #[error("a text must be one visible line of at most {LEDGER_TEXT_BYTES_MAX} bytes")]
    Text,
    /// More events named than one may.
    #[error("more than {COUNTED_MAX} events are named")]
    TooMany,
    /// It was written under charter heads older than those of an event before it.
    #[error("it cites an older charter than the events before it")]
    OldHeads,
    /// The author's person may not use credit.
    #[error("the author may not use credit here")]
    NotAllowed,
    /// The receiver is not enrolled, or may not use credit where it must.
    #[error("the receiver may not be paid here")]
    Receiver,
    /// Payer and payee are of one person.
    #[error("one's own machines are not paid")]
    OwnPayee,
    /// The headroom does not reach.
    #[error("not enough credit: {available} available, {wanted} wanted")]
    Headroom {
        /// What could be committed.
        available: Amount,
        /// What was to be committed.
        wanted: Amount,
    },
    /// No such lock, or one that does not count.
    #[error("no such lock")]
    UnknownLock,
    /// Neither payer nor payee of the lock; for some events, not the payee.
    #[error("not a party of this lock")]
    NotAParty,
    /// The amount is negative or over the lock's maximum.
    #[error("the amount is not within the lock")]
    AmountOutOfLock,
    /// The payee has closed the lock.
    #[error("the lock is closed")]
    Closed,
    /// A close below what the payee posted or counted before.
    #[error("the payee has already claimed {claimed} of this lock")]
    BelowClaim {
        /// What was claimed.
        claimed: Amount,
    },
    /// The payer did not sign the voucher, or there is none where one must be.
    #[error("the voucher is not the payer's")]
    Voucher,
    /// No such offer of that payee, or not of a kind that fits.
    #[error("no such offer of the payee")]
    UnknownOffer,
    /// Less than the offer asks, or nothing ordered.
    #[error("the offer asks {price} at least for this")]
    Price {
        /// What it asks.
        price: Amount,
    },
    /// No such bounty of the author, or one that is over.
    #[error("no such open bounty of the author")]
    UnknownBounty,
    /// No such allotment to the author's person.
    #[error("no such allotment to the author")]
    UnknownAllotment,
    /// Another device of the officer's is the one that may grant.
    #[error("only the device that holds the credit line may grant")]
    NotLineHolder,
    /// The allotment does not reach.
    #[error("{left} of the allotment is left, {wanted} wanted")]
    Allotment {
        /// What is left.
        left: Amount,
        /// What was to be granted.
        wanted: Amount,
    },
    /// A sum would leave the range of 64 bits.
    #[error("amounts overflow")]
    Overflow,
    /// The device signed two lines: nothing more of it counts.
    #[error("this device has signed two different ledgers")]
    Forked,
}
