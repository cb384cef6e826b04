//! What peers cost each other: joining, live messages, idling, blobs.
//!
//! Communities are written beforehand, by the program's own code; what is
//! measured is the program: whole nodes with their folders, real endpoints over
//! loopback, views. On a machine of their own peers are faster: here all of
//! them share its cores.

mod blobs;
mod join;
mod live;
mod memory;
mod town;
mod traffic;

use std::time::Duration;

use super::Figure;
use super::model::{figure, short};

/// Measures and prints.
pub(super) fn run(full: bool, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let runtime = crate::cli::runtime()?;
    join::run(&runtime, full, print)?;
    live::run(&runtime, full, print)?;
    traffic::run(&runtime, full, print)?;
    if cfg!(target_os = "linux") {
        memory::run(print)?;
    }
    blobs::run(&runtime, full, print)?;
    // Whoever still waits for a peer is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(())
}

/// The middle one.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
