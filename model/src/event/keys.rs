//! Facts about epoch keys. They travel unsealed: what they carry is sealed to
//! its recipients one by one.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::charter::Role;
use crate::feed::Stream;
use crate::feed::fence::Fence;
use crate::id::{ChangeHash, ChannelId, DeviceId, DirectId, KeyId};
use crate::sealing::{SealedKey, SealingPublicKey};

/// Most seals one event carries.
pub const SEALS_MAX: usize = 160;
/// Most devices a [`KeyEvent::MembershipListed`] names.
pub const LISTED_DEVICES_MAX: usize = 900;
/// Bytes of entries that one part of a list for keepers carries at most; an
/// envelope has room for more.
pub const LIST_PART_BYTES_MAX: usize = 24 * 1024;
/// Most parts of one list for keepers: room for every device of the largest
/// community, and for its former ones as far as they fit.
pub const LIST_PARTS_MAX: u16 = 96;

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
    /// Devices alone. Kept as a format: nobody posts it, and it counts for
    /// nothing, because it does not say what it takes the place of.
    #[n(3)]
    MembershipListed {
        /// Every device that counts, in order.
        #[n(0)]
        devices: Vec<DeviceId>,
    },
    /// Who takes part, for keepers that cannot read the charter. A list that
    /// fits no single event goes on in the author's next ones.
    #[n(4)]
    ListedForKeepers {
        /// The list that this one takes the place of, by the change that
        /// carries its last part; none for the first list.
        #[n(0)]
        follows: Option<ChangeHash>,
        /// Number of this part, from 0.
        #[n(1)]
        part: u16,
        /// Whether it is the last one.
        #[n(2)]
        is_last: bool,
        /// Who takes part.
        #[n(3)]
        entries: Vec<Listed>,
    },
}

/// An entry of a list for keepers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Listed {
    /// A person whose devices may post lists.
    #[n(0)]
    Lister {
        /// Their rank.
        #[n(0)]
        role: Role,
        /// Their devices, those that were enrolled first at the front.
        #[n(1)]
        devices: Vec<DeviceId>,
    },
    /// A device that writes.
    #[n(1)]
    Writer(#[n(0)] DeviceId),
    /// A device that carries what others write, and writes nothing.
    #[n(2)]
    Keeper(#[n(0)] DeviceId),
    /// A device that takes part no longer.
    #[n(3)]
    Former {
        /// The device.
        #[n(0)]
        device: DeviceId,
        /// How far its feeds count, in the order of streams; of streams that
        /// are not named nothing. None where nobody has said so.
        #[n(1)]
        ends: Option<Vec<StreamEnd>>,
    },
}

/// How far a device's feeds in one stream count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct StreamEnd {
    /// The stream.
    #[n(0)]
    pub stream: Stream,
    /// The last segment that counts.
    #[n(1)]
    pub segment: u32,
    /// The last change of it that counts.
    #[n(2)]
    pub seq: u64,
}
