//! Quotas: how much of one author's writing is taken in at a time.
//!
//! A quota delays fetching, it never refuses: what is over it is left with the
//! peer and asked for again later. So a member who floods a community slows
//! down nobody but themselves, and no honest word is lost. A token bucket for
//! each device, in changes and in bytes; time is an argument.

use std::collections::BTreeMap;

use crate::id::DeviceId;
use crate::trust::TrustLevel;

/// Milliseconds of one day.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Most devices tracked; beyond it the one that was quiet longest starts
/// afresh.
const DEVICES_MAX: usize = 4_096;

/// What one device may bring within a day, and at once after a quiet day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Changes.
    pub changes: u64,
    /// Payload bytes.
    pub bytes: u64,
}

impl Allowance {
    /// The allowance of a device whose person is trusted at `level`.
    pub const fn at(level: TrustLevel) -> Self {
        match level {
            TrustLevel::Friends => Self { changes: 1 << 21, bytes: 1 << 30 },
            TrustLevel::Known => Self { changes: 1 << 17, bytes: 1 << 26 },
            TrustLevel::Public => Self { changes: 1 << 13, bytes: 1 << 22 },
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    changes: u64,
    bytes: u64,
    at_ms: i64,
}

/// What every device brought lately.
#[derive(Clone, Debug, Default)]
pub struct Quotas(BTreeMap<DeviceId, Bucket>);

impl Quotas {
    /// Takes `changes` and `bytes` of `device` in, or returns false: later.
    /// Something larger than the whole allowance passes once it is full, so
    /// that nothing waits for ever.
    pub fn take(
        &mut self,
        device: DeviceId,
        allowance: Allowance,
        changes: u64,
        bytes: u64,
        now_ms: i64,
    ) -> bool {
        let full = Bucket { changes: allowance.changes, bytes: allowance.bytes, at_ms: now_ms };
        if self.0.len() >= DEVICES_MAX && !self.0.contains_key(&device) {
            let quietest = self.0.iter().min_by_key(|(_, bucket)| bucket.at_ms).map(|(device, _)| *device);
            quietest.and_then(|device| self.0.remove(&device));
        }
        let bucket = self.0.entry(device).or_insert(full);
        bucket.refill(allowance, now_ms);
        let fits = changes <= bucket.changes.max(full_only(bucket.changes, allowance.changes))
            && bytes <= bucket.bytes.max(full_only(bucket.bytes, allowance.bytes));
        if fits {
            bucket.changes = bucket.changes.saturating_sub(changes);
            bucket.bytes = bucket.bytes.saturating_sub(bytes);
        }
        fits
    }
}

/// No bound at all for a full bucket.
const fn full_only(left: u64, allowance: u64) -> u64 {
    if left >= allowance { u64::MAX } else { 0 }
}

impl Bucket {
    /// A clock that goes back refills nothing.
    fn refill(&mut self, allowance: Allowance, now_ms: i64) {
        let elapsed = u64::try_from(now_ms.saturating_sub(self.at_ms).clamp(0, DAY_MS)).unwrap_or(0);
        let share = |whole: u64| {
            let part = u128::from(whole) * u128::from(elapsed) / DAY_MS.unsigned_abs() as u128;
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let (changes, bytes) = (share(allowance.changes), share(allowance.bytes));
        // Too short a while for a whole unit counts on.
        if changes > 0 || bytes > 0 || now_ms < self.at_ms {
            self.at_ms = now_ms;
        }
        self.changes = self.changes.saturating_add(changes).min(allowance.changes);
        self.bytes = self.bytes.saturating_add(bytes).min(allowance.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId::from_bytes([1; 32]);
    const SMALL: Allowance = Allowance { changes: 100, bytes: 1_000 };

    #[test]
    fn a_flood_waits_and_gets_in_later() {
        let mut quotas = Quotas::default();
        assert!(quotas.take(DEVICE, SMALL, 90, 900, 0));
        assert!(!quotas.take(DEVICE, SMALL, 20, 10, 0), "over the changes");
        assert!(!quotas.take(DEVICE, SMALL, 1, 200, 0), "over the bytes");
        assert!(!quotas.take(DEVICE, SMALL, 90, 900, DAY_MS / 4));
        assert!(quotas.take(DEVICE, SMALL, 30, 300, DAY_MS / 4));
        assert!(quotas.take(DEVICE, SMALL, 90, 900, 2 * DAY_MS), "a day later all of it");
    }

    #[test]
    fn one_devices_flood_delays_no_other() {
        let mut quotas = Quotas::default();
        assert!(quotas.take(DEVICE, SMALL, 100, 1_000, 0));
        assert!(!quotas.take(DEVICE, SMALL, 1, 1, 0));
        assert!(quotas.take(DeviceId::from_bytes([2; 32]), SMALL, 100, 1_000, 0));
    }

    #[test]
    fn what_is_larger_than_the_allowance_passes_when_it_is_full() {
        let mut quotas = Quotas::default();
        assert!(quotas.take(DEVICE, SMALL, 500, 50, 0));
        assert!(!quotas.take(DEVICE, SMALL, 1, 1, 0));
        assert!(!quotas.take(DEVICE, SMALL, 500, 50, DAY_MS / 2));
        assert!(quotas.take(DEVICE, SMALL, 500, 50, 2 * DAY_MS));
    }

    #[test]
    fn clocks_that_jump_do_no_harm() {
        let mut quotas = Quotas::default();
        assert!(quotas.take(DEVICE, SMALL, 100, 1_000, i64::MAX));
        assert!(!quotas.take(DEVICE, SMALL, 1, 1, i64::MIN), "going back refills nothing");
        assert!(!quotas.take(DEVICE, SMALL, 1, 1, i64::MIN));
        assert!(quotas.take(DEVICE, SMALL, 100, 1_000, 0), "a long time forward refills all, once");
        assert!(!quotas.take(DEVICE, SMALL, 1, 1, 1));
    }
}
