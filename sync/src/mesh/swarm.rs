//! iroh-gossip's protocol, on the links.
//!
//! The protocol is a machine without I/O (`iroh_gossip::proto`). iroh-gossip's own
//! shell around it wants connections of its own, each of which costs as much as a
//! link while nothing happens, and closes those that it has done with. Here a
//! message goes over the newest link to its device, on a stream that goes one way,
//! and a device without a link is gone. Never here: what words mean (`gossip`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh_gossip::proto::{
    Command, Config, Event, HyparviewConfig, InEvent, Message, OutEvent, PlumtreeConfig, Scope, State, Timer,
    TopicId,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use exo_model::id::DeviceId;

use super::Inner;
use crate::hub::LinkId;
use crate::wire;

/// A topic's key.
pub(super) type Topic = [u8; 32];
/// A device's key, as the protocol names peers.
type Peer = [u8; 32];

/// Longest message of the protocol, in bytes: a word, and what goes around it.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// Messages that wait to be written to one link. Beyond it they are lost, which the
/// protocol makes up for.
const WAITING_MAX: usize = 256;
/// Things that wait for the protocol; then whoever brings them waits.
const INBOX: usize = 1_024;
/// Most neighbours: more than there are links. Everyone who is linked is one;
/// whoever had to give way to another would only ask again.
const NEIGHBOURS_MAX: usize = 64;
/// Stand-ins for neighbours that go: links are not gossip's to make.
const STAND_INS_MAX: usize = 1;
/// Pause between looks for stand-ins.
const SHUFFLE_EVERY: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Pause between looks for old messages to forget. Each look wakes an idle node, for
/// every topic.
const FORGET_EVERY: Duration = Duration::from_secs(30);

/// What a subscriber hears.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// A word, passed on by this device.
    Word(Bytes, DeviceId),
    /// A device is a neighbour on a topic.
    Up(Topic, DeviceId),
    /// It is none any more.
    Down(Topic, DeviceId),
}

enum Input {
    Subscribe(Topic, broadcast::Sender<News>),
    Quit(Topic),
    Join(Topic, Vec<DeviceId>),
    Say(Topic, Bytes),
    Linked(LinkId, DeviceId, mpsc::Sender<Bytes>),
    Unlinked(LinkId),
    Received(LinkId, Message<Peer>),
}

/// A handle to the protocol; cheap to clone. It ends with the last one.
#[derive(Clone, Debug)]
pub(super) struct Swarm(mpsc::Sender<Input>);

impl Swarm {
    /// Starts the protocol.
    pub(super) fn spawn(me: DeviceId) -> Self {
        // Chance here spreads load, and guards nothing.
        let seed = blake3::hash(format!("{me} {:?}", std::time::SystemTime::now()).as_bytes());
        let (inbox, inputs) = mpsc::channel(INBOX);
        tokio::spawn(Machine::new(me, *seed.as_bytes()).run(inputs));
        Self(inbox)
    }

    async fn tell(&self, input: Input) {
        // It ends with the node; then nobody hears anything anyway.
        let _ = self.0.send(input).await;
    }

    /// Begins to listen on a topic, with devices to begin with.
    pub(super) async fn subscribe(&self, topic: Topic, heard: broadcast::Sender<News>, with: Vec<DeviceId>) {
        self.tell(Input::Subscribe(topic, heard)).await;
        self.join(topic, with).await;
    }

    /// Leaves a topic.
    pub(super) async fn quit(&self, topic: Topic) {
        self.tell(Input::Quit(topic)).await;
    }

    /// Asks linked devices to be neighbours on a topic.
    pub(super) async fn join(&self, topic: Topic, devices: Vec<DeviceId>) {
        self.tell(Input::Join(topic, devices)).await;
    }

    /// Says a word on a topic.
    pub(super) async fn say(&self, topic: Topic, word: Bytes) {
        self.tell(Input::Say(topic, word)).await;
    }
}

/// A link stands; returns what is to be carried over it.
pub(super) async fn linked(inner: &Inner, link: LinkId, device: DeviceId) -> mpsc::Receiver<Bytes> {
    let (waiting, messages) = mpsc::channel(WAITING_MAX);
    inner.swarm.tell(Input::Linked(link, device, waiting)).await;
    messages
}

/// Carries the protocol's messages over one link, as long as that stands.
pub(super) async fn carry(
    inner: Arc<Inner>,
    link: LinkId,
    device: DeviceId,
    connection: Connection,
    messages: mpsc::Receiver<Bytes>,
) {
    let reading = async {
        while let Ok(stream) = connection.accept_uni().await {
            if let Err(reason) = read(&inner.swarm, link, stream).await {
                inner.note_refusal(device, format!("gossip: {reason}"));
                return;
            }
        }
    };
    let writing = async {
        // A peer of an earlier version takes no such stream, and misses nothing else.
        if let Ok(stream) = connection.open_uni().await {
            write(stream, messages).await;
        }
    };
    tokio::join!(reading, writing);
    connection.closed().await;
}

/// A link is gone.
pub(super) async fn unlinked(inner: &Inner, link: LinkId) {
    inner.swarm.tell(Input::Unlinked(link)).await;
}

/// Reads messages to the end of a stream; an error is the peer's fault.
async fn read(swarm: &Swarm, link: LinkId, mut stream: RecvStream) -> Result<(), String> {
    loop {
        match wire::read_bytes(&mut stream, MESSAGE_BYTES_MAX).await {
            Ok(Some(bytes)) => {
                let message = postcard::from_bytes(&bytes).map_err(|error| error.to_string())?;
                swarm.tell(Input::Received(link, message)).await;
            }
            Ok(None) | Err(wire::FrameError::Io(_)) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

async fn write(mut stream: SendStream, mut messages: mpsc::Receiver<Bytes>) {
    while let Some(message) = messages.recv().await {
        if wire::write_bytes(&mut stream, &message, MESSAGE_BYTES_MAX).await.is_err() {
            return;
        }
    }
}

/// The protocol, and what it needs to be driven.
struct Machine {
    state: State<Peer, StdRng>,
    links: BTreeMap<LinkId, (DeviceId, mpsc::Sender<Bytes>)>,
    subscribers: BTreeMap<Topic, broadcast::Sender<News>>,
    timers: BTreeMap<(Instant, u64), Timer<Peer>>,
    timers_set: u64,
}

impl Machine {
    fn new(me: DeviceId, seed: [u8; 32]) -> Self {
        let membership = HyparviewConfig {
            active_view_capacity: NEIGHBOURS_MAX,
            passive_view_capacity: STAND_INS_MAX,
            shuffle_interval: SHUFFLE_EVERY,
            ..HyparviewConfig::default()
        };
        let broadcast = PlumtreeConfig { cache_evict_interval: FORGET_EVERY, ..PlumtreeConfig::default() };
        let config = Config { membership, broadcast, max_message_size: MESSAGE_BYTES_MAX };
        Self {
            state: State::new(*me.as_bytes(), Default::default(), config, StdRng::from_seed(seed)),
            links: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_set: 0,
        }
    }

    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        loop {
            let next = self.timers.first_key_value().map(|((at, _), _)| *at);
            let waiting = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                () = waiting => {
                    if let Some((_, timer)) = self.timers.pop_first() {
                        self.handle(InEvent::TimerExpired(timer));
                    }
                }
            }
        }
    }

    fn take(&mut self, input: Input) {
        let command = |topic: Topic, command| InEvent::Command(TopicId::from_bytes(topic), command);
        match input {
            Input::Subscribe(topic, heard) => {
                // Whoever listened before may have gone without a word, and
                // neighbours are to be told anew.
                self.subscribers.remove(&topic);
                self.handle(command(topic, Command::Quit));
                self.subscribers.insert(topic, heard);
            }
            Input::Quit(topic) => {
                self.subscribers.remove(&topic);
                self.handle(command(topic, Command::Quit));
            }
            Input::Join(topic, devices) => {
                let linked: Vec<_> = devices.into_iter().filter(|device| self.is_linked(device)).collect();
                let peers = linked.iter().map(|device| *device.as_bytes()).collect();
                self.handle(command(topic, Command::Join(peers)));
            }
            Input::Say(topic, word) => self.handle(command(topic, Command::Broadcast(word, Scope::Swarm))),
            Input::Linked(link, device, waiting) => drop(self.links.insert(link, (device, waiting))),
            Input::Unlinked(link) => {
                // What was under way on it is lost, so both sides begin anew, even
                // where another link stands.
                if let Some((device, _)) = self.links.remove(&link) {
                    self.handle(InEvent::PeerDisconnected(*device.as_bytes()));
                }
            }
            Input::Received(link, message) => {
                if let Some((device, _)) = self.links.get(&link) {
                    self.handle(InEvent::RecvMessage(*device.as_bytes(), message));
                }
            }
        }
    }

    fn is_linked(&self, device: &DeviceId) -> bool {
        self.links.values().any(|(of, _)| of == device)
    }

    fn handle(&mut self, event: InEvent<Peer>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects: Vec<_> = self.state.handle(event, Instant::now(), None).collect();
            for effect in effects {
                match effect {
                    OutEvent::SendMessage(peer, message) => {
                        if !self.send(&DeviceId::from_bytes(peer), &message) {
                            events.push_back(InEvent::PeerDisconnected(peer));
                        }
                    }
                    OutEvent::EmitEvent(topic, event) => {
                        let topic = *topic.as_bytes();
                        if !self.tell(topic, event) {
                            self.subscribers.remove(&topic);
                            events.push_back(InEvent::Command(TopicId::from_bytes(topic), Command::Quit));
                        }
                    }
                    OutEvent::ScheduleTimer(pause, timer) => {
                        self.timers_set += 1;
                        self.timers.insert((Instant::now() + pause, self.timers_set), timer);
                    }
                    // Links are not gossip's to close, and addresses not its to know.
                    OutEvent::DisconnectPeer(_) | OutEvent::PeerData(..) => {}
                }
            }
        }
    }

    /// Hands a message to the newest link; false where there is none.
    fn send(&self, device: &DeviceId, message: &Message<Peer>) -> bool {
        let mut links =
            self.links.values().rev().filter(|(of, waiting)| of == device && !waiting.is_closed());
        let Some((_, waiting)) = links.next() else { return false };
        match postcard::to_stdvec(message) {
            Ok(bytes) => {
                if waiting.try_send(bytes.into()).is_err() {
                    tracing::debug!(%device, "a slow link: a message of gossip is lost");
                }
            }
            Err(error) => tracing::error!(%error, "a message of gossip"),
        }
        true
    }

    /// Tells a topic's subscriber; false where nobody listens any more.
    fn tell(&self, topic: Topic, event: Event<Peer>) -> bool {
        let Some(subscriber) = self.subscribers.get(&topic) else { return true };
        let heard = match event {
            Event::NeighborUp(peer) => News::Up(topic, DeviceId::from_bytes(peer)),
            Event::NeighborDown(peer) => News::Down(topic, DeviceId::from_bytes(peer)),
            Event::Received(word) => News::Word(word.content, DeviceId::from_bytes(word.delivered_from)),
        };
        subscriber.send(heard).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = [7; 32];

    fn device(n: u8) -> DeviceId {
        DeviceId::from_bytes([n; 32])
    }

    /// A machine with links 1 to 4, to devices of the same numbers.
    fn machine(me: u8) -> (Machine, Vec<mpsc::Receiver<Bytes>>, broadcast::Receiver<News>) {
        let mut machine = Machine::new(device(me), [me; 32]);
        let linked = (1..=4).map(|n| {
            let (waiting, messages) = mpsc::channel(WAITING_MAX);
            machine.take(Input::Linked(n, device(u8::try_from(n).expect("small")), waiting));
            messages
        });
        let messages = linked.collect();
        let (heard, hears) = broadcast::channel(64);
        machine.take(Input::Subscribe(TOPIC, heard));
        machine.take(Input::Join(TOPIC, (1..=4).map(device).collect()));
        (machine, messages, hears)
    }

    fn drain(messages: &mut [mpsc::Receiver<Bytes>]) -> Vec<(u64, Bytes)> {
        let mut all = Vec::new();
        for (link, messages) in (1..).zip(messages) {
            while let Ok(message) = messages.try_recv() {
                all.push((link, message));
            }
        }
        all
    }

    /// What two machines send while each says this and that.
    fn conversation() -> Vec<Bytes> {
        let mut said = Vec::new();
        let (mut one, mut to_one, _one_hears) = machine(1);
        let (mut two, mut to_two, _two_hears) = machine(2);
        for n in 0..20_u8 {
            one.take(Input::Say(TOPIC, vec![n; 40].into()));
            two.take(Input::Say(TOPIC, vec![100 + n; 40].into()));
            for (link, bytes) in drain(&mut to_one) {
                if link == 2 {
                    two.take(Input::Received(1, postcard::from_bytes(&bytes).expect("its own")));
                }
                said.push(bytes);
            }
            for (link, bytes) in drain(&mut to_two) {
                if link == 1 {
                    one.take(Input::Received(2, postcard::from_bytes(&bytes).expect("its own")));
                }
                said.push(bytes);
            }
        }
        said
    }

    #[test]
    fn n7_messages_of_gossip_that_are_bent_harm_nothing() {
        let said = conversation();
        assert!(said.len() > 40, "{}", said.len());
        let (mut machine, mut messages, _hears) = machine(9);
        let mut state = 1_u64;
        let mut dice = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap_or(0) % below.max(1)
        };
        let (mut taken, mut answers) = (0, 0);
        for _ in 0..40_000 {
            let mut bytes = said[dice(said.len())].to_vec();
            for _ in 0..dice(4) {
                let at = dice(bytes.len());
                match dice(4) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, u8::try_from(dice(256)).unwrap_or(0)),
                    // After the topic, where the meaning is.
                    _ if bytes.len() > 34 => bytes[32 + dice(2)] = u8::try_from(dice(8)).unwrap_or(0),
                    _ => {}
                }
                if bytes.is_empty() {
                    break;
                }
            }
            if let Ok(message) = postcard::from_bytes(&bytes) {
                taken += 1;
                machine.take(Input::Received(1 + dice(4) as u64, message));
                answers += drain(&mut messages).len();
            }
        }
        assert!(taken > 5_000, "{taken} could be read");
        assert!(answers < 10 * taken, "{answers} answers to {taken}");
        assert!(machine.timers.len() < 4 * taken, "{} timers", machine.timers.len());
        // They may all have said goodbye by now.
        machine.take(Input::Join(TOPIC, (1..=4).map(device).collect()));
        assert!(!drain(&mut messages).is_empty(), "it goes on");
    }
}
