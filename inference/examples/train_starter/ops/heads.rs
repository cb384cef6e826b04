//! Moves between `(batch, position, head, lane)`, as products of weights
//! have it, and `(batch, head, position, lane)`, as attention needs it; on
//! the way it turns queries and keys by their position.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{gradient, values, with_values};

/// Cosines and sines of rotary embedding for adjacent ("normal") pairs.
pub(crate) struct Rotation {
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    pub(crate) fn new(positions: usize, head_width: usize, base: f64) -> Self {
        let pairs = head_width / 2;
        let angle = |at: usize| {
            let exponent = (2 * (at % pairs)) as f64 / head_width as f64;
            (at / pairs) as f64 * base.powf(-exponent)
        };
        #[allow(clippy::cast_possible_truncation, reason = "angles are computed in f64 and applied in f32")]
        let table = |of: fn(f64) -> f64| -> Vec<f32> {
            (0..positions * pairs).map(|at| of(angle(at)) as f32).collect()
        };
        Self { pairs, cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Turns one head's lanes at `position`; `sign` -1 turns back.
    fn turn(&self, from: &[f32], to: &mut [f32], position: usize, sign: f32) {
        let table = position * self.pairs..(position + 1) * self.pairs;
        let angles = self.cos[table.clone()].iter().zip(&self.sin[table]);
        let lanes = from.chunks_exact(2).zip(to.chunks_exact_mut(2));
        for ((from, to), (cos, sin)) in lanes.zip(angles) {
            let sin = sin * sign;
            to[0] = from[0] * cos - from[1] * sin;
            to[1] = from[0] * sin + from[1] * cos;
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct HeadDims {
    pub(crate) batch: usize,
    pub(crate) seq: usize,
    pub(crate) heads: usize,
    pub(crate) width: usize,
}

/// Splits rows into heads, or merges heads into rows.
pub(crate) struct Heads {
    pub(crate) dims: HeadDims,
    pub(crate) merge: bool,
    pub(crate) rotation: Option<Arc<Rotation>>,
}

impl Heads {
    /// `merge` is the direction to move in; `sign` that of the rotation.
    fn moved(&self, from: &[f32], merge: bool, sign: f32) -> Vec<f32> {
        let HeadDims { batch, seq, heads, width } = self.dims;
        let mut to = vec![0f32; from.len()];
        for entry in 0..batch {
            for head in 0..heads {
                for position in 0..seq {
                    let split = ((entry * heads + head) * seq + position) * width;
                    let merged = ((entry * seq + position) * heads + head) * width;
                    let (read, write) = if merge { (split, merged) } else { (merged, split) };
                    let from = &from[read..read + width];
                    let to = &mut to[write..write + width];
                    match &self.rotation {
                        Some(rotation) => rotation.turn(from, to, position, sign),
                        None => to.copy_from_slice(from),
                    }
                }
            }
        }
        to
    }
}

impl CustomOp1 for Heads {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let HeadDims { batch, seq, heads, width } = self.dims;
        let result = self.moved(values(storage, layout)?, self.merge, 1.0);
        let shape = if self.merge {
            Shape::from((batch * seq, heads * width))
        } else {
            Shape::from((batch, heads, seq, width))
        };
        Ok((CpuStorage::F32(result), shape))
    }

    /// A rotation's inverse is its transpose, so its gradient turns back.
    fn bwd(&self, arg: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = with_values(grad, |grad| Ok(self.moved(grad, !self.merge, -1.0)))?;
        Ok(Some(gradient(back, arg)?))
    }
}
