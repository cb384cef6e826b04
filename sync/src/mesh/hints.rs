//! Gossip hints: "my feeds now end somewhere else".
//!
//! A hint is a digest of all feed ends. Whoever has another digest exchanges
//! with the neighbour that delivered it. A lost, forged or repeated hint costs
//! at most one empty exchange.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh_gossip::api::{Event, GossipReceiver, GossipSender};
use iroh_gossip::net::Gossip;
use iroh_gossip::proto::TopicId;
use n0_future::StreamExt as _;
use tokio::task::JoinHandle;

use exo_model::id::{CommunityId, DeviceId};

use super::{Inner, MeshError, device_id, endpoint_id};

/// Changes within this time make one hint.
const GATHER: Duration = Duration::from_millis(15);
/// Pause before a lost subscription is renewed.
const RESUBSCRIBE: Duration = Duration::from_secs(1);

/// The gossip topic of a community.
fn topic(community: &CommunityId) -> TopicId {
    let named = exo_model::codec::encode(&("exo/topic/0", *community));
    TopicId::from_bytes(*exo_model::hash::blake3(&named).as_bytes())
}

pub(super) async fn spawn(inner: Arc<Inner>, gossip: &Gossip) -> Result<JoinHandle<()>, MeshError> {
    let topic = topic(&inner.replica.state().id);
    let subscribed =
        gossip.subscribe(topic, Vec::new()).await.map_err(|error| MeshError::Gossip(error.to_string()))?;
    let gossip = gossip.clone();
    Ok(tokio::spawn(async move {
        let mut channels = Some(subscribed.split());
        loop {
            if let Some((sender, receiver)) = channels.take() {
                follow(&inner, &sender, receiver).await;
            }
            // A slow subscriber is dropped by gossip: what was missed comes by
            // exchange, then we listen again.
            inner.peers.nudge_all();
            tokio::time::sleep(RESUBSCRIBE).await;
            match gossip.subscribe(topic, Vec::new()).await {
                Ok(again) => channels = Some(again.split()),
                Err(error) => tracing::debug!(%error, "gossip"),
            }
        }
    }))
}

async fn follow(inner: &Inner, sender: &GossipSender, mut receiver: GossipReceiver) {
    let mut snapshot = inner.replica.watch();
    let mut links = inner.peers.watch();
    join_linked(inner, sender, &receiver).await;
    loop {
        tokio::select! {
            event = receiver.next() => match event {
                Some(Ok(Event::Received(message))) => {
                    heed(inner, &message.content, device_id(message.delivered_from));
                }
                Some(Ok(Event::NeighborUp(id))) => inner.peers.nudge(&device_id(id)),
                Some(Ok(Event::NeighborDown(_))) => {}
                Some(Ok(Event::Lagged) | Err(_)) | None => return,
            },
            changed = snapshot.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(GATHER).await;
                let digest = snapshot.borrow_and_update().digest;
                nudge_deaf(inner, &receiver);
                if sender.broadcast(Bytes::copy_from_slice(&digest)).await.is_err() {
                    return;
                }
            }
            _ = links.changed() => join_linked(inner, sender, &receiver).await,
        }
    }
}

/// Gossip with one dead bootstrap splits for good; so it is told of every
/// linked peer it is not yet a neighbour of.
async fn join_linked(inner: &Inner, sender: &GossipSender, receiver: &GossipReceiver) {
    let neighbours: Vec<_> = receiver.neighbors().collect();
    let missing: Vec<_> =
        inner.peers.online().iter().filter_map(endpoint_id).filter(|id| !neighbours.contains(id)).collect();
    if !missing.is_empty()
        && let Err(error) = sender.join_peers(missing).await
    {
        tracing::debug!(%error, "gossip join");
    }
}

/// Linked peers that gossip does not reach (yet) are told by an exchange.
fn nudge_deaf(inner: &Inner, receiver: &GossipReceiver) {
    let hearing: Vec<_> = receiver.neighbors().map(device_id).collect();
    for device in inner.peers.online() {
        if !hearing.contains(&device) {
            inner.peers.nudge(&device);
        }
    }
}

fn heed(inner: &Inner, content: &[u8], from: DeviceId) {
    if content != inner.replica.snapshot().digest {
        inner.peers.nudge(&from);
    }
}
