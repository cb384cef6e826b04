//! Chance that a seed decides: for the network, for hubs, for keys.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use exo_model::port::{Clock, Entropy};
use exo_sync::hub::Random;

/// Wall time at the beginning of every run, ms since the Unix epoch.
pub const EPOCH_MS: i64 = 1_790_000_000_000;
/// Odd, as SplitMix64 wants it.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Chance for one purpose of a run.
    pub const fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(seed ^ mix(purpose.wrapping_mul(STEP))))
    }

    /// Any number.
    pub const fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number from `low` on and below `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.any() % (high - low).max(1)
    }

    /// Whether something happens that does in `percent` of all cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.any() % 100 < percent
    }

    /// One of several; nothing of nothing.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// Some bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.any().to_le_bytes()[0]).collect()
    }

    /// 32 bytes.
    pub fn array(&mut self) -> [u8; 32] {
        let mut array = [0; 32];
        array.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.any().to_le_bytes()));
        array
    }
}

impl Random for Chance {
    fn next(&mut self) -> u64 {
        self.any()
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes for keys and nonces that never repeat within a run.
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// Of one opening of one replica.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Self(AtomicU64::new(Chance::new(seed, purpose).any()))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = mix(self.0.fetch_add(STEP, Ordering::Relaxed)).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// The wall clock of a run, which the world sets.
#[derive(Debug)]
pub struct VirtualClock(AtomicI64);

impl Default for VirtualClock {
    fn default() -> Self {
        Self(AtomicI64::new(EPOCH_MS))
    }
}

impl VirtualClock {
    /// Sets it to so many ms after the beginning.
    pub fn set(&self, now_ms: u64) {
        self.0.store(EPOCH_MS.saturating_add_unsigned(now_ms), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}
