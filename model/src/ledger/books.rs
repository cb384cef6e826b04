//! The books: accounts, locks, offers and bounties, and how amounts move
//! between them. Here nothing is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::charter::{Place, Verdict};
use crate::amount::Amount;
use crate::event::ledger::{Account, OfferKind, Purpose};
use crate::id::{ChangeHash, DeviceId, PersonId};

/// Credit set aside by a payer for one payee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who pays.
    pub payer: DeviceId,
    /// Who may be paid.
    pub payee: DeviceId,
    /// For what.
    pub purpose: Purpose,
    /// The most that can be paid.
    pub max: Amount,
    /// The greatest voucher posted; zero before the first.
    pub settled: Amount,
    /// The amount of the payee's close, once there is one.
    pub closed: Option<Amount>,
    /// Whether the payee took the order or booking on.
    pub accepted: bool,
    /// When the last settlement or close of it that counts was written, ms
    /// since the Unix epoch by its author's clock; 0 before the first.
    pub settled_ms: i64,
    pub(super) tally: Tally,
}

/// Whether a lock holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockState {
    /// Vouchers may still come.
    Open,
    /// An order or booking that the payee took on.
    Accepted,
    /// The payee closed it with zero: an order declined, a job not done.
    Declined,
    /// The payee closed it.
    Closed,
    /// The payer was proven to spend twice, and the lock no longer fits.
    Worthless,
}

/// What the two sides have made of a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// What was counted for the payee.
    pub(super) counted: Amount,
    /// What the payee posted or counted itself: never less, later.
    pub(super) claimed: Amount,
    /// The posted settlement worth counting.
    pub(super) best: Option<(Amount, ChangeHash)>,
    /// Whether the payer counted the close.
    pub(super) freed: bool,
    /// Beyond a proven fork of the payer.
    pub(super) contested: bool,
    /// Beyond a proven fork, and does not fit.
    pub(super) worthless: bool,
    /// What a verdict gives back at most.
    pub(super) refund: Amount,
    /// What of it was taken from the payee's headroom.
    pub(super) deducted: Amount,
    /// Whether the payer counted the verdict.
    pub(super) refunded: bool,
}

impl Lock {
    pub(super) fn new(payer: DeviceId, payee: DeviceId, purpose: Purpose, max: Amount) -> Self {
        let (settled, tally) = (Amount::ZERO, Tally::default());
        Self { payer, payee, purpose, max, settled, closed: None, accepted: false, settled_ms: 0, tally }
    }

    /// What was paid for it in the end, or so far.
    pub fn final_amount(&self) -> Amount {
        if self.tally.worthless { Amount::ZERO } else { self.outcome() }
    }

    /// What a verdict gave back of that.
    pub fn refunded(&self) -> Amount {
        self.tally.refund.min(self.final_amount())
    }

    /// What is still set aside.
    pub fn held(&self) -> Amount {
        if self.closed.is_some() || self.tally.contested {
            return Amount::ZERO;
        }
        self.max.checked_sub(self.outcome()).unwrap_or(Amount::ZERO)
    }

    /// Where it stands.
    pub const fn state(&self) -> LockState {
        match self.closed {
            _ if self.tally.worthless => LockState::Worthless,
            Some(Amount::ZERO) => LockState::Declined,
            Some(_) => LockState::Closed,
            None if self.accepted => LockState::Accepted,
            None => LockState::Open,
        }
    }

    /// What it comes to if it stands.
    pub(super) fn outcome(&self) -> Amount {
        self.closed.unwrap_or(self.settled)
    }

    fn net(&self) -> i128 {
        i128::from(self.final_amount().token_mib()) - i128::from(self.refunded().token_mib())
    }
}

/// Something offered for credit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who offers it.
    pub provider: DeviceId,
    /// What.
    pub kind: OfferKind,
    /// In a few words.
    pub title: String,
    /// Price of one unit.
    pub price: Amount,
    /// Whether it is offered no longer.
    pub withdrawn: bool,
}

/// Credit set aside for whoever does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounty {
    /// Who pays.
    pub poster: DeviceId,
    /// What is to be done.
    pub title: String,
    /// How much it brings.
    pub amount: Amount,
    /// What became of it.
    pub state: BountyState,
}

/// What became of a bounty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BountyState {
    /// Nobody has it yet.
    Open,
    /// This device's owner earned it.
    Awarded(DeviceId),
    /// It is off.
    Withdrawn,
}

/// What a device may do, at the charter heads its last event cites.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) heads: Arc<[ChangeHash]>,
    pub(super) person: Option<PersonId>,
    pub(super) may_share: bool,
    pub(super) line: Option<Amount>,
    /// What the person's former devices owe; zero or negative.
    pub(super) debts: i128,
}

impl Terms {
    pub(super) fn credit(&self) -> i128 {
        i128::from(self.line.unwrap_or_default().token_mib()) + self.debts
    }
}

/// How far a device's line goes, and what is beyond.
#[derive(Clone, Debug, Default)]
pub(super) struct Fork {
    /// Nothing at or after this place counts.
    pub(super) place: Option<Place>,
    /// The settlements that a proof names; none while nothing is proven.
    pub(super) settled: Option<Vec<ChangeHash>>,
    /// Locks at or after the place, with the room that they share.
    pub(super) contested: BTreeMap<ChangeHash, i128>,
}

/// One device's account.
#[derive(Clone, Debug, Default)]
pub(super) struct DeviceBook {
    pub(super) balance: i128,
    pub(super) held: i128,
    /// Counted, less committed, less taken by verdicts.
    pub(super) total: i64,
    pub(super) terms: Option<Terms>,
    /// None until its first change is looked at.
    pub(super) fork: Option<Fork>,
    /// Locks with a verdict that this device counted.
    pub(super) accused: BTreeSet<ChangeHash>,
    /// What it may count.
    pub(super) income: BTreeSet<ChangeHash>,
    /// The device that counted this one's revocation.
    pub(super) heir: Option<DeviceId>,
}

impl DeviceBook {
    /// Commits an amount, or frees it if negative. What is committed is within
    /// the headroom and what is freed was committed, so that this stays within
    /// 64 bits, except where a line is longer than any charter's.
    pub(super) fn commit(&mut self, amount: i64) {
        self.total = self.total.saturating_sub(amount);
    }

    /// What it left, without the line: what it owes if negative. Of a line
    /// that was cheated with everything counts as used; where nothing before
    /// the fork says how long it was, the whole line of the successor.
    pub(super) fn estate(&self, successor: i128) -> i128 {
        match &self.fork {
            Some(Fork { settled: Some(_), place: Some(_), .. }) => {
                -self.terms.as_ref().map_or(successor, |terms| terms.credit().max(0))
            }
            _ => i128::from(self.total),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    pub(super) devices: BTreeMap<DeviceId, DeviceBook>,
    pub(super) community: i128,
    pub(super) locks: BTreeMap<ChangeHash, Lock>,
    pub(super) offers: BTreeMap<ChangeHash, Offer>,
    pub(super) bounties: BTreeMap<ChangeHash, Bounty>,
    /// What each device has granted of an allotment.
    pub(super) grants: BTreeMap<(ChangeHash, DeviceId), i64>,
    /// Verdicts by lock, and their locks by dispute: a refund is named by its
    /// dispute, because which event decides that can change without the verdict.
    pub(super) verdicts: BTreeMap<ChangeHash, Verdict>,
    pub(super) judged: BTreeMap<ChangeHash, ChangeHash>,
    /// Whether something happened that assumptions may rest on.
    pub(super) unsettled: bool,
    sum: i128,
}

impl Books {
    pub(super) fn new(verdicts: Vec<Verdict>) -> Self {
        let mut books = Self::default();
        for verdict in verdicts.into_iter().filter(|verdict| verdict.refund >= Amount::ZERO) {
            books.judged.insert(verdict.dispute, verdict.lock);
            books.verdicts.insert(verdict.lock, verdict);
        }
        books
    }

    pub(super) fn device(&mut self, device: &DeviceId) -> &mut DeviceBook {
        self.devices.entry(*device).or_default()
    }

    /// The sum of all accounts.
    pub(super) const fn sum(&self) -> i128 {
        self.sum
    }

    fn credit(&mut self, account: &Account, amount: i128) {
        let balance = match account {
            Account::Device(device) => &mut self.device(device).balance,
            Account::Community => &mut self.community,
        };
        *balance += amount;
        self.sum += amount;
    }

    /// Moves credit from one account to another.
    pub(super) fn transfer(&mut self, from: &Account, to: &Account, amount: i128) {
        self.credit(from, -amount);
        self.credit(to, amount);
    }

    pub(super) fn insert_lock(&mut self, id: ChangeHash, mut lock: Lock) {
        lock.tally.refund = self.verdicts.get(&id).map_or(Amount::ZERO, |verdict| verdict.refund);
        self.device(&lock.payer).held += i128::from(lock.held().token_mib());
        self.unsettled |= lock.tally.contested;
        self.locks.insert(id, lock);
    }

    /// Changes a lock, and moves what that moves.
    pub(super) fn change_lock(&mut self, id: &ChangeHash, change: impl FnOnce(&mut Lock)) {
        let Some(lock) = self.locks.get_mut(id) else { return };
        let (net, held, claimed) = (lock.net(), lock.held(), lock.tally.claimed);
        change(lock);
        let (payer, payee) = (lock.payer, lock.payee);
        let (net, held) =
            (lock.net() - net, i128::from(lock.held().token_mib()) - i128::from(held.token_mib()));
        let judged = lock.tally.claimed != claimed && self.verdicts.contains_key(id);
        self.unsettled |= judged || lock.tally.contested;
        if net != 0 {
            self.transfer(&Account::Device(payer), &Account::Device(payee), net);
        }
        if held != 0 {
            self.device(&payer).held += held;
        }
    }

    /// Enters a posted voucher.
    pub(super) fn enter_settlement(
        &mut self,
        id: &ChangeHash,
        author: &DeviceId,
        lock: &ChangeHash,
        amount: Amount,
    ) {
        let mut replaced = None;
        self.change_lock(lock, |lock| {
            lock.settled = lock.settled.max(amount);
            if *author == lock.payee {
                lock.tally.claimed = lock.tally.claimed.max(amount);
            }
            let better = |(best, by): (Amount, ChangeHash)| amount > best || (amount == best && *id < by);
            if lock.closed.is_none() && lock.tally.best.is_none_or(better) {
                replaced = Some((lock.payee, lock.tally.best.replace((amount, *id))));
            }
        });
        if let Some((payee, former)) = replaced {
            let income = &mut self.device(&payee).income;
            if let Some((_, former)) = former {
                income.remove(&former);
            }
            income.insert(*id);
        }
    }

    /// Enters the payee's close.
    pub(super) fn enter_close(&mut self, id: &ChangeHash, lock: &ChangeHash, amount: Amount) {
        let mut parties = None;
        self.change_lock(lock, |lock| {
            lock.closed = Some(amount);
            lock.tally.claimed = amount;
            parties = Some((lock.payer, lock.payee, lock.tally.best.take()));
        });
        let Some((payer, payee, best)) = parties else { return };
        let income = &mut self.device(&payee).income;
        if let Some((_, best)) = best {
            income.remove(&best);
        }
        income.insert(*id);
        self.device(&payer).income.insert(*id);
    }

    /// Enters a gift that the receiver may count.
    pub(super) fn give(&mut self, id: &ChangeHash, from: &Account, to: &Account, amount: Amount) {
        self.transfer(from, to, i128::from(amount.token_mib()));
        if let Account::Device(to) = to {
            self.device(to).income.insert(*id);
        }
    }

    /// Ends a bounty; what it held.
    pub(super) fn end_bounty(&mut self, id: &ChangeHash, state: BountyState) -> Option<Amount> {
        let bounty = self.bounties.get_mut(id)?;
        bounty.state = state;
        let (poster, amount) = (bounty.poster, bounty.amount);
        self.device(&poster).held -= i128::from(amount.token_mib());
        Some(amount)
    }

    /// Whether `author` may count for `owner`: itself, or as the heir of a
    /// revoked device, also at second hand.
    pub(super) fn acts_for(&self, author: &DeviceId, owner: &DeviceId) -> bool {
        let mut owner = *owner;
        // Two devices that revoke each other could be each other's heirs.
        for _ in 0..=self.devices.len() {
            if owner == *author {
                return true;
            }
            match self.devices.get(&owner).and_then(|book| book.heir) {
                Some(heir) => owner = heir,
                None => return false,
            }
        }
        false
    }
}
