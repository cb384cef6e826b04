//! How long a message takes to everyone who is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use exo_model::decide::Intent;
use exo_model::feed::{FeedId, Stream};
use exo_model::id::{ChannelId, DeviceId};
use exo_sync::replica::Replica;
use tokio::runtime::Runtime;

use super::town::{self, Town};
use super::{Figure, figure};
use crate::bench::model::people::Village;
use crate::node::Node;

/// Pause between messages: 20 a second.
const PAUSE: Duration = Duration::from_millis(50);
/// Messages written, and with `--full`.
const MESSAGES: usize = 60;
const MESSAGES_FULL: usize = 1_200;
/// Time for links and gossip to settle.
const SETTLE: Duration = Duration::from_secs(1);
/// Longest wait for the last message.
const WAIT: Duration = Duration::from_secs(20);
/// The longest that all but one in a hundred may take, ms.
const TARGET_MS: f64 = 100.0;

/// When each author's changes were here, by their number.
type Arrivals = BTreeMap<(DeviceId, u64), Instant>;

pub(super) fn run(runtime: &Runtime, full: bool, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let messages = if full { MESSAGES_FULL } else { MESSAGES };
    let two = runtime.block_on(deliver(2, messages))?;
    print(&figure("live_delivery_2_p50", part(&two, 50), "ms", None));
    print(&figure("live_delivery_2_p99", part(&two, 99), "ms", Some(TARGET_MS)));
    let ten = runtime.block_on(deliver(10, messages))?;
    print(&figure("live_delivery_10_p50", part(&ten, 50), "ms", None));
    print(&figure("live_delivery_10_p99", part(&ten, 99), "ms", Some(TARGET_MS)));
    Ok(())
}

/// The time within which so many per cent arrive.
fn part(sorted: &[f64], per_cent: usize) -> f64 {
    let index = (sorted.len() * per_cent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// Everyone writes in turn; returns how long each message took to each other
/// replica, ms, in order.
async fn deliver(people: usize, messages: usize) -> anyhow::Result<Vec<f64>> {
    let mut village = Village::new(people)?;
    let channel = village.open_channel("square")?;
    let town = Town::lay_out(village)?;
    let nodes = town.wake().await?;
    town::meet(&nodes).await?;
    tokio::time::sleep(SETTLE).await;
    let stream = Stream::Channel(channel);
    let mut watching = Vec::new();
    for node in &nodes {
        watching.push(tokio::spawn(watch(node.membership()?.replica().clone(), stream, messages)));
    }
    let mut written = BTreeMap::new();
    let mut tick = tokio::time::interval(PAUSE);
    for (number, node) in (0..messages).zip(nodes.iter().cycle()) {
        tick.tick().await;
        let (place, at) = say(node, channel, number).await?;
        written.insert(place, at);
    }
    let mut delays = Vec::new();
    for arrivals in watching {
        let arrivals = tokio::time::timeout(WAIT, arrivals).await.context("messages did not arrive")??;
        delays.extend(written.iter().filter_map(|(place, at)| {
            let arrived = arrivals.get(place)?;
            Some(arrived.saturating_duration_since(*at).as_secs_f64() * 1e3)
        }));
    }
    town::sleep(nodes).await;
    ensure!(delays.len() == messages * (people - 1), "{} deliveries", delays.len());
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}

/// Writes a message; returns its author and number, and when that was done.
async fn say(
    node: &Arc<Node>,
    channel: ChannelId,
    number: usize,
) -> anyhow::Result<((DeviceId, u64), Instant)> {
    let text = format!("message {number}: the beans are green, and the tomatoes are red by now");
    let post = Intent::Post { channel, text, reply_to: None, mentions: Vec::new(), attachments: Vec::new() };
    let replica = node.membership()?.replica().clone();
    replica.record(post).await?;
    let at = Instant::now();
    let mine = ends_in(&replica, &Stream::Channel(channel));
    let seq = mine.get(&node.device()).copied().context("a message that is not stored")?;
    Ok(((node.device(), seq), at))
}

/// How far each author's last segment of a stream goes.
fn ends_in(replica: &Replica, stream: &Stream) -> BTreeMap<DeviceId, u64> {
    let ends = replica.snapshot().ends;
    let of_stream = ends.iter().filter(|(feed, _): &(FeedId, _)| feed.stream == *stream);
    of_stream.map(|(feed, end)| (feed.device, end.seq)).collect()
}

/// Notes when each of so many changes of others is here.
async fn watch(replica: Replica, stream: Stream, messages: usize) -> Arrivals {
    let mut snapshot = replica.watch();
    let mut arrivals = Arrivals::new();
    let mut known: BTreeMap<DeviceId, u64> = ends_in(&replica, &stream);
    let (mut seen, me) = (0, replica.device());
    while seen < messages && snapshot.changed().await.is_ok() {
        snapshot.borrow_and_update();
        let now = Instant::now();
        for (device, seq) in ends_in(&replica, &stream) {
            let before = known.insert(device, seq).unwrap_or(0);
            for new in before + 1..=seq {
                seen += 1;
                if device != me {
                    arrivals.insert((device, new), now);
                }
            }
        }
    }
    arrivals
}
