//! Causal grouped-query attention straight from the cache: no copy of keys or
//! values per query head, no mask tensor.

use std::num::NonZero;
use std::sync::OnceLock;

use super::cache::LayerCache;
use super::config::Config;
use super::math::{add_scaled, dot, softmax};

/// Multiplications below which starting threads costs more than it saves
/// (about a millisecond of one core; starting a thread takes 0.04).
const SPLIT_FROM_PRODUCTS: usize = 1 << 22;

/// One chunk's queries against one layer's cache.
pub(super) struct Attention<'a> {
    /// Rotated queries: row, head, element.
    pub(super) queries: &'a [f32],
    pub(super) cache: &'a LayerCache,
    /// Position of the first row.
    pub(super) first: usize,
    heads: usize,
    head_size: usize,
    kv_size: usize,
    heads_per_kv: usize,
}

impl<'a> Attention<'a> {
    pub(super) fn new(config: &Config, queries: &'a [f32], cache: &'a LayerCache, first: u32) -> Self {
        Self {
            queries,
            cache,
            first: first as usize,
            heads: config.heads as usize,
            head_size: config.head_size as usize,
            kv_size: config.kv_size() as usize,
            heads_per_kv: (config.heads / config.kv_heads) as usize,
        }
    }

    /// Softmax(q·kᵀ/√head) · v for every row and head (Vaswani et al. 2017;
    /// grouped as in Ainslie et al. 2023). A row sees itself and everything
    /// before it. Shape as the queries'.
    pub(super) fn run(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.queries.len()];
        let items = self.queries.len() / self.head_size;
        let longest = self.first + items / self.heads;
        let products = items.saturating_mul(longest).saturating_mul(2 * self.head_size);
        let threads = if products < SPLIT_FROM_PRODUCTS { 1 } else { threads().min(items) };
        if threads <= 1 {
            self.run_items(0, &mut out);
            return out;
        }
        // Heads of rows are independent, so the split changes no result.
        let share = items.div_ceil(threads);
        std::thread::scope(|scope| {
            for (index, part) in out.chunks_mut(share * self.head_size).enumerate() {
                scope.spawn(move || self.run_items(index * share, part));
            }
        });
        out
    }

    /// Fills `out`, whose first element belongs to (row, head) number `first`.
    fn run_items(&self, first: usize, out: &mut [f32]) {
        #[allow(clippy::cast_precision_loss)] // at most HIDDEN_SIZE_MAX
        let scale = 1.0 / (self.head_size as f32).sqrt();
        let mut scores = Vec::new();
        for (item, out) in (first..).zip(out.chunks_exact_mut(self.head_size)) {
            let (row, head) = (item / self.heads, item % self.heads);
            let query = &self.queries[item * self.head_size..][..self.head_size];
            let seen = self.first + row + 1;
            let offset = head / self.heads_per_kv * self.head_size;
            let of_head = |all: &'a [f32]| {
                all.chunks_exact(self.kv_size)
                    .take(seen)
                    .map(move |token| &token[offset..offset + self.head_size])
            };
            scores.clear();
            scores.extend(of_head(&self.cache.keys).map(|key| dot(query, key) * scale));
            softmax(&mut scores);
            for (score, value) in scores.iter().zip(of_head(&self.cache.values)) {
                add_scaled(out, *score, value);
            }
        }
    }
}

/// Threads worth using, asked once.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}
