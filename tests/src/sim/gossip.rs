//! Gossip: words over iroh-gossip's protocol core, one for each topic. What
//! `mesh::gossip` and iroh-gossip's own shell do on a real node.
//!
//! The core's hash maps decide nothing: it only iterates over them where all
//! entries are treated alike. Its chance is seeded. It wants an
//! [`Instant`](tokio::time::Instant); all that it gets are counted from one
//! moment of this process, and only differences matter to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use iroh_gossip::proto::{
    Command, Config, Event as Told, InEvent, Message, OutEvent, Scope, State, Timer, TopicId,
};
use minicbor::{Decode, Encode};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use exo_model::codec;
use exo_model::id::DeviceId;
use exo_sync::hub::{Hint, Input, Load, Presence};

use super::Nx;
use super::network::IDLE_MS;
use super::world::{Event, World};

/// A peer of gossip: the device's key.
pub(crate) type PeerId = [u8; 32];
/// A topic's key.
pub(crate) type TopicKey = [u8; 32];

/// Longest word, in bytes, as in `mesh::gossip`.
const WORD_BYTES_MAX: usize = 3_500;
/// Words of one device that are looked at in one period, as there.
const WORDS_PER_PERIOD: u32 = 200;
/// See [`WORDS_PER_PERIOD`], ms.
const PERIOD_MS: u64 = 10_000;
/// Pause before a lost subscription is renewed, ms.
const RESUBSCRIBE_MS: u64 = 1_000;
/// How long a dial of gossip's takes to fail, ms: QUIC's own time.
const DIAL_MS: u64 = 30_000;
/// How often a node of gossip looks for what is old, ms. iroh-gossip does each
/// second, which is most of what happens in a quiet run and changes nothing.
const EVICT_MS: u64 = 30_000;

/// The moment that gossip's times are counted from.
pub(crate) struct Zero(tokio::time::Instant);

impl Default for Zero {
    fn default() -> Self {
        Self(tokio::time::Instant::now())
    }
}

/// What is said, as in `mesh::gossip`.
#[derive(Debug, Encode, Decode)]
pub(crate) enum Said {
    #[n(0)]
    Hint(#[n(0)] Hint),
    #[n(1)]
    Presence(#[n(0)] Presence),
}

/// A word, as it travels: as in `mesh::gossip`, with a keyed hash where the
/// signature is.
#[derive(Debug, Encode, Decode)]
struct Signed {
    #[n(0)]
    origin: DeviceId,
    #[n(1)]
    stamp: u64,
    #[cbor(n(2), with = "minicbor::bytes")]
    body: Vec<u8>,
    #[cbor(n(3), with = "minicbor::bytes")]
    proof: [u8; 64],
}

struct Swarm {
    state: State<PeerId, StdRng>,
    generation: u64,
}

struct Heard {
    stamp: u64,
    period_ms: u64,
    words: u32,
}

/// What a node has of gossip.
#[derive(Default)]
pub(crate) struct Gossip {
    spoken: Option<TopicKey>,
    swarms: BTreeMap<TopicKey, Swarm>,
    stamp: u64,
    /// Devices that were linked: whom to begin with on the next topic.
    peers: BTreeSet<DeviceId>,
    neighbours: BTreeSet<DeviceId>,
    last: BTreeMap<DeviceId, Heard>,
}

impl World {
    /// Subscribes to the topics that there are now.
    pub(crate) fn subscribe(&mut self, nx: Nx) {
        let Some(topics) = self.nodes[nx].snapshot().map(|now| now.topics) else { return };
        self.unsubscribe(nx);
        for topic in &topics.heard {
            self.given += 1;
            let generation = self.given;
            let device = self.nodes[nx].device();
            let mut config = Config::default();
            config.broadcast.cache_evict_interval = Duration::from_millis(EVICT_MS);
            let rng = StdRng::from_seed(self.nodes[nx].chance.array());
            let Some(running) = &mut self.nodes[nx].running else { return };
            let state = State::new(*device.as_bytes(), Default::default(), config, rng);
            running.gossip.swarms.insert(*topic, Swarm { state, generation });
            running.gossip.spoken = topics.spoken;
            let known = running.gossip.peers.iter().map(|device| *device.as_bytes()).collect();
            self.command(nx, *topic, Command::Join(known));
        }
    }

    fn unsubscribe(&mut self, nx: Nx) {
        let Some(running) = &mut self.nodes[nx].running else { return };
        let topics: Vec<_> = running.gossip.swarms.keys().copied().collect();
        for topic in topics {
            self.command(nx, topic, Command::Quit);
            if let Some(running) = &mut self.nodes[nx].running {
                running.gossip.swarms.remove(&topic);
            }
        }
        let Some(running) = &mut self.nodes[nx].running else { return };
        running.gossip.neighbours.clear();
        let community = self.template.community;
        self.hear(nx, Input::Neighbours(community, BTreeSet::new()));
    }

    /// Gossip was too slow and is subscribed to again.
    pub fn lag(&mut self, nx: Nx) {
        self.unsubscribe(nx);
        let (community, life) = (self.template.community, self.nodes[nx].life);
        self.hear(nx, Input::Lagged(community));
        self.after(RESUBSCRIBE_MS, Event::Lagged(nx, life));
    }

    pub(crate) fn lagged(&mut self, nx: Nx, life: u32) {
        if self.nodes[nx].is_life(life) {
            self.subscribe(nx);
        }
    }

    pub(crate) fn introduce(&mut self, nx: Nx, devices: Vec<DeviceId>) {
        let ids: Vec<_> = devices.iter().map(|device| *device.as_bytes()).collect();
        let admitted: Vec<_> = devices.into_iter().filter(|device| self.nodes[nx].admits(device)).collect();
        let Some(running) = &mut self.nodes[nx].running else { return };
        running.gossip.peers.extend(admitted);
        let topics: Vec<_> = running.gossip.swarms.keys().copied().collect();
        for topic in topics {
            self.command(nx, topic, Command::Join(ids.clone()));
        }
    }

    pub(crate) fn say_hint(&mut self, nx: Nx, hint: Hint) {
        self.tally.hints += 1;
        self.say(nx, nx, &Said::Hint(hint));
    }

    pub(crate) fn say_here(&mut self, nx: Nx, load: Load) {
        self.say(nx, nx, &Said::Presence(Presence::Here(load)));
    }

    /// Says something, in the name of a node that can be another one.
    pub(crate) fn say(&mut self, nx: Nx, in_name_of: Nx, said: &Said) {
        let body = codec::encode(said);
        let origin = self.nodes[in_name_of].device();
        let now_ms = self.now_ms;
        let Some(running) = &mut self.nodes[nx].running else { return };
        let gossip = &mut running.gossip;
        gossip.stamp = now_ms.max(gossip.stamp + 1);
        let stamp = gossip.stamp;
        let Some(topic) = gossip.spoken else { return };
        // With its own secret, whoever's name it says: nobody has another's.
        let proof = self.proof(nx, stamp, &body);
        let word = codec::encode(&Signed { origin, stamp, body, proof });
        self.command(nx, topic, Command::Broadcast(Bytes::from(word), Scope::Swarm));
    }

    fn proof(&self, nx: Nx, stamp: u64, body: &[u8]) -> [u8; 64] {
        let mut hasher = blake3::Hasher::new_keyed(&self.nodes[nx].person.key.to_bytes());
        hasher.update(&stamp.to_le_bytes()).update(body);
        let mut proof = [0; 64];
        hasher.finalize_xof().fill(&mut proof);
        proof
    }

    fn command(&mut self, nx: Nx, topic: TopicKey, command: Command<PeerId>) {
        self.gossip(nx, topic, InEvent::Command(TopicId::from_bytes(topic), command));
    }

    fn gossip(&mut self, nx: Nx, topic: TopicKey, event: InEvent<PeerId>) {
        let now = self.zero.0 + Duration::from_millis(self.now_ms);
        let Some(running) = &mut self.nodes[nx].running else { return };
        let Some(swarm) = running.gossip.swarms.get_mut(&topic) else { return };
        let generation = swarm.generation;
        let out: Vec<_> = swarm.state.handle(event, now, None).collect();
        for event in out {
            match event {
                OutEvent::SendMessage(peer, message) => self.send_word(nx, topic, &peer, message),
                OutEvent::ScheduleTimer(pause, timer) => {
                    let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    let timer = Box::new(timer);
                    self.after(ms, Event::GossipTimer { nx, generation, topic, timer });
                }
                OutEvent::EmitEvent(_, told) => self.told(nx, told),
                OutEvent::DisconnectPeer(peer) => {
                    if let Some(peer) = self.nx_of(&DeviceId::from_bytes(peer)) {
                        self.hang_up(nx, peer, topic);
                    }
                }
                OutEvent::PeerData(..) => {}
            }
        }
    }

    pub(crate) fn gossip_timer(&mut self, nx: Nx, generation: u64, topic: TopicKey, timer: Timer<PeerId>) {
        let running = self.nodes[nx].running.as_ref();
        let swarm = running.and_then(|running| running.gossip.swarms.get(&topic));
        if swarm.is_some_and(|swarm| swarm.generation == generation) {
            self.gossip(nx, topic, InEvent::TimerExpired(timer));
        }
    }

    fn send_word(&mut self, nx: Nx, topic: TopicKey, peer: &PeerId, message: Message<PeerId>) {
        self.tally.gossip += 1;
        self.tally.gossip_bytes += message.size().unwrap_or(0) as u64;
        let Some(to) = self.nx_of(&DeviceId::from_bytes(*peer)) else { return };
        let pair = (nx.min(to), nx.max(to), topic);
        let is_reached = self.nodes[to].is_up() && self.nodes[nx].is_up() && !self.network.is_cut(nx, to);
        if !self.gossip_conns.contains(&pair) {
            if !is_reached || !self.nodes[to].admits(&self.nodes[nx].device()) {
                if self.gossip_dials.insert((nx, to, topic)) {
                    let ms = if is_reached { self.network.delay_ms(&mut self.chance) } else { DIAL_MS };
                    self.after(ms, Event::GossipDown { nx, topic, peer: to });
                }
                return;
            }
            self.gossip_conns.insert(pair);
        }
        if let Some(ms) = self.network.once_ms(&mut self.chance).filter(|_| is_reached) {
            self.after(ms, Event::Word { from: nx, to, topic, message: Box::new(message) });
        }
    }

    pub(crate) fn word(&mut self, from: Nx, to: Nx, topic: TopicKey, message: Message<PeerId>) {
        if self.nodes[to].is_up() && self.gossip_conns.contains(&(from.min(to), from.max(to), topic)) {
            let from = *self.nodes[from].device().as_bytes();
            self.gossip(to, topic, InEvent::RecvMessage(from, message));
        }
    }

    pub(crate) fn gossip_down(&mut self, nx: Nx, topic: TopicKey, peer: Nx) {
        self.gossip_dials.remove(&(nx, peer, topic));
        if !self.gossip_conns.contains(&(nx.min(peer), nx.max(peer), topic)) {
            let peer = *self.nodes[peer].device().as_bytes();
            self.gossip(nx, topic, InEvent::PeerDisconnected(peer));
        }
    }

    fn hang_up(&mut self, nx: Nx, peer: Nx, topic: TopicKey) {
        if self.gossip_conns.remove(&(nx.min(peer), nx.max(peer), topic)) {
            let ms = self.network.delay_ms(&mut self.chance);
            self.after(ms, Event::GossipDown { nx: peer, topic, peer: nx });
        }
    }

    /// A node is gone, or does not talk any more.
    pub(crate) fn cut_gossip_of(&mut self, nx: Nx) {
        self.drop_gossip(|one, other| one == nx || other == nx);
    }

    /// A node talks no more to another one.
    pub(crate) fn cut_gossip_between(&mut self, nx: Nx, peer: Nx) {
        self.drop_gossip(|one, other| (one, other) == (nx.min(peer), nx.max(peer)));
    }

    /// The network was split.
    pub(crate) fn cut_split_gossip(&mut self) {
        let pairs: BTreeSet<_> = self.gossip_conns.iter().map(|(one, other, _)| (*one, *other)).collect();
        let cut: BTreeSet<_> =
            pairs.into_iter().filter(|(one, other)| self.network.is_cut(*one, *other)).collect();
        self.drop_gossip(|one, other| cut.contains(&(one, other)));
    }

    fn drop_gossip(&mut self, is_dropped: impl Fn(Nx, Nx) -> bool) {
        let dropped: Vec<_> =
            self.gossip_conns.iter().filter(|(one, other, _)| is_dropped(*one, *other)).copied().collect();
        for (one, other, topic) in dropped {
            self.gossip_conns.remove(&(one, other, topic));
            for (nx, peer) in [(one, other), (other, one)] {
                let ms = self.chance.between(1, IDLE_MS);
                self.after(ms, Event::GossipDown { nx, topic, peer });
            }
        }
    }

    fn told(&mut self, nx: Nx, told: Told<PeerId>) {
        let community = self.template.community;
        let Some(running) = &mut self.nodes[nx].running else { return };
        match told {
            Told::NeighborUp(peer) => drop(running.gossip.neighbours.insert(DeviceId::from_bytes(peer))),
            Told::NeighborDown(peer) => drop(running.gossip.neighbours.remove(&DeviceId::from_bytes(peer))),
            Told::Received(message) => {
                self.write_down(&message.content);
                let by = DeviceId::from_bytes(message.delivered_from);
                self.hear_word(nx, &message.content, by);
                return;
            }
        }
        let neighbours = running.gossip.neighbours.clone();
        self.hear(nx, Input::Neighbours(community, neighbours));
    }

    /// As `mesh::gossip` does: counted, then checked, then told.
    fn hear_word(&mut self, nx: Nx, content: &[u8], by: DeviceId) {
        let Ok(signed) = codec::decode::<Signed>(content, WORD_BYTES_MAX) else { return };
        let origin = signed.origin;
        if origin == self.nodes[nx].device() || !self.nodes[nx].admits(&origin) {
            return;
        }
        let Some(from) = self.nx_of(&origin) else { return };
        let is_true = self.proof(from, signed.stamp, &signed.body) == signed.proof;
        let now_ms = self.now_ms;
        let Some(running) = &mut self.nodes[nx].running else { return };
        let new = || Heard { stamp: 0, period_ms: now_ms, words: 0 };
        let heard = running.gossip.last.entry(origin).or_insert_with(new);
        if now_ms - heard.period_ms >= PERIOD_MS {
            (heard.period_ms, heard.words) = (now_ms, 0);
        }
        heard.words += 1;
        if signed.stamp <= heard.stamp || heard.words > WORDS_PER_PERIOD || !is_true {
            return;
        }
        heard.stamp = signed.stamp;
        let community = self.template.community;
        match codec::decode::<Said>(&signed.body, WORD_BYTES_MAX) {
            Ok(Said::Hint(hint)) => self.hear(nx, Input::Hinted { community, origin, by, hint }),
            Ok(Said::Presence(presence)) => self.hear(nx, Input::Presence(community, origin, presence)),
            Err(_) => {}
        }
    }
}
