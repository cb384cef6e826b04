//! What a community decides about itself.

use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::charter::relay::{self, Relay};
use crate::id::BoardId;
use crate::text::{self, is_clean_message, is_clean_name};
use crate::trust::TrustLevel;

/// Longest public description, in bytes.
pub const ABOUT_BYTES_MAX: usize = 2_048;

/// What a community is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum CommunityKind {
    /// People who share machines and words.
    #[n(0)]
    Shared,
    /// The devices of one person, for facts that are nobody else's.
    #[n(1)]
    Private,
}

/// Lowest balance a person may reach, by trust level; zero or negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Floors {
    /// For [`TrustLevel::Public`].
    #[n(0)]
    pub public: Amount,
    /// For [`TrustLevel::Known`].
    #[n(1)]
    pub known: Amount,
    /// For [`TrustLevel::Friends`].
    #[n(2)]
    pub friends: Amount,
}

impl Floors {
    /// The floor at a level.
    pub const fn at(&self, level: TrustLevel) -> Amount {
        match level {
            TrustLevel::Public => self.public,
            TrustLevel::Known => self.known,
            TrustLevel::Friends => self.friends,
        }
    }

    fn is_usable(&self) -> bool {
        [self.public, self.known, self.friends].into_iter().all(is_floor)
    }
}

/// All settings, as founded or as they stand.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Settings {
    /// The community's name.
    #[n(0)]
    pub name: String,
    /// Lowest balances of people.
    #[n(1)]
    pub floors: Floors,
    /// Lowest balance of the community's own account.
    #[n(2)]
    pub community_floor: Amount,
    /// Whether plain members may invite.
    #[n(3)]
    pub members_invite: bool,
    /// Whether newcomers read what was written before they came, without a
    /// grant for each.
    #[n(4)]
    pub open_history: bool,
    /// What strangers may read about the community; empty for nothing.
    #[n(5)]
    pub about: String,
    /// The board with the guidelines.
    #[n(6)]
    pub guidelines: Option<BoardId>,
    /// Relays for members who cannot reach each other directly. Settings
    /// without any are encoded as before there were relays, so that what was
    /// founded then keeps its bytes and its hash.
    #[n(7)]
    #[cbor(skip_if = "Vec::is_empty")]
    pub relays: Vec<Relay>,
}

/// One setting with its value.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Setting {
    /// See [`Settings::name`].
    #[n(0)]
    Name(#[n(0)] String),
    /// See [`Settings::floors`].
    #[n(1)]
    Floors(#[n(0)] Floors),
    /// See [`Settings::community_floor`].
    #[n(2)]
    CommunityFloor(#[n(0)] Amount),
    /// See [`Settings::members_invite`].
    #[n(3)]
    MembersInvite(#[n(0)] bool),
    /// See [`Settings::open_history`].
    #[n(4)]
    OpenHistory(#[n(0)] bool),
    /// See [`Settings::about`].
    #[n(5)]
    About(#[n(0)] String),
    /// See [`Settings::guidelines`].
    #[n(6)]
    Guidelines(#[n(0)] Option<BoardId>),
    /// See [`Settings::relays`].
    #[n(7)]
    Relays(#[n(0)] Vec<Relay>),
}

impl Settings {
    /// Settings of a community of friends called `name`: credit down to
    /// `floor` for friends, a tenth of it for known people, none for others.
    pub fn of_friends(name: String, floor: Amount) -> Self {
        let floor = floor.min(Amount::ZERO);
        Self {
            name,
            floors: Floors {
                public: Amount::ZERO,
                known: Amount::from_token_mib(floor.token_mib() / 10),
                friends: floor,
            },
            community_floor: floor,
            members_invite: false,
            open_history: true,
            about: String::new(),
            guidelines: None,
            relays: Vec::new(),
        }
    }

    /// Whether every value is within its limits.
    pub fn is_usable(&self) -> bool {
        is_clean_name(&self.name)
            && self.floors.is_usable()
            && is_floor(self.community_floor)
            && is_about(&self.about)
            && relay::are_usable(&self.relays)
    }

    /// Takes one changed value.
    pub fn set(&mut self, setting: &Setting) {
        match setting {
            Setting::Name(name) => self.name.clone_from(name),
            Setting::Floors(floors) => self.floors = *floors,
            Setting::CommunityFloor(floor) => self.community_floor = *floor,
            Setting::MembersInvite(may) => self.members_invite = *may,
            Setting::OpenHistory(open) => self.open_history = *open,
            Setting::About(about) => self.about.clone_from(about),
            Setting::Guidelines(board) => self.guidelines = *board,
            Setting::Relays(relays) => self.relays.clone_from(relays),
        }
    }
}

impl Setting {
    /// The number of the kind, as in the format: values of one kind replace
    /// each other.
    pub const fn number(&self) -> u8 {
        match self {
            Self::Name(_) => 0,
            Self::Floors(_) => 1,
            Self::CommunityFloor(_) => 2,
            Self::MembersInvite(_) => 3,
            Self::OpenHistory(_) => 4,
            Self::About(_) => 5,
            Self::Guidelines(_) => 6,
            Self::Relays(_) => 7,
        }
    }

    /// Whether the value is within its limits.
    pub fn is_usable(&self) -> bool {
        match self {
            Self::Name(name) => is_clean_name(name),
            Self::Floors(floors) => floors.is_usable(),
            Self::CommunityFloor(floor) => is_floor(*floor),
            Self::About(about) => is_about(about),
            Self::Relays(relays) => relay::are_usable(relays),
            Self::MembersInvite(_) | Self::OpenHistory(_) | Self::Guidelines(_) => true,
        }
    }
}

/// A floor is zero or negative, and far from overflow.
fn is_floor(floor: Amount) -> bool {
    (-Amount::LOCK_MAX.token_mib()..=0).contains(&floor.token_mib())
}

fn is_about(about: &str) -> bool {
    about.is_empty()
        || (about.len() <= ABOUT_BYTES_MAX.min(text::MESSAGE_BYTES_MAX) && is_clean_message(about))
}
