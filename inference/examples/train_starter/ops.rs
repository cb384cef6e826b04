//! Fused operations with a backward pass, as candle's fused ones have none
//! and its composed ones spend most of a step in memory traffic.
//!
//! Each runs on one thread over contiguous `f32`: the trainer keeps its
//! cores busy with shards of the batch, and results do not depend on timing.

pub(crate) mod dropout;
pub(crate) mod heads;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod softmax;
pub(crate) mod swiglu;

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, bail};

/// The values of an operand in row-major order.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a fused operation needs a contiguous operand"),
    }
}

/// Lends the values of a tensor, made contiguous first if need be.
pub(crate) fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(values(storage, layout)?),
        _ => bail!("the trainer works on the CPU only"),
    }
}

fn output(values: Vec<f32>, shape: &Shape) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.clone())
}

/// A gradient with the shape of the operand it belongs to.
fn gradient(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())
}

/// `e^x` to about two units in the last place, without branches, so that
/// loops over it become vector instructions; libm's version does not.
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, so that `power * LN2_HIGH` is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Minimax polynomial of (e^r - 1 - r) / r^2, highest power first.
    const SERIES: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let rest = x - power * LN2_HIGH - power * LN2_LOW;
    let series = SERIES.iter().fold(0.0, |sum, term| sum * rest + term);
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (1.0 + rest + rest * rest * series) * scale
}

/// Independent accumulators of a reduction: few enough for registers, and in
/// a fixed order, so that a reduction vectorises and still repeats exactly.
const LANES: usize = 8;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a.remainder().iter().zip(b.remainder());
    let tail: f32 = tail.map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    lanes.into_iter().fold(tail, larger)
}

/// Writes `e^((row - its maximum) * scale)` and returns the sum of that.
fn exp_row(row: &[f32], scale: f32, out: &mut [f32]) -> f32 {
    let top = max(row);
    for (out, value) in out.iter_mut().zip(row) {
        *out = exp((value - top) * scale);
    }
    sum(out)
}

fn multiply(row: &mut [f32], factor: f32) {
    row.iter_mut().for_each(|value| *value *= factor);
}

#[cfg(test)]
mod tests;
