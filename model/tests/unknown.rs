//! What a later version writes, and what is nonsense: kept in its feed, passed
//! on, and of no consequence here.

mod home;
mod samples;
#[path = "support/writing.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod writing;

use exo_model::VerifiedEvent;
use exo_model::codec::encode;
use exo_model::envelope::{Envelope, EnvelopeError, LAMPORT_MAX};
use exo_model::event::keys::Audience;
use exo_model::feed::{FeedId, Meaningless, Stream};
use exo_model::id::KeyId;
use home::{Home, Person, found, meet};
use samples::{every_event, home as stream_of};
use writing::{append, sealed};

/// Makes the payload of a member's next change in a feed.
type Payload = Box<dyn Fn(&Home, &FeedId) -> Vec<u8>>;
/// What is strange about a payload, and what becomes of it.
type Strange = (&'static str, Payload, fn(&Meaningless) -> bool);

/// The author's next change in a feed of their own, whatever it carries.
fn write(home: &mut Home, feed: FeedId, payload: Vec<u8>) -> VerifiedEvent {
    append(home, feed, vec![payload]);
    home.events.last().expect("kept").clone()
}

fn strangers() -> Vec<Strange> {
    fn of(body: &'static [u8]) -> Payload {
        Box::new(move |home, feed| sealed(home, feed, body).encode())
    }
    let version =
        |version| move |home: &Home, feed: &FeedId| Envelope { version, ..sealed(home, feed, b"") }.encode();
    let is_event = |why: &Meaningless| matches!(why, Meaningless::Event(_));
    vec![
        ("an unknown family", of(&[0x82, 0x18, 200, 0x80]), is_event),
        ("an unknown kind of a known family", of(&[0x82, 0x00, 0x81, 0x82, 0x18, 200, 0x80]), is_event),
        ("nothing", of(b""), is_event),
        ("garbage", of(b"\xff\xff"), is_event),
        ("version 2", Box::new(version(2)), |why| {
            matches!(why, Meaningless::Envelope(EnvelopeError::Version(2)))
        }),
        ("version 0", Box::new(version(0)), |why| {
            matches!(why, Meaningless::Envelope(EnvelopeError::Version(0)))
        }),
        (
            "a version of another shape",
            Box::new(|_: &Home, _: &FeedId| vec![0x83, 0x18, 77, 0xf6, 0xa0]),
            |why| matches!(why, Meaningless::Envelope(EnvelopeError::Version(77))),
        ),
        ("no envelope", Box::new(|_: &Home, _: &FeedId| b"\xff".to_vec()), |why| {
            matches!(why, Meaningless::Envelope(EnvelopeError::Decode(_)))
        }),
        (
            "a Lamport time without successor",
            Box::new(|home: &Home, feed: &FeedId| {
                Envelope { lamport: LAMPORT_MAX + 1, ..sealed(home, feed, b"") }.encode()
            }),
            |why| matches!(why, Meaningless::Envelope(EnvelopeError::Lamport(_))),
        ),
    ]
}

/// Two members with a channel, an epoch for every stream, and equal states.
fn two() -> (Home, Home, Stream) {
    let (ana, ben) = (Person::new(1), Person::new(2));
    let mut a = found("Ana", &ana);
    let room = a.open_channel(1, false);
    let ticket = a.invite(1);
    let mut b = a.admit("Ben", &ben, &ticket);
    a.say(room, "first");
    for audience in [Audience::Members, Audience::Moderators] {
        if a.community.writing_key(&audience).is_none() {
            a.rotate(audience);
        }
    }
    meet(&mut [&mut a, &mut b]);
    (a, b, Stream::Channel(room))
}

#[test]
fn unknown_kinds_and_versions_are_kept_passed_on_and_count_for_nothing() {
    let (mut a, mut b, room) = two();
    let streams = [Stream::Keys, Stream::Charter, Stream::Ledger, Stream::Cluster, Stream::Library, room];
    for stream in streams {
        let feed = FeedId::new(a.community.id(), a.device(), stream);
        for (what, payload, is_expected) in strangers() {
            let state = |home: &Home| {
                let state = home.community.state();
                (home.hash(), state.machines.clone(), state.models.clone(), home.community.next_lamport())
            };
            let before = state(&a);
            let payload = payload(&a, &feed);
            let written = write(&mut a, feed, payload.clone());
            let why = written.event.expect_err(what);
            assert!(is_expected(&why), "{what} in {stream}: {why}");
            let (after, lamport) = (state(&a), before.3);
            assert_eq!((after.0, after.1, after.2), (before.0, before.1, before.2), "{what} in {stream}");
            assert!(after.3 <= lamport + 1, "no clock was moved far");
            let stored = a.changes(&feed);
            assert_eq!(stored.last().map(|change| &change.payload), Some(&payload), "kept as written");
        }
    }
    meet(&mut [&mut a, &mut b]);
    let mut c = found_from(&b);
    b.send_to(&mut c);
    for stream in streams {
        let feed = FeedId::new(a.community.id(), a.device(), stream);
        assert_eq!(a.changes(&feed), b.changes(&feed), "passed on");
        assert_eq!(a.changes(&feed), c.changes(&feed), "and passed on again");
    }
    assert_eq!((a.hash(), a.hash()), (b.hash(), c.hash()));
    // Life goes on behind them.
    let Stream::Channel(room) = room else { panic!("a channel") };
    a.say(room, "last");
    meet(&mut [&mut a, &mut b]);
    assert_eq!(b.read(room), ["first", "last"]);
}

/// Somebody with the charter's keys who has nothing yet.
fn found_from(other: &Home) -> Home {
    let key = exo_model::signature::SecretKey::from_bytes(&[3; 32]);
    let mut home = Home::new("Cleo", other.community.id(), key, home::Seeded::new(7));
    other.hand_governance_to(&mut home);
    home
}

/// Every kind in every stream that is not its own.
#[test]
fn events_in_streams_they_do_not_belong_in_count_for_nothing() {
    let (mut a, _, room) = two();
    let streams = [
        Stream::Keys,
        Stream::Charter,
        Stream::Ledger,
        Stream::Cluster,
        Stream::Library,
        Stream::Moderation,
        Stream::Private,
        room,
    ];
    for event in every_event() {
        for stream in streams {
            if event.belongs_in(&stream) {
                continue;
            }
            let before = a.hash();
            let feed = FeedId::new(a.community.id(), a.device(), stream);
            let payload = sealed(&a, &feed, &encode(&event)).encode();
            let written = write(&mut a, feed, payload);
            assert_eq!(written.event, Err(Meaningless::WrongStream), "{event:?} in {stream}");
            assert_eq!(a.hash(), before, "{event:?} in {stream}");
        }
    }
    let own: Vec<Stream> = every_event().iter().map(stream_of).collect();
    assert!(own.len() > 70, "every kind was tried: {}", own.len());
}

/// A body sealed for one place opens at no other.
#[test]
fn n01_a_sealed_body_opens_only_where_it_was_sealed() {
    let (mut a, _, room) = two();
    let feed = FeedId::new(a.community.id(), a.device(), room);
    let body = encode(&every_event().into_iter().find(|event| event.belongs_in(&room)).expect("words"));
    type Twist = fn(&mut Envelope);
    let twists: [(&str, Twist); 4] = [
        ("time", |envelope| envelope.lamport += 1),
        ("heads left out", |envelope| envelope.heads = None),
        ("other heads", |envelope| envelope.heads = Some(Vec::new())),
        ("one bit", |envelope| envelope.body[30] ^= 1),
    ];
    for (what, twist) in twists {
        let mut envelope = sealed(&a, &feed, &body);
        twist(&mut envelope);
        assert_eq!(write(&mut a, feed, envelope.encode()).event, Err(Meaningless::Seal), "{what}");
    }
    let named = KeyId::from_bytes([9; 16]);
    let unheld = Envelope { key: Some(named), ..sealed(&a, &feed, &body) };
    assert_eq!(write(&mut a, feed, unheld.encode()).event, Err(Meaningless::NoKey(named)));
    let moved = sealed(&a, &feed, &body).encode();
    assert!(write(&mut a, feed, moved.clone()).event.is_ok(), "in its place");
    assert_eq!(write(&mut a, feed, moved.clone()).event, Err(Meaningless::Seal), "one place later");
    let other = FeedId { stream: Stream::Cluster, ..feed };
    assert_eq!(write(&mut a, other, moved).event, Err(Meaningless::Seal), "in another stream");
}
