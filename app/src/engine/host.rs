//! What this machine serves: loaded stages, within the memory it offers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exo_inference::gguf::Header;
use exo_inference::llama::Stage;
use exo_inference::plan::stage_memory_bytes;
use exo_inference::source::WeightSource as _;
use exo_model::community::{CommunityState, Model};
use exo_model::decide::Intent;
use exo_model::id::{BlobHash, DeviceId, JobId};
use exo_model::weights::{ByteRange, LayerRange, ModelManifest};
use exo_sync::blobs::aligned_len;
use exo_sync::mesh::{Mesh, PeerPath};
use exo_sync::replica::Replica;
use tokio::sync::mpsc;

use super::protocol::FromProvider;
use super::provider::SessionInbox;
use super::weights::BlobWeights;
use super::{EngineError, failed};

/// Longest context a session reserves keys and values for, in tokens.
pub(super) const CONTEXT_TOKENS_MAX: u32 = 2_048;
/// Sessions a machine takes part in at the same time.
pub(super) const SESSIONS_MAX: usize = 16;

/// Longest wait for something that a peer refers to and sync has yet to bring.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(10);

/// What was fetched for a stage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prepared {
    /// Bytes of weights received; 0 where all were here.
    pub(crate) fetched_bytes: u64,
}

struct Loaded {
    stage: Arc<Stage>,
    memory_bytes: u64,
}

/// Loaded stages and running sessions of this machine.
pub(crate) struct StageHost {
    pub(super) replica: Replica,
    pub(super) mesh: Mesh,
    offered_bytes: u64,
    loaded: Mutex<BTreeMap<(BlobHash, LayerRange), Loaded>>,
    /// One preparation at a time, so that memory is counted once.
    preparing: tokio::sync::Mutex<()>,
    sessions: Mutex<BTreeMap<JobId, (Option<DeviceId>, SessionInbox)>>,
    micros_per_mib: AtomicU32,
}

/// The context that plans and sessions of a model reserve.
pub(super) fn context_tokens(manifest: &ModelManifest) -> u32 {
    manifest.context_length.min(CONTEXT_TOKENS_MAX)
}

impl StageHost {
    pub(super) fn new(replica: Replica, mesh: Mesh, offered_bytes: u64) -> Self {
        Self {
            replica,
            mesh,
            offered_bytes,
            loaded: Mutex::default(),
            preparing: tokio::sync::Mutex::default(),
            sessions: Mutex::default(),
            micros_per_mib: AtomicU32::new(0),
        }
    }

    /// Measured time per token and MiB of weights; none before the first work.
    pub(crate) fn micros_per_mib(&self) -> Option<u32> {
        match self.micros_per_mib.load(Ordering::Relaxed) {
            0 => None,
            measured => Some(measured),
        }
    }

    /// Takes a measurement of single-token work into the running mean.
    pub(super) fn measured(&self, per_token: Duration, weight_bytes: u64) {
        let mib = (weight_bytes >> 20).max(1);
        let micros = u32::try_from(per_token.as_micros() / u128::from(mib)).unwrap_or(u32::MAX).max(1);
        let before = self.micros_per_mib.load(Ordering::Relaxed);
        let mean = if before == 0 { micros } else { (before / 4).saturating_mul(3).saturating_add(micros / 4) };
        self.micros_per_mib.store(mean.max(1), Ordering::Relaxed);
    }

    /// A loaded stage.
    pub(super) fn stage(&self, model: &BlobHash, layers: LayerRange) -> Option<Arc<Stage>> {
        self.lock_loaded().get(&(*model, layers)).map(|loaded| loaded.stage.clone())
    }

    /// [`StageHost::prepare`] for a peer, telling it how it goes. The peer may
    /// know of a model that sync has yet to bring here.
    pub(super) async fn prepare_for_peer(
        &self,
        peer: DeviceId,
        model: BlobHash,
        layers: LayerRange,
        news: mpsc::Sender<FromProvider>,
    ) {
        self.arrived(&peer, |state| state.models.contains_key(&model)).await;
        let progress = news.clone();
        let prepared = self
            .prepare(model, layers, move |received, total| {
                // Progress may be skipped when the line is slow.
                let _ = progress.try_send(FromProvider::Progress { received, total });
            })
            .await;
        let last = match prepared {
            Ok(prepared) => FromProvider::Ready { fetched: prepared.fetched_bytes },
            Err(error) => failed(error),
        };
        // The peer may have gone; what was fetched stays.
        let _ = news.send(last).await;
    }

    /// Waits, not for ever, until sync with `peer` brought what `there` looks
    /// for; returns whether it did.
    pub(super) async fn arrived(&self, peer: &DeviceId, there: impl Fn(&CommunityState) -> bool) -> bool {
        let mut snapshot = self.replica.watch();
        if there(&snapshot.borrow_and_update().state) {
            return true;
        }
        self.mesh.sync_soon(peer);
        let arrived = snapshot.wait_for(|snapshot| there(&snapshot.state));
        matches!(tokio::time::timeout(ARRIVAL_DEADLINE, arrived).await, Ok(Ok(_)))
    }

    /// Fetches what is missing of `layers`, loads them, and says in the
    /// cluster feed that they are hosted here. `progress` gets bytes received
    /// and in all.
    pub(super) async fn prepare(
        &self,
        model: BlobHash,
        layers: LayerRange,
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Prepared, EngineError> {
        let _one_at_a_time = self.preparing.lock().await;
        let known = self.model(&model)?;
        let manifest = &known.manifest;
        if !manifest.all_layers().is_some_and(|all| all.covers(layers)) {
            return Err(EngineError::Load("it has no such layers".into()));
        }
        if self.stage(&model, layers).is_some() {
            self.publish(model, layers).await?;
            return Ok(Prepared::default());
        }
        let memory_bytes = self.make_room(manifest, layers)?;
        let ranges = manifest.stage_ranges(layers);
        let fetched_bytes = self.fetch(&known, &ranges, progress).await?;
        let source = BlobWeights::new(self.mesh.blobs().clone(), model, manifest.size_bytes);
        let manifest = manifest.clone();
        let loading = tokio::task::spawn_blocking(move || Stage::load(&source, &manifest, layers));
        let stage = loading
            .await
            .map_err(|_| EngineError::Thread)?
            .map_err(|error| EngineError::Load(error.to_string()))?;
        self.lock_loaded().insert((model, layers), Loaded { stage: Arc::new(stage), memory_bytes });
        self.publish(model, layers).await?;
        Ok(Prepared { fetched_bytes })
    }

    /// The header of a model file, fetched where it is not here.
    pub(super) async fn header(&self, model: &BlobHash) -> Result<Header, EngineError> {
        let known = self.model(model)?;
        let range = known.manifest.header;
        if range.len() > exo_inference::gguf::HEADER_BYTES_MAX {
            return Err(EngineError::Load("its header is too long".into()));
        }
        self.fetch(&known, &[range], |_, _| {}).await?;
        let source = BlobWeights::new(self.mesh.blobs().clone(), *model, known.manifest.size_bytes);
        tokio::task::spawn_blocking(move || {
            let bytes = source.read_at(range).map_err(|error| EngineError::Weights(error.to_string()))?;
            Header::parse(&bytes, source.size()).map_err(|error| EngineError::Load(error.to_string()))
        })
        .await
        .map_err(|_| EngineError::Thread)?
    }

    /// A model of the community.
    pub(super) fn model(&self, model: &BlobHash) -> Result<Model, EngineError> {
        let state = self.replica.state();
        state.models.get(model).cloned().ok_or_else(|| EngineError::UnknownModel(model.to_string()))
    }

    /// Registers a running session's inbox under its job.
    pub(super) fn register(&self, job: JobId, previous: Option<DeviceId>, inbox: SessionInbox) -> Result<(), EngineError> {
        let mut sessions = self.lock_sessions();
        if sessions.len() >= SESSIONS_MAX {
            return Err(EngineError::Load(format!("this machine serves {SESSIONS_MAX} sessions already; try again later")));
        }
        if sessions.contains_key(&job) {
            return Err(EngineError::Load("this job is running here already".into()));
        }
        sessions.insert(job, (previous, inbox));
        Ok(())
    }

    /// Forgets a session.
    pub(super) fn unregister(&self, job: &JobId) {
        self.lock_sessions().remove(job);
    }

    /// The inbox of a session whose input `previous` is to send.
    pub(super) fn inbox_for(&self, job: &JobId, previous: &DeviceId) -> Option<SessionInbox> {
        self.lock_sessions()
            .get(job)
            .filter(|(expected, _)| expected.as_ref() == Some(previous))
            .map(|(_, inbox)| inbox.clone())
    }

    /// Drops stages of the same model that nobody uses until the new one fits;
    /// returns what it needs.
    fn make_room(&self, manifest: &ModelManifest, layers: LayerRange) -> Result<u64, EngineError> {
        let needed = stage_memory_bytes(manifest, layers, context_tokens(manifest));
        let mut loaded = self.lock_loaded();
        // A stage that a session holds has another owner of its Arc.
        loaded.retain(|(model, _), stage| *model != manifest.file || Arc::strong_count(&stage.stage) > 1);
        let used: u64 = loaded.values().map(|stage| stage.memory_bytes).sum();
        let free = self.offered_bytes.saturating_sub(used);
        if needed > free {
            return Err(EngineError::Memory { needed, free, offered: self.offered_bytes });
        }
        Ok(needed)
    }

    /// Fetches missing parts of `ranges`, from whoever has them.
    async fn fetch(
        &self,
        known: &Model,
        ranges: &[ByteRange],
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<u64, EngineError> {
        let (model, size) = (known.manifest.file, known.manifest.size_bytes);
        let total = aligned_len(ranges, size);
        let here = self
            .mesh
            .blobs()
            .present(model, size)
            .await
            .map_err(|error| EngineError::Weights(error.to_string()))?;
        let missing = |range: &&ByteRange| !here.iter().any(|part| part.start <= range.start && range.end <= part.end);
        if ranges.iter().find(missing).is_none() {
            return Ok(0);
        }
        let mut last_error = String::from("none of its holders is online");
        for source in self.sources(known) {
            match self.mesh.fetch(source, model, size, ranges, |received| progress(received, total)).await {
                Ok(fetched) => return Ok(fetched.payload_bytes),
                Err(error) => last_error = error.to_string(),
            }
        }
        Err(EngineError::Weights(last_error))
    }

    /// Holders of the whole file that are online, this machine left out.
    fn sources(&self, known: &Model) -> Vec<DeviceId> {
        let online = self.mesh.peers();
        known
            .holders
            .iter()
            .filter(|holder| online.iter().any(|peer| peer.device == **holder && peer.path != PeerPath::Offline))
            .copied()
            .collect()
    }

    async fn publish(&self, model: BlobHash, layers: LayerRange) -> Result<(), EngineError> {
        let me = self.mesh.device();
        let state = self.replica.state();
        let published = state.machines.get(&me).and_then(|machine| machine.shards.get(&model));
        if published != Some(&layers) {
            self.replica.record(Intent::HostShard { model, layers }).await?;
        }
        Ok(())
    }

    fn lock_loaded(&self) -> MutexGuard<'_, BTreeMap<(BlobHash, LayerRange), Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_sessions(&self) -> MutexGuard<'_, BTreeMap<JobId, (Option<DeviceId>, SessionInbox)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
