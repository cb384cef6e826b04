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

use std::sync::Arc;

use exo_model::id::DeviceId;
use exo_model::signature::SecretKey;
use exo_sync::mesh::{Mesh, StageStream};
use exo_sync::replica::Replica;
use tokio::sync::mpsc;

use protocol::{FromProvider, Opening};

pub(crate) use asking::{AskEvent, Answer, Question, SharedStage};
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
    #[error("{needed} bytes of memory are needed, {free} of the {offered} offered are free")]
    Memory {
        /// For the layers asked for, with caches and reserve.
        needed: u64,
        /// What is left.
        free: u64,
        /// What this machine offers in all.
        offered: u64,
    },
    #[error("the model's bytes cannot be had: {0}")]
    Weights(String),
    #[error("the model cannot be loaded: {0}")]
    Load(String),
    #[error("the question cannot be put to this model: {0}")]
    Prompt(String),
    #[error("{name}: {reason}")]
    Provider {
        /// Who.
        name: String,
        /// What it said.
        reason: String,
    },
    #[error("{0} fell silent in the middle of the answer")]
    Silent(String),
    #[error(transparent)]
    Replica(#[from] exo_sync::replica::ReplicaError),
    #[error("a background thread failed")]
    Thread,
}

/// The engine of one node.
pub(crate) struct Engine {
    replica: Replica,
    mesh: Mesh,
    key: SecretKey,
    host: Arc<StageHost>,
}

impl Engine {
    pub(crate) fn new(replica: Replica, mesh: Mesh, key: SecretKey, offered_bytes: u64) -> Arc<Self> {
        let host = Arc::new(StageHost::new(replica.clone(), mesh.clone(), offered_bytes));
        Arc::new(Self { replica, mesh, key, host })
    }

    /// What this machine serves.
    pub(crate) fn host(&self) -> &Arc<StageHost> {
        &self.host
    }

    /// Answers the streams that peers open, until the mesh closes.
    pub(crate) async fn serve(self: Arc<Self>, mut streams: mpsc::Receiver<StageStream>) {
        while let Some(stream) = streams.recv().await {
            let engine = self.clone();
            tokio::spawn(async move {
                let peer = stream.peer;
                if let Err(reason) = engine.serve_one(stream).await {
                    tracing::debug!(%peer, %reason, "stage stream ended");
                }
            });
        }
    }

    async fn serve_one(&self, mut stream: StageStream) -> Result<(), String> {
        let first = stream.receiver.receive().await.map_err(|error| error.to_string())?;
        let opening: Opening = protocol::decode(&first.ok_or("closed at once")?)?;
        match opening {
            Opening::Prepare { model, layers } => {
                let StageStream { peer, mut sender, .. } = stream;
                let (news, mut to_send) = mpsc::channel(protocol::MESSAGES_WAITING);
                let host = self.host.clone();
                let preparing = tokio::spawn(async move { host.prepare_for_peer(peer, model, layers, news).await });
                while let Some(message) = to_send.recv().await {
                    sender
                        .send(&protocol::encode(&message))
                        .await
                        .map_err(|error| error.to_string())?;
                }
                sender.finish();
                preparing.await.map_err(|error| error.to_string())
            }
            Opening::Session(terms) => provider::serve(self.host.clone(), *terms, stream).await,
            Opening::Attach { job } => provider::attach(&self.host, job, stream).await,
        }
    }

    fn name_of(&self, device: &DeviceId) -> String {
        self.replica.state().name_of(device)
    }
}

/// What a provider tells a requester that cannot be served.
fn failed(reason: impl ToString) -> FromProvider {
    FromProvider::Failed { reason: reason.to_string() }
}
