//! Communities made by a seeded generator, through the model's own API: every
//! event here was decided, signed and let through the gate.

use std::collections::BTreeMap;

use exo_model::amount::Amount;
use exo_model::community::{self, Community};
use exo_model::decide::{Intent, decide};
use exo_model::feed::{self, Change, FeedPosition, gate};
use exo_model::invite::Ticket;
use exo_model::ledger::Voucher;
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use exo_model::weights::{ByteRange, LayerRange, ModelManifest};
use exo_model::{
    BlobHash, ChangeHash, ChannelId, CommunityId, CommunityState, DeviceId, Event, FeedId, JobId, Stream,
    VerifiedEvent,
};

/// Wall time of the first event, ms.
const START_MS: i64 = 1_790_000_000_000;

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Rng(u64);

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

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }
}

/// A device with what it knows.
pub(crate) struct Peer {
    pub(crate) key: SecretKey,
    pub(crate) community: Community,
    known: BTreeMap<FeedId, u64>,
}

impl Peer {
    pub(crate) fn device(&self) -> DeviceId {
        self.key.device()
    }

    pub(crate) fn state(&self) -> &CommunityState {
        self.community.state()
    }
}

struct Feed {
    end: FeedPosition,
    events: Vec<VerifiedEvent>,
}

/// All feeds of one community, and its devices.
pub(crate) struct World {
    pub(crate) id: CommunityId,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rng: Rng,
    feeds: BTreeMap<FeedId, Feed>,
    now_ms: i64,
}

impl World {
    /// A community with its founder as peer 0.
    pub(crate) fn found(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let key = SecretKey::from_bytes(&rng.bytes());
        let floor = Amount::from_token_mib(-500);
        let (feed, position, change) = community::found(
            key.device(),
            "Founder".into(),
            format!("Garden {seed}"),
            floor,
            rng.bytes(),
            START_MS,
        );
        let mut world =
            Self { id: feed.community, peers: Vec::new(), rng, feeds: BTreeMap::new(), now_ms: START_MS };
        world.add_peer(key);
        assert_eq!(position, FeedPosition::START);
        world.append(0, feed, change);
        world
    }

    fn add_peer(&mut self, key: SecretKey) -> usize {
        self.peers.push(Peer { key, community: Community::new(self.id), known: BTreeMap::new() });
        self.peers.len() - 1
    }

    /// A device that knows the community's id and nothing else.
    pub(crate) fn new_peer(&mut self) -> usize {
        let key = SecretKey::from_bytes(&self.rng.bytes());
        self.add_peer(key)
    }

    fn append(&mut self, peer: usize, feed: FeedId, change: Change) -> VerifiedEvent {
        let entry =
            self.feeds.entry(feed).or_insert_with(|| Feed { end: FeedPosition::START, events: Vec::new() });
        let run = feed::author(&self.peers[peer].key, feed, &entry.end, change);
        let accepted = gate::admit(run, &entry.end).expect("our own run");
        entry.end = accepted.end();
        let event = accepted.events()[0].clone();
        entry.events.push(event.clone());
        let author = &mut self.peers[peer];
        author.community.insert([&event]);
        author.known.insert(feed, event.seq);
        event
    }

    /// Writes a payload of any kind, sensible or not.
    pub(crate) fn write_raw(&mut self, peer: usize, stream: Stream, payload: Vec<u8>) -> VerifiedEvent {
        let feed = FeedId::new(self.id, self.peers[peer].device(), stream);
        self.now_ms += 1_000;
        let change = Change { time_ms: self.now_ms, payload };
        self.append(peer, feed, change)
    }

    /// Writes an event whether or not it makes sense.
    pub(crate) fn write(&mut self, peer: usize, stream: Stream, event: &Event) -> VerifiedEvent {
        let payload = self.peers[peer].community.next_change(event, 0).payload;
        self.write_raw(peer, stream, payload)
    }

    /// Records an intent, if it is decided in its favour.
    pub(crate) fn intend(&mut self, peer: usize, intent: Intent) -> Option<VerifiedEvent> {
        let author = &self.peers[peer];
        let (stream, event) = decide(author.state(), author.device(), self.now_ms, intent).ok()?;
        Some(self.write(peer, stream, &event))
    }

    /// `to` learns all that `from` knows.
    pub(crate) fn tell(&mut self, from: usize, to: usize) {
        let news = self.peers[from].known.clone();
        for (feed, seq) in news {
            let events = &self.feeds[&feed].events;
            let to = &mut self.peers[to];
            let known = to.known.get(&feed).copied().unwrap_or_default();
            if known < seq {
                let range = usize::try_from(known).expect("small")..usize::try_from(seq).expect("small");
                to.community.insert(&events[range]);
                to.known.insert(feed, seq);
            }
        }
    }

    pub(crate) fn tell_everyone(&mut self) {
        for _ in 0..2 {
            for from in 0..self.peers.len() {
                for to in 0..self.peers.len() {
                    if from != to {
                        self.tell(from, to);
                    }
                }
            }
        }
    }

    /// An invite of the founder's.
    pub(crate) fn invite(&mut self, uses: u32) -> Ticket {
        let secret = SecretKey::from_bytes(&self.rng.bytes());
        let ticket = Ticket::new(self.id, "Garden".into(), &secret, i64::MAX, Vec::new());
        let intent = Intent::IssueInvite { key: ticket.key(), uses, expires_ms: i64::MAX };
        self.intend(0, intent).expect("the founder may");
        ticket
    }

    /// `member` admits a new device, as far as `member` knows.
    pub(crate) fn admit(
        &mut self,
        member: usize,
        ticket: &Ticket,
        name: &str,
    ) -> Option<(usize, VerifiedEvent)> {
        let newcomer = self.new_peer();
        let request = ticket.request(self.peers[newcomer].device(), name.into());
        let event = self.intend(member, Intent::Admit(request))?;
        self.tell(member, newcomer);
        Some((newcomer, event))
    }

    pub(crate) fn create_channel(&mut self, name: &str) -> ChannelId {
        let channel = ChannelId::from_bytes(self.rng.bytes());
        let intent = Intent::CreateChannel { channel, name: name.into() };
        self.intend(0, intent).expect("the founder may");
        channel
    }

    pub(crate) fn post(&mut self, peer: usize, channel: ChannelId, text: &str) -> Option<VerifiedEvent> {
        self.intend(peer, Intent::Post { channel, text: text.into() })
    }

    /// Writes a message without asking anyone.
    pub(crate) fn post_raw(&mut self, peer: usize, channel: ChannelId, text: &str) -> VerifiedEvent {
        self.write(peer, Stream::Channel(channel), &Event::MessagePosted { text: text.into() })
    }

    /// All feeds, each from its start.
    pub(crate) fn feeds(&self) -> Vec<Vec<VerifiedEvent>> {
        self.feeds.values().map(|feed| feed.events.clone()).collect()
    }

    /// All events, feed by feed.
    pub(crate) fn events(&self) -> Vec<VerifiedEvent> {
        self.feeds().into_iter().flatten().collect()
    }

    /// The state of who knows everything.
    pub(crate) fn state(&self) -> CommunityState {
        let mut community = Community::new(self.id);
        community.insert(&self.events());
        community.state().clone()
    }

    /// All events in batches of random feeds and sizes, each feed in its own
    /// order, some events twice.
    pub(crate) fn shuffled(&self, rng: &mut Rng) -> Vec<Vec<VerifiedEvent>> {
        let feeds = self.feeds();
        let mut taken = vec![0; feeds.len()];
        let mut batches = Vec::new();
        loop {
            let mut batch = Vec::new();
            for _ in 0..=rng.below(4) {
                let open: Vec<_> =
                    (0..feeds.len()).filter(|feed| taken[*feed] < feeds[*feed].len()).collect();
                if open.is_empty() {
                    break;
                }
                let feed = open[rng.below(open.len())];
                let again = rng.below(4).saturating_sub(1).min(taken[feed]);
                let end = (taken[feed] + 1 + rng.below(7)).min(feeds[feed].len());
                batch.extend_from_slice(&feeds[feed][taken[feed] - again..end]);
                taken[feed] = end;
            }
            if batch.is_empty() {
                return batches;
            }
            batches.push(batch);
        }
    }
}

/// A community that grew for `steps` random steps, its members telling each
/// other only now and then, so that much is concurrent.
pub(crate) fn grown(seed: u64, steps: usize) -> World {
    let mut world = World::found(seed);
    let mut channels = vec![world.create_channel("hall")];
    let ticket = world.invite(3);
    for index in 0..3 {
        world.admit(0, &ticket, &format!("First {index}")).expect("room in the invite");
    }
    world.tell_everyone();
    for step in 0..steps {
        let peer = world.rng.below(world.peers.len());
        match world.rng.below(20) {
            0 => race(&mut world, step),
            1 => channels.push(world.create_channel(&format!("room {step}"))),
            2 => garbage(&mut world, peer, channels[0]),
            3 => {
                // Nobody let this one in, and it may know nothing.
                let stranger = world.new_peer();
                world.post_raw(stranger, channels[0], "let me in");
            }
            4..=6 => machine(&mut world, peer, step),
            7..=11 => money(&mut world, peer),
            12..=14 => {
                let other = world.rng.below(world.peers.len());
                world.tell(peer, other);
            }
            _ => {
                let channel = channels[world.rng.below(channels.len())];
                world.post_raw(peer, channel, &format!("message {step}\n\"quoted\" 漢字"));
            }
        }
    }
    world
}

/// Two members use one single-use invite without knowing of each other.
fn race(world: &mut World, step: usize) {
    let ticket = world.invite(1);
    let (left, right) = (world.rng.below(4), world.rng.below(4));
    world.tell(0, left);
    world.tell(0, right);
    for member in [left, right] {
        world.admit(member, &ticket, &format!("Late {step}.{member}"));
    }
}

fn garbage(world: &mut World, peer: usize, channel: ChannelId) {
    match world.rng.below(4) {
        0 => world.post_raw(peer, channel, "hidden\u{202e}txt"),
        1 => world.post_raw(peer, ChannelId::from_bytes([9; 16]), "no such channel"),
        2 => world.write(peer, Stream::Ledger, &Event::MessagePosted { text: "wrong stream".into() }),
        _ => world.write_raw(peer, Stream::Charter, b"no envelope".to_vec()),
    };
}

fn machine(world: &mut World, peer: usize, step: usize) {
    let model = BlobHash::from_bytes([u8::try_from(world.rng.below(3)).expect("small"); 32]);
    let intent = match world.rng.below(4) {
        0 => Intent::OfferMachine {
            memory_bytes: if step.is_multiple_of(3) { u64::MAX } else { world.rng.next() >> 20 },
            micros_per_mib: 40,
            addresses: (0..world.rng.below(3)).map(|port| format!("127.0.0.1:{port}")).collect(),
        },
        1 => Intent::AddModel(manifest(model)),
        2 => {
            let start = u32::try_from(world.rng.below(2)).expect("small");
            Intent::HostShard { model, layers: LayerRange::new(start, start + 1).expect("not empty") }
        }
        _ => Intent::DropShard { model },
    };
    world.intend(peer, intent);
}

fn manifest(file: BlobHash) -> ModelManifest {
    let range = |start, end| ByteRange { start, end };
    ModelManifest {
        file,
        size_bytes: 100,
        name: format!("Model {file}"),
        architecture: "llama".into(),
        licence: String::new(),
        context_length: 128,
        hidden_size: 8,
        kv_bytes_per_token_layer: 64,
        header: range(0, 10),
        embedding: vec![range(10, 20)],
        layers: vec![vec![range(20, 50)], vec![range(50, 80)]],
        head: vec![range(80, 100)],
    }
}

fn money(world: &mut World, peer: usize) {
    let me = world.peers[peer].device();
    let other = world.rng.below(world.peers.len());
    let locks: Vec<ChangeHash> = world.peers[peer].state().ledger.locks().keys().copied().collect();
    if locks.is_empty() || world.rng.below(3) == 0 {
        let payee = world.peers[other].device();
        let job = JobId::from_bytes([u8::try_from(world.rng.below(4)).expect("small"); 16]);
        let max = Amount::from_token_mib(1 + i64::try_from(world.rng.below(200)).expect("small"));
        world.intend(peer, Intent::Lock { job, payee, max });
        return;
    }
    let hash = locks[world.rng.below(locks.len())];
    let lock = world.peers[peer].state().ledger.locks()[&hash].clone();
    if lock.payee == me && world.rng.below(3) == 0 {
        world.intend(peer, Intent::Close { lock: hash });
        return;
    }
    let Some(payer) = world.peers.iter().find(|peer| peer.device() == lock.payer) else { return };
    let paid = world.rng.0 % lock.max.token_mib().unsigned_abs();
    let amount = Amount::from_token_mib(i64::try_from(paid).expect("small"));
    let voucher = Voucher::sign(&payer.key, &world.id, hash, &lock.payee, amount);
    world.intend(peer, Intent::Settle(voucher));
}
