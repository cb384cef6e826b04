//! Seeded chance, ids by number, all orders of a few things.

use exo_model::{ChangeHash, PersonId};

/// SplitMix64.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    pub(crate) fn array(&mut self) -> [u8; 32] {
        let mut array = [0; 32];
        array.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.next().to_le_bytes()));
        array
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A hash that looks like one.
pub(crate) fn hash(n: u64) -> ChangeHash {
    ChangeHash::from_bytes(Rng(n).array())
}

pub(crate) const fn person(n: u8) -> PersonId {
    PersonId::from_bytes([n; 32])
}

/// Visits every order of `items`.
pub(crate) fn permutations<T: Clone>(items: &[T], visit: &mut impl FnMut(&[T])) {
    fn step<T>(items: &mut [T], from: usize, visit: &mut impl FnMut(&[T])) {
        if from == items.len() {
            return visit(items);
        }
        for other in from..items.len() {
            items.swap(from, other);
            step(items, from + 1, visit);
            items.swap(from, other);
        }
    }
    step(&mut items.to_vec(), 0, visit);
}

/// One to three changes of bytes: overwritten, flipped, cut, doubled.
pub(crate) fn mutate(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=rng.below(3) {
        let at = rng.below(out.len().max(1));
        match rng.below(5) {
            0 => out.truncate(at),
            1 => out.insert(at.min(out.len()), rng.byte()),
            2 if !out.is_empty() => out[at] ^= 1 << rng.below(8),
            3 if !out.is_empty() => {
                let end = (at + 1 + rng.below(40)).min(out.len());
                let piece = out[at..end].to_vec();
                let to = rng.below(out.len());
                out.splice(to..to, piece);
            }
            _ if !out.is_empty() => out[at] = rng.byte(),
            _ => {}
        }
    }
    out
}
