//! The one source of chance in the trainer: SplitMix64.
//!
//! Candle's CPU device has no seed, so weights, shuffles, dropout and
//! augmentation all draw from here. Streams are forked by label, so that a
//! change in one part does not shift the draws of another.

/// A small, fast, seedable generator. Not for secrets.
#[derive(Clone)]
pub(crate) struct Rng(u64);

/// SplitMix64's output function: a bijection that scatters every input bit.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x6578_6f2d_7374_6172))
    }

    /// An independent stream, chosen by `label` and not by what was drawn.
    pub(crate) fn fork(&self, label: u64) -> Self {
        Self(mix(self.0 ^ mix(label.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..bound`; `bound` must not be zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.next_u64()) * (bound as u128);
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal values by Box and Muller's transform.
    pub(crate) fn normals(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        #[allow(clippy::cast_possible_truncation, reason = "weights start in f64 and live in f32")]
        let draw = |_| {
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
            let angle = std::f64::consts::TAU * self.unit();
            (radius * angle.cos() * deviation) as f32
        };
        (0..count).map(draw).collect()
    }
}
