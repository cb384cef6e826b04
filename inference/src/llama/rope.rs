//! Rotary position embedding, interleaved pairs (Su et al. 2021; the layout of
//! llama GGUF files, whose q/k rows are permuted for it).

/// Frequencies of the rotation, one per pair of elements.
pub(super) struct Rope {
    frequencies: Vec<f64>,
}

impl Rope {
    /// `base^(-2i/size)`, divided by `factors[i]` where the file has such
    /// (`rope_freqs.weight`: Llama 3.1's long-context scaling).
    pub(super) fn new(size: u32, base: f64, factors: Option<&[f32]>) -> Self {
        let frequencies = (0..size / 2)
            .map(|pair| {
                let plain = base.powf(-2.0 * f64::from(pair) / f64::from(size));
                let factor = factors.and_then(|all| all.get(pair as usize)).copied();
                plain / f64::from(factor.unwrap_or(1.0))
            })
            .collect();
        Self { frequencies }
    }

    /// Sines and cosines for positions `first..first + rows`, shared by all
    /// layers and heads of one forward pass. Angles are f64: at position 10⁵
    /// an f32 product would be off by 10⁻² radians.
    pub(super) fn turns(&self, first: u32, rows: usize) -> Turns {
        let mut sin_cos = Vec::with_capacity(rows * self.frequencies.len());
        for position in (first..).take(rows) {
            for frequency in &self.frequencies {
                let (sin, cos) = (f64::from(position) * frequency).sin_cos();
                #[allow(clippy::cast_possible_truncation)] // rounding is meant
                sin_cos.push((sin as f32, cos as f32));
            }
        }
        Turns { sin_cos, pairs: self.frequencies.len() }
    }
}

/// The rotations of a few consecutive positions.
pub(super) struct Turns {
    sin_cos: Vec<(f32, f32)>,
    pairs: usize,
}

impl Turns {
    /// Rotates every head of every row in place: elements 2i and 2i+1 of a
    /// head by position · frequency i. Elements past the pairs stay.
    pub(super) fn apply(&self, rows: &mut [f32], row_size: usize, head_size: usize) {
        if self.pairs == 0 {
            return;
        }
        let turns = self.sin_cos.chunks_exact(self.pairs);
        for (row, turns) in rows.chunks_exact_mut(row_size).zip(turns) {
            for head in row.chunks_exact_mut(head_size) {
                for (pair, (sin, cos)) in head.chunks_exact_mut(2).zip(turns) {
                    let (x, y) = (pair[0], pair[1]);
                    pair[0] = x * cos - y * sin;
                    pair[1] = x * sin + y * cos;
                }
            }
        }
    }
}
