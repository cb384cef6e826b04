//! Credits: locks, vouchers, settlements.
//!
//! Only the payer's signature moves credit. Before a job the payer locks a
//! maximum for each payee; while it runs it signs growing [`Voucher`]s; the
//! largest one posted is the settlement. Whatever happens, balances sum to
//! zero. Part of `reduce`: a fault here means that an event counts for
//! nothing, never that it is refused entry.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::codec;
use crate::id::{ChangeHash, CommunityId, DeviceId, JobId};
use crate::port::Signer;
use crate::signature::{self, BadSignature, Signature};

/// A payer's signed promise: the total owed from one lock so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Voucher {
    /// The change that carries the lock.
    #[n(0)]
    pub lock: ChangeHash,
    /// Total for the job so far.
    #[n(1)]
    pub amount: Amount,
    /// The payer's signature.
    #[n(2)]
    pub signature: Signature,
}

impl Voucher {
    /// Signs a voucher as the payer.
    pub fn sign(
        payer: &dyn Signer,
        community: &CommunityId,
        lock: ChangeHash,
        payee: &DeviceId,
        amount: Amount,
    ) -> Self {
        let signature = payer.sign(&message(community, &lock, payee, amount));
        Self { lock, amount, signature }
    }

    /// Checks that `payer` signed this for `payee`.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        &self,
        community: &CommunityId,
        payer: &DeviceId,
        payee: &DeviceId,
    ) -> Result<(), BadSignature> {
        let message = message(community, &self.lock, payee, self.amount);
        signature::verify(payer, &message, &self.signature)
    }
}

/// `("exo/voucher/1", community, lock, payee, amount)`.
fn message(community: &CommunityId, lock: &ChangeHash, payee: &DeviceId, amount: Amount) -> Vec<u8> {
    codec::encode(&("exo/voucher/1", *community, *lock, *payee, amount))
}

/// Credit set aside by a payer for one payee and job.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Lock {
    /// Who pays.
    #[n(0)]
    pub payer: DeviceId,
    /// Who may be paid.
    #[n(1)]
    pub payee: DeviceId,
    /// For which job.
    #[n(2)]
    pub job: JobId,
    /// The most that can be paid.
    #[n(3)]
    pub max: Amount,
    /// The largest voucher posted; zero before the first.
    #[n(4)]
    pub settled: Amount,
    /// Whether the payee gave the rest back.
    #[n(5)]
    pub closed: bool,
}

impl Lock {
    /// What is still set aside.
    pub fn held(&self) -> Amount {
        if self.closed { Amount::ZERO } else { self.max.checked_sub(self.settled).unwrap_or(Amount::ZERO) }
    }
}

/// Why a ledger event counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// A maximum that is not positive, or over [`Amount::LOCK_MAX`].
    #[error("a lock must be between 1 and {} token·MiB", Amount::LOCK_MAX.token_mib())]
    LockSize,
    /// Payer and payee are the same.
    #[error("one's own machines are not paid")]
    OwnPayee,
    /// The payer's floor would be passed.
    #[error("not enough credit: {available} available, {wanted} wanted")]
    Floor {
        /// What could be locked.
        available: Amount,
        /// What was to be locked.
        wanted: Amount,
    },
    /// No such lock.
    #[error("no such lock")]
    UnknownLock,
    /// Neither payer nor payee of the lock; for `Closed`, not the payee.
    #[error("not a party of this lock")]
    NotAParty,
    /// The amount is negative or over the lock's maximum.
    #[error("the amount is not within the lock")]
    AmountOutOfLock,
    /// The payee gave the rest of the lock back.
    #[error("the lock is closed")]
    Closed,
    /// The payer did not sign the voucher.
    #[error("the voucher is not the payer's")]
    Voucher,
    /// A sum leaves the range of 64 bits.
    #[error("amounts overflow")]
    Overflow,
}

/// All locks and balances of a community.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    floor: Amount,
    locks: BTreeMap<ChangeHash, Lock>,
    balances: BTreeMap<DeviceId, Amount>,
}

impl Ledger {
    /// An empty ledger with the charter's floor (zero or negative).
    pub fn new(floor: Amount) -> Self {
        Self { floor: floor.min(Amount::ZERO), ..Self::default() }
    }

    /// Lowest balance a member may reach.
    pub const fn floor(&self) -> Amount {
        self.floor
    }

    /// All locks that count, by the change that carries them.
    pub const fn locks(&self) -> &BTreeMap<ChangeHash, Lock> {
        &self.locks
    }

    /// What settled jobs brought and cost a member so far.
    pub fn balance(&self, device: &DeviceId) -> Amount {
        self.balances.get(device).copied().unwrap_or_default()
    }

    /// What a member can still lock: balance, less what is held, less the
    /// floor. `None` where that overflows.
    pub fn available(&self, device: &DeviceId) -> Option<Amount> {
        let free = self.balance(device).checked_sub(self.floor)?;
        self.locks
            .values()
            .filter(|lock| lock.payer == *device)
            .try_fold(free, |free, lock| free.checked_sub(lock.held()))
    }

    /// Sum of all balances: zero, after every event.
    pub fn total(&self) -> i128 {
        self.balances.values().map(|amount| i128::from(amount.token_mib())).sum()
    }

    pub(crate) fn lock(
        &mut self,
        hash: ChangeHash,
        payer: DeviceId,
        payee: DeviceId,
        job: JobId,
        max: Amount,
    ) -> Result<(), LedgerFault> {
        self.check_lock(&payer, &payee, max)?;
        let lock = Lock { payer, payee, job, max, settled: Amount::ZERO, closed: false };
        self.locks.insert(hash, lock);
        Ok(())
    }

    /// Whether `payer` could lock `max` for `payee` now.
    ///
    /// # Errors
    /// Why not.
    pub fn check_lock(&self, payer: &DeviceId, payee: &DeviceId, max: Amount) -> Result<(), LedgerFault> {
        if max <= Amount::ZERO || max > Amount::LOCK_MAX {
            return Err(LedgerFault::LockSize);
        }
        if payer == payee {
            return Err(LedgerFault::OwnPayee);
        }
        let available = self.available(payer).ok_or(LedgerFault::Overflow)?;
        if available < max {
            return Err(LedgerFault::Floor { available, wanted: max });
        }
        Ok(())
    }

    /// Whether `author` may settle with this voucher.
    ///
    /// # Errors
    /// Why not.
    pub fn check_voucher(
        &self,
        community: &CommunityId,
        author: &DeviceId,
        voucher: &Voucher,
    ) -> Result<(), LedgerFault> {
        let lock = self.locks.get(&voucher.lock).ok_or(LedgerFault::UnknownLock)?;
        if *author != lock.payee && *author != lock.payer {
            return Err(LedgerFault::NotAParty);
        }
        if voucher.amount < Amount::ZERO || voucher.amount > lock.max {
            return Err(LedgerFault::AmountOutOfLock);
        }
        // What was given back may be locked again: settling it later would
        // spend it twice.
        if lock.closed && voucher.amount > lock.settled {
            return Err(LedgerFault::Closed);
        }
        voucher.verify(community, &lock.payer, &lock.payee).map_err(|_| LedgerFault::Voucher)
    }

    pub(crate) fn settle(
        &mut self,
        community: &CommunityId,
        author: &DeviceId,
        voucher: &Voucher,
    ) -> Result<(), LedgerFault> {
        self.check_voucher(community, author, voucher)?;
        let lock = self.locks.get_mut(&voucher.lock).ok_or(LedgerFault::UnknownLock)?;
        if voucher.amount <= lock.settled {
            return Ok(());
        }
        let (payer, payee) = (lock.payer, lock.payee);
        let more = voucher.amount.checked_sub(lock.settled).ok_or(LedgerFault::Overflow)?;
        let payer_after = self.balances.get(&payer).copied().unwrap_or_default().checked_sub(more);
        let payee_after = self.balances.get(&payee).copied().unwrap_or_default().checked_add(more);
        let (Some(payer_after), Some(payee_after)) = (payer_after, payee_after) else {
            return Err(LedgerFault::Overflow);
        };
        lock.settled = voucher.amount;
        self.balances.insert(payer, payer_after);
        self.balances.insert(payee, payee_after);
        Ok(())
    }

    /// Whether `author` may close this lock.
    ///
    /// # Errors
    /// Why not.
    pub fn check_close(&self, author: &DeviceId, lock: &ChangeHash) -> Result<(), LedgerFault> {
        let lock = self.locks.get(lock).ok_or(LedgerFault::UnknownLock)?;
        if *author == lock.payee { Ok(()) } else { Err(LedgerFault::NotAParty) }
    }

    pub(crate) fn close(&mut self, author: &DeviceId, lock: &ChangeHash) -> Result<(), LedgerFault> {
        self.check_close(author, lock)?;
        if let Some(lock) = self.locks.get_mut(lock) {
            lock.closed = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SecretKey;

    const COMMUNITY: CommunityId = CommunityId::from_bytes([1; 32]);
    const LOCK: ChangeHash = ChangeHash::from_bytes([2; 32]);
    const JOB: JobId = JobId::from_bytes([3; 16]);

    fn amount(value: i64) -> Amount {
        Amount::from_token_mib(value)
    }

    fn locked() -> (Ledger, SecretKey, SecretKey) {
        let (ana, ben) = (SecretKey::from_bytes(&[4; 32]), SecretKey::from_bytes(&[5; 32]));
        let mut ledger = Ledger::new(amount(-100));
        ledger.lock(LOCK, ana.device(), ben.device(), JOB, amount(60)).expect("within the floor");
        (ledger, ana, ben)
    }

    #[test]
    fn a_job_settles_at_its_largest_voucher_in_any_order() {
        for order in [[10, 40, 25], [40, 25, 10], [25, 10, 40]] {
            let (mut ledger, ana, ben) = locked();
            for value in order {
                let voucher = Voucher::sign(&ana, &COMMUNITY, LOCK, &ben.device(), amount(value));
                ledger.settle(&COMMUNITY, &ben.device(), &voucher).expect("valid");
                assert_eq!(ledger.total(), 0);
            }
            assert_eq!(ledger.balance(&ben.device()), amount(40));
            assert_eq!(ledger.balance(&ana.device()), amount(-40));
        }
    }

    #[test]
    fn locks_hold_until_closed_by_the_payee() {
        let (mut ledger, ana, ben) = locked();
        let (a, b) = (ana.device(), ben.device());
        assert_eq!(ledger.available(&a), Some(amount(40)));
        assert!(matches!(ledger.check_lock(&a, &b, amount(41)), Err(LedgerFault::Floor { .. })));
        assert_eq!(ledger.close(&a, &LOCK), Err(LedgerFault::NotAParty));
        ledger.close(&b, &LOCK).expect("the payee");
        assert_eq!(ledger.available(&a), Some(amount(100)));
        // What was given back cannot be claimed any more.
        let voucher = Voucher::sign(&ana, &COMMUNITY, LOCK, &b, amount(5));
        assert_eq!(ledger.settle(&COMMUNITY, &b, &voucher), Err(LedgerFault::Closed));
        assert_eq!(ledger.available(&a), Some(amount(100)));
    }

    #[test]
    fn vouchers_bind_payer_payee_lock_community_and_amount() {
        let (mut ledger, ana, ben) = locked();
        let b = ben.device();
        let good = Voucher::sign(&ana, &COMMUNITY, LOCK, &b, amount(5));
        let mut bad = vec![
            Voucher { amount: amount(6), ..good },
            Voucher::sign(&ben, &COMMUNITY, LOCK, &b, amount(5)),
            Voucher::sign(&ana, &CommunityId::from_bytes([9; 32]), LOCK, &b, amount(5)),
            Voucher::sign(&ana, &COMMUNITY, LOCK, &ana.device(), amount(5)),
        ];
        assert!(bad.drain(..).all(|v| ledger.settle(&COMMUNITY, &b, &v) == Err(LedgerFault::Voucher)));
        let over = Voucher::sign(&ana, &COMMUNITY, LOCK, &b, amount(61));
        assert_eq!(ledger.settle(&COMMUNITY, &b, &over), Err(LedgerFault::AmountOutOfLock));
        let stranger = DeviceId::from_bytes([8; 32]);
        assert_eq!(ledger.settle(&COMMUNITY, &stranger, &good), Err(LedgerFault::NotAParty));
        assert_eq!(ledger.total(), 0);
    }

    #[test]
    fn l5_extreme_amounts_are_refused_not_wrapped() {
        let (mut ledger, ana, ben) = locked();
        let (a, b) = (ana.device(), ben.device());
        for max in [i64::MIN, -1, 0, i64::MAX] {
            assert_eq!(ledger.check_lock(&a, &b, amount(max)), Err(LedgerFault::LockSize));
        }
        let negative = Voucher::sign(&ana, &COMMUNITY, LOCK, &b, amount(i64::MIN));
        assert_eq!(ledger.settle(&COMMUNITY, &b, &negative), Err(LedgerFault::AmountOutOfLock));
        assert_eq!(Ledger::new(amount(i64::MAX)).floor(), Amount::ZERO);
        let deepest = Ledger::new(amount(i64::MIN));
        assert_eq!(deepest.check_lock(&a, &b, amount(1)), Err(LedgerFault::Overflow));
    }
}
