//! Running models over the community's machines.
//!
//! [`StageHost`] holds what this machine serves; [`provider`] runs one
//! session's part of it, for a peer or for this machine itself; [`asking`]
//! plans, prepares, locks credit, opens the sessions and streams the answer.
//! What decides (planner, sessions) is `inference`'s; what is here moves
//! frames between it, the mesh and the ledger.

mod asking;
mod control;
mod host;
mod outlet;
mod protocol;
mod provider;
mod requester;
mod weights;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exo_model::id::{BlobHash, DeviceId};
use exo_model::signature::SecretKey;
use exo_model::weights::LayerRange;
use exo_sync::mesh::{CommunityMesh, StageStream};
use exo_sync::replica::Replica;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use protocol::{FromProvider, Opening};

use crate::bytes::human;

pub(crate) use asking::{Answer, AskEvent, Question, SharedStage};
pub(crate) use host::StageHost;

/// Why a model could not be served or asked, in words for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("there is no model in this community yet; add one first")]
    NoModel,
    #[error("no model here is called \"{0}\"")]
    UnknownModel(String),
    #[error("{0}")]
    Plan(#[from] exo_inference::plan::PlanError),
    #[error(
        "{} of memory are needed, {} of the {} offered are free; try again when other models rest",
        human(*needed), human(*free), human(*offered)
    )]
    Memory {
        /// For the layers asked for, with caches and reserve, bytes.
        needed: u64,
        /// What is left, bytes.
        free: u64,
        /// What this machine offers in all, bytes.
        offered: u64,
    },
    #[error("refused: {0}")]
    Refused(String),
    #[error("the model's bytes cannot be had: {0}")]
    Weights(String),
    #[error("the model cannot be loaded: {0}")]
    Load(String),
    #[error("the question cannot be put to this model: {0}")]
    Prompt(String),
    #[error("{name}: {reason}")]
    Provider {
        /// Whose machine.
        device: DeviceId,
        /// Its owner's name.
        name: String,
        /// What it said.
        reason: String,
    },
    #[error("{0} fell silent in the middle of the answer")]
    Silent(String),
    #[error("the built-in model is switched off on this node")]
    StarterOff,
    #[error("stopped before the answer began")]
    Stopped,
    #[error(transparent)]
    Replica(#[from] exo_sync::replica::ReplicaError),
    #[error("a background thread failed")]
    Thread,
}

/// The engine of one node.
pub(crate) struct Engine {
    replica: Replica,
    mesh: CommunityMesh,
    key: SecretKey,
    host: Arc<StageHost>,
    /// Becomes true when sessions are to end.
    closing: watch::Sender<bool>,
    /// Becomes true when the last one has.
    served: watch::Sender<bool>,
}

/// Longest wait for sessions to settle when the program ends.
const CLOSING_MAX: Duration = Duration::from_secs(3);
/// Longest wait for the first frame of a stream.
const OPENING_DEADLINE: Duration = Duration::from_secs(10);
/// Streams of peers that may be served at the same time.
const STREAMS_MAX: usize = 64;
/// How often locks are looked at that nobody will use any more.
const TIDY_EVERY: Duration = Duration::from_secs(60);

impl Engine {
    pub(crate) fn new(
        replica: Replica,
        mesh: CommunityMesh,
        key: SecretKey,
        offered_bytes: u64,
        starter_path: Option<PathBuf>,
    ) -> Arc<Self> {
        let host = Arc::new(StageHost::new(replica.clone(), mesh.clone(), offered_bytes, starter_path));
        let (closing, served) = (watch::Sender::new(false), watch::Sender::new(true));
        Arc::new(Self { replica, mesh, key, host, closing, served })
    }

    /// What this machine serves.
    pub(crate) fn host(&self) -> &Arc<StageHost> {
        &self.host
    }

    /// Answers the streams that peers open, until [`Engine::close`].
    pub(crate) async fn serve(self: Arc<Self>, mut streams: mpsc::Receiver<StageStream>) {
        self.served.send_replace(false);
        let mut closing = self.closing.subscribe();
        let mut serving = JoinSet::new();
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        let mut forgotten = BTreeSet::new();
        loop {
            tokio::select! {
                stream = streams.recv(), if serving.len() < STREAMS_MAX => {
                    let Some(stream) = stream else { break };
                    let engine = self.clone();
                    serving.spawn(async move {
                        let peer = stream.peer;
                        if let Err(reason) = engine.serve_one(stream).await {
                            tracing::debug!(%peer, %reason, "stage stream ended");
                        }
                    });
                }
                Some(_) = serving.join_next() => {}
                _ = tidy.tick() => forgotten = self.host.close_forgotten_locks(&forgotten).await,
                () = provider::until(&mut closing) => break,
            }
        }
        while serving.join_next().await.is_some() {}
        self.served.send_replace(true);
    }

    /// Ends every session served here; what was vouched for is posted.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        let mut served = self.served.subscribe();
        let _ = tokio::time::timeout(CLOSING_MAX, served.wait_for(|served| *served)).await;
    }

    async fn serve_one(&self, mut stream: StageStream) -> Result<(), String> {
        let opening = stream.receiver.receive_at_most(protocol::OPENING_BYTES_MAX);
        let first = tokio::time::timeout(OPENING_DEADLINE, opening)
            .await
            .map_err(|_| "it said nothing")?
            .map_err(|error| error.to_string())?;
        let opening: Opening = protocol::decode(&first.ok_or("closed at once")?)?;
        match opening {
            Opening::Session(terms) => {
                provider::serve(self.host.clone(), *terms, stream, self.closing.subscribe()).await
            }
            // These end at once when the program does: nothing is owed.
            Opening::Prepare { model, layers } => {
                self.unless_closing(self.prepare_for(stream, model, layers)).await
            }
            Opening::Attach { job, requester } => {
                self.unless_closing(provider::attach(&self.host, (requester, job), stream)).await
            }
        }
    }

    /// Prepares layers for a peer and tells it how that goes.
    async fn prepare_for(
        &self,
        stream: StageStream,
        model: BlobHash,
        layers: LayerRange,
    ) -> Result<(), String> {
        let StageStream { peer, mut sender, .. } = stream;
        let (news, mut to_send) = mpsc::channel(protocol::MESSAGES_WAITING);
        let preparing = self.host.prepare_for_peer(peer, model, layers, news);
        let telling = async {
            while let Some(message) = to_send.recv().await {
                sender.send(&protocol::encode(&message)).await.map_err(|error| error.to_string())?;
            }
            sender.finish();
            Ok(())
        };
        tokio::join!(preparing, telling).1
    }

    async fn unless_closing(&self, work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            result = work => result,
            () = provider::until(&mut closing) => Ok(()),
        }
    }

    fn name_of(&self, device: &DeviceId) -> String {
        self.replica.state().charter.name_of(device)
    }
}

/// What a provider tells a requester that cannot be served.
fn failed(reason: impl ToString) -> FromProvider {
    FromProvider::Failed { reason: reason.to_string() }
}
