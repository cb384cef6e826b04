//! Where devices were seen: what invites and cluster feeds say of them, and where
//! connections really stood. Kept in a file, because a bootstrap that is gone must
//! not split those it brought together.
//!
//! A device can also be reached over a relay: the one that it calls its home, or,
//! where it has not said which that is, the ones where it most likely is. Only
//! relays that a community names are used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::Connection;
use iroh::{Endpoint, EndpointAddr, RelayUrl, TransportAddr};
use minicbor::{Decode, Encode};

use exo_model::charter::Relay;
use exo_model::id::DeviceId;

use super::{device_id, endpoint_id, lock, notebook};
use crate::relay::choice;

/// Addresses remembered for one device; the ones that were not seen for the
/// longest time go.
const ADDRESSES_MAX: usize = 16;
/// Devices remembered; beyond it new ones are not.
const DEVICES_MAX: usize = 8_192;

/// The addresses of one device, the latest last.
#[derive(Clone, Debug, Encode, Decode)]
struct Seen {
    #[n(0)]
    device: DeviceId,
    #[n(1)]
    addresses: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// The latest last.
    addresses: Vec<SocketAddr>,
    /// The relay that it calls its home.
    home: Option<String>,
}

impl Known {
    fn note(&mut self, address: SocketAddr) {
        self.addresses.retain(|other| *other != address);
        self.addresses.push(address);
        let surplus = self.addresses.len().saturating_sub(ADDRESSES_MAX);
        self.addresses.drain(..surplus);
    }

    /// Where a device is, for iroh.
    fn info(&self, device: &DeviceId, relays: &[Relay]) -> Option<EndpointAddr> {
        let id = endpoint_id(device)?;
        let home = self.home.as_ref().filter(|home| relays.iter().any(|relay| relay.url == **home));
        let over: BTreeSet<RelayUrl> = match home.and_then(|home| home.parse().ok()) {
            Some(home) => BTreeSet::from([home]),
            None => choice::guess(device, relays),
        };
        let addresses = self.addresses.iter().copied().map(TransportAddr::Ip);
        Some(EndpointAddr::from_parts(id, addresses.chain(over.into_iter().map(TransportAddr::Relay))))
    }
}

#[derive(Debug, Default)]
struct Book {
    devices: BTreeMap<DeviceId, Known>,
    relays: Vec<Relay>,
    is_changed: bool,
}

/// All addresses that are known.
pub(super) struct AddressBook {
    path: PathBuf,
    lookup: MemoryLookup,
    book: Mutex<Book>,
}

impl AddressBook {
    /// Reads the file, if there is one, and gives the endpoint what it says. A
    /// damaged one is begun anew: everything in it comes again.
    pub(super) fn open(path: PathBuf, endpoint: &Endpoint) -> Self {
        let lookup = MemoryLookup::new();
        if let Ok(lookups) = endpoint.address_lookup() {
            lookups.add(lookup.clone());
        }
        let book = Self { path, lookup, book: Mutex::default() };
        for Seen { device, addresses } in notebook::read(&book.path) {
            book.learn(&device, &addresses);
        }
        lock(&book.book).is_changed = false;
        book
    }

    /// Notes addresses that somebody gives for a device: of sockets, and of the
    /// relay it calls its home.
    pub(super) fn learn(&self, device: &DeviceId, addresses: &[String]) {
        let mut home = None;
        let mut sockets = Vec::new();
        for address in addresses.iter().take(ADDRESSES_MAX) {
            match address.parse() {
                Ok(socket) => sockets.push(socket),
                Err(_) if address.starts_with("http") => home = Some(address.clone()),
                Err(_) => {}
            }
        }
        self.note(device, |known| {
            sockets.iter().for_each(|socket| known.note(*socket));
            if home.is_some() {
                known.home.clone_from(&home);
            }
        });
    }

    /// Notes where a connection stands.
    pub(super) fn met(&self, connection: &Connection) {
        let paths = connection.paths();
        self.note(&device_id(connection.remote_id()), |known| {
            for path in paths.iter() {
                if let TransportAddr::Ip(address) = path.remote_addr() {
                    known.note(*address);
                }
            }
        });
    }

    /// Goes by these relays from now on.
    pub(super) fn set_relays(&self, relays: Vec<Relay>) {
        let mut book = lock(&self.book);
        if book.relays == relays {
            return;
        }
        book.relays = relays;
        let infos: Vec<_> =
            book.devices.iter().filter_map(|(device, known)| known.info(device, &book.relays)).collect();
        drop(book);
        for info in infos {
            self.lookup.set_endpoint_info(info);
        }
    }

    fn note(&self, device: &DeviceId, change: impl FnOnce(&mut Known)) {
        let mut book = lock(&self.book);
        if book.devices.len() >= DEVICES_MAX && !book.devices.contains_key(device) {
            return;
        }
        let is_new = !book.devices.contains_key(device);
        let known = book.devices.entry(*device).or_default();
        let before = known.clone();
        change(known);
        if *known == before && !is_new {
            return;
        }
        let known = known.clone();
        book.is_changed = true;
        let info = known.info(device, &book.relays);
        drop(book);
        if let Some(info) = info {
            self.lookup.set_endpoint_info(info);
        }
    }

    /// Writes the file, if anything changed. Without it, the next start knows
    /// less; that is all.
    pub(super) fn save(&self) {
        let mut book = lock(&self.book);
        if !std::mem::take(&mut book.is_changed) {
            return;
        }
        let text = |known: &Known| {
            let sockets = known.addresses.iter().map(ToString::to_string);
            sockets.chain(known.home.clone()).collect()
        };
        let seen = book
            .devices
            .iter()
            .map(|(device, known)| Seen { device: *device, addresses: text(known) })
            .collect();
        drop(book);
        notebook::write(&self.path, &seen);
    }
}
