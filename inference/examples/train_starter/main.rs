//! Trains the starter model on a CPU and writes `inference/assets/starter.gguf`.
//!
//! The starter model answers questions about the handbook in a program that
//! was just installed, before any other model is there. It has 2.6 million
//! parameters, knows nothing else, and is trained from the text in
//! `inference/training` and `docs/handbook` by this program alone:
//!
//! ```text
//! cargo run -p exo-inference --example train_starter
//! cargo run -p exo-inference --example train_starter -- --steps 5000 --seed 7
//! cargo run -p exo-inference --example train_starter -- --minutes 10
//! cargo run -p exo-inference --example train_starter -- --eval-only FILE
//! ```
//!
//! To tune the recipe, `--leave-out 3` keeps three phrasings of each answer
//! from training and asks those instead of the held-back ones, which stay a
//! fair test only while nobody tunes by them.
//!
//! All chance comes from the seed. With `--steps` a run is repeated bit by
//! bit on the same kind of processor: work is divided into a constant number
//! of parts, not by the number of cores, but matrix products differ between
//! instruction sets. With `--minutes` the schedule follows the speed of the
//! machine and is not repeatable; the number of steps is printed.
//!
//! `data` reads the texts, `tokenizer` learns the vocabulary, `augment` and
//! `batch` draw epochs, `net` and `ops` are the network, `optim` and `train`
//! move it, `gguf` is the file, `eval` asks it questions. It uses candle's
//! autograd and nothing of this crate's engine, so it is also an independent
//! check of the engine.

#![allow(clippy::print_stdout, reason = "a command-line program's output")]

mod augment;
mod batch;
mod data;
mod eval;
mod gguf;
mod net;
mod ops;
mod optim;
mod rng;
mod tokenizer;
mod train;

use std::path::{Path, PathBuf};
use std::process::Command;

use batch::Corpus;
use data::Texts;
use rng::Rng;
use tokenizer::Vocabulary;
use train::Budget;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// Steps the model in the repository was trained for: about 20 minutes on two
/// cores with AVX-512.
const STEPS: usize = 12_000;

const USAGE: &str = "options: --steps N | --minutes M, --seed S, --out FILE, --leave-out N, --eval-only FILE";

struct Options {
    budget: Budget,
    seed: u64,
    out: PathBuf,
    leave_out: usize,
    eval_only: bool,
}

impl Options {
    fn parse(inference: &Path, mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            budget: Budget::Steps(STEPS),
            seed: 1,
            out: inference.join("assets/starter.gguf"),
            leave_out: 0,
            eval_only: false,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            match name.as_str() {
                "--steps" => options.budget = Budget::Steps(value.parse()?),
                "--minutes" => options.budget = Budget::Minutes(value.parse()?),
                "--seed" => options.seed = value.parse()?,
                "--out" => options.out = value.into(),
                "--leave-out" => options.leave_out = value.parse()?,
                "--eval-only" => {
                    options.out = value.into();
                    options.eval_only = true;
                }
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

/// Set for the process that does the work.
const RELAUNCHED: &str = "EXO_TRAIN_STARTER_RELAUNCHED";

/// Settings that libraries read from the environment.
const SETTINGS: [(&str, &str); 5] = [
    (RELAUNCHED, "1"),
    // Shards of a batch keep the cores busy; products that spread themselves
    // over the same cores would only wait for each other.
    ("RAYON_NUM_THREADS", "1"),
    // A step frees what the next one needs again. Left alone, glibc gives
    // the pages back in between, which costs half the speed.
    ("MALLOC_TRIM_THRESHOLD_", "4294967296"),
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TOP_PAD_", "67108864"),
];

/// Starts the program again with [`SETTINGS`]: on Unix in this process.
fn relaunch() -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).envs(SETTINGS);
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut command).into());
    #[cfg(not(unix))]
    std::process::exit(command.status()?.code().unwrap_or(1))
}

fn main() -> Result<()> {
    if std::env::var_os(RELAUNCHED).is_none() {
        return relaunch();
    }
    let inference = Path::new(env!("CARGO_MANIFEST_DIR"));
    let options = Options::parse(inference, std::env::args().skip(1))?;
    let mut texts = Texts::read(inference)?;
    if options.leave_out > 0 {
        texts.leave_out(options.leave_out, &mut Rng::new(options.seed).fork(1));
    }
    if !options.eval_only {
        let vocabulary = Vocabulary::train(&texts)?;
        let corpus = Corpus::new(&texts, &vocabulary)?;
        println!(
            "{} answers, {} paragraphs of prose, {} tokens in the vocabulary, seed {}",
            texts.answers.len(),
            texts.prose.len(),
            vocabulary.tokens.len(),
            options.seed,
        );
        train::train(&corpus, &vocabulary, options.budget, options.seed, &options.out)?;
    }
    eval::evaluate(&options.out, &texts, options.seed)
}
