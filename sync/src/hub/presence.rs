//! What members say of themselves, for a while: that they are there, how busy
//! their machine is, that they are typing. Said by gossip, never stored; what is
//! not said again runs out.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use exo_model::feed::Stream;
use exo_model::id::DeviceId;

use super::Random;

/// How long a word of presence holds, ms: longer than two of them may be apart. In
/// communities of more than 150 devices longer, as words are rarer.
pub const PRESENCE_LASTS_MS: u64 = 825_000;
/// How long somebody counts as typing, ms.
pub const TYPING_LASTS_MS: u64 = 6_000;
/// Shortest pause between words of presence of a node that has nothing new to say,
/// ms; up to twice as long.
const ANNOUNCE_EVERY_MS: u64 = 300_000;
/// The same for each other device, ms: everyone hears everyone's, so in a large
/// community each says less.
const ANNOUNCE_SHARE_MS: u64 = 2_000;
/// Shortest pause between words of presence, ms: news within it is told at once.
const ANNOUNCE_PAUSE_MS: u64 = 5_000;
/// Devices remembered for one community: all that there can be.
const DEVICES_MAX: usize = 1 << 15;

/// How busy a machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Load {
    /// Processor time in use, per cent of all cores; more than 100 where the
    /// system does not tell.
    #[n(0)]
    pub cpu_percent: u8,
    /// Memory that is free for models, MiB.
    #[n(1)]
    pub free_mib: u32,
    /// Sessions of others that are served.
    #[n(2)]
    pub sessions: u16,
}

/// One ephemeral message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Presence {
    /// The device is there.
    #[n(0)]
    Here(#[n(0)] Load),
    /// The person is typing in this stream.
    #[n(1)]
    Typing(#[n(0)] Stream),
    /// The device says goodbye.
    #[n(2)]
    Gone,
}

#[derive(Clone, Debug)]
struct Heard {
    load: Load,
    until_ms: u64,
    typing: Option<(Stream, u64)>,
}

/// What is known of the members of one community.
#[derive(Clone, Debug)]
pub struct Presences {
    heard: BTreeMap<DeviceId, Heard>,
    next_ms: u64,
    last_ms: Option<u64>,
    every_ms: u64,
}

impl Presences {
    pub(super) const fn new(now_ms: u64) -> Self {
        Self { heard: BTreeMap::new(), next_ms: now_ms, last_ms: None, every_ms: ANNOUNCE_EVERY_MS }
    }

    /// Takes how many others there are.
    pub(super) fn share_with(&mut self, others: usize) {
        self.every_ms = ANNOUNCE_EVERY_MS.max(ANNOUNCE_SHARE_MS.saturating_mul(others as u64));
    }

    /// How long a word holds here.
    pub(super) const fn last_for_ms(&self) -> u64 {
        self.every_ms * (PRESENCE_LASTS_MS / 1_000) / (ANNOUNCE_EVERY_MS / 1_000)
    }

    const fn pause_ms(&self) -> u64 {
        self.every_ms / (ANNOUNCE_EVERY_MS / ANNOUNCE_PAUSE_MS)
    }

    pub(super) fn take(&mut self, device: DeviceId, presence: Presence, now_ms: u64) {
        self.heard.retain(|_, heard| heard.until_ms > now_ms);
        if self.heard.len() >= DEVICES_MAX && !self.heard.contains_key(&device) {
            return;
        }
        let until_ms = now_ms + self.last_for_ms();
        match presence {
            Presence::Gone => drop(self.heard.remove(&device)),
            Presence::Here(load) => {
                let typing = self.heard.get(&device).and_then(|heard| heard.typing);
                self.heard.insert(device, Heard { load, until_ms, typing });
            }
            Presence::Typing(stream) => {
                let new = Heard { load: Load::default(), until_ms, typing: None };
                let heard = self.heard.entry(device).or_insert(new);
                heard.until_ms = until_ms;
                heard.typing = Some((stream, now_ms + TYPING_LASTS_MS));
            }
        }
    }

    /// How busy a device is; nothing where it was not heard of lately.
    pub fn load(&self, device: &DeviceId, now_ms: u64) -> Option<Load> {
        self.heard.get(device).filter(|heard| heard.until_ms > now_ms).map(|heard| heard.load)
    }

    /// Devices whose people are typing in a stream.
    pub fn typing(&self, stream: &Stream, now_ms: u64) -> Vec<DeviceId> {
        let types = |heard: &Heard| heard.typing.is_some_and(|(of, until)| of == *stream && until > now_ms);
        self.heard.iter().filter(|(_, heard)| types(heard)).map(|(device, _)| *device).collect()
    }

    pub(super) fn announce_soon(&mut self, now_ms: u64) {
        let earliest = self.last_ms.map_or(now_ms, |last_ms| now_ms.max(last_ms + self.pause_ms()));
        self.next_ms = self.next_ms.min(earliest);
    }

    /// Whether this node is to say that it is there, now.
    pub(super) fn is_due(&mut self, now_ms: u64, random: &mut dyn Random) -> bool {
        let is_due = self.next_ms <= now_ms;
        if is_due {
            self.last_ms = Some(now_ms);
            self.next_ms = now_ms + random.jitter(self.every_ms);
        }
        is_due
    }

    pub(super) const fn next_ms(&self) -> u64 {
        self.next_ms
    }
}
