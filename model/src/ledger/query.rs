//! What others ask of the ledger, and the checks an author makes first: the
//! same rules, before anything is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minicbor::Encode;

use super::books::{Bounty, BountyState, DeviceBook, Lock, LockState, Offer, Terms};
use super::charter::LedgerCharter;
use super::fault::{LedgerFault, Standing};
use super::income::Source;
use super::judge::{Author, clamp};
use super::{Ledger, Voucher};
use crate::amount::Amount;
use crate::codec;
use crate::event::LedgerEvent;
use crate::event::ledger::{Account, COUNTED_MAX};
use crate::id::{ChangeHash, DeviceId, PersonId};
use crate::signature::Signature;

impl Ledger {
    /// What an account has. (Kept in 128 bits; shown at the nearest amount.)
    pub fn balance(&self, account: &Account) -> Amount {
        clamp(match account {
            Account::Device(device) => self.book(device).map_or(0, |book| book.balance),
            Account::Community => self.books.community,
        })
    }

    /// What all devices have that were ever a person's.
    pub fn person_balance(&self, person: &PersonId, charter: &dyn LedgerCharter) -> Amount {
        let own = self.books.devices.iter().filter(|(device, _)| charter.person_of(device) == Some(*person));
        clamp(own.map(|(_, book)| book.balance).sum())
    }

    /// What a device has set aside in open locks and bounties.
    pub fn held(&self, device: &DeviceId) -> Amount {
        clamp(self.book(device).map_or(0, |book| book.held))
    }

    /// What a device could commit with an event under these charter heads. It
    /// spends only what it has counted: see [`countable`](Self::countable).
    pub fn headroom(
        &self,
        device: &DeviceId,
        heads: &Arc<[ChangeHash]>,
        charter: &dyn LedgerCharter,
    ) -> Amount {
        self.outlook(device, heads, charter).map_or(Amount::ZERO, |(_, headroom)| clamp(headroom))
    }

    /// One lock that counts, or that lies beyond a proven fork.
    pub fn lock(&self, id: &ChangeHash) -> Option<&Lock> {
        self.books.locks.get(id)
    }

    /// All of them, by the change that carries them.
    pub const fn locks(&self) -> &BTreeMap<ChangeHash, Lock> {
        &self.books.locks
    }

    /// All offers, by the change that carries them.
    pub const fn offers(&self) -> &BTreeMap<ChangeHash, Offer> {
        &self.books.offers
    }

    /// All bounties, by the change that carries them.
    pub const fn bounties(&self) -> &BTreeMap<ChangeHash, Bounty> {
        &self.books.bounties
    }

    /// What became of a change; `None` where it is not here.
    pub fn standing(&self, id: &ChangeHash) -> Option<Standing> {
        let node = self.graph.get(id)?;
        Some(node.standing.clone().unwrap_or(Standing::Waiting))
    }

    /// Sum of all accounts: zero, after every event.
    pub fn total(&self) -> i128 {
        self.books.devices.values().map(|book| book.balance).sum::<i128>() + self.books.community
    }

    /// Whether `author` could write this event now under these heads. For
    /// events that name others those must be here.
    ///
    /// # Errors
    /// Why it would not count.
    pub fn check(
        &self,
        author: &DeviceId,
        heads: &Arc<[ChangeHash]>,
        event: &LedgerEvent,
        charter: &dyn LedgerCharter,
    ) -> Result<(), LedgerFault> {
        let (terms, headroom) = self.outlook(author, heads, charter)?;
        let voucher = match event {
            LedgerEvent::Settled { lock, amount, voucher } => self.vouched(lock, *amount, Some(voucher)),
            LedgerEvent::Closed { lock, amount, voucher } => self.vouched(lock, *amount, voucher.as_ref()),
            _ => false,
        };
        let author = Author { device: author, terms: &terms, headroom: Some(headroom) };
        self.view(charter).judge(author, event, voucher).map(|_| ())
    }

    /// Whether a party of a lock may post this voucher.
    ///
    /// # Errors
    /// Why not.
    pub fn check_voucher(&self, author: &DeviceId, voucher: &Voucher) -> Result<(), LedgerFault> {
        let lock = self.books.locks.get(&voucher.lock).ok_or(LedgerFault::UnknownLock)?;
        // What is posted after a close changes nothing, whoever posts it.
        if lock.closed.is_some() {
            return Err(LedgerFault::Closed);
        }
        if lock.state() == LockState::Worthless {
            return Err(LedgerFault::Forked);
        }
        let verifies = self.vouched(&voucher.lock, voucher.amount, Some(&voucher.signature));
        self.books.settle(author, &voucher.lock, voucher.amount, verifies).map(|_| ())
    }

    /// Whether the payee may close a lock at this amount.
    ///
    /// # Errors
    /// Why not.
    pub fn check_close(
        &self,
        author: &DeviceId,
        lock: &ChangeHash,
        amount: Amount,
        voucher: Option<&Signature>,
    ) -> Result<(), LedgerFault> {
        let voucher = self.vouched(lock, amount, voucher);
        self.books.close(author, lock, amount, voucher).map(|_| ())
    }

    /// What `device` should name in its next `Counted` under these heads: at
    /// most [`COUNTED_MAX`] changes, each of which brings something.
    pub fn countable(
        &self,
        device: &DeviceId,
        heads: &Arc<[ChangeHash]>,
        charter: &dyn LedgerCharter,
    ) -> Vec<ChangeHash> {
        let Ok((terms, _)) = self.outlook(device, heads, charter) else { return Vec::new() };
        let author = Author { device, terms: &terms, headroom: None };
        let mut estates = Vec::new();
        if let Some(person) = terms.person.filter(|_| terms.line.is_some()) {
            let former = charter.former_devices(&person, heads).into_iter();
            estates.extend(former.filter(|former| former.revoked).map(|former| former.by));
        }
        let mut candidates: BTreeSet<ChangeHash> = self.books.judged.keys().copied().collect();
        for (owner, book) in &self.books.devices {
            if !book.income.is_empty() && self.books.acts_for(device, owner) {
                candidates.extend(&book.income);
            }
        }
        let brings = |id: &ChangeHash| {
            let income = self.view(charter).income(author, id, &self.assumed);
            // An estate of nothing is worth naming: what comes later is the heir's.
            income.is_some_and(|income| income.gain > 0 || matches!(income.source, Source::Estate(_)))
        };
        estates.into_iter().chain(candidates).filter(brings).take(COUNTED_MAX).collect()
    }

    /// Settlements and closes of a device's locks, the newest places first, at
    /// most `max`: what a proof of its fork names as known.
    pub fn settlements_of(&self, device: &DeviceId, max: usize) -> Vec<ChangeHash> {
        let mut known: Vec<_> = self
            .graph
            .iter()
            .filter_map(|(id, node)| match node.event.as_deref()? {
                LedgerEvent::Settled { lock, .. } | LedgerEvent::Closed { lock, .. } => {
                    let lock = self.books.locks.get(lock).filter(|lock| lock.payer == *device)?;
                    (lock.payee == node.device && node.counts()).then_some((node.place, *id))
                }
                _ => None,
            })
            .collect();
        known.sort_unstable_by(|one, other| other.cmp(one));
        known.truncate(max);
        known.into_iter().map(|(_, id)| id).collect()
    }

    /// The accounts and what hangs on them in canonical bytes, for the
    /// community's state hash: a function of the set of events and the charter.
    pub fn encode_state(&self) -> Vec<u8> {
        let accounts: Vec<_> = self.books.devices.iter().filter_map(account_line).collect();
        let locks: Vec<_> = self.books.locks.iter().map(lock_line).collect();
        let offers: Vec<_> =
            self.books.offers.iter().map(|(id, offer)| (*id, offer.provider, offer.withdrawn)).collect();
        let bounties: Vec<_> = self.books.bounties.iter().map(bounty_line).collect();
        let grants: Vec<_> =
            self.books.grants.iter().map(|((id, device), amount)| (*id, *device, *amount)).collect();
        let community = Wide::from(self.books.community);
        codec::encode(&("exo/ledger-state/1", community, accounts, locks, offers, bounties, grants))
    }

    /// Whether the lock's payer signed this amount; zero needs no signature.
    fn vouched(&self, id: &ChangeHash, amount: Amount, signature: Option<&Signature>) -> bool {
        let Some(lock) = self.books.locks.get(id) else { return false };
        let Some(signature) = signature else { return amount == Amount::ZERO };
        let voucher = Voucher { lock: *id, amount, signature: *signature };
        voucher.verify(&self.community, &lock.payer, &lock.payee).is_ok()
    }

    fn book(&self, device: &DeviceId) -> Option<&DeviceBook> {
        self.books.devices.get(device)
    }

    /// Terms and room of a device that would write under these heads.
    fn outlook(
        &self,
        device: &DeviceId,
        heads: &Arc<[ChangeHash]>,
        charter: &dyn LedgerCharter,
    ) -> Result<(Terms, i128), LedgerFault> {
        if charter.bar(device).is_some() {
            return Err(LedgerFault::Forked);
        }
        let Some(book) = self.book(device) else {
            let terms = self.view(charter).terms(device, heads);
            let headroom = terms.credit();
            return Ok((terms, headroom));
        };
        if book.fork.as_ref().is_some_and(|fork| fork.place.is_some()) {
            return Err(LedgerFault::Forked);
        }
        if let Some(terms) = book.terms.as_ref()
            && !terms.heads.iter().all(|head| charter.in_past(head, heads))
        {
            return Err(LedgerFault::OldHeads);
        }
        let terms = self.view(charter).terms(device, heads);
        let mut headroom = book.headroom(&terms);
        for (verdict, lock) in book
            .accused
            .iter()
            .filter_map(|id| Some((self.books.verdicts.get(id)?, self.books.locks.get(id)?)))
        {
            if charter.in_past(&verdict.id, heads) {
                let due = lock.tally.refund.min(lock.tally.counted);
                headroom -= i128::from(due.token_mib()) - i128::from(lock.tally.deducted.token_mib());
            }
        }
        Ok((terms, headroom))
    }
}

fn account_line((device, book): (&DeviceId, &DeviceBook)) -> Option<AccountLine> {
    let fork = book.fork.as_ref().and_then(|fork| fork.place).map(|place| (place.segment, place.seq));
    let idle = book.balance == 0 && book.total == 0 && fork.is_none() && book.heir.is_none();
    (!idle).then(|| AccountLine {
        device: *device,
        balance: Wide::from(book.balance),
        total: book.total,
        fork,
        barred: book.is_barred(),
        heir: book.heir,
    })
}

fn lock_line((id, lock): (&ChangeHash, &Lock)) -> LockLine {
    LockLine {
        id: *id,
        payer: lock.payer,
        payee: lock.payee,
        max: lock.max,
        settled: lock.settled,
        closed: lock.closed,
        accepted: lock.accepted,
        worthless: lock.tally.worthless,
        counted: lock.tally.counted,
        freed: lock.tally.freed,
        refunded: lock.refunded(),
    }
}

fn bounty_line(
    (id, bounty): (&ChangeHash, &Bounty),
) -> (ChangeHash, DeviceId, Amount, bool, Option<DeviceId>) {
    let (ended, to) = match bounty.state {
        BountyState::Open => (false, None),
        BountyState::Awarded(to) => (true, Some(to)),
        BountyState::Withdrawn => (true, None),
    };
    (*id, bounty.poster, bounty.amount, ended, to)
}

#[derive(Encode)]
struct AccountLine {
    #[n(0)]
    device: DeviceId,
    #[n(1)]
    balance: Wide,
    #[n(2)]
    total: i64,
    #[n(3)]
    fork: Option<(u32, u64)>,
    #[n(4)]
    barred: bool,
    #[n(5)]
    heir: Option<DeviceId>,
}

#[derive(Encode)]
struct LockLine {
    #[n(0)]
    id: ChangeHash,
    #[n(1)]
    payer: DeviceId,
    #[n(2)]
    payee: DeviceId,
    #[n(3)]
    max: Amount,
    #[n(4)]
    settled: Amount,
    #[n(5)]
    closed: Option<Amount>,
    #[n(6)]
    accepted: bool,
    #[n(7)]
    worthless: bool,
    #[n(8)]
    counted: Amount,
    #[n(9)]
    freed: bool,
    #[n(10)]
    refunded: Amount,
}

/// A sum in 128 bits.
#[derive(Encode)]
#[cbor(transparent)]
struct Wide(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl From<i128> for Wide {
    fn from(value: i128) -> Self {
        Self(value.to_be_bytes())
    }
}
