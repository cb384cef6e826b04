//! Every act of governance, disputes included.

use exo_model::amount::Amount;
use exo_model::certificate::PhraseRevocation;
use exo_model::charter::{CommunityKind, Floors, Role, Setting, Settings};
use exo_model::envelope::{ENVELOPE_VERSION, Envelope, SegmentEnd};
use exo_model::event::charter::{ReportOutcome, VouchGround};
use exo_model::event::dispute::Finding;
use exo_model::event::keys::Audience;
use exo_model::event::{CharterEvent, DisputeEvent, Event};
use exo_model::feed::equivocation::{Branch, EquivocationProof};
use exo_model::feed::fence::{Fence, FenceEntry};
use exo_model::feed::{FeedPosition, Stream, chunk};
use exo_model::id::{BoardId, ChannelId, InviteKey};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Signer as _;
use exo_model::trust::TrustLevel;

use super::{
    COMMUNITY, NOW, author, certificate, change, feed, hash, person, sealed_for, second_certificate, ticket,
};

const CHANNEL: ChannelId = ChannelId::from_bytes([0xc4; 16]);
const INVITE: InviteKey = InviteKey::from_bytes([0x1e; 32]);

pub(super) fn events() -> Vec<Event> {
    let acts = [joining(), standing(), community(), oversight()].concat();
    let steps = steps().into_iter().map(CharterEvent::Dispute);
    acts.into_iter().chain(steps).map(Event::from).collect()
}

fn joining() -> Vec<CharterEvent> {
    let request = ticket().request(certificate(), "Ana".into());
    vec![
        CharterEvent::Founded {
            kind: CommunityKind::Shared,
            founder: certificate(),
            founder_name: "Ana".into(),
            settings: settings(),
            nonce: [7; 16],
        },
        CharterEvent::InviteIssued {
            key: INVITE,
            uses: 3,
            expires_ms: NOW,
            role: Role::Member,
            trust: TrustLevel::Known,
        },
        CharterEvent::InviteRevoked { key: INVITE },
        CharterEvent::Admitted {
            certificate: request.certificate,
            name: request.name,
            invite: request.invite,
            proof: request.proof,
            lifts: vec![hash(1), hash(2)],
        },
        CharterEvent::Left { fence: fence() },
        CharterEvent::Removed { person: person(1), ban: true, reason: "spam".into(), fence: fence() },
        CharterEvent::CoSigned { act: hash(3) },
    ]
}

fn settings() -> Settings {
    Settings {
        name: "Garden".into(),
        floors: floors(),
        community_floor: Amount::from_token_mib(-4_000),
        members_invite: true,
        open_history: false,
        about: "Beds and paths.".into(),
        guidelines: Some(BoardId::from_bytes([0xb0; 16])),
        relays: Vec::new(),
    }
}

fn floors() -> Floors {
    Floors {
        public: Amount::ZERO,
        known: Amount::from_token_mib(-100),
        friends: Amount::from_token_mib(-1_000),
    }
}

fn standing() -> Vec<CharterEvent> {
    let phrase = RecoveryPhrase::from_entropy(&[4; 32]);
    let revocation = PhraseRevocation::sign(&phrase, &COMMUNITY, author().device(), &fence().hash());
    vec![
        CharterEvent::RoleSet { person: person(1), role: Role::Moderator },
        CharterEvent::TrustSet { person: person(1), level: TrustLevel::Friends },
        CharterEvent::DeviceAdded { certificate: second_certificate() },
        CharterEvent::DeviceRevoked { device: author().device(), fence: fence(), phrase: Some(revocation) },
        CharterEvent::ProfileSet { name: "Ana".into(), about: "Grows beans.".into() },
    ]
}

fn community() -> Vec<CharterEvent> {
    vec![
        CharterEvent::SettingChanged { setting: Setting::Floors(floors()) },
        CharterEvent::ChannelCreated { channel: CHANNEL, name: "beds".into(), closed: true, guests: false },
        CharterEvent::ChannelChanged { channel: CHANNEL, name: "paths".into(), archived: true },
        CharterEvent::ChannelPeople { channel: CHANNEL, add: vec![person(1)], remove: vec![person(2)] },
        CharterEvent::RulesAdopted { version: 2 },
        CharterEvent::HistoryGranted { person: person(1), audience: Audience::Channel(CHANNEL) },
        CharterEvent::EquivocationProven {
            proof: proofs()[0].clone(),
            fence: fence(),
            settled: vec![hash(4)],
        },
        CharterEvent::Allotted {
            person: person(1),
            amount: Amount::from_token_mib(500),
            note: "hosting".into(),
        },
        CharterEvent::Vouched { person: person(1), ground: VouchGround::SafetyWords },
        CharterEvent::VouchWithdrawn { person: person(1) },
    ]
}

fn oversight() -> Vec<CharterEvent> {
    vec![
        CharterEvent::MessageHidden {
            author: person(1),
            message: hash(5),
            hidden: true,
            reason: "rude".into(),
        },
        CharterEvent::ReportDecided {
            report: hash(6),
            subject: person(1),
            outcome: ReportOutcome::Warned,
            note: "talked".into(),
        },
    ]
}

fn steps() -> Vec<DisputeEvent> {
    let dispute = hash(7);
    vec![
        DisputeEvent::Opened {
            lock: hash(8),
            payee: person(1),
            claim: Amount::from_token_mib(90),
            summary: "no answer".into(),
            commitment: [0xd0; 32],
        },
        DisputeEvent::Seeded { dispute, half: [0xd1; 32] },
        DisputeEvent::Drawn { dispute, half: [0xd2; 32] },
        DisputeEvent::EvidenceAdded { dispute, evidence: sealed_for() },
        DisputeEvent::JurorDeclined { dispute },
        DisputeEvent::Voted { dispute, round: 1, finding: Finding::Refund(Amount::from_token_mib(40)) },
        DisputeEvent::RoundClosed { dispute, round: 1 },
        DisputeEvent::Appealed { dispute },
        DisputeEvent::Withdrawn { dispute },
    ]
}

/// A fence of two feeds.
pub(crate) fn fence() -> Fence {
    let entry = |stream, segment, seq| FenceEntry {
        device: author().device(),
        stream,
        segment,
        seq,
        head: hash(0xfe),
    };
    Fence::new([entry(Stream::Charter, 0, 9), entry(Stream::Channel(CHANNEL), 2, 300)])
}

/// One valid proof of each form.
pub(crate) fn proofs() -> [EquivocationProof; 2] {
    let (key, feed) = (author(), feed(Stream::Ledger));
    let branch = |payload: &[u8]| {
        let hash = chunk::change_hash(&feed.device, &FeedPosition::START, &change(NOW, payload));
        let at = FeedPosition { seq: 1, hash };
        Branch { at, then: Vec::new(), signature: key.sign(&feed.signed_message(&at)) }
    };
    let (one, other) = (branch(b"one"), branch(b"other"));
    let fork = EquivocationProof::of_fork(feed, one.clone(), other).expect("a fork");

    let next = feed.with_segment(1);
    let opening = Envelope {
        version: ENVELOPE_VERSION,
        lamport: 9,
        body: b"sealed".to_vec(),
        heads: Some(vec![hash(1)]),
        key: None,
        previous: Some(SegmentEnd { end: one.at, signature: one.signature }),
    };
    let opening = change(NOW, &opening.encode());
    let first =
        FeedPosition { seq: 1, hash: chunk::change_hash(&feed.device, &FeedPosition::START, &opening) };
    let past =
        FeedPosition { seq: 2, hash: chunk::change_hash(&feed.device, &one.at, &change(NOW, b"more")) };
    let overrun = EquivocationProof::Overrun {
        feed,
        beyond: Branch { at: past, then: Vec::new(), signature: key.sign(&feed.signed_message(&past)) },
        opening: vec![opening],
        signature: key.sign(&next.signed_message(&first)),
    };
    [fork, overrun]
}
