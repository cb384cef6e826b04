//! Finding peers beyond what invites and cluster feeds say: on the local network,
//! and, only where somebody switched it on, through the mainline DHT.

use std::sync::Arc;

use iroh::address_lookup::AddrFilter;
use iroh_mainline_address_lookup::DhtAddressLookup;
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use n0_future::StreamExt as _;
use tokio::task::JoinHandle;

use super::{Inner, MeshError, device_id};
use crate::hub::Input;

/// Name of the service on the local network.
const SERVICE: &str = "exo-studio";

/// How peers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// By multicast DNS: whoever is on the same local network can see that this
    /// device runs the program, and where.
    pub local_network: bool,
    /// By the mainline DHT, the one that BitTorrent uses: strangers store this
    /// device's addresses under its key, and learn who looks for whom.
    pub dht: bool,
}

impl Finding {
    /// Neither.
    pub const NOTHING: Self = Self { local_network: false, dht: false };
}

impl Default for Finding {
    /// The local network and nothing else: nobody outside is asked.
    fn default() -> Self {
        Self { local_network: true, dht: false }
    }
}

/// Starts what is switched on.
pub(super) async fn spawn(inner: &Arc<Inner>, finding: &Finding) -> Result<Vec<JoinHandle<()>>, MeshError> {
    let mut tasks = Vec::new();
    let lookups = inner.endpoint.address_lookup().ok().cloned();
    if finding.local_network {
        match MdnsAddressLookup::builder().service_name(SERVICE).build(inner.endpoint.id()) {
            Ok(mdns) => {
                if let Some(lookups) = &lookups {
                    lookups.add(mdns.clone());
                }
                tasks.push(tokio::spawn(watch(inner.clone(), mdns)));
            }
            // A machine without multicast is no reason not to start.
            Err(error) => tracing::warn!(%error, "the local network cannot be searched"),
        }
    }
    if finding.dht {
        let failed = |reason: String| MeshError::Finding { way: "the DHT", reason };
        let dht = DhtAddressLookup::builder()
            .secret_key(inner.endpoint.secret_key().clone())
            // Unless told otherwise it would store the relay's address only.
            .addr_filter(AddrFilter::unfiltered())
            .build()
            .map_err(|error| failed(error.to_string()))?;
        if let Some(lookups) = &lookups {
            lookups.add(dht);
        }
    }
    Ok(tasks)
}

/// Whoever comes up nearby is worth a dial at once.
async fn watch(inner: Arc<Inner>, mdns: MdnsAddressLookup) {
    let mut events = mdns.subscribe().await;
    while let Some(event) = events.next().await {
        if let DiscoveryEvent::Discovered { endpoint_info, .. } = event {
            inner.hear(Input::Seen(device_id(endpoint_info.endpoint_id)));
        }
    }
}
