//! Nothing unbounded: each limit of a community holds exactly at its edge, in
//! what counts of what arrives, and in `decide` for what is wanted.

mod home;
#[path = "support/writing.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod writing;

use exo_model::certificate::{DeviceCertificate, DeviceClaims, Enroller};
use exo_model::charter::{ActStanding, CHANNELS_MAX, Charter, INVITES_MAX, MEMBERS_MAX, Role, Standing};
use exo_model::cluster::{MODELS_MAX, SHARDS_PER_MACHINE_MAX};
use exo_model::decide::{Intent, Refusal};
use exo_model::event::cluster::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use exo_model::event::keys::Audience;
use exo_model::event::{CharterEvent, ClusterEvent, Event, LibraryEvent};
use exo_model::invite::INVITE_USES_MAX;
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Signer as _;
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;
use exo_model::weights::{ByteRange, LayerRange, ModelManifest};
use exo_model::{BlobHash, ChangeHash, ChannelId, InviteKey, Stream};
use home::{Home, Person, found, manifest};
use writing::write_all;

/// Thirty-two bytes that differ for every number.
fn numbered(number: usize) -> [u8; 32] {
    let mut bytes = [0x21; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

fn ana() -> Home {
    found("Ana", &Person::new(1))
}

/// How many of these acts count, and how many more came too late for a place.
fn standings(charter: &Charter, acts: &[ChangeHash]) -> (usize, usize) {
    let of = |standing| {
        acts.iter().filter(|act| charter.standing(act) == Some(Standing::Judged(standing))).count()
    };
    (of(ActStanding::Counts), of(ActStanding::Lost))
}

/// Writes acts of which so many have a place; the rest, and only the rest, is
/// without effect.
fn fills(home: &mut Home, acts: impl IntoIterator<Item = CharterEvent>, places: usize) {
    let acts = write_all(home, Stream::Charter, acts.into_iter().map(Event::from));
    assert!(acts.len() > places);
    let charter = home.community.charter();
    assert_eq!(standings(charter, &acts), (places, acts.len() - places));
    assert_eq!(standings(charter, &acts[..places]), (places, 0), "the first ones have the places");
}

fn invite(number: usize, uses: u32) -> CharterEvent {
    let key = InviteKey::from_bytes(numbered(number));
    CharterEvent::InviteIssued {
        key,
        uses,
        expires_ms: i64::MAX,
        role: Role::Member,
        trust: TrustLevel::Known,
    }
}

#[test]
fn an_invite_is_for_one_to_a_thousand() {
    let mut a = ana();
    for (number, uses, counts) in [
        (0, 0, false),
        (1, 1, true),
        (2, INVITE_USES_MAX, true),
        (3, INVITE_USES_MAX + 1, false),
        (4, u32::MAX, false),
    ] {
        a.force(invite(number, uses));
        let key = InviteKey::from_bytes(numbered(number));
        assert_eq!(a.community.state().charter.invites.contains_key(&key), counts, "{uses} uses");
        let key = InviteKey::from_bytes(numbered(100 + number));
        let intent = Intent::IssueInvite {
            key,
            uses,
            expires_ms: i64::MAX,
            role: Role::Member,
            trust: TrustLevel::Known,
        };
        assert_eq!(a.try_act(intent).is_ok(), counts, "{uses} uses");
    }
}

#[test]
fn the_invite_limit_holds() {
    let mut a = ana();
    fills(&mut a, (0..INVITES_MAX + 3).map(|number| invite(number, 1)), INVITES_MAX);
    assert_eq!(a.community.state().charter.invites.len(), INVITES_MAX);
    let key = InviteKey::from_bytes([0xee; 32]);
    let one_more = Intent::IssueInvite {
        key,
        uses: 1,
        expires_ms: i64::MAX,
        role: Role::Member,
        trust: TrustLevel::Known,
    };
    assert_eq!(a.try_act(one_more), Err(Refusal::Lost));
}

#[test]
fn the_channel_limit_holds() {
    let mut a = ana();
    let channel = |number: usize| CharterEvent::ChannelCreated {
        channel: ChannelId::from_bytes(numbered(number)[..16].try_into().expect("16 bytes")),
        name: format!("room {number}"),
        closed: false,
        guests: false,
    };
    let there = a.community.state().charter.channels.len();
    fills(&mut a, (0..CHANNELS_MAX + 5).map(channel), CHANNELS_MAX - there);
    let channel = ChannelId::from_bytes([0xee; 16]);
    let one_more = Intent::CreateChannel { channel, name: "one more".into(), closed: false, guests: false };
    assert_eq!(a.try_act(one_more), Err(Refusal::Lost));
}

/// A newcomer by number, certified by a phrase of their own.
fn newcomer(number: usize) -> DeviceCertificate {
    let phrase = RecoveryPhrase::from_entropy(&numbered(number));
    let key = SecretKey::from_bytes(&numbered(number));
    let claims = DeviceClaims {
        person: phrase.person(),
        recovery: phrase.recovery_key().public(),
        device: key.device(),
        sealing: SealingKey::of_device(&key).public(),
        name: "machine".into(),
        serial: 1,
    };
    let acceptance = claims.accept(Enroller::Phrase, &key);
    DeviceCertificate::sign_with_phrase(claims, acceptance, &phrase).expect("own phrase")
}

#[test]
fn the_member_limit_holds_and_spends_no_invite() {
    let mut a = ana();
    let tickets = [a.invite(1_000), a.invite(1_000)];
    let admission = |number: usize| {
        let request = tickets[number % 2].request(newcomer(number), format!("Member {number}"));
        CharterEvent::Admitted {
            certificate: request.certificate,
            name: request.name,
            invite: request.invite,
            proof: request.proof,
            lifts: Vec::new(),
        }
    };
    fills(&mut a, (1..MEMBERS_MAX + 3).map(admission), MEMBERS_MAX - 1);
    let charter = &a.community.state().charter;
    assert_eq!(charter.members.len(), MEMBERS_MAX);
    let used: u32 = charter.invites.values().map(|invite| invite.used).sum();
    assert_eq!(used as usize, MEMBERS_MAX - 1);
    let request = tickets[0].request(newcomer(9_999), "One more".into());
    assert_eq!(a.try_act(Intent::Admit(request)), Err(Refusal::Full { what: "members", max: MEMBERS_MAX }));
}

/// The model of a number.
fn model(number: usize) -> ModelManifest {
    manifest(BlobHash::from_bytes(numbered(number)))
}

/// A founder with an epoch for what members share.
fn sharing() -> Home {
    let mut a = ana();
    if a.community.writing_key(&Audience::Members).is_none() {
        a.rotate(Audience::Members);
    }
    a
}

fn added(manifest: ModelManifest) -> Event {
    LibraryEvent::ModelAdded { manifest }.into()
}

#[test]
fn the_model_limit_holds_and_holders_still_add_themselves() {
    let mut a = sharing();
    write_all(&mut a, Stream::Library, (0..MODELS_MAX + 3).map(|number| added(model(number))));
    assert_eq!(a.community.state().models.len(), MODELS_MAX);
    for number in 0..MODELS_MAX + 3 {
        let is_there = a.community.state().models.contains_key(&model(number).file);
        assert_eq!(is_there, number < MODELS_MAX, "the first ones have the places: {number}");
    }
    let one_more = a.try_act(Intent::AddModel(model(MODELS_MAX)));
    assert_eq!(one_more, Err(Refusal::Full { what: "models", max: MODELS_MAX }));
    assert_eq!(a.try_act(Intent::AddModel(model(0))), Err(Refusal::Exists("model")), "held already");
}

#[test]
fn a_machine_hosts_its_latest_models_up_to_the_limit() {
    let mut a = sharing();
    let models = SHARDS_PER_MACHINE_MAX + 2;
    write_all(&mut a, Stream::Library, (0..models).map(|number| added(model(number))));
    let layers = LayerRange::new(0, 1).expect("in bounds");
    let host = |number| Intent::HostShard { model: model(number).file, layers };
    for number in 0..SHARDS_PER_MACHINE_MAX {
        assert!(a.try_act(host(number)).is_ok(), "shard {number}");
    }
    let full = Refusal::Full { what: "models hosted by one machine", max: SHARDS_PER_MACHINE_MAX };
    assert_eq!(a.try_act(host(SHARDS_PER_MACHINE_MAX)), Err(full));
    assert!(a.try_act(host(3)).is_ok(), "one that is hosted may change");
    a.act(Intent::DropShard { model: model(0).file });
    assert!(a.try_act(host(SHARDS_PER_MACHINE_MAX)).is_ok(), "a place is free again");
    let device = a.device();
    a.write(Stream::Cluster, &ClusterEvent::ShardHosted { model: model(models - 1).file, layers }.into());
    let shards = &a.community.state().machines[&device].shards;
    assert_eq!(shards.len(), SHARDS_PER_MACHINE_MAX);
    assert!(shards.contains_key(&model(models - 1).file), "of too many the latest stand");
    assert!(!shards.contains_key(&model(1).file) && shards.contains_key(&model(3).file));
}

#[test]
fn addresses_are_few_short_and_addresses() {
    let mut a = sharing();
    let device = a.device();
    // Leading zeros of a scope id make an address of any length.
    let address = |len: usize| format!("[fe80::1%{:0>1$}]:1", 1, len - 12);
    let good = vec![address(ADDRESS_BYTES_MAX); ADDRESSES_MAX];
    for (what, addresses, counts) in [
        ("too many", vec![address(20); ADDRESSES_MAX + 1], false),
        ("too long", vec![address(ADDRESS_BYTES_MAX + 1)], false),
        ("no port", vec!["192.0.2.7".into()], false),
        ("a name", vec!["host.example:1".into()], false),
        ("control characters", vec!["\u{1b}[2J\n".into()], false),
        ("at the edge", good, true),
        ("none", Vec::new(), true),
    ] {
        let memory_bytes = a.now_ms.unsigned_abs();
        let offer =
            ClusterEvent::MachineOffered { memory_bytes, micros_per_mib: 7, addresses: addresses.clone() };
        a.write(Stream::Cluster, &offer.into());
        let offered = a.community.state().machines.get(&device).map(|machine| machine.memory_bytes);
        assert_eq!(offered == Some(memory_bytes), counts, "{what}");
        let wanted = a.try_act(Intent::OfferMachine { memory_bytes, micros_per_mib: 7, addresses });
        assert_eq!(wanted.err(), (!counts).then_some(Refusal::Addresses), "{what}");
    }
}

#[test]
fn manifests_out_of_bounds_count_for_nothing() {
    let mut a = sharing();
    for (what, bad) in bad_manifests() {
        a.write(Stream::Library, &added(bad.clone()));
        assert!(a.community.state().models.is_empty(), "{what}");
        assert!(matches!(a.try_act(Intent::AddModel(bad)), Err(Refusal::Manifest(_))), "{what}");
    }
    a.write(Stream::Library, &added(model(1)));
    assert_eq!(a.community.state().models.len(), 1);
}

fn bad_manifests() -> Vec<(&'static str, ModelManifest)> {
    type Twist = fn(&mut ModelManifest);
    let twists: [(&str, Twist); 13] = [
        ("no layers", |model| model.layers.clear()),
        ("513 layers", |model| model.layers = vec![Vec::new(); 513]),
        ("65 ranges", |model| model.head = vec![ByteRange { start: 900, end: 1_000 }; 65]),
        ("past the file", |model| model.layers[1][0].end = 1_001),
        ("reversed", |model| (model.head[0].start, model.head[0].end) = (990, 980)),
        ("empty range", |model| model.embedding[0].end = 100),
        ("u64 max", |model| model.head[0].end = u64::MAX),
        ("header not first", |model| model.header.start = 1),
        ("weights in the header", |model| model.header.end = 101),
        ("all header", |model| model.header.end = model.size_bytes),
        ("long name", |model| model.name = "x".repeat(129)),
        ("a name that deceives", |model| model.name = "\u{1b}[2J\u{202e}x".into()),
        ("more than an event holds", |model| {
            model.size_bytes = 1 << 40;
            model.layers = vec![vec![ByteRange { start: 1 << 39, end: (1 << 39) + 9 }; 3]; 512];
        }),
    ];
    let twisted = twists.into_iter().map(|(what, twist)| {
        let mut model = model(1);
        twist(&mut model);
        (what, model)
    });
    twisted.collect()
}
