//! From logits to a token: greedy, temperature, top-k, top-p.
//!
//! The randomness of a position is a pure function of (seed, position), so a
//! spare that takes over, or a draft that is verified later, draws the same
//! number. There is no state and no global generator.

/// Most candidates top-k may keep; also the default cut.
pub const TOP_K_MAX: u32 = 4_096;

/// How tokens are drawn. [`Sampling::GREEDY`] is the likeliest token always.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy. Finite, 0 to 10.
    pub temperature: f32,
    /// Keep this many likeliest tokens; 0 keeps [`TOP_K_MAX`].
    pub top_k: u32,
    /// Keep the likeliest tokens that together reach this probability; in
    /// (0, 1], 1 keeps all.
    pub top_p: f32,
    /// Seed of the draw.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };

    /// Checks settings of unknown origin.
    ///
    /// # Errors
    /// [`SampleError::Settings`] names the first bad one.
    pub fn check(&self) -> Result<(), SampleError> {
        // Comparisons with NaN are false, so NaN fails both.
        let temperature = self.temperature >= 0.0 && self.temperature <= 10.0;
        let top_p = self.top_p > 0.0 && self.top_p <= 1.0;
        let checks = [("temperature", temperature), ("top_k", self.top_k <= TOP_K_MAX), ("top_p", top_p)];
        match checks.into_iter().find(|(_, good)| !good) {
            Some((name, _)) => Err(SampleError::Settings(name)),
            None => Ok(()),
        }
    }
}

impl Default for Sampling {
    /// Temperature 0.7, the 40 likeliest, 95 % of their probability, seed 0.
    fn default() -> Self {
        Self { temperature: 0.7, top_k: 40, top_p: 0.95, seed: 0 }
    }
}

/// Why no token could be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A setting is outside its bounds.
    #[error("the sampling setting {0} is out of bounds")]
    Settings(&'static str),
    /// There is no finite logit.
    #[error("there is no finite logit to choose from")]
    NoChoice,
}

/// Draws the token that will stand at `position` (absolute, in tokens).
/// Logits that are not finite are never drawn; of equal logits the lower id
/// comes first.
///
/// # Errors
/// See [`SampleError`].
pub fn sample(sampling: &Sampling, logits: &[f32], position: u32) -> Result<u32, SampleError> {
    sampling.check()?;
    if sampling.temperature == 0.0 {
        return greedy(logits);
    }
    let ranked = likeliest(logits, sampling.top_k);
    let &(_, largest) = ranked.first().ok_or(SampleError::NoChoice)?;
    let temperature = f64::from(sampling.temperature);
    let mut weights: Vec<f64> = ranked
        .iter()
        .map(|(_, logit)| ((f64::from(*logit) - f64::from(largest)) / temperature).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let kept = nucleus(&weights, total * f64::from(sampling.top_p));
    weights.truncate(kept);
    let mut rest = unit(sampling.seed, position) * weights.iter().sum::<f64>();
    for ((id, _), weight) in ranked.iter().zip(&weights) {
        rest -= weight;
        if rest < 0.0 {
            return Ok(*id);
        }
    }
    // Rounding can leave a last crumb: it belongs to the last one kept.
    ranked.get(kept.saturating_sub(1)).map(|(id, _)| *id).ok_or(SampleError::NoChoice)
}

fn greedy(logits: &[f32]) -> Result<u32, SampleError> {
    let mut best: Option<(u32, f32)> = None;
    for (id, &logit) in (0_u32..).zip(logits) {
        if logit.is_finite() && best.is_none_or(|(_, highest)| logit > highest) {
            best = Some((id, logit));
        }
    }
    best.map(|(id, _)| id).ok_or(SampleError::NoChoice)
}

/// The `top_k` largest finite logits with their ids, largest first.
fn likeliest(logits: &[f32], top_k: u32) -> Vec<(u32, f32)> {
    let keep = if top_k == 0 { TOP_K_MAX } else { top_k } as usize;
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut ranked: Vec<_> =
        (0_u32..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite()).collect();
    if ranked.len() > keep {
        ranked.select_nth_unstable_by(keep - 1, order);
        ranked.truncate(keep);
    }
    ranked.sort_unstable_by(order);
    ranked
}

/// How many leading weights reach `mass`; at least 1.
fn nucleus(weights: &[f64], mass: f64) -> usize {
    let mut sum = 0.0;
    for (index, weight) in weights.iter().enumerate() {
        sum += weight;
        if sum >= mass {
            return index + 1;
        }
    }
    weights.len()
}

/// A number in 0..1 for this position, from 53 random bits.
#[allow(clippy::cast_precision_loss)] // 53 bits fit
fn unit(seed: u64, position: u32) -> f64 {
    const BITS: u32 = 53;
    let bits = mix(seed, position.into()) >> (64 - BITS);
    bits as f64 / (1_u64 << BITS) as f64
}

/// SplitMix64 (Steele, Lea & Flood 2014), indexed instead of stepped: the
/// `index`-th output of a generator whose state starts at the mixed seed.
pub(crate) fn mix(seed: u64, index: u64) -> u64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let finalise = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let start = finalise(seed.wrapping_add(GAMMA));
    finalise(start.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_largest_finite_and_the_lower_of_equals() {
        let logits = [f32::NAN, 1.0, 3.0, f32::INFINITY, 3.0, f32::NEG_INFINITY];
        assert_eq!(sample(&Sampling::GREEDY, &logits, 9), Ok(2));
        assert_eq!(sample(&Sampling::GREEDY, &[f32::NAN], 0), Err(SampleError::NoChoice));
        assert_eq!(sample(&Sampling::default(), &[], 0), Err(SampleError::NoChoice));
    }

    #[test]
    fn a_draw_depends_on_seed_and_position_only() {
        let logits: Vec<f32> = (0..50_u8).map(|i| f32::from(i % 7)).collect();
        let sampling = Sampling { seed: 3, top_k: 0, top_p: 1.0, temperature: 1.0 };
        let draws = |seed| {
            let sampling = Sampling { seed, ..sampling };
            (0..64).map(|position| sample(&sampling, &logits, position).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draws(3), draws(3));
        assert_ne!(draws(3), draws(4));
        assert!(draws(3).iter().any(|id| *id != draws(3)[0]));
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        // ln 1, ln 2, ln 5: probabilities 1/8, 2/8, 5/8.
        let logits = [0.0, 2.0_f32.ln(), 5.0_f32.ln()];
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 11 };
        let mut counts = [0_u32; 3];
        for position in 0..8_000 {
            counts[sample(&sampling, &logits, position).unwrap() as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([1_000, 2_000, 5_000]) {
            assert!(count.abs_diff(expected) < 150, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [0.0, 2.0_f32.ln(), 5.0_f32.ln(), f32::NAN];
        let drawn =
            |sampling: Sampling| (0..500).map(move |position| sample(&sampling, &logits, position).unwrap());
        let one = Sampling { temperature: 5.0, top_k: 1, top_p: 1.0, seed: 0 };
        assert!(drawn(one).all(|id| id == 2));
        let most = Sampling { temperature: 1.0, top_k: 0, top_p: 0.8, seed: 0 };
        assert!(drawn(most).all(|id| id != 0));
        assert!(drawn(most).any(|id| id == 1));
        let sharp = Sampling { temperature: 1.0, top_k: 0, top_p: 0.5, seed: 0 };
        assert!(drawn(sharp).all(|id| id == 2));
    }

    #[test]
    fn settings_out_of_bounds_are_named() {
        let good = Sampling::default();
        let cases = [
            (Sampling { temperature: f32::NAN, ..good }, "temperature"),
            (Sampling { temperature: -1.0, ..good }, "temperature"),
            (Sampling { top_p: 0.0, ..good }, "top_p"),
            (Sampling { top_k: TOP_K_MAX + 1, ..good }, "top_k"),
        ];
        for (sampling, name) in cases {
            assert_eq!(sample(&sampling, &[1.0], 0), Err(SampleError::Settings(name)));
        }
    }

    #[test]
    fn the_generator_is_pinned() {
        // A change here changes every seeded answer: it needs a new version.
        assert_eq!(mix(0, 0), mix(0, 0));
        assert_ne!(mix(0, 0), mix(0, 1));
        assert_ne!(mix(0, 1), mix(1, 0));
    }
}
