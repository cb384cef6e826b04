//! Epoch keys on their way to a device.

use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};

use super::keys::{EpochKey, SealingKey};
use super::{TAG_LEN, suite};
use crate::codec;
use crate::id::{CommunityId, KeyId, SealingPublicKey};
use crate::port::Entropy;

/// A sealed key's ciphertext: the key and its tag.
const SEALED_KEY_LEN: usize = 32 + TAG_LEN;

/// What a seal is made for; opened for anything else, it is damaged.
#[derive(Clone, Copy, Debug)]
pub struct SealContext<'a> {
    /// The community.
    pub community: CommunityId,
    /// The audience and whatever else the seal must not be carried away from,
    /// in a form with one reading.
    pub audience: &'a [u8],
}

impl SealContext<'_> {
    /// `(label, community, audience)`.
    pub(super) fn bound_to(&self, label: &'static str) -> Vec<u8> {
        codec::encode(&(label, self.community, <&ByteSlice>::from(self.audience)))
    }
}

/// An epoch key, readable by one recipient (HPKE, RFC 9180).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SealedKey {
    /// Whose key opens it.
    #[n(0)]
    pub recipient: SealingPublicKey,
    /// HPKE's encapsulated key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub enc: [u8; 32],
    /// The epoch key under the key that `enc` leads to.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub ciphertext: [u8; SEALED_KEY_LEN],
}

/// Nothing can be sealed to this recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealing key {0} is not usable: its device has to be enrolled anew")]
pub struct SealError(pub SealingPublicKey);

/// Why a seal does not give the key or the content it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No seal for this recipient.
    #[error("this was sealed for others: ask someone who can read it to share it with this device")]
    NotAddressed,
    /// Opens, to a key with another id than announced.
    #[error(
        "the seal holds another key than it says: its author's program is faulty or dishonest; ask another \
         member to share the key"
    )]
    WrongKey,
    /// Does not open: changed, or made for another place.
    #[error("the seal is damaged or belongs elsewhere: ask another member to share the key")]
    Damaged,
}

/// Seals `key` to `recipient`.
///
/// # Errors
/// [`SealError`] where `recipient` is a point that no secret key belongs to.
pub fn seal_key(
    key: &EpochKey,
    recipient: &SealingPublicKey,
    context: &SealContext<'_>,
    entropy: &dyn Entropy,
) -> Result<SealedKey, SealError> {
    seal_labelled("exo/seal/1", key, recipient, context, entropy)
}

/// Opens the key that `sealed` announces as `expected`.
///
/// # Errors
/// [`OpenError`]; [`OpenError::WrongKey`] is evidence against whoever signed
/// the seal, for the recipient alone: nobody else can check it.
pub fn open_key(
    sealed: &SealedKey,
    expected: &KeyId,
    key: &SealingKey,
    context: &SealContext<'_>,
) -> Result<EpochKey, OpenError> {
    open_labelled("exo/seal/1", sealed, expected, key, context)
}

pub(super) fn seal_labelled(
    label: &'static str,
    key: &EpochKey,
    recipient: &SealingPublicKey,
    context: &SealContext<'_>,
    entropy: &dyn Entropy,
) -> Result<SealedKey, SealError> {
    let error = SealError(*recipient);
    let (info, aad) = (context.bound_to(label), associated(&key.id(), recipient));
    let (enc, ciphertext) = suite::seal(recipient, &info, &aad, key.as_bytes(), entropy).ok_or(error)?;
    let ciphertext = ciphertext.try_into().map_err(|_| error)?;
    Ok(SealedKey { recipient: *recipient, enc, ciphertext })
}

pub(super) fn open_labelled(
    label: &'static str,
    sealed: &SealedKey,
    expected: &KeyId,
    key: &SealingKey,
    context: &SealContext<'_>,
) -> Result<EpochKey, OpenError> {
    if sealed.recipient != key.public() {
        return Err(OpenError::NotAddressed);
    }
    let (info, aad) = (context.bound_to(label), associated(expected, &sealed.recipient));
    let bytes =
        suite::open(key.secret(), &sealed.enc, &info, &aad, &sealed.ciphertext).ok_or(OpenError::Damaged)?;
    let opened = EpochKey::from_bytes(bytes.as_slice().try_into().map_err(|_| OpenError::Damaged)?);
    if opened.id() == *expected { Ok(opened) } else { Err(OpenError::WrongKey) }
}

/// Key id and recipient, both of fixed length.
fn associated(key: &KeyId, recipient: &SealingPublicKey) -> Vec<u8> {
    [key.as_bytes().as_slice(), recipient.as_bytes()].concat()
}
