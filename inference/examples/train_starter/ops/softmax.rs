//! Softmax of scaled attention scores under the causal mask. The mask is the
//! loop bound: positions of the future are never read, and come out as zero.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{dot, exp_row, gradient, multiply, output, values, with_values};

pub(crate) struct CausalSoftmax {
    /// Length of a row; rows count positions `0..seq` again and again.
    pub(crate) seq: usize,
    pub(crate) scale: f32,
}

impl CausalSoftmax {
    fn gradient_values(&self, probabilities: &[f32], grad: &[f32]) -> Vec<f32> {
        let mut result = vec![0f32; grad.len()];
        let rows = probabilities.chunks_exact(self.seq).zip(grad.chunks_exact(self.seq));
        for (at, ((row, grad), out)) in rows.zip(result.chunks_exact_mut(self.seq)).enumerate() {
            let seen = at % self.seq + 1;
            let (row, grad) = (&row[..seen], &grad[..seen]);
            let mean = dot(row, grad);
            for ((out, p), grad) in out[..seen].iter_mut().zip(row).zip(grad) {
                *out = p * (grad - mean) * self.scale;
            }
        }
        result
    }
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = values(storage, layout)?;
        let mut result = vec![0f32; scores.len()];
        let rows = scores.chunks_exact(self.seq);
        for (at, (row, out)) in rows.zip(result.chunks_exact_mut(self.seq)).enumerate() {
            let seen = at % self.seq + 1;
            let out = &mut out[..seen];
            let total = exp_row(&row[..seen], self.scale, out);
            multiply(out, total.recip());
        }
        Ok(output(result, layout.shape()))
    }

    fn bwd(&self, scores: &Tensor, result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad_scores =
            with_values(result, |result| with_values(grad, |grad| Ok(self.gradient_values(result, grad))))?;
        Ok(Some(gradient(grad_scores, scores)?))
    }
}
