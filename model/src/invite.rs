//! Invites: the ticket a friend gets, and the proof that it was theirs to use.
//!
//! A ticket carries the secret half of a one-use or n-use invite key and the
//! addresses of members. The newcomer signs with that key; **any** online
//! member can check the signature against the charter and admit.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use minicbor::{Decode, Encode};

use crate::certificate::DeviceCertificate;
use crate::charter::{Relay, relay};
use crate::codec;
use crate::event::cluster::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use crate::id::{CommunityId, DeviceId, InviteKey};
use crate::port::Signer as _;
use crate::signature::{self, BadSignature, SecretKey, Signature};
use crate::text;

/// What every ticket's text starts with.
pub const TICKET_PREFIX: &str = "exo1";
/// Most members a ticket names as contacts.
pub const CONTACTS_MAX: usize = 8;
/// Longest ticket text, in characters.
pub const TICKET_CHARS_MAX: usize = 16 * 1024;
/// How long an invite lasts unless asked otherwise: seven days, in ms.
pub const INVITE_TTL_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// Most devices one invite can admit.
pub const INVITE_USES_MAX: u32 = 1_000;

const CHECKSUM_LEN: usize = 4;

/// A member who can be asked to complete the join.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Contact {
    /// The member's device.
    #[n(0)]
    pub device: DeviceId,
    /// Socket addresses where it was last reachable, `ip:port`.
    #[n(1)]
    pub addresses: Vec<String>,
}

/// An invitation, as handed to a friend.
#[derive(Clone, Encode, Decode)]
pub struct Ticket {
    /// The community to join.
    #[n(0)]
    pub community: CommunityId,
    /// Its name, to show before joining; not authenticated.
    #[n(1)]
    pub community_name: String,
    /// Secret half of the invite key.
    #[cbor(n(2), with = "minicbor::bytes")]
    secret: [u8; 32],
    /// Wall time of expiry, ms since the Unix epoch.
    #[n(3)]
    pub expires_ms: i64,
    /// Who to ask.
    #[n(4)]
    pub contacts: Vec<Contact>,
    /// The community's relays, over which they may be reached. A ticket
    /// without any is written as before there were relays.
    #[n(5)]
    #[cbor(skip_if = "Vec::is_empty")]
    pub relays: Vec<Relay>,
}

/// A text that is not a usable ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Does not start with [`TICKET_PREFIX`].
    #[error("this is not an invite ticket: tickets start with \"{TICKET_PREFIX}\"")]
    Prefix,
    /// Characters are missing or changed.
    #[error("the invite ticket is incomplete or has a typing error: copy it again, all of it")]
    Damaged,
    /// Well-formed, with contents out of bounds.
    #[error("the invite ticket was made by an incompatible program")]
    Contents,
}

impl Ticket {
    /// A ticket for the invite key `secret`.
    pub fn new(
        community: CommunityId,
        community_name: String,
        secret: &SecretKey,
        expires_ms: i64,
        contacts: Vec<Contact>,
    ) -> Self {
        let relays = Vec::new();
        Self { community, community_name, secret: secret.to_bytes(), expires_ms, contacts, relays }
    }

    /// The same with relays over which the contacts may be reached.
    #[must_use]
    pub fn with_relays(mut self, relays: Vec<Relay>) -> Self {
        self.relays = relays;
        self
    }

    /// The invite's public key, which names it in the charter.
    pub fn key(&self) -> InviteKey {
        InviteKey::from_bytes(SecretKey::from_bytes(&self.secret).public_bytes())
    }

    /// Asks for admission of the certificate's person under `name`.
    pub fn request(&self, certificate: DeviceCertificate, name: String) -> JoinRequest {
        let secret = SecretKey::from_bytes(&self.secret);
        let proof = secret.sign(&proof_message(&self.community, &certificate, &name));
        JoinRequest { community: self.community, certificate, name, invite: self.key(), proof }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("community", &self.community)
            .field("expires_ms", &self.expires_ms)
            .field("contacts", &self.contacts.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = codec::encode(self);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_LEN]);
        write!(f, "{TICKET_PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Reads a ticket, forgiving white space (mail programs break lines) and
    /// capitals.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > TICKET_CHARS_MAX {
            return Err(TicketError::Damaged);
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
        let body = text.strip_prefix(TICKET_PREFIX).ok_or(TicketError::Prefix)?;
        let bytes = BASE32_NOPAD.decode(body.to_uppercase().as_bytes()).map_err(|_| TicketError::Damaged)?;
        let split = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(TicketError::Damaged)?;
        let (contents, checksum) = bytes.split_at(split);
        if blake3::hash(contents).as_bytes()[..CHECKSUM_LEN] != *checksum {
            return Err(TicketError::Damaged);
        }
        let ticket: Self = codec::decode(contents, TICKET_CHARS_MAX).map_err(|_| TicketError::Contents)?;
        let contacts_fit = ticket.contacts.len() <= CONTACTS_MAX
            && ticket.contacts.iter().all(|contact| {
                contact.addresses.len() <= ADDRESSES_MAX
                    && contact.addresses.iter().all(|a| a.len() <= ADDRESS_BYTES_MAX)
            });
        if contacts_fit && relay::are_usable(&ticket.relays) && text::is_clean_name(&ticket.community_name) {
            Ok(ticket)
        } else {
            Err(TicketError::Contents)
        }
    }
}

/// A newcomer's request, as sent to a member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JoinRequest {
    /// The community to join.
    #[n(0)]
    pub community: CommunityId,
    /// The newcomer's first device, signed by their phrase; its device must be
    /// the connection's authenticated peer.
    #[n(1)]
    pub certificate: DeviceCertificate,
    /// The name it wants to be called.
    #[n(2)]
    pub name: String,
    /// The invite used.
    #[n(3)]
    pub invite: InviteKey,
    /// The invite key's signature.
    #[n(4)]
    pub proof: Signature,
}

/// Checks the proof of a join: the invite key signed this person, device and
/// name.
///
/// # Errors
/// [`BadSignature`].
pub fn verify_proof(
    community: &CommunityId,
    certificate: &DeviceCertificate,
    name: &str,
    invite: &InviteKey,
    proof: &Signature,
) -> Result<(), BadSignature> {
    signature::verify_invite(invite, &proof_message(community, certificate, name), proof)
}

fn proof_message(community: &CommunityId, certificate: &DeviceCertificate, name: &str) -> Vec<u8> {
    codec::encode(&("exo/join/1", *community, certificate.claims.person, certificate.claims.device, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{DeviceClaims, Enroller};
    use crate::phrase::RecoveryPhrase;
    use crate::sealing::SealingKey;

    fn ticket() -> Ticket {
        Ticket::new(
            CommunityId::from_bytes([3; 32]),
            "Garden".into(),
            &SecretKey::from_bytes(&[9; 32]),
            1_000,
            vec![Contact { device: DeviceId::from_bytes([1; 32]), addresses: vec!["127.0.0.1:9".into()] }],
        )
    }

    #[test]
    fn text_survives_capitals_and_line_breaks() {
        let text = ticket().to_string();
        let (a, b) = text.split_at(40);
        let broken = format!(" {}\n {}\n", a.to_uppercase(), b);
        let read: Ticket = broken.parse().expect("readable");
        assert_eq!(read.to_string(), text);
        assert_eq!(read.key(), ticket().key());
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = ticket().to_string();
        assert_eq!("hello".parse::<Ticket>().unwrap_err(), TicketError::Prefix);
        assert_eq!(text[..text.len() - 1].parse::<Ticket>().unwrap_err(), TicketError::Damaged);
        for index in TICKET_PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(changed).expect("ascii");
            assert!(changed.parse::<Ticket>().is_err(), "character {index}");
        }
    }

    fn certificate(phrase: u8, device: u8) -> DeviceCertificate {
        let phrase = RecoveryPhrase::from_entropy(&[phrase; 32]);
        let key = SecretKey::from_bytes(&[device; 32]);
        let claims = DeviceClaims {
            person: phrase.person(),
            recovery: phrase.recovery_key().public(),
            device: key.device(),
            sealing: SealingKey::of_device(&key).public(),
            name: "machine".into(),
            serial: 1,
        };
        let acceptance = claims.accept(Enroller::Phrase, &key);
        DeviceCertificate::sign_with_phrase(claims, acceptance, &phrase).expect("own phrase")
    }

    #[test]
    fn the_proof_covers_community_person_device_and_name() {
        let request = ticket().request(certificate(1, 2), "Ben".into());
        let check = |community: [u8; 32], certificate: &DeviceCertificate, name: &str| {
            let community = CommunityId::from_bytes(community);
            verify_proof(&community, certificate, name, &request.invite, &request.proof)
        };
        assert!(check([3; 32], &certificate(1, 2), "Ben").is_ok());
        assert!(check([4; 32], &certificate(1, 2), "Ben").is_err());
        assert!(check([3; 32], &certificate(1, 5), "Ben").is_err());
        assert!(check([3; 32], &certificate(9, 2), "Ben").is_err());
        assert!(check([3; 32], &certificate(1, 2), "Eve").is_err());
    }

    #[test]
    fn a_ticket_does_not_print_its_secret() {
        let shown = format!("{:?}", ticket());
        assert!(!shown.contains("9, 9"), "{shown}");
    }
}
