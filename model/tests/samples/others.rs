//! Every kind of event outside the charter.

use std::collections::BTreeMap;

use exo_model::amount::Amount;
use exo_model::board::{BoardContents, BoardEdit, BoardIntent, BoardValue};
use exo_model::charter::Role;
use exo_model::event::keys::{Audience, Listed, StreamEnd};
use exo_model::event::ledger::{Account, GrantReason, OfferKind, Purpose};
use exo_model::event::private::{Notify, Speaker, Subject};
use exo_model::event::talk::Attachment;
use exo_model::event::{
    BoardEvent, ClusterEvent, Event, KeyEvent, LedgerEvent, LibraryEvent, ModerationEvent, PrivateEvent,
    TalkEvent,
};
use exo_model::feed::Stream;
use exo_model::id::{KeyId, ThreadId};
use exo_model::sealing::SealingKey;
use exo_model::trust::TrustLevel;
use exo_model::weights::{ByteRange, LayerRange, ModelManifest};
use exo_model::{BlobHash, DeviceId, JobId};

use super::{COMMUNITY, fence, hash, person, sealed_for, sealed_key, signature};

const KEY: KeyId = KeyId::from_bytes([0x4e; 16]);
const THREAD: ThreadId = ThreadId::from_bytes([0x71; 16]);
const DEVICE: DeviceId = DeviceId::from_bytes([0xde; 32]);
const FILE: BlobHash = BlobHash::from_bytes([0xb1; 32]);

pub(super) fn events() -> Vec<Event> {
    fn all<T: Into<Event>>(events: Vec<T>) -> impl Iterator<Item = Event> {
        events.into_iter().map(Into::into)
    }
    all(spending())
        .chain(all(market()))
        .chain(all(machines()))
        .chain(all(vec![LibraryEvent::ModelAdded { manifest: manifest() }]))
        .chain(all(words()))
        .chain(all(boards()))
        .chain(all(keys()))
        .chain(all(vec![ModerationEvent::ReportFiled {
            subject: person(1),
            message: Some(hash(1)),
            account: sealed_for(),
        }]))
        .chain(all(threads()))
        .chain(all(preferences()))
        .collect()
}

fn spending() -> Vec<LedgerEvent> {
    let amount = Amount::from_token_mib(70);
    vec![
        LedgerEvent::Locked {
            payee: DEVICE,
            purpose: Purpose::Job(JobId::from_bytes([0x10; 16])),
            max: amount,
        },
        LedgerEvent::Settled { lock: hash(1), amount, voucher: signature(0x51) },
        LedgerEvent::Closed { lock: hash(1), amount, voucher: Some(signature(0x52)) },
        LedgerEvent::Counted { events: vec![hash(2), hash(3)] },
        LedgerEvent::Transferred { to: Account::Community, amount, note: "thanks".into() },
        LedgerEvent::Granted {
            allotment: hash(4),
            to: DEVICE,
            amount,
            reason: GrantReason::Hosting,
            note: "May".into(),
        },
    ]
}

fn market() -> Vec<LedgerEvent> {
    let amount = Amount::from_token_mib(30);
    vec![
        LedgerEvent::OfferPosted { kind: OfferKind::Hours, title: "nights".into(), price: amount },
        LedgerEvent::OfferWithdrawn { offer: hash(5) },
        LedgerEvent::OrderAccepted { lock: hash(6) },
        LedgerEvent::BountyPosted { title: "a map".into(), amount },
        LedgerEvent::BountyAwarded { bounty: hash(7), to: DEVICE },
        LedgerEvent::BountyWithdrawn { bounty: hash(7) },
    ]
}

fn machines() -> Vec<ClusterEvent> {
    vec![
        ClusterEvent::MachineOffered {
            memory_bytes: 8 << 30,
            micros_per_mib: 42,
            addresses: vec!["192.0.2.7:4433".into()],
        },
        ClusterEvent::ShardHosted { model: FILE, layers: LayerRange::new(3, 9).expect("in bounds") },
        ClusterEvent::ShardDropped { model: FILE },
    ]
}

fn manifest() -> ModelManifest {
    ModelManifest {
        file: FILE,
        size_bytes: 1_000,
        name: "Small".into(),
        architecture: "llama".into(),
        licence: "MIT".into(),
        context_length: 2_048,
        hidden_size: 192,
        kv_bytes_per_token_layer: 384,
        header: ByteRange { start: 0, end: 100 },
        embedding: vec![ByteRange { start: 100, end: 300 }],
        layers: vec![
            vec![ByteRange { start: 300, end: 600 }],
            vec![ByteRange { start: 600, end: 700 }, ByteRange { start: 800, end: 900 }],
        ],
        head: vec![ByteRange { start: 900, end: 1_000 }],
    }
}

fn words() -> Vec<TalkEvent> {
    let attachment = Attachment {
        blob: FILE,
        key: [0xa7; 32],
        name: "plan.png".into(),
        media_type: "image/png".into(),
        size_bytes: 70_000,
    };
    vec![
        TalkEvent::Posted {
            text: "The beans are up.".into(),
            reply_to: Some(hash(1)),
            mentions: vec![person(2)],
            attachments: vec![attachment],
        },
        TalkEvent::Edited { message: hash(1), text: "The beans are in.".into() },
        TalkEvent::Deleted { message: hash(1) },
        TalkEvent::Reacted { message: hash(1), reaction: "🌱".into(), on: true },
        TalkEvent::Pinned { message: hash(1), on: false },
        TalkEvent::DirectOpened { people: vec![person(1), person(2)] },
    ]
}

/// The plain contents of a board.
pub(super) fn contents() -> BoardContents {
    BoardContents {
        texts: BTreeMap::from([("plan".into(), "Dig.\nSow.".into())]),
        values: BTreeMap::from([
            ("area".into(), BoardValue::Integer(-12)),
            ("fenced".into(), BoardValue::Flag(true)),
            ("owner".into(), BoardValue::Text("Ana".into())),
        ]),
    }
}

/// An edit with every kind of intent.
pub(super) fn edit() -> BoardEdit {
    BoardEdit {
        heads: vec![hash(1), hash(2)],
        intents: vec![
            BoardIntent::Splice { field: "plan".into(), index: 4, delete: 1, insert: " deep. ".into() },
            BoardIntent::Put { key: "area".into(), value: BoardValue::Integer(i64::MIN) },
            BoardIntent::Delete { key: "owner".into() },
        ],
    }
}

fn boards() -> Vec<BoardEvent> {
    vec![BoardEvent::Started { contents: contents() }, BoardEvent::Edited { edit: edit() }]
}

fn keys() -> Vec<KeyEvent> {
    let audience = Audience::Members;
    vec![
        KeyEvent::EpochStarted { audience, key: KEY, seals: vec![sealed_key()], fence: fence() },
        KeyEvent::KeySealed { audience, key: KEY, seals: vec![sealed_key()] },
        KeyEvent::KeyWanted { audience, key: KEY, recipient: SealingKey::from_bytes(&[8; 32]).public() },
        KeyEvent::MembershipListed { devices: vec![DEVICE] },
        KeyEvent::ListedForKeepers { follows: Some(hash(1)), part: 1, is_last: true, entries: listed() },
    ]
}

/// Every kind of entry of a list for keepers.
pub(crate) fn listed() -> Vec<Listed> {
    let end = StreamEnd { stream: Stream::Charter, segment: 1, seq: 70 };
    vec![
        Listed::Lister { role: Role::Owner, devices: vec![DEVICE] },
        Listed::Writer(DeviceId::from_bytes([0xd1; 32])),
        Listed::Keeper(DeviceId::from_bytes([0xd2; 32])),
        Listed::Former { device: DeviceId::from_bytes([0xd3; 32]), ends: Some(vec![end]) },
    ]
}

fn threads() -> Vec<PrivateEvent> {
    vec![
        PrivateEvent::ThreadTitled { thread: THREAD, title: "Beans".into(), folder: "Garden".into() },
        PrivateEvent::TurnAdded {
            thread: THREAD,
            parent: Some(hash(1)),
            speaker: Speaker::Model,
            text: "Sow in May.".into(),
            about: "{}".into(),
        },
        PrivateEvent::BranchChosen { thread: THREAD, leaf: hash(2) },
        PrivateEvent::ThreadDeleted { thread: THREAD },
        PrivateEvent::PromptSaved { name: "short".into(), text: "Be brief.".into() },
    ]
}

fn preferences() -> Vec<PrivateEvent> {
    let subject = Subject::Community(COMMUNITY);
    vec![
        PrivateEvent::ReadUpTo { subject, lamport: 77 },
        PrivateEvent::NotifySet { subject, notify: Notify::Mentions },
        PrivateEvent::BlockSet { person: person(1), blocked: true },
        PrivateEvent::HideSet { message: hash(3), hidden: true },
        PrivateEvent::DraftSaved { subject, text: "Dear".into() },
        PrivateEvent::SettingSet { name: "theme".into(), value: "dark".into() },
        PrivateEvent::TrustOverridden { person: person(1), level: Some(TrustLevel::Known) },
        PrivateEvent::CommunityJoined { community: COMMUNITY, name: "Garden".into(), archived: false },
    ]
}
