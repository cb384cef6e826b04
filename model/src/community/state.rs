//! A community's shared state as plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Community;
use crate::amount::Amount;
use crate::charter::{CharterState, Permission};
use crate::cluster::{Machine, Model, SHARDS_PER_MACHINE_MAX};
use crate::dispute::Disputes;
use crate::id::{BlobHash, ChangeHash, CommunityId, DeviceId};
use crate::ledger::Ledger;
use crate::moderation::Moderation;

/// A community's shared state at some set of events. Cheap to clone: the parts
/// are shared.
#[derive(Clone, Debug)]
pub struct CommunityState {
    /// Which community.
    pub id: CommunityId,
    /// Governance.
    pub charter: Arc<CharterState>,
    /// Disputes.
    pub disputes: Arc<Disputes>,
    /// What moderators did.
    pub moderation: Arc<Moderation>,
    /// Machines of members, by device.
    pub machines: Arc<BTreeMap<DeviceId, Machine>>,
    /// Models by file.
    pub models: Arc<BTreeMap<BlobHash, Model>>,
    /// Credits.
    pub ledger: Arc<Ledger>,
    /// What each member's device can still commit.
    pub headroom: Arc<BTreeMap<DeviceId, Amount>>,
}

impl CommunityState {
    /// Before any event.
    pub fn empty(id: CommunityId) -> Self {
        Self {
            id,
            charter: Arc::default(),
            disputes: Arc::default(),
            moderation: Arc::default(),
            machines: Arc::default(),
            models: Arc::default(),
            ledger: Arc::new(Ledger::new(id)),
            headroom: Arc::default(),
        }
    }

    /// The state of a community; parts that did not change are kept.
    pub(super) fn of(community: &Community, charter: bool, things: bool) -> Self {
        let mut state = community.state.clone();
        if charter {
            state.charter = Arc::new(community.charter.state());
            state.disputes = Arc::new(community.charter.disputes().clone());
            state.moderation = Arc::new(community.charter.moderation().clone());
        }
        if things {
            // Whoever may not share has no machines and models here.
            let is_there = |device: &DeviceId| {
                state.charter.role_of(device).is_some_and(|role| role.may(Permission::Share))
            };
            state.machines = Arc::new(community.machines.of(is_there));
            state.models = Arc::new(community.models.of(is_there));
        }
        if charter || !Arc::ptr_eq(&state.ledger, &community.ledger) {
            state.ledger = community.ledger.clone();
            let heads: Arc<[ChangeHash]> = community.charter.heads().into();
            let headroom =
                |device: &DeviceId| (*device, state.ledger.headroom(device, &heads, &community.charter));
            state.headroom = Arc::new(state.charter.devices.keys().map(headroom).collect());
        }
        state
    }

    /// Whether the device may publish a shard of `model` beside its others.
    pub fn has_shard_room(&self, device: &DeviceId, model: &BlobHash) -> bool {
        self.machines.get(device).is_none_or(|machine| {
            machine.shards.len() < SHARDS_PER_MACHINE_MAX || machine.shards.contains_key(model)
        })
    }

    /// Hash of what charter and ledger say: equal on every peer that has the
    /// same events.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("exo-studio exo/state/1");
        hasher.update(self.id.as_bytes());
        let parts = [
            self.charter.encode(),
            self.disputes.encode_state(),
            self.moderation.encode_state(),
            self.ledger.encode_state(),
        ];
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(&part);
        }
        *hasher.finalize().as_bytes()
    }
}
