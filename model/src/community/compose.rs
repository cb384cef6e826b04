//! From an event to the change that carries it: heads, seal, segment.

use crate::certificate::DeviceCertificate;
use crate::charter::settings::{CommunityKind, Settings};
use crate::codec;
use crate::envelope::{ENVELOPE_VERSION, Envelope, HEADS_MAX, SegmentEnd, sealed_context};
use crate::epochs::{seal_audience, seal_context};
use crate::event::Event;
use crate::event::charter::CharterEvent;
use crate::event::keys::{Audience, KeyEvent, SEALS_MAX};
use crate::feed::fence::Fence;
use crate::feed::{Change, FeedId, FeedPosition, Stream, TIME_MS_MAX, rolls};
use crate::id::{ChangeHash, CommunityId, DeviceId, KeyId, SealingPublicKey};
use crate::port::{Entropy, Signer};
use crate::sealing::{Cipher, EpochKey, SealedKey, fresh_nonce, seal_key};

use super::Community;

/// Where a device's own stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedEnd {
    /// Its last segment.
    pub segment: u32,
    /// The end of that segment.
    pub at: FeedPosition,
    /// Wall time of that segment's first change, ms since the Unix epoch.
    pub first_time_ms: i64,
}

/// A change ready to be signed, stored and shown, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// Its feed.
    pub feed: FeedId,
    /// The change before it in that feed.
    pub position: FeedPosition,
    /// The change.
    pub change: Change,
}

/// Why an event cannot be written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// The audience has no epoch that is fit to write under: start one.
    #[error("there is no key to write with for {0} yet; another member's device has to come online once")]
    NoEpoch(Audience),
    /// So many people wrote apart that their heads do not fit one event.
    #[error(
        "more than {HEADS_MAX} people changed the community apart from each other; a member has to join them with any act of governance first"
    )]
    Heads,
}

impl Community {
    /// The change that records `event` next in this device's `stream`, which
    /// ends at `end`.
    ///
    /// # Errors
    /// [`ComposeError`].
    pub fn compose(
        &self,
        signer: &dyn Signer,
        stream: Stream,
        end: Option<FeedEnd>,
        event: &Event,
        now_ms: i64,
        entropy: &dyn Entropy,
    ) -> Result<Composed, ComposeError> {
        let key = match stream.audience() {
            Some(audience) => Some(self.writing_key(&audience).ok_or(ComposeError::NoEpoch(audience))?),
            None => None,
        };
        let first = FeedId::new(self.id, signer.device(), stream);
        let (feed, position, previous) = place(signer, first, end, now_ms);
        let context = self.contexts.get(&feed.into()).filter(|context| context.at == position);
        let heads = self.cited_heads(&stream)?;
        let inherits = |same: bool| position.seq > 0 && same;
        let envelope = Envelope {
            version: ENVELOPE_VERSION,
            lamport: self.next_lamport(),
            body: Vec::new(),
            heads: (!inherits(context.is_some_and(|context| *context.heads == heads[..]))).then_some(heads),
            key: key.filter(|_| !inherits(context.is_some_and(|context| context.key == key))),
            previous,
        };
        let cipher = key.and_then(|key| self.keyring.cipher(&key).map(|cipher| (key, cipher)));
        let change = seal(&feed, position.seq + 1, envelope, event, cipher, now_ms, entropy);
        Ok(Composed { feed, position, change })
    }

    /// The key that an audience's next words are sealed with.
    pub fn writing_key(&self, audience: &Audience) -> Option<KeyId> {
        if let Some(known) = self.writing.borrow().get(audience) {
            return *known;
        }
        let key = self.epochs.current(&self.charter, audience, |key| self.keyring.contains(key));
        self.writing.borrow_mut().insert(*audience, key);
        key
    }

    /// A charter act cites all heads and so joins them; other events may cite
    /// the newest ones only.
    fn cited_heads(&self, stream: &Stream) -> Result<Vec<ChangeHash>, ComposeError> {
        let mut heads = self.charter.heads();
        if heads.len() > HEADS_MAX && *stream != Stream::Charter {
            return Err(ComposeError::Heads);
        }
        heads.truncate(HEADS_MAX);
        Ok(heads)
    }

    /// Whether there is an epoch to write under, the key of which may still be
    /// on its way to this device.
    pub fn has_fit_epoch(&self, audience: &Audience) -> bool {
        self.epochs.current(&self.charter, audience, |_| true).is_some()
    }

    /// A new epoch for an audience: the key, and the event that seals it to
    /// everyone who reads. More recipients than fit are sealed to by the
    /// events of later [duties](Community::duties).
    pub fn start_epoch(&self, audience: Audience, entropy: &dyn Entropy) -> (EpochKey, KeyEvent) {
        let key = EpochKey::generate(entropy);
        let event = self.announce_epoch(audience, &key, entropy);
        (key, event)
    }

    /// The event that announces a key for an audience.
    pub fn announce_epoch(&self, audience: Audience, key: &EpochKey, entropy: &dyn Entropy) -> KeyEvent {
        let now = self.charter.now();
        let recipients = self.epochs.recipients(&now, &audience);
        let seals = self.seal_to(&audience, key, recipients.keys().take(SEALS_MAX), entropy);
        KeyEvent::EpochStarted { audience, key: key.id(), seals, fence: self.rotation_fence(&audience) }
    }

    /// Seals a key that is held here to people who may have it.
    pub fn seal_more(
        &self,
        audience: Audience,
        key: &KeyId,
        recipients: &[SealingPublicKey],
        entropy: &dyn Entropy,
    ) -> Option<KeyEvent> {
        let epoch = self.keyring.key(key)?;
        let seals = self.seal_to(&audience, epoch, recipients.iter().take(SEALS_MAX), entropy);
        Some(KeyEvent::KeySealed { audience, key: *key, seals })
    }

    fn seal_to<'a>(
        &self,
        audience: &Audience,
        key: &EpochKey,
        recipients: impl Iterator<Item = &'a SealingPublicKey>,
        entropy: &dyn Entropy,
    ) -> Vec<SealedKey> {
        let name = seal_audience(audience);
        let context = seal_context(self.id, &name);
        // A recipient whose key is no key of the curve harms only themselves.
        recipients.filter_map(|recipient| seal_key(key, recipient, &context, entropy).ok()).collect()
    }

    /// How far the feeds of people who no longer read an audience count in it,
    /// where whoever removed them may not have seen these feeds.
    fn rotation_fence(&self, audience: &Audience) -> Fence {
        if !matches!(audience, Audience::Channel(_) | Audience::Direct(_)) {
            return Fence::default();
        }
        let gone = self.state.charter.former_devices.keys().copied().collect();
        let fence = self.fence_of(&gone);
        let own = fence.entries().iter().filter(|entry| entry.stream.audience() == Some(*audience));
        Fence::new(own.copied())
    }
}

/// In which segment, after what, the next change goes.
fn place(
    signer: &dyn Signer,
    first: FeedId,
    end: Option<FeedEnd>,
    now_ms: i64,
) -> (FeedId, FeedPosition, Option<SegmentEnd>) {
    let Some(end) = end else { return (first, FeedPosition::START, None) };
    let feed = first.with_segment(end.segment);
    if !rolls(&end.at, end.first_time_ms, now_ms) {
        return (feed, end.at, None);
    }
    let signature = signer.sign(&feed.signed_message(&end.at));
    let previous = SegmentEnd { end: end.at, signature };
    (first.with_segment(end.segment + 1), FeedPosition::START, Some(previous))
}

fn seal(
    feed: &FeedId,
    seq: u64,
    mut envelope: Envelope,
    event: &Event,
    cipher: Option<(KeyId, &Cipher)>,
    now_ms: i64,
    entropy: &dyn Entropy,
) -> Change {
    let body = codec::encode(event);
    envelope.body = match cipher {
        None => body,
        Some((key, cipher)) => {
            let context = sealed_context(feed, seq, envelope.lamport, envelope.heads.as_deref(), Some(key));
            let mut sealed = Vec::with_capacity(body.len() + crate::sealing::SEAL_OVERHEAD);
            cipher.seal_into(&context, &fresh_nonce(entropy), &body, &mut sealed);
            sealed
        }
    };
    Change { time_ms: now_ms.clamp(0, TIME_MS_MAX), payload: envelope.encode() }
}

/// A new community: its first charter change, and the key it is sealed with.
/// The hash of that change's payload is the community's id, and the id is part
/// of what is sealed; so the founding event alone is sealed for a community
/// of zeros.
#[expect(clippy::too_many_arguments, reason = "everything a community begins with")]
pub fn found(
    kind: CommunityKind,
    certificate: DeviceCertificate,
    founder_name: String,
    settings: Settings,
    nonce: [u8; 16],
    key: &EpochKey,
    now_ms: i64,
    entropy: &dyn Entropy,
) -> (FeedId, Change) {
    let device: DeviceId = certificate.claims.device;
    let event =
        Event::from(CharterEvent::Founded { kind, founder: certificate, founder_name, settings, nonce });
    let unnamed = FeedId::new(CommunityId::from_bytes([0; 32]), device, Stream::Charter);
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        lamport: 1,
        body: Vec::new(),
        heads: Some(Vec::new()),
        key: Some(key.id()),
        previous: None,
    };
    let change = seal(&unnamed, 1, envelope, &event, Some((key.id(), &Cipher::new(key))), now_ms, entropy);
    let id = CommunityId::from_bytes(*blake3::hash(&change.payload).as_bytes());
    (FeedId { community: id, ..unnamed }, change)
}
