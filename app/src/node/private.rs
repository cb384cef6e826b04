//! The private community: what one person's devices keep among themselves.
//!
//! Threads with models, read positions, what is muted, settings. It is a
//! community like any other, sealed and exchanged in the same way, with one
//! member; it has neither views nor an engine, and faces do not list it.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use exo_model::decide::Intent;
use exo_model::event::private::{Notify, Subject};
use exo_model::event::{Event, PrivateEvent};
use exo_model::id::{ChangeHash, CommunityId, DeviceId};
use exo_model::private::{PrivateState, Written};
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_sync::mesh::{CommunityMesh, JoinProgress, Mesh};
use exo_sync::replica::{Replica, ReplicaConfig, ReplicaError, Update};
use tokio::task::JoinHandle;

use super::announce::{self, Offer};
use super::{KnownTicket, MembershipError, Node, NodeError};
use crate::folder::Folder;
use crate::host::{OsEntropy, SystemClock};

/// One person's private community on this device.
pub(crate) struct PrivateHome {
    replica: Replica,
    mesh: CommunityMesh,
    facts: Arc<RwLock<PrivateState>>,
    join: Mutex<Option<JoinProgress>>,
    announcing: JoinHandle<()>,
}

impl PrivateHome {
    pub(super) async fn open(
        folder: &Folder,
        key: [u8; 32],
        mesh: &Mesh,
        community: CommunityId,
    ) -> Result<Arc<Self>, MembershipError> {
        let path = folder.community(&community)?.store();
        let facts = Arc::new(RwLock::new(PrivateState::default()));
        let told = facts.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let config = ReplicaConfig {
                path,
                community,
                signer: Arc::new(SecretKey::from_bytes(&key)),
                sealing: SealingKey::of_device(&SecretKey::from_bytes(&key)),
                clock: Arc::new(SystemClock),
                entropy: Arc::new(OsEntropy),
                // There are no views: everything is told at every start.
                view_cursors: Vec::new(),
            };
            Replica::open(config, move |update| take(&told, &update))
        });
        let (replica, _thread) =
            opened.await.map_err(|error| MembershipError::Thread(error.to_string()))??;
        let (mesh, _no_stages) = mesh.open(replica.clone());
        let offer = Offer { memory_bytes: 0, micros_per_mib: None };
        let announcing = tokio::spawn(announce::run(replica.clone(), mesh.clone(), move || offer));
        Ok(Arc::new(Self { replica, mesh, facts, join: Mutex::default(), announcing }))
    }

    /// The truth.
    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// What is known; not to be held across an await.
    pub(crate) fn facts(&self) -> RwLockReadGuard<'_, PrivateState> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a fact, here and on the person's other devices.
    pub(crate) async fn note(&self, fact: PrivateEvent) -> Result<ChangeHash, ReplicaError> {
        self.replica.record(Intent::Private(fact)).await
    }

    /// Whether this device may read and write here: it was enrolled.
    pub(crate) fn is_member(&self, device: &DeviceId) -> bool {
        self.replica.state().charter.is_member(device)
    }

    /// Asks the person's other devices to be let in.
    pub(super) fn ask(&self, known: KnownTicket) {
        let progress = self.mesh.join(&known.ticket, known.certificate, known.name);
        *self.join.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    pub(super) async fn close(&self) {
        if let Some(join) = self.join.lock().unwrap_or_else(PoisonError::into_inner).take() {
            join.stop();
        }
        self.announcing.abort();
        self.mesh.leave().await;
        self.replica.close().await;
    }
}

impl Node {
    /// A setting that follows this person to all their devices.
    pub(crate) fn setting(&self, name: &str) -> Result<Option<String>, NodeError> {
        Ok(self.own_facts()?.facts().setting(name).map(ToOwned::to_owned))
    }

    /// Changes such a setting; an empty value sets it back.
    pub(crate) async fn set_setting(&self, name: String, value: String) -> Result<(), NodeError> {
        self.own_facts()?.note(PrivateEvent::SettingSet { name, value }).await?;
        Ok(())
    }

    /// Marks the current community's channel read, up to its newest message.
    pub(crate) async fn mark_read(&self) -> Result<(), NodeError> {
        let membership = self.membership()?;
        let channel = membership.channel()?;
        let newest = membership.query(move |reader| reader.messages(&channel, 1, None)).await?;
        if let Some(newest) = newest.last() {
            let subject = Subject::Channel(membership.id(), channel);
            self.own_facts()?.note(PrivateEvent::ReadUpTo { subject, lamport: newest.lamport }).await?;
        }
        Ok(())
    }

    /// Says how loud the current community may be.
    pub(crate) async fn set_notify(&self, notify: Notify) -> Result<(), NodeError> {
        let subject = Subject::Community(self.membership()?.id());
        self.own_facts()?.note(PrivateEvent::NotifySet { subject, notify }).await?;
        Ok(())
    }

    fn own_facts(&self) -> Result<Arc<PrivateHome>, NodeError> {
        self.private().ok_or(NodeError::NoPrivate)
    }
}

fn take(facts: &RwLock<PrivateState>, update: &Update) {
    let mut facts = facts.write().unwrap_or_else(PoisonError::into_inner);
    for event in &update.events {
        if let Ok(Event::Private(fact)) = &event.event {
            // What is malformed or overtaken changes nothing.
            facts.insert(&Written::of(event), fact);
        }
    }
}
