//! The gated activation of the feed-forward layer: `silu(gate) * up`.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{exp, gradient, output, values, with_values};

pub(crate) struct SwiGlu;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let pairs = values(s1, l1)?.iter().zip(values(s2, l2)?);
        let result = pairs.map(|(gate, up)| gate * sigmoid(*gate) * up).collect();
        Ok(output(result, l1.shape()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad_gate, grad_up) = with_values(gate, |gate| {
            with_values(up, |up| with_values(grad, |grad| Ok(gradients(gate, up, grad))))
        })?;
        Ok((Some(gradient(grad_gate, gate)?), Some(gradient(grad_up, up)?)))
    }
}

fn gradients(gate: &[f32], up: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut grad_gate = vec![0f32; gate.len()];
    let mut grad_up = vec![0f32; gate.len()];
    let inputs = gate.iter().zip(up).zip(grad);
    let outputs = grad_gate.iter_mut().zip(&mut grad_up);
    for (((gate, up), grad), (grad_gate, grad_up)) in inputs.zip(outputs) {
        let open = sigmoid(*gate);
        *grad_gate = grad * up * open * (1.0 + gate * (1.0 - open));
        *grad_up = grad * gate * open;
    }
    (grad_gate, grad_up)
}
