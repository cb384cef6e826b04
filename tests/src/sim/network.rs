//! The network between nodes: delay, loss, partitions. What a packet may meet,
//! never what is in it.

use std::collections::BTreeMap;

use super::Nx;
use super::chance::Chance;

/// Silence after which a side takes a connection for broken, ms.
pub const IDLE_MS: u64 = 30_000;
/// Pause before a lost packet of a reliable stream is sent again, ms.
const RESEND_MS: u64 = 250;
/// Losses of one packet in a row after which it gets through all the same.
const LOSSES_MAX: u64 = 4;

/// How bad the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Shortest delay between two nodes, one way, ms.
    pub delay_ms: u64,
    /// What may come on top, anew for each packet: packets overtake each other.
    pub jitter_ms: u64,
    /// Packets lost, per cent. Streams send them again, gossip does not.
    pub loss_percent: u64,
}

impl Weather {
    /// A good line.
    pub const FAIR: Self = Self { delay_ms: 2, jitter_ms: 10, loss_percent: 0 };
    /// A bad one.
    pub const FOUL: Self = Self { delay_ms: 20, jitter_ms: 400, loss_percent: 20 };
}

/// Who reaches whom, and how fast.
#[derive(Debug)]
pub struct Network {
    /// How bad it is now.
    pub weather: Weather,
    /// The part of a split network that each node is in; the first if not named.
    parts: BTreeMap<Nx, u8>,
}

impl Network {
    /// A whole network.
    pub const fn new(weather: Weather) -> Self {
        Self { weather, parts: BTreeMap::new() }
    }

    /// Splits the network: who is not named is in part 0.
    pub fn split(&mut self, parts: BTreeMap<Nx, u8>) {
        self.parts = parts;
    }

    /// Makes it whole again.
    pub fn heal(&mut self) {
        self.parts.clear();
    }

    /// Whether packets between two nodes are lost, all of them.
    pub fn is_cut(&self, one: Nx, other: Nx) -> bool {
        let part = |nx: &Nx| self.parts.get(nx).copied().unwrap_or(0);
        part(&one) != part(&other)
    }

    /// How long a packet of a stream takes, with what is lost sent again.
    pub fn delay_ms(&self, chance: &mut Chance) -> u64 {
        let Weather { delay_ms, jitter_ms, loss_percent } = self.weather;
        let mut ms = chance.between(delay_ms, delay_ms + jitter_ms + 1);
        let mut losses = 0;
        while losses < LOSSES_MAX && chance.percent(loss_percent) {
            ms += RESEND_MS << losses;
            losses += 1;
        }
        ms
    }

    /// How long a message takes that may be lost; nothing where it is.
    pub fn once_ms(&self, chance: &mut Chance) -> Option<u64> {
        let Weather { delay_ms, jitter_ms, loss_percent } = self.weather;
        let ms = chance.between(delay_ms, delay_ms + jitter_ms + 1);
        (!chance.percent(loss_percent)).then_some(ms)
    }
}
