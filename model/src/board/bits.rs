//! A set of small numbers: which of the replayed edits a document holds, by
//! the place in which they were replayed. Two thousand bytes for a full board.

/// The set.
#[derive(Clone, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// The first `len`.
    pub(super) fn full(len: usize) -> Self {
        let mut words = vec![u64::MAX; len / 64];
        if !len.is_multiple_of(64) {
            words.push((1 << (len % 64)) - 1);
        }
        Self(words)
    }

    /// Adds one; whether it is new.
    pub(super) fn set(&mut self, at: usize) -> bool {
        let (word, bit) = (at / 64, 1_u64 << (at % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn within(&self, other: &Self) -> bool {
        self.0.iter().enumerate().all(|(at, word)| word & !other.0.get(at).copied().unwrap_or(0) == 0)
    }

    /// The members that `other` lacks, ascending: each after all it builds on.
    pub(super) fn beyond(&self, other: &Self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        let lacking: Vec<u64> =
            words.map(|(at, word)| word & !other.0.get(at).copied().unwrap_or(0)).collect();
        (0..lacking.len() * 64).filter(move |at| lacking[at / 64] >> (at % 64) & 1 == 1)
    }
}
