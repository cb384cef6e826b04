//! The promises of the views, on communities made by a seeded generator.

mod files;
mod oracle;
mod properties;
mod reads;
mod thread;
mod world;

use std::path::{Path, PathBuf};

use exo_model::{Community, CommunityState, VerifiedEvent};
use exo_projections::Views;

/// A views file in a folder of its own.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("views.db")
    }
}

/// Applies batches as a node does: the community reduces each first.
fn follow(views: &mut Views, community: &mut Community, batches: &[Vec<VerifiedEvent>]) {
    for batch in batches {
        community.insert(batch);
        views.apply(batch, community.state()).expect("applied");
    }
}

/// Views built from nothing in one batch, as a dump.
fn rebuilt(events: &[VerifiedEvent], state: &CommunityState) -> String {
    let home = Home::new();
    let mut views = Views::open(home.path()).expect("a new file");
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
    let taken = |event: &VerifiedEvent| cursors.get(&event.feed).copied().unwrap_or_default();
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
