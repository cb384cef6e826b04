//! RMS norm over the last dimension: `x / rms(x) * gain`.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{dot, gradient, output, values, with_values};

pub(crate) struct RmsNorm {
    pub(crate) epsilon: f32,
}

impl RmsNorm {
    /// The reciprocal of a row's root mean square.
    fn inverse_rms(&self, row: &[f32]) -> f32 {
        let mean = dot(row, row) / row.len() as f32;
        (mean + self.epsilon).sqrt().recip()
    }

    fn gradients(&self, x: &[f32], gain: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let width = gain.len();
        let mut grad_x = vec![0f32; x.len()];
        let mut grad_gain = vec![0f32; width];
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
        for ((row, grad), grad_row) in rows.zip(grad_x.chunks_exact_mut(width)) {
            let inverse = self.inverse_rms(row);
            for ((out, grad), gain) in grad_row.iter_mut().zip(grad).zip(gain) {
                *out = grad * gain * inverse;
            }
            let pull = dot(grad_row, row) * inverse * inverse / width as f32;
            let gains = grad_gain.iter_mut().zip(grad);
            for ((out, x), (grad_gain, grad)) in grad_row.iter_mut().zip(row).zip(gains) {
                *out -= x * pull;
                *grad_gain += grad * x * inverse;
            }
        }
        (grad_x, grad_gain)
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gain) = (values(s1, l1)?, values(s2, l2)?);
        let mut result = vec![0f32; x.len()];
        let rows = x.chunks_exact(gain.len());
        for (row, out) in rows.zip(result.chunks_exact_mut(gain.len())) {
            let inverse = self.inverse_rms(row);
            for ((out, x), gain) in out.iter_mut().zip(row).zip(gain) {
                *out = x * inverse * gain;
            }
        }
        Ok(output(result, l1.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad_x, grad_gain) = with_values(x, |x_values| {
            with_values(gain, |gain| with_values(grad, |grad| Ok(self.gradients(x_values, gain, grad))))
        })?;
        Ok((Some(gradient(grad_x, x)?), Some(gradient(grad_gain, gain)?)))
    }
}
