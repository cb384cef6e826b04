//! Fetching a blob beside a plain stream.

use exo_sync::blobs::gauge::{Gauge, Way};
use tokio::runtime::Runtime;

use super::{Figure, figure, median};

/// Size of the blob, MiB.
const MIB: usize = 64;
/// Rounds, and with `--full`.
const ROUNDS: usize = 5;
const ROUNDS_FULL: usize = 15;

pub(super) fn run(runtime: &Runtime, full: bool, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let rounds = if full { ROUNDS_FULL } else { ROUNDS };
    let (plain, ratio) = runtime.block_on(compare(rounds))?;
    print(&figure("plain_throughput", plain, "MB/s", None));
    print(&figure("blob_throughput_ratio", ratio, "of a plain stream", Some(0.8)));
    Ok(())
}

/// Megabytes a second of a plain stream, and the ratio of a fetch to it: the
/// medians of rounds in which one followed the other.
async fn compare(rounds: usize) -> anyhow::Result<(f64, f64)> {
    let folder = tempfile::tempdir()?;
    let gauge = Gauge::open(folder.path(), MIB).await?;
    let (mut plain, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let into = tempfile::tempdir()?;
        let stream = gauge.measure(Way::Plain, into.path()).await?.as_secs_f64();
        let fetch = gauge.measure(Way::Fetch, into.path()).await?.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        plain.push((MIB << 20) as f64 / 1e6 / stream);
        ratios.push(stream / fetch);
    }
    gauge.close().await;
    Ok((median(plain), median(ratios)))
}
