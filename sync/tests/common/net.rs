//! Real nodes on 127.0.0.1, and raw endpoints that keep to no protocol.

use std::net::SocketAddr;
use std::time::Duration;

use iroh::endpoint::{Connection, QuicTransportConfig, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use tokio::sync::mpsc;

use exo_model::decide::Intent;
use exo_model::id::{CommunityId, DeviceId};
use exo_model::invite::{Contact, Ticket};
use exo_sync::mesh::{CommunityMesh, Finding, JoinStatus, Mesh, MeshConfig, PeerPath, StageStream};
use exo_sync::replica::ReplicaError;
use exo_sync::session::{FRAME_BYTES_MAX, FeedHead, Frame, WIRE_VERSION_OLDEST};
use exo_sync::wire;

use super::{DEADLINE, Home, NOW, certificate, in_time, key, until};

/// A home with its mesh.
pub(crate) struct Node {
    pub(crate) home: Home,
    pub(crate) mesh: CommunityMesh,
    pub(crate) stages: mpsc::Receiver<StageStream>,
}

impl Node {
    pub(crate) async fn start(home: Home, port: u16) -> Self {
        let node = Mesh::start(MeshConfig {
            secret: key(home.seed),
            bind: SocketAddr::from(([127, 0, 0, 1], port)),
            blobs_dir: home.folder.path().join("blobs"),
            addresses: home.folder.path().join("addresses"),
            finding: Finding::NOTHING,
        })
        .await
        .expect("the mesh starts");
        let (mesh, stages) = node.open(home.replica.clone());
        Self { home, mesh, stages }
    }

    /// Founds a community and says where it can be reached.
    pub(crate) async fn found(seed: u8) -> Self {
        let node = Self::start(Home::found(seed), 0).await;
        node.offer().await;
        node
    }

    /// A node that knows nothing but the community's id.
    pub(crate) async fn newcomer(seed: u8, community: CommunityId) -> Self {
        Self::start(Home::empty(seed, community), 0).await
    }

    /// A newcomer that joined through this node and says where it is.
    pub(crate) async fn befriend(&self, seed: u8) -> Self {
        let ticket = self.home.invite(1, NOW + 1_000, vec![self.contact()]).await;
        let node = Self::newcomer(seed, self.home.community).await;
        node.joins(&ticket).await;
        node
    }

    /// Joins and waits for the end of it.
    pub(crate) async fn joins(&self, ticket: &Ticket) {
        let status = self.tries(ticket, |status| !matches!(status, JoinStatus::Trying { .. })).await;
        assert!(matches!(status, JoinStatus::Admitted | JoinStatus::Joined), "{status:?}");
        until("membership", || self.home.state().charter.is_member(&self.home.device())).await;
        until("a channel", || !self.home.state().charter.channels.is_empty()).await;
        self.offer().await;
    }

    /// Starts a join and waits for a status.
    pub(crate) async fn tries(&self, ticket: &Ticket, stop: impl FnMut(&JoinStatus) -> bool) -> JoinStatus {
        let join = self.mesh.join(ticket, certificate(self.home.seed), format!("Member {}", self.home.seed));
        let mut status = join.watch();
        let stopped = in_time("a join status", status.wait_for(stop)).await;
        stopped.expect("the join goes on").clone()
    }

    /// Publishes where this node is.
    pub(crate) async fn offer(&self) {
        let addresses = self.mesh.local_addresses();
        let intent = Intent::OfferMachine { memory_bytes: 0, micros_per_mib: 0, addresses };
        // A newcomer may know that it is in before it has a key to write with.
        let offered = async {
            loop {
                match self.home.replica.record(intent.clone()).await {
                    Err(ReplicaError::Compose(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                    result => return result.expect("a member may offer"),
                }
            }
        };
        in_time("a key to write with", offered).await;
    }

    pub(crate) fn contact(&self) -> Contact {
        Contact { device: self.home.device(), addresses: self.mesh.local_addresses() }
    }

    pub(crate) fn sees(&self, device: DeviceId) -> bool {
        self.mesh.peers().iter().any(|peer| peer.device == device && peer.path != PeerPath::Offline)
    }

    pub(crate) async fn linked_with(&self, others: &[&Self]) {
        for other in others {
            until("a link", || self.sees(other.home.device()) && other.sees(self.home.device())).await;
        }
    }

    /// What this node has and whom it sees, for failures.
    async fn portrait(&self) -> String {
        let feeds = self.home.replica.positions();
        let feeds: Vec<_> = feeds.iter().map(|(feed, end)| format!("{feed}:{}", end.seq)).collect();
        let (me, peers, notes) = (self.home.device(), self.mesh.peers(), self.mesh.refusals());
        format!("\n{me} has {feeds:?}\n  sees {peers:?}\n  notes {notes:?}")
    }

    /// Stops the network, keeps the replica.
    pub(crate) async fn close(self) -> Home {
        in_time("closing", self.mesh.node().close()).await;
        self.home
    }
}

/// Waits until all nodes have the same feeds and the same state.
#[track_caller]
pub(crate) fn converge(nodes: &[&Node]) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let equal = || nodes.windows(2).all(|pair| pair[0].home.digest() == pair[1].home.digest());
        let waiting = async {
            while !equal() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            let mut differing = String::new();
            for node in nodes {
                differing += &node.portrait().await;
            }
            panic!("{place}: different feeds{differing}");
        }
        for pair in nodes.windows(2) {
            assert_eq!(pair[0].home.state().hash(), pair[1].home.state().hash(), "{place}");
        }
    }
}

/// An endpoint with key number `seed` and no manners, whose receive window
/// for a stream is `window` bytes.
pub(crate) async fn raw_endpoint(seed: u8, alpns: &[&[u8]], window: u32) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&[seed; 32]))
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .expect("an address")
        .alpns(alpns.iter().map(|alpn| alpn.to_vec()).collect())
        .transport_config(QuicTransportConfig::builder().stream_receive_window(window.into()).build())
        .bind()
        .await
        .expect("a free port")
}

/// Connects to `node` whatever it thinks of that.
pub(crate) async fn raw_dial(endpoint: &Endpoint, node: &Node, alpn: &[u8]) -> Connection {
    let id = EndpointId::from_bytes(node.home.device().as_bytes()).expect("a key");
    let mut address = EndpointAddr::new(id);
    for socket in node.mesh.local_addresses() {
        address = address.with_ip_addr(socket.parse().expect("an address"));
    }
    in_time("a handshake", endpoint.connect(address, alpn)).await.expect("a connection")
}

/// A greeting of version 2.
pub(crate) fn hello(community: CommunityId, heads: Vec<FeedHead>) -> Frame {
    Frame::Hello { version: WIRE_VERSION_OLDEST, community, heads, window: None }
}

/// Opens a stream and writes `frames` to it.
pub(crate) async fn raw_exchange(connection: &Connection, frames: &[Frame]) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    for frame in frames {
        // The other side may hang up in the middle: that is what is tested.
        if wire::write(&mut send, frame, FRAME_BYTES_MAX).await.is_err() {
            break;
        }
    }
    (send, recv)
}
