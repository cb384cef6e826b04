//! The names of all kinds, by matches that are complete or do not compile.

use exo_model::board::{BoardIntent, BoardValue};
use exo_model::certificate::Enroller;
use exo_model::charter::{CommunityKind, Role, Setting};
use exo_model::event::charter::{ReportOutcome, VouchGround};
use exo_model::event::dispute::Finding;
use exo_model::event::keys::{Audience, Listed};
use exo_model::event::ledger::{Account, GrantReason, OfferKind, Purpose};
use exo_model::event::private::{Notify, Speaker, Subject};
use exo_model::event::{
    BoardEvent, CharterEvent, ClusterEvent, DisputeEvent, Event, KeyEvent, LedgerEvent, LibraryEvent,
    ModerationEvent, PrivateEvent, TalkEvent,
};
use exo_model::feed::Stream;
use exo_model::feed::equivocation::EquivocationProof;
use exo_model::trust::TrustLevel;

/// An enumeration of the format.
pub(crate) trait Named {
    /// Its own name.
    const FAMILY: &'static str;
    /// The names of all its variants.
    const ALL: &'static [&'static str];
    /// The name of this one.
    fn name(&self) -> &'static str;
}

macro_rules! named {
    ($($family:ident { $($variant:ident)* })*) => {
        $(impl Named for $family {
            const FAMILY: &'static str = stringify!($family);
            const ALL: &'static [&'static str] = &[$(stringify!($variant)),*];

            fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => stringify!($variant)),* }
            }
        })*
    };
}

named! {
    CharterEvent {
        Founded InviteIssued InviteRevoked Admitted Left Removed CoSigned RoleSet TrustSet DeviceAdded
        DeviceRevoked ProfileSet SettingChanged ChannelCreated ChannelChanged ChannelPeople RulesAdopted
        HistoryGranted EquivocationProven Allotted Vouched VouchWithdrawn Dispute MessageHidden ReportDecided
    }
    DisputeEvent {
        Opened Seeded Drawn EvidenceAdded JurorDeclined Voted RoundClosed Appealed Withdrawn
    }
    LedgerEvent {
        Locked Settled Closed Counted Transferred Granted OfferPosted OfferWithdrawn OrderAccepted
        BountyPosted BountyAwarded BountyWithdrawn
    }
    ClusterEvent { MachineOffered ShardHosted ShardDropped }
    LibraryEvent { ModelAdded }
    TalkEvent { Posted Edited Deleted Reacted Pinned DirectOpened }
    BoardEvent { Started Edited }
    KeyEvent { EpochStarted KeySealed KeyWanted MembershipListed ListedForKeepers }
    Listed { Lister Writer Keeper Former }
    ModerationEvent { ReportFiled }
    PrivateEvent {
        ThreadTitled TurnAdded BranchChosen ThreadDeleted PromptSaved ReadUpTo NotifySet BlockSet HideSet
        DraftSaved SettingSet TrustOverridden CommunityJoined
    }
    Stream { Keys Charter Ledger Cluster Library Moderation Board Channel Direct Private }
    Audience { Governance Members Channel Direct Moderators }
    CommunityKind { Shared Private }
    Role { Keeper Guest Member Moderator Admin Owner }
    TrustLevel { Public Known Friends }
    Setting { Name Floors CommunityFloor MembersInvite OpenHistory About Guidelines Relays }
    Enroller { Phrase Device }
    EquivocationProof { Fork Overrun }
    VouchGround { Known SafetyWords MetInPerson }
    ReportOutcome { Dismissed Warned Hidden Removed }
    Finding { Dismiss Refund }
    Purpose { Job Order Booking }
    OfferKind { Model Hours Other }
    Account { Device Community }
    GrantReason { Grant Bounty Hosting Uptime }
    Speaker { System Person Model Tool }
    Subject { Person Channel Community Thread }
    Notify { All Mentions Nothing }
    BoardIntent { Splice Put Delete }
    BoardValue { Text Integer Flag }
}

/// Family and kind of an event. Steps of a dispute are a family of their own
/// inside the charter's.
pub(crate) fn name_of(event: &Event) -> (&'static str, &'static str) {
    fn of<T: Named>(event: &T) -> (&'static str, &'static str) {
        (T::FAMILY, event.name())
    }
    match event {
        Event::Charter(CharterEvent::Dispute(step)) => of(step),
        Event::Charter(event) => of(event),
        Event::Ledger(event) => of(event),
        Event::Cluster(event) => of(event),
        Event::Library(event) => of(event),
        Event::Talk(event) => of(event),
        Event::Board(event) => of(event),
        Event::Keys(event) => of(event),
        Event::Moderation(event) => of(event),
        Event::Private(event) => of(event),
    }
}

type Family = (&'static str, &'static [&'static str]);

const fn family<T: Named>() -> Family {
    (T::FAMILY, T::ALL)
}

/// Every family of events with the names of its kinds.
pub(crate) const FAMILIES: [Family; 10] = [
    family::<CharterEvent>(),
    family::<DisputeEvent>(),
    family::<LedgerEvent>(),
    family::<ClusterEvent>(),
    family::<LibraryEvent>(),
    family::<TalkEvent>(),
    family::<BoardEvent>(),
    family::<KeyEvent>(),
    family::<ModerationEvent>(),
    family::<PrivateEvent>(),
];

/// Every enumeration inside events with the names of its variants.
pub(crate) const PARTS: [Family; 21] = [
    family::<Stream>(),
    family::<Audience>(),
    family::<CommunityKind>(),
    family::<Role>(),
    family::<TrustLevel>(),
    family::<Setting>(),
    family::<Enroller>(),
    family::<EquivocationProof>(),
    family::<VouchGround>(),
    family::<ReportOutcome>(),
    family::<Finding>(),
    family::<Purpose>(),
    family::<OfferKind>(),
    family::<Account>(),
    family::<GrantReason>(),
    family::<Speaker>(),
    family::<Subject>(),
    family::<Notify>(),
    family::<Listed>(),
    family::<BoardIntent>(),
    family::<BoardValue>(),
];
