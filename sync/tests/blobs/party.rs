//! Stores on endpoints of their own, and sources that keep to no protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iroh::endpoint::{RecvStream, SendStream, presets};
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, RelayMode};
use iroh_blobs::protocol::{GetRequest, Request};
use tempfile::TempDir;
use tokio::sync::watch;

use exo_model::id::{BlobHash, CommunityId, DeviceId};
use exo_model::weights::ByteRange;
use exo_sync::blobs::{
    BlobAccess, Blobs, BlobsOptions, Dial, Dialling, FetchError, FetchProgress, FetchRequest, Fetched,
};

use crate::common::{Rng, in_time};

pub(crate) const GARDEN: CommunityId = CommunityId::from_bytes([7; 32]);
pub(crate) const OTHER: CommunityId = CommunityId::from_bytes([8; 32]);

/// Who is in which community, as one device knows it.
#[derive(Default)]
pub(crate) struct Members(Mutex<BTreeSet<(DeviceId, CommunityId)>>);

impl Members {
    pub(crate) fn admit(&self, device: DeviceId, community: CommunityId) {
        self.0.lock().expect("whole").insert((device, community));
    }

    pub(crate) fn remove(&self, device: DeviceId, community: CommunityId) {
        self.0.lock().expect("whole").remove(&(device, community));
    }
}

impl BlobAccess for Members {
    fn is_member(&self, peer: &DeviceId, community: &CommunityId) -> bool {
        self.0.lock().expect("whole").contains(&(*peer, *community))
    }
}

/// Options for tests: no more of the disk is asked for than is needed.
pub(crate) fn options() -> BlobsOptions {
    BlobsOptions {
        reserve_bytes: 0,
        collect_every: Duration::from_millis(50),
        silence_max: Duration::from_secs(5),
        ..BlobsOptions::default()
    }
}

/// Where devices are.
#[derive(Clone, Default)]
pub(crate) struct Map(Arc<Mutex<BTreeMap<DeviceId, EndpointAddr>>>);

/// A store with an endpoint that serves it.
pub(crate) struct Party {
    pub(crate) folder: TempDir,
    pub(crate) blobs: Blobs,
    pub(crate) members: Arc<Members>,
    pub(crate) endpoint: Endpoint,
    router: Router,
    map: Map,
}

pub(crate) async fn endpoint(seed: u8) -> Endpoint {
    Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&[seed; 32]))
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .expect("an address")
        .alpns(vec![iroh_blobs::ALPN.to_vec()])
        .bind()
        .await
        .expect("a free port")
}

pub(crate) fn device_of(endpoint: &Endpoint) -> DeviceId {
    DeviceId::from_bytes(*endpoint.id().as_bytes())
}

impl Map {
    pub(crate) fn add(&self, endpoint: &Endpoint) {
        self.0.lock().expect("whole").insert(device_of(endpoint), endpoint.addr());
    }

    pub(crate) fn address_of(&self, device: &DeviceId) -> EndpointAddr {
        self.0.lock().expect("whole")[device].clone()
    }

    fn dial(&self, from: &Endpoint) -> Arc<dyn Dial> {
        let (map, from) = (self.clone(), from.clone());
        Arc::new(move |device: DeviceId| -> Dialling {
            let address = map.0.lock().expect("whole").get(&device).cloned();
            let from = from.clone();
            Box::pin(async move {
                let failed = |reason: String| exo_sync::mesh::LinkError::Connection { device, reason };
                let address = address.ok_or_else(|| failed("nobody knows where it is".into()))?;
                from.connect(address, iroh_blobs::ALPN).await.map_err(|error| failed(error.to_string()))
            })
        })
    }
}

impl Party {
    pub(crate) async fn new(seed: u8, map: &Map) -> Self {
        Self::with(seed, map, options()).await
    }

    pub(crate) async fn with(seed: u8, map: &Map, options: BlobsOptions) -> Self {
        Self::open(seed, map, options, tempfile::tempdir().expect("a folder")).await
    }

    pub(crate) async fn open(seed: u8, map: &Map, options: BlobsOptions, folder: TempDir) -> Self {
        let members = Arc::new(Members::default());
        let opened = Blobs::open_with(&folder.path().join("blobs"), members.clone(), options).await;
        let (blobs, protocol) = opened.expect("opened");
        let endpoint = endpoint(seed).await;
        map.add(&endpoint);
        let router = Router::builder(endpoint.clone()).accept(iroh_blobs::ALPN, protocol).spawn();
        Self { folder, blobs, members, endpoint, router, map: map.clone() }
    }

    pub(crate) fn device(&self) -> DeviceId {
        device_of(&self.endpoint)
    }

    /// Adds `bytes` as a file in place, for the garden.
    pub(crate) async fn add(&self, bytes: &[u8]) -> BlobHash {
        let path = self.folder.path().join("model.gguf");
        std::fs::write(&path, bytes).expect("written");
        self.blobs.add_file(GARDEN, &path).await.expect("added")
    }

    /// Lets these take what is held for the garden.
    pub(crate) fn admit(&self, others: &[&Self]) {
        for other in others {
            self.members.admit(other.device(), GARDEN);
        }
    }

    pub(crate) fn dial(&self) -> Arc<dyn Dial> {
        self.map.dial(&self.endpoint)
    }

    pub(crate) async fn fetch(
        &self,
        blob: BlobHash,
        size: u64,
        ranges: &[ByteRange],
        sources: &[DeviceId],
    ) -> Result<Fetched, FetchError> {
        self.fetch_watched(blob, size, ranges, sources).await.0
    }

    /// The same with the last report.
    pub(crate) async fn fetch_watched(
        &self,
        blob: BlobHash,
        size: u64,
        ranges: &[ByteRange],
        sources: &[DeviceId],
    ) -> (Result<Fetched, FetchError>, FetchProgress) {
        let (progress, watching) = watch::channel(FetchProgress::default());
        let fetching = self.blobs.fetch(request(blob, size, ranges, sources), self.dial(), progress);
        let result = in_time("a fetch", fetching).await;
        let last = watching.borrow().clone();
        (result, last)
    }

    pub(crate) async fn whole(&self, blob: BlobHash, size: u64, sources: &[DeviceId]) -> FetchProgress {
        let (result, last) = self.fetch_watched(blob, size, &[all(size)], sources).await;
        result.unwrap_or_else(|error| panic!("{error}: {last:?}"));
        last
    }

    pub(crate) async fn read(&self, blob: BlobHash, size: u64) -> Vec<u8> {
        self.blobs.read(blob, size, all(size)).await.expect("here")
    }

    /// Ends everything and gives the folder back.
    pub(crate) async fn close(self) -> TempDir {
        in_time("closing", self.router.shutdown()).await.expect("closed");
        in_time("closing", self.blobs.close()).await;
        self.folder
    }
}

pub(crate) fn request(blob: BlobHash, size: u64, ranges: &[ByteRange], sources: &[DeviceId]) -> FetchRequest {
    FetchRequest {
        community: GARDEN,
        blob,
        size_bytes: size,
        ranges: ranges.to_vec(),
        sources: sources.to_vec(),
    }
}

pub(crate) const fn all(size: u64) -> ByteRange {
    ByteRange { start: 0, end: size }
}

pub(crate) fn random(len: usize) -> Vec<u8> {
    let mut rng = Rng(len as u64 + 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A source that answers each request for ranges with whatever `answer` does
/// with it; what it is asked otherwise, it refuses.
pub(crate) async fn source<F, Fut>(seed: u8, map: &Map, answer: F) -> DeviceId
where
    F: Fn(GetRequest, SendStream, RecvStream) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let endpoint = endpoint(seed).await;
    map.add(&endpoint);
    let device = device_of(&endpoint);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let answer = answer.clone();
            // Whoever was killed while shaking hands holds up nobody.
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                    match Request::read_async(&mut recv).await {
                        Ok((Request::Get(get), _)) => drop(tokio::spawn(answer(get, send, recv))),
                        _ => drop(send.reset(3_u32.into())),
                    }
                }
            });
        }
    });
    device
}

/// Bytes of files below `folder`.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").metadata().expect("known").len()).sum()
}
