//! Why an intent is not recorded.

use crate::board::{ContentsError, EditError};
use crate::charter::RelayError;
use crate::conversation::Fault;
use crate::event::cluster::ADDRESSES_MAX;
use crate::invite::INVITE_USES_MAX;
use crate::ledger::LedgerFault;
use crate::text::TextError;
use crate::weights::ManifestError;

/// Why an intent is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This device does not belong to the community.
    #[error("this device is not a member of the community")]
    NotAMember,
    /// The role does not have the permission, or the act is about someone of
    /// the same or a higher rank.
    #[error("your role does not allow this; an admin or an owner can do it, or give you the role")]
    NotEntitled,
    /// The community adopted rules that this build does not know.
    #[error("this community uses rules of version {0}; update the program to change anything in it")]
    NewerRules(u32),
    /// A fixed limit, or something of this kind is there already.
    #[error("this is not possible any more: it exists already, or a limit of the community is reached")]
    Lost,
    /// A text is empty or too long.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A list of relays that cannot be one.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// A part of it is out of bounds.
    #[error("this {0} is not well-formed or over a limit")]
    Malformed(&'static str),
    /// No such channel.
    #[error("there is no such channel")]
    UnknownChannel,
    /// Nobody writes there any more.
    #[error("this channel is archived; an admin can open it again")]
    Archived,
    /// No such model, or layers it does not have.
    #[error("there is no such model in this community")]
    UnknownModel,
    /// Something of this name or key is there already.
    #[error("this {0} exists already")]
    Exists(&'static str),
    /// Not at most so many socket addresses.
    #[error("a machine can publish at most {ADDRESSES_MAX} addresses of the form ip:port")]
    Addresses,
    /// The number of uses is not possible.
    #[error("an invite can be used 1 to {INVITE_USES_MAX} times")]
    InviteUses,
    /// The request is for another community.
    #[error("the invite belongs to another community")]
    OtherCommunity,
    /// No such invite.
    #[error("the invite is not known here; ask for a new one")]
    UnknownInvite,
    /// All uses are spent.
    #[error("the invite was already used; ask for a new one")]
    InviteUsed,
    /// It was revoked.
    #[error("the invite was revoked; ask for a new one")]
    InviteRevoked,
    /// Its time is over.
    #[error("the invite has expired; ask for a new one")]
    InviteExpired,
    /// The proof does not verify.
    #[error("the invite's signature does not fit the request")]
    InviteProof,
    /// The newcomer was removed, and this invite does not lift that.
    #[error("this person was removed from the community; a member has to invite them anew")]
    WasRemoved,
    /// The newcomer was banned.
    #[error("this person was banned; only someone of the rank that banned them can let them in again")]
    Banned,
    /// This device was part of the community and is so no longer.
    #[error("this device was removed from the community; join again from a fresh data folder")]
    SpentDevice,
    /// The newcomer is in already: a success, for who asks again.
    #[error("this person is already a member; add the device from one of their devices")]
    AlreadyMember,
    /// A fixed limit of the community is reached.
    #[error("the community is full: at most {max} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The manifest is out of bounds.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The board edit is out of bounds.
    #[error(transparent)]
    Board(#[from] EditError),
    /// An offer that is known to be gone.
    #[error("this offer was taken back; choose another one")]
    OfferWithdrawn,
    /// A private community is for one person.
    #[error("this is your private community: nobody else can join it; add your own devices instead")]
    PrivateCommunity,
    /// One's own facts in a community of others.
    #[error("what is only for yourself belongs in your private community, not in one that others read")]
    NotPrivate,
    /// A board cannot start like that.
    #[error(transparent)]
    BoardStart(#[from] ContentsError),
    /// The words are out of bounds.
    #[error(transparent)]
    Words(#[from] Fault),
    /// The ledger would not count it.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// Nothing new came in.
    #[error("there is nothing new to count")]
    NothingToCount,
}
