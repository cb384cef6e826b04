//! Faults that were found once and must not come back.

#[allow(dead_code, reason = "each test binary uses its part")]
mod common;
use common::*;
use exo_model::amount::Amount;
use exo_model::decide::*;
use exo_model::envelope::{Envelope, LAMPORT_MAX};
use exo_model::feed::{self, FeedPosition, Run};
use exo_model::invite::{Contact, Ticket};
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use exo_model::weights::{ByteRange, LayerRange};
use exo_model::*;

#[test]
fn a_strangers_lamport_time_moves_no_clock() {
    let mut world = World::of_members(2, -1000);
    let eve = world.stranger();
    // Not a member, event in the wrong stream: counts for nothing...
    let feed = FeedId::new(world.id, world.id_of(eve), Stream::Charter);
    let bad = world.devices[eve].write(
        feed,
        change(NOW, &Envelope::new(LAMPORT_MAX, &Event::MessagePosted { text: "x".into() }).encode()),
    );
    assert!(bad.event.is_err());
    world.takes(bad);
    let mut lost = 0;
    for seed in 100..132_u8 {
        let ticket = world.ticket(seed);
        world.does(0, Intent::IssueInvite { key: ticket.key(), uses: 1, expires_ms: NOW }).unwrap();
        let who = world.stranger();
        let r = ticket.request(world.id_of(who), "Ana".into());
        world.does(0, Intent::Admit(r)).unwrap();
        if !world.state().is_member(&world.id_of(who)) {
            lost += 1;
        }
    }
    assert_eq!(lost, 0, "of 32 honest joins");
}

#[test]
fn l02_a_closed_lock_settles_no_more() {
    let mut world = World::of_members(3, -1_000);
    let mut vouchers = vec![];
    for job in 0..5 {
        let lock = world
            .does(
                0,
                Intent::Lock { job: job_id(job), payee: world.id_of(1), max: Amount::from_token_mib(1_000) },
            )
            .unwrap();
        vouchers.push(world.voucher(0, lock.hash, 1, 1_000));
        world.does(1, Intent::Close { lock: lock.hash }).unwrap();
    }
    for v in vouchers {
        assert!(world.does(1, Intent::Settle(v)).is_err());
    }
    assert!(world.balance(0) >= -1_000, "{} {}", world.balance(0), world.balance(1));
}

#[test]
fn l02_a_lock_dated_back_voids_nothing() {
    let mut world = World::of_members(3, -1_000);
    let e = world.lock_event(1, 1, 1_000);
    let lock = world.says_at(0, 100, &e);
    let v = posting(&world.voucher(0, lock.hash, 1, 1_000));
    world.says_at(1, 101, &v);
    assert_eq!(world.balance(1), 1_000);
    let e = world.lock_event(2, 2, 1_000);
    world.says_at(0, 99, &e); // next change of the same feed
    assert_eq!(world.balance(1), 1_000);
}

#[test]
fn a_void_shard_makes_no_machine() {
    let mut world = World::of_members(2, -1_000);
    // [6, [model, [9, 3]]] a reversed range
    let good =
        Event::ShardHosted { model: BlobHash::from_bytes([1; 32]), layers: LayerRange::new(3, 9).unwrap() };
    let mut bytes = codec::encode(&good);
    let n = bytes.len();
    bytes[n - 2] = 9;
    bytes[n - 1] = 3;
    let bad = Event::decode(&bytes).unwrap();
    assert!(!world.counts(1, &bad));
}

#[test]
fn decide_refuses_offers_that_could_not_count() {
    let mut world = World::of_members(2, -1_000);
    let before = world.state().clone();
    let r = world.does(
        1,
        Intent::OfferMachine { memory_bytes: 1, micros_per_mib: 1, addresses: vec!["x".into(); 17] },
    );
    assert!(r.is_err() || *world.state() != before);
}
#[test]
fn decide_refuses_a_second_invite_of_one_key() {
    let mut world = World::of_members(2, -1_000);
    let key = world.ticket(201).key();
    world.does(0, Intent::IssueInvite { key, uses: 1, expires_ms: NOW }).unwrap();
    assert!(world.does(0, Intent::IssueInvite { key, uses: 5, expires_ms: NOW }).is_err());
}
#[test]
fn decide_refuses_a_second_channel_of_one_id() {
    let mut world = World::of_members(2, -1_000);
    let channel = ChannelId::from_bytes([3; 16]);
    world.does(0, Intent::CreateChannel { channel, name: "a".into() }).unwrap();
    assert!(world.does(0, Intent::CreateChannel { channel, name: "b".into() }).is_err());
}
#[test]
fn decide_refuses_another_manifest_of_a_known_file() {
    let mut world = World::of_members(3, -1_000);
    world.does(1, Intent::AddModel(manifest(1))).unwrap();
    let mut other = manifest(1);
    other.hidden_size += 1;
    assert!(world.does(2, Intent::AddModel(other)).is_err());
}
#[test]
fn a_manifest_that_fits_no_envelope_is_refused() {
    let world = World::of_members(2, -1_000);
    let mut m = manifest(1);
    m.size_bytes = 1 << 40;
    m.layers = vec![vec![ByteRange { start: 1 << 39, end: (1 << 39) + 9 }; 8]; 512];
    assert!(m.check().is_err());
    assert!(decide(world.state(), world.id_of(1), NOW, Intent::AddModel(m)).is_err());
}
#[test]
fn decide_refuses_one_shard_too_many() {
    let mut world = World::of_members(2, -1_000);
    for i in 0..65 {
        world.does(1, Intent::AddModel(manifest(i))).unwrap();
        let before = world.state().clone();
        let r = world.does(
            1,
            Intent::HostShard {
                model: BlobHash::from_bytes([i; 32]),
                layers: LayerRange::new(0, 1).unwrap(),
            },
        );
        assert!(r.is_err() || *world.state() != before, "{i}");
    }
}
#[test]
fn model_texts_cannot_deceive() {
    let mut world = World::of_members(2, -1_000);
    let mut m = manifest(1);
    m.name = "\u{1b}[2J\u{202e}x".into();
    assert!(!world.counts(1, &Event::ModelAdded { manifest: m }));
}
#[test]
fn addresses_are_addresses() {
    let mut world = World::of_members(2, -1_000);
    assert!(!world.counts(
        1,
        &Event::MachineOffered { memory_bytes: 1, micros_per_mib: 1, addresses: vec!["\u{1b}[2J\n".into()] }
    ));
}
#[test]
fn names_hide_nothing() {
    let bad: Vec<_> = [
        "a\u{2028}b",
        "a\u{2029}b",
        "\u{200b}",
        "Ana\u{200b}",
        "\u{200f}x",
        "\u{61c}x",
        "a\u{feff}",
        "\u{2060}",
        "\u{3164}",
        "\u{ad}",
        "\u{e0041}",
    ]
    .into_iter()
    .filter(|n| text::is_clean_name(n))
    .collect();
    assert!(bad.is_empty(), "{bad:?}");
}
#[test]
fn the_fullest_ticket_reads_back() {
    let contact = Contact {
        device: SecretKey::from_bytes(&[9; 32]).device(),
        addresses: vec!["[2001:db8:85a3:8d3:1319:8a2e:370:7348]:65535".into(); 16],
    };
    let t = Ticket::new(
        CommunityId::from_bytes([1; 32]),
        "Garden".into(),
        &SecretKey::from_bytes(&[9; 32]),
        1,
        vec![contact; 8],
    );
    let s = t.to_string();
    assert!(s.parse::<Ticket>().is_ok(), "{} {:?}", s.len(), s.parse::<Ticket>().err());
}
#[test]
fn one_value_has_one_form() {
    let run = feed::author(
        &SecretKey::from_bytes(&[5; 32]),
        FeedId::new(
            CommunityId::from_bytes([1; 32]),
            SecretKey::from_bytes(&[5; 32]).device(),
            Stream::Charter,
        ),
        &FeedPosition::START,
        change(1, b"x"),
    );
    let bytes = codec::encode(&run);
    let mut forms = vec![];
    // indefinite outer array
    let mut a = bytes.clone();
    a[0] = 0x9f;
    a.push(0xff);
    forms.push(("indefinite", a));
    // extra field
    let mut b = bytes.clone();
    b[0] = 0x85;
    b.push(0xf6);
    forms.push(("extra field", b));
    // long head
    let mut c = vec![0x98, 4];
    c.extend_from_slice(&bytes[1..]);
    forms.push(("long head", c));
    let ok: Vec<_> = forms
        .iter()
        .filter(|(_, f)| codec::decode::<Run>(f, 1 << 20).as_ref() == Ok(&run))
        .map(|f| f.0)
        .collect();
    assert!(ok.is_empty(), "{ok:?}");
}
#[test]
fn a_header_cannot_hide_weights() {
    let mut m = manifest(1);
    m.header.end = m.size_bytes;
    assert!(m.check().is_err() || m.weight_bytes(m.all_layers().unwrap()) > 0);
}
