//! The iroh shell: one endpoint, five protocols, links to every member.
//!
//! A supervisor task keeps one link per member alive: it dials, each dial with
//! its own deadline, and backs off with jitter. A link runs sync exchanges
//! when a hint, a timer or a new connection asks for one. Everything that
//! decides is elsewhere: [`crate::session`] (sync), [`crate::replica`] (truth).

mod admission;
mod exchange;
mod hints;
mod join;
mod link;
mod peers;
pub mod probe;
mod stage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::{Connection, QuicTransportConfig, presets};
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use exo_model::id::{CommunityId, DeviceId};
use exo_model::invite::Contact;
use exo_model::signature::SecretKey;

use crate::blobs::{
    BlobAccess, Blobs, BlobsError, Dialling, FetchError, FetchProgress, FetchRequest, Fetched,
};
use crate::replica::Replica;

pub use join::{JoinProgress, JoinStatus};
pub use peers::{PeerPath, PeerStatus};
pub use stage::{STAGE_FRAME_BYTES_MAX, StageReceiver, StageSender, StageStream};

/// Sync exchanges.
pub const ALPN_SYNC: &[u8] = b"exo/sync/1";
/// Requests to be admitted.
pub const ALPN_JOIN: &[u8] = b"exo/join/1";
/// Inference frames between stages.
pub const ALPN_STAGE: &[u8] = b"exo/stage/0";

/// Longest wait for a connection; iroh's own is 30 s.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait for peers to confirm that this device says goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Unread bytes that one connection may hold here.
const RECEIVE_WINDOW_BYTES: u32 = 16 << 20;
/// Streams a peer may have open on one connection, in each direction.
const STREAMS_PER_CONNECTION_MAX: u32 = 64;
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
    /// The community's truth.
    pub replica: Replica,
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
    /// The blob store cannot be opened.
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    /// Gossip is not possible.
    #[error("gossip: {0}")]
    Gossip(String),
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
    me: DeviceId,
    replica: Replica,
    addresses: MemoryLookup,
    peers: peers::Peers,
    refusals: Mutex<Vec<RefusalNote>>,
    refusal_count: watch::Sender<u64>,
    blobs: Blobs,
    switch: admission::Switch,
    stage_connections: Mutex<std::collections::BTreeMap<DeviceId, Connection>>,
}

impl Inner {
    /// Connects with our own deadline.
    async fn dial(&self, device: DeviceId, alpn: &[u8]) -> Result<Connection, LinkError> {
        let id = endpoint_id(&device).ok_or(LinkError::NoSuchDevice(device))?;
        match tokio::time::timeout(DIAL_DEADLINE, self.endpoint.connect(EndpointAddr::new(id), alpn)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(LinkError::Connection { device, reason: error.to_string() }),
            Err(_) => Err(LinkError::Deadline(device)),
        }
    }

    fn learn(&self, device: &DeviceId, addresses: &[String]) {
        let Some(id) = endpoint_id(device) else { return };
        let parsed = addresses.iter().filter_map(|address| address.parse::<SocketAddr>().ok());
        let mut info = EndpointAddr::new(id);
        for address in parsed {
            info = info.with_ip_addr(address);
        }
        if !info.is_empty() {
            self.addresses.add_endpoint_info(info);
        }
    }

    fn note_refusal(&self, device: DeviceId, reason: String) {
        tracing::warn!(peer = %device, %reason, "refused");
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() == REFUSALS_KEPT {
            refusals.remove(0);
        }
        refusals.push(RefusalNote { device, reason });
        drop(refusals);
        self.refusal_count.send_modify(|count| *count += 1);
    }
}

/// The running mesh of one community. Dropping it does not stop it; call
/// [`Mesh::close`].
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
    router: Router,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Mesh {
    /// Opens the endpoint and starts answering and dialling. Returns the mesh
    /// and the queue of stage streams that peers open.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn start(config: MeshConfig) -> Result<(Self, mpsc::Receiver<StageStream>), MeshError> {
        let me = DeviceId::from_bytes(config.secret.public_bytes());
        let switch = admission::Switch::default();
        let endpoint = bind(&config, switch.clone()).await?;
        let addresses = MemoryLookup::new();
        if let Ok(lookups) = endpoint.address_lookup() {
            lookups.add(addresses.clone());
        }
        let access = Arc::new(MembersGet(config.replica.clone()));
        let (blobs, blobs_protocol) = Blobs::open(&config.blobs_dir, access).await?;
        blobs.adopt(config.replica.state().id).await?;
        let inner = Arc::new(Inner {
            endpoint: endpoint.clone(),
            me,
            replica: config.replica,
            addresses,
            peers: peers::Peers::default(),
            refusals: Mutex::default(),
            refusal_count: watch::Sender::new(0),
            blobs,
            switch,
            stage_connections: Mutex::default(),
        });
        let gossip = iroh_gossip::net::Gossip::builder().spawn(endpoint.clone());
        let (stage_inbox, stages) = mpsc::channel(STAGE_INBOX);
        let router = Router::builder(endpoint)
            .accept(ALPN_SYNC, link::SyncProtocol::new(inner.clone()))
            .accept(ALPN_JOIN, join::JoinProtocol::new(inner.clone()))
            .accept(ALPN_STAGE, stage::StageProtocol::new(stage_inbox))
            .accept(iroh_blobs::ALPN, blobs_protocol)
            .accept(iroh_gossip::ALPN, gossip.clone())
            .spawn();
        let hints = hints::spawn(inner.clone(), &gossip).await?;
        let supervisor = tokio::spawn(link::supervise(inner.clone()));
        let tender = tokio::spawn(link::tend(inner.clone()));
        let mesh = Self { inner, router, tasks: Arc::new(Mutex::new(vec![hints, supervisor, tender])) };
        Ok((mesh, stages))
    }

    /// This device.
    pub fn device(&self) -> DeviceId {
        self.inner.me
    }

    /// Where peers can reach this device, `ip:port`.
    pub fn local_addresses(&self) -> Vec<String> {
        self.inner.endpoint.addr().ip_addrs().map(ToString::to_string).collect()
    }

    /// The port listened on.
    pub fn port(&self) -> Option<u16> {
        self.inner.endpoint.bound_sockets().first().map(SocketAddr::port)
    }

    /// Every other member with its link.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.inner.peers.statuses(&self.inner.replica.state(), &self.inner.me)
    }

    /// Signals whenever a link comes or goes.
    pub fn watch_peers(&self) -> watch::Receiver<u64> {
        self.inner.peers.watch()
    }

    /// The latest refusals, oldest first.
    pub fn refusals(&self) -> Vec<RefusalNote> {
        self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows how many hostile or broken things were refused since the start.
    pub fn watch_refusals(&self) -> watch::Receiver<u64> {
        self.inner.refusal_count.subscribe()
    }

    /// Model files.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Works offline, or online again. Offline closes every connection; what
    /// is written meanwhile is kept and exchanged later.
    pub fn set_online(&self, online: bool) {
        self.inner.switch.set_online(online);
        self.inner.peers.forget_pauses();
    }

    /// Whether this device talks to others at all.
    pub fn is_online(&self) -> bool {
        self.inner.switch.is_online()
    }

    /// Exchanges with `device` now, if it is linked.
    pub fn sync_soon(&self, device: &DeviceId) {
        self.inner.peers.nudge(device);
    }

    /// Asks the ticket's contacts, again and again, until one admits this
    /// device; the status can be watched.
    pub fn join(
        &self,
        ticket: &exo_model::invite::Ticket,
        certificate: exo_model::certificate::DeviceCertificate,
        name: String,
    ) -> JoinProgress {
        for Contact { device, addresses } in &ticket.contacts {
            self.inner.learn(device, addresses);
        }
        join::spawn(self.inner.clone(), ticket.clone(), certificate, name)
    }

    /// Opens a stream for inference frames to `device`.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn open_stage(&self, device: DeviceId) -> Result<StageStream, LinkError> {
        stage::open(&self.inner, device).await
    }

    /// Fetches the missing parts of a blob from whoever has them.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(
        &self,
        request: FetchRequest,
        progress: watch::Sender<FetchProgress>,
    ) -> Result<Fetched, FetchError> {
        let inner = self.inner.clone();
        let dial = move |device: DeviceId| -> Dialling {
            let inner = inner.clone();
            Box::pin(async move { inner.dial(device, iroh_blobs::ALPN).await })
        };
        self.inner.blobs.fetch(request, Arc::new(dial), progress).await
    }

    /// Says goodbye and stops.
    pub async fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
        }
        // Goodbyes are sent at once; waiting for a peer that is gone itself to
        // confirm one helps nobody.
        if tokio::time::timeout(GOODBYE, self.router.shutdown()).await.is_err() {
            tracing::debug!("a peer did not confirm the goodbye");
        }
        self.inner.blobs.close().await;
    }
}

/// Blobs go to members of the one community here.
struct MembersGet(Replica);

impl BlobAccess for MembersGet {
    fn is_member(&self, peer: &DeviceId, community: &CommunityId) -> bool {
        let state = self.0.state();
        state.id == *community && state.charter.is_member(peer)
    }
}

async fn bind(config: &MeshConfig, switch: admission::Switch) -> Result<Endpoint, MeshError> {
    let failed = |reason: String| MeshError::Bind { address: config.bind, reason };
    Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&config.secret.to_bytes()))
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr(config.bind)
        .map_err(|error| failed(error.to_string()))?
        .transport_config(transport())
        .hooks(admission::MembersOnly::new(config.replica.clone(), switch))
        .bind()
        .await
        .map_err(|error| failed(format!("{error:#}")))
}

/// Bounds what one connection may make us hold: QUIC's own default has no
/// limit for all streams together.
fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .receive_window(RECEIVE_WINDOW_BYTES.into())
        .max_concurrent_bidi_streams(STREAMS_PER_CONNECTION_MAX.into())
        .max_concurrent_uni_streams(STREAMS_PER_CONNECTION_MAX.into())
        .build()
}

fn endpoint_id(device: &DeviceId) -> Option<EndpointId> {
    EndpointId::from_bytes(device.as_bytes()).ok()
}

fn device_id(id: EndpointId) -> DeviceId {
    DeviceId::from_bytes(*id.as_bytes())
}
