//! Gossip: hints ("my feeds now end somewhere else") and words of presence.
//!
//! Topics are derived from keys of the charter: whoever was removed does not know
//! the next one. This device speaks on the topic of the current epoch and listens
//! on those of a few earlier ones too, because not everyone learns of a new epoch
//! at once. Each word is signed by the device that says it; who delivered it
//! says nothing. Nothing that is said is truth, and all of it may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use tokio::sync::{broadcast, mpsc, oneshot};

use exo_model::codec;
use exo_model::id::{CommunityId, DeviceId};
use exo_model::port::Signer as _;
use exo_model::signature::{self, Signature};

use super::Inner;
use super::community::Here;
use super::swarm::News;
use crate::hub::{Hint, Input, Presence};
use crate::replica::Topics;

/// Longest word, in bytes: what gossip carries, less its own part.
const WORD_BYTES_MAX: usize = 3_500;
/// Words and changes of neighbours that may wait to be heard; whoever is slower
/// begins anew.
const HEARD_MAX: usize = 1_024;
/// Pause before a lost subscription is renewed.
const RESUBSCRIBE: Duration = Duration::from_secs(1);
/// Words of one device that are looked at in one period.
const WORDS_PER_PERIOD: u32 = 200;
/// See [`WORDS_PER_PERIOD`]: 10 s.
const PERIOD: Duration = Duration::from_secs(10);

/// What this node wants said.
#[derive(Debug)]
pub(super) enum Word {
    Hint(Hint),
    Presence(Presence),
    /// That this node goes; the sender is told when it was said.
    Goodbye(oneshot::Sender<()>),
}

/// What is said, as it travels.
#[derive(Debug, Encode, Decode)]
enum Said {
    #[n(0)]
    Hint(#[n(0)] Hint),
    #[n(1)]
    Presence(#[n(0)] Presence),
}

/// A word with its author's signature.
#[derive(Debug, Encode, Decode)]
struct Signed {
    /// Who says it.
    #[n(0)]
    origin: DeviceId,
    /// Grows with every word of the same device: repeated ones are dropped. Wall
    /// time of saying, ms, and a little more where two fall in one ms.
    #[n(1)]
    stamp: u64,
    /// What.
    #[cbor(n(2), with = "minicbor::bytes")]
    body: Vec<u8>,
    /// Over `("exo/gossip/1", community, stamp, body)`.
    #[n(3)]
    signature: Signature,
}

fn message(community: &CommunityId, stamp: u64, body: &[u8]) -> Vec<u8> {
    codec::encode(&("exo/gossip/1", *community, stamp, <&minicbor::bytes::ByteSlice>::from(body)))
}

/// Says and hears for one community, for as long as it is open.
pub(super) async fn run(
    inner: Arc<Inner>,
    here: Arc<Here>,
    mut words: mpsc::Receiver<Word>,
    mut introduced: mpsc::Receiver<Vec<DeviceId>>,
) {
    let mut snapshot = here.replica().watch();
    let mut mouth = Mouth {
        inner: inner.clone(),
        here: here.clone(),
        stamp: 0,
        peers: BTreeSet::new(),
        topics: Arc::default(),
    };
    let mut ears = Ears::default();
    loop {
        let topics = snapshot.borrow_and_update().topics.clone();
        mouth.peers.retain(|device| here.admits(device));
        let (heard, mut words_heard) = broadcast::channel(HEARD_MAX);
        for topic in &topics.heard {
            inner.swarm.subscribe(*topic, heard.clone(), mouth.peers.iter().copied().collect()).await;
        }
        mouth.topics = topics.clone();
        drop(heard);
        let mut neighbours = BTreeSet::new();
        let lost = loop {
            tokio::select! {
                event = words_heard.recv(), if !topics.heard.is_empty() => match event {
                    Ok(News::Word(word, by)) => ears.hear(&inner, &here, &word, by),
                    Ok(News::Up(topic, device)) if topics.spoken == Some(topic) => {
                        neighbours.insert(device);
                        inner.hear(Input::Neighbours(here.id(), neighbours.clone()));
                    }
                    Ok(News::Down(topic, device)) if topics.spoken == Some(topic) => {
                        neighbours.remove(&device);
                        inner.hear(Input::Neighbours(here.id(), neighbours.clone()));
                        // One of two links may be gone, and the other one stands.
                        if here.admits(&device) {
                            mouth.introduce(vec![device]).await;
                        }
                    }
                    Ok(News::Up(..) | News::Down(..)) => {}
                    // What was missed comes by exchange, then we listen again.
                    Err(_) => break true,
                },
                word = words.recv() => match word {
                    Some(word) => mouth.say(word).await,
                    None => return,
                },
                devices = introduced.recv() => match devices {
                    Some(devices) => mouth.introduce(devices).await,
                    None => return,
                },
                changed = snapshot.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if snapshot.borrow_and_update().topics != topics {
                        break false;
                    }
                }
            }
        };
        for topic in &topics.heard {
            inner.swarm.quit(*topic).await;
        }
        inner.hear(Input::Neighbours(here.id(), BTreeSet::new()));
        if lost {
            inner.hear(Input::Lagged(here.id()));
            tokio::time::sleep(RESUBSCRIBE).await;
        }
    }
}

/// What is said by this node.
struct Mouth {
    inner: Arc<Inner>,
    here: Arc<Here>,
    stamp: u64,
    /// Devices that were linked: whom to begin with on the next topic.
    peers: BTreeSet<DeviceId>,
    topics: Arc<Topics>,
}

impl Mouth {
    async fn say(&mut self, word: Word) {
        let (said, done) = match word {
            Word::Hint(hint) => (Said::Hint(hint), None),
            Word::Presence(presence) => (Said::Presence(presence), None),
            Word::Goodbye(done) => (Said::Presence(Presence::Gone), Some(done)),
        };
        if let Some(topic) = self.topics.spoken {
            let signed = self.sign(&said);
            self.inner.swarm.say(topic, Bytes::from(codec::encode(&signed))).await;
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn sign(&mut self, said: &Said) -> Signed {
        let body = codec::encode(said);
        self.stamp = wall_ms().max(self.stamp + 1);
        let signature = self.inner.secret.sign(&message(&self.here.id(), self.stamp, &body));
        Signed { origin: self.inner.me, stamp: self.stamp, body, signature }
    }

    async fn introduce(&mut self, devices: Vec<DeviceId>) {
        for topic in &self.topics.heard {
            self.inner.swarm.join(*topic, devices.clone()).await;
        }
        self.peers.extend(devices);
    }
}

/// What was heard, to drop what is repeated or too much.
#[derive(Default)]
struct Ears {
    last: BTreeMap<DeviceId, Heard>,
}

struct Heard {
    stamp: u64,
    period: tokio::time::Instant,
    words: u32,
}

impl Ears {
    fn hear(&mut self, inner: &Arc<Inner>, here: &Here, content: &[u8], by: DeviceId) {
        let Ok(signed) = codec::decode::<Signed>(content, WORD_BYTES_MAX) else { return };
        let origin = signed.origin;
        // Counted before the signature is checked, which costs most.
        if origin == inner.me || !here.admits(&origin) || !self.counts(&origin, signed.stamp) {
            return;
        }
        let message = message(&here.id(), signed.stamp, &signed.body);
        if signature::verify(&origin, &message, &signed.signature).is_err() {
            return;
        }
        if let Some(heard) = self.last.get_mut(&origin) {
            heard.stamp = heard.stamp.max(signed.stamp);
        }
        match codec::decode::<Said>(&signed.body, WORD_BYTES_MAX) {
            Ok(Said::Hint(hint)) => {
                inner.hear(Input::Hinted { community: here.id(), origin, by, hint });
            }
            Ok(Said::Presence(presence)) => {
                inner.hear(Input::Presence(here.id(), origin, presence));
                inner.driver.tell_watchers();
            }
            // A newer program's.
            Err(_) => {}
        }
    }

    /// Whether a word of a device is new, and not one of too many.
    fn counts(&mut self, origin: &DeviceId, stamp: u64) -> bool {
        let now = tokio::time::Instant::now();
        let new = || Heard { stamp: 0, period: now, words: 0 };
        // Of members only: no more than there are.
        let heard = self.last.entry(*origin).or_insert_with(new);
        if now.duration_since(heard.period) >= PERIOD {
            (heard.period, heard.words) = (now, 0);
        }
        heard.words += 1;
        stamp > heard.stamp && heard.words <= WORDS_PER_PERIOD
    }
}

fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
