//! Residual addition with dropout of the added part. The mask is a function
//! of a seed, so it is never stored: the backward pass draws it again.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{gradient, output, values, with_values};
use crate::rng::Rng;

pub(crate) struct DropAdd {
    /// Share of values that are dropped, in 1/65,536.
    pub(crate) drop_65536ths: u16,
    pub(crate) rng: Rng,
}

impl DropAdd {
    /// `base + mask * added`, or without a base the masked part alone.
    fn apply(&self, base: Option<&[f32]>, added: &[f32]) -> Vec<f32> {
        const DRAWS: usize = 4;
        let keep = 1.0 - f32::from(self.drop_65536ths) / 65_536.0;
        let scale = keep.recip();
        let mut rng = self.rng.clone();
        let mut result = base.map_or_else(|| vec![0f32; added.len()], <[f32]>::to_vec);
        for (out, added) in result.chunks_mut(DRAWS).zip(added.chunks(DRAWS)) {
            let mut bits = rng.next_u64();
            for (out, added) in out.iter_mut().zip(added) {
                let kept = bits & 0xffff >= u64::from(self.drop_65536ths);
                *out += if kept { added * scale } else { 0.0 };
                bits >>= 16;
            }
        }
        result
    }
}

impl CustomOp2 for DropAdd {
    fn name(&self) -> &'static str {
        "drop-add"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let result = self.apply(Some(values(s1, l1)?), values(s2, l2)?);
        Ok(output(result, l1.shape()))
    }

    fn bwd(
        &self,
        _base: &Tensor,
        added: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let masked = with_values(grad, |grad| Ok(self.apply(None, grad)))?;
        Ok((Some(grad.clone()), Some(gradient(masked, added)?)))
    }
}
