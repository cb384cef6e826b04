//! What the shared state costs: gate, reduction, storage, opening, memory.
//!
//! A community of ten people is written by the program's own code, sealed and
//! signed; then every figure is taken from those very changes. Sizes grow
//! tenfold, to show how the figures grow. On one thread.

mod archive;
mod charter;
pub(super) mod memory;
pub(super) mod people;
pub(super) mod storage;
pub(super) mod words;

use std::time::{Duration, Instant};

use exo_model::PersonId;
use exo_model::trust::Reputation;
use exo_model::trust::evidence::{Evidence, Settled, Vouch, VouchKind};

use super::Figure;

/// Events measured by default, and with `--full`.
const SIZES: [usize; 2] = [10_000, 100_000];
const SIZES_FULL: [usize; 3] = [10_000, 100_000, 1_000_000];
/// Keys of a Sybil attack.
const SYBILS: u32 = 10_000;

/// Measures and prints.
pub(super) fn run(full: bool, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let sizes: &[usize] = if full { &SIZES_FULL } else { &SIZES };
    for size in sizes {
        charter::run(*size, print)?;
    }
    for size in sizes {
        let history = words::write(*size)?;
        words::run(&history, print)?;
        storage::run(&history, print)?;
    }
    reputation(print);
    Ok(())
}

fn reputation(print: &mut dyn FnMut(&Figure)) {
    let person = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        PersonId::from_bytes(bytes)
    };
    // Me, one friend who was fooled, and a ring of keys.
    let (me, friend) = (person(u32::MAX), person(u32::MAX - 1));
    let vouch = |from, to| Vouch { from, to, kind: VouchKind::MetInPerson, time_ms: 0 };
    let ring = (0..SYBILS).map(|number| vouch(person(number), person((number + 1) % SYBILS)));
    let work = (0..SYBILS).map(|number| Settled {
        payer: person(number),
        payee: person((number + 1) % SYBILS),
        token_mib: 1_000_000,
        last_ms: 0,
    });
    let mut evidence = Evidence { settled: work.collect(), ..Evidence::default() };
    evidence.vouches = ring.chain([vouch(me, friend)]).collect();
    evidence.vouches.extend((0..SYBILS).map(|number| vouch(friend, person(number))));
    let took = fastest(3, || drop(std::hint::black_box(Reputation::of(me, &evidence, 0))));
    print(&figure("reputation_10k_sybils", took.as_secs_f64() * 1e3, "ms", Some(50.0)));
}

pub(super) fn figure(
    name: impl Into<std::borrow::Cow<'static, str>>,
    value: f64,
    unit: &'static str,
    target: Option<f64>,
) -> Figure {
    Figure { name: name.into(), value, unit, target }
}

/// The shortest of a few runs: what the machine can do when left alone.
fn fastest(runs: usize, mut run: impl FnMut()) -> Duration {
    (0..runs)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .min()
        .unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn micros_each(count: usize, took: Duration) -> f64 {
    took.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// `10k`, `100k`, `1m`.
pub(super) fn short(size: usize) -> String {
    if size >= 1_000_000 { format!("{}m", size / 1_000_000) } else { format!("{}k", size / 1_000) }
}
