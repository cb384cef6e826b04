//! Whom a relay serves.
//!
//! Asked once for each connection, after the device has proven its key, and
//! again for all that are connected when the list changes and every few
//! seconds: whoever is no longer admitted is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use exo_model::id::DeviceId;
use iroh::EndpointId;
use iroh_relay::server::{Access, AccessControl, ClientRequest, ConnectionId};
use tokio::sync::watch;

/// Connections one device may have: an old one that is about to end beside the
/// new one, after its network has changed.
const CONNECTIONS_PER_DEVICE_MAX: usize = 4;

/// Says whether a device may use the relay. Called often: it must not block.
pub type Admits = Arc<dyn Fn(&DeviceId) -> bool + Send + Sync>;

/// Devices that may use a relay; can change while the relay runs.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    devices: watch::Sender<BTreeSet<DeviceId>>,
}

impl AllowList {
    /// A list of these devices.
    pub fn new(devices: BTreeSet<DeviceId>) -> Self {
        Self { devices: watch::Sender::new(devices) }
    }

    /// Puts other devices in the place of all there were.
    pub fn replace(&self, devices: BTreeSet<DeviceId>) {
        self.devices.send_if_modified(|old| {
            let changed = *old != devices;
            *old = devices;
            changed
        });
    }

    fn admits(&self, device: &DeviceId) -> bool {
        self.devices.borrow().contains(device)
    }
}

/// Whom a relay serves.
#[derive(Clone)]
pub enum RelayAccess {
    /// Whoever finds it.
    Open,
    /// Devices on a list.
    Listed(AllowList),
    /// Devices that somebody else answers for, such as a node for the members
    /// of its community.
    Members(Admits),
}

impl RelayAccess {
    fn admits(&self, device: &DeviceId) -> bool {
        match self {
            Self::Open => true,
            Self::Listed(list) => list.admits(device),
            Self::Members(admits) => admits(device),
        }
    }

    /// Waits until the list changes; for ever where there is none.
    pub(super) async fn changed(&self, seen: &mut Option<watch::Receiver<BTreeSet<DeviceId>>>) {
        let Self::Listed(list) = self else { return std::future::pending().await };
        // The list is held here too, so the sender is never gone.
        let _ = seen.get_or_insert_with(|| list.devices.subscribe()).changed().await;
    }
}

impl std::fmt::Debug for RelayAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Listed(_) => "Listed",
            Self::Members(_) => "Members",
        })
    }
}

/// The door of one relay.
#[derive(Debug)]
pub(super) struct Door {
    access: RelayAccess,
    connections_max: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    devices: BTreeMap<EndpointId, usize>,
    connections: usize,
    refused: u64,
    full: u64,
}

/// How it went at the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DoorFigures {
    /// Devices connected now.
    pub(super) devices: usize,
    /// Connections now.
    pub(super) connections: usize,
    /// Refused because they may not.
    pub(super) refused: u64,
    /// Refused because there was no room.
    pub(super) full: u64,
}

impl Door {
    pub(super) fn new(access: RelayAccess, connections_max: usize) -> Self {
        Self { access, connections_max, inside: Mutex::default() }
    }

    pub(super) fn access(&self) -> &RelayAccess {
        &self.access
    }

    pub(super) fn figures(&self) -> DoorFigures {
        let inside = self.inside();
        DoorFigures {
            devices: inside.devices.len(),
            connections: inside.connections,
            refused: inside.refused,
            full: inside.full,
        }
    }

    /// Who is inside.
    pub(super) fn everyone(&self) -> Vec<EndpointId> {
        self.inside().devices.keys().copied().collect()
    }

    /// Who is inside and may not be there any more.
    pub(super) fn unwelcome(&self) -> Vec<EndpointId> {
        self.everyone().into_iter().filter(|id| !self.access.admits(&device(id))).collect()
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, id: EndpointId) -> Result<(), &'static str> {
        let admitted = self.access.admits(&device(&id));
        let mut inside = self.inside();
        if !admitted {
            inside.refused += 1;
            return Err("this relay serves the members of its community only");
        }
        let connections = inside.devices.get(&id).copied().unwrap_or(0);
        if inside.connections >= self.connections_max || connections >= CONNECTIONS_PER_DEVICE_MAX {
            inside.full += 1;
            return Err("this relay is full");
        }
        inside.connections += 1;
        *inside.devices.entry(id).or_default() += 1;
        Ok(())
    }

    fn leave(&self, id: EndpointId) {
        let mut inside = self.inside();
        let Some(connections) = inside.devices.get_mut(&id) else { return };
        *connections -= 1;
        if *connections == 0 {
            inside.devices.remove(&id);
        }
        inside.connections -= 1;
    }
}

/// What iroh asks; the door is shared with the relay's handle.
#[derive(Debug)]
pub(super) struct Doorkeeper(pub(super) Arc<Door>);

impl AccessControl for Doorkeeper {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        match self.0.enter(request.endpoint_id()) {
            Ok(()) => Access::Allow,
            Err(reason) => {
                tracing::debug!(device = %device(&request.endpoint_id()), reason, "relay: refused");
                Access::Deny { reason: Some(reason.into()) }
            }
        }
    }

    fn on_disconnect(&self, endpoint_id: EndpointId, _: ConnectionId) {
        self.0.leave(endpoint_id);
    }
}

fn device(id: &EndpointId) -> DeviceId {
    DeviceId::from_bytes(*id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seed: u8) -> EndpointId {
        iroh::SecretKey::from_bytes(&[seed; 32]).public()
    }

    #[test]
    fn there_is_room_for_so_many_connections_and_no_more() {
        let door = Door::new(RelayAccess::Open, 6);
        for _ in 0..CONNECTIONS_PER_DEVICE_MAX {
            door.enter(id(1)).unwrap();
        }
        assert!(door.enter(id(1)).is_err(), "one device takes not all");
        door.enter(id(2)).unwrap();
        door.enter(id(3)).unwrap();
        assert!(door.enter(id(4)).is_err(), "full");
        assert_eq!(door.figures(), DoorFigures { devices: 3, connections: 6, refused: 0, full: 2 });
        door.leave(id(2));
        door.enter(id(4)).unwrap();
        door.leave(id(9));
        assert_eq!(door.figures().connections, 6, "who was not inside does not leave");
    }

    #[test]
    fn who_is_struck_off_the_list_is_unwelcome() {
        let list = AllowList::new([device(&id(1)), device(&id(2))].into());
        let door = Door::new(RelayAccess::Listed(list.clone()), 6);
        door.enter(id(1)).unwrap();
        door.enter(id(2)).unwrap();
        assert!(door.enter(id(3)).is_err());
        assert_eq!(door.unwelcome(), []);
        list.replace([device(&id(2)), device(&id(3))].into());
        assert_eq!(door.unwelcome(), [id(1)]);
        door.enter(id(3)).unwrap();
        assert_eq!(door.figures().refused, 1);
    }
}
