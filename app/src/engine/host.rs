//! What this machine serves: loaded stages, within the memory it offers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use exo_inference::gguf::Header;
use exo_inference::llama::Stage;
use exo_inference::plan::stage_memory_bytes;
use exo_inference::source::WeightSource as _;
use exo_inference::starter::STARTER_GGUF;
use exo_model::cluster::Model;
use exo_model::community::CommunityState;
use exo_model::decide::Intent;
use exo_model::id::{BlobHash, ChangeHash, DeviceId, JobId};
use exo_model::ledger::LockState;
use exo_model::weights::{ByteRange, LayerRange, ModelManifest};
use exo_sync::blobs::{FetchProgress, FetchRequest, aligned_len};
use exo_sync::mesh::{CommunityMesh, PeerPath};
use exo_sync::replica::Replica;
use tokio::sync::{mpsc, watch};

use super::protocol::FromProvider;
use super::provider::SessionInbox;
use super::weights::BlobWeights;
use super::{EngineError, failed};

/// Longest context a session reserves keys and values for, in tokens.
pub(super) const CONTEXT_TOKENS_MAX: u32 = 2_048;
/// Sessions of others that a machine takes part in at the same time.
const SESSIONS_MAX: usize = 16;
/// Of those, of one requester.
const SESSIONS_PER_PEER_MAX: usize = 4;
/// How long a stage that was prepared is kept for whoever asked for it.
const HOLD: Duration = Duration::from_secs(30);
/// Unpaid positions that are forgiven a second: lines break, people do not
/// cheat for ever.
const FORGIVEN_PER_SECOND: u64 = 1;

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
    /// When it was last asked for, and by whom.
    wanted: Instant,
    wanted_by: DeviceId,
}

/// A job of one requester: job ids alone could be chosen twice.
pub(super) type JobKey = (DeviceId, JobId);

/// A session that runs here.
struct Running {
    previous: Option<DeviceId>,
    inbox: SessionInbox,
    lock: Option<ChangeHash>,
}

/// Work of one payer that was not vouched for.
#[derive(Clone, Copy)]
struct Unpaid {
    positions: u64,
    at: Instant,
}

/// Loaded stages and running sessions of this machine.
pub(crate) struct StageHost {
    pub(super) replica: Replica,
    pub(super) mesh: CommunityMesh,
    offered_bytes: u64,
    /// Where the built-in model is written when it is needed; none where it is
    /// switched off.
    starter_path: Option<PathBuf>,
    loaded: Mutex<BTreeMap<(BlobHash, LayerRange), Loaded>>,
    /// One preparation at a time, so that memory is counted once.
    preparing: tokio::sync::Mutex<()>,
    sessions: Mutex<BTreeMap<JobKey, Running>>,
    unpaid: Mutex<BTreeMap<DeviceId, Unpaid>>,
    micros_per_mib: AtomicU32,
}

/// The context that plans and sessions of a model reserve.
pub(super) fn context_tokens(manifest: &ModelManifest) -> u32 {
    manifest.context_length.min(CONTEXT_TOKENS_MAX)
}

impl StageHost {
    pub(super) fn new(
        replica: Replica,
        mesh: CommunityMesh,
        offered_bytes: u64,
        starter_path: Option<PathBuf>,
    ) -> Self {
        Self {
            replica,
            mesh,
            offered_bytes,
            starter_path,
            loaded: Mutex::default(),
            preparing: tokio::sync::Mutex::default(),
            sessions: Mutex::default(),
            unpaid: Mutex::default(),
            micros_per_mib: AtomicU32::new(0),
        }
    }

    /// Bytes of memory that loaded stages take, and sessions of others that are
    /// served.
    pub(crate) fn in_use(&self) -> (u64, usize) {
        let me = self.mesh.device();
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let used = loaded.values().map(|stage| stage.memory_bytes).sum();
        drop(loaded);
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        (used, sessions.keys().filter(|(requester, _)| *requester != me).count())
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
        let micros = u64::try_from(per_token.as_micros()).unwrap_or(u64::MAX) / mib;
        let before = u64::from(self.micros_per_mib.load(Ordering::Relaxed));
        let mean = if before == 0 {
            micros
        } else {
            before.saturating_mul(3).saturating_add(micros).saturating_add(2) / 4
        };
        self.micros_per_mib.store(u32::try_from(mean.max(1)).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// A loaded stage.
    pub(super) fn stage(&self, model: &BlobHash, layers: LayerRange) -> Option<Arc<Stage>> {
        let mut loaded = self.lock_loaded();
        let stage = loaded.get_mut(&(*model, layers))?;
        stage.wanted = Instant::now();
        Some(stage.stage.clone())
    }

    /// What `payer` may have computed here before it vouches, out of `most`:
    /// less what it left unpaid before.
    pub(super) fn trust_in(&self, payer: &DeviceId, most: u64) -> u64 {
        let unpaid = self.unpaid.lock().unwrap_or_else(PoisonError::into_inner);
        unpaid.get(payer).map_or(most, |unpaid| most.saturating_sub(unpaid.now()))
    }

    /// Notes work that a session of `payer` left unpaid.
    pub(super) fn note_unpaid(&self, payer: DeviceId, positions: u64) {
        let mut unpaid = self.unpaid.lock().unwrap_or_else(PoisonError::into_inner);
        let before = unpaid.get(&payer).map_or(0, Unpaid::now);
        let positions = before.saturating_add(positions);
        unpaid.insert(payer, Unpaid { positions, at: Instant::now() });
    }

    /// Closes locks in this machine's favour that were open at the last look
    /// already and that no session uses: their payers get the rest back.
    /// Returns the ones to look at next time.
    pub(super) async fn close_forgotten_locks(&self, before: &BTreeSet<ChangeHash>) -> BTreeSet<ChangeHash> {
        let me = self.mesh.device();
        let in_use: BTreeSet<ChangeHash> =
            self.lock_sessions().values().filter_map(|running| running.lock).collect();
        let state = self.replica.state();
        let open = state.ledger.locks().iter().filter(|(hash, lock)| {
            lock.payee == me && lock.state() == LockState::Open && !in_use.contains(hash)
        });
        let open: BTreeSet<ChangeHash> = open.map(|(hash, _)| *hash).collect();
        for lock in open.intersection(before) {
            if let Err(error) = self.replica.record(Intent::Close { lock: *lock, voucher: None }).await {
                tracing::warn!(%error, "a forgotten lock could not be closed");
            }
        }
        open
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
            .prepare(peer, model, layers, move |received, total| {
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
        wanted_by: DeviceId,
        model: BlobHash,
        layers: LayerRange,
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Prepared, EngineError> {
        let known = self.model(&model)?;
        if self.stage(&model, layers).is_some() {
            self.publish(model, layers).await?;
            return Ok(Prepared::default());
        }
        let _one_at_a_time = self.preparing.lock().await;
        let manifest = &known.manifest;
        if !manifest.all_layers().is_some_and(|all| all.covers(layers)) {
            return Err(EngineError::Load("it has no such layers".into()));
        }
        if self.stage(&model, layers).is_some() {
            self.publish(model, layers).await?;
            return Ok(Prepared::default());
        }
        let (memory_bytes, dropped) = self.make_room(&wanted_by, manifest, layers)?;
        for model in dropped {
            self.replica.record(Intent::DropShard { model }).await?;
        }
        let ranges = manifest.stage_ranges(layers);
        let fetched_bytes = self.fetch(&known, &ranges, progress).await?;
        let source = BlobWeights::new(self.mesh.blobs().clone(), model, manifest.size_bytes);
        let manifest = manifest.clone();
        let loading = tokio::task::spawn_blocking(move || Stage::load(&source, &manifest, layers));
        let stage = loading
            .await
            .map_err(|_| EngineError::Thread)?
            .map_err(|error| EngineError::Load(error.to_string()))?;
        let loaded = Loaded { stage: Arc::new(stage), memory_bytes, wanted: Instant::now(), wanted_by };
        self.lock_loaded().insert((model, layers), loaded);
        self.publish(model, layers).await?;
        Ok(Prepared { fetched_bytes })
    }

    /// The header of a model file, fetched where it is not here.
    pub(super) async fn header(&self, model: &BlobHash) -> Result<Header, EngineError> {
        let known = self.model(model)?;
        let range = known.manifest.header;
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

    /// Registers a running session.
    pub(super) fn register(
        &self,
        key: JobKey,
        previous: Option<DeviceId>,
        lock: Option<ChangeHash>,
        inbox: SessionInbox,
    ) -> Result<(), EngineError> {
        let me = self.mesh.device();
        let mut sessions = self.lock_sessions();
        let others = sessions.keys().filter(|(requester, _)| *requester != me).count();
        let of_requester = sessions.keys().filter(|(requester, _)| *requester == key.0).count();
        let full = key.0 != me && (others >= SESSIONS_MAX || of_requester >= SESSIONS_PER_PEER_MAX);
        if full || sessions.contains_key(&key) {
            return Err(EngineError::Refused(
                "this machine is busy with other questions; try again soon".into(),
            ));
        }
        sessions.insert(key, Running { previous, inbox, lock });
        Ok(())
    }

    /// Forgets a session.
    pub(super) fn unregister(&self, key: &JobKey) {
        self.lock_sessions().remove(key);
    }

    /// The inbox of a session whose input `previous` is to send.
    pub(super) fn inbox_for(&self, key: &JobKey, previous: &DeviceId) -> Option<SessionInbox> {
        self.lock_sessions()
            .get(key)
            .filter(|running| running.previous.as_ref() == Some(previous))
            .map(|running| running.inbox.clone())
    }

    /// Makes room for a stage: drops unused ones of the same model, then of
    /// others, the longest unwanted first, but none that someone else has just
    /// had prepared. Returns what it needs and the models that are gone.
    fn make_room(
        &self,
        wanted_by: &DeviceId,
        manifest: &ModelManifest,
        layers: LayerRange,
    ) -> Result<(u64, Vec<BlobHash>), EngineError> {
        let needed = stage_memory_bytes(manifest, layers, context_tokens(manifest));
        let mut loaded = self.lock_loaded();
        let free = |loaded: &BTreeMap<_, Loaded>| {
            let used: u64 = loaded.values().map(|stage| stage.memory_bytes).sum();
            self.offered_bytes.saturating_sub(used)
        };
        // A stage that a session holds has another owner of its Arc.
        let mut idle: Vec<_> = loaded
            .iter()
            .filter(|(_, stage)| Arc::strong_count(&stage.stage) == 1)
            .filter(|(_, stage)| stage.wanted_by == *wanted_by || stage.wanted.elapsed() > HOLD)
            .map(|(key, stage)| (key.0 != manifest.file, stage.wanted, *key))
            .collect();
        idle.sort();
        let freeable: u64 =
            idle.iter().filter_map(|(.., key)| loaded.get(key)).map(|stage| stage.memory_bytes).sum();
        if needed > free(&loaded).saturating_add(freeable) {
            return Err(EngineError::Memory { needed, free: free(&loaded), offered: self.offered_bytes });
        }
        let mut dropped = Vec::new();
        for (_, _, key) in idle {
            if needed <= free(&loaded) {
                break;
            }
            loaded.remove(&key);
            if key.0 != manifest.file {
                dropped.push(key.0);
            }
        }
        Ok((needed, dropped))
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
        let missing =
            |range: &&ByteRange| !here.iter().any(|part| part.start <= range.start && range.end <= part.end);
        if ranges.iter().find(missing).is_none() || self.is_built_in(&model).await? {
            return Ok(0);
        }
        let request = FetchRequest {
            community: self.replica.state().id,
            blob: model,
            size_bytes: size,
            ranges: ranges.to_vec(),
            sources: self.sources(known),
        };
        let (sender, mut watcher) = watch::channel(FetchProgress::default());
        let mut fetching = std::pin::pin!(self.mesh.fetch(request, sender));
        let fetched = loop {
            tokio::select! {
                fetched = &mut fetching => break fetched,
                Ok(()) = watcher.changed() => progress(watcher.borrow_and_update().received_bytes, total),
            }
        };
        fetched.map(|fetched| fetched.payload_bytes).map_err(|error| EngineError::Weights(error.to_string()))
    }

    /// Whether `model` is the one in this very program; if so it is in the
    /// blob store afterwards.
    async fn is_built_in(&self, model: &BlobHash) -> Result<bool, EngineError> {
        if self.starter_path.is_none() || *model != exo_model::hash::blake3(STARTER_GGUF) {
            return Ok(false);
        }
        let path = self.write_starter().await?;
        let added = self.mesh.blobs().add_file(self.replica.state().id, &path).await;
        added.map(|_| true).map_err(|error| EngineError::Weights(error.to_string()))
    }

    /// Writes the built-in model to its file, where it is not there already.
    pub(crate) async fn write_starter(&self) -> Result<PathBuf, EngineError> {
        let path = self.starter_path.clone().ok_or(EngineError::StarterOff)?;
        let target = path.clone();
        let writing = tokio::task::spawn_blocking(move || {
            if std::fs::read(&target).is_ok_and(|bytes| bytes == STARTER_GGUF) {
                return Ok(());
            }
            if let Some(folder) = target.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&target, STARTER_GGUF)
        });
        let written = writing.await.map_err(|_| EngineError::Thread)?;
        written.map_err(|error| EngineError::Weights(format!("{}: {error}", path.display())))?;
        Ok(path)
    }

    /// Holders of the whole file that are online, this machine left out.
    fn sources(&self, known: &Model) -> Vec<DeviceId> {
        let online = self.mesh.peers();
        known
            .holders
            .iter()
            .filter(|holder| {
                online.iter().any(|peer| peer.device == **holder && peer.path != PeerPath::Offline)
            })
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

    fn lock_sessions(&self) -> MutexGuard<'_, BTreeMap<JobKey, Running>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unpaid {
    /// What is left of it now.
    fn now(&self) -> u64 {
        let forgiven = self.at.elapsed().as_secs().saturating_mul(FORGIVEN_PER_SECOND);
        self.positions.saturating_sub(forgiven)
    }
}
