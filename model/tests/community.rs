//! What outsiders, members and rivals may not do: every event here is
//! authentic, enters its author's feed, and must count for nothing.

#[allow(dead_code, reason = "each test binary uses its part")]
mod common;

use common::{Device, NOW, World, change, channel_event, every_kind, home, manifest, reduced};
use exo_model::amount::Amount;
use exo_model::community::Role;
use exo_model::decide::{Intent, Refusal};
use exo_model::envelope::Envelope;
use exo_model::text::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX};
use exo_model::{ChannelId, Community, CommunityId, Event, FeedId, Stream, VerifiedEvent};

/// The founding envelope of a fresh world, and its id.
fn founding() -> (CommunityId, Vec<u8>, Event) {
    let owner = Device::new(1).id();
    let floor = Amount::from_token_mib(-5);
    let (feed, _, change) =
        exo_model::community::found(owner, "Ona".into(), "Garden".into(), floor, [7; 16], NOW);
    let envelope = Envelope::decode(&change.payload).expect("readable");
    let event = Event::decode(&envelope.event).expect("readable");
    (feed.community, change.payload, event)
}

/// What a community makes of these payloads, written by device `seed`.
fn opened(id: CommunityId, seed: u16, stream: Stream, payloads: &[&[u8]]) -> Community {
    let mut device = Device::new(seed);
    let feed = FeedId::new(id, device.id(), stream);
    let events: Vec<VerifiedEvent> =
        payloads.iter().map(|payload| device.write(feed, change(NOW, payload))).collect();
    reduced(id, [events.as_slice()])
}

#[test]
fn a_founding_counts_only_first_in_the_founders_own_charter() {
    let (id, payload, _) = founding();
    assert_eq!(opened(id, 1, Stream::Charter, &[&payload]).state().members.len(), 1);
    let stolen = opened(id, 2, Stream::Charter, &[&payload]);
    let late = opened(id, 1, Stream::Charter, &[b"something else", &payload]);
    let misplaced = opened(id, 1, Stream::Ledger, &[&payload]);
    for (what, community) in [("stolen", stolen), ("late", late), ("misplaced", misplaced)] {
        assert_eq!(*community.state(), Community::new(id).state().clone(), "{what}");
    }
}

#[test]
fn a_founding_counts_only_for_the_id_that_commits_to_it() {
    let (id, payload, event) = founding();
    let renamed = match event.clone() {
        Event::Founded { founder, founder_name, floor, nonce, .. } => {
            Event::Founded { name: "Other".into(), founder, founder_name, floor, nonce }
        }
        other => other,
    };
    for forged in [Envelope::new(1, &renamed).encode(), Envelope::new(2, &event).encode()] {
        assert!(opened(id, 1, Stream::Charter, &[&forged]).state().members.is_empty());
    }
    assert!(
        opened(CommunityId::from_bytes([9; 32]), 1, Stream::Charter, &[&payload]).state().members.is_empty()
    );
}

#[test]
fn a_founding_under_an_unclean_name_counts_for_nothing_under_any_id() {
    let owner = Device::new(1).id();
    let bell = |name: &str, founder_name: &str| {
        let (name, founder_name) = (name.to_owned(), founder_name.to_owned());
        Event::Founded { name, founder: owner, founder_name, floor: Amount::ZERO, nonce: [0; 16] }
    };
    for event in
        [bell("Gar\u{7}den", "Ona"), bell("Garden", "O\u{202e}na"), bell("", "Ona"), bell("Garden", " Ona")]
    {
        let payload = Envelope::new(1, &event).encode();
        let id = CommunityId::from_bytes(*blake3::hash(&payload).as_bytes());
        assert!(opened(id, 1, Stream::Charter, &[&payload]).state().members.is_empty(), "{event:?}");
    }
}

#[test]
fn nothing_a_non_member_says_counts() {
    let mut world = World::of_members(2, -1_000);
    let outsider = world.stranger();
    let ticket = world.invites(201, 3);
    for event in every_kind() {
        assert!(!world.counts(outsider, &event), "{event:?}");
    }
    let own_lock = world.lock_event(1, 1, 5);
    assert!(!world.counts(outsider, &own_lock));
    let self_admission = world.admission(&ticket, outsider, "Eve");
    assert!(!world.counts(outsider, &self_admission), "nobody admits themselves");
    assert_eq!(world.does(outsider, Intent::Close { lock: world.events[0].hash }), Err(Refusal::NotAMember));
}

#[test]
fn events_in_streams_they_do_not_belong_in_count_for_nothing() {
    let mut world = World::of_members(2, -1_000);
    let talk = Stream::Channel(ChannelId::from_bytes([0; 16]));
    for event in every_kind() {
        for stream in [Stream::Charter, Stream::Ledger, Stream::Cluster, Stream::Library, talk] {
            if stream == home(&event) {
                continue;
            }
            let (before, feed) = (world.state().clone(), FeedId::new(world.id, world.id_of(0), stream));
            let written = world.devices[0].write(feed, change(NOW, &Envelope::new(90, &event).encode()));
            world.takes(written);
            assert_eq!(*world.state(), before, "{event:?} in {stream}");
        }
    }
}

#[test]
fn members_neither_invite_nor_open_channels_nor_found_again() {
    let mut world = World::of_members(3, -1_000);
    let key = world.ticket(201).key();
    let invite = Event::InviteIssued { key, uses: 1, expires_ms: i64::MAX };
    assert!(!world.counts(1, &invite));
    assert!(!world.counts(1, &channel_event(1, "mine")));
    assert!(!world.counts(1, &founding().2));
    assert_eq!(world.does(1, Intent::IssueInvite { key, uses: 1, expires_ms: 0 }), Err(Refusal::OwnersOnly));
    let channel = ChannelId::from_bytes([1; 16]);
    assert_eq!(
        world.does(1, Intent::CreateChannel { channel, name: "mine".into() }),
        Err(Refusal::OwnersOnly)
    );
    assert!(world.counts(0, &invite) && world.counts(0, &channel_event(1, "ours")));
    assert!(!world.counts(0, &channel_event(1, "taken over")), "the first of an id stands");
    assert!(!world.counts(0, &Event::InviteIssued { key, uses: 999, expires_ms: 0 }), "no refilling");
}

#[test]
fn m07_admissions_need_a_known_unused_invite_and_its_own_proof() {
    let mut world = World::of_members(2, -1_000);
    let (ticket, other) = (world.invites(201, 1), world.invites(202, 1));
    let (ana, eve) = (world.stranger(), world.stranger());
    let good = world.admission(&ticket, ana, "Ana");
    let unknown = world.admission(&world.ticket(203), ana, "Ana");
    for (what, bad) in forged_admissions(&world, &good, other.key(), eve) {
        assert!(!world.counts(1, &bad), "{what}");
    }
    assert!(!world.counts(1, &unknown), "unknown invite");
    assert!(world.counts(1, &good));
    assert!(!world.counts(1, &good), "twice");
    let used = world.admission(&ticket, eve, "Eve");
    assert!(!world.counts(1, &used), "used up");
    let again = world.admission(&other, ana, "Ana B");
    assert!(!world.counts(1, &again), "members join once, and no use is spent on it");
    assert_eq!(world.state().invites[&other.key()].used, 0);
    assert_eq!(world.state().members[&world.id_of(ana)].role, Role::Member);
}

fn forged_admissions(
    world: &World,
    good: &Event,
    other: exo_model::InviteKey,
    eve: usize,
) -> Vec<(&'static str, Event)> {
    let Event::MemberAdmitted { device, name, invite, proof } = good.clone() else { return Vec::new() };
    let mut flipped = *proof.as_bytes();
    flipped[40] ^= 1;
    let flipped = exo_model::signature::Signature::from_bytes(flipped);
    vec![
        (
            "another device",
            Event::MemberAdmitted { device: world.id_of(eve), name: name.clone(), invite, proof },
        ),
        ("another name", Event::MemberAdmitted { device, name: "Anna".into(), invite, proof }),
        ("another invite", Event::MemberAdmitted { device, name: name.clone(), invite: other, proof }),
        ("a broken proof", Event::MemberAdmitted { device, name, invite, proof: flipped }),
    ]
}

#[test]
fn m07_a_proof_for_one_community_opens_no_other() {
    let mut world = World::of_members(2, -1_000);
    let mut elsewhere = World::of_members(2, -1_001);
    let (here, there) = (world.invites(201, 1), elsewhere.invites(201, 1));
    assert_eq!(here.key(), there.key(), "the same invite key, as a thief would have it");
    let who = world.stranger();
    let request = there.request(world.id_of(who), "Ana".into());
    let event = Event::MemberAdmitted {
        device: request.device,
        name: request.name.clone(),
        invite: request.invite,
        proof: request.proof,
    };
    assert!(!world.counts(1, &event));
    assert_eq!(world.does(1, Intent::Admit(request)), Err(Refusal::OtherCommunity));
}

/// Three members let three people in on a two-use invite, unaware of each
/// other: two win, the same two on every order of delivery.
#[test]
fn m07_racing_admissions_have_the_same_winners_on_every_order() {
    for uses in [1, 2] {
        let mut world = World::of_members(4, -1_000);
        let ticket = world.invites(201, uses);
        let before = world.events.len();
        for host in 1..4 {
            let who = world.stranger();
            let admission = world.admission(&ticket, who, "Racer");
            world.says_at(host, 77, &admission);
        }
        let (base, race) = world.events.split_at(before);
        let expected = world.state();
        assert_eq!(expected.members.len(), 4 + uses as usize);
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let race: Vec<_> = order.iter().map(|at| race[*at].clone()).collect();
            let late = reduced(world.id, std::iter::once(base).chain(race.chunks(1)));
            let early = reduced(world.id, race.chunks(1).chain([base]));
            assert_eq!((late.state(), early.state()), (expected, expected));
        }
    }
}

#[test]
fn m07_expiry_is_the_admitting_clocks_business_not_reduces() {
    let mut world = World::found(-1_000);
    let ticket = world.ticket(201);
    world.says(0, &Event::InviteIssued { key: ticket.key(), uses: 2, expires_ms: NOW - 1 });
    let (ana, ben) = (world.stranger(), world.stranger());
    let request = ticket.request(world.id_of(ana), "Ana".into());
    assert_eq!(world.does(0, Intent::Admit(request)), Err(Refusal::InviteExpired));
    let admission = world.admission(&ticket, ana, "Ana");
    assert!(world.counts(0, &admission), "another member's clock may differ");
    let exactly = world.ticket(202);
    world.says(0, &Event::InviteIssued { key: exactly.key(), uses: 1, expires_ms: NOW });
    assert!(world.does(0, Intent::Admit(exactly.request(world.id_of(ben), "Ben".into()))).is_ok());
}

#[test]
fn a_member_admitted_on_a_voided_invite_falls_with_it() {
    let mut world = World::of_members(2, -1_000);
    let ticket = world.invites(201, 1);
    let (ana, eve) = (world.stranger(), world.stranger());
    let (late, early) = (world.admission(&ticket, ana, "Ana"), world.admission(&ticket, eve, "Eve"));
    world.says_at(0, 90, &late);
    world.says_at(
        ana,
        91,
        &Event::MachineOffered { memory_bytes: 1, micros_per_mib: 1, addresses: Vec::new() },
    );
    let voucher_base = world.lock_event(1, 0, 10);
    world.says_at(ana, 92, &voucher_base);
    assert_eq!((world.state().machines.len(), world.state().ledger.locks().len()), (1, 1));
    world.says_at(1, 80, &early);
    assert!(world.state().is_member(&world.id_of(eve)) && !world.state().is_member(&world.id_of(ana)));
    assert_eq!(
        (world.state().machines.len(), world.state().ledger.locks().len()),
        (0, 0),
        "nothing drawn from it stays"
    );
}

#[test]
fn names_with_control_or_direction_characters_count_for_nothing() {
    let mut world = World::of_members(2, -1_000);
    let ticket = world.invites(201, 100);
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let bad = [
        "",
        " ",
        "a\nb",
        "a\tb",
        "\u{1b}[2J",
        "a\u{0}",
        "\u{7f}",
        "\u{9b}31m",
        "a\u{202e}b",
        "\u{2066}x",
        "x\u{2069}",
        " a",
        "a ",
        "a\u{a0}",
        long.as_str(),
    ];
    for name in bad {
        let who = world.stranger();
        let admission = world.admission(&ticket, who, name);
        assert!(!world.counts(1, &admission), "member {name:?}");
        assert!(!world.counts(0, &channel_event(9, name)), "channel {name:?}");
        let request = ticket.request(world.id_of(who), name.to_owned());
        assert!(world.does(1, Intent::Admit(request)).is_err(), "decide {name:?}");
    }
    let fits = "\u{e9}".repeat(NAME_BYTES_MAX / 2);
    assert!(world.counts(0, &channel_event(9, &fits)));
}

#[test]
fn messages_shape_no_state_and_decide_bounds_them() {
    let mut world = World::of_members(2, -1_000);
    world.says(0, &channel_event(0, "talk"));
    let channel = ChannelId::from_bytes([0; 16]);
    let hash = world.state().hash();
    for text in ["", " \n", &"x".repeat(MESSAGE_BYTES_MAX + 1)] {
        assert!(matches!(
            world.does(1, Intent::Post { channel, text: text.to_owned() }),
            Err(Refusal::Text(_))
        ));
    }
    assert!(
        world.does(1, Intent::Post { channel, text: "x".repeat(MESSAGE_BYTES_MAX) }).is_ok(),
        "and fits an envelope"
    );
    let nowhere = Intent::Post { channel: ChannelId::from_bytes([1; 16]), text: "x".into() };
    assert_eq!(world.does(1, nowhere), Err(Refusal::UnknownChannel));
    assert_eq!(world.state().hash(), hash);
}

#[test]
fn a_models_first_manifest_stands_and_lists_only_those_who_agree() {
    let mut world = World::of_members(3, -1_000);
    let other = exo_model::weights::ModelManifest { name: "Other".into(), ..manifest(1) };
    assert!(world.counts(1, &Event::ModelAdded { manifest: manifest(1) }));
    assert!(!world.counts(2, &Event::ModelAdded { manifest: other }));
    assert!(!world.counts(1, &Event::ModelAdded { manifest: manifest(1) }), "one holder, once");
    assert!(world.counts(2, &Event::ModelAdded { manifest: manifest(1) }));
    let holders = &world.state().models[&manifest(1).file].holders;
    assert_eq!(holders.as_slice(), [world.id_of(1), world.id_of(2)]);
}
