//! Nothing unbounded: each limit of a community holds exactly at its edge, in
//! `reduce` for what arrives and in `decide` for what is wanted.

#[allow(dead_code, reason = "each test binary uses its part")]
mod common;

use common::{World, manifest};
use exo_model::community::{CHANNELS_MAX, INVITES_MAX, MEMBERS_MAX, MODELS_MAX, SHARDS_PER_MACHINE_MAX};
use exo_model::decide::{Intent, Refusal};
use exo_model::event::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use exo_model::invite::INVITE_USES_MAX;
use exo_model::weights::{LayerRange, ModelManifest};
use exo_model::{BlobHash, ChannelId, Event, InviteKey};

/// Thirty-two bytes that differ for every number.
fn numbered(number: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

#[test]
fn limits_hold_at_their_edges() {
    let mut world = World::of_members(2, -1_000);
    for uses in [0, INVITE_USES_MAX + 1, u32::MAX] {
        let key = world.ticket(201).key();
        assert!(!world.counts(0, &Event::InviteIssued { key, uses, expires_ms: 0 }), "{uses} uses");
    }
    let offer = |count: usize, len: usize| {
        // Leading zeros of a scope id make an address of any length.
        let addresses = vec![format!("[fe80::1%{:0>1$}]:1", 1, len - 12); count];
        Event::MachineOffered { memory_bytes: 7, micros_per_mib: 7, addresses }
    };
    assert!(!world.counts(1, &offer(ADDRESSES_MAX + 1, 20)));
    assert!(!world.counts(1, &offer(1, ADDRESS_BYTES_MAX + 1)));
    assert!(world.counts(1, &offer(ADDRESSES_MAX, ADDRESS_BYTES_MAX)));
    let layers = LayerRange::new(0, 1).expect("in bounds");
    for model in 0..=u8::try_from(SHARDS_PER_MACHINE_MAX).expect("64") {
        let model_id = BlobHash::from_bytes([model; 32]);
        let fits = usize::from(model) < SHARDS_PER_MACHINE_MAX;
        assert_eq!(world.counts(1, &Event::ShardHosted { model: model_id, layers }), fits, "shard {model}");
    }
}

#[test]
fn the_channel_limit_holds() {
    let mut world = World::found(0);
    for number in 0..u16::try_from(CHANNELS_MAX).expect("256") + 5 {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        world.says(0, &Event::ChannelCreated { channel: ChannelId::from_bytes(id), name: "c".into() });
    }
    assert_eq!(world.state().channels.len(), CHANNELS_MAX);
    let fresh = ChannelId::from_bytes([0xee; 16]);
    let refusal = world.does(0, Intent::CreateChannel { channel: fresh, name: "one more".into() });
    assert_eq!(refusal, Err(Refusal::Full { what: "channels", max: CHANNELS_MAX }));
}

#[test]
fn the_invite_limit_holds() {
    let mut world = World::found(0);
    for number in 0..INVITES_MAX + 3 {
        let key = InviteKey::from_bytes(numbered(number));
        world.says(0, &Event::InviteIssued { key, uses: 1, expires_ms: 0 });
    }
    assert_eq!(world.state().invites.len(), INVITES_MAX);
    let key = InviteKey::from_bytes([0xee; 32]);
    let refusal = world.does(0, Intent::IssueInvite { key, uses: 1, expires_ms: 0 });
    assert_eq!(refusal, Err(Refusal::Full { what: "invites", max: INVITES_MAX }));
}

#[test]
fn the_member_limit_holds_and_spends_no_invite() {
    let mut world = World::found(0);
    let tickets = [world.invites(201, 1_000), world.invites(202, 1_000)];
    for number in 1..MEMBERS_MAX + 3 {
        let who = world.stranger();
        let admission = world.admission(&tickets[number % 2], who, "Member");
        world.says(0, &admission);
    }
    assert_eq!(world.state().members.len(), MEMBERS_MAX);
    let used: u32 = world.state().invites.values().map(|invite| invite.used).sum();
    assert_eq!(used as usize, MEMBERS_MAX - 1);
    let who = world.stranger();
    let request = tickets[0].request(world.id_of(who), "One more".into());
    let refusal = world.does(0, Intent::Admit(request));
    assert_eq!(refusal, Err(Refusal::Full { what: "members", max: MEMBERS_MAX }));
}

#[test]
fn the_model_limit_holds_and_holders_still_add_themselves() {
    let mut world = World::of_members(2, 0);
    let model = |number: usize| ModelManifest { file: BlobHash::from_bytes(numbered(number)), ..manifest(0) };
    for number in 0..MODELS_MAX + 3 {
        world.says(0, &Event::ModelAdded { manifest: model(number) });
    }
    assert_eq!(world.state().models.len(), MODELS_MAX);
    assert!(world.counts(1, &Event::ModelAdded { manifest: model(MODELS_MAX - 1) }));
    assert!(!world.counts(1, &Event::ModelAdded { manifest: model(MODELS_MAX) }));
}

#[test]
fn manifests_out_of_bounds_count_for_nothing() {
    let mut world = World::of_members(2, 0);
    for (what, bad) in bad_manifests() {
        assert!(!world.counts(1, &Event::ModelAdded { manifest: bad.clone() }), "{what}");
        assert!(matches!(world.does(1, Intent::AddModel(bad)), Err(Refusal::Manifest(_))), "{what}");
    }
    assert!(world.counts(1, &Event::ModelAdded { manifest: manifest(1) }));
}

fn bad_manifests() -> Vec<(&'static str, ModelManifest)> {
    type Twist = fn(&mut ModelManifest);
    let twists: [(&str, Twist); 9] = [
        ("no layers", |model| model.layers.clear()),
        ("513 layers", |model| model.layers = vec![Vec::new(); 513]),
        ("65 ranges", |model| model.head = vec![model.header; 65]),
        ("past the file", |model| model.layers[1][0].end = 1_001),
        ("reversed", |model| (model.head[0].start, model.head[0].end) = (9, 3)),
        ("empty range", |model| model.embedding[0].end = 100),
        ("u64 max", |model| model.head[0].end = u64::MAX),
        ("header not first", |model| model.header.start = 1),
        ("long name", |model| model.name = "x".repeat(129)),
    ];
    let twisted = twists.into_iter().map(|(what, twist)| {
        let mut model = manifest(1);
        twist(&mut model);
        (what, model)
    });
    twisted.collect()
}
