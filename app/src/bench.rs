//! `exo-studio bench`: figures about this program on this machine.
//!
//! Every figure is one JSON object a line:
//! `{"name":…,"value":…,"unit":…,"target":…}`.

mod idle;

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
}

/// What can be measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Area {
    /// Memory and processor time of a node and a window that do nothing.
    Idle,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    name: &'static str,
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
    match args.area {
        Area::Idle => idle::run(args.full, &mut print)?,
    }
    Ok(ExitCode::SUCCESS)
}
