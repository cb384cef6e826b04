//! Weighted cross entropy of logits, summed over rows. The weight of a row
//! says how much its prediction matters; padding has weight zero and costs
//! nothing.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{exp_row, gradient, max, multiply, values, with_values};

pub(crate) struct CrossEntropy {
    pub(crate) targets: Vec<u32>,
    pub(crate) weights: Vec<f32>,
}

impl CrossEntropy {
    /// Rows that count, with their target and weight.
    fn rows<'a>(&'a self, logits: &'a [f32]) -> impl Iterator<Item = (usize, &'a [f32], usize, f32)> {
        let width = logits.len() / self.targets.len();
        let labels = self.targets.iter().zip(&self.weights);
        let rows = logits.chunks_exact(width).zip(labels).enumerate();
        rows.filter(|(_, (_, (_, weight)))| **weight > 0.0)
            .map(|(at, (row, (target, weight)))| (at, row, *target as usize, *weight))
    }

    fn gradient_values(&self, logits: &[f32], scale: f32) -> Vec<f32> {
        let width = logits.len() / self.targets.len();
        let mut result = vec![0f32; logits.len()];
        for (at, row, target, weight) in self.rows(logits) {
            let out = &mut result[at * width..(at + 1) * width];
            let total = exp_row(row, 1.0, out);
            multiply(out, scale * weight / total);
            out[target] -= scale * weight;
        }
        result
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = values(storage, layout)?;
        let mut scratch = vec![0f32; logits.len() / self.targets.len()];
        let loss = self.rows(logits).map(|(_, row, target, weight)| {
            let total = exp_row(row, 1.0, &mut scratch);
            weight * (max(row) + total.ln() - row[target])
        });
        Ok((CpuStorage::F32(vec![loss.sum()]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let scale = grad.to_scalar::<f32>()?;
        let grad = with_values(logits, |logits| Ok(self.gradient_values(logits, scale)))?;
        Ok(Some(gradient(grad, logits)?))
    }
}
