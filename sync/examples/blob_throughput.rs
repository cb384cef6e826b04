//! How fast a blob is fetched over loopback, beside a plain stream of iroh.
//!
//!     cargo run -p exo-sync --example blob_throughput -- [MiB] [rounds]
#![allow(clippy::print_stdout, reason = "prints what it measured")]

use std::time::Duration;

use exo_sync::blobs::gauge::{Gauge, Way};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Least, middle and greatest.
fn spread(figures: &mut [f64]) -> String {
    figures.sort_by(f64::total_cmp);
    let (first, last) = (figures[0], figures[figures.len() - 1]);
    format!("{first:.2} / {:.2} / {last:.2}", figures[figures.len() / 2])
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<usize>());
    let mib = words.next().unwrap_or(Ok(256))?;
    let rounds = words.next().unwrap_or(Ok(5))?.max(1);
    let folder = tempfile::tempdir()?;
    let gauge = Gauge::open(folder.path(), mib).await?;
    let speed = |took: Duration| f64::from(u32::try_from(mib).unwrap_or(u32::MAX)) / took.as_secs_f64();
    let mut figures = [const { Vec::new() }; 5];
    println!("{mib} MiB over loopback, MiB/s: plain stream, Blobs::fetch, iroh-blobs' own");
    for _ in 0..rounds {
        let (ours_in, theirs_in) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let plain = speed(gauge.measure(Way::Plain, ours_in.path()).await?);
        let ours = speed(gauge.measure(Way::Fetch, ours_in.path()).await?);
        let theirs = speed(gauge.measure(Way::Foreign, theirs_in.path()).await?);
        println!("{plain:7.0} {ours:7.0} {theirs:7.0}   ratios {:.2} {:.2}", ours / plain, theirs / plain);
        for (all, one) in figures.iter_mut().zip([plain, ours, theirs, ours / plain, theirs / plain]) {
            all.push(one);
        }
    }
    let names = ["plain, MiB/s", "ours, MiB/s", "iroh-blobs, MiB/s", "ours to plain", "iroh-blobs to plain"];
    for (name, all) in names.iter().zip(&mut figures) {
        println!("{name}: {} (least / middle / greatest of {rounds})", spread(all));
    }
    gauge.close().await;
    Ok(())
}
