//! Boards of a whole community: from intents through sealed feeds and the
//! charter to equal texts on every home.

mod home;

use exo_model::board::contents::{STARTED_BYTES_MAX, board_id};
use exo_model::board::{Board, BoardContents, BoardIntent, BoardValue, Standing};
use exo_model::charter::Role;
use exo_model::decide::{Intent, Refusal};
use exo_model::event::BoardEvent;
use exo_model::event::keys::Audience;
use exo_model::feed::{Stream, VerifiedEvent};
use exo_model::id::BoardId;
use home::seeded::Rng;
use home::{Home, garden, meet, settle};

fn contents(text: &str) -> BoardContents {
    BoardContents { texts: [("notes".to_owned(), text.to_owned())].into(), ..BoardContents::default() }
}

fn start(home: &mut Home, text: &str) -> BoardId {
    let contents = contents(text);
    let id = board_id(home.community.id(), home.device(), &contents);
    home.act(Intent::StartBoard(contents));
    id
}

/// What a home makes of the events it holds, in this order.
fn board_of<'a>(home: &Home, id: BoardId, events: impl Iterator<Item = &'a VerifiedEvent>) -> Board {
    let events: Vec<_> = events.filter(|event| event.feed.stream == Stream::Board(id)).collect();
    let start = events.iter().find_map(|event| home.community.board_start(event)).expect("a start");
    let mut board = Board::with_contents(id, start.clone()).expect("within its bounds");
    let edits = events.iter().filter_map(|event| home.community.placed_edit(event));
    assert_eq!(board.insert(edits).expect("ours"), [], "room for all");
    board
}

fn board(home: &Home, id: BoardId) -> Board {
    board_of(home, id, home.events.iter())
}

fn write(home: &mut Home, id: BoardId, text: &str) {
    let board = board(home, id);
    let edit = board.edit(board.splice_for("notes", text)).expect("an edit");
    home.act(Intent::EditBoard(id, edit));
    assert_eq!(self_text(home, id), text);
}

fn self_text(home: &Home, id: BoardId) -> String {
    board(home, id).text("notes").unwrap_or_default().to_owned()
}

#[test]
fn many_edit_one_board_apart_and_see_one_text() {
    let (_, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let id = start(&mut a, "Water the plants.\n");
    // Whoever started it edits it too: their first change is no edit.
    write(&mut a, id, "Water the plants daily.\n");
    settle(&mut [&mut a, &mut b, &mut c]);
    write(&mut b, id, "Please water the plants daily.\n");
    write(&mut c, id, "Water the plants daily.\nThe cat too.\n");
    let put = BoardIntent::Put { key: "done".into(), value: BoardValue::Flag(true) };
    let edit = board(&c, id).edit(vec![put]).expect("an edit");
    c.act(Intent::EditBoard(id, edit));
    meet(&mut [&mut a, &mut b, &mut c]);
    for home in [&a, &b, &c] {
        assert_eq!(self_text(home, id), "Please water the plants daily.\nThe cat too.\n", "{}", home.name);
        assert_eq!(board(home, id).heads(), board(&a, id).heads());
    }
    // In whatever order the events come.
    let mut rng = Rng(7);
    let mut events: Vec<_> = a.events.iter().collect();
    for _ in 0..20 {
        rng.shuffle(&mut events);
        let shuffled = board_of(&a, id, events.iter().copied());
        assert_eq!(shuffled.heads(), board(&a, id).heads());
    }
}

/// What is no edit, cannot be read, or was nobody's right, stands between the
/// edits of a feed and holds up nothing.
#[test]
fn what_is_no_edit_holds_up_no_later_one() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let id = start(&mut a, "one");
    settle(&mut [&mut a, &mut b]);
    write(&mut b, id, "one two");
    b.write_bytes(Stream::Board(id), b"no envelope".to_vec());
    b.write(Stream::Board(id), &BoardEvent::Started { contents: contents("mine now") }.into());
    write(&mut b, id, "one two three");
    meet(&mut [&mut a, &mut b]);
    assert_eq!((self_text(&a, id), self_text(&b, id)), ("one two three".into(), "one two three".into()));
    // As a guest he may not edit; what he signs all the same says nothing, and
    // what he writes when he may again counts.
    let key = b.writing_key(Audience::Members);
    a.act(Intent::SetRole(people[1].id(), Role::Guest));
    meet(&mut [&mut a, &mut b]);
    let edit = board(&b, id).edit(board(&b, id).splice_for("notes", "guests write")).expect("an edit");
    assert!(b.try_act(Intent::EditBoard(id, edit.clone())).is_err());
    let heads = b.community.heads();
    let forced = b.write_under(Stream::Board(id), &BoardEvent::Edited { edit }.into(), &heads, key);
    meet(&mut [&mut a, &mut b]);
    assert_eq!(board(&a, id).standing(&forced), Some(Standing::Malformed));
    a.act(Intent::SetRole(people[1].id(), Role::Member));
    settle(&mut [&mut a, &mut b]);
    write(&mut b, id, "one two three four");
    meet(&mut [&mut a, &mut b]);
    assert_eq!((self_text(&a, id), self_text(&b, id)), ("one two three four".into(), self_text(&a, id)));
}

/// Beyond the fence of someone removed only what others built on stays.
#[test]
fn edits_beyond_a_fence_stay_where_others_built_on_them() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let id = start(&mut a, "base");
    settle(&mut [&mut a, &mut b, &mut c]);
    // Cleo sees one edit of Ben's and builds on it; the next nobody sees before he goes.
    write(&mut b, id, "base, seen");
    b.send_to(&mut c);
    write(&mut c, id, "base, seen, built on");
    a.act(Intent::Remove { person: people[1].id(), ban: false, reason: String::new() });
    write(&mut b, id, "unseen");
    meet(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(self_text(&a, id), "base, seen, built on");
    assert_eq!(self_text(&c, id), "base, seen, built on");
    assert_eq!(board(&a, id).heads(), board(&c, id).heads());
}

/// A copied disk edits on: both lines count, and everyone sees the same.
#[test]
fn a01_two_lines_of_one_author_come_to_one_board() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let id = start(&mut a, "base");
    settle(&mut [&mut a, &mut b]);
    let mut twin = b.twin();
    write(&mut b, id, "left base");
    write(&mut twin, id, "base right");
    let all: Vec<_> = b.events.iter().chain(&twin.events).collect();
    let mut rng = Rng(9);
    let mut heads = None;
    for _ in 0..10 {
        let mut events = all.clone();
        rng.shuffle(&mut events);
        let board = board_of(&a, id, events.into_iter());
        assert_eq!(board.text("notes").unwrap_or_default(), "left base right");
        assert_eq!(*heads.get_or_insert(board.heads()), board.heads());
    }
}

/// The id follows from who starts it and with what.
#[test]
fn nobody_starts_a_board_under_anothers_id() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    let id = start(&mut a, "hers");
    settle(&mut [&mut a, &mut b]);
    for text in ["his", "hers"] {
        b.write(Stream::Board(id), &BoardEvent::Started { contents: contents(text) }.into());
    }
    meet(&mut [&mut a, &mut b]);
    assert_eq!((self_text(&a, id), self_text(&b, id)), ("hers".into(), "hers".into()));
    let starts = a.events.iter().filter(|event| a.community.board_start(event).is_some()).count();
    assert_eq!(starts, 1);
}

#[test]
fn a_board_too_large_to_start_says_what_to_do() {
    let (_, [mut a]) = garden([Role::Owner]);
    let refused = a.try_act(Intent::StartBoard(contents(&"x".repeat(STARTED_BYTES_MAX))));
    let Err(Refusal::BoardStart(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.to_string().contains("edit the rest in"), "{reason}");
    start(&mut a, &"x".repeat(STARTED_BYTES_MAX - 100));
}
