//! Keys of a community on this device: taken from seals, asked for, owed.

use std::collections::BTreeSet;

use super::{Community, FAULTS_MAX};
use crate::epochs::{KeyDuty, seal_audience, seal_context};
use crate::event::Event;
use crate::event::keys::{Audience, KeyEvent};
use crate::feed::{FeedId, Stream, VerifiedEvent};
use crate::id::{DirectId, KeyId, PersonId, SealingPublicKey};
use crate::sealing::{EpochKey, OpenError, SealingKey, open_key};

impl Community {
    /// Takes keys that are sealed to this device; returns feeds that can be
    /// read further now.
    pub(super) fn open_seals(&mut self, events: &[VerifiedEvent]) -> BTreeSet<FeedId> {
        let mut unlocked = BTreeSet::new();
        for (audience, key, opened) in self.seals_for(&self.local.sealing, events) {
            match opened {
                Ok(opened) => unlocked.extend(self.learn_key(opened)),
                Err(_) if self.keyring.contains(&key) || self.faults.len() >= FAULTS_MAX => {}
                Err(_) => {
                    self.faults.insert((audience, key));
                }
            }
        }
        unlocked
    }

    /// Takes keys that are sealed to another key of this device's person: with
    /// the recovery key of their phrase, everything they could ever read.
    /// `events` are those of all `keys` feeds; returns feeds that can be read
    /// further now.
    pub fn open_with(&mut self, sealing: &SealingKey, events: &[VerifiedEvent]) -> BTreeSet<FeedId> {
        let opened = self.seals_for(sealing, events);
        opened.into_iter().filter_map(|(_, _, key)| key.ok()).flat_map(|key| self.learn_key(key)).collect()
    }

    /// The same for what is sealed to this device, in events that are not in
    /// its feeds yet: from an export, whose charter is sealed with these keys.
    pub fn open_mine(&mut self, events: &[VerifiedEvent]) -> BTreeSet<FeedId> {
        let opened = self.seals_for(&self.local.sealing, events);
        opened.into_iter().filter_map(|(_, _, key)| key.ok()).flat_map(|key| self.learn_key(key)).collect()
    }

    /// What the seals for `sealing` in these events open to, of keys that are
    /// not here yet.
    fn seals_for(
        &self,
        sealing: &SealingKey,
        events: &[VerifiedEvent],
    ) -> Vec<(Audience, KeyId, Result<EpochKey, OpenError>)> {
        let mine = sealing.public();
        let mut found = Vec::new();
        for event in events {
            let (audience, key, seals) = match &event.event {
                Ok(Event::Keys(
                    KeyEvent::EpochStarted { audience, key, seals, .. }
                    | KeyEvent::KeySealed { audience, key, seals },
                )) => (audience, key, seals),
                _ => continue,
            };
            if self.keyring.contains(key) {
                continue;
            }
            let name = seal_audience(audience);
            for seal in seals.iter().filter(|seal| seal.recipient == mine) {
                found.push((*audience, *key, open_key(seal, key, sealing, &seal_context(self.id, &name))));
            }
        }
        found
    }

    /// Takes a key that came another way (with an admission, from a phrase);
    /// returns feeds that can be read further now.
    pub fn learn_key(&mut self, key: EpochKey) -> BTreeSet<FeedId> {
        let id = key.id();
        self.faults.retain(|(_, faulty)| *faulty != id);
        self.forget_answers();
        if self.keyring.insert(key) { self.sealed.remove(&id).unwrap_or_default() } else { BTreeSet::new() }
    }

    /// Keys of this device for which it got no working seal: it should say so
    /// with a [`KeyEvent::KeyWanted`].
    pub fn wanted_keys(&self) -> Vec<(Audience, KeyId)> {
        self.faults.iter().copied().collect()
    }

    /// The complaint about a faulty seal was posted.
    pub fn complained(&mut self, audience: Audience, key: KeyId) {
        self.faults.remove(&(audience, key));
    }

    /// The direct conversation of these people, from here on known to this
    /// device, so that it can be opened: its key is made for the people who
    /// are known to be in it.
    pub fn open_direct(&mut self, people: BTreeSet<PersonId>) -> DirectId {
        let direct = crate::conversation::direct_id(&self.id, &people);
        self.epochs.learn_direct(direct, people);
        direct
    }

    pub(super) fn learn_direct(&mut self, event: &VerifiedEvent, people: &[PersonId]) {
        let Stream::Direct(direct) = event.feed.stream else { return };
        if let Some(people) = crate::conversation::direct_people(&self.id, &direct, people) {
            self.epochs.learn_direct(direct, people);
            self.forget_answers();
        }
    }

    /// Audiences that this device's person reads.
    pub fn audiences(&self) -> Vec<Audience> {
        let now = self.charter.now();
        let Some(person) = now.member_of(&self.local.device) else { return Vec::new() };
        [Audience::Governance, Audience::Members, Audience::Moderators]
            .into_iter()
            .chain(self.state.charter.channels.keys().map(|channel| Audience::Channel(*channel)))
            .filter(|audience| now.reads(&person, audience))
            .chain(
                self.epochs
                    .directs()
                    .filter(|(_, people)| people.contains(&person))
                    .map(|(direct, _)| Audience::Direct(*direct)),
            )
            .collect()
    }

    /// What this device should do so that everyone can read what they may.
    pub fn duties(&self) -> Vec<KeyDuty> {
        let Some(person) = self.charter.now().member_of(&self.local.device) else { return Vec::new() };
        self.epochs.duties(&self.charter, &person, &self.local.device, self.audiences(), |key| {
            self.keyring.contains(key)
        })
    }

    /// What keys for this device are sealed to.
    pub fn sealing_key(&self) -> SealingPublicKey {
        self.local.sealing.public()
    }

    /// The secret half of it, to open what came another way than by a feed.
    pub const fn local_sealing(&self) -> &SealingKey {
        &self.local.sealing
    }
}
