//! Tending keys: epochs are started, their keys sealed to who may have them,
//! and what is missing is asked for; and keepers are told who takes part.
//!
//! Who may have what is said by [`Epochs`](exo_model::epochs::Epochs); here it
//! is done. A key counts as this device's own only once the event that seals it
//! is stored: nothing is ever sealed with a key that a power cut could lose.

use std::collections::BTreeSet;

use exo_model::charter::Role;
use exo_model::community::Inserted;
use exo_model::epochs::{KeyDuty, seal_audience, seal_context};
use exo_model::event::keys::{Audience, KeyEvent};
use exo_model::feed::Stream;
use exo_model::id::{CommunityId, KeyId, SealingPublicKey};
use exo_model::sealing::{EpochKey, SealedKey, open_key, seal_key};

use super::worker::Worker;
use super::{ReplicaError, SealedGovernance, TOPICS_MAX, Topics};

/// Key events written in one go of tending; the rest waits for the next.
const DUTIES_AT_ONCE: usize = 32;
/// Purpose of the key that a gossip topic is.
const TOPIC_CONTEXT: &str = "exo-studio exo/topic/1";

impl Worker {
    pub(super) fn rotate(&mut self, audience: Audience) -> Result<(), ReplicaError> {
        let (key, event) = self.community.start_epoch(audience, self.entropy.as_ref());
        self.community.learn_key(key);
        self.write(Stream::Keys, &event.into()).map(drop)
    }

    /// Does what holders of keys owe others.
    pub(super) fn tend(&mut self) -> Result<(), ReplicaError> {
        if self.keeping.is_some() {
            return Ok(());
        }
        self.prove_partings()?;
        self.tend_keys()
    }

    /// The same as far as it is about keys.
    pub(super) fn tend_keys(&mut self) -> Result<(), ReplicaError> {
        for duty in self.community.duties().into_iter().take(DUTIES_AT_ONCE) {
            match duty {
                KeyDuty::Rotate(audience) if self.community.has_fit_epoch(&audience) => {}
                KeyDuty::Rotate(audience) => self.rotate(audience)?,
                KeyDuty::Seal { audience, key, recipients } => {
                    let entropy = self.entropy.as_ref();
                    let event = self.community.seal_more(audience, &key, &recipients, entropy);
                    if let Some(event) = event {
                        self.write(Stream::Keys, &event.into())?;
                    }
                }
            }
        }
        for (audience, key) in self.community.wanted_keys() {
            let recipient = self.community.sealing_key();
            self.write(Stream::Keys, &KeyEvent::KeyWanted { audience, key, recipient }.into())?;
            self.community.complained(audience, key);
        }
        for event in self.community.list_due() {
            self.write(Stream::Keys, &event.into())?;
        }
        Ok(())
    }

    /// Where the community gossips now, as this device knows.
    pub(super) fn topics(&self) -> Topics {
        let community = &self.community;
        let holds = |key: &KeyId| community.keyring().key(key).is_some();
        let held = community.epochs().held(community.charter(), &Audience::Governance, holds);
        let topic = |key: &KeyId| community.keyring().key(key).map(|key| topic_of(community.id(), key));
        let spoken = community.writing_key(&Audience::Governance).as_ref().and_then(topic);
        let mut heard: Vec<_> = spoken.into_iter().collect();
        heard.extend(held.iter().filter_map(topic).filter(|topic| Some(*topic) != spoken));
        heard.truncate(TOPICS_MAX);
        Topics { spoken, heard }
    }

    /// Nothing for a keeper, who may not read the charter.
    pub(super) fn seal_governance(&self, recipient: &SealingPublicKey) -> SealedGovernance {
        let charter = &self.community.state().charter;
        let mut devices = charter.devices.iter().filter(|(_, device)| device.sealing == *recipient);
        if devices.any(|(id, _)| charter.role_of(id) == Some(Role::Keeper)) {
            return Vec::new();
        }
        let name = seal_audience(&Audience::Governance);
        let context = seal_context(self.community.id(), &name);
        let epochs = self.community.epochs().keys_of(self.community.charter(), &Audience::Governance);
        epochs
            .filter_map(|id| {
                let key: &EpochKey = self.community.keyring().key(&id)?;
                Some((id, seal_key(key, recipient, &context, self.entropy.as_ref()).ok()?))
            })
            .collect()
    }

    pub(super) fn learn_governance(&mut self, keys: &[(KeyId, SealedKey)]) -> Result<(), ReplicaError> {
        if self.keeping.is_some() {
            // A keeper takes no key, whoever offers one.
            return Ok(());
        }
        let name = seal_audience(&Audience::Governance);
        let context = seal_context(self.community.id(), &name);
        let mut reopen = BTreeSet::new();
        for (id, seal) in keys {
            match open_key(seal, id, self.community.local_sealing(), &context) {
                Ok(key) => reopen.extend(self.community.learn_key(key)),
                Err(error) => tracing::debug!(key = %id, %error, "a key from the admitting member"),
            }
        }
        if reopen.is_empty() {
            return Ok(());
        }
        self.told(Inserted { reopen, ..Inserted::default() })
    }
}

/// The gossip topic of an epoch of the charter.
fn topic_of(community: CommunityId, key: &EpochKey) -> [u8; 32] {
    let mut material = key.as_bytes().to_vec();
    material.extend_from_slice(community.as_bytes());
    let topic = blake3::derive_key(TOPIC_CONTEXT, &material);
    zeroize::Zeroize::zeroize(&mut material);
    topic
}
