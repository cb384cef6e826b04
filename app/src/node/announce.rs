//! Keeps what the community knows of this machine true.

use std::sync::Arc;
use std::time::Duration;

use exo_model::decide::Intent;
use exo_model::event::cluster::ADDRESSES_MAX;

use super::Membership;
use crate::engine::Engine;

/// How often the machine's addresses are looked at again.
const EVERY: Duration = Duration::from_secs(30);
/// Pause after an announcement that failed: a newcomer's first key may still be
/// on its way.
const RETRY: Duration = Duration::from_secs(1);

/// Publishes memory, speed and addresses whenever they differ from what the
/// state says. Ends with the replica.
pub(super) async fn run(membership: Arc<Membership>, engine: Arc<Engine>, offered_bytes: u64) {
    let mut snapshot = membership.replica().watch();
    let me = membership.mesh().device();
    loop {
        let state = snapshot.borrow_and_update().state.clone();
        let mut pause = EVERY;
        if state.charter.is_member(&me) {
            let mut addresses = membership.mesh().local_addresses();
            addresses.truncate(ADDRESSES_MAX);
            let published = state.machines.get(&me).cloned().unwrap_or_default();
            let micros_per_mib = engine.host().micros_per_mib().unwrap_or(published.micros_per_mib);
            let differs = published.memory_bytes != offered_bytes
                || published.addresses != addresses
                || differs_much(published.micros_per_mib, micros_per_mib);
            if differs {
                let intent = Intent::OfferMachine { memory_bytes: offered_bytes, micros_per_mib, addresses };
                if let Err(error) = membership.replica().record(intent).await {
                    tracing::warn!(%error, "this machine could not be announced");
                    pause = RETRY;
                }
            }
        }
        tokio::select! {
            joined = snapshot.wait_for(|snapshot| snapshot.state.charter.is_member(&me)), if !state.charter.is_member(&me) => {
                if joined.is_err() {
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
