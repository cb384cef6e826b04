//! A replica without a thread: for whoever runs many of them in one, a
//! simulation above all. The same code as behind a [`Replica`](super::Replica).

use exo_model::decide::Intent;
use exo_model::feed::{FeedId, FeedPosition};
use exo_model::id::{ChangeHash, SealingPublicKey};

use super::intake::Origin;
use super::worker::Worker;
use super::{Ingested, ReplicaConfig, ReplicaError, SealedGovernance, Snapshot, Update};
use crate::session::{Comparison, Known, LineRun};

/// One community's truth on one device, called directly.
pub struct ReplicaCore(Worker);

impl ReplicaCore {
    /// Reads the store back. `observer` is called with every update.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub fn open(
        config: ReplicaConfig,
        observer: impl FnMut(Update) + Send + 'static,
    ) -> Result<Self, ReplicaError> {
        Worker::open(config, Box::new(observer)).map(|(worker, _)| Self(worker))
    }

    /// The snapshot now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    /// See [`Replica::record`](super::Replica::record).
    ///
    /// # Errors
    /// A refusal, or a failing store.
    pub fn record(&mut self, intent: Intent) -> Result<ChangeHash, ReplicaError> {
        self.0.record(intent)
    }

    /// See [`Replica::ingest_line`](super::Replica::ingest_line).
    ///
    /// # Errors
    /// A rejection, or a failing store.
    pub fn ingest_line(&mut self, LineRun { after, run }: LineRun) -> Result<Ingested, ReplicaError> {
        self.0.ingest(run, Some(after), Origin::Peer)
    }

    /// See [`Replica::compare`](super::Replica::compare).
    ///
    /// # Errors
    /// When the store fails.
    pub fn compare(&mut self, known: &Known) -> Result<Comparison, ReplicaError> {
        self.0.compare(known)
    }

    /// See [`Replica::read_line`](super::Replica::read_line).
    ///
    /// # Errors
    /// When the store fails.
    pub fn read_line(
        &self,
        feed: &FeedId,
        tip: &FeedPosition,
        after_seq: u64,
    ) -> Result<Option<LineRun>, ReplicaError> {
        self.0.read_line(feed, tip, after_seq)
    }

    /// See [`Replica::seal_governance`](super::Replica::seal_governance).
    pub fn seal_governance(&self, recipient: &SealingPublicKey) -> SealedGovernance {
        self.0.seal_governance(recipient)
    }

    /// See [`Replica::learn_governance`](super::Replica::learn_governance).
    ///
    /// # Errors
    /// When the store fails.
    pub fn learn_governance(&mut self, keys: &SealedGovernance) -> Result<(), ReplicaError> {
        self.0.learn_governance(keys)
    }

    /// See [`Replica::tend`](super::Replica::tend).
    ///
    /// # Errors
    /// When the store fails.
    pub fn tend(&mut self) -> Result<(), ReplicaError> {
        self.0.tend()
    }
}
