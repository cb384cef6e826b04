//! Gossip hints: "my feeds now end somewhere else".
//!
//! A hint is a digest of all feed ends and whose they are. Whoever has another
//! digest exchanges with that peer, or with every linked one where it has no
//! link to it (a newcomer's hint can come before it is known as a member). Who
//! delivered a hint says nothing: it may not have the news itself. A lost,
//! forged or repeated hint costs at most a few empty exchanges.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh_gossip::api::{Event, GossipReceiver, GossipSender};
use iroh_gossip::net::Gossip;
use iroh_gossip::proto::TopicId;
use minicbor::{Decode, Encode};
use n0_future::StreamExt as _;
use tokio::task::JoinHandle;

use exo_model::codec;
use exo_model::id::{CommunityId, DeviceId};

use super::{Inner, MeshError, device_id, endpoint_id};

/// Changes within this time make one hint.
const GATHER: Duration = Duration::from_millis(15);
/// Longest hint, in bytes.
const HINT_BYTES_MAX: usize = 128;
/// Pause before a lost subscription is renewed.
const RESUBSCRIBE: Duration = Duration::from_secs(1);

/// What is gossiped.
#[derive(Debug, Encode, Decode)]
struct Hint {
    /// Whose feeds end there.
    #[n(0)]
    origin: DeviceId,
    /// Hash over the ends of all its feeds.
    #[cbor(n(1), with = "minicbor::bytes")]
    digest: [u8; 32],
}

/// The gossip topic of a community.
fn topic(community: &CommunityId) -> TopicId {
    let named = codec::encode(&("exo/topic/0", *community));
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
                    heed(inner, &message.content);
                }
                Some(Ok(Event::NeighborUp(id))) => {
                    inner.peers.nudge(&device_id(id));
                }
                Some(Ok(Event::NeighborDown(_))) => {}
                Some(Ok(Event::Lagged) | Err(_)) | None => return,
            },
            changed = snapshot.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(GATHER).await;
                let hint = Hint { origin: inner.me, digest: snapshot.borrow_and_update().digest };
                nudge_deaf(inner, &receiver);
                if sender.broadcast(Bytes::from(codec::encode(&hint))).await.is_err() {
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

fn heed(inner: &Inner, content: &[u8]) {
    let Ok(hint) = codec::decode::<Hint>(content, HINT_BYTES_MAX) else { return };
    if hint.digest != inner.replica.snapshot().digest && !inner.peers.nudge(&hint.origin) {
        inner.peers.nudge_all();
    }
}
