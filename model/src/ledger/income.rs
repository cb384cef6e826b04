//! What a `Counted` event brings its author.

use super::books::Books;
use super::fork::Assumed;
use super::graph::{Graph, Node};
use super::judge::{Author, View};
use crate::amount::Amount;
use crate::event::LedgerEvent;
use crate::event::ledger::Account;
use crate::id::{ChangeHash, DeviceId};

/// What one named event brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Income {
    pub(super) source: Source,
    /// Whose account it comes to before the author's: the author's own, or
    /// that of a revoked device it inherits.
    owner: DeviceId,
    pub(super) gain: i128,
}

/// Where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A settlement or close, to the payee.
    Work {
        /// Of this lock.
        lock: ChangeHash,
        /// At this total.
        stated: Amount,
    },
    /// A close, to the payer.
    Freed(ChangeHash),
    /// A verdict on this lock, to the payer.
    Refund(ChangeHash),
    /// A transfer, grant or award.
    Gift(ChangeHash),
    /// What this revoked device left.
    Estate(DeviceId),
}

impl View<'_> {
    /// What naming `id` brings `author`; none for what is not its to count.
    pub(super) fn income(&self, author: Author<'_>, id: &ChangeHash, assumed: &Assumed) -> Option<Income> {
        match self.graph.get(id) {
            Some(node) if node.counts() => self.posted_income(author.device, id, node),
            Some(_) => None,
            None => self.estate(author, id).or_else(|| self.refund(author, id, assumed)),
        }
    }

    fn posted_income(&self, author: &DeviceId, id: &ChangeHash, node: &Node) -> Option<Income> {
        let gift = |to: &DeviceId, amount: Amount| {
            let gain = if node.taken { 0 } else { i128::from(amount.token_mib()) };
            let own = self.books.acts_for(author, to);
            own.then_some(Income { source: Source::Gift(*id), owner: *to, gain })
        };
        match node.event.as_deref()? {
            LedgerEvent::Settled { lock, amount, .. } => self.work(author, lock, *amount, node, false),
            LedgerEvent::Closed { lock, amount, .. } => self.work(author, lock, *amount, node, true),
            LedgerEvent::Transferred { to: Account::Device(to), amount, .. }
            | LedgerEvent::Granted { to, amount, .. } => gift(to, *amount),
            LedgerEvent::BountyAwarded { bounty, to } => gift(to, self.books.bounties.get(bounty)?.amount),
            _ => None,
        }
    }

    fn work(
        &self,
        author: &DeviceId,
        id: &ChangeHash,
        stated: Amount,
        node: &Node,
        close: bool,
    ) -> Option<Income> {
        let lock = self.books.locks.get(id)?;
        let difference =
            |more: Amount, less: Amount| (i128::from(more.token_mib()) - i128::from(less.token_mib())).max(0);
        if self.books.acts_for(author, &lock.payee) {
            if node.device == lock.payer && lock.closed.is_some() {
                return None;
            }
            let gain = if lock.tally.worthless { 0 } else { difference(stated, lock.tally.counted) };
            return Some(Income { source: Source::Work { lock: *id, stated }, owner: lock.payee, gain });
        }
        if !close || lock.tally.contested || !self.books.acts_for(author, &lock.payer) {
            return None;
        }
        let gain = if lock.tally.freed { 0 } else { difference(lock.max, stated) };
        Some(Income { source: Source::Freed(*id), owner: lock.payer, gain })
    }

    /// What a dispute that the author knew gives back, as it stands.
    fn refund(&self, author: Author<'_>, id: &ChangeHash, assumed: &Assumed) -> Option<Income> {
        let judged = self.books.judged.get(id)?;
        let lock = self.books.locks.get(judged)?;
        let own = self.books.acts_for(author.device, &lock.payer);
        if !own || lock.tally.contested || !self.charter.in_past(id, &author.terms.heads) {
            return None;
        }
        // Only what the payee itself claimed can never become less.
        let claimed = assumed.claims.get(judged).copied().unwrap_or_default();
        let gain = if lock.tally.refunded { Amount::ZERO } else { lock.tally.refund.min(claimed) };
        let gain = i128::from(gain.token_mib());
        Some(Income { source: Source::Refund(*judged), owner: lock.payer, gain })
    }

    fn estate(&self, author: Author<'_>, id: &ChangeHash) -> Option<Income> {
        author.terms.line?;
        let former = self.charter.former_devices(&author.terms.person?, &author.terms.heads);
        let former = former.into_iter().find(|former| former.by == *id && former.revoked)?;
        let book = self.books.devices.get(&former.device);
        if former.device == *author.device || book.is_some_and(|book| book.heir.is_some()) {
            return None;
        }
        let gain = book.map_or(0, |book| book.estate(0)).max(0);
        Some(Income { source: Source::Estate(former.device), owner: former.device, gain })
    }
}

impl Books {
    /// Enters what `named` brings `author`. What would leave the range of 64
    /// bits brings nothing.
    pub(super) fn count(&mut self, graph: &mut Graph, author: &DeviceId, named: &ChangeHash, income: Income) {
        // A claim is one also where the books are too small for it.
        if let Source::Work { lock, stated } = income.source {
            self.change_lock(&lock, |lock| lock.tally.claimed = lock.tally.claimed.max(stated));
        }
        let book = self.device(author);
        let total = i128::from(book.total) + income.gain;
        let Ok(total) = i64::try_from(total) else { return };
        book.total = total;
        if income.owner != *author && income.gain != 0 {
            self.transfer(&Account::Device(income.owner), &Account::Device(*author), income.gain);
        }
        self.device(&income.owner).income.remove(named);
        match income.source {
            Source::Work { lock: id, stated } => {
                if let Some(lock) = self.locks.get_mut(&id).filter(|lock| !lock.tally.worthless) {
                    lock.tally.counted = lock.tally.counted.max(stated);
                    if self.verdicts.contains_key(&id) {
                        self.device(author).accused.insert(id);
                    }
                }
            }
            Source::Freed(id) => self.change_lock(&id, |lock| lock.tally.freed = true),
            Source::Refund(id) => self.change_lock(&id, |lock| lock.tally.refunded = true),
            Source::Gift(id) => {
                if let Some(node) = graph.get_mut(&id) {
                    node.taken = true;
                }
            }
            Source::Estate(device) => {
                let former = self.device(&device);
                former.heir = Some(*author);
                let accused = std::mem::take(&mut former.accused);
                self.device(author).accused.extend(accused);
            }
        }
    }

    /// Takes from `device` what the verdicts among `known` took from what it
    /// counted.
    pub(super) fn deduct(&mut self, device: &DeviceId, known: impl Fn(&ChangeHash) -> bool) {
        let accused: Vec<_> = self.device(device).accused.iter().copied().collect();
        for id in accused {
            let Some(verdict) = self.verdicts.get(&id) else { continue };
            let Some(lock) = self.locks.get_mut(&id).filter(|_| known(&verdict.id)) else { continue };
            let due = lock.tally.refund.min(lock.tally.counted);
            let more = due.token_mib() - lock.tally.deducted.token_mib();
            lock.tally.deducted = due;
            let payee = lock.payee;
            if payee != *device {
                self.transfer(&Account::Device(*device), &Account::Device(payee), i128::from(more));
            }
            let book = self.device(device);
            book.total = book.total.saturating_sub(more);
        }
    }
}
