//! One transformer layer.

use super::attention::Attention;
use super::cache::KvCache;
use super::config::Config;
use super::math::{add, rms_norm, silu_times};
use super::matrix::{LoadError, Matrix, Tensors};
use super::rope::Turns;

/// Weights of one layer, by their names in a GGUF file.
pub(super) struct Layer {
    attn_norm: Vec<f32>,
    attn_q: Matrix,
    attn_k: Matrix,
    attn_v: Matrix,
    attn_output: Matrix,
    ffn: FeedForward,
}

/// The second half of a layer.
struct FeedForward {
    norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl Layer {
    /// Loads layer number `index` of the model.
    pub(super) fn load(tensors: &Tensors<'_>, config: &Config, index: u32) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let vector = |name: &str| tensors.vector(&format!("blk.{index}.{name}.weight"));
        let matrix = |name: &str, columns| tensors.matrix(&format!("blk.{index}.{name}.weight"), columns);
        Ok(Self {
            attn_norm: vector("attn_norm")?,
            attn_q: matrix("attn_q", hidden)?,
            attn_k: matrix("attn_k", hidden)?,
            attn_v: matrix("attn_v", hidden)?,
            attn_output: matrix("attn_output", config.heads * config.head_size)?,
            ffn: FeedForward {
                norm: vector("ffn_norm")?,
                gate: matrix("ffn_gate", hidden)?,
                up: matrix("ffn_up", hidden)?,
                down: matrix("ffn_down", config.feed_forward)?,
            },
        })
    }

    /// Runs rows `x` (each `hidden_size` wide) through the layer in place.
    /// `slot` is the layer's place in `cache`, which takes the rows' keys and
    /// values behind its current length.
    pub(super) fn forward(
        &self,
        config: &Config,
        turns: &Turns,
        x: &mut [f32],
        cache: &mut KvCache,
        slot: usize,
    ) -> Result<(), candle_core::Error> {
        let normed = rms_norm(x, &self.attn_norm, config.norm_epsilon);
        let head_size = config.head_size as usize;
        let mut queries = self.attn_q.apply(&normed)?;
        let mut keys = self.attn_k.apply(&normed)?;
        let values = self.attn_v.apply(&normed)?;
        turns.apply(&mut queries, config.heads as usize * head_size, head_size);
        turns.apply(&mut keys, config.kv_size() as usize, head_size);
        let first = cache.len();
        let cached = cache.write(slot, &keys, &values);
        let attended = Attention::new(config, &queries, cached, first).run();
        add(x, &self.attn_output.apply(&attended)?);
        self.ffn.forward(config, x)
    }
}

impl FeedForward {
    fn forward(&self, config: &Config, x: &mut [f32]) -> Result<(), candle_core::Error> {
        let normed = rms_norm(x, &self.norm, config.norm_epsilon);
        let mut gated = self.gate.apply(&normed)?;
        silu_times(&mut gated, &self.up.apply(&normed)?);
        add(x, &self.down.apply(&gated)?);
        Ok(())
    }
}
