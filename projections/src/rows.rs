//! What queries return: plain rows, ids and amounts in the model's types.

use exo_model::amount::Amount;
use exo_model::charter::Role;
use exo_model::weights::LayerRange;
use exo_model::{BlobHash, ChangeHash, ChannelId, CommunityId, DeviceId, JobId, PersonId};

use crate::query::PageCursor;

/// The community.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommunityRow {
    /// Its id.
    pub id: CommunityId,
    /// Its name; empty until the founding event was there.
    pub name: String,
    /// Lowest balance a member may reach whom the community trusts like a
    /// friend.
    pub floor: Amount,
    /// What its own account holds: with the balances of all devices, zero.
    pub balance: Amount,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The person.
    pub person: PersonId,
    /// Chosen name.
    pub name: String,
    /// A few words about themselves; may be empty.
    pub about: String,
    /// What they may do.
    pub role: Role,
    /// How far the community trusts them, as a word.
    pub trust: String,
    /// Who let them in; themselves for the founder.
    pub admitted_by: PersonId,
    /// When, by the admitting device's clock; ms since the Unix epoch.
    pub admitted_ms: i64,
    /// Their devices, in order.
    pub devices: Vec<DeviceId>,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRow {
    /// Its id.
    pub channel: ChannelId,
    /// Its name.
    pub name: String,
}

/// A message of someone who is or was a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// The channel it is in.
    pub channel: ChannelId,
    /// The device it was written on.
    pub author: DeviceId,
    /// Whose device that is.
    pub person: PersonId,
    /// The author's name now.
    pub author_name: String,
    /// Segment of the author's feed it is in.
    pub segment: u32,
    /// Its place in that segment, from 1.
    pub seq: u64,
    /// The hash of its change: the message's identity.
    pub hash: ChangeHash,
    /// Lamport time: with the hash, the order of messages.
    pub lamport: u64,
    /// Wall time of writing, ms since the Unix epoch.
    pub time_ms: i64,
    /// What was written.
    pub text: String,
}

impl MessageRow {
    /// Where the page before this message ends.
    pub const fn cursor(&self) -> PageCursor {
        PageCursor { lamport: self.lamport, time_ms: self.time_ms, hash: self.hash }
    }
}

/// What a member's machine offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineRow {
    /// The machine's device.
    pub device: DeviceId,
    /// Its member's name.
    pub name: String,
    /// Memory offered for weights and caches, bytes; at most 2^63 − 1.
    pub memory_bytes: u64,
    /// Measured speed, µs per MiB of weights and token; 0 when unknown.
    pub micros_per_mib: u32,
    /// Where it can be reached, as published; not checked to be addresses.
    pub addresses: Vec<String>,
}

/// Layers of a model that a machine holds ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRow {
    /// The machine's device.
    pub device: DeviceId,
    /// The model's file; the community may not know a model of it (yet).
    pub model: BlobHash,
    /// The layers.
    pub layers: LayerRange,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    /// BLAKE3 of its file.
    pub model: BlobHash,
    /// Name, as its file states it.
    pub name: String,
    /// Architecture, e.g. `llama`.
    pub architecture: String,
    /// Licence; empty where the file states none.
    pub licence: String,
    /// Length of the file in bytes; at most 2^63 − 1.
    pub size_bytes: u64,
    /// Number of transformer layers.
    pub layer_count: u32,
    /// Longest context in tokens.
    pub context_length: u32,
    /// Width of the activations.
    pub hidden_size: u32,
    /// Members who hold the whole file, the first adder first.
    pub holders: Vec<DeviceId>,
}

/// The credit of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    /// The device.
    pub device: DeviceId,
    /// Whose it is or was.
    pub person: PersonId,
    /// That person's name.
    pub name: String,
    /// What settled jobs brought and cost so far.
    pub balance: Amount,
    /// What its open locks hold.
    pub held: Amount,
    /// What it can still commit; `None` once it takes part no longer.
    pub available: Option<Amount>,
}

/// A lock: one payment from one member to another, open or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRow {
    /// The change that carries the lock.
    pub lock: ChangeHash,
    /// Its Lamport time: with `lock`, the order of transactions.
    pub lamport: u64,
    /// When it was locked, by the payer's clock; ms since the Unix epoch.
    pub time_ms: i64,
    /// Who pays.
    pub payer: DeviceId,
    /// Who is paid.
    pub payee: DeviceId,
    /// For which job; none for an order or a booking.
    pub job: Option<JobId>,
    /// The most that can be paid.
    pub max: Amount,
    /// What was paid so far.
    pub settled: Amount,
    /// Whether the payee asks for no more.
    pub closed: bool,
}

impl TransactionRow {
    /// Where the page before this transaction ends.
    pub const fn cursor(&self) -> PageCursor {
        PageCursor { lamport: self.lamport, time_ms: self.time_ms, hash: self.lock }
    }
}

/// All locks of one payer for one job. (Job ids are chosen by payers, so two
/// payers' equal ids are two jobs.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// The job.
    pub job: JobId,
    /// Who pays.
    pub payer: DeviceId,
    /// When its first lock was made, by the payer's clock; ms since the Unix
    /// epoch.
    pub started_ms: i64,
    /// Number of locks, which is of machines paid, as a rule.
    pub locks: u64,
    /// How many of them are open.
    pub open: u64,
    /// The most that can be paid; saturates.
    pub max: Amount,
    /// What was paid so far; saturates.
    pub settled: Amount,
}
