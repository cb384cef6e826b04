//! Memory of an open community, measured in a process that does nothing else.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use exo_model::community::Community;
use exo_model::conversation::{Conversation, Place};
use exo_model::feed::{FeedPosition, gate};
use exo_model::id::{ChannelId, CommunityId};
use exo_model::port::{ChangeStore as _, Signer as _};
use exo_model::sealing::{EpochKey, SealingKey};
use exo_model::signature::SecretKey;
use exo_sync::store::Store;

use super::words::{History, take};

/// Bytes of changes read at once.
const READ_BYTES: usize = 512 * 1024;

/// Opens the history of `store` in a process of its own; returns the bytes of
/// memory that took.
pub(super) fn measure(history: &History, folder: &Path) -> anyhow::Result<u64> {
    let mut secrets = Vec::new();
    secrets.extend_from_slice(history.village.community.id().as_bytes());
    secrets.extend_from_slice(history.channel.as_bytes());
    let (device, governance) = history.village.secrets();
    secrets.extend_from_slice(&device);
    secrets.extend_from_slice(&governance);
    std::fs::write(folder.join("secrets"), &secrets)?;
    let program = std::env::current_exe()?;
    let output = Command::new(program).args(["bench", "model", "--open"]).arg(folder).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.trim().parse().context("the measuring process printed no number")
}

/// What that process does: reads the changes one run at a time, and keeps the
/// community and its conversation.
pub(in crate::bench) fn open(folder: &Path) -> anyhow::Result<u64> {
    let secrets = std::fs::read(folder.join("secrets"))?;
    let (id, rest) = secrets.split_first_chunk::<32>().context("secrets")?;
    let (channel, rest) = rest.split_first_chunk::<16>().context("secrets")?;
    let (device, rest) = rest.split_first_chunk::<32>().context("secrets")?;
    let (governance, _) = rest.split_first_chunk::<32>().context("secrets")?;
    let (id, key) = (CommunityId::from_bytes(*id), SecretKey::from_bytes(device));
    let store = Store::open(&folder.join("size.db"))?;
    let before = resident_bytes()?;
    let mut community = Community::new(id, key.device(), SealingKey::of_device(&key));
    community.learn_key(EpochKey::from_bytes(governance));
    let place = Place::Channel(ChannelId::from_bytes(*channel));
    let mut conversation = Conversation::new(id, place);
    for line in store.lines(id)? {
        let mut at = FeedPosition::START;
        while at.seq < line.end.seq {
            let run = store.read_run(line.id, at.seq, READ_BYTES)?.context("changes are missing")?;
            let run = gate::admit(run, &at)?;
            at = run.end();
            take(&mut community, &mut conversation, &run);
        }
    }
    let after = resident_bytes()?;
    std::hint::black_box((&community, &conversation));
    Ok(after.saturating_sub(before))
}

/// Memory of this process that is resident.
fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is read from /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1_024)
}
