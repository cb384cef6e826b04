//! Keeps what the community knows of this machine true.

use std::time::Duration;

use exo_model::charter::Permission;
use exo_model::decide::Intent;
use exo_model::event::cluster::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use exo_sync::mesh::CommunityMesh;
use exo_sync::replica::Replica;

/// How often the machine's addresses are looked at again.
const EVERY: Duration = Duration::from_secs(30);
/// Longest pause after an announcement that failed: a newcomer's first key may still
/// be on its way, and when it is here the next one is made at once.
const RETRY: Duration = Duration::from_secs(1);

/// What this machine offers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offer {
    /// Memory for model weights and their caches, bytes.
    pub(super) memory_bytes: u64,
    /// Measured speed, if there is one yet.
    pub(super) micros_per_mib: Option<u32>,
}

/// Publishes memory, speed and addresses whenever they differ from what the
/// state says. Ends with the replica.
pub(super) async fn run(replica: Replica, mesh: CommunityMesh, offer: impl Fn() -> Offer + Send) {
    let (mut snapshot, mut news) = (replica.watch(), replica.watch());
    let me = mesh.device();
    loop {
        news.mark_unchanged();
        let state = snapshot.borrow_and_update().state.clone();
        let (mut pause, mut has_failed) = (EVERY, false);
        if state.charter.role_of(&me).is_some_and(|role| role.may(Permission::Share)) {
            let mut addresses = mesh.local_addresses();
            // A relay with a longer name is found by trying those of the community.
            addresses.retain(|address| address.len() <= ADDRESS_BYTES_MAX);
            addresses.truncate(ADDRESSES_MAX);
            let published = state.machines.get(&me).cloned().unwrap_or_default();
            let Offer { memory_bytes, micros_per_mib } = offer();
            let micros_per_mib = micros_per_mib.unwrap_or(published.micros_per_mib);
            let differs = published.memory_bytes != memory_bytes
                || published.addresses != addresses
                || differs_much(published.micros_per_mib, micros_per_mib);
            if differs {
                let intent = Intent::OfferMachine { memory_bytes, micros_per_mib, addresses };
                if let Err(error) = replica.record(intent).await {
                    tracing::warn!(%error, "this machine could not be announced");
                    (pause, has_failed) = (RETRY, true);
                }
            }
        }
        tokio::select! {
            joined = snapshot.wait_for(|snapshot| snapshot.state.charter.is_member(&me)), if !state.charter.is_member(&me) => {
                if joined.is_err() {
                    return;
                }
            }
            changed = news.changed(), if has_failed => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Small changes of a measured speed are noise, not news.
fn differs_much(published: u32, measured: u32) -> bool {
    measured.abs_diff(published) > published / 4
}
