//! What outsiders and members may not do: every event here is authentic,
//! enters its author's feed, and must count for nothing.
//!
//! Who may do what is held to a reference by `charter_histories.rs`; here is
//! the whole way, from a signed and sealed change to the state.

mod home;
mod samples;
#[path = "support/writing.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod writing;

use exo_model::amount::Amount;
use exo_model::charter::{CommunityKind, Role, Settings};
use exo_model::codec::encode;
use exo_model::community;
use exo_model::decide::{Intent, Refusal};
use exo_model::envelope::Envelope;
use exo_model::event::keys::Audience;
use exo_model::event::{CharterEvent, ClusterEvent, Event, LibraryEvent};
use exo_model::feed::gate;
use exo_model::feed::{Change, FeedId, FeedPosition, Stream, author};
use exo_model::invite::{JoinRequest, Ticket};
use exo_model::port::Signer as _;
use exo_model::sealing::EpochKey;
use exo_model::signature::{SecretKey, Signature};
use exo_model::text::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX};
use exo_model::{ChannelId, CommunityId};
use home::{Home, Person, Seeded, found, meet, seeded};
use samples::{every_event, home as stream_of};
use writing::{append, sealed};

/// The founding of a community, by hand.
struct Founding {
    feed: FeedId,
    change: Change,
    key: EpochKey,
}

fn founding(name: &str, founder_name: &str) -> Founding {
    let person = Person::new(1);
    let key = EpochKey::from_bytes(&[0x4e; 32]);
    let (feed, change) = community::found(
        CommunityKind::Shared,
        person.certify(&person.key, 1),
        founder_name.into(),
        Settings::of_friends(name.into(), Amount::ZERO),
        [7; 16],
        &key,
        1_000,
        &Seeded::new(1),
    );
    Founding { feed, change, key }
}

/// How many members a community has of which this is all there is.
fn members_after(
    id: CommunityId,
    feed: FeedId,
    signer: &SecretKey,
    changes: &[Change],
    key: &EpochKey,
) -> usize {
    let reader = SecretKey::from_bytes(&[50; 32]);
    let mut home = Home::new("Reader", id, reader, Seeded::new(3));
    home.community.learn_key(EpochKey::from_bytes(key.as_bytes()));
    let mut known = FeedPosition::START;
    for change in changes {
        let run = gate::admit(author(signer, feed, &known, change.clone()), &known).expect("authentic");
        known = run.end();
        home.keep(run);
    }
    home.community.state().charter.members.len()
}

#[test]
fn a_founding_counts_only_first_in_the_founders_own_charter() {
    let Founding { feed, change, key } = founding("Garden", "Ona");
    let (own, other) = (Person::new(1).key, Person::new(2).key);
    let filler = Change { time_ms: 1, payload: b"something else".to_vec() };
    let whole = std::slice::from_ref(&change);
    assert_eq!(members_after(feed.community, feed, &own, whole, &key), 1);
    let stolen = FeedId { device: other.device(), ..feed };
    assert_eq!(members_after(feed.community, stolen, &other, whole, &key), 0, "by another device");
    let ledger = FeedId { stream: Stream::Ledger, ..feed };
    assert_eq!(members_after(feed.community, ledger, &own, whole, &key), 0, "in another stream");
    assert_eq!(members_after(feed.community, feed, &own, &[filler, change.clone()], &key), 0, "second");
    assert_eq!(members_after(feed.community, feed, &own, &[change.clone(), change], &key), 1, "twice");
}

#[test]
fn a_founding_counts_only_for_the_id_that_commits_to_it() {
    let Founding { feed, change, key } = founding("Garden", "Ona");
    let renamed = founding("Other", "Ona").change;
    let mut later = Envelope::decode(&change.payload).expect("an envelope");
    later.lamport = 2;
    let own = Person::new(1).key;
    for forged in [renamed, Change { payload: later.encode(), ..change.clone() }] {
        assert_eq!(members_after(feed.community, feed, &own, &[forged], &key), 0);
    }
    let elsewhere = CommunityId::from_bytes([9; 32]);
    let feed = FeedId { community: elsewhere, ..feed };
    assert_eq!(members_after(elsewhere, feed, &own, &[change], &key), 0);
}

#[test]
fn a_founding_under_an_unclean_name_counts_for_nothing() {
    for (name, founder_name, counts) in [
        ("Garden", "Ona", 1),
        ("Gar\u{7}den", "Ona", 0),
        ("Garden", "O\u{202e}na", 0),
        ("", "Ona", 0),
        ("Garden", " Ona", 0),
    ] {
        let Founding { feed, change, key } = founding(name, founder_name);
        let members = members_after(feed.community, feed, &Person::new(1).key, &[change], &key);
        assert_eq!(members, counts, "{name:?} {founder_name:?}");
    }
}

/// Ana and Ben, with an epoch for everything, and someone outside who got hold
/// of every key and all that was said.
fn with_outsider() -> (Home, Home, Home) {
    let mut a = found("Ana", &Person::new(1));
    a.open_channel(0xc4, false);
    let ticket = a.invite(1);
    let mut b = a.admit("Ben", &Person::new(2), &ticket);
    for audience in [Audience::Members, Audience::Moderators] {
        if a.community.writing_key(&audience).is_none() {
            a.rotate(audience);
        }
    }
    meet(&mut [&mut a, &mut b]);
    let mut eve = Home::new("Eve", a.community.id(), SecretKey::from_bytes(&[66; 32]), Seeded::new(66));
    for key in a.community.keyring().ids() {
        let key = a.community.keyring().key(key).expect("held");
        eve.community.learn_key(EpochKey::from_bytes(key.as_bytes()));
    }
    a.send_to(&mut eve);
    (a, b, eve)
}

/// All that a state says, and what keys are written with.
fn everything(home: &Home) -> impl PartialEq + std::fmt::Debug + use<> {
    let state = home.community.state();
    let epochs: Vec<_> = [Audience::Governance, Audience::Members, Audience::Moderators]
        .iter()
        .map(|audience| home.community.writing_key(audience))
        .collect();
    (state.hash(), state.machines.clone(), state.models.clone(), epochs, home.community.next_lamport())
}

#[test]
fn nothing_a_non_member_says_counts() {
    let (mut a, _, mut eve) = with_outsider();
    let before = everything(&a);
    let mut kinds = 0;
    for event in every_event() {
        let stream = stream_of(&event);
        let feed = FeedId::new(eve.community.id(), eve.device(), stream);
        let payload = sealed(&eve, &feed, &encode(&event)).encode();
        append(&mut eve, feed, vec![payload]);
        eve.send_to(&mut a);
        assert!(a.events.last().is_some_and(|last| last.event.as_ref() == Ok(&event)), "it is read");
        assert_eq!(everything(&a), before, "{event:?}");
        kinds += 1;
    }
    assert_eq!(kinds, every_event().len());
    // From a member the like of it counts.
    let offer = ClusterEvent::MachineOffered { memory_bytes: 1, micros_per_mib: 1, addresses: Vec::new() };
    a.write(Stream::Cluster, &offer.into());
    assert_ne!(everything(&a), before);
    for intent in [Intent::Leave, Intent::Count] {
        assert_eq!(eve.try_act(intent), Err(Refusal::NotAMember));
    }
}

/// A stranger's clock moves nobody's, nor does a member's by much.
#[test]
fn a_strangers_lamport_time_moves_no_clock() {
    let (mut a, mut b, mut eve) = with_outsider();
    let before = a.community.next_lamport();
    let far = |home: &mut Home, lamport: u64| {
        let feed = FeedId::new(home.community.id(), home.device(), Stream::Cluster);
        let body = encode(&Event::from(ClusterEvent::ShardDropped {
            model: exo_model::BlobHash::from_bytes([1; 32]),
        }));
        let seq = writing::end(home, &feed).seq + 1;
        let payload = writing::sealed_at(home, &feed, seq, lamport, true, &body).encode();
        append(home, feed, vec![payload]);
    };
    far(&mut eve, before + 100);
    eve.send_to(&mut a);
    assert_eq!(a.community.next_lamport(), before);
    far(&mut b, exo_model::envelope::LAMPORT_MAX);
    b.send_to(&mut a);
    assert_eq!(a.community.next_lamport(), before, "so far that no time is left");
    far(&mut b, before + 100);
    b.send_to(&mut a);
    assert_eq!(a.community.next_lamport(), before + 101);
}

fn admitted(request: JoinRequest) -> CharterEvent {
    let JoinRequest { certificate, name, invite, proof, .. } = request;
    CharterEvent::Admitted { certificate, name, invite, proof, lifts: Vec::new() }
}

fn request(ticket: &Ticket, person: &Person, name: &str) -> JoinRequest {
    ticket.request(person.certify(&person.key, 1), name.into())
}

#[test]
fn m07_admissions_need_a_known_unused_invite_and_its_own_proof() {
    let mut a = found("Ana", &Person::new(1));
    let (ticket, other) = (a.invite(1), a.invite(1));
    let unknown =
        Ticket::new(a.community.id(), "Garden".into(), &SecretKey::from_bytes(&[77; 32]), 0, Vec::new());
    let (ben, eve) = (Person::new(2), Person::new(3));
    let good = request(&ticket, &ben, "Ben");
    let mut flipped = *good.proof.as_bytes();
    flipped[40] ^= 1;
    let mut renamed = good.certificate.clone();
    renamed.claims.name = "other".into();
    let forged: [(&str, JoinRequest, Refusal); 6] = [
        (
            "another person",
            JoinRequest { certificate: eve.certify(&eve.key, 1), ..good.clone() },
            Refusal::InviteProof,
        ),
        ("another name", JoinRequest { name: "Benn".into(), ..good.clone() }, Refusal::InviteProof),
        ("another invite", JoinRequest { invite: other.key(), ..good.clone() }, Refusal::InviteProof),
        (
            "a broken proof",
            JoinRequest { proof: Signature::from_bytes(flipped), ..good.clone() },
            Refusal::InviteProof,
        ),
        ("an unknown invite", request(&unknown, &ben, "Ben"), Refusal::UnknownInvite),
        ("a changed certificate", JoinRequest { certificate: renamed, ..good.clone() }, Refusal::Lost),
    ];
    for (what, request, refusal) in forged {
        a.force(admitted(request.clone()));
        assert_eq!(a.community.state().charter.members.len(), 1, "{what}");
        let refused = a.try_act(Intent::Admit(request));
        assert!(refused.is_err(), "{what}");
        assert!(refusal == Refusal::Lost || refused == Err(refusal), "{what}");
    }
    a.force(admitted(good.clone()));
    assert!(a.is_member(&ben.id()));
    for (what, request, refusal) in [
        ("twice", good, Refusal::AlreadyMember),
        ("used up", request(&ticket, &eve, "Eve"), Refusal::InviteUsed),
        ("in again by another invite", request(&other, &ben, "Ben B"), Refusal::AlreadyMember),
    ] {
        a.force(admitted(request.clone()));
        assert_eq!(a.try_act(Intent::Admit(request)), Err(refusal), "{what}");
    }
    let charter = &a.community.state().charter;
    assert_eq!((charter.members.len(), charter.invites[&other.key()].used), (2, 0), "no use was spent");
}

#[test]
fn m07_a_proof_for_one_community_opens_no_other() {
    let (mut here, mut there) = (found("Ana", &Person::new(1)), found("Ona", &Person::new(4)));
    assert_ne!(here.community.id(), there.community.id());
    let secret = SecretKey::from_bytes(&[77; 32]);
    let [ours, theirs] = [&here, &there]
        .map(|home| Ticket::new(home.community.id(), "Garden".into(), &secret, i64::MAX, Vec::new()));
    for home in [&mut here, &mut there] {
        let (key, role, trust) = (ours.key(), Role::Member, exo_model::trust::TrustLevel::Known);
        home.act(Intent::IssueInvite { key, uses: 1, expires_ms: i64::MAX, role, trust });
    }
    let ben = Person::new(2);
    let brought = request(&theirs, &ben, "Ben");
    here.force(admitted(brought.clone()));
    assert!(!here.is_member(&ben.id()));
    assert_eq!(here.try_act(Intent::Admit(brought.clone())), Err(Refusal::OtherCommunity));
    let posing = JoinRequest { community: here.community.id(), ..brought };
    assert_eq!(here.try_act(Intent::Admit(posing)), Err(Refusal::InviteProof));
    here.act(Intent::Admit(request(&ours, &ben, "Ben")));
}

#[test]
fn m07_expiry_is_judged_by_the_admitting_clock_and_by_nobody_else() {
    let mut a = found("Ana", &Person::new(1));
    let (ben, cleo) = (Person::new(2), Person::new(3));
    let ticket = a.invite(2);
    a.now_ms = ticket.expires_ms;
    a.act(Intent::Admit(request(&ticket, &ben, "Ben")));
    a.now_ms = ticket.expires_ms + 1;
    let late = request(&ticket, &cleo, "Cleo");
    assert_eq!(a.try_act(Intent::Admit(late.clone())), Err(Refusal::InviteExpired));
    a.force(admitted(late));
    assert!(a.is_member(&cleo.id()), "another member's clock may differ");
}

#[test]
fn names_that_deceive_count_for_nothing() {
    let mut a = found("Ana", &Person::new(1));
    let ticket = a.invite(100);
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
        "a\u{2028}b",
        "\u{200b}",
        "\u{200f}x",
        "\u{61c}x",
        "a\u{feff}",
        "\u{2060}",
        "\u{3164}",
        "\u{ad}",
        "\u{e0041}",
        &long,
    ];
    let ben = Person::new(2);
    let (before, channel) = (a.community.state().charter.clone(), ChannelId::from_bytes([9; 16]));
    for name in bad {
        let request = request(&ticket, &ben, name);
        a.force(admitted(request.clone()));
        a.force(CharterEvent::ChannelCreated { channel, name: name.into(), closed: false, guests: false });
        a.force(CharterEvent::ProfileSet { name: name.into(), about: String::new() });
        let after = &a.community.state().charter;
        assert_eq!((&after.members, &after.channels), (&before.members, &before.channels), "{name:?}");
        assert!(a.try_act(Intent::Admit(request)).is_err(), "{name:?}");
    }
    let fits = "\u{e9}".repeat(NAME_BYTES_MAX / 2);
    a.force(CharterEvent::ProfileSet { name: fits.clone(), about: String::new() });
    let me = a.person();
    assert_eq!(a.community.state().charter.members[&me].name, fits);
}

#[test]
fn messages_shape_no_state_and_decide_bounds_them() {
    let mut a = found("Ana", &Person::new(1));
    let room = a.open_channel(1, false);
    let before = a.hash();
    let post = |channel, text: &str| Intent::Post {
        channel,
        text: text.into(),
        reply_to: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    };
    for text in ["", " \n", &"x".repeat(MESSAGE_BYTES_MAX + 1)] {
        assert!(matches!(a.try_act(post(room, text)), Err(Refusal::Text(_))));
    }
    assert!(a.try_act(post(room, &"x".repeat(MESSAGE_BYTES_MAX))).is_ok(), "and fits an envelope");
    let nowhere = ChannelId::from_bytes([7; 16]);
    assert_eq!(a.try_act(post(nowhere, "x")), Err(Refusal::UnknownChannel));
    assert_eq!((a.hash(), a.read(room).len()), (before, 1));
}

#[test]
fn a_models_first_manifest_stands_and_lists_only_those_who_agree() {
    let mut a = found("Ana", &Person::new(1));
    let ticket = a.invite(2);
    let mut b = a.admit("Ben", &Person::new(2), &ticket);
    let mut c = a.admit("Cleo", &Person::new(3), &ticket);
    let manifest = every_event().into_iter().find_map(|event| match event {
        Event::Library(LibraryEvent::ModelAdded { manifest }) => Some(manifest),
        _ => None,
    });
    let manifest = manifest.expect("a sample");
    let mut other = manifest.clone();
    other.hidden_size += 1;
    let added = |manifest| Event::from(LibraryEvent::ModelAdded { manifest });
    meet(&mut [&mut a, &mut b, &mut c]);
    a.act(Intent::AddModel(manifest.clone()));
    meet(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(b.try_act(Intent::AddModel(other.clone())), Err(Refusal::Exists("model")));
    b.write(Stream::Library, &added(other));
    c.act(Intent::AddModel(manifest.clone()));
    c.write(Stream::Library, &added(manifest.clone()));
    meet(&mut [&mut a, &mut b, &mut c]);
    for home in [&a, &b, &c] {
        let model = &home.community.state().models[&manifest.file];
        assert_eq!((&model.manifest, model.holders.as_slice()), (&manifest, &[a.device(), c.device()][..]));
    }
}

/// A reversed range decodes, because a derived decoder knows no rule.
#[test]
fn a_void_shard_makes_no_machine() {
    let (mut a, ..) = with_outsider();
    let layers = exo_model::weights::LayerRange::new(3, 9).expect("in bounds");
    let good =
        Event::from(ClusterEvent::ShardHosted { model: exo_model::BlobHash::from_bytes([1; 32]), layers });
    let mut body = encode(&good);
    let len = body.len();
    (body[len - 2], body[len - 1]) = (9, 3);
    let bad = Event::decode(&body).expect("of the right shape");
    a.write(Stream::Cluster, &bad);
    assert!(a.community.state().machines.values().all(|machine| machine.shards.is_empty()));
    a.write(Stream::Cluster, &good);
    assert!(a.community.state().machines.values().any(|machine| !machine.shards.is_empty()));
}

/// What its author signs is the worst that a member can send: it neither
/// panics nor makes or loses credit, and everyone comes to the same.
#[test]
fn garbage_that_a_member_signs_leaves_a_community_whole() {
    let (mut a, mut b, _) = with_outsider();
    let mut rng = seeded::Rng(23);
    let events = every_event();
    for _ in 0..600 {
        let event = &events[rng.below(events.len())];
        let feed = FeedId::new(b.community.id(), b.device(), stream_of(event));
        let body = seeded::mutate(&mut rng, &encode(event));
        let mut payload = sealed(&b, &feed, &body).encode();
        if rng.one_in(4) {
            payload = seeded::mutate(&mut rng, &payload);
        }
        if !payload.is_empty() {
            append(&mut b, feed, vec![payload]);
        }
    }
    b.send_to(&mut a);
    assert_eq!(a.hash(), b.hash());
    assert_eq!(a.community.state().ledger.total(), 0);
    let room = a.channel();
    a.say(room, "still here");
}
