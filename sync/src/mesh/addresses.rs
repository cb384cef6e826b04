//! Where devices were seen: what invites and cluster feeds say of them, and where
//! connections really stood. Kept in a file, because a bootstrap that is gone must
//! not split those it brought together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::Connection;
use iroh::{Endpoint, EndpointAddr, TransportAddr};
use minicbor::{Decode, Encode};

use exo_model::codec;
use exo_model::id::DeviceId;

use super::{Inner, device_id, endpoint_id, lock};

/// Addresses remembered for one device; the ones that were not seen for the
/// longest time go.
const ADDRESSES_MAX: usize = 16;
/// Devices remembered; beyond it new ones are not.
const DEVICES_MAX: usize = 8_192;
/// Longest file.
const FILE_BYTES_MAX: usize = 16 << 20;
/// Pause between looks whether the file needs writing.
const SAVE_EVERY: Duration = Duration::from_secs(20);

/// The addresses of one device, the latest last.
#[derive(Clone, Debug, Encode, Decode)]
struct Seen {
    #[n(0)]
    device: DeviceId,
    #[n(1)]
    addresses: Vec<String>,
}

#[derive(Debug, Default)]
struct Book {
    devices: BTreeMap<DeviceId, Vec<SocketAddr>>,
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
        for Seen { device, addresses } in book.read() {
            book.learn(&device, &addresses);
        }
        lock(&book.book).is_changed = false;
        book
    }

    fn read(&self) -> Vec<Seen> {
        let fits = std::fs::metadata(&self.path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX as u64);
        let bytes = if fits { std::fs::read(&self.path).unwrap_or_default() } else { Vec::new() };
        codec::decode(&bytes, FILE_BYTES_MAX).unwrap_or_default()
    }

    /// Notes addresses that somebody gives for a device.
    pub(super) fn learn(&self, device: &DeviceId, addresses: &[String]) {
        let parsed = addresses.iter().filter_map(|address| address.parse().ok());
        self.note(device, parsed.take(ADDRESSES_MAX));
    }

    /// Notes where a connection stands.
    pub(super) fn met(&self, connection: &Connection) {
        let paths = connection.paths();
        let addresses = paths.iter().filter_map(|path| match path.remote_addr() {
            TransportAddr::Ip(address) => Some(*address),
            _ => None,
        });
        self.note(&device_id(connection.remote_id()), addresses);
    }

    fn note(&self, device: &DeviceId, addresses: impl Iterator<Item = SocketAddr>) {
        let Some(id) = endpoint_id(device) else { return };
        let mut book = lock(&self.book);
        if book.devices.len() >= DEVICES_MAX && !book.devices.contains_key(device) {
            return;
        }
        let known = book.devices.entry(*device).or_default();
        let before = known.clone();
        for address in addresses {
            known.retain(|other| *other != address);
            known.push(address);
        }
        let surplus = known.len().saturating_sub(ADDRESSES_MAX);
        known.drain(..surplus);
        if *known == before {
            return;
        }
        let info = EndpointAddr::from_parts(id, known.iter().copied().map(TransportAddr::Ip));
        book.is_changed = true;
        drop(book);
        self.lookup.set_endpoint_info(info);
    }

    /// Writes the file, if anything changed. Without it, the next start knows
    /// less; that is all.
    pub(super) fn save(&self) {
        let mut book = lock(&self.book);
        if !std::mem::take(&mut book.is_changed) {
            return;
        }
        let text = |addresses: &Vec<SocketAddr>| addresses.iter().map(ToString::to_string).collect();
        let seen: Vec<_> = book
            .devices
            .iter()
            .map(|(device, addresses)| Seen { device: *device, addresses: text(addresses) })
            .collect();
        drop(book);
        let fresh = self.path.with_extension("new");
        let written =
            std::fs::write(&fresh, codec::encode(&seen)).and_then(|()| std::fs::rename(&fresh, &self.path));
        if let Err(error) = written {
            tracing::warn!(%error, "addresses are not remembered");
        }
    }
}

/// Writes the file now and then.
pub(super) async fn keep(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        let saving = inner.clone();
        let _ = tokio::task::spawn_blocking(move || saving.addresses.save()).await;
    }
}
