//! The rules: whether one event counts, given what its own feed and what it
//! cites came to. Nothing is changed here.

use std::sync::Arc;

use super::books::{Books, Bounty, BountyState, Lock, Offer, Terms};
use super::charter::LedgerCharter;
use super::fault::LedgerFault;
use super::graph::Graph;
use crate::amount::Amount;
use crate::event::LedgerEvent;
use crate::event::ledger::{Account, COUNTED_MAX, LEDGER_TEXT_BYTES_MAX, OfferKind, Purpose};
use crate::id::{ChangeHash, DeviceId};
use crate::text::is_clean_line;

/// Milliseconds of an hour, the unit of bookings.
const HOUR_MS: i128 = 60 * 60 * 1_000;

/// What a counting event does.
pub(super) enum Effect {
    Lock(Lock),
    Settle { lock: ChangeHash, amount: Amount },
    Close { lock: ChangeHash, amount: Amount },
    Accept { lock: ChangeHash },
    Count,
    Transfer { to: Account, amount: Amount },
    Grant { allotment: ChangeHash, to: DeviceId, amount: Amount },
    Offer(Offer),
    WithdrawOffer { offer: ChangeHash },
    Bounty(Bounty),
    Award { bounty: ChangeHash, to: DeviceId },
    WithdrawBounty { bounty: ChangeHash },
}

/// Everything known while an event is judged.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) graph: &'a Graph,
    pub(super) books: &'a Books,
    pub(super) charter: &'a dyn LedgerCharter,
}

/// Who wants something, under which terms, and with how much room.
#[derive(Clone, Copy)]
pub(super) struct Author<'a> {
    pub(super) device: &'a DeviceId,
    pub(super) terms: &'a Terms,
    /// What may be committed; none where it does not matter, because the lock
    /// is beyond a proven fork and shares the room there.
    pub(super) headroom: Option<i128>,
}

impl Author<'_> {
    fn may_share(&self) -> Result<(), LedgerFault> {
        if self.terms.may_share { Ok(()) } else { Err(LedgerFault::NotAllowed) }
    }

    fn may_commit(&self, wanted: Amount) -> Result<(), LedgerFault> {
        let Some(headroom) = self.headroom else { return Ok(()) };
        if headroom >= i128::from(wanted.token_mib()) {
            return Ok(());
        }
        Err(LedgerFault::Headroom { available: clamp(headroom), wanted })
    }
}

/// The nearest amount.
pub(super) fn clamp(value: i128) -> Amount {
    let bound = if value < 0 { i64::MIN } else { i64::MAX };
    Amount::from_token_mib(i64::try_from(value).unwrap_or(bound))
}

impl View<'_> {
    /// What a device may do at these heads. The ends of the former devices'
    /// ledgers have been judged.
    pub(super) fn terms(&self, device: &DeviceId, heads: &Arc<[ChangeHash]>) -> Terms {
        let member = self.charter.member(device, heads);
        let line = member.and_then(|_| self.charter.line(device, heads)).map(|line| line.max(Amount::ZERO));
        let mut debts = 0;
        if let (Some(member), Some(line)) = (member, line) {
            let successor = i128::from(line.token_mib());
            for former in self.charter.former_devices(&member.person, heads) {
                let book = self.books.devices.get(&former.device);
                debts += book.map_or(0, |book| book.estate(successor)).min(0);
            }
        }
        Terms {
            heads: Arc::clone(heads),
            person: member.map(|member| member.person),
            may_share: member.is_some_and(|member| member.may_share),
            line,
            debts,
        }
    }

    /// Judges any event. `voucher` says whether the voucher in it verifies.
    pub(super) fn judge(
        &self,
        author: Author<'_>,
        event: &LedgerEvent,
        voucher: bool,
    ) -> Result<Effect, LedgerFault> {
        match event {
            LedgerEvent::Locked { payee, purpose, max } => self.lock(author, payee, purpose, *max),
            LedgerEvent::Settled { lock, amount, .. } => {
                self.books.settle(author.device, lock, *amount, voucher)
            }
            LedgerEvent::Closed { lock, amount, .. } => {
                self.books.close(author.device, lock, *amount, voucher)
            }
            LedgerEvent::OrderAccepted { lock } => self.books.accept(author.device, lock),
            LedgerEvent::Counted { events } if events.len() > COUNTED_MAX => Err(LedgerFault::TooMany),
            LedgerEvent::Counted { .. } => Ok(Effect::Count),
            LedgerEvent::Transferred { to, amount, note } => self.transfer(author, to, *amount, note),
            LedgerEvent::Granted { allotment, to, amount, note, .. } => {
                self.grant(author, allotment, to, *amount, note)
            }
            LedgerEvent::OfferPosted { kind, title, price } => offer(author, kind, title, *price),
            LedgerEvent::OfferWithdrawn { offer } => {
                let own = self.books.offers.get(offer).is_some_and(|offer| offer.provider == *author.device);
                if own { Ok(Effect::WithdrawOffer { offer: *offer }) } else { Err(LedgerFault::UnknownOffer) }
            }
            LedgerEvent::BountyPosted { title, amount } => bounty(author, title, *amount),
            LedgerEvent::BountyAwarded { bounty, to } => {
                self.own_bounty(author.device, bounty)?;
                self.receiver(author, to)?;
                Ok(Effect::Award { bounty: *bounty, to: *to })
            }
            LedgerEvent::BountyWithdrawn { bounty } => {
                let amount = self.own_bounty(author.device, bounty)?;
                let total = self.books.devices.get(author.device).map_or(0, |book| book.total);
                total.checked_add(amount.token_mib()).ok_or(LedgerFault::Overflow)?;
                Ok(Effect::WithdrawBounty { bounty: *bounty })
            }
        }
    }

    fn lock(
        &self,
        author: Author<'_>,
        payee: &DeviceId,
        purpose: &Purpose,
        max: Amount,
    ) -> Result<Effect, LedgerFault> {
        if max <= Amount::ZERO || max > Amount::LOCK_MAX {
            return Err(LedgerFault::LockSize);
        }
        author.may_share()?;
        let receiver = self.charter.member(payee, &author.terms.heads);
        let receiver = receiver.filter(|member| member.may_share).ok_or(LedgerFault::Receiver)?;
        if author.terms.person == Some(receiver.person) {
            return Err(LedgerFault::OwnPayee);
        }
        self.priced(payee, purpose, max)?;
        author.may_commit(max)?;
        Ok(Effect::Lock(Lock::new(*author.device, *payee, *purpose, max)))
    }

    /// Whether the maximum covers what the offer asks.
    fn priced(&self, payee: &DeviceId, purpose: &Purpose, max: Amount) -> Result<(), LedgerFault> {
        let (offer, units, hours) = match purpose {
            Purpose::Job(_) => return Ok(()),
            Purpose::Order { offer, units } => (offer, i128::from(*units), false),
            Purpose::Booking { offer, from_ms, until_ms } => {
                let span = i128::from(*until_ms) - i128::from(*from_ms);
                (offer, (span + HOUR_MS - 1).div_euclid(HOUR_MS), true)
            }
        };
        let offer = self.books.offers.get(offer).filter(|offer| offer.provider == *payee);
        let offer = offer.filter(|offer| matches!(offer.kind, OfferKind::Hours) == hours);
        let price = i128::from(offer.ok_or(LedgerFault::UnknownOffer)?.price.token_mib()) * units;
        if units < 1 || i128::from(max.token_mib()) < price {
            return Err(LedgerFault::Price { price: clamp(price) });
        }
        Ok(())
    }

    fn receiver(&self, author: Author<'_>, to: &DeviceId) -> Result<(), LedgerFault> {
        let member = self.charter.member(to, &author.terms.heads);
        member.map(|_| ()).ok_or(LedgerFault::Receiver)
    }

    fn transfer(
        &self,
        author: Author<'_>,
        to: &Account,
        amount: Amount,
        note: &str,
    ) -> Result<Effect, LedgerFault> {
        given(amount)?;
        noted(note)?;
        author.may_share()?;
        if let Account::Device(device) = to {
            self.receiver(author, device)?;
        }
        author.may_commit(amount)?;
        Ok(Effect::Transfer { to: *to, amount })
    }

    fn grant(
        &self,
        author: Author<'_>,
        id: &ChangeHash,
        to: &DeviceId,
        amount: Amount,
        note: &str,
    ) -> Result<Effect, LedgerFault> {
        given(amount)?;
        noted(note)?;
        author.may_share()?;
        let allotment = self.charter.allotment(id, &author.terms.heads);
        let allotment = allotment.filter(|(person, _)| author.terms.person == Some(*person));
        let (person, limit) = allotment.ok_or(LedgerFault::UnknownAllotment)?;
        if author.terms.line.is_none() {
            return Err(LedgerFault::NotLineHolder);
        }
        self.receiver(author, to)?;
        let granted =
            |device: &DeviceId| self.books.grants.get(&(*id, *device)).copied().map_or(0, i128::from);
        let former = self.charter.former_devices(&person, &author.terms.heads);
        let used: i128 = former.iter().map(|former| granted(&former.device)).sum();
        let left = i128::from(limit.token_mib()) - granted(author.device) - used;
        if left < i128::from(amount.token_mib()) {
            return Err(LedgerFault::Allotment { left: clamp(left), wanted: amount });
        }
        Ok(Effect::Grant { allotment: *id, to: *to, amount })
    }

    fn own_bounty(&self, author: &DeviceId, id: &ChangeHash) -> Result<Amount, LedgerFault> {
        let bounty = self.books.bounties.get(id);
        let open = bounty.filter(|bounty| bounty.poster == *author && bounty.state == BountyState::Open);
        open.map(|bounty| bounty.amount).ok_or(LedgerFault::UnknownBounty)
    }
}

impl Books {
    /// Whether a party may post this total.
    pub(super) fn settle(
        &self,
        author: &DeviceId,
        id: &ChangeHash,
        amount: Amount,
        voucher: bool,
    ) -> Result<Effect, LedgerFault> {
        let lock = self.locks.get(id).ok_or(LedgerFault::UnknownLock)?;
        if *author != lock.payee && *author != lock.payer {
            return Err(LedgerFault::NotAParty);
        }
        if amount < Amount::ZERO || amount > lock.max {
            return Err(LedgerFault::AmountOutOfLock);
        }
        // A close of the payee's is before this or not by the payee's own
        // feed; the payer's may be posted at any time and then changes nothing.
        if *author == lock.payee && lock.closed.is_some() {
            return Err(LedgerFault::Closed);
        }
        if voucher { Ok(Effect::Settle { lock: *id, amount }) } else { Err(LedgerFault::Voucher) }
    }

    /// Whether the payee may close at this total.
    pub(super) fn close(
        &self,
        author: &DeviceId,
        id: &ChangeHash,
        amount: Amount,
        voucher: bool,
    ) -> Result<Effect, LedgerFault> {
        let lock = self.payees(author, id)?;
        if amount < Amount::ZERO || amount > lock.max {
            return Err(LedgerFault::AmountOutOfLock);
        }
        let claimed = lock.tally.claimed;
        if amount < claimed {
            return Err(LedgerFault::BelowClaim { claimed });
        }
        if voucher { Ok(Effect::Close { lock: *id, amount }) } else { Err(LedgerFault::Voucher) }
    }

    fn accept(&self, author: &DeviceId, id: &ChangeHash) -> Result<Effect, LedgerFault> {
        let lock = self.payees(author, id)?;
        if matches!(lock.purpose, Purpose::Job(_)) {
            return Err(LedgerFault::UnknownOffer);
        }
        Ok(Effect::Accept { lock: *id })
    }

    fn payees(&self, author: &DeviceId, id: &ChangeHash) -> Result<&Lock, LedgerFault> {
        let lock = self.locks.get(id).ok_or(LedgerFault::UnknownLock)?;
        if *author != lock.payee {
            return Err(LedgerFault::NotAParty);
        }
        if lock.closed.is_some() { Err(LedgerFault::Closed) } else { Ok(lock) }
    }
}

fn offer(author: Author<'_>, kind: &OfferKind, title: &str, price: Amount) -> Result<Effect, LedgerFault> {
    titled(title)?;
    if price < Amount::ZERO || price > Amount::LOCK_MAX {
        return Err(LedgerFault::AmountSize);
    }
    author.may_share()?;
    let (kind, title) = (kind.clone(), title.to_owned());
    Ok(Effect::Offer(Offer { provider: *author.device, kind, title, price, withdrawn: false }))
}

fn bounty(author: Author<'_>, title: &str, amount: Amount) -> Result<Effect, LedgerFault> {
    titled(title)?;
    given(amount)?;
    author.may_share()?;
    author.may_commit(amount)?;
    let title = title.to_owned();
    Ok(Effect::Bounty(Bounty { poster: *author.device, title, amount, state: BountyState::Open }))
}

fn given(amount: Amount) -> Result<(), LedgerFault> {
    if amount > Amount::ZERO { Ok(()) } else { Err(LedgerFault::AmountSize) }
}

fn titled(title: &str) -> Result<(), LedgerFault> {
    let clean = title.len() <= LEDGER_TEXT_BYTES_MAX && is_clean_line(title);
    if clean { Ok(()) } else { Err(LedgerFault::Text) }
}

fn noted(note: &str) -> Result<(), LedgerFault> {
    if note.is_empty() { Ok(()) } else { titled(note) }
}
