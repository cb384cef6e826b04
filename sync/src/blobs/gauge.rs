//! Measures how fast a blob is fetched over loopback, beside a plain stream of
//! iroh; for benches.
//!
//! What is compared moves the same bytes between the same two endpoints, one way
//! after the other, so that what the machine does beside it meets all alike.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iroh::endpoint::{Connection, presets};
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use iroh::{Endpoint, RelayMode};
use iroh_blobs::Hash;
use iroh_blobs::protocol::GetRequest;
use iroh_blobs::store::fs::FsStore;
use tokio::sync::watch;

use exo_model::id::{BlobHash, CommunityId, DeviceId};
use exo_model::weights::ByteRange;

use super::{BlobAccess, Blobs, Dialling, FetchProgress, FetchRequest};
use crate::mesh::LinkError;

const PLAIN: &[u8] = b"exo/gauge/plain";
const COMMUNITY: CommunityId = CommunityId::from_bytes([1; 32]);
/// Bytes that the plain stream is given at once.
const WRITE_BYTES: usize = 256 * 1024;

/// What can go wrong while measuring.
#[derive(Debug, thiserror::Error)]
#[error("measuring: {0}")]
pub struct GaugeError(String);

fn failed(error: impl std::fmt::Display) -> GaugeError {
    GaugeError(format!("{error:#}"))
}

/// A way for the bytes to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over a plain stream; read and thrown away.
    Plain,
    /// With [`Blobs::fetch`].
    Fetch,
    /// With one request of iroh-blobs' own, into a store of its own.
    Foreign,
}

struct Everyone;

impl BlobAccess for Everyone {
    fn is_member(&self, _: &DeviceId, _: &CommunityId) -> bool {
        true
    }
}

/// Sends so many bytes on each stream.
#[derive(Clone, Debug)]
struct PlainSource(Bytes, u64);

impl ProtocolHandler for PlainSource {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        while let Ok((mut send, _recv)) = connection.accept_bi().await {
            for _ in 0..self.1 / WRITE_BYTES as u64 {
                if send.write_chunk(self.0.clone()).await.is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Two endpoints, one of which has a blob.
pub struct Gauge {
    blobs: Blobs,
    router: Router,
    source: Endpoint,
    from: Endpoint,
    blob: BlobHash,
    len: u64,
}

impl Gauge {
    /// With a blob of so many MiB, kept in an empty folder.
    ///
    /// # Errors
    /// When a file cannot be written or an address cannot be listened on.
    pub async fn open(folder: &Path, mib: usize) -> Result<Self, GaugeError> {
        let len = mib << 20;
        let file = folder.join("file");
        write_noise(&file, len).map_err(failed)?;
        let (blobs, protocol) =
            Blobs::open(&folder.join("blobs"), Arc::new(Everyone)).await.map_err(failed)?;
        let blob = blobs.add_file(COMMUNITY, &file).await.map_err(failed)?;
        let (source, len) = (endpoint().await?, len as u64);
        let router = Router::builder(source.clone())
            .accept(iroh_blobs::ALPN, protocol)
            .accept(PLAIN, PlainSource(Bytes::from(vec![7; WRITE_BYTES]), len))
            .spawn();
        Ok(Self { blobs, router, source, from: endpoint().await?, blob, len })
    }

    /// Moves the bytes, into an empty folder; returns how long that took.
    ///
    /// # Errors
    /// When they do not arrive.
    pub async fn measure(&self, way: Way, into: &Path) -> Result<Duration, GaugeError> {
        match way {
            Way::Plain => self.plain().await,
            Way::Fetch => self.fetch(into).await,
            Way::Foreign => self.foreign(into).await,
        }
    }

    /// Closes the endpoints.
    pub async fn close(self) {
        // Whatever does not close here ends with the process.
        let _ = self.router.shutdown().await;
        self.blobs.close().await;
        self.from.close().await;
    }

    async fn plain(&self) -> Result<Duration, GaugeError> {
        let connection = self.from.connect(self.source.addr(), PLAIN).await.map_err(failed)?;
        let began = Instant::now();
        let (mut send, mut recv) = connection.open_bi().await.map_err(failed)?;
        send.write_all(b"go").await.map_err(failed)?;
        let mut read = 0;
        while let Some(bytes) = recv.read_chunk(usize::MAX).await.map_err(failed)? {
            read += bytes.len() as u64;
        }
        if read == self.len { Ok(began.elapsed()) } else { Err(failed("bytes are missing")) }
    }

    async fn fetch(&self, into: &Path) -> Result<Duration, GaugeError> {
        let (blobs, _protocol) = Blobs::open(into, Arc::new(Everyone)).await.map_err(failed)?;
        let source = DeviceId::from_bytes(*self.source.id().as_bytes());
        let (from, to) = (self.from.clone(), self.source.addr());
        let dial = move |device: DeviceId| -> Dialling {
            let (from, to) = (from.clone(), to.clone());
            Box::pin(async move {
                let connected = from.connect(to, iroh_blobs::ALPN).await;
                connected.map_err(|error| LinkError::Connection { device, reason: error.to_string() })
            })
        };
        let (progress, _watching) = watch::channel(FetchProgress::default());
        let (blob, size_bytes) = (self.blob, self.len);
        let ranges = vec![ByteRange { start: 0, end: size_bytes }];
        let request = FetchRequest { community: COMMUNITY, blob, size_bytes, ranges, sources: vec![source] };
        let began = Instant::now();
        blobs.fetch(request, Arc::new(dial), progress).await.map_err(failed)?;
        let took = began.elapsed();
        blobs.close().await;
        Ok(took)
    }

    async fn foreign(&self, into: &Path) -> Result<Duration, GaugeError> {
        let store = FsStore::load(into).await.map_err(failed)?;
        let connection = self.from.connect(self.source.addr(), iroh_blobs::ALPN).await.map_err(failed)?;
        let began = Instant::now();
        let request = GetRequest::blob(Hash::from_bytes(*self.blob.as_bytes()));
        store.remote().execute_get(connection, request).complete().await.map_err(failed)?;
        let took = began.elapsed();
        store.shutdown().await.map_err(failed)?;
        Ok(took)
    }
}

async fn endpoint() -> Result<Endpoint, GaugeError> {
    let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).clear_ip_transports();
    builder.bind_addr("127.0.0.1:0").map_err(failed)?.bind().await.map_err(failed)
}

/// Bytes that do not repeat.
fn write_noise(path: &Path, len: usize) -> std::io::Result<()> {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 24).to_le_bytes()
    });
    let bytes: Vec<u8> = words.take(len / 8).flatten().collect();
    std::fs::write(path, bytes)
}
