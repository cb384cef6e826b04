//! Finding peers beyond what invites and cluster feeds say: on the local network,
//! and, only where somebody switched it on, through the mainline DHT.

use std::sync::Arc;

use iroh::RelayUrl;
use iroh::address_lookup::AddrFilter;
use iroh_mainline_address_lookup::DhtAddressLookup;
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use n0_future::StreamExt as _;
use tokio::task::JoinHandle;

use super::{Inner, MeshError, device_id};
use crate::hub::Input;
use crate::relay::{HomeRelay, RelayTrust};

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
    /// Over the relays that this device's communities name. Where they name none,
    /// nothing is contacted.
    pub relays: bool,
}

impl Finding {
    /// In no such way.
    pub const NOTHING: Self = Self { local_network: false, dht: false, relays: false };
}

impl Default for Finding {
    /// The local network and the communities' own relays: no third party is asked.
    fn default() -> Self {
        Self { local_network: true, dht: false, relays: true }
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

/// Keeps this device at a relay of its communities, and dials again whoever was
/// talked to over one that is gone.
pub(super) async fn keep_home(inner: Arc<Inner>, trust: RelayTrust) {
    let home = HomeRelay::keep(inner.endpoint.clone(), trust, inner.relays.list.subscribe());
    let mut status = home.watch();
    let mut before: Option<RelayUrl> = None;
    loop {
        let now = status.borrow_and_update().clone();
        let here = now.url.filter(|_| now.connected);
        if here != before {
            if let Some(gone) = before.take() {
                inner.leave_relay(&gone);
            }
            inner.relays.home.send_replace(here.as_ref().map(ToString::to_string));
            before = here;
            inner.hear(Input::NetworkChanged);
        }
        if status.changed().await.is_err() {
            return;
        }
    }
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
