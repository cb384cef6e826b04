//! Every parser of strangers' bytes, on seeded mutants of honest encodings.
//!
//! The targets are those of `cargo fuzz` (`model/fuzz`), which goes on where
//! this ends.

#[path = "fuzz/mutator.rs"]
mod mutator;
mod samples;
#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use data_encoding::HEXLOWER;
use seeded::Rng;
use targets::{TARGETS, Target};

/// Mutants of each target.
const MUTANTS: usize = 15_000;
/// Most inputs that mutants are made of.
const INPUTS_MAX: usize = 300;

/// Runs a target; where it panics, says on which bytes.
fn feed(name: &str, target: Target, bytes: &[u8]) -> bool {
    let result = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    result.unwrap_or_else(|_| panic!("{name} on {}", HEXLOWER.encode(bytes)))
}

/// Mutants that must get past the decoder, so that what is behind it is
/// reached; few where a checksum stands before it.
fn least_decoded(name: &str) -> usize {
    match name {
        "ticket" | "import" | "phrase" | "public_profile" => 1,
        _ => MUTANTS / 20,
    }
}

#[test]
fn honest_encodings_pass() {
    for (name, target) in TARGETS {
        for seed in seeds::of(name) {
            assert!(feed(name, target, &seed), "{name} refuses {}", HEXLOWER.encode(&seed));
        }
    }
}

#[test]
fn nothing_panics_and_what_decodes_encodes_to_the_same_bytes() {
    for (number, (name, target)) in (1..).zip(TARGETS) {
        let mut rng = Rng(number);
        let mut inputs = seeds::of(name);
        let mut decoded_count = 0;
        for _ in 0..MUTANTS {
            let mutant = mutator::mutant(&mut rng, &inputs);
            if feed(name, target, &mutant) {
                decoded_count += 1;
                // What still decodes is mutated further.
                if inputs.len() < INPUTS_MAX && !mutant.is_empty() {
                    inputs.push(mutant);
                }
            }
        }
        assert!(decoded_count >= least_decoded(name), "{name}: {decoded_count} of {MUTANTS}");
    }
}

#[test]
fn bytes_from_nowhere_and_every_cut_of_the_honest_ones_are_survived() {
    for (number, (name, target)) in (100..).zip(TARGETS) {
        let mut rng = Rng(number);
        for len in 0..200 {
            let bytes = rng.bytes(len);
            feed(name, target, &bytes);
        }
        let seed = seeds::of(name).swap_remove(0);
        for cut in 0..seed.len() {
            feed(name, target, &seed[..cut]);
        }
    }
}

/// Each target has its file for `cargo fuzz`, and no file is without target.
#[test]
fn targets_and_their_files_are_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("the manifest");
    for (name, _) in TARGETS {
        let file = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).expect(name);
        assert!(file.contains(&format!("targets::{name}(bytes)")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
    let files = std::fs::read_dir(folder.join("fuzz_targets")).expect("the folder").count();
    assert_eq!((files, manifest.matches("[[bin]]").count()), (TARGETS.len(), TARGETS.len()));
}

/// Seeds for `cargo fuzz`:
/// `cargo test -p exo-model --test fuzz -- --ignored write_the_corpus`
#[test]
#[ignore = "writes model/fuzz/corpus"]
fn write_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, _) in TARGETS {
        let folder = corpus.join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (number, seed) in seeds::of(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a file");
        }
    }
}
