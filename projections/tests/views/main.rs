//! The promises of the views, on communities made by a seeded generator.

mod departures;
mod files;
mod grown;
#[allow(unreachable_pub, reason = "whole test crates use it elsewhere")]
#[path = "../../../model/tests/home/mod.rs"]
mod home;
mod oracle;
mod places;
mod properties;
mod reads;
mod thread;
mod world;

use std::path::{Path, PathBuf};

use exo_model::feed::gate::AcceptedRun;
use exo_model::{CommunityState, VerifiedEvent};
use exo_projections::Views;

use crate::home::Home;

/// A views file in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("views.db")
    }
}

/// Views beside the device whose they are, kept up to date as a node does.
struct Follower {
    views: Views,
    home: Home,
    /// How often a key arrived that opened what was there before.
    reopened: usize,
}

impl Follower {
    fn new(views: Views, home: Home) -> Self {
        Self { views, home, reopened: 0 }
    }

    /// The device takes the changes first, then the views do.
    fn take(&mut self, batch: &[AcceptedRun]) {
        let (mut events, mut reopened) = (Vec::new(), false);
        for run in batch {
            let inserted = self.home.keep(run.clone());
            reopened |= !inserted.reopen.is_empty();
            events.extend(inserted.events);
        }
        if reopened {
            self.reopened += 1;
            // Told again: what can be read now, and what could be before.
            events.clone_from(&self.home.events);
        }
        self.views.apply(&events, self.home.community.state()).expect("applied");
    }

    /// Takes all that `from` knows and the device does not, change by change.
    fn catch_up(&mut self, from: &Home) {
        for (feed, runs) in &from.store {
            let known = self.home.store.get(feed).map_or(0, Vec::len);
            for run in &runs[known..] {
                self.take(std::slice::from_ref(run));
            }
        }
    }

    fn dump(&self) -> String {
        self.views.dump().expect("dumped")
    }

    /// Views built from nothing of what the device knows.
    fn rebuilt(&mut self) -> String {
        self.home.read_again();
        rebuilt(&self.home.events, self.home.community.state())
    }
}

/// Views built from nothing in one batch, as a dump.
fn rebuilt(events: &[VerifiedEvent], state: &CommunityState) -> String {
    let folder = Folder::new();
    let mut views = Views::open(folder.path()).expect("a new file");
    views.apply(events, state).expect("applied");
    views.dump().expect("dumped")
}

/// The first line two dumps differ in, so that a failure can be read.
fn assert_same(left: &str, right: &str, what: &str) {
    if left != right {
        let mut lines = left.lines().zip(right.lines());
        let first = lines.find(|(left, right)| left != right);
        panic!("{what}: {} and {} bytes, first difference {first:?}", left.len(), right.len());
    }
}

/// The events of `all` that views at these cursors still need.
fn missing(views: &Views, all: &[VerifiedEvent]) -> Vec<VerifiedEvent> {
    let cursors = views.cursors().expect("cursors");
    let taken = |event: &VerifiedEvent| cursors.get(&event.line()).copied().unwrap_or_default();
    all.iter().filter(|event| event.seq > taken(event)).cloned().collect()
}

/// What a process that dies now leaves on disk: the file and its log, without
/// the shared index, the log cut to `wal_bytes`.
fn crash_image(from: &Path, to: &Path, wal_bytes: usize) {
    std::fs::copy(from, to).expect("copied");
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let wal = std::fs::read(log(from)).unwrap_or_default();
    std::fs::write(log(to), &wal[..wal_bytes.min(wal.len())]).expect("written");
}
