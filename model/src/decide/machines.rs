//! Intents about machines and models.

use super::{Intent, Refusal};
use crate::cluster::{MODELS_MAX, SHARDS_PER_MACHINE_MAX, are_addresses};
use crate::community::Community;
use crate::event::{ClusterEvent, Event, LibraryEvent};
use crate::feed::Stream;

pub(super) fn decide(community: &Community, intent: Intent) -> Result<(Stream, Event), Refusal> {
    let state = community.state();
    let me = community.device();
    if !community.may_write_now(&Stream::Cluster) {
        return Err(Refusal::NotEntitled);
    }
    match intent {
        Intent::OfferMachine { memory_bytes, micros_per_mib, addresses } => {
            if !are_addresses(&addresses) {
                return Err(Refusal::Addresses);
            }
            Ok((
                Stream::Cluster,
                ClusterEvent::MachineOffered { memory_bytes, micros_per_mib, addresses }.into(),
            ))
        }
        Intent::HostShard { model, layers } => {
            let known = state.models.get(&model).and_then(|model| model.manifest.all_layers());
            if !known.is_some_and(|all| all.covers(layers)) {
                return Err(Refusal::UnknownModel);
            }
            if !state.has_shard_room(&me, &model) {
                return Err(Refusal::Full {
                    what: "models hosted by one machine",
                    max: SHARDS_PER_MACHINE_MAX,
                });
            }
            Ok((Stream::Cluster, ClusterEvent::ShardHosted { model, layers }.into()))
        }
        Intent::DropShard { model } => Ok((Stream::Cluster, ClusterEvent::ShardDropped { model }.into())),
        Intent::AddModel(manifest) => {
            manifest.check()?;
            match state.models.get(&manifest.file) {
                Some(known) if known.manifest != manifest || known.holders.contains(&me) => {
                    return Err(Refusal::Exists("model"));
                }
                None if state.models.len() >= MODELS_MAX => {
                    return Err(Refusal::Full { what: "models", max: MODELS_MAX });
                }
                _ => {}
            }
            Ok((Stream::Library, LibraryEvent::ModelAdded { manifest }.into()))
        }
        _ => Err(Refusal::NotEntitled),
    }
}
