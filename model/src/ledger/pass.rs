//! One pass: which event's turn it is, and what a counting one does.

use std::sync::Arc;

use super::books::{BountyState, DeviceBook, Fork, Terms};
use super::charter::{LedgerCharter, Place};
use super::fault::{LedgerFault, Standing};
use super::graph::Before;
use super::judge::{Author, Effect, View};
use super::{Ledger, Voucher};
use crate::amount::Amount;
use crate::event::LedgerEvent;
use crate::event::ledger::{Account, Purpose};
use crate::id::{ChangeHash, DeviceId};

/// What came of looking at a change.
enum Turn {
    /// It was judged.
    Judged(Standing),
    /// It waits for this change of the ledger.
    Ledger(ChangeHash),
    /// It waits for the charter.
    Charter,
    /// It waits for a change that is of either, once it is here.
    Either(ChangeHash),
    /// It was judged before, or waits for the change it follows.
    Nothing,
}

/// On which side of its device's fork a change lies.
enum Side {
    Line,
    Forked,
    Barred,
}

impl Ledger {
    /// Judges what is ready, and what becomes ready by that.
    pub(super) fn pump(&mut self, mut ready: Vec<ChangeHash>, charter: &dyn LedgerCharter) {
        while let Some(id) = ready.pop() {
            match self.look_at(&id, charter) {
                Turn::Judged(standing) => {
                    if let Some(node) = self.graph.get_mut(&id) {
                        node.standing = Some(standing);
                        ready.extend_from_slice(&node.children);
                    }
                    ready.extend(self.waiting.ledger.remove(&id).unwrap_or_default());
                    debug_assert_eq!(self.books.sum(), 0, "accounts sum to zero");
                }
                Turn::Ledger(missing) => {
                    self.waiting.ledger.entry(missing).or_default().insert(id);
                }
                Turn::Charter => {
                    self.waiting.charter.insert(id);
                }
                Turn::Either(missing) => {
                    self.waiting.ledger.entry(missing).or_default().insert(id);
                    self.waiting.charter.insert(id);
                }
                Turn::Nothing => {}
            }
        }
    }

    fn look_at(&mut self, id: &ChangeHash, charter: &dyn LedgerCharter) -> Turn {
        let Some(node) = self.graph.get(id).filter(|node| node.standing.is_none()) else {
            return Turn::Nothing;
        };
        if node.void {
            return Turn::Judged(Standing::Void);
        }
        let before = self.graph.before(node);
        match &before {
            Before::Start => {}
            Before::Missing => return Turn::Nothing,
            Before::Change(parent) => match self.graph.get(parent).and_then(|node| node.standing.as_ref()) {
                None => return Turn::Nothing,
                Some(Standing::Void) => return Turn::Judged(Standing::Void),
                Some(_) => {}
            },
        }
        let (device, place, heads) = (node.device, node.place, Arc::clone(&node.heads));
        let Some(event) = node.event.clone() else {
            return Turn::Judged(match self.side(&device, place, &before, charter) {
                Side::Line => Standing::Meaningless,
                Side::Forked => Standing::Forked,
                Side::Barred => Standing::Barred,
            });
        };
        match self.side(&device, place, &before, charter) {
            Side::Line => {}
            Side::Forked => return Turn::Judged(Standing::Forked),
            Side::Barred if matches!(*event, LedgerEvent::Locked { .. }) => {
                return self.look_at_contested(id, &device, &heads, &event, charter);
            }
            Side::Barred => return Turn::Judged(Standing::Barred),
        }
        if let Some(wait) = self.waits_for(&device, &heads, &event, charter) {
            return wait;
        }
        Turn::Judged(match self.judge(id, &device, &heads, &event, charter) {
            Ok(()) => Standing::Counted,
            Err(fault) => Standing::Faulty(fault),
        })
    }

    fn side(
        &mut self,
        device: &DeviceId,
        place: Place,
        before: &Before,
        charter: &dyn LedgerCharter,
    ) -> Side {
        let fork = self.books.device(device).fork.get_or_insert_with(|| {
            let bar = charter.bar(device);
            Fork {
                place: bar.as_ref().map(|bar| bar.place),
                settled: bar.map(|bar| bar.settled),
                ..Fork::default()
            }
        });
        if fork.place.is_none_or(|fork| place < fork)
            && let Some(parting) = self.graph.parting(device, before)
        {
            fork.place = Some(parting);
        }
        match &fork.place {
            Some(fork) if *fork > place => Side::Line,
            None => Side::Line,
            Some(_) if fork.settled.is_some() => Side::Barred,
            Some(_) => Side::Forked,
        }
    }

    /// What an event on its device's line still waits for.
    fn waits_for(
        &self,
        device: &DeviceId,
        heads: &[ChangeHash],
        event: &LedgerEvent,
        charter: &dyn LedgerCharter,
    ) -> Option<Turn> {
        if let Some(turn) = self.waits_for_named(event, charter) {
            return Some(turn);
        }
        let terms = self.books.devices.get(device).and_then(|book| book.terms.as_ref());
        if terms.is_some_and(|terms| *terms.heads == *heads) {
            return None;
        }
        self.waits_for_charter(device, heads, charter)
    }

    /// For its charter heads and, where the person's former devices matter,
    /// for all that counts of their ledgers.
    fn waits_for_charter(
        &self,
        device: &DeviceId,
        heads: &[ChangeHash],
        charter: &dyn LedgerCharter,
    ) -> Option<Turn> {
        if !charter.is_ready(heads) {
            return Some(Turn::Charter);
        }
        charter.line(device, heads)?;
        let person = charter.member(device, heads)?.person;
        let former = charter.former_devices(&person, heads);
        former.iter().filter_map(|former| former.end).find(|end| !self.is_judged(end)).map(Turn::Ledger)
    }

    fn waits_for_named(&self, event: &LedgerEvent, charter: &dyn LedgerCharter) -> Option<Turn> {
        let named = match event {
            LedgerEvent::Settled { lock, .. }
            | LedgerEvent::Closed { lock, .. }
            | LedgerEvent::OrderAccepted { lock } => lock,
            LedgerEvent::Locked {
                purpose: Purpose::Order { offer, .. } | Purpose::Booking { offer, .. },
                ..
            }
            | LedgerEvent::OfferWithdrawn { offer } => offer,
            LedgerEvent::BountyAwarded { bounty, .. } | LedgerEvent::BountyWithdrawn { bounty } => bounty,
            LedgerEvent::Granted { allotment, .. } => {
                return (!charter.has(allotment)).then_some(Turn::Charter);
            }
            LedgerEvent::Counted { events } => {
                let missing = events.iter().find(|id| !self.is_judged(id) && !charter.has(id))?;
                let here = self.graph.get(missing).is_some();
                return Some(if here { Turn::Ledger(*missing) } else { Turn::Either(*missing) });
            }
            LedgerEvent::Locked { .. }
            | LedgerEvent::Transferred { .. }
            | LedgerEvent::OfferPosted { .. }
            | LedgerEvent::BountyPosted { .. } => return None,
        };
        (!self.is_judged(named)).then_some(Turn::Ledger(*named))
    }

    fn is_judged(&self, id: &ChangeHash) -> bool {
        self.graph.get(id).is_some_and(|node| node.standing.is_some())
    }

    pub(super) fn view<'a>(&'a self, charter: &'a dyn LedgerCharter) -> View<'a> {
        View { graph: &self.graph, books: &self.books, charter }
    }

    fn judge(
        &mut self,
        id: &ChangeHash,
        device: &DeviceId,
        heads: &Arc<[ChangeHash]>,
        event: &LedgerEvent,
        charter: &dyn LedgerCharter,
    ) -> Result<(), LedgerFault> {
        self.take_terms(device, heads, charter)?;
        let voucher = self.verified(id, event);
        let Some(book) = self.books.devices.get(device) else { return Err(LedgerFault::NotAllowed) };
        let Some(terms) = &book.terms else { return Err(LedgerFault::NotAllowed) };
        let author = Author { device, terms, headroom: Some(book.headroom(terms)) };
        let effect = self.view(charter).judge(author, event, voucher)?;
        match (effect, event) {
            (Effect::Count, LedgerEvent::Counted { events }) => self.count(device, events, charter),
            (effect, _) => self.enter(id, device, effect),
        }
        Ok(())
    }

    /// Brings the device to the charter heads it cites now, never to older ones.
    fn take_terms(
        &mut self,
        device: &DeviceId,
        heads: &Arc<[ChangeHash]>,
        charter: &dyn LedgerCharter,
    ) -> Result<(), LedgerFault> {
        if let Some(terms) = self.books.devices.get(device).and_then(|book| book.terms.as_ref()) {
            if terms.heads == *heads {
                return Ok(());
            }
            if !terms.heads.iter().all(|head| charter.in_past(head, heads)) {
                return Err(LedgerFault::OldHeads);
            }
        }
        let terms = self.view(charter).terms(device, heads);
        self.books.device(device).terms = Some(terms);
        self.books.deduct(device, |verdict| charter.in_past(verdict, heads));
        Ok(())
    }

    fn count(&mut self, device: &DeviceId, named: &[ChangeHash], charter: &dyn LedgerCharter) {
        for id in named {
            let Some(book) = self.books.devices.get(device) else { return };
            let Some(terms) = &book.terms else { return };
            let author = Author { device, terms, headroom: None };
            if let Some(income) = self.view(charter).income(author, id, &self.assumed) {
                self.books.count(&mut self.graph, device, id, income);
            }
        }
        let book = self.books.device(device);
        if book.accused.is_empty() {
            return;
        }
        let Some(heads) = book.terms.as_ref().map(|terms| Arc::clone(&terms.heads)) else { return };
        self.books.deduct(device, |verdict| charter.in_past(verdict, &heads));
    }

    /// A lock beyond a proven fork: judged by every rule but the headroom,
    /// which all of them share.
    fn look_at_contested(
        &mut self,
        id: &ChangeHash,
        device: &DeviceId,
        heads: &Arc<[ChangeHash]>,
        event: &LedgerEvent,
        charter: &dyn LedgerCharter,
    ) -> Turn {
        let wait = self.waits_for_named(event, charter);
        if let Some(wait) = wait.or_else(|| self.waits_for_charter(device, heads, charter)) {
            return wait;
        }
        let own = self.view(charter).terms(device, heads);
        let author = Author { device, terms: &own, headroom: None };
        let mut lock = match self.view(charter).judge(author, event, false) {
            Ok(Effect::Lock(lock)) => lock,
            Ok(_) => return Turn::Judged(Standing::Barred),
            Err(fault) => return Turn::Judged(Standing::Faulty(fault)),
        };
        let stands = self.assumed.stands.contains(id);
        lock.tally.contested = true;
        lock.tally.worthless = !stands;
        let book = self.books.device(device);
        let credit = book.terms.as_ref().map_or_else(|| own.credit(), Terms::credit);
        if let Some(fork) = &mut book.fork {
            fork.contested.insert(*id, credit);
        }
        self.books.insert_lock(*id, lock);
        Turn::Judged(if stands { Standing::Salvaged } else { Standing::Worthless })
    }

    /// Whether the voucher in an event verifies; checked once for ever.
    fn verified(&mut self, id: &ChangeHash, event: &LedgerEvent) -> bool {
        let (lock_id, amount, signature) = match event {
            LedgerEvent::Settled { lock, amount, voucher } => (lock, amount, Some(voucher)),
            LedgerEvent::Closed { lock, amount, voucher } => (lock, amount, voucher.as_ref()),
            _ => return false,
        };
        let Some(signature) = signature else { return *amount == Amount::ZERO };
        let Some(lock) = self.books.locks.get(lock_id) else { return false };
        let Some(node) = self.graph.get_mut(id) else { return false };
        *node.voucher.get_or_insert_with(|| {
            let voucher = Voucher { lock: *lock_id, amount: *amount, signature: *signature };
            voucher.verify(&self.community, &lock.payer, &lock.payee).is_ok()
        })
    }

    /// Enters what a counting event does.
    fn enter(&mut self, id: &ChangeHash, device: &DeviceId, effect: Effect) {
        let time_ms = self.graph.get(id).map_or(0, |node| node.time_ms);
        let books = &mut self.books;
        let from = Account::Device(*device);
        match effect {
            Effect::Lock(lock) => {
                books.device(device).commit(lock.max.token_mib());
                books.insert_lock(*id, lock);
            }
            Effect::Settle { lock, amount } => {
                books.enter_settlement(id, device, &lock, amount);
                books.change_lock(&lock, |lock| lock.settled_ms = lock.settled_ms.max(time_ms));
            }
            Effect::Close { lock, amount } => {
                books.enter_close(id, &lock, amount);
                books.change_lock(&lock, |lock| lock.settled_ms = lock.settled_ms.max(time_ms));
            }
            Effect::Accept { lock } => books.change_lock(&lock, |lock| lock.accepted = true),
            Effect::Count => {}
            Effect::Transfer { to, amount } => {
                books.device(device).commit(amount.token_mib());
                books.give(id, &from, &to, amount);
            }
            Effect::Grant { allotment, to, amount } => {
                let granted = books.grants.entry((allotment, *device)).or_default();
                // Within the allotment, so within 64 bits.
                *granted = granted.saturating_add(amount.token_mib());
                books.give(id, &Account::Community, &Account::Device(to), amount);
            }
            Effect::Offer(offer) => {
                books.offers.insert(*id, offer);
            }
            Effect::WithdrawOffer { offer } => {
                if let Some(offer) = books.offers.get_mut(&offer) {
                    offer.withdrawn = true;
                }
            }
            Effect::Bounty(bounty) => {
                let book = books.device(device);
                book.commit(bounty.amount.token_mib());
                book.held += i128::from(bounty.amount.token_mib());
                books.bounties.insert(*id, bounty);
            }
            Effect::Award { bounty, to } => {
                let Some(amount) = books.end_bounty(&bounty, BountyState::Awarded(to)) else { return };
                books.give(id, &from, &Account::Device(to), amount);
            }
            Effect::WithdrawBounty { bounty } => {
                let Some(amount) = books.end_bounty(&bounty, BountyState::Withdrawn) else { return };
                books.device(device).commit(-amount.token_mib());
            }
        }
    }
}

impl DeviceBook {
    /// What may still be committed under these terms.
    pub(super) fn headroom(&self, terms: &Terms) -> i128 {
        terms.credit() + i128::from(self.total)
    }

    /// Whether a fork of the device is proven.
    pub(super) fn is_barred(&self) -> bool {
        self.fork.as_ref().is_some_and(|fork| fork.settled.is_some())
    }
}
