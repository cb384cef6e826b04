//! What a community costs on the network while nobody does anything.
//!
//! Counted are the UDP datagrams of every connection of a node, with 28 bytes of
//! headers each, as its own QUIC stack counts them, sent and received. Everything
//! that peers send each other is on some connection.

use std::time::Duration;

use exo_model::feed::{SEGMENT_AGE_MS, Stream};
use exo_model::port::Clock as _;
use tokio::runtime::Runtime;

use super::town::{self, Town};
use super::{Figure, figure};
use crate::bench::model::people::{Author, Village};
use crate::bench::model::words::message;
use crate::host::SystemClock;

const PEOPLE: usize = 10;
const CHANNELS: usize = 20;
/// Segments of each author in each channel: a year.
const MONTHS: i64 = 12;
/// Time to settle before counting.
const SETTLE: Duration = Duration::from_secs(5);
/// Time counted, and with `--full`. In the short one nobody says that they are
/// there, which everyone does every 5 to 10 minutes; in the long one some do.
const WATCH: Duration = Duration::from_secs(10);
const WATCH_FULL: Duration = Duration::from_secs(900);
/// Bytes of the headers of IPv4 and UDP.
const HEADERS: u64 = 28;
/// Most of a node in an hour, MB.
const TARGET_MB: f64 = 1.0;

pub(super) fn run(runtime: &Runtime, full: bool, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let town = Town::lay_out(write()?)?;
    let watch = if full { WATCH_FULL } else { WATCH };
    let bytes = runtime.block_on(count(&town, watch))?;
    print(&figure("idle_traffic", bytes * 3_600.0 / watch.as_secs_f64() / 1e6, "MB/h", Some(TARGET_MB)));
    Ok(())
}

/// A community of some age: everyone wrote something every month in every
/// channel, on both of their devices.
fn write() -> anyhow::Result<Village> {
    let month_ms = SEGMENT_AGE_MS + 1;
    let mut village = Village::of(Author::new()?, PEOPLE, SystemClock.now_ms() - MONTHS * month_ms)?;
    for author in 0..PEOPLE {
        village.add_device(author)?;
    }
    let names = (0..CHANNELS).map(|number| format!("channel-{number}"));
    let channels = names.map(|name| village.open_channel(&name)).collect::<anyhow::Result<Vec<_>>>()?;
    for _ in 0..MONTHS {
        village.now_ms += month_ms;
        for (number, channel) in channels.iter().enumerate() {
            for author in 0..village.authors.len() {
                village.write(author, Stream::Channel(*channel), &message(number).into())?;
            }
        }
    }
    Ok(village)
}

/// Bytes of one node over a time, on average.
async fn count(town: &Town, watch: Duration) -> anyhow::Result<f64> {
    let nodes = town.wake().await?;
    town::meet(&nodes).await?;
    tokio::time::sleep(SETTLE).await;
    let total = || -> u64 {
        let each = nodes.iter().map(|node| node.mesh().traffic());
        each.map(|traffic| traffic.bytes + HEADERS * traffic.datagrams).sum()
    };
    let before = total();
    tokio::time::sleep(watch).await;
    let after = total();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = (after - before) as f64 / nodes.len() as f64;
    town::sleep(nodes).await;
    Ok(each)
}
