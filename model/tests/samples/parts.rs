//! Every variant of the enumerations inside events, encoded.

use exo_model::amount::Amount;
use exo_model::board::BoardValue;
use exo_model::certificate::Enroller;
use exo_model::charter::{CommunityKind, Floors, Relay, Role, Setting};
use exo_model::codec::encode;
use exo_model::event::charter::{ReportOutcome, VouchGround};
use exo_model::event::dispute::Finding;
use exo_model::event::keys::Audience;
use exo_model::event::ledger::{Account, GrantReason, OfferKind, Purpose};
use exo_model::event::private::{Notify, Speaker, Subject};
use exo_model::feed::Stream;
use exo_model::id::{BoardId, CertificatePin, DirectId, ThreadId};
use exo_model::trust::TrustLevel;
use exo_model::{BlobHash, ChannelId, DeviceId, JobId};
use minicbor::Encode;

use super::names::Named;
use super::{COMMUNITY, hash, others, person, proofs};

/// A variant: its enumeration, its name, its bytes.
type Part = (&'static str, &'static str, Vec<u8>);

const CHANNEL: ChannelId = ChannelId::from_bytes([0xc4; 16]);
const DIRECT: DirectId = DirectId::from_bytes([0xd7; 16]);
const BOARD: BoardId = BoardId::from_bytes([0xb0; 16]);

fn parts<T: Named + Encode<()>>(values: impl IntoIterator<Item = T>) -> Vec<Part> {
    values.into_iter().map(|value| (T::FAMILY, value.name(), encode(&value))).collect()
}

/// Every variant of every enumeration inside events.
pub(crate) fn every_part() -> Vec<Part> {
    [places(), people(), judgements(), credits(), private(), boards()].concat()
}

fn places() -> Vec<Part> {
    let streams = [
        Stream::Keys,
        Stream::Charter,
        Stream::Ledger,
        Stream::Cluster,
        Stream::Library,
        Stream::Moderation,
        Stream::Board(BOARD),
        Stream::Channel(CHANNEL),
        Stream::Direct(DIRECT),
        Stream::Private,
    ];
    let audiences = [
        Audience::Governance,
        Audience::Members,
        Audience::Channel(CHANNEL),
        Audience::Direct(DIRECT),
        Audience::Moderators,
    ];
    [parts(streams), parts(audiences), parts(proofs())].concat()
}

fn people() -> Vec<Part> {
    let floor = Amount::from_token_mib(-5);
    let settings = [
        Setting::Name("Garden".into()),
        Setting::Floors(Floors { public: Amount::ZERO, known: floor, friends: floor }),
        Setting::CommunityFloor(floor),
        Setting::MembersInvite(true),
        Setting::OpenHistory(false),
        Setting::About("Beds.".into()),
        Setting::Guidelines(Some(BOARD)),
        Setting::Relays(relays()),
    ];
    [
        parts([CommunityKind::Shared, CommunityKind::Private]),
        parts(Role::ALL.into_iter().rev()),
        parts(TrustLevel::ALL),
        parts(settings),
        parts([Enroller::Phrase, Enroller::Device(DeviceId::from_bytes([0xde; 32]))]),
        parts([VouchGround::Known, VouchGround::SafetyWords, VouchGround::MetInPerson]),
        parts(others::listed()),
    ]
    .concat()
}

fn relays() -> Vec<Relay> {
    let pin = Some(CertificatePin::from_bytes([0x5a; 32]));
    vec![
        Relay { url: "https://relay.example.org:8443".into(), pin },
        Relay { url: "https://r2.example.org".into(), pin: None },
    ]
}

fn judgements() -> Vec<Part> {
    let outcomes =
        [ReportOutcome::Dismissed, ReportOutcome::Warned, ReportOutcome::Hidden, ReportOutcome::Removed];
    [parts(outcomes), parts([Finding::Dismiss, Finding::Refund(Amount::from_token_mib(40))])].concat()
}

fn credits() -> Vec<Part> {
    let purposes = [
        Purpose::Job(JobId::from_bytes([0x10; 16])),
        Purpose::Order { offer: hash(1), units: 2 },
        Purpose::Booking { offer: hash(1), from_ms: 1_000, until_ms: 2_000 },
    ];
    [
        parts(purposes),
        parts([OfferKind::Model(BlobHash::from_bytes([0xb1; 32])), OfferKind::Hours, OfferKind::Other]),
        parts([Account::Device(DeviceId::from_bytes([0xde; 32])), Account::Community]),
        parts([GrantReason::Grant, GrantReason::Bounty, GrantReason::Hosting, GrantReason::Uptime]),
    ]
    .concat()
}

fn private() -> Vec<Part> {
    let subjects = [
        Subject::Person(person(1)),
        Subject::Channel(COMMUNITY, CHANNEL),
        Subject::Community(COMMUNITY),
        Subject::Thread(ThreadId::from_bytes([0x71; 16])),
    ];
    [
        parts([Speaker::System, Speaker::Person, Speaker::Model, Speaker::Tool]),
        parts(subjects),
        parts([Notify::All, Notify::Mentions, Notify::Nothing]),
    ]
    .concat()
}

fn boards() -> Vec<Part> {
    let values = [BoardValue::Text("Ana".into()), BoardValue::Integer(-12), BoardValue::Flag(true)];
    [parts(others::edit().intents), parts(values)].concat()
}
