//! What the shell tells the hub, and what the hub tells it to do.

use std::collections::BTreeSet;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use exo_model::id::{CommunityId, DeviceId};

use super::{LinkId, Load, Presence};
use crate::session::{Ends, FeedHead};

/// "My feeds now end somewhere else": what is gossiped. A lost, forged or
/// repeated hint costs at most a few empty exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hint {
    /// [`Ends::root`] of who says it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub root: [u8; 32],
    /// Ends of feeds that changed, at most [`NEWS_MAX`](super::NEWS_MAX).
    #[n(1)]
    pub news: Vec<FeedHead>,
    /// Whether more changed than is named.
    #[n(2)]
    pub more: bool,
}

/// Who belongs to a community, as far as links are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Company {
    /// Devices that may connect, without this one.
    pub devices: BTreeSet<DeviceId>,
    /// Of these, those that this node is always linked with: its person's other
    /// devices, and keepers.
    pub close: BTreeSet<DeviceId>,
}

/// How an exchange went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Changes stored.
    pub stored: usize,
    /// Runs put off because something they need is not here yet.
    pub deferred: usize,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A community is open here, or something about it changed.
    Community {
        /// Who is in it.
        company: Arc<Company>,
        /// Where its lines end here.
        ends: Arc<Ends>,
    },
    /// A community is not open here any more.
    Left(CommunityId),
    /// This node talks to others, or does not.
    Online(bool),
    /// Addresses changed, or the machine slept: everyone is worth a dial.
    NetworkChanged,
    /// A device may be reachable: it was seen nearby.
    Seen(DeviceId),
    /// A connection stands.
    Linked {
        /// Which one.
        link: LinkId,
        /// To whom.
        device: DeviceId,
        /// Whether this side dialled.
        dialled: bool,
    },
    /// A connection is gone.
    Unlinked(LinkId),
    /// A dial failed.
    DialFailed(DeviceId),
    /// An exchange that this side began is over; nothing where it broke off.
    Exchanged(LinkId, CommunityId, Option<Exchanged>),
    /// A hint came by gossip.
    Hinted {
        /// Of which community.
        community: CommunityId,
        /// Who says it.
        origin: DeviceId,
        /// Who passed it on.
        by: DeviceId,
        /// The hint.
        hint: Hint,
    },
    /// The gossip neighbours in a community are these.
    Neighbours(CommunityId, BTreeSet<DeviceId>),
    /// Messages of gossip were lost.
    Lagged(CommunityId),
    /// Somebody wants an exchange with a device now.
    Wanted(CommunityId, DeviceId),
    /// A member's ephemeral message came by gossip.
    Presence(CommunityId, DeviceId, Presence),
    /// What this node says of itself.
    Present(Load),
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Dial a device; report [`Input::Linked`] or [`Input::DialFailed`].
    Dial(DeviceId),
    /// Close a link.
    Close(LinkId, Farewell),
    /// Begin an exchange; report [`Input::Exchanged`].
    Exchange(LinkId, CommunityId),
    /// Gossip a hint.
    Hint(CommunityId, Hint),
    /// Gossip what this node says of itself.
    Announce(CommunityId, Load),
    /// Tell gossip of devices that are linked and no neighbours yet.
    Introduce(CommunityId, Vec<DeviceId>),
}

/// Why a link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Not in a common community, any more.
    NotAMember,
    /// There are enough links.
    Enough,
    /// Working offline.
    Offline,
}
