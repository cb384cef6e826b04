//! The machines of the others.

use exo_model::id::DeviceId;
use exo_sync::hub::Load;
use serde::{Deserialize, Serialize};

use crate::node::Membership;

/// A linked machine, or one that could be.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PeerReport {
    pub(crate) device: String,
    pub(crate) name: String,
    /// `direct`, `relayed`, `near` (others say that it is there) or `offline`.
    pub(crate) path: String,
    pub(crate) rtt_ms: Option<f64>,
    /// How busy it is, as it says itself.
    pub(crate) load: Option<LoadReport>,
    pub(crate) offered_bytes: u64,
    /// Hosted layers as `[first, one past last]`, by model name.
    pub(crate) hosts: Vec<(String, [u32; 2])>,
}

impl PeerReport {
    pub(crate) fn all(membership: &Membership) -> Vec<Self> {
        let state = membership.replica().state();
        let machine_of = |device: &DeviceId| state.machines.get(device).cloned().unwrap_or_default();
        membership
            .mesh()
            .peers()
            .into_iter()
            .map(|peer| {
                let machine = machine_of(&peer.device);
                let hosts = machine
                    .shards
                    .iter()
                    .filter_map(|(model, layers)| {
                        let name = state.models.get(model)?.manifest.name.clone();
                        Some((name, [layers.start(), layers.end()]))
                    })
                    .collect();
                Self {
                    device: peer.device.to_hex(),
                    name: state.charter.name_of(&peer.device),
                    path: peer.path.as_str().to_owned(),
                    rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
                    load: peer.load.map(LoadReport::of),
                    offered_bytes: machine.memory_bytes,
                    hosts,
                }
            })
            .collect()
    }
}

/// How busy a machine is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct LoadReport {
    /// Processor time in use, per cent; absent where its system does not tell.
    pub(crate) cpu_percent: Option<u8>,
    /// Memory that is free for models, MiB.
    pub(crate) free_mib: u32,
    /// Sessions of others that it serves.
    pub(crate) sessions: u16,
}

impl LoadReport {
    fn of(load: Load) -> Self {
        let Load { cpu_percent, free_mib, sessions } = load;
        Self { cpu_percent: Some(cpu_percent).filter(|percent| *percent <= 100), free_mib, sessions }
    }
}
