//! Exporting a community from its store, and importing it into another.

use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_sync::archive;
use exo_sync::replica::{Replica, ReplicaConfig};

use super::words::History;
use super::{Figure, figure, per_second, short};
use crate::host::{OsEntropy, SystemClock};

pub(super) fn run(history: &History, store: &Path, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let name = |what: &str| format!("{what}_{}", short(history.size));
    let community = history.village.community.id();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("export");

    let begun = Instant::now();
    let mut out = BufWriter::new(std::fs::File::create(&file)?);
    let exported = archive::export(store, community, &mut out)?;
    let took = begun.elapsed();
    print(&figure(name("export"), per_second(history.size, took), "changes/s", None));
    print(&figure(name("export_bytes"), megabytes(exported.bytes, took), "MB/s", None));

    let mut input = BufReader::new(std::fs::File::open(&file)?);
    let begun = Instant::now();
    let scan = archive::scan(&mut input, 0)?;
    print(&figure(name("import_check"), megabytes(exported.bytes, begun.elapsed()), "MB/s", None));

    // The founder's device: all keys are sealed to it in the export.
    let key = SecretKey::from_bytes(&history.village.secrets().0);
    let config = ReplicaConfig {
        path: folder.path().join("store.db"),
        community,
        sealing: SealingKey::of_device(&key),
        signer: Arc::new(key),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        view_cursors: Vec::new(),
    };
    let (replica, thread) = Replica::open(config, |_| ())?;
    for what in ["import", "import_again"] {
        let begun = Instant::now();
        let imported = archive::import(&replica, &mut input, &scan, &exported.waypoints, None)?;
        let took = begun.elapsed();
        anyhow::ensure!(imported.refused + imported.deferred == 0, "{imported:?}");
        print(&figure(name(what), per_second(history.size, took), "changes/s", None));
    }
    drop(replica);
    drop(thread.join());
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn megabytes(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9)
}
