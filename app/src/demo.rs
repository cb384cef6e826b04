//! `exo-studio demo`: three nodes on this machine show everything, and check it.
//!
//! The nodes are separate processes with their own folders, keys and ports.
//! The demo speaks to them as any program would ([`crate::face::json`]) and
//! believes nothing it has not compared. [`story`] is what happens.

mod narrator;
mod peer;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use narrator::Narrator;

/// The question of the demo unless another is asked.
const QUESTION: &str = "How do I invite a friend?";

/// Options of the demo.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Ask your own question.
    #[arg(long, value_name = "QUESTION", default_value = QUESTION)]
    ask: String,
    /// Print one JSON object at the end; the story goes to standard error.
    #[arg(long)]
    json: bool,
    /// Open Ana's window beside it.
    #[arg(long)]
    window: bool,
    /// Keep the three data folders here instead of a temporary place.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// Runs the demo. Success only if every check held.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let temporary = TemporaryFolder::new(args.keep.clone())?;
    let mut narrator = Narrator::new(args.json);
    let told = story::tell(&args, temporary.path(), &mut narrator).await;
    let (report, code) = match told {
        Ok(report) => (report, ExitCode::SUCCESS),
        Err(error) => {
            narrator.fail(&error);
            (json!({"ok": false, "error": format!("{error:#}")}), ExitCode::FAILURE)
        }
    };
    if args.json {
        narrator.object(&report);
    }
    Ok(code)
}

/// A folder that goes when the demo ends, unless the person named it.
struct TemporaryFolder {
    path: PathBuf,
    keep: bool,
}

impl TemporaryFolder {
    fn new(keep: Option<PathBuf>) -> anyhow::Result<Self> {
        let named = keep.is_some();
        let path = keep.unwrap_or_else(|| {
            let nonce = u64::from_be_bytes(crate::host::random());
            std::env::temp_dir().join(format!("exo-studio-demo-{nonce:016x}"))
        });
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self { path, keep: named })
    }

    fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if !self.keep {
            // A leftover in the temporary folder harms nobody.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
