//! Keys and values of one session in one stage.

use exo_model::weights::LayerRange;

use super::config::Config;

/// The keys and values that one session's tokens left in the layers of one
/// stage: f32, allocated once for a fixed number of tokens.
///
/// Row-major per layer: token, then key/value head, then element. Truncating
/// only moves the length; nothing is copied when it grows.
pub struct KvCache {
    layers: Vec<LayerCache>,
    kv_size: usize,
    capacity: u32,
    len: u32,
}

/// Keys (rotated) and values of one layer.
pub(super) struct LayerCache {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl KvCache {
    /// Room for `capacity` tokens, at most the model's context length; `None`
    /// where that much memory is not to be had. The operating system hands
    /// out zeroed pages as they are touched.
    pub(super) fn new(config: &Config, layers: LayerRange, capacity: u32) -> Option<Self> {
        let capacity = capacity.min(config.context_length);
        let kv_size = config.kv_size() as usize;
        let elements = kv_size.checked_mul(capacity as usize)?;
        let layers = (0..layers.count())
            .map(|_| Some(LayerCache { keys: zeroed(elements)?, values: zeroed(elements)? }))
            .collect::<Option<_>>()?;
        Some(Self { layers, kv_size, capacity, len: 0 })
    }

    /// Tokens held: the position the next token will take.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most tokens it can hold.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Forgets tokens from position `len` on; does nothing if it holds fewer.
    pub fn truncate(&mut self, len: u32) {
        self.len = self.len.min(len);
    }

    /// Number of layers it was made for.
    pub(super) fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// Elements per token and layer it was made for.
    pub(super) fn kv_size(&self) -> usize {
        self.kv_size
    }

    /// Writes rows behind the current length, without counting them yet.
    pub(super) fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) -> &LayerCache {
        let start = self.len as usize * self.kv_size;
        let cache = &mut self.layers[layer];
        cache.keys[start..start + keys.len()].copy_from_slice(keys);
        cache.values[start..start + values.len()].copy_from_slice(values);
        cache
    }

    /// Counts rows that every layer has written.
    pub(super) fn commit(&mut self, rows: u32) {
        self.len += rows;
    }
}

/// Zeros, or `None` where the memory is refused. Asked for once without
/// zeroing, because a refusal of `vec![0.0; n]` would end the process.
fn zeroed(elements: usize) -> Option<Vec<f32>> {
    Vec::<f32>::new().try_reserve_exact(elements).ok()?;
    Some(vec![0.0; elements])
}
