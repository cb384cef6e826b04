//! Identifiers: private-field newtypes, parsed at the edge, short when shown.
//!
//! Every id has a lower-case text form that [`std::str::FromStr`] reads back,
//! and a short [`std::fmt::Display`] for people (the first eight characters).

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use minicbor::{Decode, Encode};

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: expected {expected_chars} hexadecimal characters")]
pub struct ParseIdError {
    kind: &'static str,
    expected_chars: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps raw bytes; every value is a well-formed id.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The whole id in lower-case hexadecimal.
            pub fn to_hex(&self) -> String {
                HEXLOWER.encode(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0[..4]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = ParseIdError { kind: $kind, expected_chars: 2 * $len };
                if text.len() != 2 * $len {
                    return Err(error);
                }
                let mut bytes = [0; $len];
                HEXLOWER
                    .decode_mut(text.as_bytes(), &mut bytes)
                    .map_err(|_| error)?;
                Ok(Self(bytes))
            }
        }
    };
}

id!(
    /// A community: the BLAKE3 hash of its founding event's envelope, so that
    /// the id commits to who founded it and under which name.
    CommunityId, 32, "community id"
);
id!(
    /// A device: its ed25519 public key, which is also its iroh `EndpointId`.
    DeviceId, 32, "device id"
);
id!(
    /// A person: the ed25519 public key derived from their recovery phrase.
    PersonId, 32, "person id"
);
id!(
    /// The X25519 public key that keys are sealed to: of a device, or of a
    /// person's recovery phrase.
    SealingPublicKey, 32, "sealing key"
);
id!(
    /// An audience's epoch key, named by its hash.
    KeyId, 16, "key id"
);
id!(
    /// A conversation between a few people of a community.
    DirectId, 16, "conversation id"
);
id!(
    /// A board: collaborative text and maps.
    BoardId, 16, "board id"
);
id!(
    /// A thread with a model, in a person's private community.
    ThreadId, 16, "thread id"
);
id!(
    /// An Automerge change: SHA-256 over its chunk without magic and checksum.
    ChangeHash, 32, "change hash"
);
id!(
    /// A blob (model file, attachment): the BLAKE3 hash of its bytes.
    BlobHash, 32, "blob hash"
);
id!(
    /// The public half of an invite key; the secret half travels in the ticket.
    InviteKey, 32, "invite key"
);
id!(
    /// One conversation channel of a community.
    ChannelId, 16, "channel id"
);
id!(
    /// A relay's TLS certificate: the SHA-256 of its DER form, which is what
    /// other programs show as its fingerprint.
    CertificatePin, 32, "certificate fingerprint"
);
id!(
    /// One inference job: a question asked of a model, paid for as a whole.
    JobId, 16, "job id"
);
