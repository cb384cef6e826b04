//! `docs/design/ledger.md` a second time: slowly, by looking everything up in
//! the set for every question. Shares no line with the ledger.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use exo_model::event::LedgerEvent;
use exo_model::event::ledger::{Account, OfferKind, Purpose};
use exo_model::ledger::{LedgerCharter as _, Place, Posted, Voucher};
use exo_model::{ChangeHash, DeviceId};

use super::fake::{COMMUNITY, Charter};

#[path = "amounts.rs"]
mod amounts;

type Id = ChangeHash;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Counted,
    Salvaged,
    Worthless,
    Waiting,
    Void,
    Forked,
    Barred,
    Meaningless,
    Faulty,
}

/// One event named in a `Counted`.
struct Named<'a> {
    id: Id,
    by: DeviceId,
    /// Whom the author spoke for then.
    own: BTreeSet<DeviceId>,
    /// The author's line before.
    before: Vec<&'a Posted>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Line,
    Forked,
    Barred,
}

pub(crate) struct Reference<'a> {
    events: BTreeMap<Id, &'a Posted>,
    charter: &'a Charter,
    here: RefCell<BTreeMap<Id, bool>>,
    counts: RefCell<BTreeMap<Id, bool>>,
    gains: RefCell<BTreeMap<(Id, usize), i128>>,
    salvaged: RefCell<BTreeMap<DeviceId, BTreeSet<Id>>>,
}

fn place(event: &Posted) -> Place {
    Place { segment: event.feed.segment, seq: event.seq }
}

fn mib(amount: exo_model::amount::Amount) -> i128 {
    i128::from(amount.token_mib())
}

impl<'a> Reference<'a> {
    pub(crate) fn new(events: &'a [Posted], charter: &'a Charter) -> Self {
        Self {
            events: events.iter().map(|event| (event.id, event)).collect(),
            charter,
            here: RefCell::default(),
            counts: RefCell::default(),
            gains: RefCell::default(),
            salvaged: RefCell::default(),
        }
    }

    // Where an event lies.

    fn void(&self, event: &Posted) -> bool {
        self.charter.is_beyond_fence(&event.feed, event.seq, &event.id)
            || self.parent(event).is_some_and(|parent| self.void(parent))
    }

    fn parent(&self, event: &Posted) -> Option<&'a Posted> {
        let parent = *self.events.get(&event.previous)?;
        (parent.feed.device == event.feed.device).then_some(parent)
    }

    fn starts(event: &Posted) -> bool {
        event.previous == Id::from_bytes([0; 32])
    }

    fn connected(&self, event: &Posted) -> bool {
        Self::starts(event) || self.parent(event).is_some_and(|parent| self.connected(parent))
    }

    fn fork(&self, device: &DeviceId) -> Option<Place> {
        let mut places: Vec<Place> = self.charter.bar(device).map(|bar| bar.place).into_iter().collect();
        let own: Vec<_> = self
            .events
            .values()
            .filter(|event| event.feed.device == *device && !self.void(event) && self.connected(event))
            .collect();
        for one in &own {
            if own.iter().any(|other| other.id != one.id && other.previous == one.previous) {
                places.push(place(one));
            }
        }
        places.into_iter().min()
    }

    fn side(&self, event: &Posted) -> Where {
        let device = &event.feed.device;
        match self.fork(device) {
            Some(fork) if place(event) >= fork && self.charter.bar(device).is_some() => Where::Barred,
            Some(fork) if place(event) >= fork => Where::Forked,
            _ => Where::Line,
        }
    }

    fn named(event: &LedgerEvent) -> Vec<Id> {
        match event {
            LedgerEvent::Locked { purpose: Purpose::Order { offer, .. }, .. }
            | LedgerEvent::Locked { purpose: Purpose::Booking { offer, .. }, .. }
            | LedgerEvent::OfferWithdrawn { offer } => vec![*offer],
            LedgerEvent::Settled { lock, .. }
            | LedgerEvent::Closed { lock, .. }
            | LedgerEvent::OrderAccepted { lock } => vec![*lock],
            LedgerEvent::BountyAwarded { bounty, .. } | LedgerEvent::BountyWithdrawn { bounty } => {
                vec![*bounty]
            }
            LedgerEvent::Counted { events } => events.clone(),
            LedgerEvent::Granted { allotment, .. } => vec![*allotment],
            _ => Vec::new(),
        }
    }

    /// Whether everything an event rests on is here.
    fn here(&self, id: &Id) -> bool {
        if let Some(known) = self.here.borrow().get(id) {
            return *known;
        }
        let answer = self.look_here(id);
        self.here.borrow_mut().insert(*id, answer);
        answer
    }

    fn look_here(&self, id: &Id) -> bool {
        let Some(event) = self.events.get(id) else { return false };
        if self.charter.is_beyond_fence(&event.feed, event.seq, id) {
            return true;
        }
        if !self.connected(event) {
            return false;
        }
        if let Some(parent) = self.parent(event)
            && !self.here(&parent.id)
        {
            return false;
        }
        let Some(what) = event.event.as_deref() else { return true };
        let side = self.side(event);
        let is_lock = matches!(what, LedgerEvent::Locked { .. });
        if self.void(event) || side == Where::Forked || (side == Where::Barred && !is_lock) {
            return true;
        }
        let ledger_only = !matches!(what, LedgerEvent::Counted { .. } | LedgerEvent::Granted { .. });
        let charter_only = matches!(what, LedgerEvent::Granted { .. });
        let named = Self::named(what);
        let all =
            named.iter().all(|id| (!charter_only && self.here(id)) || (!ledger_only && self.charter.has(id)));
        if !all || !self.charter.is_ready(&event.heads) {
            return false;
        }
        // An author whose charter heads did not change asks nothing new.
        if self.charter.line(&event.feed.device, &event.heads).is_none() {
            return true;
        }
        let Some(member) = self.charter.member(&event.feed.device, &event.heads) else { return true };
        let former = self.charter.former_devices(&member.person, &event.heads);
        former.iter().filter_map(|former| former.end).all(|end| self.here(&end))
    }

    pub(crate) fn verdict(&self, id: &Id) -> Verdict {
        let event = self.events[id];
        if !self.here(id) {
            return Verdict::Waiting;
        }
        if self.void(event) {
            return Verdict::Void;
        }
        match (self.side(event), event.event.as_deref()) {
            (Where::Forked, _) => Verdict::Forked,
            (Where::Barred, Some(LedgerEvent::Locked { .. })) if !self.objective(event) => Verdict::Faulty,
            (Where::Barred, Some(LedgerEvent::Locked { .. })) => {
                if self.stands(id) {
                    Verdict::Salvaged
                } else {
                    Verdict::Worthless
                }
            }
            (Where::Barred, _) => Verdict::Barred,
            (Where::Line, None) => Verdict::Meaningless,
            (Where::Line, Some(_)) if self.counts(id) => Verdict::Counted,
            (Where::Line, Some(_)) => Verdict::Faulty,
        }
    }

    // Rules.

    /// Events of the line before this one, first to last.
    fn line_before(&self, event: &Posted) -> Vec<&'a Posted> {
        let mut line = Vec::new();
        let mut at = self.parent(event);
        while let Some(event) = at {
            line.push(event);
            at = self.parent(event);
        }
        line.reverse();
        line
    }

    /// The line of a device as far as it is judged.
    fn line_of(&self, device: &DeviceId) -> Vec<&'a Posted> {
        let on_line = |event: &&&Posted| {
            event.feed.device == *device
                && self.here(&event.id)
                && !self.void(event)
                && self.side(event) == Where::Line
        };
        let mut line: Vec<_> = self.events.values().filter(on_line).copied().collect();
        line.sort_by_key(|event| place(event));
        line
    }

    /// The charter heads an author had come to after these events.
    fn heads_after(&self, line: &[&'a Posted]) -> Option<&'a [Id]> {
        let mut heads: Option<&'a [Id]> = None;
        for event in line.iter().filter(|event| event.event.is_some()) {
            let covers =
                heads.is_none_or(|known| known.iter().all(|head| self.charter.in_past(head, &event.heads)));
            if covers {
                heads = Some(&event.heads);
            }
        }
        heads
    }

    fn counts(&self, id: &Id) -> bool {
        if let Some(known) = self.counts.borrow().get(id) {
            return *known;
        }
        let answer = self.events.get(id).is_some_and(|event| {
            self.here(id)
                && !self.void(event)
                && self.side(event) == Where::Line
                && event.event.as_deref().is_some_and(|what| self.passes(event, what))
        });
        self.counts.borrow_mut().insert(*id, answer);
        answer
    }

    fn passes(&self, event: &'a Posted, what: &LedgerEvent) -> bool {
        let before = self.line_before(event);
        if let Some(known) = self.heads_after(&before)
            && !known.iter().all(|head| self.charter.in_past(head, &event.heads))
        {
            return false;
        }
        let fits = |wanted: i128| wanted > 0 && wanted <= self.headroom(event);
        match what {
            LedgerEvent::Locked { max, .. } => self.objective(event) && fits(mib(*max)),
            LedgerEvent::Settled { lock, amount, voucher } => {
                let Some((payer, payee, max)) = self.lock(lock) else { return false };
                let author = event.feed.device;
                let voucher = Voucher { lock: *lock, amount: *amount, signature: *voucher };
                (author == payer || author == payee)
                    && (0..=max).contains(&mib(*amount))
                    && !(author == payee && self.closed_in(lock, &before))
                    && voucher.verify(&COMMUNITY, &payer, &payee).is_ok()
            }
            LedgerEvent::Closed { lock, amount, voucher } => {
                let Some((payer, payee, max)) = self.lock(lock) else { return false };
                let signed = match voucher {
                    None => mib(*amount) == 0,
                    Some(signature) => Voucher { lock: *lock, amount: *amount, signature: *signature }
                        .verify(&COMMUNITY, &payer, &payee)
                        .is_ok(),
                };
                event.feed.device == payee
                    && (0..=max).contains(&mib(*amount))
                    && !self.closed_in(lock, &before)
                    && mib(*amount) >= self.claimed_in(lock, &before)
                    && signed
            }
            LedgerEvent::OrderAccepted { lock } => {
                let Some((_, payee, _)) = self.lock(lock) else { return false };
                let Some(LedgerEvent::Locked { purpose, .. }) = self.events[lock].event.as_deref() else {
                    return false;
                };
                !matches!(purpose, Purpose::Job(_))
                    && event.feed.device == payee
                    && !self.closed_in(lock, &before)
            }
            LedgerEvent::Counted { events } => events.len() <= 256,
            LedgerEvent::Transferred { to, amount, .. } => {
                let known = match to {
                    Account::Community => true,
                    Account::Device(to) => self.charter.member(to, &event.heads).is_some(),
                };
                known && self.may_share(event) && fits(mib(*amount))
            }
            LedgerEvent::Granted { allotment, to, amount, .. } => {
                self.may_grant(event, &before, allotment, to, mib(*amount))
            }
            LedgerEvent::OfferPosted { price, .. } => {
                self.may_share(event) && (0..=1 << 48).contains(&mib(*price))
            }
            LedgerEvent::OfferWithdrawn { offer } => {
                self.offer(offer).is_some_and(|(author, _, _)| author == event.feed.device)
            }
            LedgerEvent::BountyPosted { amount, .. } => self.may_share(event) && fits(mib(*amount)),
            LedgerEvent::BountyAwarded { bounty, to } => {
                self.charter.member(to, &event.heads).is_some() && self.open_bounty(bounty, event, &before)
            }
            LedgerEvent::BountyWithdrawn { bounty } => self.open_bounty(bounty, event, &before),
        }
    }

    fn may_share(&self, event: &Posted) -> bool {
        self.charter.member(&event.feed.device, &event.heads).is_some_and(|member| member.may_share)
    }

    fn may_grant(
        &self,
        event: &Posted,
        before: &[&'a Posted],
        allotment: &Id,
        to: &DeviceId,
        wanted: i128,
    ) -> bool {
        let granted = |line: &[&'a Posted]| -> i128 {
            line.iter()
                .filter(|event| self.counts(&event.id))
                .filter_map(|event| match event.event.as_deref()? {
                    LedgerEvent::Granted { allotment: of, amount, .. } if of == allotment => {
                        Some(mib(*amount))
                    }
                    _ => None,
                })
                .sum()
        };
        let Some(member) = self.charter.member(&event.feed.device, &event.heads) else { return false };
        let Some((person, limit)) = self.charter.allotment(allotment, &event.heads) else { return false };
        let former = self.charter.former_devices(&person, &event.heads);
        let used: i128 = former.iter().map(|former| granted(&self.line_of(&former.device))).sum();
        member.person == person
            && member.may_share
            && wanted > 0
            && self.charter.line(&event.feed.device, &event.heads).is_some()
            && self.charter.member(to, &event.heads).is_some()
            && granted(before) + used + wanted <= mib(limit)
    }

    fn offer(&self, id: &Id) -> Option<(DeviceId, &'a OfferKind, i128)> {
        let event = self.events.get(id)?;
        match event.event.as_deref()? {
            LedgerEvent::OfferPosted { kind, price, .. } if self.counts(id) => {
                Some((event.feed.device, kind, mib(*price)))
            }
            _ => None,
        }
    }

    /// All a lock needs but headroom.
    fn objective(&self, event: &Posted) -> bool {
        let Some(LedgerEvent::Locked { payee, purpose, max }) = event.event.as_deref() else { return false };
        let Some(other) = self.charter.member(payee, &event.heads) else { return false };
        let Some(own) = self.charter.member(&event.feed.device, &event.heads) else { return false };
        let priced = match purpose {
            Purpose::Job(_) => true,
            Purpose::Order { offer, units } => self.offer(offer).is_some_and(|(author, kind, price)| {
                author == *payee
                    && *units > 0
                    && !matches!(kind, OfferKind::Hours)
                    && mib(*max) >= price * i128::from(*units)
            }),
            Purpose::Booking { offer, from_ms, until_ms } => {
                let ms = i128::from(*until_ms) - i128::from(*from_ms);
                let hours = ms / 3_600_000 + i128::from(ms % 3_600_000 != 0);
                self.offer(offer).is_some_and(|(author, kind, price)| {
                    author == *payee
                        && ms > 0
                        && matches!(kind, OfferKind::Hours)
                        && mib(*max) >= price * hours
                })
            }
        };
        (1..=1 << 48).contains(&mib(*max))
            && own.may_share
            && other.may_share
            && own.person != other.person
            && priced
    }

    /// A lock that counts, or is beyond a proven fork.
    fn lock(&self, id: &Id) -> Option<(DeviceId, DeviceId, i128)> {
        let event = self.events.get(id).filter(|event| self.here(id) && !self.void(event))?;
        let Some(LedgerEvent::Locked { payee, max, .. }) = event.event.as_deref() else { return None };
        let exists = match self.side(event) {
            Where::Line => self.counts(id),
            Where::Barred => self.objective(event),
            Where::Forked => false,
        };
        exists.then_some((event.feed.device, *payee, mib(*max)))
    }

    fn closed_in(&self, lock: &Id, line: &[&'a Posted]) -> bool {
        line.iter().any(|event| {
            matches!(event.event.as_deref(), Some(LedgerEvent::Closed { lock: of, .. }) if of == lock)
                && self.counts(&event.id)
        })
    }

    /// What the payee posted or counted in this part of its line.
    fn claimed_in(&self, lock: &Id, line: &[&'a Posted]) -> i128 {
        let mut claimed = 0;
        for (nth, event) in line.iter().enumerate() {
            match event.event.as_deref() {
                Some(
                    LedgerEvent::Settled { lock: of, amount, .. }
                    | LedgerEvent::Closed { lock: of, amount, .. },
                ) if of == lock && self.counts(&event.id) => claimed = claimed.max(mib(*amount)),
                Some(LedgerEvent::Counted { events }) if self.counts(&event.id) => {
                    let of = events.iter().filter(|named| self.is_of(named, lock));
                    let stated = of.filter_map(|named| self.work(named, &line[..nth]));
                    let stated = stated.filter(|(of, _)| of == lock).map(|(_, stated)| stated);
                    claimed = claimed.max(stated.max().unwrap_or(0));
                }
                _ => {}
            }
        }
        claimed
    }

    /// The lock and amount of a settlement or close, as the payee may count it
    /// after this part of its line.
    fn work(&self, id: &Id, line: &[&'a Posted]) -> Option<(Id, i128)> {
        let event = self.events.get(id).filter(|_| self.is_settlement(id))?;
        match event.event.as_deref()? {
            LedgerEvent::Settled { lock, amount, .. } => {
                let (payer, ..) = self.lock(lock)?;
                let late = event.feed.device == payer && self.closed_in(lock, line);
                (!late).then_some((*lock, mib(*amount)))
            }
            LedgerEvent::Closed { lock, amount, .. } => Some((*lock, mib(*amount))),
            _ => None,
        }
    }

    /// Whether this is a counting settlement or close. The kind is asked first:
    /// what these come to must not depend on anybody's headroom.
    fn is_settlement(&self, id: &Id) -> bool {
        let event = self.events.get(id).and_then(|event| event.event.as_deref());
        matches!(event, Some(LedgerEvent::Settled { .. } | LedgerEvent::Closed { .. })) && self.counts(id)
    }

    /// Whether this event is about that lock. Asked first, so that what a lock
    /// comes to depends on no other.
    fn is_of(&self, id: &Id, lock: &Id) -> bool {
        match self.events.get(id).and_then(|event| event.event.as_deref()) {
            Some(LedgerEvent::Settled { lock: of, .. } | LedgerEvent::Closed { lock: of, .. }) => of == lock,
            _ => false,
        }
    }

    fn is_count(&self, event: &Posted) -> bool {
        matches!(event.event.as_deref(), Some(LedgerEvent::Counted { .. })) && self.counts(&event.id)
    }

    fn open_bounty(&self, bounty: &Id, event: &Posted, before: &[&'a Posted]) -> bool {
        let own = self.events.get(bounty).filter(|_| self.counts(bounty)).is_some_and(|posted| {
            posted.feed.device == event.feed.device
                && matches!(posted.event.as_deref(), Some(LedgerEvent::BountyPosted { .. }))
        });
        let ended = |event: &&Posted| match event.event.as_deref() {
            Some(
                LedgerEvent::BountyAwarded { bounty: of, .. } | LedgerEvent::BountyWithdrawn { bounty: of },
            ) => of == bounty && self.counts(&event.id),
            _ => false,
        };
        own && !before.iter().any(ended)
    }
}
