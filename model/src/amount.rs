//! Credits: exact integers of work.
//!
//! One work unit (WU) is one token through 1 GiB of hosted weights. Amounts
//! are kept in token·MiB, so 1 WU = 1,024.

use std::fmt;

use minicbor::{Decode, Encode};

/// Bytes of one MiB.
const MIB: u128 = 1 << 20;

/// An amount of work or credit in token·MiB; negative where a balance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Amount(#[n(0)] i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// token·MiB in one work unit.
    pub const PER_WORK_UNIT: i64 = 1_024;
    /// Largest amount one lock may hold (2^48 token·MiB); keeps every sum of
    /// up to 2^15 locks far from overflow.
    pub const LOCK_MAX: Self = Self(1 << 48);

    /// From token·MiB.
    pub const fn from_token_mib(value: i64) -> Self {
        Self(value)
    }

    /// In token·MiB.
    pub const fn token_mib(self) -> i64 {
        self.0
    }

    /// The work of putting `positions` tokens through `weight_bytes` of hosted
    /// weights: positions · bytes / 2^20, rounded half up, once, on the running
    /// total of a job. Saturates at [`Amount::LOCK_MAX`].
    pub fn of_work(positions: u64, weight_bytes: u64) -> Self {
        let exact = u128::from(positions) * u128::from(weight_bytes);
        let rounded = (exact + MIB / 2) / MIB;
        i64::try_from(rounded).map_or(Self::LOCK_MAX, |value| Self(value).min(Self::LOCK_MAX))
    }

    /// Sum, or `None` past the range of `i64`.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Difference, or `None` past the range of `i64`.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }
}

impl fmt::Display for Amount {
    /// In work units with three decimals (rounded toward zero), e.g. `1.500 WU`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = u128::from(self.0.unsigned_abs()) * 1_000 / 1_024;
        write!(f, "{sign}{}.{:03} WU", magnitude / 1_000, magnitude % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_rounded_once_on_the_running_total() {
        assert_eq!(Amount::of_work(3, 1 << 20).token_mib(), 3);
        assert_eq!(Amount::of_work(1, 1 << 19).token_mib(), 1);
        assert_eq!(Amount::of_work(1, (1 << 19) - 1).token_mib(), 0);
        assert_eq!(Amount::of_work(1_024, 1 << 30).token_mib(), 1_024 * 1_024);
        assert_eq!(Amount::of_work(u64::MAX, u64::MAX), Amount::LOCK_MAX);
    }

    #[test]
    fn amounts_show_as_work_units() {
        assert_eq!(Amount::from_token_mib(1_536).to_string(), "1.500 WU");
        assert_eq!(Amount::from_token_mib(-1).to_string(), "-0.000 WU");
        assert_eq!(Amount::from_token_mib(i64::MIN).to_string().len(), 24);
    }
}
