//! The training loop: epochs of batches, two shards of a batch side by side,
//! a line of progress now and then, and a model file every few minutes.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::backprop::GradStore;

use crate::Result;
use crate::batch::{Batch, Corpus, Shard};
use crate::gguf;
use crate::net::{Net, specs};
use crate::ops::loss::CrossEntropy;
use crate::optim::{AdamW, rate};
use crate::rng::Rng;
use crate::tokenizer::Vocabulary;

const REPORT_STEPS: usize = 50;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);

/// How long to train. Only a number of steps makes a run repeatable.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    Steps(usize),
    Minutes(f64),
}

impl Budget {
    /// Steps in all, as far as can be told after `step` steps.
    fn total(self, step: usize, elapsed: Duration) -> usize {
        match self {
            Self::Steps(steps) => steps,
            Self::Minutes(minutes) => {
                let steps = step as f64 * minutes * 60.0 / elapsed.as_secs_f64().max(1e-3);
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the cast saturates, and steps are few"
                )]
                let total = steps as usize;
                total.max(1)
            }
        }
    }
}

/// Counts since the last line of progress.
struct Window {
    started: Instant,
    tokens: usize,
    loss: f64,
}

impl Window {
    fn new() -> Self {
        Self { started: Instant::now(), tokens: 0, loss: 0.0 }
    }

    fn report(&self, step: usize, total: usize, epoch: u64, started: Instant) -> Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        let left = started.elapsed().as_secs_f64() / step as f64 * (total.saturating_sub(step)) as f64;
        println!(
            "step {step}/{total} epoch {epoch} loss {:.4} rate {:.2e} {:.0} tokens/s, {:.1} min left",
            self.loss / REPORT_STEPS as f64,
            rate(step, total),
            self.tokens as f64 / seconds,
            left / 60.0,
        );
        Ok(std::io::stdout().flush()?)
    }
}

/// Trains from scratch and leaves the result in `out`.
pub(crate) fn train(
    corpus: &Corpus<'_>,
    vocabulary: &Vocabulary,
    budget: Budget,
    seed: u64,
    out: &Path,
) -> Result<()> {
    let rng = Rng::new(seed);
    let specs = specs(vocabulary.tokens.len());
    let mut optimiser = AdamW::new(&specs, &mut rng.fork(0))?;
    let net = Net::new(optimiser.variables())?;
    println!("{} parameters", optimiser.value_count());
    let (started, mut saved) = (Instant::now(), Instant::now());
    let mut batches = VecDeque::new();
    let (mut epoch, mut step, mut total) = (0u64, 0usize, usize::MAX);
    let mut window = Window::new();
    while step < total {
        let Some(batch) = batches.pop_front() else {
            epoch += 1;
            batches = corpus.epoch(&mut rng.fork(epoch << 32))?.into();
            continue;
        };
        let dropout = rng.fork((epoch << 32) + batches.len() as u64 + 1);
        let (loss, gradients) = gradients(&net, &batch, &dropout)?;
        step += 1;
        optimiser.step(&gradients, rate(step, total))?;
        window.tokens += batch.tokens;
        window.loss += f64::from(loss / batch.weight);
        // During warm-up the rate does not depend on the total.
        if matches!(budget, Budget::Steps(_)) || step.is_multiple_of(REPORT_STEPS) {
            total = budget.total(step, started.elapsed());
        }
        if step.is_multiple_of(REPORT_STEPS) {
            window.report(step, total, epoch, started)?;
            window = Window::new();
        }
        if saved.elapsed() > CHECKPOINT_EVERY {
            gguf::write(out, &optimiser.variables(), vocabulary)?;
            saved = Instant::now();
        }
    }
    gguf::write(out, &optimiser.variables(), vocabulary)?;
    println!("{step} steps in {:.1} minutes", started.elapsed().as_secs_f64() / 60.0);
    Ok(())
}

/// Loss of a batch, and the gradients of each shard, in their order.
fn gradients(net: &Net, batch: &Batch, dropout: &Rng) -> Result<(f32, Vec<GradStore>)> {
    let results: Vec<Result<(f32, GradStore)>> = std::thread::scope(|scope| {
        let spawn = |(at, shard)| {
            let rng = dropout.fork(at as u64);
            scope.spawn(move || shard_gradients(net, shard, batch.weight, &rng))
        };
        let threads: Vec<_> = batch.shards.iter().enumerate().map(spawn).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<(f32, GradStore)>>| {
            thread.join().unwrap_or_else(|_| Err("a shard panicked".into()))
        };
        threads.into_iter().map(join).collect()
    });
    let mut sum = 0.0;
    let mut gradients = Vec::with_capacity(results.len());
    for result in results {
        let (loss, store) = result?;
        sum += loss;
        gradients.push(store);
    }
    Ok((sum, gradients))
}

fn shard_gradients(net: &Net, shard: &Shard, weight: f32, dropout: &Rng) -> Result<(f32, GradStore)> {
    let hidden = net.hidden(&shard.tokens, Some(dropout))?;
    let loss = net
        .logits(&hidden)?
        .apply_op1(CrossEntropy { targets: shard.targets.clone(), weights: shard.weights.clone() })?;
    // The mean is over the whole batch, of which this shard knows a part.
    let gradients = loss.affine(f64::from(weight.recip()), 0.0)?.backward()?;
    Ok((loss.to_scalar::<f32>()?, gradients))
}
