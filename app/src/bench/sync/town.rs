//! A community as data folders, one for each device: nodes open them like any
//! other, and find that they have met before.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use exo_model::event::ClusterEvent;
use exo_model::feed::Stream;
use exo_sync::mesh::Finding;
use tempfile::TempDir;

use crate::bench::model::people::{Author, Village, admit_all};
use crate::bench::model::storage::append;
use crate::folder::{Folder, Profile, ProfileCommunity, write_private};
use crate::node::{Node, NodeOptions};

/// Changes in one run, as if they had come together.
const RUN: usize = 256;
/// Longest wait until all nodes have the same.
const MEETING: Duration = Duration::from_secs(60);

/// Data folders of a village's devices.
pub(super) struct Town {
    folder: TempDir,
    pub(super) village: Village,
}

impl Town {
    /// Lays out a folder for each of the village's devices, with all that was
    /// written, and where to reach the others.
    pub(super) fn lay_out(mut village: Village) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let ports = free_ports(village.authors.len())?;
        for (author, port) in ports.iter().enumerate() {
            let addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).to_string()];
            let offered = ClusterEvent::MachineOffered { memory_bytes: 0, micros_per_mib: 0, addresses };
            village.write(author, Stream::Cluster, &offered.into())?;
        }
        village.tend()?;
        let store = folder.path().join("store.db");
        append(&store, &admit_all(village.as_sent(RUN))?)?;
        let town = Self { folder, village };
        for (author, port) in town.village.authors.iter().zip(ports) {
            move_in(&town.home(author), author, &town.village, &store, Some(port))?;
        }
        Ok(town)
    }

    fn home(&self, author: &Author) -> PathBuf {
        self.folder.path().join(author.certificate.claims.device.to_hex())
    }

    /// Starts all nodes.
    pub(super) async fn wake(&self) -> anyhow::Result<Vec<Arc<Node>>> {
        let starting: Vec<_> = self.village.authors.iter().map(|author| self.home(author)).collect();
        let starting = starting.into_iter().map(|home| tokio::spawn(async move { start(&home).await }));
        let mut nodes = Vec::new();
        for node in starting.collect::<Vec<_>>() {
            nodes.push(node.await??);
        }
        Ok(nodes)
    }

    /// The founder's folder.
    pub(super) fn home_of_founder(&self) -> PathBuf {
        self.village.authors.first().map(|founder| self.home(founder)).unwrap_or_default()
    }

    /// An empty folder for somebody new.
    pub(super) fn empty_home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Puts a village's changes into the data folder of one of its devices.
pub(super) fn move_in(
    home: &Path,
    author: &Author,
    village: &Village,
    store: &Path,
    port: Option<u16>,
) -> anyhow::Result<()> {
    let folder = Folder::open(home)?;
    write_private(&home.join("device.key"), &author.key.to_bytes())?;
    folder.adopt(&author.certificate)?;
    let id = village.community.id();
    std::fs::copy(store, folder.community(&id)?.store())?;
    let mut profile = Profile { name: "Villager".into(), port, ..folder.profile()? };
    profile.communities.push(ProfileCommunity { id: id.to_hex(), joining: None });
    profile.current = Some(id.to_hex());
    folder.save_profile(&profile)?;
    Ok(())
}

/// Starts the node of a data folder, on loopback.
pub(super) async fn start(home: &Path) -> anyhow::Result<Arc<Node>> {
    let options = NodeOptions {
        data: home.to_owned(),
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        finding: Finding::NOTHING,
        offered_bytes: 0,
        starter: false,
        probes: false,
        keeper: false,
    };
    Ok(Box::pin(Node::start(options)).await?)
}

/// Waits until all nodes have the same and each has a link.
pub(super) async fn meet(nodes: &[Arc<Node>]) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let mut digests = Vec::new();
        let mut linked = 0;
        for node in nodes {
            let membership = node.membership()?;
            digests.push(membership.replica().snapshot().digest());
            let peers = membership.mesh().peers();
            linked += usize::from(peers.iter().any(|peer| peer.rtt.is_some()));
        }
        digests.dedup();
        if digests.len() == 1 && linked == nodes.len() {
            return Ok(());
        }
        if begun.elapsed() > MEETING {
            bail!("{linked} of {} nodes are linked, with {} states", nodes.len(), digests.len());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ends all nodes.
pub(super) async fn sleep(nodes: Vec<Arc<Node>>) {
    let closing: Vec<_> =
        nodes.into_iter().map(|node| tokio::spawn(async move { node.close().await })).collect();
    for closed in closing {
        // A node that did not close is ended with the process.
        let _ = closed.await;
    }
}

/// Ports of loopback that are free now.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let sockets = (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
    Ok(sockets
        .iter()
        .map(|socket| socket.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}
