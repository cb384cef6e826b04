//! Signatures, and every line that touches the layout of a certificate, so
//! that a change of it is a change here.
//!
//! [`Keys`] is what the generator signs with and what the reference asks.
//! [`ToyKeys`] costs nothing; [`RealKeys`] is ed25519, remembered.

use std::cell::RefCell;
use std::collections::BTreeMap;

use exo_model::certificate::{DeviceCertificate, DeviceClaims, Enroller, PhraseRevocation};
use exo_model::codec;
use exo_model::feed::equivocation::{Branch, EquivocationProof};
use exo_model::feed::fence::Fence;
use exo_model::feed::{FeedId, FeedPosition, Stream};
use exo_model::id::SealingPublicKey;
use exo_model::port::Signer as _;
use exo_model::signature::{self, SecretKey, Signature};
use exo_model::{ChangeHash, CommunityId, DeviceId, InviteKey, PersonId};

/// Numbered keys that sign.
pub(crate) trait Keys {
    /// The public half of key number `no`.
    fn public(&self, no: u64) -> [u8; 32];
    /// The signature of the holder of `public` over `message`.
    fn sign(&self, public: &[u8; 32], message: &[u8]) -> Signature;
    /// Whether the holder of `public` signed `message`.
    fn verify(&self, public: &[u8; 32], message: &[u8], signature: &Signature) -> bool;
}

/// A keyed checksum in the place of a signature.
pub(crate) struct ToyKeys;

impl Keys for ToyKeys {
    fn public(&self, no: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (word, chunk) in (0_u64..).zip(bytes.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&checksum(word ^ 0x70, &no.to_be_bytes()).to_be_bytes());
        }
        bytes
    }

    fn sign(&self, public: &[u8; 32], message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&checksum(checksum(1, public), message).to_be_bytes());
        Signature::from_bytes(bytes)
    }

    fn verify(&self, public: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
        *signature == self.sign(public, message)
    }
}

/// FNV-1a with a last stir.
fn checksum(start: u64, bytes: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325 ^ start;
    for byte in bytes {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    sum ^= sum >> 29;
    sum = sum.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    sum ^ (sum >> 32)
}

/// A signer's public key, and what it signed.
type Message = ([u8; 32], Vec<u8>);

/// Ed25519 with fixed seeds. What was signed once is remembered: certificates
/// and invite proofs repeat from one history to the next.
#[derive(Default)]
pub(crate) struct RealKeys {
    secrets: RefCell<BTreeMap<[u8; 32], SecretKey>>,
    publics: RefCell<BTreeMap<u64, [u8; 32]>>,
    signed: RefCell<BTreeMap<Message, Signature>>,
}

impl Keys for RealKeys {
    fn public(&self, no: u64) -> [u8; 32] {
        *self.publics.borrow_mut().entry(no).or_insert_with(|| {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&no.to_be_bytes());
            let secret = SecretKey::from_bytes(&seed);
            let public = secret.public_bytes();
            self.secrets.borrow_mut().insert(public, secret);
            public
        })
    }

    fn sign(&self, public: &[u8; 32], message: &[u8]) -> Signature {
        *self.signed.borrow_mut().entry((*public, message.to_vec())).or_insert_with(|| {
            let secrets = self.secrets.borrow();
            secrets.get(public).map_or(Signature::from_bytes([0; 64]), |secret| secret.sign(message))
        })
    }

    fn verify(&self, public: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
        signature::verify(&DeviceId::from_bytes(*public), message, signature).is_ok()
    }
}

/// Who a certificate is for, and whose word it is.
pub(crate) fn person_of(certificate: &DeviceCertificate) -> PersonId {
    certificate.claims.person
}

pub(crate) fn device_of(certificate: &DeviceCertificate) -> DeviceId {
    certificate.claims.device
}

/// The device that signed it; `None` for the phrase.
pub(crate) fn enroller_of(certificate: &DeviceCertificate) -> Option<DeviceId> {
    match certificate.enroller {
        Enroller::Phrase => None,
        Enroller::Device(device) => Some(device),
    }
}

/// A certificate of `device` for `person`, by the phrase or by `enroller`.
pub(crate) fn certificate(
    keys: &dyn Keys,
    person: PersonId,
    device: DeviceId,
    enroller: Option<DeviceId>,
    serial: u64,
) -> DeviceCertificate {
    let claims = DeviceClaims {
        person,
        recovery: SealingPublicKey::from_bytes(*person.as_bytes()),
        device,
        sealing: SealingPublicKey::from_bytes(*device.as_bytes()),
        name: "machine".to_owned(),
        serial,
    };
    let signer = enroller.map_or(*person.as_bytes(), |device| *device.as_bytes());
    let enroller = enroller.map_or(Enroller::Phrase, Enroller::Device);
    let signature = keys.sign(&signer, &certificate_message("exo/device/1", &claims, enroller));
    let accepted = certificate_message("exo/device-accept/1", &claims, enroller);
    let acceptance = keys.sign(device.as_bytes(), &accepted);
    DeviceCertificate { claims, enroller, signature, acceptance }
}

/// Whether the one it names as signer signed it, and the device agreed.
pub(crate) fn is_certificate(keys: &dyn Keys, certificate: &DeviceCertificate) -> bool {
    let DeviceCertificate { claims, enroller, signature, acceptance } = certificate;
    let signer = match enroller {
        Enroller::Phrase => *claims.person.as_bytes(),
        Enroller::Device(device) => *device.as_bytes(),
    };
    keys.verify(&signer, &certificate_message("exo/device/1", claims, *enroller), signature)
        && keys.verify(
            claims.device.as_bytes(),
            &certificate_message("exo/device-accept/1", claims, *enroller),
            acceptance,
        )
}

fn certificate_message(label: &'static str, claims: &DeviceClaims, enroller: Enroller) -> Vec<u8> {
    codec::encode(&(label, claims, enroller))
}

/// What an invite's key signs for a newcomer: community, person, device, name.
pub(crate) fn invite_proof(
    keys: &dyn Keys,
    community: CommunityId,
    invite: InviteKey,
    certificate: &DeviceCertificate,
    name: &str,
) -> Signature {
    keys.sign(invite.as_bytes(), &proof_message(community, certificate, name))
}

pub(crate) fn is_invite_proof(
    keys: &dyn Keys,
    community: CommunityId,
    invite: InviteKey,
    certificate: &DeviceCertificate,
    name: &str,
    proof: &Signature,
) -> bool {
    keys.verify(invite.as_bytes(), &proof_message(community, certificate, name), proof)
}

fn proof_message(community: CommunityId, certificate: &DeviceCertificate, name: &str) -> Vec<u8> {
    codec::encode(&("exo/join/1", community, certificate.claims.person, certificate.claims.device, name))
}

/// The phrase's word that `device` is revoked with this fence.
pub(crate) fn phrase_revocation(
    keys: &dyn Keys,
    community: CommunityId,
    person: PersonId,
    device: DeviceId,
    fence: &Fence,
) -> PhraseRevocation {
    let message = revocation_message(community, person, device, fence);
    PhraseRevocation { person, device, signature: keys.sign(person.as_bytes(), &message) }
}

pub(crate) fn is_phrase_revocation(
    keys: &dyn Keys,
    community: CommunityId,
    revocation: &PhraseRevocation,
    fence: &Fence,
) -> bool {
    let message = revocation_message(community, revocation.person, revocation.device, fence);
    keys.verify(revocation.person.as_bytes(), &message, &revocation.signature)
}

fn revocation_message(community: CommunityId, person: PersonId, device: DeviceId, fence: &Fence) -> Vec<u8> {
    let fence = minicbor::bytes::ByteArray::from(fence.hash());
    codec::encode(&("exo/revoke/1", community, person, device, fence))
}

/// The proof that two changes of `device` at one place of a stream make.
pub(crate) fn fork_proof(
    keys: &dyn Keys,
    community: CommunityId,
    device: DeviceId,
    stream: Stream,
    place: (u32, u64),
    hashes: (ChangeHash, ChangeHash),
) -> EquivocationProof {
    let feed = FeedId::new(community, device, stream).with_segment(place.0);
    let branch = |hash| {
        let at = FeedPosition { seq: place.1, hash };
        let signature = keys.sign(device.as_bytes(), &feed.signed_message(&at));
        Branch { at, then: Vec::new(), signature }
    };
    let (left, right) = (hashes.0.min(hashes.1), hashes.0.max(hashes.1));
    EquivocationProof::Fork { feed, left: branch(left), right: branch(right) }
}

/// Whether a proof proves. Only forks of signed changes: that is all the
/// generator makes.
pub(crate) fn is_fork_proof(keys: &dyn Keys, community: CommunityId, proof: &EquivocationProof) -> bool {
    let EquivocationProof::Fork { feed, left, right } = proof else { return false };
    let is_signed = |branch: &Branch| {
        branch.then.is_empty()
            && keys.verify(feed.device.as_bytes(), &feed.signed_message(&branch.at), &branch.signature)
    };
    feed.community == community
        && left.at.seq > 0
        && left.at.seq == right.at.seq
        && left.at.hash < right.at.hash
        && is_signed(left)
        && is_signed(right)
}

/// What [`exo_model::charter::Charter`] asks of an event, answered with toy
/// keys.
pub(crate) fn is_sound_as_a_toy(community: &CommunityId, event: &exo_model::event::CharterEvent) -> bool {
    use exo_model::event::CharterEvent as E;
    let keys = &ToyKeys;
    match event {
        E::Founded { founder, .. } => founder.enroller == Enroller::Phrase && is_certificate(keys, founder),
        E::Admitted { certificate, name, invite, proof, .. } => {
            certificate.enroller == Enroller::Phrase
                && is_certificate(keys, certificate)
                && is_invite_proof(keys, *community, *invite, certificate, name, proof)
        }
        E::DeviceAdded { certificate } => is_certificate(keys, certificate),
        E::DeviceRevoked { fence, phrase: Some(phrase), .. } => {
            is_phrase_revocation(keys, *community, phrase, fence)
        }
        E::EquivocationProven { proof, .. } => is_fork_proof(keys, *community, proof),
        _ => true,
    }
}
