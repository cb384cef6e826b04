//! Hundreds of nodes under a seed: the real cores, a bad network, liars.

use exo_tests::sim::{Story, Templates};

/// Seeds that are tried each time.
const SEEDS: u64 = 300;
/// Nodes of a run, newcomers among them.
const SIZES: [usize; 4] = [20, 24, 32, 50];

#[test]
fn probe_one() {
    let seed: u64 = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let begun = std::time::Instant::now();
    let templates = Templates::new(&[18, 22, 30, 48], 4);
    eprintln!("templates {:?}", begun.elapsed());
    for seed in seed..seed + 4 {
        let begun = std::time::Instant::now();
        let story = Story::of(seed, &templates, &SIZES);
        let (world, took_ms) = story.tell();
        eprintln!(
            "seed {seed}: {} nodes, {took_ms} ms virtual, {:?} real, {:?}",
            world.nodes.len(),
            begun.elapsed(),
            world.tally
        );
    }
    let _ = SEEDS;
}
