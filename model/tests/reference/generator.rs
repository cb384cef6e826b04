//! Histories by simulated peers: each acts on what it has seen, gossips, is
//! cut off for a while, and some lie. The same seed makes the same history.

mod acts;
mod chance;
mod lies;
mod stories;

pub(crate) use chance::{ACTS_MAX, Bits, Random};

use std::ops::RangeInclusive;

use exo_model::amount::Amount;
use exo_model::charter::role::Role;
use exo_model::charter::settings::{CommunityKind, Settings};
use exo_model::event::CharterEvent as E;
use exo_model::{ChangeHash, ChannelId, CommunityId, DeviceId, PersonId};

use super::charter::{CharterAct, Limits, Terms};
use super::guess::{Deed, Guess, Written};
use super::signing::{self, Keys};

/// How large a history is, and how honest.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) people: RangeInclusive<usize>,
    /// Most devices one person enrols, returns aside.
    pub(crate) devices_max: usize,
    /// Exactly so many acts, up to [`ACTS_MAX`].
    pub(crate) acts: usize,
    /// Of a hundred acts, how many are lies in the worst histories; others
    /// are half as bad, or honest.
    pub(crate) lies_percent: usize,
}

impl Shape {
    /// Few enough acts for all orders of arrival.
    pub(crate) const fn small(acts: usize) -> Self {
        Self { people: 3..=4, devices_max: 2, acts, lies_percent: 25 }
    }

    /// A few people and a few dozen acts.
    pub(crate) const fn medium() -> Self {
        Self { people: 3..=8, devices_max: 3, acts: 30, lies_percent: 20 }
    }

    /// Many people, long partitions.
    pub(crate) const fn large() -> Self {
        Self { people: 8..=30, devices_max: 3, acts: 80, lies_percent: 15 }
    }
}

/// What the peers wrote, in the order of writing.
pub(crate) struct History {
    pub(crate) community: CommunityId,
    pub(crate) founding: ChangeHash,
    pub(crate) acts: Vec<CharterAct>,
}

impl History {
    pub(crate) fn terms<'a>(&self, keys: &'a dyn Keys) -> Terms<'a> {
        Terms { community: self.community, founding: self.founding, limits: Limits::default(), keys }
    }
}

/// The history of a seed. It always has as many acts as the shape says.
pub(crate) fn history(seed: u64, shape: &Shape, keys: &dyn Keys) -> History {
    let mut world = World::new(seed, shape, keys);
    world.begin();
    while world.has_room() {
        world.step();
    }
    let founding = world.acts[0].id;
    History { community: world.community, founding, acts: world.acts }
}

/// A device, as the simulation runs it.
struct Peer {
    id: DeviceId,
    person: usize,
    /// What it has seen; closed under the past.
    view: Bits,
    /// The end of the line it goes on with.
    tip: Option<usize>,
    /// Peers of different groups do not hear of each other.
    group: usize,
}

struct World<'k> {
    random: Random,
    keys: &'k dyn Keys,
    shape: Shape,
    community: CommunityId,
    people: Vec<PersonId>,
    peers: Vec<Peer>,
    holders: Vec<usize>,
    invites: usize,
    channels: usize,
    acts: Vec<CharterAct>,
    deeds: Vec<Written>,
    parents: Vec<Bits>,
    past: Vec<Bits>,
    forks: Vec<(usize, usize)>,
}

/// Who acts, and what it believes.
struct Actor {
    peer: usize,
    person: usize,
    role: Option<Role>,
    guess: Guess,
}

// Key numbers: people, devices and invites do not meet.
const DEVICE_KEYS: u64 = 1_000;
const INVITE_KEYS: u64 = 2_000;

impl World<'_> {
    /// A certificate number above all before: devices are numbered as they
    /// come.
    fn serial(&self) -> u64 {
        self.peers.len() as u64 + 1
    }
}

impl<'k> World<'k> {
    fn new(seed: u64, shape: &Shape, keys: &'k dyn Keys) -> Self {
        let mut random = Random::new(seed);
        let people = random.within(&shape.people);
        let people = (0..people as u64).map(|no| PersonId::from_bytes(keys.public(no))).collect();
        let lies_percent = shape.lies_percent * random.below(3) / 2;
        let shape = Shape { acts: shape.acts.min(ACTS_MAX), lies_percent, ..shape.clone() };
        Self {
            random,
            keys,
            shape,
            community: CommunityId::from_bytes([0xc0; 32]),
            people,
            peers: Vec::new(),
            holders: Vec::new(),
            invites: 0,
            channels: 0,
            acts: Vec::new(),
            deeds: Vec::new(),
            parents: Vec::new(),
            past: Vec::new(),
            forks: Vec::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.acts.len() < self.shape.acts
    }

    fn new_peer(&mut self, person: usize) -> usize {
        let id = DeviceId::from_bytes(self.keys.public(DEVICE_KEYS + self.peers.len() as u64));
        self.peers.push(Peer { id, person, view: Bits::default(), tip: None, group: 0 });
        self.holders.push(person);
        self.peers.len() - 1
    }

    // Writing

    /// Writes an act under everything the peer has seen.
    fn write(&mut self, peer: usize, event: E, deed: Deed) -> Option<usize> {
        let under = self.peers[peer].view;
        let previous = self.peers[peer].tip;
        self.write_at(peer, &under, previous, event, deed)
    }

    /// Writes an act after `previous` that cites only the heads of `under`.
    fn write_at(
        &mut self,
        peer: usize,
        under: &Bits,
        previous: Option<usize>,
        event: E,
        deed: Deed,
    ) -> Option<usize> {
        if !self.has_room() {
            return None;
        }
        let mut covered = Bits::default();
        for act in under.iter() {
            covered.union(&self.parents[act]);
        }
        let mut parents = under.without(&covered);
        let mut heads: Vec<ChangeHash> = parents.iter().map(|at| self.acts[at].id).collect();
        heads.sort_unstable();
        let (segment, seq) = previous.map_or((0, 1), |at| {
            let CharterAct { segment, seq, .. } = self.acts[at];
            if self.random.percent(6) { (segment + 1, 1) } else { (segment, seq + 1) }
        });
        parents = previous.into_iter().fold(parents, |mut parents, at| {
            parents.insert(at);
            parents
        });
        let mut past = parents;
        for parent in parents.iter() {
            past.union(&self.past[parent]);
        }
        let number = self.acts.len();
        self.acts.push(CharterAct {
            id: ChangeHash::from_bytes(self.random.bytes()),
            device: self.peers[peer].id,
            segment,
            seq,
            previous: previous.map_or(ChangeHash::from_bytes([0; 32]), |at| self.acts[at].id),
            heads,
            time_ms: i64::try_from(number).unwrap_or(0),
            event,
        });
        self.deeds.push(Written { device: peer, deed });
        self.parents.push(parents);
        self.past.push(past);
        let own = &mut self.peers[peer];
        own.view.union(&past);
        own.view.insert(number);
        own.tip = Some(number);
        Some(number)
    }

    fn actor(&self, peer: usize) -> Actor {
        let person = self.peers[peer].person;
        let guess = Guess::of(&self.deeds, &self.peers[peer].view, &self.holders, self.people.len());
        let role = guess.role[person].filter(|_| guess.enrolled[peer]);
        Actor { peer, person, role, guess }
    }

    // Gossip

    fn hears(&mut self, peer: usize, other: usize) {
        let view = self.peers[other].view;
        self.peers[peer].view.union(&view);
    }

    fn all_hear_all(&mut self) {
        let mut all = Bits::default();
        for peer in &self.peers {
            all.union(&peer.view);
        }
        for peer in &mut self.peers {
            peer.view = all;
            peer.group = 0;
        }
    }

    fn gossip(&mut self) {
        let (one, other) = (self.random.below(self.peers.len()), self.random.below(self.peers.len()));
        if self.peers[one].group == self.peers[other].group {
            self.hears(one, other);
            if self.random.percent(50) {
                self.hears(other, one);
            }
        }
    }

    // The course of a history

    fn begin(&mut self) {
        let founder = self.new_peer(0);
        let card = signing::certificate(self.keys, self.people[0], self.peers[founder].id, None, 1);
        let mut settings = Settings::of_friends("Home".to_owned(), Amount::from_token_mib(-1_000));
        settings.members_invite = self.random.percent(30);
        let members_invite = settings.members_invite;
        let nonce = self.random.bytes();
        let founder_name = "Person 0".to_owned();
        let founding =
            E::Founded { kind: CommunityKind::Shared, founder: card, founder_name, settings, nonce };
        self.write(founder, founding, Deed::Founded { members_invite });
        let Some(invite) = self.invite(founder, 100, Role::Member) else { return };

        // The first people come in one after the other; some rise.
        let calm = self.shape.acts * 55 / 100;
        let mut newcomers = 1..self.people.len();
        while self.acts.len() < calm {
            let peer = self.random.below(self.peers.len());
            let host = self.actor(peer);
            if host.role == Some(Role::Owner) && self.peers.len() > 1 && self.random.percent(45) {
                let risers: Vec<usize> = host
                    .guess
                    .members()
                    .filter(|person| host.guess.role[*person] < Some(Role::Admin))
                    .collect();
                let role = [Role::Admin, Role::Admin, Role::Owner, Role::Moderator][self.random.below(4)];
                if let Some(person) = self.random.pick(&risers) {
                    let set = E::RoleSet { person: self.people[person], role };
                    self.write(peer, set, Deed::RoleSet { person, role });
                    self.all_hear_all();
                    continue;
                }
            }
            let Some(person) = newcomers.next() else { break };
            self.admit(peer, person, invite, Vec::new());
            self.all_hear_all();
        }
    }

    fn step(&mut self) {
        for _ in 0..self.random.below(3) {
            self.gossip();
        }
        match self.random.below(40) {
            0 => self.peers.iter_mut().zip(0..).for_each(|(peer, no)| peer.group = no % 2),
            1 => self.peers.iter_mut().for_each(|peer| peer.group = 0),
            2 => self.all_hear_all(),
            _ => {}
        }
        if self.random.percent(self.shape.lies_percent) {
            return self.lie();
        }
        if self.random.percent(30) {
            return self.story();
        }
        // Those of higher rank have more to do.
        let [one, other] = [0, 0].map(|_| self.random.below(self.peers.len()));
        let (one, other) = (self.actor(one), self.actor(other));
        let actor = if one.role < other.role && self.random.percent(80) { other } else { one };
        if actor.role.is_some() || self.random.percent(10) {
            self.act(&actor);
        }
    }
}

fn channel_id(no: usize) -> ChannelId {
    ChannelId::from_bytes([u8::try_from(no % 256).unwrap_or(0); 16])
}
