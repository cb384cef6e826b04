//! Epochs: which key an audience writes with, and who still needs it.
//!
//! Key events travel unsealed in `keys` feeds; the keys in them are sealed to
//! their recipients. What counts is judged against the charter: who starts an
//! epoch or seals a key must read the audience, seen from the heads they cite.
//! See `docs/design/encryption.md`.
//!
//! - **Writing.** An epoch is *fit* if it reflects every removal known here, and
//!   if everyone who reads now may have its key. Nobody writes under another.
//! - **Sealing.** Whoever holds a key and sees someone entitled to it without a
//!   working seal posts one.
//!
//! Never here: secret keys. They are in the
//! [`Keyring`](crate::feed::opening::Keyring).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::charter::{Charter, View};
use crate::codec;
use crate::event::keys::{Audience, KeyEvent, SEALS_MAX};
use crate::feed::fence::Fence;
use crate::feed::{FeedId, VerifiedEvent};
use crate::id::{ChangeHash, CommunityId, DeviceId, DirectId, KeyId, PersonId, SealingPublicKey};
use crate::sealing::{SealContext, SealedKey};

/// Most keys that one device may bring up for one audience, announced or only
/// named. What is beyond is not looked at: whoever makes keys up fills their
/// own room and nobody else's.
pub const KEYS_PER_DEVICE_MAX: usize = 1_024;

/// The bytes that name an audience in the seal of a key.
pub fn seal_audience(audience: &Audience) -> Vec<u8> {
    codec::encode(audience)
}

/// What keys of an audience are sealed for.
pub const fn seal_context(community: CommunityId, audience: &[u8]) -> SealContext<'_> {
    SealContext { community, audience }
}

/// One event about a key, at its place.
#[derive(Clone, Debug)]
struct Posted {
    feed: FeedId,
    seq: u64,
    hash: ChangeHash,
    heads: Arc<[ChangeHash]>,
}

/// A key of an audience.
#[derive(Clone, Debug, Default)]
struct Epoch {
    /// Who announced it; several only where someone lies about a key's id.
    started: Vec<(u64, Posted, Fence)>,
    /// Recipients, with the devices that sealed to them.
    seals: BTreeMap<SealingPublicKey, BTreeSet<DeviceId>>,
    /// Recipients that got no working seal, as often as they said so.
    wanted: BTreeMap<SealingPublicKey, BTreeSet<ChangeHash>>,
}

/// Something a holder of keys should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyDuty {
    /// Start a new epoch: the audience has none that is fit to write under.
    Rotate(Audience),
    /// Seal a key to people who may have it.
    Seal {
        /// Whose key.
        audience: Audience,
        /// Which one.
        key: KeyId,
        /// To whom, at most as many as one event carries.
        recipients: Vec<SealingPublicKey>,
    },
}

/// All epochs of a community.
#[derive(Clone, Debug, Default)]
pub struct Epochs {
    by_audience: BTreeMap<Audience, BTreeMap<KeyId, Epoch>>,
    /// How many keys each device brought up.
    brought: BTreeMap<(Audience, DeviceId), usize>,
    /// People of direct conversations, as far as this device knows them.
    directs: BTreeMap<DirectId, BTreeSet<PersonId>>,
}

impl Epochs {
    /// Takes a verified key event; in any order, more than once.
    pub fn insert(&mut self, event: &VerifiedEvent, body: &KeyEvent) {
        let posted =
            || Posted { feed: event.feed, seq: event.seq, hash: event.hash, heads: event.heads.clone() };
        match body {
            KeyEvent::EpochStarted { audience, key, seals, fence } => {
                let Some(epoch) = self.epoch(*audience, *key, event.feed.device) else { return };
                if fence.is_well_formed() && epoch.started.iter().all(|(_, at, _)| at.hash != event.hash) {
                    epoch.started.push((event.lamport, posted(), fence.clone()));
                }
                note_seals(epoch, event.feed.device, seals);
            }
            KeyEvent::KeySealed { audience, key, seals } => {
                if let Some(epoch) = self.epoch(*audience, *key, event.feed.device) {
                    note_seals(epoch, event.feed.device, seals);
                }
            }
            KeyEvent::KeyWanted { audience, key, recipient } => {
                if let Some(epoch) = self.epoch(*audience, *key, event.feed.device) {
                    epoch.wanted.entry(*recipient).or_default().insert(event.hash);
                }
            }
            // Lists for keepers are the roll's.
            KeyEvent::MembershipListed { .. } | KeyEvent::ListedForKeepers { .. } => {}
        }
    }

    fn epoch(&mut self, audience: Audience, key: KeyId, by: DeviceId) -> Option<&mut Epoch> {
        let epochs = self.by_audience.entry(audience).or_default();
        if !epochs.contains_key(&key) {
            let brought = self.brought.entry((audience, by)).or_default();
            if *brought >= KEYS_PER_DEVICE_MAX {
                return None;
            }
            *brought += 1;
        }
        Some(epochs.entry(key).or_default())
    }

    /// Learns who is in a direct conversation, from one of them.
    pub fn learn_direct(&mut self, direct: DirectId, people: BTreeSet<PersonId>) {
        self.directs.insert(direct, people);
    }

    /// Who is in a direct conversation, if this device knows.
    pub fn direct_people(&self, direct: &DirectId) -> Option<&BTreeSet<PersonId>> {
        self.directs.get(direct)
    }

    /// Direct conversations that this device knows of.
    pub fn directs(&self) -> impl Iterator<Item = (&DirectId, &BTreeSet<PersonId>)> {
        self.directs.iter()
    }

    /// Whether the person reads the audience, direct conversations included.
    fn reads(&self, view: &View<'_>, person: &PersonId, audience: &Audience) -> bool {
        view.reads(person, audience)
            && match audience {
                Audience::Direct(direct) => {
                    self.directs.get(direct).is_some_and(|people| people.contains(person))
                }
                _ => true,
            }
    }

    /// Keys of everyone who reads the audience.
    pub fn recipients(&self, view: &View<'_>, audience: &Audience) -> BTreeMap<SealingPublicKey, PersonId> {
        let mut recipients = view.recipients(audience);
        recipients.retain(|_, person| self.reads(view, person, audience));
        recipients
    }

    /// When and how an epoch was announced by someone who might.
    fn start<'a>(
        &'a self,
        charter: &'a Charter,
        audience: &Audience,
        epoch: &'a Epoch,
    ) -> Option<(u64, View<'a>)> {
        epoch
            .started
            .iter()
            .filter(|(_, at, _)| !charter.is_beyond_fence(&at.feed, at.seq, &at.hash))
            .filter_map(|(lamport, at, _)| {
                let view = charter.seen_from(&at.heads)?;
                let author = view.member_of(&at.feed.device)?;
                self.reads(&view, &author, audience).then_some((*lamport, view))
            })
            .min_by_key(|(lamport, _)| *lamport)
    }

    /// Whether someone who reads now may have the key of an epoch that was
    /// started at `start`.
    fn may_have(&self, now: &View<'_>, start: &View<'_>, person: &PersonId, audience: &Audience) -> bool {
        let open = match audience {
            Audience::Governance => true,
            Audience::Members | Audience::Channel(_) => now.open_history() && !now.is_closed(audience),
            Audience::Direct(_) | Audience::Moderators => false,
        };
        open || self.reads(start, person, audience) || now.is_granted(person, audience)
    }

    /// Whether nobody is kept from what is written under the epoch, and nobody
    /// who was removed reads it.
    fn is_fit(&self, now: &View<'_>, start: &View<'_>, audience: &Audience) -> bool {
        start.reflects_removals_known_to(now)
            && self
                .recipients(now, audience)
                .values()
                .all(|person| self.may_have(now, start, person, audience))
    }

    /// The key to write with: of the fit epochs whose key `holds` says is
    /// here, the latest.
    pub fn current(
        &self,
        charter: &Charter,
        audience: &Audience,
        holds: impl Fn(&KeyId) -> bool,
    ) -> Option<KeyId> {
        let now = charter.now();
        let epochs = self.by_audience.get(audience)?;
        epochs
            .iter()
            .filter(|(key, _)| holds(key))
            .filter_map(|(key, epoch)| {
                let (lamport, start) = self.start(charter, audience, epoch)?;
                self.is_fit(&now, &start, audience).then_some((lamport, *key))
            })
            .max()
            .map(|(_, key)| key)
    }

    /// Keys of an audience that `holds` says are here, of epochs that count, the
    /// latest first; fit to write with or not.
    pub fn held(&self, charter: &Charter, audience: &Audience, holds: impl Fn(&KeyId) -> bool) -> Vec<KeyId> {
        let epochs = self.by_audience.get(audience).into_iter().flatten().filter(|(key, _)| holds(key));
        let mut held: Vec<_> =
            epochs.filter_map(|(key, epoch)| Some((self.start(charter, audience, epoch)?.0, *key))).collect();
        held.sort_unstable_by(|one, other| other.cmp(one));
        held.into_iter().map(|(_, key)| key).collect()
    }

    /// What the holder of these keys should do, of everything that `person`
    /// reads.
    pub fn duties(
        &self,
        charter: &Charter,
        person: &PersonId,
        me: &DeviceId,
        audiences: impl IntoIterator<Item = Audience>,
        holds: impl Fn(&KeyId) -> bool,
    ) -> Vec<KeyDuty> {
        let now = charter.now();
        let mut duties = Vec::new();
        for audience in audiences {
            if !self.reads(&now, person, &audience) {
                continue;
            }
            if self.current(charter, &audience, &holds).is_none() {
                duties.push(KeyDuty::Rotate(audience));
            }
            let recipients = self.recipients(&now, &audience);
            for (key, epoch) in self.by_audience.get(&audience).into_iter().flatten() {
                if !holds(key) {
                    continue;
                }
                let Some((_, start)) = self.start(charter, &audience, epoch) else { continue };
                let lacking: Vec<_> = recipients
                    .iter()
                    .filter(|(recipient, _)| epoch.lacks(recipient, me))
                    .filter(|(_, person)| self.may_have(&now, &start, person, &audience))
                    .map(|(recipient, _)| *recipient)
                    .take(SEALS_MAX)
                    .collect();
                if !lacking.is_empty() {
                    duties.push(KeyDuty::Seal { audience, key: *key, recipients: lacking });
                }
            }
        }
        duties
    }

    /// Fences around a device that rotations of an audience carry for its own
    /// streams. A rotation speaks of devices only that were there and are gone,
    /// as its author knew: else any reader could take away another's words.
    pub fn fences<'a>(
        &'a self,
        charter: &'a Charter,
        audience: &'a Audience,
        device: &'a DeviceId,
    ) -> impl Iterator<Item = &'a Fence> {
        self.by_audience.get(audience).into_iter().flat_map(BTreeMap::values).flat_map(move |epoch| {
            let fencing = epoch.started.iter().filter(|(_, _, fence)| !fence.entries().is_empty());
            fencing.filter_map(move |(_, at, fence)| {
                if charter.is_beyond_fence(&at.feed, at.seq, &at.hash) {
                    return None;
                }
                let view = charter.seen_from(&at.heads)?;
                let author = view.member_of(&at.feed.device)?;
                (view.is_former(device) && self.reads(&view, &author, audience)).then_some(fence)
            })
        })
    }

    /// Keys announced for an audience, by anyone who might.
    pub fn keys_of<'a>(
        &'a self,
        charter: &'a Charter,
        audience: &'a Audience,
    ) -> impl Iterator<Item = KeyId> + 'a {
        self.by_audience
            .get(audience)
            .into_iter()
            .flatten()
            .filter(move |(_, epoch)| self.start(charter, audience, epoch).is_some())
            .map(|(key, _)| *key)
    }

    /// Audiences for which keys were announced.
    pub fn audiences(&self) -> impl Iterator<Item = &Audience> {
        self.by_audience.keys()
    }
}

impl Epoch {
    /// Whether a recipient has no working seal that `me` could not better.
    fn lacks(&self, recipient: &SealingPublicKey, me: &DeviceId) -> bool {
        match self.seals.get(recipient) {
            None => true,
            // Each complaint asks for the seal of one holder more.
            Some(by) => {
                let complaints = self.wanted.get(recipient).map_or(0, BTreeSet::len);
                complaints >= by.len() && !by.contains(me)
            }
        }
    }
}

fn note_seals(epoch: &mut Epoch, by: DeviceId, seals: &[SealedKey]) {
    for seal in seals.iter().take(SEALS_MAX) {
        epoch.seals.entry(seal.recipient).or_default().insert(by);
    }
}
