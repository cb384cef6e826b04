//! Signatures inside charter events: certificates, invite proofs, phrases,
//! proofs of forks. They depend on the event alone, so they are verified once,
//! however often the event is judged.

use crate::certificate::{DeviceCertificate, Enroller};
use crate::event::CharterEvent;
use crate::id::CommunityId;
use crate::invite;

/// Answers whether everything signed inside an event verifies.
pub type Soundness = fn(&CommunityId, &CharterEvent) -> bool;

/// Whether everything signed inside the event verifies.
pub fn is_sound(community: &CommunityId, event: &CharterEvent) -> bool {
    let is_signed = |certificate: &DeviceCertificate| certificate.verify_signatures().is_ok();
    match event {
        // Nobody is there yet who could enrol a founder's device.
        CharterEvent::Founded { founder, .. } => founder.enroller == Enroller::Phrase && is_signed(founder),
        CharterEvent::Admitted { certificate, name, invite, proof, .. } => {
            // Who comes in has no device here yet that could enrol another.
            certificate.enroller == Enroller::Phrase
                && invite::verify_proof(community, certificate, name, invite, proof).is_ok()
                && is_signed(certificate)
        }
        CharterEvent::DeviceAdded { certificate } => is_signed(certificate),
        CharterEvent::DeviceRevoked { fence, phrase: Some(phrase), .. } => {
            phrase.verify(community, &fence.hash()).is_ok()
        }
        CharterEvent::EquivocationProven { proof, .. } => {
            proof.feed().community == *community && proof.verify().is_ok()
        }
        _ => true,
    }
}
