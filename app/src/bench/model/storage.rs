//! The event store: what a change costs on its way to the disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use exo_model::event::TalkEvent;
use exo_model::feed::Stream;
use exo_model::feed::gate::AcceptedRun;
use exo_model::port::ChangeStore as _;
use exo_sync::store::Store;

use super::memory;
use super::people::{Village, admit_all};
use super::words::History;
use super::{Figure, fastest, figure, micros_each, short};

/// Changes in one transaction, as peers send them.
const RUN: usize = 256;
/// Events of the cold figure.
const COLD: usize = 10_000;
/// One's own changes written one by one.
const WRITES: usize = 500;

pub(super) fn run(history: &History, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let name = |what: &str| format!("{what}_{}", short(history.size));
    let folder = tempfile::tempdir()?;
    let sent = history.village.as_sent(RUN);

    if history.size == COLD {
        let mut fault = None;
        let mut round = 0;
        let cold = fastest(3, || {
            round += 1;
            let path = folder.path().join(format!("cold-{round}.db"));
            fault = admit_all(sent.clone()).and_then(|runs| Ok(append(&path, &runs)?)).err().or(fault.take());
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        print(&figure("cold_10k_gated_verified_stored", cold.as_secs_f64() * 1e3, "ms", Some(60.0)));
        local_writes(folder.path(), print)?;
    }

    let path = folder.path().join("size.db");
    append(&path, &admit_all(sent)?)?;
    let bytes: u64 = ["", "-wal"].iter().map(|suffix| file_bytes(&path, suffix)).sum();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = bytes as f64 / history.size as f64;
    print(&figure(name("bytes_per_stored_message"), each, "B", None));
    super::archive::run(history, &path, print)?;
    if cfg!(target_os = "linux") {
        let target = (history.size == 100_000).then_some(60.0);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let megabytes = memory::measure(history, folder.path())? as f64 / 1e6;
        print(&figure(name("community_memory"), megabytes, "MB", target));
    }
    Ok(())
}

pub(in crate::bench) fn append(path: &Path, runs: &[AcceptedRun]) -> Result<(), exo_sync::store::StoreError> {
    let mut store = Store::open(path)?;
    runs.iter().try_for_each(|run| store.append_received(run).map(drop))
}

fn file_bytes(path: &Path, suffix: &str) -> u64 {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    std::fs::metadata(PathBuf::from(name)).map_or(0, |metadata| metadata.len())
}

/// One's own words, one by one: sealed, signed, gated, stored. On a disk each
/// waits for the disk; in memory it does not.
fn local_writes(folder: &Path, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let disk = one_by_one(&folder.join("writes.db"))?;
    print(&figure("local_write_with_disk_sync", micros_each(WRITES, disk), "µs", None));
    if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
        let took = one_by_one(&memory.path().join("writes.db"))?;
        print(&figure("local_write", micros_each(WRITES, took), "µs", Some(80.0)));
    }
    Ok(())
}

fn one_by_one(path: &Path) -> anyhow::Result<Duration> {
    let mut village = Village::new(1)?;
    let mut store = Store::open(path)?;
    let channel = village.open_channel("square")?;
    let begun = Instant::now();
    for _ in 0..WRITES {
        let text = "the tomatoes are red, and the beans are green, and so on".to_owned();
        let event = TalkEvent::Posted { text, reply_to: None, mentions: Vec::new(), attachments: Vec::new() };
        let accepted = village.sign(0, Stream::Channel(channel), &event.into())?;
        store.append(&accepted)?;
        village.take(0, &accepted);
    }
    Ok(begun.elapsed())
}
