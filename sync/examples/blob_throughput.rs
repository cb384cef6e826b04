//! How fast a blob is fetched over loopback, beside a plain stream of iroh.
//!
//!     cargo run -p exo-sync --example blob_throughput -- [MiB] [rounds]
//!
//! Each round moves the same bytes three times, one way after the other, so
//! that what the machine does beside it meets all alike: over a plain stream
//! (read and thrown away, written nowhere), with [`Blobs::fetch`], and with
//! iroh-blobs as it is on both sides, one request for everything.
#![allow(clippy::print_stdout, reason = "prints what it measured")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iroh::endpoint::{Connection, presets};
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use iroh_blobs::api::blobs::{AddPathOptions, ImportMode};
use iroh_blobs::protocol::GetRequest;
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::{BlobFormat, BlobsProtocol, Hash};
use tokio::sync::watch;

use exo_model::id::{BlobHash, CommunityId, DeviceId};
use exo_model::weights::ByteRange;
use exo_sync::blobs::{BlobAccess, Blobs, Dialling, FetchProgress, FetchRequest};

const PLAIN: &[u8] = b"exo/bench/plain";
const COMMUNITY: CommunityId = CommunityId::from_bytes([1; 32]);
/// Bytes that the plain stream is given at once.
const WRITE_BYTES: usize = 256 * 1024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Everyone;

impl BlobAccess for Everyone {
    fn is_member(&self, _: &DeviceId, _: &CommunityId) -> bool {
        true
    }
}

/// Sends so many bytes on each stream.
#[derive(Clone, Debug)]
struct Plain(Bytes, usize);

impl ProtocolHandler for Plain {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        while let Ok((mut send, _recv)) = connection.accept_bi().await {
            for _ in 0..self.1 / WRITE_BYTES {
                if send.write_chunk(self.0.clone()).await.is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

async fn endpoint() -> Result<Endpoint, Failure> {
    let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).clear_ip_transports();
    Ok(builder.bind_addr("127.0.0.1:0")?.bind().await?)
}

async fn plain(from: &Endpoint, to: EndpointAddr, len: usize) -> Result<Duration, Failure> {
    let connection = from.connect(to, PLAIN).await?;
    let began = Instant::now();
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(b"go").await?;
    let mut read = 0;
    while let Some(bytes) = recv.read_chunk(usize::MAX).await? {
        read += bytes.len();
    }
    assert_eq!(read, len, "all of it");
    Ok(began.elapsed())
}

async fn ours(from: &Endpoint, to: EndpointAddr, blob: BlobHash, len: u64) -> Result<Duration, Failure> {
    let folder = tempfile::tempdir()?;
    let (blobs, _protocol) = Blobs::open(folder.path(), Arc::new(Everyone)).await?;
    let source = DeviceId::from_bytes(*to.id.as_bytes());
    // Connected before the clock starts, as the others are.
    let connection = from.connect(to, iroh_blobs::ALPN).await?;
    let dial = move |_| -> Dialling {
        let connection = connection.clone();
        Box::pin(async move { Ok(connection) })
    };
    let (progress, _watching) = watch::channel(FetchProgress::default());
    let ranges = vec![ByteRange { start: 0, end: len }];
    let request = FetchRequest { community: COMMUNITY, blob, size_bytes: len, ranges, sources: vec![source] };
    let began = Instant::now();
    blobs.fetch(request, Arc::new(dial), progress).await?;
    let took = began.elapsed();
    blobs.close().await;
    Ok(took)
}

async fn theirs(from: &Endpoint, to: EndpointAddr, blob: BlobHash) -> Result<Duration, Failure> {
    let folder = tempfile::tempdir()?;
    let store = FsStore::load(folder.path()).await.map_err(|error| format!("{error:#}"))?;
    let connection = from.connect(to, iroh_blobs::ALPN).await?;
    let began = Instant::now();
    let request = GetRequest::blob(Hash::from_bytes(*blob.as_bytes()));
    store.remote().execute_get(connection, request).complete().await?;
    let took = began.elapsed();
    store.shutdown().await?;
    Ok(took)
}

fn write_random(path: &Path, len: usize) -> Result<(), Failure> {
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 24).to_le_bytes()
    });
    let bytes: Vec<u8> = words.take(len / 8).flatten().collect();
    Ok(std::fs::write(path, bytes)?)
}

/// Least, middle and greatest.
fn spread(figures: &mut [f64]) -> String {
    figures.sort_by(f64::total_cmp);
    let (first, last) = (figures[0], figures[figures.len() - 1]);
    format!("{first:.2} / {:.2} / {last:.2}", figures[figures.len() / 2])
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<usize>());
    let mib = words.next().unwrap_or(Ok(256))?;
    let rounds = words.next().unwrap_or(Ok(5))?.max(1);
    let len = mib << 20;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    write_random(&file, len)?;
    let (blobs, protocol) = Blobs::open(&folder.path().join("blobs"), Arc::new(Everyone)).await?;
    let blob = blobs.add_file(COMMUNITY, &file).await?;
    let source = endpoint().await?;
    let router = Router::builder(source.clone())
        .accept(iroh_blobs::ALPN, protocol)
        .accept(PLAIN, Plain(Bytes::from(vec![7; WRITE_BYTES]), len))
        .spawn();
    let store = FsStore::load(folder.path().join("theirs")).await.map_err(|error| format!("{error:#}"))?;
    let options = AddPathOptions { path: file, format: BlobFormat::Raw, mode: ImportMode::TryReference };
    store.add_path_with_opts(options).await?;
    let their_source = endpoint().await?;
    let theirs_served = BlobsProtocol::new(&store, None);
    let their_router = Router::builder(their_source.clone()).accept(iroh_blobs::ALPN, theirs_served).spawn();
    let from = endpoint().await?;
    let speed = |took: Duration| f64::from(u32::try_from(mib).unwrap_or(u32::MAX)) / took.as_secs_f64();
    let mut figures = [const { Vec::new() }; 5];
    println!("{mib} MiB over loopback, MiB/s: plain stream, Blobs::fetch, iroh-blobs' own");
    for _ in 0..rounds {
        let plain = speed(plain(&from, source.addr(), len).await?);
        let ours = speed(ours(&from, source.addr(), blob, len as u64).await?);
        let theirs = speed(theirs(&from, their_source.addr(), blob).await?);
        println!("{plain:7.0} {ours:7.0} {theirs:7.0}   ratios {:.2} {:.2}", ours / plain, theirs / plain);
        for (all, one) in figures.iter_mut().zip([plain, ours, theirs, ours / plain, theirs / plain]) {
            all.push(one);
        }
    }
    let names = ["plain, MiB/s", "ours, MiB/s", "iroh-blobs, MiB/s", "ours to plain", "iroh-blobs to plain"];
    for (name, all) in names.iter().zip(&mut figures) {
        println!("{name}: {} (least / middle / greatest of {rounds})", spread(all));
    }
    router.shutdown().await?;
    their_router.shutdown().await?;
    blobs.close().await;
    Ok(())
}
