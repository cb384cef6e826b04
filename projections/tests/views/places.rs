//! What is read where: streams of every kind, channels that are closed to the
//! reader, keys that come late, and kinds of words these views do not show.

use std::collections::BTreeMap;

use exo_model::decide::Intent;
use exo_model::event::TalkEvent;
use exo_model::feed::{LineId, Meaningless};
use exo_model::id::{BoardId, DirectId};
use exo_model::{ChangeHash, ChannelId, CommunityState, DeviceId, FeedId, Stream, VerifiedEvent};
use exo_projections::{Reader, Views, ViewsError};

use crate::world::World;
use crate::{Folder, Follower, assert_same};

fn nothing(feed: FeedId, seq: u64, event: Meaningless) -> VerifiedEvent {
    VerifiedEvent {
        feed,
        seq,
        hash: ChangeHash::from_bytes([1; 32]),
        line: 0,
        previous: ChangeHash::from_bytes([0; 32]),
        time_ms: 0,
        lamport: 0,
        heads: [].into(),
        founding: false,
        event: Err(event),
    }
}

#[test]
fn cursors_know_every_kind_of_stream() {
    let community = World::found(70).id();
    let state = CommunityState::empty(community);
    let streams = [
        Stream::Keys,
        Stream::Charter,
        Stream::Ledger,
        Stream::Cluster,
        Stream::Library,
        Stream::Moderation,
        Stream::Private,
        // One id, three streams.
        Stream::Board(BoardId::from_bytes([3; 16])),
        Stream::Channel(ChannelId::from_bytes([3; 16])),
        Stream::Direct(DirectId::from_bytes([3; 16])),
        Stream::Direct(DirectId::from_bytes([4; 16])),
    ];
    let feeds: Vec<FeedId> = streams
        .into_iter()
        .flat_map(|stream| {
            [1, 2].map(|device| FeedId::new(community, DeviceId::from_bytes([device; 32]), stream))
        })
        .flat_map(|feed| [feed, feed.with_segment(1)])
        .collect();
    let folder = Folder::new();
    let mut views = Views::open(folder.path()).expect("a new file");
    for (length, feed) in (1..).zip(&feeds) {
        let batch: Vec<_> = (1..=length).map(|seq| nothing(*feed, seq, Meaningless::WrongStream)).collect();
        views.apply(&batch, &state).expect("applied");
    }
    let cursors = views.cursors().expect("cursors");
    let expected: BTreeMap<LineId, u64> = feeds.iter().map(LineId::from).zip(1..).collect();
    assert_eq!(cursors, expected);
    let again = nothing(feeds[0], 3, Meaningless::WrongStream);
    assert!(matches!(views.apply(&[again], &state), Err(ViewsError::Gap { from_seq: 2, met_seq: 3, .. })));
    // A line that parts from another begins anywhere, and has no gaps either.
    let parted = |seq| VerifiedEvent { line: 1, ..nothing(feeds[1], seq, Meaningless::WrongStream) };
    views.apply(&[parted(2), parted(3)], &state).expect("applied");
    assert!(matches!(
        views.apply(&[parted(5)], &state),
        Err(ViewsError::Gap { from_seq: 4, met_seq: 5, .. })
    ));
    drop(views);
    let cursors = Views::open(folder.path()).map(|views| views.cursors().expect("cursors"));
    let cursors = cursors.expect("the same file");
    assert_eq!(cursors[&LineId { feed: feeds[1], number: 1 }], 3);
    assert_eq!(cursors[&feeds[1].into()], expected[&feeds[1].into()], "the first line stays where it was");
}

/// Ben's channel is closed to Ana, its founder notwithstanding: she knows that
/// it is there and that people write in it, and nothing of what. When she is
/// brought in with its history, all of it is there.
#[test]
fn a_closed_channel_opens_with_its_history() {
    let mut world = World::found(71);
    let ben = world.join(0, "Ben");
    world.meet();
    world.set_role(ben, exo_model::charter::Role::Admin);
    world.tell(0, ben);
    let person = world.person(ben);
    let den = world.closed_channel(ben, 5, vec![person]);
    for text in ["one", "two"] {
        world.post(ben, den, text).expect("its own");
    }
    world.tell(ben, 0);

    let folder = Folder::new();
    let views = Views::open(folder.path()).expect("a new file");
    let mut follower = Follower::new(views, world.blank(0));
    follower.catch_up(&world.homes[0]);
    let reader = Reader::open(folder.path()).expect("readable");
    assert!(reader.channels().expect("read").iter().any(|channel| channel.channel == den));
    assert!(reader.messages(&den, 9, None).expect("a page").is_empty());
    let feed = FeedId::new(world.id(), world.device(ben), Stream::Channel(den));
    // Nothing of it is settled: with the key it is to be handed in again.
    assert_eq!(follower.views.cursors().expect("cursors")[&feed.into()], 0);

    let ana = world.person(0);
    world.homes[ben].act(Intent::ChannelPeople { channel: den, add: vec![ana], remove: Vec::new() });
    let audience = exo_model::event::keys::Audience::Channel(den);
    world.homes[ben].act(Intent::GrantHistory(ana, audience));
    world.post(ben, den, "three").expect("its own");
    world.meet();

    // Once as a node that was killed before its views were told.
    let crashed = Folder::new();
    let mut behind = Views::open(crashed.path()).expect("a new file");
    follower.home.read_again();
    behind.apply(&follower.home.events, follower.home.community.state()).expect("applied");

    follower.catch_up(&world.homes[0]);
    let texts = |reader: &Reader| -> Vec<String> {
        let page = reader.messages(&den, 9, None).expect("a page");
        page.into_iter().map(|message| message.text).collect()
    };
    assert_eq!(texts(&reader), ["one", "two", "three"]);
    assert_eq!(follower.views.cursors().expect("cursors")[&feed.into()], 3);
    let expected = follower.rebuilt();
    assert_same(&follower.dump(), &expected, "told from the start");

    let whole = &follower.home;
    let rest = crate::missing(&behind, &whole.events);
    let applied = behind.apply(&rest, whole.community.state()).expect("applied");
    assert_eq!(applied.messages, 3, "two that were sealed, and the new one");
    assert_same(&behind.dump().expect("dumped"), &expected, "told what was missing");
}

/// Edits, deletions and reactions are no rows yet, and leave those there are.
#[test]
fn words_about_messages_leave_them_as_they_are() {
    let mut world = World::found(72);
    let hall = world.homes[0].open_channel(1, false);
    let message = world.post(0, hall, "as written").expect("a member");
    let about = [
        TalkEvent::Edited { message, text: "said better".to_owned() },
        TalkEvent::Reacted { message, reaction: "👍".to_owned(), on: true },
        TalkEvent::Deleted { message },
    ];
    for event in about {
        world.homes[0].act(Intent::Talk(hall, event));
    }
    world.post(0, hall, "after it").expect("a member");
    let whole = world.reader(0);
    let folder = Folder::new();
    let mut views = Views::open(folder.path()).expect("a new file");
    let applied = views.apply(&whole.events, whole.community.state()).expect("applied");
    assert_eq!(applied.messages, 2);
    let feed = FeedId::new(world.id(), world.device(0), Stream::Channel(hall));
    assert_eq!(views.cursors().expect("cursors")[&feed.into()], 5);
    let page = Reader::open(folder.path()).expect("readable").messages(&hall, 9, None).expect("a page");
    let texts: Vec<_> = page.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(texts, ["as written", "after it"]);
}
