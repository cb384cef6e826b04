//! The two kinds of secret: a recipient's long-lived key, and an epoch's key.

use std::fmt;

use zeroize::Zeroizing;

use super::suite::{self, PrivateKey};
use crate::id::{KeyId, SealingPublicKey};
use crate::port::Entropy;
use crate::signature::SecretKey;

const DEVICE_CONTEXT: &str = "exo-studio exo/device-sealing-key/1";
const KEY_ID_CONTEXT: &str = "exo-studio exo/epoch-key-id/1";

/// A secret for one purpose, from another: BLAKE3's key derivation, whose
/// outputs for different contexts tell nothing about each other.
pub(crate) fn derive(context: &'static str, secret: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key(context, secret))
}

/// The secret half of what keys are sealed to: an X25519 key, wiped when
/// dropped.
pub struct SealingKey {
    secret: PrivateKey,
    public: SealingPublicKey,
}

impl SealingKey {
    /// The key with these bytes, clamped as RFC 7748 says.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let (secret, public) = suite::key_pair(bytes);
        Self { secret, public }
    }

    /// The sealing key of the device that signs with `key`: derived, so that a
    /// device keeps one secret.
    pub fn of_device(key: &SecretKey) -> Self {
        Self::from_bytes(&derive(DEVICE_CONTEXT, &Zeroizing::new(key.to_bytes())))
    }

    /// The public half.
    pub fn public(&self) -> SealingPublicKey {
        self.public
    }

    pub(super) fn secret(&self) -> &PrivateKey {
        &self.secret
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey(… of {})", self.public)
    }
}

/// The key of one audience in one epoch, wiped when dropped.
///
/// Never used as it is: contents, attachments and its own id each use a secret
/// derived from it.
#[derive(Clone)]
pub struct EpochKey(Zeroizing<[u8; 32]>);

impl EpochKey {
    /// A fresh key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(bytes.as_mut());
        Self(bytes)
    }

    /// The key with these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The bytes, for the key store; never for a log.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What names this key in public; tells nothing about it.
    ///
    /// Nobody finds a second key for a given id (2^128 trials). Who makes both
    /// keys could find two of one id with 2^64 trials; they would gain that
    /// two recipients read different texts in one message.
    pub fn id(&self) -> KeyId {
        let hash = derive(KEY_ID_CONTEXT, &self.0);
        let mut id = [0; KeyId::LEN];
        id.copy_from_slice(&hash[..KeyId::LEN]);
        KeyId::from_bytes(id)
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochKey(… {})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let key = EpochKey::from_bytes(&[0xab; 32]);
        assert_eq!(format!("{key:?}"), format!("EpochKey(… {})", key.id()));
        let key = SealingKey::from_bytes(&[0xab; 32]);
        assert_eq!(format!("{key:?}"), format!("SealingKey(… of {})", key.public()));
    }
}
