//! What a node takes of memory that is in several communities.

use std::path::Path;
use std::time::Duration;

use exo_model::feed::Stream;
use tempfile::TempDir;

use super::town::move_in;
use super::{Figure, figure};
use crate::bench::idle::Process;
use crate::bench::model::people::{Author, Village, admit_all};
use crate::bench::model::storage::append;
use crate::bench::model::words::message;

const COMMUNITIES: usize = 5;
const MESSAGES: usize = 10_000;
const PEOPLE: usize = 10;
const CHANNELS: usize = 5;
const RUN: usize = 256;
/// Time to settle before measuring.
const SETTLE: Duration = Duration::from_secs(4);
/// What the node may take, MB.
const TARGET_MB: f64 = 35.0;

pub(super) fn run(print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    prepare(home.path())?;
    // The first start makes the views, which is work of its own.
    let mut first = Process::start("node", home.path())?;
    first.ready()?;
    drop(first);
    let mut node = Process::start("node", home.path())?;
    node.ready()?;
    std::thread::sleep(SETTLE);
    print(&figure("idle_memory_5x10k", node.pss_mb()?, "MB", Some(TARGET_MB)));
    Ok(())
}

fn prepare(home: &Path) -> anyhow::Result<()> {
    let founder = Author::new()?;
    for _ in 0..COMMUNITIES {
        let mut village = Village::of(founder.again()?, PEOPLE, 1)?;
        let names = (0..CHANNELS).map(|number| format!("channel-{number}"));
        let channels = names.map(|name| village.open_channel(&name)).collect::<anyhow::Result<Vec<_>>>()?;
        for number in 0..MESSAGES {
            let channel = channels[number / PEOPLE % CHANNELS];
            village.write(number % PEOPLE, Stream::Channel(channel), &message(number).into())?;
        }
        village.tend()?;
        let folder = TempDir::new()?;
        let store = folder.path().join("store.db");
        append(&store, &admit_all(village.as_sent(RUN))?)?;
        move_in(home, &founder, &village, &store, None)?;
    }
    Ok(())
}
