//! Facts of governance.

use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::certificate::{DeviceCertificate, PhraseRevocation};
use crate::charter::role::Role;
use crate::charter::settings::{CommunityKind, Setting, Settings};
use crate::event::dispute::DisputeEvent;
use crate::event::keys::Audience;
use crate::feed::equivocation::EquivocationProof;
use crate::feed::fence::Fence;
use crate::id::{ChangeHash, ChannelId, DeviceId, InviteKey, PersonId};
use crate::signature::Signature;
use crate::trust::TrustLevel;

/// Longest reason or note, in bytes.
pub const NOTE_BYTES_MAX: usize = 1_024;
/// Most people one event adds to a channel or takes out of it.
pub const CHANNEL_PEOPLE_PER_EVENT_MAX: usize = 256;
/// Most settlements a proof of a fork names; with a fence and two branches
/// they fit one event.
pub const PROOF_SETTLED_MAX: usize = 128;
/// Most removals one admission lifts.
pub const LIFTS_MAX: usize = 32;

/// One act of governance. Which acts count is decided by
/// [`charter`](crate::charter).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum CharterEvent {
    /// First event of the founder's charter feed; the hash of its payload is
    /// the community's id.
    #[n(0)]
    Founded {
        /// What kind of community.
        #[n(0)]
        kind: CommunityKind,
        /// The founder's first device, which must be the feed's own.
        #[n(1)]
        founder: DeviceCertificate,
        /// The founder's name.
        #[n(2)]
        founder_name: String,
        /// Name, floors and the other settings it starts with.
        #[n(3)]
        settings: Settings,
        /// Makes two communities of one name different.
        #[cbor(n(4), with = "minicbor::bytes")]
        nonce: [u8; 16],
    },
    /// Whoever holds the invite's secret key may join.
    #[n(1)]
    InviteIssued {
        /// Public half of the invite key.
        #[n(0)]
        key: InviteKey,
        /// How many people may join with it.
        #[n(1)]
        uses: u32,
        /// Wall time after which members refuse it, ms since the Unix epoch.
        /// Judged by the admitting member's clock, never by `reduce`.
        #[n(2)]
        expires_ms: i64,
        /// The role it gives: member, guest or keeper.
        #[n(3)]
        role: Role,
        /// The trust level it gives.
        #[n(4)]
        trust: TrustLevel,
    },
    /// The invite admits nobody any more.
    #[n(2)]
    InviteRevoked {
        /// Which one.
        #[n(0)]
        key: InviteKey,
    },
    /// A member completed a join.
    #[n(3)]
    Admitted {
        /// The newcomer's first device here.
        #[n(0)]
        certificate: DeviceCertificate,
        /// The newcomer's name, covered by `proof`.
        #[n(1)]
        name: String,
        /// The invite used.
        #[n(2)]
        invite: InviteKey,
        /// The invite key's signature over community, person, device and name.
        #[n(3)]
        proof: Signature,
        /// Removals of this person that the admission lifts.
        #[n(4)]
        lifts: Vec<ChangeHash>,
    },
    /// The author leaves, with all devices.
    #[n(4)]
    Left {
        /// How far the author's own feeds count.
        #[n(0)]
        fence: Fence,
    },
    /// A person is removed, with all devices.
    #[n(5)]
    Removed {
        /// Who.
        #[n(0)]
        person: PersonId,
        /// Whether only someone of the remover's rank can let them in again.
        #[n(1)]
        ban: bool,
        /// Why, for the log.
        #[n(2)]
        reason: String,
        /// How far the person's feeds count.
        #[n(3)]
        fence: Fence,
    },
    /// The author agrees to an act that needs several.
    #[n(6)]
    CoSigned {
        /// The change that carries the act.
        #[n(0)]
        act: ChangeHash,
    },
    /// A person has another role from here on.
    #[n(7)]
    RoleSet {
        /// Who.
        #[n(0)]
        person: PersonId,
        /// What they are now.
        #[n(1)]
        role: Role,
    },
    /// The community trusts a person at another level from here on.
    #[n(8)]
    TrustSet {
        /// Who.
        #[n(0)]
        person: PersonId,
        /// The level.
        #[n(1)]
        level: TrustLevel,
    },
    /// A person's further device takes part.
    #[n(9)]
    DeviceAdded {
        /// Signed by the person's phrase, or by one of their devices.
        #[n(0)]
        certificate: DeviceCertificate,
    },
    /// A device takes part no longer.
    #[n(10)]
    DeviceRevoked {
        /// Which one.
        #[n(0)]
        device: DeviceId,
        /// How far its feeds count.
        #[n(1)]
        fence: Fence,
        /// The phrase's word on it, which beats any device.
        #[n(2)]
        phrase: Option<PhraseRevocation>,
    },
    /// The author's own profile.
    #[n(11)]
    ProfileSet {
        /// Name.
        #[n(0)]
        name: String,
        /// A few words about oneself; may be empty.
        #[n(1)]
        about: String,
    },
    /// One setting of the community has another value from here on.
    #[n(12)]
    SettingChanged {
        /// Which, and its value.
        #[n(0)]
        setting: Setting,
    },
    /// A channel exists from here on.
    #[n(13)]
    ChannelCreated {
        /// Its id.
        #[n(0)]
        channel: ChannelId,
        /// Its name.
        #[n(1)]
        name: String,
        /// Whether only people who were added read it.
        #[n(2)]
        closed: bool,
        /// Whether guests read and write in it.
        #[n(3)]
        guests: bool,
    },
    /// A channel is called otherwise, or put away.
    #[n(14)]
    ChannelChanged {
        /// Which one.
        #[n(0)]
        channel: ChannelId,
        /// Its name now.
        #[n(1)]
        name: String,
        /// Whether nobody writes in it any more.
        #[n(2)]
        archived: bool,
    },
    /// People come into a closed channel, or leave it.
    #[n(15)]
    ChannelPeople {
        /// Which one.
        #[n(0)]
        channel: ChannelId,
        /// Who reads from here on.
        #[n(1)]
        add: Vec<PersonId>,
        /// Who no longer does.
        #[n(2)]
        remove: Vec<PersonId>,
    },
    /// From here on the rules of this version hold. A program too old for it
    /// reads on and changes nothing.
    #[n(16)]
    RulesAdopted {
        /// The version.
        #[n(0)]
        version: u32,
    },
    /// A person may read what an audience wrote before they came.
    #[n(17)]
    HistoryGranted {
        /// Who.
        #[n(0)]
        person: PersonId,
        /// Whose history.
        #[n(1)]
        audience: Audience,
    },
    /// A device signed two different things at one place.
    #[n(18)]
    EquivocationProven {
        /// Both signatures.
        #[n(0)]
        proof: EquivocationProof,
        /// How far the device's feeds count.
        #[n(1)]
        fence: Fence,
        /// Settlements of the device's locks that the prover knew: they stand
        /// before all others.
        #[n(2)]
        settled: Vec<ChangeHash>,
    },
    /// An officer may spend from the community's account.
    #[n(19)]
    Allotted {
        /// Who.
        #[n(0)]
        person: PersonId,
        /// How much in all.
        #[n(1)]
        amount: Amount,
        /// For what.
        #[n(2)]
        note: String,
    },
    /// The author vouches for a person.
    #[n(20)]
    Vouched {
        /// Whom.
        #[n(0)]
        person: PersonId,
        /// On what ground.
        #[n(1)]
        ground: VouchGround,
    },
    /// The author vouches no longer.
    #[n(21)]
    VouchWithdrawn {
        /// For whom.
        #[n(0)]
        person: PersonId,
    },
    /// A step of a dispute.
    #[n(22)]
    Dispute(#[n(0)] DisputeEvent),
    /// Moderators take a message out of sight, or put it back.
    #[n(23)]
    MessageHidden {
        /// The message's author.
        #[n(0)]
        author: PersonId,
        /// The message.
        #[n(1)]
        message: ChangeHash,
        /// Whether it is out of sight.
        #[n(2)]
        hidden: bool,
        /// Why, for the log.
        #[n(3)]
        reason: String,
    },
    /// A moderator answers a report.
    #[n(24)]
    ReportDecided {
        /// The report.
        #[n(0)]
        report: ChangeHash,
        /// Whom it was about.
        #[n(1)]
        subject: PersonId,
        /// What came of it.
        #[n(2)]
        outcome: ReportOutcome,
        /// Why, for the log.
        #[n(3)]
        note: String,
    },
}

/// On what ground someone vouches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum VouchGround {
    /// I know this person.
    #[n(0)]
    Known,
    /// We compared safety words over another line.
    #[n(1)]
    SafetyWords,
    /// We met, and scanned each other's code.
    #[n(2)]
    MetInPerson,
}

/// What came of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum ReportOutcome {
    /// Nothing was wrong.
    #[n(0)]
    Dismissed,
    /// A word was said.
    #[n(1)]
    Warned,
    /// The message was hidden.
    #[n(2)]
    Hidden,
    /// The person was removed.
    #[n(3)]
    Removed,
}
