//! What a stage needs: weights, keys and values, and a reserve.

use exo_model::weights::{LayerRange, ModelManifest, merge_ranges, total_len};

/// Reserve for activations, caches' slack and the unexpected: a fifth.
const RESERVE_DIVISOR: u64 = 5;

/// Memory a stage hosting `layers` for one session of `context_tokens` needs,
/// in bytes: its weights, `kv_bytes_per_token_layer` per token and layer, and
/// 20 % on top. Saturates.
pub fn stage_memory_bytes(manifest: &ModelManifest, layers: LayerRange, context_tokens: u32) -> u64 {
    let weights = manifest.weight_bytes(layers);
    with_reserve(weights.saturating_add(kv_bytes(manifest, layers.count(), context_tokens)))
}

fn with_reserve(bytes: u64) -> u64 {
    bytes.saturating_add(bytes.div_ceil(RESERVE_DIVISOR))
}

fn kv_bytes(manifest: &ModelManifest, layers: u32, context_tokens: u32) -> u64 {
    u64::from(manifest.kv_bytes_per_token_layer)
        .saturating_mul(context_tokens.min(manifest.context_length).into())
        .saturating_mul(layers.into())
}

/// The same for every range of layers, prepared as sums so that the search
/// can ask often. Bytes that several layers share count for each of them, so
/// a sum may be a little above [`stage_memory_bytes`], never below.
pub(super) struct Needs {
    /// Weights with keys and values of the layers before each one.
    before: Vec<u64>,
    embedding: u64,
    head: u64,
    /// What embedding and head share in one stage (a tied head).
    shared: u64,
}

impl Needs {
    pub(super) fn new(manifest: &ModelManifest, context_tokens: u32) -> Self {
        let part = |ranges: &[_]| total_len(&merge_ranges(ranges.to_vec()));
        let kv = kv_bytes(manifest, 1, context_tokens);
        let mut before = vec![0_u64];
        let mut sum = 0_u64;
        for layer in &manifest.layers {
            sum = sum.saturating_add(part(layer)).saturating_add(kv);
            before.push(sum);
        }
        let (embedding, head) = (part(&manifest.embedding), part(&manifest.head));
        let both = part(&[manifest.embedding.as_slice(), &manifest.head].concat());
        let shared = embedding.saturating_add(head).saturating_sub(both);
        Self { before, embedding, head, shared }
    }

    /// Number of layers.
    pub(super) fn layer_count(&self) -> usize {
        self.before.len() - 1
    }

    /// Bytes that layers `start..end` need; grows with `end`.
    pub(super) fn bytes(&self, start: usize, end: usize) -> u64 {
        let mut bytes = self.before[end].saturating_sub(self.before[start]);
        let (first, last) = (start == 0, end == self.layer_count());
        if first {
            bytes = bytes.saturating_add(self.embedding);
        }
        if last {
            bytes = bytes.saturating_add(self.head);
        }
        if first && last {
            bytes = bytes.saturating_sub(self.shared);
        }
        with_reserve(bytes)
    }
}
