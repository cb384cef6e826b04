//! What a community says of itself to people who do not belong to it.
//!
//! The charter is sealed, so a profile for strangers is a text of its own: name,
//! purpose and guidelines, signed by a device of an owner, to be put wherever
//! strangers look. Whoever reads it knows that this device said so and when,
//! and not whether it speaks for the community: that a member can tell
//! ([`PublicProfile::is_by_owner`]), or the ticket they got from one. Never here: who
//! belongs to the community, and how to reach it; a ticket says that.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use minicbor::{Decode, Encode};

use crate::charter::settings::ABOUT_BYTES_MAX;
use crate::charter::{CharterState, Permission};
use crate::codec;
use crate::community::Community;
use crate::feed::TIME_MS_MAX;
use crate::id::{CommunityId, DeviceId};
use crate::port::Signer;
use crate::signature::{self, Signature};
use crate::text::{is_clean_message, is_clean_name};

/// What every profile's text starts with.
pub const PROFILE_PREFIX: &str = "exoprofile1";
/// Longest guidelines of a profile, in bytes.
pub const GUIDELINES_BYTES_MAX: usize = 8 * 1024;
/// Longest text of a profile, in characters.
pub const PROFILE_CHARS_MAX: usize = 24 * 1024;

/// A community's profile for everyone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PublicProfile {
    /// Which community.
    #[n(0)]
    pub community: CommunityId,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// What it is for; may be empty.
    #[n(2)]
    pub about: String,
    /// What it asks of its members; may be empty.
    #[n(3)]
    pub guidelines: String,
    /// The device that says so.
    #[n(4)]
    pub by: DeviceId,
    /// When, by that device's clock, ms since the Unix epoch.
    #[n(5)]
    pub time_ms: i64,
    #[n(6)]
    signature: Signature,
}

/// A profile that cannot be made, or a text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Only owners speak for a community.
    #[error("only an owner publishes the community's profile")]
    NotEntitled,
    /// Guidelines that do not fit.
    #[error("guidelines of a public profile have at most {GUIDELINES_BYTES_MAX} bytes: shorten them")]
    Guidelines,
    /// Does not start with [`PROFILE_PREFIX`].
    #[error("this is no community profile: profiles start with \"{PROFILE_PREFIX}\"")]
    Prefix,
    /// Characters are missing or changed, or somebody else signed.
    #[error("the community profile is incomplete or was changed: copy it again, all of it")]
    Damaged,
}

impl PublicProfile {
    /// The profile as the settings have it, with these guidelines (the text of
    /// the community's board of guidelines, or none).
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn publish(
        community: &Community,
        signer: &dyn Signer,
        guidelines: &str,
        now_ms: i64,
    ) -> Result<Self, ProfileError> {
        let charter = &community.state().charter;
        let settings = charter.settings.as_ref().ok_or(ProfileError::NotEntitled)?;
        let mut profile = Self {
            community: community.id(),
            name: settings.name.clone(),
            about: settings.about.clone(),
            guidelines: guidelines.to_owned(),
            by: signer.device(),
            time_ms: now_ms,
            signature: Signature::from_bytes([0; 64]),
        };
        if !profile.is_by_owner(charter) {
            return Err(ProfileError::NotEntitled);
        }
        if !is_guidelines(guidelines) {
            return Err(ProfileError::Guidelines);
        }
        profile.signature = signer.sign(&profile.signed_message());
        Ok(profile)
    }

    /// Whether the device that signed is an owner's, for who belongs to the
    /// community.
    pub fn is_by_owner(&self, charter: &CharterState) -> bool {
        charter.role_of(&self.by).is_some_and(|role| role.may(Permission::ChangeSettings))
    }

    /// `("exo/profile/1", community, name, about, guidelines, time)`.
    fn signed_message(&self) -> Vec<u8> {
        let Self { community, name, about, guidelines, time_ms, .. } = self;
        codec::encode(&("exo/profile/1", *community, name, about, guidelines, *time_ms))
    }

    fn is_usable(&self) -> bool {
        let about_fits =
            self.about.is_empty() || (self.about.len() <= ABOUT_BYTES_MAX && is_clean_message(&self.about));
        is_clean_name(&self.name)
            && about_fits
            && is_guidelines(&self.guidelines)
            && (0..=TIME_MS_MAX).contains(&self.time_ms)
    }
}

fn is_guidelines(text: &str) -> bool {
    text.is_empty() || (text.len() <= GUIDELINES_BYTES_MAX && is_clean_message(text))
}

impl fmt::Display for PublicProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROFILE_PREFIX}{}", BASE32_NOPAD.encode(&codec::encode(self)).to_lowercase())
    }
}

impl FromStr for PublicProfile {
    type Err = ProfileError;

    /// Reads a profile of any origin and checks its signature, forgiving white
    /// space and capitals.
    fn from_str(text: &str) -> Result<Self, ProfileError> {
        if text.len() > PROFILE_CHARS_MAX {
            return Err(ProfileError::Damaged);
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
        let body = text.strip_prefix(PROFILE_PREFIX).ok_or(ProfileError::Prefix)?;
        let bytes = BASE32_NOPAD.decode(body.to_uppercase().as_bytes()).map_err(|_| ProfileError::Damaged)?;
        let profile: Self = codec::decode(&bytes, PROFILE_CHARS_MAX).map_err(|_| ProfileError::Damaged)?;
        let signed = signature::verify(&profile.by, &profile.signed_message(), &profile.signature);
        if signed.is_err() || !profile.is_usable() {
            return Err(ProfileError::Damaged);
        }
        Ok(profile)
    }
}
