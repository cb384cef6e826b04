//! AdamW in one pass over memory, and the schedule of its rate.
//!
//! candle-nn's AdamW builds a dozen tensors for each parameter and step,
//! which costs a quarter of a step at this size.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

use crate::Result;
use crate::net::{Kind, Spec};
use crate::ops::with_values;
use crate::rng::Rng;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.98;
const EPSILON: f32 = 1e-8;
const WEIGHT_DECAY: f32 = 0.05;
const LARGEST_NORM: f32 = 1.0;

pub(crate) const WARM_UP_STEPS: usize = 100;
const PEAK_RATE: f64 = 2e-3;
const LAST_SHARE: f64 = 0.05;

/// Warm-up in a line, then half a cosine down to a twentieth.
pub(crate) fn rate(step: usize, total: usize) -> f32 {
    let warm_up = step as f64 / WARM_UP_STEPS as f64;
    let length = total.saturating_sub(WARM_UP_STEPS).max(1);
    let progress = step.saturating_sub(WARM_UP_STEPS) as f64 / length as f64;
    let cosine = 0.5 + 0.5 * (std::f64::consts::PI * progress.min(1.0)).cos();
    let share = LAST_SHARE + (1.0 - LAST_SHARE) * cosine;
    #[allow(clippy::cast_possible_truncation, reason = "a rate needs no f64")]
    let rate = (PEAK_RATE * share.min(warm_up)) as f32;
    rate
}

struct Parameter {
    name: String,
    var: Var,
    decays: bool,
    values: Vec<f32>,
    gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The parameters and their moments.
pub(crate) struct AdamW {
    parameters: Vec<Parameter>,
    steps: i32,
}

impl AdamW {
    /// Creates variables with seeded values.
    pub(crate) fn new(specs: &[Spec], rng: &mut Rng) -> Result<Self> {
        let mut parameters = Vec::with_capacity(specs.len());
        for spec in specs {
            let values = spec.initial(rng);
            let var = Var::from_slice(&values, spec.shape.as_slice(), &Device::Cpu)?;
            parameters.push(Parameter {
                name: spec.name.clone(),
                var,
                decays: spec.kind != Kind::Norm,
                gradient: vec![0.0; values.len()],
                first: vec![0.0; values.len()],
                second: vec![0.0; values.len()],
                values,
            });
        }
        Ok(Self { parameters, steps: 0 })
    }

    /// The variables by name; they follow every step.
    pub(crate) fn variables(&self) -> BTreeMap<String, Tensor> {
        let named = |parameter: &Parameter| (parameter.name.clone(), parameter.var.as_tensor().clone());
        self.parameters.iter().map(named).collect()
    }

    pub(crate) fn value_count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.values.len()).sum()
    }

    /// One step against the sum of the shards' gradients, clipped by norm.
    pub(crate) fn step(&mut self, shards: &[GradStore], rate: f32) -> Result<()> {
        let mut square = 0f64;
        for parameter in &mut self.parameters {
            square += parameter.gather(shards)?;
        }
        self.steps += 1;
        #[allow(clippy::cast_possible_truncation, reason = "a factor needs no f64")]
        let norm = square.sqrt() as f32;
        let clip = if norm > LARGEST_NORM { LARGEST_NORM / norm } else { 1.0 };
        let first_bias = 1.0 - BETA_1.powi(self.steps);
        let second_bias = 1.0 - BETA_2.powi(self.steps);
        for parameter in &mut self.parameters {
            parameter.update(clip, rate, first_bias, second_bias);
            let shape = parameter.var.shape().clone();
            let values = Tensor::from_slice(&parameter.values, shape, &Device::Cpu)?;
            parameter.var.set(&values)?;
        }
        Ok(())
    }
}

impl Parameter {
    /// Sums the gradients in the order of shards; returns the squared norm.
    fn gather(&mut self, shards: &[GradStore]) -> Result<f64> {
        self.gradient.fill(0.0);
        for shard in shards {
            let Some(gradient) = shard.get(&self.var) else {
                return Err(format!("no gradient reaches {}", self.name).into());
            };
            with_values(gradient, |values| {
                let pairs = self.gradient.iter_mut().zip(values);
                pairs.for_each(|(sum, value)| *sum += value);
                Ok(())
            })?;
        }
        let rows = self.gradient.chunks(1024);
        let squares = rows.map(|row| f64::from(row.iter().map(|value| value * value).sum::<f32>()));
        Ok(squares.sum())
    }

    fn update(&mut self, clip: f32, rate: f32, first_bias: f32, second_bias: f32) {
        let keep = if self.decays { 1.0 - rate * WEIGHT_DECAY } else { 1.0 };
        let moments = self.first.iter_mut().zip(&mut self.second);
        let values = self.values.iter_mut().zip(&self.gradient);
        for ((value, gradient), (first, second)) in values.zip(moments) {
            let gradient = gradient * clip;
            *first = BETA_1 * *first + (1.0 - BETA_1) * gradient;
            *second = BETA_2 * *second + (1.0 - BETA_2) * gradient * gradient;
            let direction = *first / first_bias / ((*second / second_bias).sqrt() + EPSILON);
            *value = *value * keep - rate * direction;
        }
    }
}
