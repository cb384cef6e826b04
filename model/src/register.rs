//! Registers where the last word stands, in bounded number.
//!
//! [`conversation`](crate::conversation) and [`private`](crate::private) keep
//! most of what they know this way. "Last" is by [`Stamp`], never by arrival, so
//! a register is a function of the set of writes. So is a bounded collection of
//! them: of all keys ever written, those with the greatest stamps are kept. A
//! key among these is never pushed out for good, because whatever pushes it out
//! has a greater stamp, and stamps only grow. Never here: what a value means.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::encode::Write;
use minicbor::{Decode, Encode, Encoder};

use crate::id::ChangeHash;

/// When a fact was said, as far as order goes: Lamport time, then hash. It
/// extends causality, and no two changes share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Stamp {
    /// Lamport time.
    #[n(0)]
    pub lamport: u64,
    /// The change that says it.
    #[n(1)]
    pub id: ChangeHash,
}

/// Up to `max` registers, those with the greatest `(stamp, key)`.
#[derive(Clone, Debug)]
pub(crate) struct Registers<K, V> {
    entries: BTreeMap<K, (Stamp, V)>,
    ages: BTreeSet<(Stamp, K)>,
    max: usize,
}

impl<K: Ord + Clone, V> Registers<K, V> {
    /// None yet, and never more than `max`.
    pub(crate) const fn new(max: usize) -> Self {
        Self { entries: BTreeMap::new(), ages: BTreeSet::new(), max }
    }

    /// Writes one; whether anything changed.
    pub(crate) fn set(&mut self, key: K, stamp: Stamp, value: V) -> bool {
        if let Some((held, _)) = self.entries.get(&key) {
            if *held >= stamp {
                return false;
            }
            self.ages.remove(&(*held, key.clone()));
        } else if self.entries.len() >= self.max {
            let age = (stamp, key.clone());
            if self.ages.first().is_none_or(|oldest| *oldest >= age) {
                return false;
            }
            if let Some((_, oldest)) = self.ages.pop_first() {
                self.entries.remove(&oldest);
            }
        }
        self.ages.insert((stamp, key.clone()));
        self.entries.insert(key, (stamp, value));
        true
    }

    /// What one says.
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// When one was written.
    pub(crate) fn stamp(&self, key: &K) -> Option<Stamp> {
        self.entries.get(key).map(|(stamp, _)| *stamp)
    }

    /// All of them, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, Stamp, &V)> {
        self.entries.iter().map(|(key, (stamp, value))| (key, *stamp, value))
    }
}

/// `[[key, stamp, value], …]` by key. There is no decoder: whoever reads this
/// writes the registers anew, through the checks.
impl<C, K: Encode<C>, V: Encode<C>> Encode<C> for Registers<K, V> {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.entries.len() as u64)?;
        for (key, (stamp, value)) in &self.entries {
            (key, stamp, value).encode(e, ctx)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(lamport: u64) -> Stamp {
        Stamp { lamport, id: ChangeHash::from_bytes([0; 32]) }
    }

    fn after(writes: &[(u8, u64)]) -> Vec<(u8, u64)> {
        let mut registers = Registers::new(2);
        for (key, lamport) in writes {
            registers.set(*key, stamp(*lamport), ());
        }
        registers.iter().map(|(key, stamp, ())| (*key, stamp.lamport)).collect()
    }

    #[test]
    fn the_greatest_stamps_stay_in_every_order() {
        let writes = [(1, 1), (1, 5), (2, 2), (3, 3), (4, 4), (1, 2)];
        let mut order: Vec<usize> = (0..writes.len()).collect();
        let mut seen = 0;
        permute(&mut order, 0, &mut |order| {
            let shuffled: Vec<_> = order.iter().map(|at| writes[*at]).collect();
            assert_eq!(after(&shuffled), [(1, 5), (4, 4)], "{shuffled:?}");
            seen += 1;
        });
        assert_eq!(seen, 720);
    }

    fn permute(order: &mut [usize], from: usize, visit: &mut impl FnMut(&[usize])) {
        if from == order.len() {
            return visit(order);
        }
        for other in from..order.len() {
            order.swap(from, other);
            permute(order, from + 1, visit);
            order.swap(from, other);
        }
    }
}
