//! Which members are linked, over which path, how far away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iroh::endpoint::Connection;
use tokio::sync::{Notify, watch};

use exo_model::community::CommunityState;
use exo_model::id::DeviceId;

/// First and longest pause between dials to one peer.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerPath {
    /// Straight, machine to machine.
    Direct,
    /// Through a relay.
    Relayed,
    /// Not at all, now.
    Offline,
}

impl PeerPath {
    /// The word shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
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
}

/// One connection to a peer. There can be two for a while, when both dialled.
struct Link {
    connection: Connection,
    nudge: Arc<Notify>,
}

#[derive(Default)]
struct Peer {
    /// Oldest first.
    links: Vec<Link>,
    dialling: bool,
    next_dial: Option<Instant>,
    pause: Option<Duration>,
}

/// The registry of links.
pub(super) struct Peers {
    by_device: Mutex<BTreeMap<DeviceId, Peer>>,
    changed: watch::Sender<u64>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { by_device: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Peers {
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A new link; the returned notification asks it to exchange.
    pub(super) fn linked(&self, device: DeviceId, connection: Connection) -> Arc<Notify> {
        let nudge = Arc::new(Notify::new());
        let link = Link { connection, nudge: nudge.clone() };
        let mut peers = self.lock();
        let peer = peers.entry(device).or_default();
        peer.dialling = false;
        peer.links.push(link);
        drop(peers);
        self.tell();
        nudge
    }

    /// An exchange with `device` succeeded: it knows us, so a lost link is
    /// worth dialling at once.
    pub(super) fn proven(&self, device: &DeviceId) {
        if let Some(peer) = self.lock().get_mut(device) {
            peer.pause = None;
        }
    }

    /// A link ended. What it may have been asked for is asked of the ones that
    /// are left; without one, the next dial waits.
    pub(super) fn ended(&self, device: DeviceId, connection: &Connection, jitter: f64) {
        let mut peers = self.lock();
        let peer = peers.entry(device).or_default();
        peer.links.retain(|link| link.connection.stable_id() != connection.stable_id());
        for link in &peer.links {
            link.nudge.notify_one();
        }
        if peer.links.is_empty() {
            peer.wait_longer(jitter);
        }
        drop(peers);
        self.tell();
    }

    /// Whether to dial `device` now; if so it counts as being dialled.
    pub(super) fn begin_dial(&self, device: DeviceId) -> bool {
        let mut peers = self.lock();
        let peer = peers.entry(device).or_default();
        let due = peer.next_dial.is_none_or(|at| at <= Instant::now());
        if !peer.links.is_empty() || peer.dialling || !due {
            return false;
        }
        peer.dialling = true;
        true
    }

    /// A dial failed: the next one waits twice as long, with jitter.
    pub(super) fn dial_failed(&self, device: DeviceId, jitter: f64) {
        let mut peers = self.lock();
        let peer = peers.entry(device).or_default();
        peer.dialling = false;
        peer.wait_longer(jitter);
    }

    /// Lets every peer be dialled at once: the network changed.
    pub(super) fn forget_pauses(&self) {
        for peer in self.lock().values_mut() {
            peer.pause = None;
            peer.next_dial = None;
        }
        self.tell();
    }

    /// Asks every link to `device` for an exchange; returns whether there is
    /// one.
    pub(super) fn nudge(&self, device: &DeviceId) -> bool {
        let peers = self.lock();
        let Some(peer) = peers.get(device) else { return false };
        peer.links.iter().for_each(|link| link.nudge.notify_one());
        !peer.links.is_empty()
    }

    /// Asks every link for an exchange.
    pub(super) fn nudge_all(&self) {
        for peer in self.lock().values() {
            peer.links.iter().for_each(|link| link.nudge.notify_one());
        }
    }

    /// Devices with a link.
    pub(super) fn online(&self) -> Vec<DeviceId> {
        self.lock().iter().filter(|(_, peer)| !peer.links.is_empty()).map(|(device, _)| *device).collect()
    }

    /// Every member but `me`.
    pub(super) fn statuses(&self, state: &CommunityState, me: &DeviceId) -> Vec<PeerStatus> {
        let peers = self.lock();
        state
            .charter
            .devices
            .keys()
            .filter(|device| *device != me)
            .map(|device| {
                let newest = peers.get(device).and_then(|peer| peer.links.last());
                status(*device, newest.map(|link| &link.connection))
            })
            .collect()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Peer>> {
        self.by_device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn wait_longer(&mut self, jitter: f64) {
        let pause = self.pause.map_or(BACK_OFF.0, |pause| (pause * 2).min(BACK_OFF.1));
        self.pause = Some(pause);
        self.next_dial = Some(Instant::now() + pause.mul_f64(0.5 + jitter));
    }
}

fn status(device: DeviceId, connection: Option<&Connection>) -> PeerStatus {
    let Some(connection) = connection.filter(|c| c.close_reason().is_none()) else {
        return PeerStatus { device, path: PeerPath::Offline, rtt: None };
    };
    let paths = connection.paths();
    let selected = paths.iter().find(iroh::endpoint::Path::is_selected);
    let path = match &selected {
        Some(path) if path.is_relay() => PeerPath::Relayed,
        _ => PeerPath::Direct,
    };
    PeerStatus { device, path, rtt: selected.map(|path| path.rtt()) }
}
