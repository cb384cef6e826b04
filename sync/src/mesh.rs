//! The iroh shell: one endpoint for all of a node's communities.
//!
//! What happens on the network is told to the [`Hub`](crate::hub::Hub), and what
//! it says is done: dials, exchanges, hints. Everything that decides is
//! elsewhere: [`crate::hub`] (links), [`crate::session`] (sync),
//! [`crate::replica`] (truth).

mod addresses;
mod admission;
mod community;
mod driver;
mod exchange;
mod finding;
mod gossip;
mod homecoming;
mod join;
mod link;
mod notebook;
mod pairing;
mod peers;
pub mod probe;
mod receipts;
mod silence;
mod stage;
mod swarm;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::endpoint::{ConnectOptions, Connection, QuicTransportConfig, presets};
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use exo_model::charter::Relay;
use exo_model::id::DeviceId;
use exo_model::signature::SecretKey;

use crate::blobs::{Blobs, BlobsError};
use crate::hub::{Input, Load};
use crate::relay::{self, RelayTrust};
use crate::replica::Replica;

pub use admission::Traffic;
pub use community::CommunityMesh;
pub use finding::Finding;
pub use homecoming::HomecomingError;
pub use join::{JoinProgress, JoinStatus};
pub use pairing::{KnownCommunity, Paired, PairingError, PairingGuest, PairingHost, pair};
pub use peers::{PeerPath, PeerStatus};
pub use receipts::Delivery;
pub use stage::{STAGE_FRAME_BYTES_MAX, StageReceiver, StageSender, StageStream};

use addresses::AddressBook;
pub(crate) use driver::Communities;
use driver::Driver;

/// Sync exchanges.
pub const ALPN_SYNC: &[u8] = b"exo/sync/1";
/// Requests to be admitted.
pub const ALPN_JOIN: &[u8] = b"exo/join/1";
/// Requests of a person's new device to be enrolled by the phrase.
pub const ALPN_RETURN: &[u8] = b"exo/return/1";
/// Inference frames between stages.
pub const ALPN_STAGE: &[u8] = b"exo/stage/1";

/// Longest wait for a connection; iroh's own is 30 s.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait for peers to confirm that this device says goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Pause between looks whether what is remembered needs writing.
const SAVE_EVERY: Duration = Duration::from_secs(20);
/// Unread bytes that one connection may hold here.
const RECEIVE_WINDOW_BYTES: u32 = 16 << 20;
/// Streams a peer may have open on one connection, in each direction.
const STREAMS_PER_CONNECTION_MAX: u32 = 64;
/// Silence after which a connection is kept alive by whoever accepted it: iroh's
/// most.
const ACCEPTED_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The same by whoever dialled: earlier, so that not both do.
const DIALLED_KEEP_ALIVE: Duration = Duration::from_millis(4_750);
/// Stage streams that may wait to be picked up.
const STAGE_INBOX: usize = 32;
/// Refusals remembered for display.
const REFUSALS_KEPT: usize = 64;

/// What a mesh is started with.
pub struct MeshConfig {
    /// This device's key.
    pub secret: SecretKey,
    /// Local address to listen on; port 0 takes any free one.
    pub bind: SocketAddr,
    /// Folder of the blob store.
    pub blobs_dir: PathBuf,
    /// File of the addresses where devices were seen.
    pub addresses: PathBuf,
    /// How peers are found beyond what the communities themselves say.
    pub finding: Finding,
}

/// A mesh that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// A way of finding peers that was asked for does not work.
    #[error("finding peers by {way}: {reason}")]
    Finding {
        /// Which way.
        way: &'static str,
        /// Why.
        reason: String,
    },
    /// The blob store cannot be opened.
    #[error(transparent)]
    Blobs(#[from] BlobsError),
}

/// A peer that cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No answer in time.
    #[error("no answer from {0} within {seconds} seconds", seconds = DIAL_DEADLINE.as_secs())]
    Deadline(DeviceId),
    /// Not a key on the curve.
    #[error("{0} is not a device")]
    NoSuchDevice(DeviceId),
    /// The connection failed.
    #[error("connection to {device}: {reason}")]
    Connection {
        /// To whom.
        device: DeviceId,
        /// Why.
        reason: String,
    },
}

/// Something hostile or broken that a peer sent, and that was refused.
#[derive(Clone, Debug)]
pub struct RefusalNote {
    /// Who sent it.
    pub device: DeviceId,
    /// What was wrong with it.
    pub reason: String,
}

/// State shared by the mesh's tasks.
struct Inner {
    endpoint: Endpoint,
    secret: SecretKey,
    me: DeviceId,
    addresses: AddressBook,
    driver: Driver,
    swarm: swarm::Swarm,
    blobs: Blobs,
    switch: admission::Switch,
    stages: stage::StageConnections,
    relays: Relays,
    notes: Notes,
}

/// Relays that this node's communities name.
struct Relays {
    list: watch::Sender<Vec<Relay>>,
    /// The one that this device calls its home.
    home: watch::Sender<Option<String>>,
}

/// Refusals, for display.
struct Notes {
    refusals: Mutex<Vec<RefusalNote>>,
    count: watch::Sender<u64>,
}

impl Inner {
    /// Connects with our own deadline.
    async fn dial(&self, device: DeviceId, alpn: &[u8]) -> Result<Connection, LinkError> {
        let id = endpoint_id(&device).ok_or(LinkError::NoSuchDevice(device))?;
        match tokio::time::timeout(DIAL_DEADLINE, connect(&self.endpoint, EndpointAddr::new(id), alpn)).await
        {
            Ok(Ok(connection)) => {
                self.addresses.met(&connection);
                Ok(connection)
            }
            Ok(Err(reason)) => Err(LinkError::Connection { device, reason }),
            Err(_) => Err(LinkError::Deadline(device)),
        }
    }

    /// Works out which relays the communities name now.
    fn gather_relays(&self) {
        let mut relays: Vec<Relay> = Vec::new();
        for here in self.driver.communities().all() {
            relays.extend(here.relays());
        }
        relays.sort();
        relays.dedup();
        self.addresses.set_relays(relays.clone());
        self.relays.list.send_if_modified(|list| {
            let differs = *list != relays;
            if differs {
                *list = relays;
            }
            differs
        });
    }

    /// Closes what goes over a relay that is gone, of every protocol: iroh sends
    /// new connections to a peer where one that stands goes.
    fn leave_relay(&self, relay: &iroh::RelayUrl) {
        for (connection, _) in self.switch.heard() {
            if relay::goes_over(&connection, relay) {
                connection.close(driver::RELAY_GONE.into(), b"the relay is gone");
            }
        }
    }

    fn note_refusal(&self, device: DeviceId, reason: String) {
        tracing::warn!(peer = %device, %reason, "refused");
        let mut refusals = lock(&self.notes.refusals);
        if refusals.len() == REFUSALS_KEPT {
            refusals.remove(0);
        }
        refusals.push(RefusalNote { device, reason });
        drop(refusals);
        self.notes.count.send_modify(|count| *count += 1);
    }
}

/// The running mesh of a node. Dropping it does not stop it; call
/// [`Mesh::close`].
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
    router: Router,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Mesh {
    /// Opens the endpoint and starts answering; without any community yet.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn start(config: MeshConfig) -> Result<Self, MeshError> {
        let me = DeviceId::from_bytes(config.secret.public_bytes());
        let switch = admission::Switch::default();
        let driver = Driver::new(me);
        let trust = RelayTrust::default();
        let endpoint = bind(&config, switch.clone(), driver.communities(), &trust).await?;
        let addresses = AddressBook::open(config.addresses.clone(), &endpoint);
        let (blobs, blobs_protocol) = Blobs::open(&config.blobs_dir, Arc::new(driver.communities())).await?;
        let inner = Arc::new(Inner {
            endpoint: endpoint.clone(),
            secret: config.secret,
            me,
            addresses,
            driver,
            swarm: swarm::Swarm::spawn(me),
            blobs,
            switch,
            stages: stage::StageConnections::default(),
            relays: Relays { list: watch::Sender::new(Vec::new()), home: watch::Sender::new(None) },
            notes: Notes { refusals: Mutex::default(), count: watch::Sender::new(0) },
        });
        let router = Router::builder(endpoint)
            .accept(ALPN_SYNC, link::SyncProtocol::new(inner.clone()))
            .accept(ALPN_JOIN, join::JoinProtocol::new(inner.clone()))
            .accept(ALPN_RETURN, homecoming::HomecomingProtocol::new(inner.clone()))
            .accept(ALPN_STAGE, stage::StageProtocol::new(inner.clone()))
            .accept(iroh_blobs::ALPN, blobs_protocol)
            .spawn();
        let mut tasks = vec![tokio::spawn(driver::keep_time(inner.clone()))];
        tasks.push(tokio::spawn(keep(inner.clone())));
        tasks.push(tokio::spawn(silence::follow(inner.clone())));
        tasks.push(tokio::spawn(silence::wake(inner.clone())));
        tasks.extend(finding::spawn(&inner, &config.finding).await?);
        if config.finding.relays {
            tasks.push(tokio::spawn(finding::keep_home(inner.clone(), trust)));
        }
        Ok(Self { inner, router, tasks: Arc::new(Mutex::new(tasks)) })
    }

    /// Takes a community into the mesh. Returns it with the queue of stage streams
    /// that its members open.
    pub fn open(&self, replica: Replica) -> (CommunityMesh, mpsc::Receiver<StageStream>) {
        community::open(self, replica)
    }

    /// This device.
    pub fn device(&self) -> DeviceId {
        self.inner.me
    }

    /// Where peers can reach this device: `ip:port`, and the address of the relay
    /// that it calls its home.
    pub fn local_addresses(&self) -> Vec<String> {
        let sockets = self.inner.endpoint.addr().ip_addrs().map(ToString::to_string).collect::<Vec<_>>();
        sockets.into_iter().chain(self.inner.relays.home.borrow().clone()).collect()
    }

    /// The relay that this device calls its home, while it is connected there.
    pub fn home_relay(&self) -> Option<String> {
        self.inner.relays.home.borrow().clone()
    }

    /// The port listened on.
    pub fn port(&self) -> Option<u16> {
        self.inner.endpoint.bound_sockets().first().map(SocketAddr::port)
    }

    /// The latest refusals, oldest first.
    pub fn refusals(&self) -> Vec<RefusalNote> {
        lock(&self.inner.notes.refusals).clone()
    }

    /// Follows how many hostile or broken things were refused since the start.
    pub fn watch_refusals(&self) -> watch::Receiver<u64> {
        self.inner.notes.count.subscribe()
    }

    /// Model files and attachments.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Works offline, or online again. Offline closes every connection; what
    /// is written meanwhile is kept and exchanged later.
    pub fn set_online(&self, online: bool) {
        self.inner.switch.set_online(online);
        self.inner.hear(Input::Online(online));
    }

    /// Whether this device talks to others at all.
    pub fn is_online(&self) -> bool {
        self.inner.switch.is_online()
    }

    /// Whether any connection to a device stands.
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.inner.switch.is_connected(device)
    }

    /// What this device sent and received so far, over all connections.
    pub fn traffic(&self) -> Traffic {
        self.inner.switch.traffic()
    }

    /// The machine slept, or is on another network: looks for everyone again.
    pub async fn network_changed(&self) {
        self.inner.endpoint.network_change().await;
        self.inner.hear(Input::NetworkChanged);
    }

    /// Says how busy this machine is.
    pub fn set_load(&self, load: Load) {
        self.inner.hear(Input::Present(load));
    }

    /// Says goodbye and stops.
    pub async fn close(&self) {
        self.inner.driver.close_all().await;
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            task.abort();
        }
        self.inner.addresses.save();
        // Goodbyes are sent at once; waiting for a peer that is gone itself to
        // confirm one helps nobody.
        if tokio::time::timeout(GOODBYE, self.router.shutdown()).await.is_err() {
            tracing::debug!("a peer did not confirm the goodbye");
        }
        self.inner.blobs.close().await;
    }
}

/// Writes down now and then what a kill would make this node forget.
async fn keep(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        let saving = inner.clone();
        let save = move || {
            saving.addresses.save();
            saving.driver.communities().all().iter().for_each(|here| here.receipts().save());
        };
        let _ = tokio::task::spawn_blocking(save).await;
    }
}

async fn bind(
    config: &MeshConfig,
    switch: admission::Switch,
    communities: Communities,
    trust: &RelayTrust,
) -> Result<Endpoint, MeshError> {
    let failed = |reason: String| MeshError::Bind { address: config.bind, reason };
    let builder = Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&config.secret.to_bytes()));
    let builder =
        if config.finding.relays { trust.prepare(builder) } else { builder.relay_mode(RelayMode::Disabled) };
    builder
        .clear_ip_transports()
        .bind_addr(config.bind)
        .map_err(|error| failed(error.to_string()))?
        .transport_config(transport(ACCEPTED_KEEP_ALIVE))
        .hooks(admission::MembersOnly::new(communities, switch))
        .bind()
        .await
        .map_err(|error| failed(format!("{error:#}")))
}

async fn connect(endpoint: &Endpoint, to: EndpointAddr, alpn: &[u8]) -> Result<Connection, String> {
    let options = ConnectOptions::new().with_transport_config(transport(DIALLED_KEEP_ALIVE));
    let connecting =
        endpoint.connect_with_opts(to, alpn, options).await.map_err(|error| error.to_string())?;
    connecting.await.map_err(|error| error.to_string())
}

/// Bounds what one connection may make us hold: QUIC's own default has no
/// limit for all streams together.
fn transport(keep_alive: Duration) -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .receive_window(RECEIVE_WINDOW_BYTES.into())
        .max_concurrent_bidi_streams(STREAMS_PER_CONNECTION_MAX.into())
        .max_concurrent_uni_streams(STREAMS_PER_CONNECTION_MAX.into())
        .keep_alive_interval(keep_alive)
        .default_path_keep_alive_interval(keep_alive)
        .build()
}

fn endpoint_id(device: &DeviceId) -> Option<EndpointId> {
    EndpointId::from_bytes(device.as_bytes()).ok()
}

fn device_id(id: EndpointId) -> DeviceId {
    DeviceId::from_bytes(*id.as_bytes())
}

/// Nothing that could panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number in 0..1, to keep peers from acting in step. Not for secrets.
fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}
