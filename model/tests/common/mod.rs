//! What the adversarial tests share: seeded randomness, devices that write
//! feeds through the gate, and a community seen by someone who has everything.

use std::collections::BTreeMap;

use exo_model::amount::Amount;
use exo_model::decide::{Intent, Refusal, decide};
use exo_model::envelope::Envelope;
use exo_model::feed::{self, Change, FeedPosition, gate};
use exo_model::invite::Ticket;
use exo_model::ledger::Voucher;
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use exo_model::weights::{ByteRange, ModelManifest};
use exo_model::{
    BlobHash, ChangeHash, ChannelId, Community, CommunityId, CommunityState, DeviceId, Event, FeedId, JobId,
    Stream, VerifiedEvent, community,
};

/// Wall time of every story, ms since the Unix epoch.
pub(crate) const NOW: i64 = 1_790_000_000_000;

/// SplitMix64: small, seeded, good enough to choose with.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// One to three byte-level changes: flips, overwrites, cuts, insertions,
    /// copies of a piece over another.
    pub(crate) fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(out.len().max(1));
            match self.below(6) {
                _ if out.is_empty() => out.push(self.byte()),
                0 => out[at] ^= 1 << self.below(8),
                1 => out[at] = self.byte(),
                2 => out.truncate(at),
                3 => out.insert(at, self.byte()),
                4 => drop(out.remove(at)),
                _ => {
                    let from = self.below(out.len());
                    let len = self.below((out.len() - from.max(at)).min(9) + 1);
                    out.copy_within(from..from + len, at);
                }
            }
        }
        out
    }
}

/// A change that carries `payload`.
pub(crate) fn change(time_ms: i64, payload: &[u8]) -> Change {
    Change { time_ms, payload: payload.to_vec() }
}

/// The stream that `event` belongs in; messages go to channel zero.
pub(crate) fn home(event: &Event) -> Stream {
    let channel = Stream::Channel(ChannelId::from_bytes([0; 16]));
    [Stream::Charter, Stream::Ledger, Stream::Cluster, Stream::Library, channel]
        .into_iter()
        .find(|stream| event.belongs_in(stream))
        .expect("every event has a stream")
}

/// A device with the ends of the feeds it wrote.
pub(crate) struct Device {
    pub(crate) key: SecretKey,
    ends: BTreeMap<FeedId, FeedPosition>,
}

impl Device {
    pub(crate) fn new(seed: u16) -> Self {
        let mut bytes = [0x11; 32];
        bytes[..2].copy_from_slice(&seed.to_le_bytes());
        Self { key: SecretKey::from_bytes(&bytes), ends: BTreeMap::new() }
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.key.device()
    }

    /// Writes and gates the feed's next change.
    pub(crate) fn write(&mut self, feed: FeedId, change: Change) -> VerifiedEvent {
        let end = self.ends.entry(feed).or_insert(FeedPosition::START);
        let accepted =
            gate::admit(feed::author(&self.key, feed, end, change), end).expect("one's own next change");
        *end = accepted.end();
        accepted.into_events().remove(0)
    }
}

/// A community with all its devices; device 0 founded it.
pub(crate) struct World {
    pub(crate) id: CommunityId,
    pub(crate) devices: Vec<Device>,
    pub(crate) events: Vec<VerifiedEvent>,
    pub(crate) community: Community,
}

impl World {
    pub(crate) fn found(floor: i64) -> Self {
        let mut owner = Device::new(1);
        let floor = Amount::from_token_mib(floor);
        let (feed, _, change) =
            community::found(owner.id(), "Ona".into(), "Garden".into(), floor, [7; 16], NOW);
        let founding = owner.write(feed, change);
        let id = feed.community;
        let mut world = Self { id, devices: vec![owner], events: Vec::new(), community: Community::new(id) };
        world.takes(founding);
        world
    }

    pub(crate) fn state(&self) -> &CommunityState {
        self.community.state()
    }

    pub(crate) fn id_of(&self, who: usize) -> DeviceId {
        self.devices[who].id()
    }

    /// A device that is no member yet.
    pub(crate) fn stranger(&mut self) -> usize {
        let seed = u16::try_from(self.devices.len() + 1).expect("few devices");
        self.devices.push(Device::new(seed));
        self.devices.len() - 1
    }

    pub(crate) fn takes(&mut self, event: VerifiedEvent) -> VerifiedEvent {
        self.community.insert([&event]);
        self.events.push(event.clone());
        event
    }

    /// Writes `event` after everything known, whether it counts or not.
    pub(crate) fn says(&mut self, who: usize, event: &Event) -> VerifiedEvent {
        let lamport = self.events.iter().map(|known| known.lamport).max().unwrap_or(0) + 1;
        self.says_at(who, lamport, event)
    }

    /// Writes `event` under a Lamport time of the author's choice.
    pub(crate) fn says_at(&mut self, who: usize, lamport: u64, event: &Event) -> VerifiedEvent {
        let feed = FeedId::new(self.id, self.id_of(who), home(event));
        let time = NOW + i64::try_from(self.events.len()).expect("short");
        let written = self.devices[who].write(feed, change(time, &Envelope::new(lamport, event).encode()));
        self.takes(written)
    }

    /// Decides as an honest program and writes the result.
    pub(crate) fn does(&mut self, who: usize, intent: Intent) -> Result<VerifiedEvent, Refusal> {
        let (stream, event) = decide(self.state(), self.id_of(who), NOW, intent)?;
        let feed = FeedId::new(self.id, self.id_of(who), stream);
        let change = self.community.next_change(&event, NOW);
        let written = self.devices[who].write(feed, change);
        Ok(self.takes(written))
    }

    /// Whether `event`, said by `who` after everything known, changes anything.
    pub(crate) fn counts(&mut self, who: usize, event: &Event) -> bool {
        let before = self.state().clone();
        self.says(who, event);
        *self.state() != before
    }

    /// The owner issues an invite and hands out the ticket.
    pub(crate) fn invites(&mut self, seed: u8, uses: u32) -> Ticket {
        let ticket = self.ticket(seed);
        self.says(0, &Event::InviteIssued { key: ticket.key(), uses, expires_ms: NOW + 1_000 });
        ticket
    }

    /// A ticket whose invite nobody issued.
    pub(crate) fn ticket(&self, seed: u8) -> Ticket {
        let secret = SecretKey::from_bytes(&[seed; 32]);
        Ticket::new(self.id, "Garden".into(), &secret, NOW + 1_000, Vec::new())
    }

    /// The event by which someone lets `who` in on `ticket`.
    pub(crate) fn admission(&self, ticket: &Ticket, who: usize, name: &str) -> Event {
        let request = ticket.request(self.id_of(who), name.to_owned());
        Event::MemberAdmitted {
            device: request.device,
            name: request.name,
            invite: request.invite,
            proof: request.proof,
        }
    }

    /// A new member, let in by `host`.
    pub(crate) fn welcomes(&mut self, ticket: &Ticket, host: usize) -> usize {
        let who = self.stranger();
        let admission = self.admission(ticket, who, &format!("Member {who}"));
        assert!(self.counts(host, &admission), "member {who} gets in");
        who
    }

    /// A community of `count` members on one invite.
    pub(crate) fn of_members(count: usize, floor: i64) -> Self {
        let mut world = Self::found(floor);
        let ticket = world.invites(200, 100);
        for _ in 1..count {
            world.welcomes(&ticket, 0);
        }
        world
    }

    pub(crate) fn lock_event(&self, job: u8, payee: usize, max: i64) -> Event {
        Event::Locked { job: job_id(job), payee: self.id_of(payee), max: Amount::from_token_mib(max) }
    }

    /// `payer` signs over `amount` of `lock` to `payee`.
    pub(crate) fn voucher(&self, payer: usize, lock: ChangeHash, payee: usize, amount: i64) -> Voucher {
        let amount = Amount::from_token_mib(amount);
        Voucher::sign(&self.devices[payer].key, &self.id, lock, &self.id_of(payee), amount)
    }

    pub(crate) fn balance(&self, who: usize) -> i64 {
        self.state().ledger.balance(&self.id_of(who)).token_mib()
    }
}

/// The event that posts `voucher`.
pub(crate) fn posting(voucher: &Voucher) -> Event {
    Event::Settled { lock: voucher.lock, amount: voucher.amount, voucher: voucher.signature }
}

pub(crate) fn job_id(job: u8) -> JobId {
    JobId::from_bytes([job; 16])
}

pub(crate) fn channel_event(channel: u8, name: &str) -> Event {
    Event::ChannelCreated { channel: ChannelId::from_bytes([channel; 16]), name: name.to_owned() }
}

/// A small model that passes every check.
pub(crate) fn manifest(file: u8) -> ModelManifest {
    ModelManifest {
        file: BlobHash::from_bytes([file; 32]),
        size_bytes: 1_000,
        name: "Tiny".into(),
        architecture: "llama".into(),
        licence: String::new(),
        context_length: 512,
        hidden_size: 64,
        kv_bytes_per_token_layer: 256,
        header: ByteRange { start: 0, end: 100 },
        embedding: vec![ByteRange { start: 100, end: 200 }],
        layers: vec![vec![ByteRange { start: 200, end: 500 }], vec![ByteRange { start: 500, end: 800 }]],
        head: vec![ByteRange { start: 800, end: 1_000 }],
    }
}

/// What `batches`, delivered in this order, reduce to.
pub(crate) fn reduced<'a>(
    id: CommunityId,
    batches: impl IntoIterator<Item = &'a [VerifiedEvent]>,
) -> Community {
    let mut community = Community::new(id);
    for batch in batches {
        community.insert(batch);
    }
    community
}

/// One event of every kind, with unlike contents.
pub(crate) fn every_kind() -> Vec<Event> {
    let secret = SecretKey::from_bytes(&[77; 32]);
    let (device, signature) = (secret.device(), secret.sign(b"anything"));
    let hash = ChangeHash::from_bytes([3; 32]);
    let invite = exo_model::InviteKey::from_bytes([4; 32]);
    let model = BlobHash::from_bytes([5; 32]);
    let layers = exo_model::weights::LayerRange::new(1, 400).expect("in bounds");
    let amount = Amount::from_token_mib(-70_000);
    vec![
        Event::Founded {
            name: "Garden".into(),
            founder: device,
            founder_name: "Ona".into(),
            floor: amount,
            nonce: [7; 16],
        },
        Event::InviteIssued { key: invite, uses: 1_000, expires_ms: i64::MIN },
        Event::MemberAdmitted { device, name: "Zo\u{eb}".into(), invite, proof: signature },
        channel_event(9, "general"),
        Event::MessagePosted { text: "hello\n\tyou".into() },
        Event::MachineOffered {
            memory_bytes: u64::MAX,
            micros_per_mib: 23,
            addresses: vec!["127.0.0.1:9".into(), String::new()],
        },
        Event::ShardHosted { model, layers },
        Event::ShardDropped { model },
        Event::ModelAdded { manifest: manifest(6) },
        Event::Locked { job: job_id(1), payee: device, max: Amount::LOCK_MAX },
        Event::Settled { lock: hash, amount, voucher: signature },
        Event::Closed { lock: hash },
    ]
}
