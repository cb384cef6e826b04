//! Virtual time: what is to happen, in which order, and a journal of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_model::id::{CommunityId, DeviceId};
use exo_model::port::Signer as _;
use exo_sync::hub::LinkId;
use iroh_gossip::proto::{Message, Timer};

use super::Nx;
use super::byzantine::Vice;
use super::chance::{Chance, VirtualClock};
use super::exchange::Item;
use super::gossip::{PeerId, TopicKey, Zero};
use super::links::Conn;
use super::measure::Tally;
use super::network::{Network, Weather};
use super::node::Node;
use super::people::{Template, scratch};
use super::story::{Act, Fault};

/// Things that may happen in one run: far more than any needs. A run that
/// reaches it has a storm.
const STEPS_MAX: u64 = 30_000_000;

/// What a run begins with.
#[derive(Clone)]
pub struct Plan {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// The community.
    pub template: Arc<Template>,
    /// People who may join later.
    pub newcomers: usize,
    /// Who lies, and how.
    pub liars: BTreeMap<Nx, Vice>,
    /// How the network is at first.
    pub weather: Weather,
}

impl Plan {
    /// Honest people on a good network.
    pub const fn fair(seed: u64, template: Arc<Template>) -> Self {
        Self { seed, template, newcomers: 0, liars: BTreeMap::new(), weather: Weather::FAIR }
    }
}

/// Something that is to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A program starts.
    Start(Nx),
    /// A hub wanted to be woken.
    Wake(Nx, u32),
    /// A replica changed a moment ago.
    Look(Nx, u32),
    /// It is time to look after keys.
    Tend(Nx, u32),
    /// A dial reaches whom it is for.
    Dialled { from: Nx, life: u32, to: Nx, begun_ms: u64 },
    /// A dial took too long.
    DialFails(Nx, u32, Nx),
    /// A dialler's handshake is done.
    LinkUp(LinkId),
    /// One side of a connection sees that it is gone.
    Break(LinkId, usize),
    /// Whether a connection was silent for too long.
    Idle(LinkId),
    /// Something on a stream arrives.
    Packet { link: LinkId, to: usize, exchange: u64, seq: u32, item: Item },
    /// Whether an exchange was silent for too long.
    Silence { link: LinkId, side: usize, exchange: u64 },
    /// An exchange that could not begin is over.
    Failed(Nx, u32, LinkId),
    /// A message of gossip arrives.
    Word { from: Nx, to: Nx, topic: TopicKey, message: Box<Message<PeerId>> },
    /// A timer of gossip.
    GossipTimer { nx: Nx, generation: u64, topic: TopicKey, timer: Box<Timer<PeerId>> },
    /// Gossip notices that a peer is gone.
    GossipDown { nx: Nx, topic: TopicKey, peer: Nx },
    /// Gossip is subscribed to again, after it was too slow.
    Lagged(Nx, u32),
    /// A newcomer asks to be admitted.
    Ask(Nx, u32, u32),
    /// The answer arrives.
    Answer(Nx, u32, exo_sync::replica::SealedGovernance),
    /// A liar does something.
    Mischief(Nx, u32),
    /// People do something.
    Act(Act),
    /// Something befalls a machine or the network.
    Fault(Fault),
}

/// All nodes, the network between them, and what is to happen.
pub struct World {
    pub(crate) seed: u64,
    pub(crate) now_ms: u64,
    queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    pub(crate) chance: Chance,
    /// The nodes, by number.
    pub nodes: Vec<Node>,
    pub(crate) by_device: BTreeMap<DeviceId, Nx>,
    pub(crate) conns: BTreeMap<LinkId, Conn>,
    pub(crate) gossip_conns: BTreeSet<(Nx, Nx, TopicKey)>,
    pub(crate) gossip_dials: BTreeSet<(Nx, Nx, TopicKey)>,
    /// The network.
    pub network: Network,
    pub(crate) template: Arc<Template>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) zero: Zero,
    pub(crate) given: u64,
    /// Who was removed.
    pub(crate) removed: BTreeSet<Nx>,
    /// Whose machine is gone for good.
    pub(crate) gone: BTreeSet<Nx>,
    /// What it cost so far.
    pub tally: Tally,
    journal: blake3::Hasher,
    /// Where the stores lie; it goes when the world does.
    pub folder: tempfile::TempDir,
}

impl World {
    /// Everybody starts within a second, newcomers excepted.
    pub fn new(plan: Plan) -> Self {
        let Plan { seed, template, newcomers, liars, weather } = plan;
        let folder = scratch();
        let count = template.members + newcomers;
        let nodes: Vec<Node> = (0..count)
            .map(|nx| {
                let n = person_of(&template, nx);
                Node::new(nx, template.people[n].clone(), folder.path(), seed, liars.get(&nx).copied())
            })
            .collect();
        let by_device = nodes.iter().map(|node| (node.person.key.device(), node.nx)).collect();
        let mut world = Self {
            seed,
            now_ms: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            chance: Chance::new(seed, 1),
            nodes,
            by_device,
            conns: BTreeMap::new(),
            gossip_conns: BTreeSet::new(),
            gossip_dials: BTreeSet::new(),
            network: Network::new(weather),
            template,
            clock: Arc::new(VirtualClock::default()),
            zero: Zero::default(),
            given: 0,
            removed: BTreeSet::new(),
            gone: BTreeSet::new(),
            tally: Tally::default(),
            journal: blake3::Hasher::new(),
            folder,
        };
        for nx in 0..world.template.members {
            std::fs::copy(&world.template.store, &world.nodes[nx].path).expect("room for a store");
            let at = world.chance.between(0, 1_000);
            world.at(at, Event::Start(nx));
        }
        world
    }

    /// Which community.
    pub fn community(&self) -> CommunityId {
        self.template.community
    }

    /// Virtual time since the beginning, ms.
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// A hash over all that happened, in its order.
    pub fn journal(&self) -> [u8; 32] {
        *self.journal.finalize().as_bytes()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((at_ms, _), event) = entry.remove_entry();
            self.now_ms = at_ms;
            self.clock.set(at_ms);
            self.note(&event);
            self.tally.steps += 1;
            assert!(self.tally.steps < STEPS_MAX, "seed {}: a storm of {event:?}", self.seed);
            self.happen(event);
        }
        self.now_ms = until;
        self.clock.set(until);
    }

    /// Lets time pass until something holds, at most so long; returns how long
    /// that took, or nothing where it never held.
    pub fn run_until(&mut self, limit_ms: u64, mut holds: impl FnMut(&Self) -> bool) -> Option<u64> {
        /// How often one looks, ms.
        const LOOK_MS: u64 = 1_000;
        let begun_ms = self.now_ms;
        while !holds(self) {
            if self.now_ms - begun_ms >= limit_ms {
                return None;
            }
            self.run_for(LOOK_MS);
        }
        Some(self.now_ms - begun_ms)
    }

    pub(crate) fn at(&mut self, at_ms: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.scheduled), event);
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    pub(crate) fn nx_of(&self, device: &DeviceId) -> Option<Nx> {
        self.by_device.get(device).copied()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(nx) => self.start(nx),
            Event::Wake(nx, life) => self.wake(nx, life),
            Event::Look(nx, life) => self.look(nx, life),
            Event::Tend(nx, life) => self.tend(nx, life),
            Event::Dialled { from, life, to, begun_ms } => self.dialled(from, life, to, begun_ms),
            Event::DialFails(nx, life, to) => self.dial_fails(nx, life, to),
            Event::LinkUp(link) => self.link_up(link),
            Event::Break(link, side) => self.break_side(link, side),
            Event::Idle(link) => self.idle(link),
            Event::Packet { link, to, exchange, seq, item } => self.packet(link, to, exchange, seq, item),
            Event::Silence { link, side, exchange } => self.silence(link, side, exchange),
            Event::Failed(nx, life, link) => self.exchange_failed(nx, life, link),
            Event::Word { from, to, topic, message } => self.word(from, to, topic, *message),
            Event::GossipTimer { nx, generation, topic, timer } => {
                self.gossip_timer(nx, generation, topic, *timer);
            }
            Event::GossipDown { nx, topic, peer } => self.gossip_down(nx, topic, peer),
            Event::Lagged(nx, life) => self.lagged(nx, life),
            Event::Ask(nx, life, round) => self.ask(nx, life, round),
            Event::Answer(nx, life, keys) => self.answered(nx, life, &keys),
            Event::Mischief(nx, life) => self.mischief(nx, life),
            Event::Act(act) => self.act(&act),
            Event::Fault(fault) => self.befall(fault),
        }
    }

    /// Writes down that something happens.
    fn note(&mut self, event: &Event) {
        let (kind, numbers): (u8, [u64; 4]) = match event {
            Event::Start(nx) => (0, [*nx as u64, 0, 0, 0]),
            Event::Wake(nx, life) => (1, [*nx as u64, u64::from(*life), 0, 0]),
            Event::Look(nx, life) => (2, [*nx as u64, u64::from(*life), 0, 0]),
            Event::Tend(nx, life) => (3, [*nx as u64, u64::from(*life), 0, 0]),
            Event::Dialled { from, to, begun_ms, .. } => (4, [*from as u64, *to as u64, *begun_ms, 0]),
            Event::DialFails(nx, life, to) => (5, [*nx as u64, u64::from(*life), *to as u64, 0]),
            Event::LinkUp(link) => (6, [*link, 0, 0, 0]),
            Event::Break(link, side) => (7, [*link, *side as u64, 0, 0]),
            Event::Idle(link) => (8, [*link, 0, 0, 0]),
            Event::Packet { link, to, exchange, seq, .. } => {
                (9, [*link, *to as u64, *exchange, u64::from(*seq)])
            }
            Event::Silence { link, side, exchange } => (10, [*link, *side as u64, *exchange, 0]),
            Event::Failed(nx, life, link) => (11, [*nx as u64, u64::from(*life), *link, 0]),
            Event::Word { from, to, message, .. } => {
                (12, [*from as u64, *to as u64, message.size().unwrap_or(0) as u64, 0])
            }
            Event::GossipTimer { nx, generation, .. } => (13, [*nx as u64, *generation, 0, 0]),
            Event::GossipDown { nx, peer, .. } => (14, [*nx as u64, *peer as u64, 0, 0]),
            Event::Lagged(nx, life) => (15, [*nx as u64, u64::from(*life), 0, 0]),
            Event::Ask(nx, life, round) => (16, [*nx as u64, u64::from(*life), u64::from(*round), 0]),
            Event::Answer(nx, life, keys) => (17, [*nx as u64, u64::from(*life), keys.len() as u64, 0]),
            Event::Mischief(nx, life) => (18, [*nx as u64, u64::from(*life), 0, 0]),
            Event::Act(_) => (19, [0; 4]),
            Event::Fault(_) => (20, [0; 4]),
        };
        self.journal.update(&[kind]).update(&self.now_ms.to_le_bytes());
        for number in numbers {
            self.journal.update(&number.to_le_bytes());
        }
        match event {
            Event::Packet { item: Item::Frame(bytes), .. } => self.write_down(bytes),
            Event::Act(act) => self.write_down(format!("{act:?}").as_bytes()),
            Event::Fault(fault) => self.write_down(format!("{fault:?}").as_bytes()),
            _ => {}
        }
    }

    /// Takes bytes that arrived into the journal.
    pub(crate) fn write_down(&mut self, bytes: &[u8]) {
        self.journal.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
}

/// Newcomers' people come after those of the largest community.
fn person_of(template: &Template, nx: Nx) -> usize {
    if nx < template.members { nx } else { template.people.len() - 1 - (nx - template.members) }
}
