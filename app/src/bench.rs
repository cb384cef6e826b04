//! `exo-studio bench`: figures about this program on this machine.
//!
//! Every figure is one JSON object a line:
//! `{"name":…,"value":…,"unit":…,"target":…}`.

mod idle;
mod model;
mod sync;

use std::borrow::Cow;
use std::process::ExitCode;

use serde::Serialize;

use crate::face::terminal::printable;

/// Options of the benches.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure.
    #[arg(value_enum)]
    area: Area,
    /// One JSON object a line instead of words.
    #[arg(long)]
    json: bool,
    /// Measure longer.
    #[arg(long)]
    full: bool,
    /// Opens what the model's bench left in a folder, and prints the bytes of
    /// memory that takes: a process of its own, so that nothing else counts.
    #[arg(long, hide = true, value_name = "FOLDER")]
    open: Option<std::path::PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Area {
    /// Memory and processor time of a node and a window that do nothing.
    Idle,
    /// The shared state: gate, reduction, storage, opening, memory.
    Model,
    /// Peers: joining, live messages, what idling costs, blobs.
    Sync,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    name: Cow<'static, str>,
    value: f64,
    unit: &'static str,
    /// What we want; none where a figure only informs.
    target: Option<f64>,
}

/// Measures and prints.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let mut print = |figure: &Figure| {
        let line = if args.json {
            serde_json::to_string(figure).unwrap_or_default()
        } else {
            let target = figure.target.map_or(String::new(), |target| format!(" (target {target})"));
            format!("{:<28} {:>8.2} {}{target}", figure.name, figure.value, figure.unit)
        };
        let mut out = std::io::stdout().lock();
        let _ = std::io::Write::write_all(&mut out, format!("{}\n", printable(&line)).as_bytes());
    };
    if let Some(folder) = &args.open {
        let bytes = model::memory::open(folder)?;
        let mut out = std::io::stdout().lock();
        std::io::Write::write_all(&mut out, format!("{bytes}\n").as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.area {
        Area::Idle => idle::run(args.full, &mut print)?,
        Area::Model => model::run(args.full, &mut print)?,
        Area::Sync => sync::run(args.full, &mut print)?,
    }
    Ok(ExitCode::SUCCESS)
}
