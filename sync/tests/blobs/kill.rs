//! `kill -9` in the middle of fetches: a child process fetches, is killed at
//! random points, and goes on where it was.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iroh::{EndpointAddr, EndpointId};
use iroh_blobs::provider::events::EventSender;
use iroh_blobs::provider::{StreamPair, handle_get};
use iroh_blobs::store::mem::MemStore;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use exo_model::id::{BlobHash, DeviceId};
use exo_sync::blobs::{Blobs, Dialling, FetchProgress, aligned_len};
use exo_sync::mesh::LinkError;

use super::party::{Map, Members, all, endpoint, options, random, request, source};
use crate::common::{Rng, in_time};

/// Length of the blob: many times what a kill may cost.
const SIZE: usize = 64 << 20;
/// Bytes that a kill may cost: what was on its way to the disk or in the
/// windows of two streams.
const WASTE_MAX: u64 = 8 << 20;
/// Bytes that came and had not reached the disk.
const UNWRITTEN_MAX: u64 = 4 << 20;
/// Where the child finds what it is to do.
const TASK: &str = "EXO_BLOBS_KILL_TASK";
/// How many kills, where not the usual number.
const KILLS: &str = "EXO_BLOBS_KILLS";

/// Kills 40 times; `EXO_BLOBS_KILLS=200 cargo test -p exo-sync --test blobs kill`
/// does it more often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_point_a_fetch_goes_on_where_it_was() {
    let kills: u64 = std::env::var(KILLS).ok().map_or(40, |count| count.parse().expect("a number"));
    let bytes = random(SIZE);
    let blob = exo_model::hash::blake3(&bytes);
    let sent = Arc::new(AtomicU64::new(0));
    let map = Map::default();
    let device = counting_source(&map, &bytes, sent.clone()).await;
    let task = map.task_for(device, blob);
    let mut rng = Rng(11);
    let (mut killed, mut rounds) = (0, 0);
    while killed < kills {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut least, mut of_round) = (0, 0);
        let before = sent.load(Ordering::SeqCst);
        loop {
            let mut child = Run::start(&task, folder.path());
            let here = child.here().await;
            assert!(here >= least, "kill {killed}: {here} bytes are left of at least {least}");
            if killed < kills && child.run_until_killed(&mut rng).await {
                killed += 1;
                of_round += 1;
                least = (here + child.received).saturating_sub(UNWRITTEN_MAX);
                continue;
            }
            child.run_to_the_end().await;
            break;
        }
        rounds += 1;
        let moved = sent.load(Ordering::SeqCst) - before;
        let most = SIZE as u64 + of_round * WASTE_MAX;
        assert!(moved <= most, "{moved} bytes moved in {of_round} kills, at most {most} expected");
        let stored = folder.path().join("data").join(format!("{}.data", blob.to_hex()));
        assert_eq!(std::fs::read(stored).expect("there"), bytes, "the right bytes");
    }
    assert!(rounds > 0);
}

impl Map {
    fn task_for(&self, device: DeviceId, blob: BlobHash) -> String {
        let address = self.address_of(&device).ip_addrs().next().expect("an address").to_string();
        format!("{} {address} {}", device.to_hex(), blob.to_hex())
    }
}

/// An honest source that counts what it sends.
async fn counting_source(map: &Map, bytes: &[u8], sent: Arc<AtomicU64>) -> DeviceId {
    let store = MemStore::new();
    store.add_slice(bytes).await.expect("added");
    source(4, map, move |get, send, recv| {
        let (store, sent) = (store.clone(), sent.clone());
        async move {
            let pair = StreamPair::new(1, recv, Counting(send, sent), EventSender::DEFAULT);
            let _ = handle_get(pair, (*store).clone(), get).await;
        }
    })
    .await
}

struct Counting(iroh::endpoint::SendStream, Arc<AtomicU64>);

impl iroh_blobs::util::SendStream for Counting {
    async fn send_bytes(&mut self, bytes: bytes::Bytes) -> std::io::Result<()> {
        self.1.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(self.0.write_chunk(bytes).await?)
    }
    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }
    async fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn reset(&mut self, code: iroh::endpoint::VarInt) -> std::io::Result<()> {
        Ok(self.0.reset(code)?)
    }
    async fn stopped(&mut self) -> std::io::Result<Option<iroh::endpoint::VarInt>> {
        Ok(self.0.stopped().await?)
    }
    fn id(&self) -> u64 {
        self.0.id().index()
    }
}

/// A child process that fetches.
struct Run {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
    received: u64,
}

impl Run {
    fn start(task: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "kill::child", "--nocapture", "--test-threads=1"])
            .env(TASK, format!("{task} {}", folder.display()))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines, received: 0 }
    }

    /// The next figure of this name; `None` when the child has ended.
    async fn figure(&mut self, name: &str) -> Option<u64> {
        loop {
            let line = in_time("a line", self.lines.next_line()).await.expect("text")?;
            // The harness may have written before it.
            if let Some((_, figure)) = line.rsplit_once(&format!("{name}=")) {
                return Some(figure.trim().parse().expect("a number"));
            }
        }
    }

    async fn here(&mut self) -> u64 {
        self.figure("here").await.expect("the child says what it has")
    }

    /// Kills the child once it received so much, and a moment; `false` when it
    /// was done before.
    async fn run_until_killed(&mut self, rng: &mut Rng) -> bool {
        let enough = if rng.below(4) == 0 { 0 } else { rng.next() % (SIZE as u64 / 2) };
        while self.received < enough {
            match self.figure("received").await {
                Some(received) => self.received = received,
                None => return false,
            }
        }
        tokio::time::sleep(Duration::from_micros(rng.next() % 20_000)).await;
        self.child.start_kill().expect("killed");
        let status = in_time("its end", self.child.wait()).await.expect("ended");
        while let Some(received) = self.figure("received").await {
            self.received = received;
        }
        !status.success()
    }

    async fn run_to_the_end(&mut self) {
        while let Some(received) = self.figure("received").await {
            self.received = received;
        }
        let status = in_time("its end", self.child.wait()).await.expect("ended");
        assert!(status.success(), "the child fetched everything: {status}");
    }
}

/// What the child does: says what it has, fetches the rest, says what came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a process of its own"]
#[allow(clippy::print_stdout, reason = "tells its parent")]
async fn child() {
    let task = std::env::var(TASK).expect("run by the test above");
    let mut words = task.splitn(4, ' ');
    let mut word = || words.next().expect("four words").to_owned();
    let device: DeviceId = word().parse().expect("a device");
    let address: std::net::SocketAddr = word().parse().expect("an address");
    let blob: BlobHash = word().parse().expect("a hash");
    let folder = word();
    let size = SIZE as u64;
    let opened = Blobs::open_with(Path::new(&folder), Arc::new(Members::default()), options()).await;
    let (blobs, _protocol) = opened.expect("opens after a kill");
    let here = aligned_len(&blobs.present(blob, size).await.expect("known"), size);
    println!("here={here}");
    let from = endpoint(2).await;
    let dial = move |device: DeviceId| -> Dialling {
        let from = from.clone();
        Box::pin(async move {
            let id = EndpointId::from_bytes(device.as_bytes()).expect("a key");
            let to = EndpointAddr::new(id).with_ip_addr(address);
            let connected = from.connect(to, iroh_blobs::ALPN).await;
            connected.map_err(|error| LinkError::Connection { device, reason: error.to_string() })
        })
    };
    let (progress, mut watching) = watch::channel(FetchProgress::default());
    let fetching = blobs.fetch(request(blob, size, &[all(size)], &[device]), Arc::new(dial), progress);
    let mut fetching = std::pin::pin!(fetching);
    loop {
        tokio::select! {
            fetched = &mut fetching => { fetched.expect("fetched"); break }
            Ok(()) = watching.changed() => println!("received={}", watching.borrow_and_update().received_bytes),
        }
    }
    let read = blobs.read(blob, size, all(size)).await.expect("here");
    assert_eq!(exo_model::hash::blake3(&read), blob);
    blobs.close().await;
}
