//! A question from beginning to end: plan, prepare, lock, open, stream, settle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use exo_inference::chat::{ChatTemplate, Message, Role};
use exo_inference::plan::{Candidate, Plan, PlanRequest, RttTable, StagePlan, plan, stage_memory_bytes};
use exo_inference::sample::Sampling;
use exo_inference::session::{FinishReason, RequesterError, RequesterSession, SessionRequest};
use exo_inference::tokenizer::Tokenizer;
use exo_model::amount::Amount;
use exo_model::community::CommunityState;
use exo_model::decide::Intent;
use exo_model::id::{BlobHash, ChangeHash, DeviceId, JobId};
use exo_model::weights::{LayerRange, ModelManifest};
use exo_sync::mesh::PeerPath;
use tokio::sync::{mpsc, watch};

use super::control;
use super::host::context_tokens;
use super::protocol::{self, FromProvider, Opening, Terms};
use super::requester::{self, EPOCH, LineUp, Listener, Purse};
use super::{Engine, EngineError, provider};
use crate::host::random;

/// Tokens of an answer unless asked otherwise.
const MAX_TOKENS: u32 = 256;
/// Assumed cost of a machine that was not measured, µs per MiB and token:
/// about 2.5 GB/s of weights.
const MICROS_PER_MIB_UNKNOWN: u32 = 400;

/// Longest wait for a provider to open its session; it may wait for sync and
/// for its own next stage.
const READY_MAX: Duration = Duration::from_secs(25);
/// Longest silence of a machine that prepares layers: loading says nothing.
const NEWS_MAX: Duration = Duration::from_secs(120);

/// What a person asks.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The text.
    pub(crate) text: String,
    /// The model's name; any where none.
    pub(crate) model: Option<String>,
    /// Most tokens of the answer; [`MAX_TOKENS`] where none.
    pub(crate) max_tokens: Option<u32>,
}

/// One stage, prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedStage {
    /// Whose machine.
    pub(crate) device: DeviceId,
    /// Which layers.
    pub(crate) layers: LayerRange,
    /// Bytes of weights it had to fetch for them.
    pub(crate) fetched_bytes: u64,
}

/// What happens on the way to an answer.
#[derive(Clone, Debug)]
pub(crate) enum AskEvent {
    /// Who will host which layers.
    Planned(Vec<StagePlan>),
    /// A machine fetches weights: bytes received and in all.
    Fetching { device: DeviceId, received: u64, total: u64 },
    /// The line-up is complete.
    Answering(Vec<SharedStage>),
    /// More of the answer.
    Text(String),
}

/// A finished answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) model: String,
    pub(crate) stages: Vec<SharedStage>,
    pub(crate) tokens: u32,
    /// Tokens put through every stage, the prompt's included.
    pub(crate) positions: u64,
    /// Seconds from the first frame to the last token.
    pub(crate) seconds: f64,
    pub(crate) stopped: bool,
    /// What each provider was paid.
    pub(crate) spent: Vec<(DeviceId, Amount)>,
}

impl Engine {
    /// The model called `name`, or the only reasonable one.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<ModelManifest, EngineError> {
        let file = find_model(&self.replica.state(), name)?;
        Ok(self.host.model(&file)?.manifest)
    }

    /// Makes a model ready on the machines that the plan gives it to.
    pub(crate) async fn share(
        &self,
        model: Option<&str>,
        events: &mpsc::Sender<AskEvent>,
    ) -> Result<Vec<SharedStage>, EngineError> {
        let file = find_model(&self.replica.state(), model)?;
        self.prepare(&file, &BTreeSet::new(), events).await
    }

    async fn prepare(
        &self,
        file: &BlobHash,
        without: &BTreeSet<DeviceId>,
        events: &mpsc::Sender<AskEvent>,
    ) -> Result<Vec<SharedStage>, EngineError> {
        let file = *file;
        let stages = self.line_up(&file, without)?;
        // The one who asks may have stopped listening; the work goes on.
        let _ = events.send(AskEvent::Planned(stages.clone())).await;
        let mut prepared = Vec::new();
        let mut under_way = tokio::task::JoinSet::new();
        for (index, stage) in stages.into_iter().enumerate() {
            let (host, mesh, events) = (self.host.clone(), self.mesh.clone(), events.clone());
            let name = self.name_of(&stage.device);
            under_way.spawn(async move {
                let fetched = if stage.device == mesh.device() {
                    let progress = |received, total| {
                        let _ = events.try_send(AskEvent::Fetching { device: stage.device, received, total });
                    };
                    host.prepare(stage.device, file, stage.layers, progress).await?.fetched_bytes
                } else {
                    prepare_remote(&mesh, &stage, file, name, &events).await?
                };
                let shared =
                    SharedStage { device: stage.device, layers: stage.layers, fetched_bytes: fetched };
                Ok::<_, EngineError>((index, shared))
            });
        }
        while let Some(done) = under_way.join_next().await {
            prepared.push(done.map_err(|_| EngineError::Thread)??);
        }
        prepared.sort_by_key(|(index, _)| *index);
        let prepared: Vec<SharedStage> = prepared.into_iter().map(|(_, stage)| stage).collect();
        // So that the next question finds this line-up standing.
        for stage in prepared.iter().filter(|stage| stage.device != self.mesh.device()) {
            let hosted = |state: &CommunityState| {
                let machine = state.machines.get(&stage.device);
                machine.and_then(|machine| machine.shards.get(&file)) == Some(&stage.layers)
            };
            self.host.arrived(&stage.device, hosted).await;
        }
        Ok(prepared)
    }

    /// Asks; events arrive while it runs. `stop` becoming true ends it early.
    pub(crate) async fn ask(
        &self,
        question: Question,
        events: mpsc::Sender<AskEvent>,
        stop: watch::Receiver<bool>,
    ) -> Result<Answer, EngineError> {
        let file = find_model(&self.replica.state(), question.model.as_deref())?;
        let manifest = self.host.model(&file)?.manifest;
        let mut stopping = stop.clone();
        let preparing = async {
            let (prompt, tokenizer) = self.prompt(&file, &question.text).await?;
            let request = self.request(&manifest, &question, prompt, &tokenizer);
            let refused = |error: RequesterError| EngineError::Prompt(error.to_string());
            // Looked at before credit is locked for it.
            RequesterSession::new(request.clone()).map_err(refused)?;
            let (request, line_up, stages) = self.line_up_for(request, &manifest, &events).await?;
            let session = RequesterSession::new(request).map_err(refused)?;
            Ok::<_, EngineError>((session, tokenizer, line_up, stages))
        };
        // Whatever is fetched or loaded by then stays; the locks are given
        // back by those they were written for.
        let (session, tokenizer, mut line_up, stages) = tokio::select! {
            prepared = preparing => prepared?,
            () = provider::until(&mut stopping) => return Err(EngineError::Stopped),
        };

        let _ = events.send(AskEvent::Answering(stages.clone())).await;

        let mut text = String::new();
        let mut on_text = |piece: String| {
            text.push_str(&piece);
            // A listener that lags misses pieces on screen, not in the answer.
            let _ = events.try_send(AskEvent::Text(piece));
        };
        let purse = Purse { key: &self.key, community: self.replica.state().id };
        let begun = Instant::now();
        let listener = Listener { on_text: &mut on_text, stop };
        let outcome = requester::run(session, &mut line_up, &purse, tokenizer, listener).await;
        let seconds = begun.elapsed().as_secs_f64();
        requester::close(&mut line_up).await;
        for voucher in line_up.unposted() {
            // The provider is gone; its pay is not.
            if let Err(error) = self.replica.record(Intent::Settle(voucher)).await {
                tracing::warn!(%error, "a voucher could not be posted");
            }
        }
        let run = outcome?;
        Ok(Answer {
            text,
            model: manifest.name,
            stages,
            tokens: run.tokens,
            positions: run.positions,
            seconds,
            stopped: run.reason == FinishReason::Stopped,
            spent: line_up.spent(),
        })
    }

    fn request(
        &self,
        manifest: &ModelManifest,
        question: &Question,
        prompt: Vec<u32>,
        tokenizer: &Tokenizer,
    ) -> SessionRequest {
        SessionRequest {
            session: JobId::from_bytes(random()),
            max_tokens: question.max_tokens.unwrap_or(MAX_TOKENS),
            end_tokens: tokenizer.end_tokens().clone(),
            context_tokens: context_tokens(manifest),
            prompt,
        }
    }

    /// Prepares and opens a line-up. Where one machine fails, once more
    /// without it: peers sleep, and nobody may have noticed yet.
    async fn line_up_for(
        &self,
        mut request: SessionRequest,
        manifest: &ModelManifest,
        events: &mpsc::Sender<AskEvent>,
    ) -> Result<(SessionRequest, LineUp, Vec<SharedStage>), EngineError> {
        let mut without = BTreeSet::new();
        loop {
            let opened = async {
                let stages = self.prepare(&manifest.file, &without, events).await?;
                Ok((self.open(&request, manifest, &stages).await?, stages))
            };
            let opened = opened.await.map(|(line_up, stages)| (request.clone(), line_up, stages));
            match opened {
                Err(EngineError::Provider { device, reason, .. })
                    if without.is_empty() && device != self.mesh.device() =>
                {
                    tracing::info!(peer = %device, %reason, "planning again without it");
                    without.insert(device);
                    // A fresh job: the first one's locks are being given back.
                    request.session = JobId::from_bytes(random());
                }
                outcome => return outcome,
            }
        }
    }

    /// Who hosts which layers: this machine alone where the model fits, a
    /// line-up that stands already where there is one, a fresh plan otherwise;
    /// `without` some machines.
    fn line_up(&self, file: &BlobHash, without: &BTreeSet<DeviceId>) -> Result<Vec<StagePlan>, EngineError> {
        let state = self.replica.state();
        let model = self.host.model(file)?;
        let me = self.mesh.device();
        let peers = self.mesh.peers();
        let mut rtt_to_me: BTreeMap<DeviceId, u32> = peers
            .iter()
            .filter(|peer| peer.path != PeerPath::Offline && !without.contains(&peer.device))
            .map(|peer| {
                let rtt = peer.rtt.map_or(exo_inference::plan::RTT_UNKNOWN_US, |rtt| {
                    u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)
                });
                (peer.device, rtt)
            })
            .collect();
        rtt_to_me.insert(me, 0);
        // What fits on one's own machine stays there: nobody else could read
        // the question, and nothing is paid.
        let own = state.machines.get(&me).map_or(0, |machine| machine.memory_bytes);
        if let Some(all) = model.manifest.all_layers()
            && stage_memory_bytes(&model.manifest, all, context_tokens(&model.manifest)) <= own
        {
            return Ok(vec![StagePlan { device: me, layers: all }]);
        }
        let planned = fresh_plan(&state, &model.manifest, me, &rtt_to_me);
        match standing_line_up(&state, &model.manifest, &rtt_to_me) {
            Some(stages) => Ok(stages),
            None => Ok(planned?.stages),
        }
    }

    /// The question in the model's own template, as tokens.
    async fn prompt(&self, file: &BlobHash, text: &str) -> Result<(Vec<u32>, Arc<Tokenizer>), EngineError> {
        let header = self.host.header(file).await?;
        let prompt = |error: &dyn std::error::Error| EngineError::Prompt(error.to_string());
        let tokenizer = Tokenizer::from_header(&header).map_err(|error| prompt(&error))?;
        let template = ChatTemplate::from_header(&header).map_err(|error| prompt(&error))?;
        let messages = [Message::new(Role::User, text)];
        let tokens = template.encode(&tokenizer, &messages).map_err(|error| prompt(&error))?;
        Ok((tokens, Arc::new(tokenizer)))
    }

    /// Locks credit and opens a session at every stage, last stage first.
    async fn open(
        &self,
        request: &SessionRequest,
        manifest: &ModelManifest,
        stages: &[SharedStage],
    ) -> Result<LineUp, EngineError> {
        let sampling = Sampling::GREEDY;
        let mut line_up = LineUp::new();
        for (index, stage) in stages.iter().enumerate().rev() {
            let mut terms = Terms {
                job: request.session,
                epoch: EPOCH,
                model: manifest.file,
                layers: stage.layers,
                context_tokens: request.context_tokens,
                previous: index.checked_sub(1).map(|before| stages[before].device),
                next: stages.get(index + 1).map(|after| after.device),
                lock: None,
                temperature: sampling.temperature,
                top_k: sampling.top_k,
                top_p: sampling.top_p,
                seed: sampling.seed,
            };
            let name = self.name_of(&stage.device);
            let weight_bytes = manifest.weight_bytes(stage.layers);
            if stage.device == self.mesh.device() {
                // One's own machine is not paid.
                let session = provider::open(&self.host, stage.device, &terms, u64::MAX).await?;
                line_up.seat_local(stage.device, name, weight_bytes, session);
            } else {
                let most = (request.prompt.len() as u64 + u64::from(request.max_tokens))
                    .min(u64::from(request.context_tokens));
                let lock =
                    self.lock(request.session, stage.device, Amount::of_work(most, weight_bytes)).await?;
                terms.lock = Some(lock.0);
                let queues = self.open_remote(stage.device, &name, terms).await?;
                line_up.seat_remote(stage.device, name, weight_bytes, lock, queues);
            }
        }
        Ok(line_up)
    }

    async fn lock(
        &self,
        job: JobId,
        payee: DeviceId,
        max: Amount,
    ) -> Result<(ChangeHash, Amount), EngineError> {
        // Even the smallest job has a lock to cite.
        let max = max.max(Amount::from_token_mib(1));
        let hash = self.replica.record(Intent::Lock { job, payee, max }).await?;
        Ok((hash, max))
    }

    async fn open_remote(
        &self,
        device: DeviceId,
        name: &str,
        terms: Terms,
    ) -> Result<(mpsc::Sender<protocol::ToProvider>, mpsc::Receiver<FromProvider>), EngineError> {
        let fault = |reason: String| EngineError::Provider { device, name: name.to_owned(), reason };
        // So that the lock is there when the terms are read.
        self.mesh.sync_soon(&device);
        let mut stream = self.mesh.open_stage(device).await.map_err(|error| fault(error.to_string()))?;
        stream
            .sender
            .send(&protocol::encode(&Opening::Session(Box::new(terms))))
            .await
            .map_err(|error| fault(error.to_string()))?;
        let (to, mut from) = control::split(stream);
        match tokio::time::timeout(READY_MAX, from.recv()).await {
            Ok(Some(FromProvider::Ready { .. })) => Ok((to, from)),
            Ok(Some(FromProvider::Failed { reason })) => Err(fault(reason)),
            _ => Err(fault("it did not answer".into())),
        }
    }
}

/// The model called `name`, or the only reasonable one.
fn find_model(state: &CommunityState, name: Option<&str>) -> Result<BlobHash, EngineError> {
    let Some(name) = name else {
        return state.models.keys().next().copied().ok_or(EngineError::NoModel);
    };
    state
        .models
        .iter()
        .find(|(file, model)| model.manifest.name.eq_ignore_ascii_case(name) || file.to_string() == name)
        .map(|(file, _)| *file)
        .ok_or_else(|| EngineError::UnknownModel(name.to_owned()))
}

fn fresh_plan(
    state: &CommunityState,
    manifest: &ModelManifest,
    me: DeviceId,
    rtt_to_me: &BTreeMap<DeviceId, u32>,
) -> Result<Plan, exo_inference::plan::PlanError> {
    let layer_mib = manifest.all_layers().map_or(0, |all| manifest.weight_bytes(all) >> 20).max(1)
        / u64::from(manifest.layer_count().max(1));
    let layer_mib = layer_mib.max(1);
    let candidates: Vec<Candidate> = rtt_to_me
        .keys()
        .filter_map(|device| {
            let machine = state.machines.get(device)?;
            let micros = match machine.micros_per_mib {
                0 => MICROS_PER_MIB_UNKNOWN,
                measured => measured,
            };
            let us_per_layer = u32::try_from(u64::from(micros).saturating_mul(layer_mib)).unwrap_or(u32::MAX);
            Some(Candidate { device: *device, offered_bytes: machine.memory_bytes, us_per_layer })
        })
        .collect();
    let mut rtt = RttTable::default();
    for (a, a_us) in rtt_to_me {
        for (b, b_us) in rtt_to_me {
            if a < b {
                // Peers do not publish what they measure between themselves
                // yet: the way over this machine is an upper bound.
                rtt.set(*a, *b, a_us.saturating_add(*b_us));
            }
        }
    }
    let context_tokens = context_tokens(manifest);
    plan(&PlanRequest { manifest, requester: me, candidates: &candidates, rtt: &rtt, context_tokens })
}

/// Layers that online machines say they host, where they join up to the whole
/// model: nothing needs to be fetched or loaded again.
fn standing_line_up(
    state: &CommunityState,
    manifest: &ModelManifest,
    online: &BTreeMap<DeviceId, u32>,
) -> Option<Vec<StagePlan>> {
    let mut stages: Vec<StagePlan> = Vec::new();
    let mut reached = 0;
    while reached < manifest.layer_count() {
        let (device, layers) = online
            .keys()
            .filter(|device| stages.iter().all(|stage| stage.device != **device))
            .filter_map(|device| Some((*device, *state.machines.get(device)?.shards.get(&manifest.file)?)))
            .filter(|(_, layers)| layers.start() == reached && layers.end() <= manifest.layer_count())
            .max_by_key(|(_, layers)| layers.end())?;
        stages.push(StagePlan { device, layers });
        reached = layers.end();
    }
    Some(stages)
}

/// Has a peer fetch and load its layers, passing its progress on.
async fn prepare_remote(
    mesh: &exo_sync::mesh::CommunityMesh,
    stage: &StagePlan,
    model: BlobHash,
    name: String,
    events: &mpsc::Sender<AskEvent>,
) -> Result<u64, EngineError> {
    let fault = |reason: String| EngineError::Provider { device: stage.device, name: name.clone(), reason };
    mesh.sync_soon(&stage.device);
    let mut stream = mesh.open_stage(stage.device).await.map_err(|error| fault(error.to_string()))?;
    let opening = Opening::Prepare { model, layers: stage.layers };
    stream.sender.send(&protocol::encode(&opening)).await.map_err(|error| fault(error.to_string()))?;
    let (_to, mut from) = control::split::<protocol::ToProvider, FromProvider>(stream);
    while let Ok(Some(news)) = tokio::time::timeout(NEWS_MAX, from.recv()).await {
        match news {
            FromProvider::Progress { received, total } => {
                let _ = events.try_send(AskEvent::Fetching { device: stage.device, received, total });
            }
            FromProvider::Ready { fetched } => return Ok(fetched),
            FromProvider::Failed { reason } => return Err(fault(reason)),
            FromProvider::Token(_) | FromProvider::Closed => break,
        }
    }
    Err(fault("it did not finish preparing".into()))
}
