//! Ed25519 signatures with domain separation.
//!
//! Every signed message starts with a context string of its own, so that a
//! signature made for one purpose never passes for another. Verification is
//! strict (RFC 8032 without the malleable encodings).

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};

use crate::id::{DeviceId, InviteKey, PersonId};
use crate::port::{Entropy, Signer};

/// A detached ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Signature(#[cbor(n(0), with = "minicbor::bytes")] [u8; 64]);

impl Signature {
    /// Wraps raw bytes; whether they verify is asked of [`verify`].
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// The signature does not belong to this key and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

/// Checks a device's signature over `message`.
///
/// # Errors
/// [`BadSignature`], also where `device` is no point of the curve.
pub fn verify(device: &DeviceId, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    verify_key(device.as_bytes(), message, signature)
}

/// Checks an invite key's signature over `message`.
///
/// # Errors
/// [`BadSignature`], also where `key` is no point of the curve.
pub fn verify_invite(key: &InviteKey, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    verify_key(key.as_bytes(), message, signature)
}

/// Checks a person's signature over `message`.
///
/// # Errors
/// [`BadSignature`], also where `person` is no point of the curve.
pub fn verify_person(person: &PersonId, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    verify_key(person.as_bytes(), message, signature)
}

fn verify_key(key: &[u8; 32], message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)))
        .map_err(|_| BadSignature)
}

/// A secret key held in memory, wiped when dropped.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A fresh key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        Self::from_bytes(&bytes)
    }

    /// The key with this seed.
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for the key file and the ticket; never for a log.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public_bytes(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl Signer for SecretKey {
    fn device(&self) -> DeviceId {
        DeviceId::from_bytes(self.public_bytes())
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}
