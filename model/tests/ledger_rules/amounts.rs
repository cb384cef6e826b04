//! The reference's amounts: what locks come to and what events bring.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::DeviceId;
use exo_model::event::LedgerEvent;
use exo_model::event::ledger::Account;
use exo_model::ledger::{LedgerCharter as _, Posted};

use super::{Id, Named, Reference, Where, mib};

impl<'a> Reference<'a> {
    /// What a lock came to if it stands.
    fn outcome(&self, lock: &Id) -> i128 {
        let (mut closed, mut settled) = (None, 0);
        for event in self.events.values() {
            match event.event.as_deref() {
                Some(LedgerEvent::Closed { lock: of, amount, .. })
                    if of == lock && self.counts(&event.id) =>
                {
                    closed = Some(mib(*amount));
                }
                Some(LedgerEvent::Settled { lock: of, amount, .. })
                    if of == lock && self.counts(&event.id) =>
                {
                    settled = settled.max(mib(*amount));
                }
                _ => {}
            }
        }
        closed.unwrap_or(settled)
    }

    pub(crate) fn final_amount(&self, lock: &Id) -> i128 {
        if self.stands(lock) { self.outcome(lock) } else { 0 }
    }

    pub(super) fn stands(&self, lock: &Id) -> bool {
        let Some(event) = self.events.get(lock).filter(|_| self.lock(lock).is_some()) else { return false };
        self.side(event) == Where::Line || self.salvaged(&event.feed.device).contains(lock)
    }

    fn salvaged(&self, device: &DeviceId) -> BTreeSet<Id> {
        if let Some(known) = self.salvaged.borrow().get(device) {
            return known.clone();
        }
        let bar = self.charter.bar(device).expect("asked for barred devices only");
        let mut locks: Vec<_> = self
            .events
            .values()
            .filter(|event| event.feed.device == *device && self.side(event) == Where::Barred)
            .filter(|event| self.lock(&event.id).is_some())
            .map(|event| {
                let named = bar.settled.iter().any(|id| {
                    match self.events.get(id).and_then(|event| event.event.as_deref()) {
                        Some(LedgerEvent::Settled { lock, .. } | LedgerEvent::Closed { lock, .. }) => {
                            *lock == event.id && self.counts(id)
                        }
                        _ => false,
                    }
                });
                (!named, event.id)
            })
            .collect();
        locks.sort_unstable();
        let line = self.line_of(device);
        let total = self.total(device, &line, self.heads_after(&line));
        let (mut stands, mut used) = (BTreeSet::new(), 0);
        for (_, lock) in locks {
            let heads = self.heads_after(&line).unwrap_or(&self.events[&lock].heads);
            let with = used + self.outcome(&lock);
            if with <= total + self.credit(device, heads) {
                used = with;
                stands.insert(lock);
            }
        }
        self.salvaged.borrow_mut().insert(*device, stands.clone());
        stands
    }

    fn credit(&self, device: &DeviceId, heads: &[Id]) -> i128 {
        let Some(member) = self.charter.member(device, heads) else { return 0 };
        let Some(line) = self.charter.line(device, heads) else { return 0 };
        let former = self.charter.former_devices(&member.person, heads);
        mib(line) + former.iter().map(|former| self.estate(&former.device, mib(line)).min(0)).sum::<i128>()
    }

    fn estate(&self, device: &DeviceId, successor: i128) -> i128 {
        let line = self.line_of(device);
        let heads = self.heads_after(&line);
        if self.charter.bar(device).is_some()
            && self
                .events
                .values()
                .any(|event| event.feed.device == *device && self.connected(event) && !self.void(event))
        {
            return -heads.map_or(successor, |heads| self.credit(device, heads).max(0));
        }
        self.total(device, &line, heads)
    }

    pub(super) fn headroom(&self, event: &'a Posted) -> i128 {
        let device = &event.feed.device;
        let before = self.line_before(event);
        self.credit(device, &event.heads) + self.total(device, &before, Some(&event.heads))
    }

    /// Counted, less committed, less taken by verdicts that these heads know.
    pub(crate) fn total(&self, device: &DeviceId, line: &[&'a Posted], heads: Option<&[Id]>) -> i128 {
        let mut total = 0;
        for event in line.iter().filter(|event| self.counts(&event.id)) {
            total += match event.event.as_deref() {
                Some(LedgerEvent::Locked { max, .. }) => -mib(*max),
                Some(LedgerEvent::Transferred { amount, .. } | LedgerEvent::BountyPosted { amount, .. }) => {
                    -mib(*amount)
                }
                Some(LedgerEvent::BountyWithdrawn { bounty }) => self.bounty(bounty),
                Some(LedgerEvent::Counted { events }) => {
                    (0..events.len()).map(|nth| self.gain(event, nth)).sum()
                }
                _ => 0,
            };
        }
        let (named, _) = self.named_by(device, line, None);
        for verdict in self.charter.verdicts() {
            let known = heads.is_some_and(|heads| self.charter.in_past(&verdict.id, heads));
            let counted = if known { self.counted_of(&verdict.lock, &named) } else { 0 };
            if counted > 0 && self.stands(&verdict.lock) {
                total -= mib(verdict.refund).min(counted);
            }
        }
        total
    }

    fn bounty(&self, id: &Id) -> i128 {
        match self.events[id].event.as_deref() {
            Some(LedgerEvent::BountyPosted { amount, .. }) => mib(*amount),
            _ => 0,
        }
    }

    /// What has been named on a line up to an item of `last`, after what
    /// devices named that are inherited there; and whom the line speaks for.
    fn named_by(
        &self,
        device: &DeviceId,
        line: &[&'a Posted],
        last: Option<(&'a Posted, usize)>,
    ) -> (Vec<Named<'a>>, BTreeSet<DeviceId>) {
        let (mut entries, mut own) = (Vec::new(), BTreeSet::from([*device]));
        let counted = line.iter().filter(|event| self.is_count(event)).copied();
        let until = |event: &Posted| last.filter(|(last, _)| last.id == event.id).map(|(_, nth)| nth);
        for event in counted.chain(last.map(|(event, _)| event)) {
            let Some(LedgerEvent::Counted { events }) = event.event.as_deref() else { continue };
            for id in &events[..until(event).unwrap_or(events.len())] {
                if let Some(of) = self.estate_named(event, id).filter(|of| !own.contains(of)) {
                    let (theirs, devices) = self.named_by(&of, &self.line_of(&of), None);
                    entries.extend(theirs);
                    own.extend(devices);
                }
                let before = self.line_before(event);
                entries.push(Named { id: *id, by: *device, own: own.clone(), before });
            }
        }
        (entries, own)
    }

    /// The device whose revocation `id` is, if this event's author may inherit
    /// it and nobody did before.
    fn estate_named(&self, event: &'a Posted, id: &Id) -> Option<DeviceId> {
        let author = &event.feed.device;
        self.charter.line(author, &event.heads)?;
        let person = self.charter.member(author, &event.heads)?.person;
        let former = self.charter.former_devices(&person, &event.heads);
        let of = former.iter().find(|former| former.by == *id && former.revoked)?.device;
        let taken = former.iter().any(|other| {
            self.line_of(&other.device).into_iter().filter(|event| self.is_count(event)).any(|event| {
                match event.event.as_deref() {
                    Some(LedgerEvent::Counted { events }) => {
                        events.contains(id) && self.estate_named(event, id).is_some()
                    }
                    _ => false,
                }
            })
        });
        (!taken).then_some(of)
    }

    /// The lock and amount that this entry counted, if it was its to count.
    fn work_of(&self, entry: &Named<'a>) -> Option<(Id, i128)> {
        let target = self.events.get(&entry.id).filter(|_| self.is_settlement(&entry.id))?;
        let lock = match target.event.as_deref()? {
            LedgerEvent::Settled { lock, .. } | LedgerEvent::Closed { lock, .. } => lock,
            _ => return None,
        };
        let (_, payee, _) = self.lock(lock).filter(|(_, payee, _)| entry.own.contains(payee))?;
        if payee == entry.by {
            self.work(&entry.id, &entry.before)
        } else {
            self.work(&entry.id, &self.line_of(&payee))
        }
    }

    fn counted_of(&self, lock: &Id, named: &[Named<'a>]) -> i128 {
        let of = named.iter().filter(|entry| self.is_of(&entry.id, lock));
        let stated = of.filter_map(|entry| self.work_of(entry));
        stated.filter(|(of, _)| of == lock).map(|(_, stated)| stated).max().unwrap_or(0)
    }

    /// What the `nth` event named by a `Counted` brings its author.
    fn gain(&self, event: &'a Posted, nth: usize) -> i128 {
        if let Some(known) = self.gains.borrow().get(&(event.id, nth)) {
            return *known;
        }
        let gain = self.look_gain(event, nth);
        self.gains.borrow_mut().insert((event.id, nth), gain);
        gain
    }

    fn look_gain(&self, event: &'a Posted, nth: usize) -> i128 {
        let Some(LedgerEvent::Counted { events }) = event.event.as_deref() else { return 0 };
        let id = events[nth];
        let author = event.feed.device;
        let before = self.line_before(event);
        let (named, own) = self.named_by(&author, &before, Some((event, nth)));
        let again = |who: &DeviceId| named.iter().any(|entry| entry.id == id && entry.own.contains(who));
        let Some(target) = self.events.get(&id) else {
            if let Some(of) = self.estate_named(event, &id).filter(|of| !own.contains(of)) {
                return self.estate(&of, 0).max(0);
            }
            return self.refund_gain(event, &id, &own, &again);
        };
        if !self.counts(&id) {
            return 0;
        }
        let gift = |to: &DeviceId, amount: i128| if own.contains(to) && !again(to) { amount } else { 0 };
        match target.event.as_deref() {
            Some(LedgerEvent::Settled { lock, .. } | LedgerEvent::Closed { lock, .. }) => {
                let Some((payer, payee, max)) = self.lock(lock) else { return 0 };
                if own.contains(&payee) {
                    let entry = Named { id, by: author, own, before };
                    let Some((_, stated)) = self.work_of(&entry) else { return 0 };
                    let more = (stated - self.counted_of(lock, &named)).max(0);
                    return if self.stands(lock) { more } else { 0 };
                }
                let firm = self.side(self.events[lock]) == Where::Line;
                match target.event.as_deref() {
                    Some(LedgerEvent::Closed { amount, .. })
                        if own.contains(&payer) && firm && !again(&payer) =>
                    {
                        max - mib(*amount)
                    }
                    _ => 0,
                }
            }
            Some(
                LedgerEvent::Transferred { to: Account::Device(to), amount, .. }
                | LedgerEvent::Granted { to, amount, .. },
            ) => gift(to, mib(*amount)),
            Some(LedgerEvent::BountyAwarded { bounty, to }) => gift(to, self.bounty(bounty)),
            _ => 0,
        }
    }

    fn refund_gain(
        &self,
        event: &Posted,
        id: &Id,
        own: &BTreeSet<DeviceId>,
        again: &dyn Fn(&DeviceId) -> bool,
    ) -> i128 {
        let verdicts = self.charter.verdicts();
        let Some(verdict) = verdicts.iter().find(|verdict| verdict.dispute == *id) else { return 0 };
        let Some((payer, payee, _)) = self.lock(&verdict.lock) else { return 0 };
        let firm = self.side(self.events[&verdict.lock]) == Where::Line;
        if !own.contains(&payer) || again(&payer) || !firm || !self.charter.in_past(id, &event.heads) {
            return 0;
        }
        let mut claimed = self.claimed_in(&verdict.lock, &self.line_of(&payee));
        for device in self.events.values().map(|event| event.feed.device).collect::<BTreeSet<_>>() {
            let (named, own) = self.named_by(&device, &self.line_of(&device), None);
            if own.contains(&payee) {
                claimed = claimed.max(self.counted_of(&verdict.lock, &named));
            }
        }
        mib(verdict.refund).min(claimed)
    }

    // What to compare.

    /// Headroom at the end of a device's line, under these heads.
    pub(crate) fn headroom_now(&self, device: &DeviceId, heads: &[Id]) -> i128 {
        // A fork among events that wait has not come yet.
        let reached = |event: &&&Posted| {
            event.feed.device == *device
                && self.connected(event)
                && !self.void(event)
                && self.side(event) != Where::Line
                && self.parent(event).is_none_or(|parent| self.here(&parent.id))
        };
        if self.charter.bar(device).is_some() || self.events.values().any(|event| reached(&event)) {
            return 0;
        }
        let line = self.line_of(device);
        let covers = self
            .heads_after(&line)
            .is_none_or(|known| known.iter().all(|head| self.charter.in_past(head, heads)));
        if covers { self.credit(device, heads) + self.total(device, &line, Some(heads)) } else { 0 }
    }

    /// Every account's balance, from nothing but who was paid what. Moves to
    /// heirs stay within a person: sums of people are compared.
    pub(crate) fn paid(&self) -> BTreeMap<Account, i128> {
        let mut paid = BTreeMap::new();
        let mut pay = |from: Account, to: Account, amount: i128| {
            *paid.entry(from).or_insert(0) -= amount;
            *paid.entry(to).or_insert(0) += amount;
        };
        for event in self.events.values() {
            let own = Account::Device(event.feed.device);
            match event.event.as_deref() {
                Some(LedgerEvent::Locked { payee, .. }) => {
                    let amount = self.final_amount(&event.id);
                    let verdicts = self.charter.verdicts();
                    let refund = verdicts.iter().find(|verdict| verdict.lock == event.id);
                    let refund = refund.map_or(0, |verdict| mib(verdict.refund).min(amount));
                    pay(own, Account::Device(*payee), amount - refund);
                }
                Some(LedgerEvent::Transferred { to, amount, .. }) if self.counts(&event.id) => {
                    pay(own, *to, mib(*amount));
                }
                Some(LedgerEvent::Granted { to, amount, .. }) if self.counts(&event.id) => {
                    pay(Account::Community, Account::Device(*to), mib(*amount));
                }
                Some(LedgerEvent::BountyAwarded { bounty, to }) if self.counts(&event.id) => {
                    pay(own, Account::Device(*to), self.bounty(bounty));
                }
                _ => {}
            }
        }
        paid
    }
}
