//! Which members are linked, over which path, how far away.

use std::collections::BTreeMap;
use std::time::Duration;

use iroh::endpoint::Connection;

use exo_model::id::DeviceId;

use super::Inner;
use super::community::Here;
use crate::hub::Load;

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerPath {
    /// Straight, machine to machine.
    Direct,
    /// Through a relay.
    Relayed,
    /// There, as others say, without a link to this device.
    Near,
    /// Not at all, now.
    Offline,
}

impl PeerPath {
    /// The word shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::Near => "near",
            Self::Offline => "offline",
        }
    }
}

/// One other member's link.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The member's device.
    pub device: DeviceId,
    /// How it is reached.
    pub path: PeerPath,
    /// Round-trip time of the path, where there is one.
    pub rtt: Option<Duration>,
    /// How busy it is, as it says itself.
    pub load: Option<Load>,
}

/// Every member but this device.
pub(super) fn statuses(inner: &Inner, here: &Here) -> Vec<PeerStatus> {
    let links = inner.driver.connections();
    let loads = loads(inner, here);
    // A keeper reads no charter: it goes by its lists.
    let devices = here.replica().snapshot().devices();
    let others = devices.iter().filter(|device| **device != inner.me);
    others.map(|device| status(*device, links.get(device), loads.get(device).copied())).collect()
}

/// Members that are there now.
pub(super) fn online(inner: &Inner, here: &Here) -> impl Iterator<Item = DeviceId> + use<> {
    let statuses = statuses(inner, here);
    statuses.into_iter().filter(|peer| peer.path != PeerPath::Offline).map(|peer| peer.device)
}

fn loads(inner: &Inner, here: &Here) -> BTreeMap<DeviceId, Load> {
    let now_ms = inner.driver.now_ms();
    let devices = here.replica().snapshot().devices();
    inner.driver.ask(|hub| {
        let Some(presences) = hub.presences(&here.id()) else { return BTreeMap::new() };
        let load = |device: &DeviceId| Some((*device, presences.load(device, now_ms)?));
        devices.iter().filter_map(load).collect()
    })
}

fn status(device: DeviceId, connection: Option<&Connection>, load: Option<Load>) -> PeerStatus {
    let Some(connection) = connection.filter(|connection| connection.close_reason().is_none()) else {
        let path = if load.is_some() { PeerPath::Near } else { PeerPath::Offline };
        return PeerStatus { device, path, rtt: None, load };
    };
    let paths = connection.paths();
    // Between two ways none is selected; the first one tells what there is.
    let selected = paths.iter().find(iroh::endpoint::Path::is_selected).or_else(|| paths.iter().next());
    let path = match &selected {
        Some(path) if path.is_relay() => PeerPath::Relayed,
        _ => PeerPath::Direct,
    };
    PeerStatus { device, path, rtt: selected.map(|path| path.rtt()), load }
}
