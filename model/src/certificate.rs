//! Certificates: which devices are a person's, and when one no longer is.
//!
//! A device is enrolled by three statements in one certificate: the claims
//! (whose device, under which name and keys), the signature of someone who may
//! enrol (the phrase, or a device enrolled before), and the device's own
//! acceptance. Without the last, anyone could enrol a stranger's device key
//! and pass its work off as theirs. A lost device is revoked by the phrase.
//!
//! Flow: the enrolling side and the new device agree on [`DeviceClaims`]; the
//! device [accepts](DeviceClaims::accept); the enrolling side
//! [signs](DeviceCertificate::sign_with_phrase); everyone
//! [verifies](DeviceCertificate::verify). Certificates belong to no community:
//! the same one is shown in each. A revocation names its community, whose
//! feeds its fence is about.
//!
//! Never here: which certificates are in force. Revocations, fences, order in
//! time and whether the signing device was still enrolled are decided by who
//! reduces the charter.

use minicbor::{Decode, Encode};

use crate::codec;
use crate::id::{CommunityId, DeviceId, PersonId, SealingPublicKey};
use crate::phrase::RecoveryPhrase;
use crate::port::Signer;
use crate::signature::{self, BadSignature, Signature};
use crate::text;

/// Who signed a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Enroller {
    /// The person's own key, from the recovery phrase.
    #[n(0)]
    Phrase,
    /// A device of the same person, enrolled before.
    #[n(1)]
    Device(#[n(0)] DeviceId),
}

/// What a certificate says of a device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceClaims {
    /// Whose device it is.
    #[n(0)]
    pub person: PersonId,
    /// The person's recovery key, which every key is also sealed to.
    #[n(1)]
    pub recovery: SealingPublicKey,
    /// The device.
    #[n(2)]
    pub device: DeviceId,
    /// What keys for this device are sealed to.
    #[n(3)]
    pub sealing: SealingPublicKey,
    /// What the person calls it.
    #[n(4)]
    pub name: String,
    /// Counts the person's certificates; always above that of the certificate
    /// its enroller was enrolled by, so that an earlier device is known by the
    /// lower number.
    #[n(5)]
    pub serial: u64,
}

/// A device, enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceCertificate {
    /// What is certified.
    #[n(0)]
    pub claims: DeviceClaims,
    /// Who certifies it.
    #[n(1)]
    pub enroller: Enroller,
    /// The enroller's signature over `("exo/device/1", claims, enroller)`.
    #[n(2)]
    pub signature: Signature,
    /// The device's own signature over `("exo/device-accept/1", claims,
    /// enroller)`: it has its key, and knows whose it becomes.
    #[n(3)]
    pub acceptance: Signature,
}

/// Why a certificate is not made, or counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A name that [`text::clean_name`] would not let through.
    #[error("the device's name is not usable: choose one of 1 to {} plain characters", text::NAME_BYTES_MAX)]
    Name,
    /// The phrase is not the claimed person's.
    #[error("this recovery phrase belongs to someone else: enter the phrase of the person the device is for")]
    OtherPhrase,
    /// The enrolling device is another person's, unknown, or names another
    /// recovery key.
    #[error(
        "the enrolling device is not one of this person's: enrol from one of your devices or with your phrase"
    )]
    NotEntitled,
    /// The serial is not above the enroller's.
    #[error(
        "the certificate's number is not above that of the device that signed it: enrol the device again"
    )]
    Serial,
    /// The enroller did not sign these claims.
    #[error("the certificate's signature is wrong: enrol the device again")]
    Signature,
    /// The device did not accept these claims.
    #[error(
        "the device has not agreed to be enrolled like this: start the enrolment on the new device again"
    )]
    Acceptance,
}

impl DeviceClaims {
    /// The device's consent to these claims, signed with its own key.
    pub fn accept(&self, enroller: Enroller, device: &dyn Signer) -> Signature {
        device.sign(&self.message("exo/device-accept/1", enroller))
    }

    fn message(&self, label: &'static str, enroller: Enroller) -> Vec<u8> {
        codec::encode(&(label, self, enroller))
    }
}

impl DeviceCertificate {
    /// Enrols a device with the person's phrase.
    ///
    /// # Errors
    /// [`CertificateError`], where [`DeviceCertificate::verify`] would give it.
    pub fn sign_with_phrase(
        claims: DeviceClaims,
        acceptance: Signature,
        phrase: &RecoveryPhrase,
    ) -> Result<Self, CertificateError> {
        if claims.person != phrase.person() || claims.recovery != phrase.recovery_key().public() {
            return Err(CertificateError::OtherPhrase);
        }
        let signature = phrase.person_key().sign(&claims.message("exo/device/1", Enroller::Phrase));
        let certificate = Self { claims, enroller: Enroller::Phrase, signature, acceptance };
        certificate.verify(None)?;
        Ok(certificate)
    }

    /// Enrols a device from another one of the same person, whose own claims
    /// are `enrolled`.
    ///
    /// # Errors
    /// [`CertificateError`], where [`DeviceCertificate::verify`] would give it.
    pub fn sign_with_device(
        claims: DeviceClaims,
        acceptance: Signature,
        signer: &dyn Signer,
        enrolled: &DeviceClaims,
    ) -> Result<Self, CertificateError> {
        let enroller = Enroller::Device(signer.device());
        let signature = signer.sign(&claims.message("exo/device/1", enroller));
        let certificate = Self { claims, enroller, signature, acceptance };
        certificate.verify(Some(enrolled))?;
        Ok(certificate)
    }

    /// Checks everything that the certificate itself can show. `enrolled` are
    /// the claims of the enrolling device, from a certificate the caller has
    /// verified and holds to be in force; nobody asks for them where the
    /// phrase signed.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn verify(&self, enrolled: Option<&DeviceClaims>) -> Result<(), CertificateError> {
        self.check_enroller(enrolled)?;
        self.verify_signatures()
    }

    /// Checks name and signatures: what depends on the certificate alone, and
    /// need not be looked at twice.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn verify_signatures(&self) -> Result<(), CertificateError> {
        if !text::is_clean_name(&self.claims.name) {
            return Err(CertificateError::Name);
        }
        let message = self.claims.message("exo/device/1", self.enroller);
        match self.enroller {
            Enroller::Phrase => signature::verify_person(&self.claims.person, &message, &self.signature),
            Enroller::Device(device) => signature::verify(&device, &message, &self.signature),
        }
        .map_err(|BadSignature| CertificateError::Signature)?;
        let accepted = self.claims.message("exo/device-accept/1", self.enroller);
        signature::verify(&self.claims.device, &accepted, &self.acceptance)
            .map_err(|BadSignature| CertificateError::Acceptance)
    }

    /// Checks that the enroller may enrol, given its own claims.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn check_enroller(&self, enrolled: Option<&DeviceClaims>) -> Result<(), CertificateError> {
        match self.enroller {
            Enroller::Phrase => Ok(()),
            Enroller::Device(device) => {
                self.check_entitled(&device, enrolled.ok_or(CertificateError::NotEntitled)?)
            }
        }
    }

    /// A device speaks for its own person only, and never replaces the
    /// recovery key: that would cut the phrase off from what is sealed later.
    fn check_entitled(&self, device: &DeviceId, enrolled: &DeviceClaims) -> Result<(), CertificateError> {
        let same_person = enrolled.person == self.claims.person && enrolled.recovery == self.claims.recovery;
        if enrolled.device != *device || !same_person {
            return Err(CertificateError::NotEntitled);
        }
        if enrolled.serial < self.claims.serial { Ok(()) } else { Err(CertificateError::Serial) }
    }
}

/// A person's word that a device is no longer theirs, signed with the phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PhraseRevocation {
    /// Whose device it was.
    #[n(0)]
    pub person: PersonId,
    /// The device.
    #[n(1)]
    pub device: DeviceId,
    /// The person's signature over `("exo/revoke/1", community, person,
    /// device, hash of the fence)`.
    #[n(2)]
    pub signature: Signature,
}

impl PhraseRevocation {
    /// Revokes `device` in `community`; `fence` is the hash of how far its
    /// feeds still count.
    pub fn sign(
        phrase: &RecoveryPhrase,
        community: &CommunityId,
        device: DeviceId,
        fence: &[u8; 32],
    ) -> Self {
        let person = phrase.person();
        let signature = phrase.person_key().sign(&revocation_message(community, &person, &device, fence));
        Self { person, device, signature }
    }

    /// Checks that the person revoked this device, here, with this fence.
    /// Whether the device was theirs is for the caller to know.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, community: &CommunityId, fence: &[u8; 32]) -> Result<(), BadSignature> {
        let message = revocation_message(community, &self.person, &self.device, fence);
        signature::verify_person(&self.person, &message, &self.signature)
    }
}

fn revocation_message(
    community: &CommunityId,
    person: &PersonId,
    device: &DeviceId,
    fence: &[u8; 32],
) -> Vec<u8> {
    codec::encode(&("exo/revoke/1", *community, *person, *device, minicbor::bytes::ByteArray::from(*fence)))
}
