//! Roles, and the one table of what they may do.

use std::fmt;

use minicbor::{Decode, Encode};

/// What a person is in a community. The order is the rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Role {
    /// Carries what it cannot read.
    #[n(0)]
    Keeper,
    /// Reads governance, and talks where guests may.
    #[n(1)]
    Guest,
    /// Takes part in everything.
    #[n(2)]
    Member,
    /// Keeps the peace.
    #[n(3)]
    Moderator,
    /// Runs the community day by day.
    #[n(4)]
    Admin,
    /// Answers for it.
    #[n(5)]
    Owner,
}

impl Role {
    /// All roles, highest rank first.
    pub const ALL: [Self; 6] =
        [Self::Owner, Self::Admin, Self::Moderator, Self::Member, Self::Guest, Self::Keeper];

    /// The word shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Moderator => "moderator",
            Self::Member => "member",
            Self::Guest => "guest",
            Self::Keeper => "keeper",
        }
    }

    /// Whether this role has `permission` without any setting's help.
    pub fn may(self, permission: Permission) -> bool {
        self >= permission.least_role()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// A text that is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a role: owner, admin, moderator, member, guest or keeper")]
pub struct UnknownRole;

/// Something only some roles may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Read the charter and the ledger.
    ReadGovernance,
    /// Write in open channels.
    Write,
    /// Complete a newcomer's join.
    Admit,
    /// Vouch for people.
    Vouch,
    /// Offer machines, share models, spend credit.
    Share,
    /// Sit as a juror.
    Judge,
    /// Issue and revoke invites.
    Invite,
    /// Hide messages, decide reports.
    Moderate,
    /// Remove people of lower rank.
    Remove,
    /// Give roles below one's own.
    GiveRoles,
    /// Create and change channels.
    ManageChannels,
    /// Let people read what was written before they came.
    GrantHistory,
    /// Set how far the community trusts people.
    SetTrust,
    /// Change settings, adopt rules.
    ChangeSettings,
    /// Allot the community's credit.
    Allot,
}

/// Every permission with the lowest role that has it: the table of
/// `docs/design/governance.md`. Members get [`Permission::Invite`] where the
/// setting says so, and guests write in channels that are open to guests.
pub const PERMISSIONS: [(Permission, Role); 15] = [
    (Permission::ReadGovernance, Role::Guest),
    (Permission::Write, Role::Member),
    (Permission::Admit, Role::Member),
    (Permission::Vouch, Role::Member),
    (Permission::Share, Role::Member),
    (Permission::Judge, Role::Member),
    (Permission::Invite, Role::Moderator),
    (Permission::Moderate, Role::Moderator),
    (Permission::Remove, Role::Moderator),
    (Permission::GiveRoles, Role::Admin),
    (Permission::ManageChannels, Role::Admin),
    (Permission::GrantHistory, Role::Admin),
    (Permission::SetTrust, Role::Admin),
    (Permission::ChangeSettings, Role::Owner),
    (Permission::Allot, Role::Owner),
];

impl Permission {
    /// The lowest role that has it.
    pub fn least_role(self) -> Role {
        PERMISSIONS.iter().find(|(permission, _)| *permission == self).map_or(Role::Owner, |(_, role)| *role)
    }

    /// What it lets one do, as in the table of `docs/design/governance.md`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadGovernance => "read the charter and the ledger",
            Self::Write => "write in open channels",
            Self::Admit => "complete a join (admit)",
            Self::Vouch => "vouch for people",
            Self::Share => "offer machines, share models, spend credit",
            Self::Judge => "sit as a juror",
            Self::Invite => "issue and revoke invites",
            Self::Moderate => "hide messages, decide reports",
            Self::Remove => "remove lower ranks",
            Self::GiveRoles => "give roles below one's own",
            Self::ManageChannels => "create and change channels",
            Self::GrantHistory => "grant history",
            Self::SetTrust => "set trust levels",
            Self::ChangeSettings => "change settings, adopt rules",
            Self::Allot => "allot the community's credit",
        }
    }
}
