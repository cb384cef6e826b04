//! Joining a community that has a past.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use exo_model::feed::Stream;
use exo_model::id::ChannelId;
use tokio::runtime::Runtime;

use super::town::{self, Town};
use super::{Figure, figure, median, short};
use crate::bench::model::people::Village;
use crate::bench::model::words::message;
use crate::node::{InviteTerms, Node};

/// Messages of the communities, and the longest time that joining may take, s.
const SIZES: [(usize, f64); 2] = [(10_000, 1.0), (100_000, 6.0)];
/// Runs of each with `--full`.
const RUNS_FULL: usize = 5;
const PEOPLE: usize = 10;
const CHANNELS: usize = 5;
/// Longest wait for a join.
const WAIT: Duration = Duration::from_secs(120);
/// Pause between looks at the views.
const LOOK: Duration = Duration::from_millis(5);

/// A community with a past.
struct Past {
    town: Town,
    channels: Vec<ChannelId>,
    size: usize,
}

pub(super) fn run(runtime: &Runtime, full: bool, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    for (size, target) in SIZES {
        let past = write(size)?;
        let host = runtime.block_on(town::start(&past.town.home_of_founder()))?;
        let runs = if full { RUNS_FULL } else { 1 };
        let mut took = Vec::new();
        for run in 0..runs {
            took.push(runtime.block_on(join(&past, &host, run))?.as_secs_f64());
        }
        runtime.block_on(town::sleep(vec![host]));
        let name = format!("join_{}_searchable", short(size));
        print(&figure(name, median(took), "s", Some(target)));
    }
    Ok(())
}

fn write(size: usize) -> anyhow::Result<Past> {
    let mut village = Village::new(PEOPLE)?;
    let names = (0..CHANNELS).map(|number| format!("channel-{number}"));
    let channels = names.map(|name| village.open_channel(&name)).collect::<anyhow::Result<Vec<_>>>()?;
    for number in 0..size {
        // Everyone writes in every channel.
        let channel = channels[number / PEOPLE % CHANNELS];
        village.write(number % PEOPLE, Stream::Channel(channel), &message(number).into())?;
    }
    Ok(Past { town: Town::lay_out(village)?, channels, size })
}

/// A newcomer with an empty folder joins; returns how long it takes until the
/// last message can be read, and all others.
async fn join(past: &Past, host: &Node, run: usize) -> anyhow::Result<Duration> {
    let home = past.town.empty_home(&format!("newcomer-{run}"));
    let newcomer = town::start(&home).await?;
    let ticket = host.membership()?.invite(InviteTerms::default()).await?.to_string();
    let begun = Instant::now();
    let membership = newcomer.join("Newcomer", &ticket).await?;
    loop {
        // Counting reads everything: not before it is all here.
        let changes = membership.replica().snapshot().change_count();
        if changes >= host.membership()?.replica().snapshot().change_count() {
            let channels = past.channels.clone();
            let (count, last) = membership
                .query(move |reader| {
                    let counts = channels.iter().map(|channel| reader.message_count(channel));
                    let last =
                        channels.last().map(|channel| reader.messages(channel, 1, None)).transpose()?;
                    Ok((counts.sum::<Result<u64, _>>()?, last.unwrap_or_default()))
                })
                .await?;
            if count == past.size as u64 {
                let took = begun.elapsed();
                let last = last.first().context("no last message")?;
                ensure!(!last.text.is_empty(), "the last message is empty");
                town::sleep(vec![newcomer]).await;
                return Ok(took);
            }
        }
        if begun.elapsed() > WAIT {
            bail!("{changes} changes arrived in {} s", WAIT.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}
