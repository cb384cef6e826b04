//! Each fused operation against candle's composed operations or against
//! finite differences.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};

use super::heads::{HeadDims, Heads, Rotation};
use super::loss::CrossEntropy;
use super::norm::RmsNorm;
use super::softmax::CausalSoftmax;
use super::swiglu::SwiGlu;
use super::{dropout::DropAdd, exp};
use crate::Result;
use crate::rng::Rng;

fn variable(shape: &[usize], seed: u64) -> Result<Var> {
    let values = Rng::new(seed).normals(shape.iter().product(), 1.0);
    Ok(Var::from_slice(&values, shape, &Device::Cpu)?)
}

fn assert_close(a: &Tensor, b: &Tensor) -> Result<()> {
    let difference = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert!(difference < 2e-5, "differs by {difference}");
    Ok(())
}

/// Compares results, and gradients of a weighted sum of the results.
fn assert_same(variables: &[&Var], fused: &Tensor, composed: &Tensor) -> Result<()> {
    assert_close(fused, composed)?;
    let weights = Rng::new(99).normals(fused.elem_count(), 1.0);
    let weights = Tensor::from_vec(weights, fused.shape(), &Device::Cpu)?;
    let ours = (fused * &weights)?.sum_all()?.backward()?;
    let theirs = (composed * &weights)?.sum_all()?.backward()?;
    for variable in variables {
        let ours = ours.get(variable).ok_or("no gradient")?;
        assert_close(ours, theirs.get(variable).ok_or("no gradient")?)?;
    }
    Ok(())
}

#[test]
fn exp_is_close_to_the_exact_one() {
    for step in -8_000..8_000i16 {
        let x = f32::from(step) / 100.0;
        let error = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
        assert!(error < 3e-7, "e^{x} is off by {error}");
    }
    assert!(exp(-1e9) < 1e-37);
}

#[test]
fn norm_equals_the_composed_one() -> Result<()> {
    let (x, gain) = (variable(&[5, 37], 1)?, variable(&[37], 2)?);
    let fused = x.apply_op2(gain.as_tensor(), RmsNorm { epsilon: 1e-5 })?;
    let composed = candle_nn::ops::rms_norm_slow(&x, &gain, 1e-5)?;
    assert_same(&[&x, &gain], &fused, &composed)
}

#[test]
fn swiglu_equals_the_composed_one() -> Result<()> {
    let (gate, up) = (variable(&[7, 9], 3)?, variable(&[7, 9], 4)?);
    let fused = gate.apply_op2(up.as_tensor(), SwiGlu)?;
    assert_same(&[&gate, &up], &fused, &(gate.silu()? * up.as_tensor())?)
}

#[test]
fn softmax_equals_the_masked_composed_one() -> Result<()> {
    let seq = 11;
    let x = variable(&[2, 2 * seq, seq], 5)?;
    let fused = x.apply_op1(CausalSoftmax { seq, scale: 0.3 })?;
    let hidden = |at: usize| {
        if at % seq > at / seq % seq { f32::NEG_INFINITY } else { 0.0 }
    };
    let mask: Vec<f32> = (0..2 * seq * seq).map(hidden).collect();
    let mask = Tensor::from_vec(mask, (2 * seq, seq), &Device::Cpu)?;
    let scores = (x.as_tensor() * 0.3)?.broadcast_add(&mask)?;
    assert_same(&[&x], &fused, &candle_nn::ops::softmax(&scores, 2)?)
}

#[test]
fn heads_equal_the_composed_ones() -> Result<()> {
    let dims = HeadDims { batch: 2, seq: 5, heads: 3, width: 8 };
    let rotation = Arc::new(Rotation::new(5, 8, 100.0));
    let x = variable(&[10, 24], 6)?;
    let split = Heads { dims, merge: false, rotation: Some(rotation) };
    let fused = x.apply_op1(split)?;
    let angles: Vec<f32> =
        (0..20u8).map(|at| f32::from(at / 4) * 100f32.powf(-f32::from(at % 4) / 4.0)).collect();
    let angles = Tensor::from_vec(angles, (5, 4), &Device::Cpu)?;
    let moved = x.reshape((2, 5, 3, 8))?.transpose(1, 2)?.contiguous()?;
    let composed = candle_nn::rotary_emb::rope_i_slow(&moved, &angles.cos()?, &angles.sin()?)?;
    assert_same(&[&x], &fused, &composed)?;
    let y = variable(&[2, 3, 5, 8], 7)?;
    let fused = y.apply_op1(Heads { dims, merge: true, rotation: None })?;
    assert_same(&[&y], &fused, &y.transpose(1, 2)?.reshape((10, 24))?)
}

#[test]
fn loss_equals_the_composed_one() -> Result<()> {
    let logits = variable(&[4, 13], 8)?;
    let (targets, weights) = (vec![3u32, 0, 12, 5], vec![1.0f32, 0.1, 0.0, 0.5]);
    let scale = Tensor::from_slice(&weights, (4, 1), &Device::Cpu)?;
    let labels = Tensor::from_slice(&targets, (4, 1), &Device::Cpu)?;
    let fused = logits.apply_op1(CrossEntropy { targets, weights })?;
    let chosen = candle_nn::ops::log_softmax(&logits, 1)?.gather(&labels, 1)?;
    assert_same(&[&logits], &fused, &(chosen * scale)?.sum_all()?.neg()?)
}

#[test]
fn dropout_uses_one_mask_for_both_passes() -> Result<()> {
    let base = variable(&[100, 101], 9)?;
    let added = Var::ones((100, 101), DType::F32, &Device::Cpu)?;
    let op = DropAdd { drop_65536ths: 6_554, rng: Rng::new(1) };
    let sum = base.apply_op2(added.as_tensor(), op)?;
    let mask = (&sum - base.as_tensor())?;
    let gradients = sum.sum_all()?.backward()?;
    assert_close(gradients.get(&added).ok_or("no gradient")?, &mask)?;
    let mean = mask.mean_all()?.to_scalar::<f32>()?;
    assert!((mean - 1.0).abs() < 0.02, "mean of the mask is {mean}");
    Ok(())
}
