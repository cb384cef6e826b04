//! What machines offer and host, and which models there are.
//!
//! Of a device the latest word counts, by its own order; of two manifests of
//! one file the earlier one stands, by Lamport time and hash. Devices that
//! take part no longer are left out when the state is made.

use std::collections::BTreeMap;

use crate::event::cluster::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, ClusterEvent};
use crate::feed::VerifiedEvent;
use crate::id::{BlobHash, ChangeHash, DeviceId};
use crate::weights::{LayerRange, ModelManifest};

/// Most models of one community.
pub const MODELS_MAX: usize = 1_024;
/// Most models one machine can host parts of.
pub const SHARDS_PER_MACHINE_MAX: usize = 64;

/// What one member's machine offers and hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Memory offered for weights and caches, bytes.
    pub memory_bytes: u64,
    /// Measured speed, µs per MiB of weights and token; 0 when unknown.
    pub micros_per_mib: u32,
    /// Where it can be reached, `ip:port`.
    pub addresses: Vec<String>,
    /// Layers it holds ready, by model.
    pub shards: BTreeMap<BlobHash, LayerRange>,
}

/// A model known to the community.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Where its layers lie.
    pub manifest: ModelManifest,
    /// Devices that hold the whole file, in order.
    pub holders: Vec<DeviceId>,
}

/// A place in a device's own feed: segment, sequence number and, where its
/// lines part, the hash.
type Place = (u32, u64, ChangeHash);

#[derive(Clone, Debug, Default)]
struct Offered {
    at: Option<Place>,
    memory_bytes: u64,
    micros_per_mib: u32,
    addresses: Vec<String>,
    shards: BTreeMap<BlobHash, (Option<Place>, Option<LayerRange>)>,
}

/// Every machine's latest word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machines(BTreeMap<DeviceId, Offered>);

impl Machines {
    /// Takes a cluster event; in any order, more than once.
    pub(crate) fn insert(&mut self, event: &VerifiedEvent, body: &ClusterEvent) -> bool {
        let place = Some((event.feed.segment, event.seq, event.hash));
        let machine = self.0.entry(event.feed.device).or_default();
        match body {
            ClusterEvent::MachineOffered { memory_bytes, micros_per_mib, addresses } => {
                let newer = place > machine.at && are_addresses(addresses);
                if newer {
                    machine.at = place;
                    machine.memory_bytes = *memory_bytes;
                    machine.micros_per_mib = *micros_per_mib;
                    machine.addresses.clone_from(addresses);
                }
                newer
            }
            // A derived decoder does not know `LayerRange::new`'s rule.
            ClusterEvent::ShardHosted { model, layers } => {
                LayerRange::new(layers.start(), layers.end()).is_some()
                    && machine.put(*model, place, Some(*layers))
            }
            ClusterEvent::ShardDropped { model } => machine.put(*model, place, None),
        }
    }

    /// The machines of these devices.
    pub(crate) fn of(&self, is_there: impl Fn(&DeviceId) -> bool) -> BTreeMap<DeviceId, Machine> {
        let machines = self.0.iter().filter(|(device, _)| is_there(device));
        machines.map(|(device, offered)| (*device, offered.machine())).collect()
    }
}

impl Offered {
    fn put(&mut self, model: BlobHash, place: Option<Place>, layers: Option<LayerRange>) -> bool {
        let known = self.shards.entry(model).or_default();
        let newer = place > known.0;
        if newer {
            *known = (place, layers);
        }
        newer
    }

    /// Of more shards than allowed, the latest stand.
    fn machine(&self) -> Machine {
        let mut hosted: Vec<_> =
            self.shards.iter().filter_map(|(model, (at, layers))| Some((*at, *model, (*layers)?))).collect();
        hosted.sort_unstable_by(|one, other| other.cmp(one));
        hosted.truncate(SHARDS_PER_MACHINE_MAX);
        Machine {
            memory_bytes: self.memory_bytes,
            micros_per_mib: self.micros_per_mib,
            addresses: self.addresses.clone(),
            shards: hosted.into_iter().map(|(_, model, layers)| (model, layers)).collect(),
        }
    }
}

/// Every manifest that was posted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models(BTreeMap<BlobHash, Manifests>);

/// Manifests of one file, by Lamport time and hash, with who posted each.
type Manifests = BTreeMap<(u64, ChangeHash), (DeviceId, ModelManifest)>;

impl Models {
    /// Takes a manifest; in any order, more than once.
    pub(crate) fn insert(&mut self, event: &VerifiedEvent, manifest: &ModelManifest) -> bool {
        if manifest.check().is_err() {
            return false;
        }
        let posted = self.0.entry(manifest.file).or_default();
        posted.insert(event.order(), (event.feed.device, manifest.clone())).is_none()
    }

    /// The models that these devices share: of a file's manifests the first
    /// stands, and whoever posted the same holds the file. Whoever fetches
    /// compares it with the file's own header.
    pub(crate) fn of(&self, is_there: impl Fn(&DeviceId) -> bool) -> BTreeMap<BlobHash, Model> {
        let mut models = BTreeMap::new();
        let mut oldest: Vec<_> = self.0.iter().collect();
        oldest.sort_unstable_by_key(|(_, posted)| posted.keys().next().copied());
        for (file, posted) in oldest {
            let mut posted = posted.values().filter(|(device, _)| is_there(device));
            let Some((first, manifest)) = posted.next() else { continue };
            let mut holders = vec![*first];
            for (device, other) in posted {
                if other == manifest && !holders.contains(device) {
                    holders.push(*device);
                }
            }
            if models.len() < MODELS_MAX {
                models.insert(*file, Model { manifest: manifest.clone(), holders });
            }
        }
        models
    }
}

/// Whether a list of addresses is bounded and each is `ip:port`.
pub(crate) fn are_addresses(addresses: &[String]) -> bool {
    addresses.len() <= ADDRESSES_MAX
        && addresses.iter().all(|address| {
            address.len() <= ADDRESS_BYTES_MAX && address.parse::<std::net::SocketAddr>().is_ok()
        })
}
