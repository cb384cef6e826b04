//! People with phrases, and chance that is the same every time.

use std::sync::atomic::{AtomicU64, Ordering};

use exo_model::PersonId;
use exo_model::certificate::{DeviceCertificate, DeviceClaims, Enroller};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::{Entropy, Signer as _};
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;

use super::seeded::Rng;

/// Seeded bytes that never repeat.
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Chance of one device's own; `copy` tells a copy of it from the first.
    pub(crate) fn of_device(key: &SecretKey, copy: u64) -> Self {
        let mut seed = [0; 8];
        seed.copy_from_slice(&key.public_bytes()[..8]);
        Self::new(u64::from_le_bytes(seed) ^ (copy << 32))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = Rng(self.0.fetch_add(Rng::STEP, Ordering::Relaxed)).next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// A person with a phrase, and their first device.
pub(crate) struct Person {
    pub(crate) phrase: RecoveryPhrase,
    pub(crate) key: SecretKey,
}

impl Person {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            phrase: RecoveryPhrase::from_entropy(&[number; 32]),
            key: SecretKey::from_bytes(&[number; 32]),
        }
    }

    pub(crate) fn id(&self) -> PersonId {
        self.phrase.person()
    }

    /// The key of a further device of this person.
    pub(crate) fn device(&self, number: u8) -> SecretKey {
        let mut seed = self.key.to_bytes();
        seed[31] = seed[31].wrapping_add(100 + number);
        SecretKey::from_bytes(&seed)
    }

    /// A device of this person, enrolled by the phrase.
    pub(crate) fn certify(&self, key: &SecretKey, serial: u64) -> DeviceCertificate {
        let claims = DeviceClaims {
            person: self.phrase.person(),
            recovery: self.phrase.recovery_key().public(),
            device: key.device(),
            sealing: SealingKey::of_device(key).public(),
            name: "machine".into(),
            serial,
        };
        let acceptance = claims.accept(Enroller::Phrase, key);
        DeviceCertificate::sign_with_phrase(claims, acceptance, &self.phrase).expect("own phrase")
    }
}
