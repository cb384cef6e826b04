//! Facts about epoch keys. They travel unsealed: what they carry is sealed to
//! its recipients one by one.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::feed::fence::Fence;
use crate::id::{ChannelId, DeviceId, DirectId, KeyId};
use crate::sealing::{SealedKey, SealingPublicKey};

/// Most seals one event carries.
pub const SEALS_MAX: usize = 160;
/// Most devices one membership list names.
pub const LISTED_DEVICES_MAX: usize = 900;

/// Who reads what is sealed with one line of epoch keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Audience {
    /// Charter and ledger: everyone but keepers, with all history.
    #[n(0)]
    Governance,
    /// Machines, library, boards: owners to members.
    #[n(1)]
    Members,
    /// One channel.
    #[n(2)]
    Channel(#[n(0)] ChannelId),
    /// A few people among themselves.
    #[n(3)]
    Direct(#[n(0)] DirectId),
    /// Owners, admins and moderators.
    #[n(4)]
    Moderators,
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Governance => f.write_str("governance"),
            Self::Members => f.write_str("members"),
            Self::Channel(channel) => write!(f, "channel/{channel}"),
            Self::Direct(direct) => write!(f, "direct/{direct}"),
            Self::Moderators => f.write_str("moderators"),
        }
    }
}

/// How keys get to those who may have them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum KeyEvent {
    /// A new key for an audience, sealed to its devices and recovery keys.
    #[n(0)]
    EpochStarted {
        /// Whose.
        #[n(0)]
        audience: Audience,
        /// The key's name.
        #[n(1)]
        key: KeyId,
        /// The key, for each recipient.
        #[n(2)]
        seals: Vec<SealedKey>,
        /// In an audience that the remover cannot see: how far the removed
        /// person's feeds of this audience count.
        #[n(3)]
        fence: Fence,
    },
    /// An existing key for more recipients.
    #[n(1)]
    KeySealed {
        /// Whose.
        #[n(0)]
        audience: Audience,
        /// The key's name.
        #[n(1)]
        key: KeyId,
        /// The key, for each recipient.
        #[n(2)]
        seals: Vec<SealedKey>,
    },
    /// The author has no working seal of this key and asks for one.
    #[n(2)]
    KeyWanted {
        /// Whose.
        #[n(0)]
        audience: Audience,
        /// The key's name.
        #[n(1)]
        key: KeyId,
        /// For which recipient.
        #[n(2)]
        recipient: SealingPublicKey,
    },
    /// Who may write, for keepers that cannot read the charter.
    #[n(3)]
    MembershipListed {
        /// Every device that counts, in order.
        #[n(0)]
        devices: Vec<DeviceId>,
    },
}
