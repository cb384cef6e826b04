//! What importing asks of a replica: to take runs that its owner brings, and
//! keys that their seals hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use exo_model::community::Inserted;
use exo_model::feed::opening::FeedContext;
use exo_model::feed::{FeedPosition, Stream, VerifiedEvent};
use exo_model::id::KeyId;
use exo_model::port::ChangeStore as _;
use exo_model::sealing::SealingKey;

use super::kept::KEPT_KEYS_MAX;
use super::worker::Worker;
use super::{Command, Ingested, Replica, ReplicaError, Reply};
use crate::session::LineRun;

impl Replica {
    /// Reads with the recovery key of this device's person everything that was
    /// ever sealed to it, and keeps the keys for this device. Returns how many
    /// there were.
    ///
    /// # Errors
    /// When the store fails or the keys cannot be kept.
    pub async fn learn_with_phrase(&self, recovery: SealingKey) -> Result<usize, ReplicaError> {
        self.call(|reply| Command::LearnWithPhrase(Arc::new(recovery), reply)).await
    }

    /// Takes a run that the owner of this machine imports. Waits: not for
    /// async code.
    pub(crate) fn import_run(&self, run: LineRun) -> Result<Ingested, ReplicaError> {
        self.ask(|reply| Command::Import(Box::new(run), reply))
    }

    /// Takes keys that are sealed to this device, or to the recovery key, in
    /// events that are not stored yet. Waits: not for async code.
    pub(crate) fn learn_seals(
        &self,
        events: Vec<VerifiedEvent>,
        recovery: Option<Arc<SealingKey>>,
    ) -> Result<usize, ReplicaError> {
        self.ask(|reply| Command::LearnSeals(events, recovery, reply))
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ReplicaError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(command(reply)).map_err(|_| ReplicaError::Closed)?;
        answer.blocking_recv().map_err(|_| ReplicaError::Closed)?
    }
}

impl Worker {
    /// Opens seals of authentic events, and keeps the keys: the events may never
    /// be stored here. A key's id is its hash, so no author can pass one off as
    /// another.
    pub(super) fn learn_seals(
        &mut self,
        events: &[VerifiedEvent],
        recovery: Option<&SealingKey>,
    ) -> Result<usize, ReplicaError> {
        if self.kept.len() >= KEPT_KEYS_MAX {
            return Ok(0);
        }
        let before: BTreeSet<KeyId> = self.community.keyring().ids().copied().collect();
        let mut reopen = self.community.open_mine(events);
        if let Some(recovery) = recovery {
            reopen.extend(self.community.open_with(recovery, events));
        }
        let learned: Vec<_> =
            self.community.keyring().ids().filter(|id| !before.contains(id)).copied().collect();
        self.keep_keys(&learned)?;
        if !reopen.is_empty() {
            self.told(Inserted { reopen, ..Inserted::default() })?;
        }
        Ok(learned.len())
    }

    /// The same with all stored `keys` feeds.
    pub(super) fn learn_with_phrase(&mut self, recovery: &SealingKey) -> Result<usize, ReplicaError> {
        let mut learned = 0;
        for line in self.store.lines(self.community.id())? {
            if line.id.feed.stream != Stream::Keys {
                continue;
            }
            let mut context = FeedContext::default();
            for run in self.read_from(line.id, FeedPosition::START)? {
                let changes = run.changes().iter().zip(run.hashes());
                let events: Vec<_> = changes
                    .map(|(change, hash)| context.open(&line.id, change, *hash, self.community.keyring()))
                    .collect();
                learned += self.learn_seals(&events, Some(recovery))?;
            }
        }
        Ok(learned)
    }
}
