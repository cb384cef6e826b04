//! Communities made by a seeded generator, through the model's own API: every
//! event here was decided or forced, sealed, signed and let through the gate.

use std::collections::BTreeMap;

use exo_model::amount::Amount;
use exo_model::charter::Role;
use exo_model::decide::{self, Intent};
use exo_model::event::{Event, TalkEvent};
use exo_model::feed::gate::AcceptedRun;
use exo_model::id::PersonId;
use exo_model::invite::Ticket;
use exo_model::signature::SecretKey;
use exo_model::{ChangeHash, ChannelId, CommunityId, DeviceId, FeedId, JobId, Stream};

use crate::home::{Home, Person, Seeded, found};

/// People one world can have.
const PEOPLE_MAX: u8 = 6;
/// First byte of the keys of further devices, away from those of people.
const DEVICE_KEYS: u8 = 200;

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }
}

/// A community and the devices of its people, each with what it knows.
pub(crate) struct World {
    pub(crate) homes: Vec<Home>,
    pub(crate) rng: Rng,
    /// Numbers of the people whose they are.
    owners: Vec<u8>,
    /// Number of the next person, of the next device.
    next: (u8, u8),
}

impl World {
    /// A community with its founder's device as number 0.
    pub(crate) fn found(seed: u64) -> Self {
        // Different founders make different communities.
        let first = 1 + u8::try_from(seed % 27).expect("small") * PEOPLE_MAX;
        let founder = found("Ana", &Person::new(first));
        Self {
            homes: vec![founder],
            rng: Rng::new(seed),
            owners: vec![first],
            next: (first + 1, DEVICE_KEYS),
        }
    }

    pub(crate) fn id(&self) -> CommunityId {
        self.homes[0].community.id()
    }

    pub(crate) fn device(&self, number: usize) -> DeviceId {
        self.homes[number].device()
    }

    pub(crate) fn person(&self, number: usize) -> PersonId {
        self.homes[number].person()
    }

    /// The number of a person who is in no home yet.
    fn next_person(&mut self) -> u8 {
        self.next.0 += 1;
        self.next.0 - 1
    }

    /// An invite for one, as `member` comes to know it.
    pub(crate) fn invite(&mut self) -> Ticket {
        self.homes[0].invite(1)
    }

    /// A new person whom `member` lets in, as far as `member` knows.
    pub(crate) fn admit(&mut self, member: usize, name: &str, ticket: &Ticket) -> Option<usize> {
        let number = self.next_person();
        let person = Person::new(number);
        let home = self.homes[member].try_admit(name, &person, &person.key, ticket).ok()?;
        self.homes.push(home);
        self.owners.push(number);
        Some(self.homes.len() - 1)
    }

    /// A new person with an invite of the founder's.
    pub(crate) fn join(&mut self, member: usize, name: &str) -> usize {
        let ticket = self.invite();
        self.tell(0, member);
        self.admit(member, name, &ticket).expect("a member with a fresh invite")
    }

    /// A further device of the person whose device `number` is.
    pub(crate) fn add_device(&mut self, number: usize) -> usize {
        self.next.1 += 1;
        let bytes = [self.next.1; 32];
        let key = SecretKey::from_bytes(&bytes);
        let certificate = Person::new(self.owners[number]).certify(&key, 2);
        self.homes[number].act(Intent::AddDevice(certificate));
        let mut home = self.fresh(&bytes, "Further", u64::from(self.next.1) << 32);
        self.homes[number].hand_governance_to(&mut home);
        self.homes.push(home);
        self.owners.push(self.owners[number]);
        let added = self.homes.len() - 1;
        self.tell(number, added);
        added
    }

    fn fresh(&self, key: &[u8; 32], name: &str, seed: u64) -> Home {
        let mut home = Home::new(name, self.id(), SecretKey::from_bytes(key), Seeded::new(seed));
        home.now_ms = self.homes[0].now_ms;
        home
    }

    /// What the device of `number` is before it knows anything.
    pub(crate) fn blank(&self, number: usize) -> Home {
        let key = self.homes[number].key.to_bytes();
        let mut home = self.fresh(&key, "Reader", 0);
        // What came with the admission rather than in a feed.
        if number > 0 {
            self.homes[number].hand_governance_to(&mut home);
        }
        home
    }

    /// The device of `number` knowing everything that anyone wrote.
    pub(crate) fn reader(&self, number: usize) -> Home {
        let mut home = self.blank(number);
        for run in self.feeds().into_iter().flatten() {
            home.keep(run);
        }
        home.read_again();
        home
    }

    /// Every feed as its own device has it.
    pub(crate) fn feeds(&self) -> Vec<Vec<AcceptedRun>> {
        let mut feeds: BTreeMap<FeedId, Vec<AcceptedRun>> = BTreeMap::new();
        for home in &self.homes {
            let own = home.store.iter().filter(|(feed, _)| feed.device == home.device());
            feeds.extend(own.map(|(feed, runs)| (*feed, runs.clone())));
        }
        feeds.into_values().collect()
    }

    /// All changes in batches of random feeds and sizes, each feed in its own
    /// order.
    pub(crate) fn shuffled(&self, rng: &mut Rng) -> Vec<Vec<AcceptedRun>> {
        let mut feeds: Vec<_> = self.feeds().into_iter().map(|feed| feed.into_iter().peekable()).collect();
        let mut batches = Vec::new();
        loop {
            let mut batch = Vec::new();
            for _ in 0..=rng.below(4) {
                feeds.retain_mut(|feed| feed.peek().is_some());
                if feeds.is_empty() {
                    break;
                }
                let feed = rng.below(feeds.len());
                batch.extend(feeds[feed].by_ref().take(1 + rng.below(7)));
            }
            if batch.is_empty() {
                return batches;
            }
            batches.push(batch);
        }
    }

    /// `to` learns all that `from` knows, and sees to the keys it owes.
    pub(crate) fn tell(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let runs = self.homes[from].missing_at(&self.homes[to]);
        let to = &mut self.homes[to];
        for run in runs {
            to.take(run).expect("an honest run");
        }
        if to.community.state().charter.is_member(&to.device()) {
            to.tend();
        }
    }

    pub(crate) fn meet(&mut self) {
        for _ in 0..2 {
            for from in 0..self.homes.len() {
                for to in 0..self.homes.len() {
                    self.tell(from, to);
                }
            }
        }
    }

    /// Whether a device has, or can make, a key to write with.
    fn can_write(&self, number: usize, stream: &Stream) -> bool {
        let community = &self.homes[number].community;
        stream.audience().is_none_or(|audience| {
            community.writing_key(&audience).is_some()
                || (!community.has_fit_epoch(&audience) && community.audiences().contains(&audience))
        })
    }

    /// Writes an event whether or not it makes sense, if there is a key for it.
    pub(crate) fn write(&mut self, number: usize, stream: Stream, event: &Event) -> Option<ChangeHash> {
        self.can_write(number, &stream).then(|| self.homes[number].write(stream, event))
    }

    /// Records an intent, if it is decided in its favour.
    pub(crate) fn intend(&mut self, number: usize, intent: Intent) -> Option<ChangeHash> {
        let home = &self.homes[number];
        let (stream, event) = decide::decide(&home.community, home.now_ms, intent).ok()?;
        let written = self.write(number, stream, &event);
        if stream == Stream::Charter {
            self.homes[number].tend();
        }
        written
    }

    /// Writes a message without asking anyone.
    pub(crate) fn post(&mut self, number: usize, channel: ChannelId, text: &str) -> Option<ChangeHash> {
        self.write(number, Stream::Channel(channel), &posted(text))
    }

    pub(crate) fn set_role(&mut self, of: usize, role: Role) {
        let person = self.person(of);
        self.homes[0].act(Intent::SetRole(person, role));
    }

    pub(crate) fn remove(&mut self, by: usize, person: PersonId) {
        self.homes[by].act(Intent::Remove { person, ban: false, reason: String::new() });
    }

    /// A closed channel of `by`, with these people in it.
    pub(crate) fn closed_channel(&mut self, by: usize, number: u8, add: Vec<PersonId>) -> ChannelId {
        let channel = self.homes[by].open_channel(number, true);
        self.homes[by].act(Intent::ChannelPeople { channel, add, remove: Vec::new() });
        channel
    }
}

pub(crate) fn posted(text: &str) -> Event {
    let text = text.to_owned();
    TalkEvent::Posted { text, reply_to: None, mentions: Vec::new(), attachments: Vec::new() }.into()
}

pub(crate) fn lock(payee: DeviceId, job: u8, max: i64) -> Intent {
    let job = JobId::from_bytes([job; 16]);
    Intent::Lock { job, payee, max: Amount::from_token_mib(max) }
}
