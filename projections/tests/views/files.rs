//! Files that are not as they should be, and batches that do not fit.

use std::sync::Arc;

use exo_model::{CommunityId, CommunityState, VerifiedEvent};
use exo_projections::schema::SCHEMA_VERSION;
use exo_projections::{Applied, OpenError, QueryError, Reader, Views, ViewsError};
use rusqlite::Connection;

use crate::grown::grown;
use crate::home::Home;
use crate::world::World;
use crate::{Folder, rebuilt};

/// A founder who knows everything of a small community.
fn grown_small(seed: u64) -> Home {
    grown(seed, 20).reader(0)
}

fn filled(folder: &Folder, seed: u64) -> Home {
    let home = grown_small(seed);
    let mut views = Views::open(folder.path()).expect("a new file");
    views.apply(&home.events, home.community.state()).expect("applied");
    home
}

fn sql(folder: &Folder, statements: &str) {
    let db = Connection::open(folder.path()).expect("open");
    db.execute_batch(statements).expect("executed");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = Folder::new();
    let home = filled(&folder, 200);
    sql(&folder, &format!("PRAGMA user_version = {}", SCHEMA_VERSION + 6));
    let before = std::fs::read(folder.path()).expect("readable");
    let errors = [
        Views::open(folder.path()).expect_err("newer"),
        Views::open_or_rebuild(folder.path(), &home.community.id()).expect_err("newer"),
        Reader::open(folder.path()).expect_err("newer"),
    ];
    for error in errors {
        let OpenError::Newer { found, supported, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*found, *supported), (SCHEMA_VERSION + 6, SCHEMA_VERSION));
        let shown = error.to_string();
        assert!(shown.contains(&found.to_string()) && shown.contains(&supported.to_string()), "{shown}");
    }
    assert_eq!(std::fs::read(folder.path()).expect("readable"), before);
}

#[test]
fn a_damaged_file_is_made_again() {
    let folder = Folder::new();
    for damage in 0..4 {
        let home = filled(&folder, 210);
        match damage {
            0 => {
                std::fs::write(folder.path(), b"not a database, but long enough to look at").expect("written")
            }
            1 => sql(&folder, "DROP TABLE members"),
            2 => {
                let bytes = std::fs::read(folder.path()).expect("readable");
                std::fs::write(folder.path(), &bytes[..bytes.len() / 2]).expect("written");
            }
            _ => {
                let mut bytes = std::fs::read(folder.path()).expect("readable");
                bytes[100..4_096].fill(0xff); // the schema's page
                std::fs::write(folder.path(), bytes).expect("written");
            }
        }
        let error = Views::open(folder.path()).expect_err("damaged");
        assert!(error.is_rebuildable(), "damage {damage}: {error:?}");
        let opened = Views::open_or_rebuild(folder.path(), &home.community.id()).expect("made again");
        assert!(opened.discarded.is_some_and(|reason| reason.is_rebuildable()));
        let mut views = opened.views;
        assert!(views.cursors().expect("cursors").is_empty());
        views.apply(&home.events, home.community.state()).expect("applied");
        assert_eq!(views.dump().expect("dumped"), rebuilt(&home.events, home.community.state()));
    }
}

#[test]
fn damage_deep_in_the_file_is_told_from_a_failing_medium() {
    let folder = Folder::new();
    let home = filled(&folder, 215);
    let page = |table: &str| -> usize {
        let db = Connection::open(folder.path()).expect("open");
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        db.query_row(sql, [table], |row| row.get::<_, isize>(0)).expect("a page").unsigned_abs()
    };
    let mut bytes = std::fs::read(folder.path()).expect("readable");
    for table in ["members", "messages"] {
        bytes[(page(table) - 1) * 4_096..][..4_096].fill(0xff);
    }
    std::fs::write(folder.path(), bytes).expect("written");
    let mut views = Views::open(folder.path()).expect("not seen yet");
    let error = views.apply(&home.events, home.community.state()).expect_err("seen now");
    assert!(matches!(error, ViewsError::Damaged { .. }), "{error:?}");
    let channel = *home.community.state().charter.channels.keys().next().expect("a channel");
    let reader = Reader::open(folder.path()).expect("not seen yet");
    let error = reader.messages(&channel, 9, None).expect_err("seen now");
    assert!(matches!(error, QueryError::Damaged { .. }), "{error:?}");
    drop((views, reader));
    let mut views = Views::recreate(folder.path()).expect("made again");
    views.apply(&home.events, home.community.state()).expect("applied");
    assert_eq!(views.dump().expect("dumped"), rebuilt(&home.events, home.community.state()));
}

#[test]
fn views_of_another_community_are_not_mixed() {
    let folder = Folder::new();
    let (one, two) = (filled(&folder, 220), grown_small(221));
    let (one_id, two_id) = (one.community.id(), two.community.id());
    let mut views = Views::open(folder.path()).expect("open");
    let before = views.dump().expect("dumped");
    let error = views.apply(&two.events, two.community.state()).expect_err("another's");
    assert!(
        matches!(error, ViewsError::OtherCommunity { found, expected } if found == one_id && expected == two_id)
    );
    let error = views.apply(&two.events, one.community.state()).expect_err("another's");
    assert!(matches!(error, ViewsError::ForeignEvent { found, .. } if found == two_id));
    assert_eq!(views.dump().expect("dumped"), before);
    drop(views);

    let kept = Views::open_or_rebuild(folder.path(), &one_id).expect("its own");
    assert!(kept.discarded.is_none());
    drop(kept);
    let opened = Views::open_or_rebuild(folder.path(), &two_id).expect("made again");
    assert!(matches!(opened.discarded, Some(OpenError::OtherCommunity { .. })));
    assert_eq!(opened.views.community().expect("readable"), None);
}

#[test]
fn a_file_of_another_program_is_never_deleted() {
    let folder = Folder::new();
    sql(
        &folder,
        "CREATE TABLE letters (text TEXT); INSERT INTO letters VALUES ('dear'); PRAGMA user_version = -3",
    );
    let community = World::found(230).id();
    let error = Views::open_or_rebuild(folder.path(), &community).expect_err("not ours");
    assert!(matches!(error, OpenError::NotViews { .. }), "{error:?}");
    sql(&folder, "SELECT text FROM letters");
    assert!(matches!(Views::open(folder.0.path().join("no/views.db")), Err(OpenError::Sqlite { .. })));
}

/// The rows of version 1 say too little: they go, and all events are to be
/// told again.
#[test]
fn a_file_of_version_1_is_migrated() {
    let folder = Folder::new();
    sql(&folder, include_str!("version_1.sql"));
    let error = Reader::open(folder.path()).expect_err("readers do not migrate");
    assert!(matches!(error, OpenError::Older { found: 1, .. }), "{error:?}");

    let views = Views::open(folder.path()).expect("migrated");
    assert_eq!(views.community().expect("readable"), Some(CommunityId::from_bytes([0; 32])));
    assert!(views.cursors().expect("cursors").is_empty());
    let dump = views.dump().expect("dumped");
    assert!(dump.starts_with(&format!("schema|{SCHEMA_VERSION}\n")));
    for emptied in ["cursors|", "messages|", "lock_events|", "members|", "locks|"] {
        assert!(!dump.lines().any(|line| line.starts_with(emptied)), "{emptied} {dump}");
    }
    assert!(dump.contains("community|x'00"), "the community stays: {dump}");
    // The same tables as in a file that was new with this version.
    let shape = |folder: &Folder| -> Vec<String> {
        let db = Connection::open(folder.path()).expect("open");
        let sql = "SELECT t.name || '.' || c.name || ' ' || c.type || c.\"notnull\" || c.pk \
                   FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' ORDER BY 1";
        let mut select = db.prepare(sql).expect("a query");
        let rows = select.query_map([], |row| row.get(0)).expect("asked");
        rows.collect::<Result<_, _>>().expect("text")
    };
    let new = Folder::new();
    drop(Views::open(new.path()).expect("a new file"));
    assert_eq!(shape(&folder), shape(&new));

    // And fit for use: a state mirrors into it, whatever rows were there.
    drop(views);
    let mut views = Views::open(folder.path()).expect("open");
    let state = CommunityState::empty(CommunityId::from_bytes([0; 32]));
    views.apply(&[], &state).expect("applied");
    assert_eq!(views.dump().expect("dumped"), rebuilt(&[], &state));
    Reader::open(folder.path()).expect("up to date");
}

#[test]
fn readers_wait_for_no_migration() {
    let folder = Folder::new();
    assert!(matches!(Reader::open(folder.path()), Err(OpenError::Sqlite { .. })));
    sql(&folder, "VACUUM");
    assert!(matches!(Reader::open(folder.path()), Err(OpenError::Older { found: 0, .. })));
}

#[test]
fn a_gap_tells_what_is_missing_and_changes_nothing() {
    let mut world = World::found(240);
    let hall = world.homes[0].open_channel(1, false);
    for index in 0..8 {
        world.post(0, hall, &format!("message {index}")).expect("a member");
    }
    let home = world.reader(0);
    let state = home.community.state();
    let of_hall = |event: &&VerifiedEvent| event.feed.stream == exo_model::Stream::Channel(hall);
    let feed: Vec<VerifiedEvent> = home.events.iter().filter(of_hall).cloned().collect();
    let folder = Folder::new();
    let mut views = Views::open(folder.path()).expect("a new file");
    views.apply(&feed[..2], state).expect("applied");
    let before = views.dump().expect("dumped");
    let mut batch = feed[1..4].to_vec();
    batch.extend_from_slice(&feed[5..]);
    let error = views.apply(&batch, state).expect_err("the fifth is missing");
    let ViewsError::Gap { feed: named, from_seq, met_seq } = error else { panic!("{error:?}") };
    assert_eq!((named, from_seq, met_seq), (feed[0].feed, 5, 6));
    assert_eq!(views.dump().expect("dumped"), before);
    views.apply(&feed, state).expect("from the start is fine too");
    assert_eq!(views.cursors().expect("cursors")[&feed[0].line()], feed.len() as u64);
}

#[test]
fn what_is_known_already_costs_no_write() {
    let home = grown(250, 60).reader(0);
    let (events, state) = (home.events.clone(), Arc::new(home.community.state().clone()));
    let folder = Folder::new();
    let mut views = Views::open(folder.path()).expect("a new file");
    let first = views.apply_shared(&events, &state).expect("applied");
    assert_eq!(first.events, events.len());
    assert!(first.messages > 0 && first.state_rows > 0);
    assert_eq!(views.apply_shared(&events, &state).expect("applied"), Applied::default());
    assert_eq!(views.apply(&events, &state).expect("applied"), Applied::default());
    // An empty batch still brings the tables to the state.
    let mut renamed = (*state).clone();
    let settings = Arc::make_mut(&mut renamed.charter).settings.as_mut();
    settings.expect("founded").name = "Meadow".into();
    assert_eq!(views.apply(&[], &renamed).expect("applied").state_rows, 1);
    // And so does the state that was shared before that.
    assert_eq!(views.apply_shared(&[], &state).expect("applied").state_rows, 1);
    assert_eq!(views.dump().expect("dumped"), rebuilt(&events, &state));
}
