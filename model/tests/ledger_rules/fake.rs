//! A charter in memory, a line of facts in which each knows all before it, and
//! devices that write ledgers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_model::amount::Amount;
use exo_model::event::LedgerEvent;
use exo_model::event::ledger::{Account, OfferKind, Purpose};
use exo_model::feed::Stream;
use exo_model::ledger::{Bar, FormerDevice, LedgerCharter, Member, Place, Posted, Verdict, Voucher};
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use exo_model::{ChangeHash, CommunityId, DeviceId, FeedId, JobId, PersonId, codec};

pub(crate) const COMMUNITY: CommunityId = CommunityId::from_bytes([1; 32]);
const NOTHING: ChangeHash = ChangeHash::from_bytes([0; 32]);

pub(crate) fn amount(value: i64) -> Amount {
    Amount::from_token_mib(value)
}

/// How much of one device's ledger a fence lets stand.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// What stands, last to first.
    pub(crate) line: Vec<ChangeHash>,
}

#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Enrolled { device: DeviceId, person: PersonId },
    Line { person: PersonId, line: i64 },
    Demoted { person: PersonId },
    Revoked { device: DeviceId, fence: End },
    Removed { person: PersonId, fences: BTreeMap<DeviceId, End> },
    Allotted { person: PersonId, amount: i64 },
    Judged { lock: ChangeHash, refund: i64, parties: (PersonId, PersonId) },
    Proven { device: DeviceId, bar: Bar },
}

/// Facts in a line; heads are the last one known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Charter {
    pub(crate) facts: Vec<Fact>,
    /// How many of them are here.
    pub(crate) here: usize,
}

impl Charter {
    pub(crate) fn id(index: usize) -> ChangeHash {
        let hash = blake3(&("fact", index as u64));
        ChangeHash::from_bytes(hash)
    }

    fn index(change: &ChangeHash) -> Option<usize> {
        (0..256).find(|index| Self::id(*index) == *change)
    }

    pub(crate) fn add(&mut self, fact: Fact) -> ChangeHash {
        self.facts.push(fact);
        self.here = self.facts.len();
        Self::id(self.facts.len() - 1)
    }

    pub(crate) fn heads(&self) -> Arc<[ChangeHash]> {
        Arc::from([Self::id(self.facts.len() - 1)])
    }

    pub(crate) fn old_heads(version: usize) -> Arc<[ChangeHash]> {
        Arc::from([Self::id(version)])
    }

    fn past(&self, heads: &[ChangeHash]) -> &[Fact] {
        let last = heads.iter().filter_map(Self::index).max();
        last.map_or(&[], |last| &self.facts[..=last])
    }

    fn now(&self) -> &[Fact] {
        &self.facts[..self.here]
    }

    fn is_former(past: &[Fact], device: &DeviceId) -> bool {
        past.iter().any(|fact| match fact {
            Fact::Revoked { device: revoked, .. } => revoked == device,
            Fact::Removed { person, .. } => owner(past, device) == Some(*person),
            _ => false,
        })
    }

    /// The last change that every fence lets stand.
    fn end(&self, device: &DeviceId) -> Option<ChangeHash> {
        let ends = self.ends(device);
        let stands = |id: &&ChangeHash| ends.iter().all(|fence| fence.line.contains(id));
        ends.first()?.line.iter().find(stands).copied()
    }

    fn ends(&self, device: &DeviceId) -> Vec<&End> {
        let facts = self.now().iter();
        facts
            .filter_map(|fact| match fact {
                Fact::Revoked { device: revoked, fence } if revoked == device => Some(fence),
                Fact::Removed { fences, .. } => fences.get(device),
                _ => None,
            })
            .collect()
    }
}

fn owner(past: &[Fact], device: &DeviceId) -> Option<PersonId> {
    past.iter().find_map(|fact| match fact {
        Fact::Enrolled { device: enrolled, person } if enrolled == device => Some(*person),
        _ => None,
    })
}

impl LedgerCharter for Charter {
    fn is_ready(&self, heads: &[ChangeHash]) -> bool {
        heads.iter().all(|head| self.has(head))
    }

    fn has(&self, change: &ChangeHash) -> bool {
        Self::index(change).is_some_and(|index| index < self.here)
    }

    fn in_past(&self, change: &ChangeHash, heads: &[ChangeHash]) -> bool {
        Self::index(change).is_some_and(|index| index < self.past(heads).len())
    }

    fn person_of(&self, device: &DeviceId) -> Option<PersonId> {
        owner(self.now(), device)
    }

    fn member(&self, device: &DeviceId, heads: &[ChangeHash]) -> Option<Member> {
        let past = self.past(heads);
        let person = owner(past, device).filter(|_| !Self::is_former(past, device))?;
        let demoted = past.iter().any(|fact| matches!(fact, Fact::Demoted { person: who } if *who == person));
        Some(Member { person, may_share: !demoted })
    }

    fn line(&self, device: &DeviceId, heads: &[ChangeHash]) -> Option<Amount> {
        let past = self.past(heads);
        let person = owner(past, device)?;
        let holder = past.iter().find_map(|fact| match fact {
            Fact::Enrolled { device, person: who } if *who == person && !Self::is_former(past, device) => {
                Some(*device)
            }
            _ => None,
        });
        let line = past.iter().rev().find_map(|fact| match fact {
            Fact::Line { person: who, line } if *who == person => Some(*line),
            _ => None,
        });
        (holder == Some(*device)).then(|| amount(line.unwrap_or(0)))
    }

    fn former_devices(&self, person: &PersonId, heads: &[ChangeHash]) -> Vec<FormerDevice> {
        let past = self.past(heads);
        let mut former = BTreeMap::new();
        for (index, fact) in past.iter().enumerate() {
            let by = Self::id(index);
            match fact {
                Fact::Revoked { device, .. } if owner(past, device) == Some(*person) => {
                    let end = self.end(device);
                    former.entry(*device).or_insert(FormerDevice { device: *device, by, revoked: true, end });
                }
                Fact::Removed { person: who, fences } if who == person => {
                    for device in fences.keys() {
                        let end = self.end(device);
                        let gone = FormerDevice { device: *device, by, revoked: false, end };
                        former.entry(*device).or_insert(gone);
                    }
                }
                _ => {}
            }
        }
        former.into_values().collect()
    }

    fn allotment(&self, change: &ChangeHash, heads: &[ChangeHash]) -> Option<(PersonId, Amount)> {
        match self.past(heads).get(Self::index(change)?)? {
            Fact::Allotted { person, amount: value } => Some((*person, amount(*value))),
            _ => None,
        }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut seen = BTreeSet::new();
        let facts = self.now().iter().enumerate();
        facts
            .filter_map(|(index, fact)| match fact {
                Fact::Judged { lock, refund, parties } if seen.insert(*lock) => Some(Verdict {
                    id: Self::id(index),
                    lock: *lock,
                    dispute: Self::id(index),
                    payer: parties.0,
                    payee: parties.1,
                    refund: amount(*refund),
                }),
                _ => None,
            })
            .collect()
    }

    fn is_beyond_fence(&self, feed: &FeedId, _seq: u64, hash: &ChangeHash) -> bool {
        self.ends(&feed.device).iter().any(|fence| !fence.line.contains(hash))
    }

    fn bar(&self, device: &DeviceId) -> Option<Bar> {
        let mut bars = self.now().iter().filter_map(|fact| match fact {
            Fact::Proven { device: who, bar } if who == device => Some(bar),
            _ => None,
        });
        let mut bar = bars.next()?.clone();
        bar.place = bars.fold(bar.place, |place, other| place.min(other.place));
        Some(bar)
    }
}

/// One device and where its ledger ends.
pub(crate) struct Device {
    pub(crate) key: SecretKey,
    pub(crate) id: DeviceId,
    pub(crate) person: PersonId,
    pub(crate) tip: (Place, ChangeHash),
}

/// The start of every ledger.
pub(crate) const START: (Place, ChangeHash) = (Place { segment: 0, seq: 0 }, NOTHING);

pub(crate) struct World {
    pub(crate) charter: Charter,
    pub(crate) devices: Vec<Device>,
    pub(crate) events: Vec<Posted>,
}

fn blake3<T: minicbor::Encode<()>>(value: &T) -> [u8; 32] {
    *exo_model::hash::blake3(&codec::encode(value)).as_bytes()
}

pub(crate) fn person(number: u8) -> PersonId {
    PersonId::from_bytes([number; 32])
}

impl World {
    /// People by how many devices each has and how long their lines are.
    pub(crate) fn new(people: &[(usize, i64)]) -> Self {
        let mut world = Self { charter: Charter::default(), devices: Vec::new(), events: Vec::new() };
        for (who, (devices, line)) in people.iter().enumerate() {
            let person = person(u8::try_from(who + 1).expect("few people"));
            for _ in 0..*devices {
                world.enrol(person);
            }
            world.charter.add(Fact::Line { person, line: *line });
        }
        world
    }

    pub(crate) fn enrol(&mut self, person: PersonId) -> usize {
        let seed = u8::try_from(self.devices.len() + 100).expect("few devices");
        let key = SecretKey::from_bytes(&[seed; 32]);
        let id = key.device();
        self.charter.add(Fact::Enrolled { device: id, person });
        self.devices.push(Device { key, id, person, tip: START });
        self.devices.len() - 1
    }

    /// The people of two devices.
    pub(crate) fn parties(&self, payer: usize, payee: usize) -> (PersonId, PersonId) {
        (self.devices[payer].person, self.devices[payee].person)
    }

    pub(crate) fn id(&self, device: usize) -> DeviceId {
        self.devices[device].id
    }

    /// Writes an event at the end of a device's ledger, under current heads.
    pub(crate) fn post(&mut self, device: usize, event: LedgerEvent) -> ChangeHash {
        let heads = self.charter.heads();
        self.post_at(device, heads, Some(event), false)
    }

    pub(crate) fn post_at(
        &mut self,
        device: usize,
        heads: Arc<[ChangeHash]>,
        event: Option<LedgerEvent>,
        opens: bool,
    ) -> ChangeHash {
        let (last, previous) = self.devices[device].tip;
        let opens = opens && last.seq > 0;
        let place = if opens {
            Place { segment: last.segment + 1, seq: 1 }
        } else {
            Place { seq: last.seq + 1, ..last }
        };
        let author = self.id(device);
        let id = blake3(&(author, place.segment, place.seq, previous, heads.to_vec(), event.clone()));
        let id = ChangeHash::from_bytes(id);
        let feed = FeedId::new(COMMUNITY, author, Stream::Ledger).with_segment(place.segment);
        let event = event.map(Arc::new);
        self.events.push(Posted { id, feed, seq: place.seq, previous, heads, time_ms: 0, event });
        self.devices[device].tip = (place, id);
        id
    }

    pub(crate) fn lock(&mut self, payer: usize, payee: usize, max: i64) -> ChangeHash {
        let (payee, max) = (self.id(payee), amount(max));
        let nonce = self.events.len().to_le_bytes();
        let mut job = [0; 16];
        job[..8].copy_from_slice(&nonce);
        self.post(payer, LedgerEvent::Locked { payee, purpose: Purpose::Job(JobId::from_bytes(job)), max })
    }

    /// A voucher by `signer` for what the lock says.
    pub(crate) fn voucher(&self, signer: usize, lock: ChangeHash, payee: usize, value: i64) -> Voucher {
        Voucher::sign(&self.devices[signer].key, &COMMUNITY, lock, &self.id(payee), amount(value))
    }

    pub(crate) fn settle(
        &mut self,
        author: usize,
        (payer, payee): (usize, usize),
        lock: ChangeHash,
        value: i64,
    ) -> ChangeHash {
        let voucher = self.voucher(payer, lock, payee, value).signature;
        self.post(author, LedgerEvent::Settled { lock, amount: amount(value), voucher })
    }

    pub(crate) fn close(
        &mut self,
        (payer, payee): (usize, usize),
        lock: ChangeHash,
        value: i64,
    ) -> ChangeHash {
        let voucher = (value != 0).then(|| self.voucher(payer, lock, payee, value).signature);
        self.post(payee, LedgerEvent::Closed { lock, amount: amount(value), voucher })
    }

    pub(crate) fn count(&mut self, device: usize, events: &[ChangeHash]) -> ChangeHash {
        self.post(device, LedgerEvent::Counted { events: events.to_vec() })
    }

    pub(crate) fn give(&mut self, from: usize, to: usize, value: i64) -> ChangeHash {
        let to = Account::Device(self.id(to));
        self.post(from, LedgerEvent::Transferred { to, amount: amount(value), note: String::new() })
    }

    pub(crate) fn offer(&mut self, device: usize, kind: OfferKind, price: i64) -> ChangeHash {
        self.post(device, LedgerEvent::OfferPosted { kind, title: "work".into(), price: amount(price) })
    }

    /// What a fence says that lets a device's ledger stand up to `tip`.
    pub(crate) fn fence(&self, tip: (Place, ChangeHash)) -> End {
        let mut line = Vec::new();
        let mut at = tip.1;
        while at != NOTHING {
            line.push(at);
            at = self.event(&at).previous;
        }
        End { line }
    }

    pub(crate) fn event(&self, id: &ChangeHash) -> &Posted {
        self.events.iter().find(|event| event.id == *id).expect("written here")
    }

    pub(crate) fn revoke(&mut self, device: usize) -> ChangeHash {
        let fence = self.fence(self.devices[device].tip);
        self.charter.add(Fact::Revoked { device: self.id(device), fence })
    }

    pub(crate) fn remove(&mut self, who: PersonId) -> ChangeHash {
        let own = self.devices.iter().filter(|device| device.person == who);
        let fences = own.map(|device| (device.id, self.fence(device.tip))).collect();
        self.charter.add(Fact::Removed { person: who, fences })
    }

    pub(crate) fn prove(&mut self, device: usize, place: Place, settled: Vec<ChangeHash>) -> ChangeHash {
        self.charter.add(Fact::Proven { device: self.id(device), bar: Bar { place, settled } })
    }
}
