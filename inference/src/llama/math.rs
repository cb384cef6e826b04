//! Small vector arithmetic in one fixed order: eight f32 lanes, summed
//! pairwise at the end. The order depends on lengths only, so a row's result
//! is the same in any batch, chunk or stage.

/// Lanes a sum is kept in; the compiler maps them to vector registers.
const LANES: usize = 8;

/// Σ aᵢ·bᵢ over the shorter length.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let mut blocks_a = a.chunks_exact(LANES);
    let mut blocks_b = b.chunks_exact(LANES);
    for (x, y) in blocks_a.by_ref().zip(blocks_b.by_ref()) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let rest = blocks_a.remainder().iter().zip(blocks_b.remainder());
    for (lane, (x, y)) in lanes.iter_mut().zip(rest) {
        *lane += x * y;
    }
    let half = [lanes[0] + lanes[4], lanes[1] + lanes[5], lanes[2] + lanes[6], lanes[3] + lanes[7]];
    (half[0] + half[2]) + (half[1] + half[3])
}

/// `target += factor · values`, element by element.
pub(super) fn add_scaled(target: &mut [f32], factor: f32, values: &[f32]) {
    for (target, value) in target.iter_mut().zip(values) {
        *target += factor * value;
    }
}

/// `target += values`, element by element.
pub(super) fn add(target: &mut [f32], values: &[f32]) {
    for (target, value) in target.iter_mut().zip(values) {
        *target += value;
    }
}

/// RMSNorm of each row of `weight.len()` elements: `x / √(mean(x²) + ε) · w`
/// (Zhang & Sennrich 2019).
pub(super) fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut normed = Vec::with_capacity(rows.len());
    #[allow(clippy::cast_precision_loss)] // at most HIDDEN_SIZE_MAX
    let width = weight.len() as f32;
    for row in rows.chunks_exact(weight.len()) {
        let scale = 1.0 / (dot(row, row) / width + epsilon).sqrt();
        normed.extend(row.iter().zip(weight).map(|(x, w)| x * scale * w));
    }
    normed
}

/// `gate ← silu(gate) · up`, with `silu(x) = x / (1 + e⁻ˣ)` (SwiGLU, Shazeer
/// 2020).
pub(super) fn silu_times(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + (-*gate).exp()) * up;
    }
}

/// Softmax in place; the largest score is subtracted first, so `exp` cannot
/// overflow.
pub(super) fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    let scale = 1.0 / sum;
    for score in scores {
        *score *= scale;
    }
}
