//! Files that are not as they should be, and batches that do not fit.

use std::sync::Arc;

use exo_model::VerifiedEvent;
use exo_projections::schema::SCHEMA_VERSION;
use exo_projections::{Applied, OpenError, QueryError, Reader, Views, ViewsError};
use rusqlite::Connection;

use crate::world::{World, grown};
use crate::{Home, rebuilt};

fn filled(home: &Home, seed: u64) -> World {
    let world = grown(seed, 40);
    Views::open(home.path()).expect("a new file").apply(&world.events(), &world.state()).expect("applied");
    world
}

fn sql(home: &Home, statements: &str) {
    let db = Connection::open(home.path()).expect("open");
    db.execute_batch(statements).expect("executed");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let home = Home::new();
    let world = filled(&home, 200);
    sql(&home, &format!("PRAGMA user_version = {}", SCHEMA_VERSION + 6));
    let before = std::fs::read(home.path()).expect("readable");
    let errors = [
        Views::open(home.path()).expect_err("newer"),
        Views::open_or_rebuild(home.path(), &world.id).expect_err("newer"),
        Reader::open(home.path()).expect_err("newer"),
    ];
    for error in errors {
        let OpenError::Newer { found, supported, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*found, *supported), (SCHEMA_VERSION + 6, SCHEMA_VERSION));
        let shown = error.to_string();
        assert!(shown.contains(&found.to_string()) && shown.contains(&supported.to_string()), "{shown}");
    }
    assert_eq!(std::fs::read(home.path()).expect("readable"), before);
}

#[test]
fn a_damaged_file_is_made_again() {
    let home = Home::new();
    for damage in 0..4 {
        let world = filled(&home, 210);
        match damage {
            0 => std::fs::write(home.path(), b"not a database, but long enough to look at").expect("written"),
            1 => sql(&home, "DROP TABLE members"),
            2 => {
                let bytes = std::fs::read(home.path()).expect("readable");
                std::fs::write(home.path(), &bytes[..bytes.len() / 2]).expect("written");
            }
            _ => {
                let mut bytes = std::fs::read(home.path()).expect("readable");
                bytes[100..4_096].fill(0xff); // the schema's page
                std::fs::write(home.path(), bytes).expect("written");
            }
        }
        let error = Views::open(home.path()).expect_err("damaged");
        assert!(error.is_rebuildable(), "damage {damage}: {error:?}");
        let opened = Views::open_or_rebuild(home.path(), &world.id).expect("made again");
        assert!(opened.discarded.is_some_and(|reason| reason.is_rebuildable()));
        let mut views = opened.views;
        assert!(views.cursors().expect("cursors").is_empty());
        views.apply(&world.events(), &world.state()).expect("applied");
        assert_eq!(views.dump().expect("dumped"), rebuilt(&world.events(), &world.state()));
    }
}

#[test]
fn damage_deep_in_the_file_is_told_from_a_failing_medium() {
    let home = Home::new();
    let world = filled(&home, 215);
    let page = |table: &str| -> usize {
        let db = Connection::open(home.path()).expect("open");
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        db.query_row(sql, [table], |row| row.get::<_, isize>(0)).expect("a page").unsigned_abs()
    };
    let mut bytes = std::fs::read(home.path()).expect("readable");
    for table in ["members", "messages"] {
        bytes[(page(table) - 1) * 4_096..][..4_096].fill(0xff);
    }
    std::fs::write(home.path(), bytes).expect("written");
    let mut views = Views::open(home.path()).expect("not seen yet");
    let error = views.apply(&world.events(), &world.state()).expect_err("seen now");
    assert!(matches!(error, ViewsError::Damaged { .. }), "{error:?}");
    let channel = *world.state().channels.keys().next().expect("a channel");
    let reader = Reader::open(home.path()).expect("not seen yet");
    let error = reader.messages(&channel, 9, None).expect_err("seen now");
    assert!(matches!(error, QueryError::Damaged { .. }), "{error:?}");
    drop((views, reader));
    let mut views = Views::recreate(home.path()).expect("made again");
    views.apply(&world.events(), &world.state()).expect("applied");
    assert_eq!(views.dump().expect("dumped"), rebuilt(&world.events(), &world.state()));
}

#[test]
fn views_of_another_community_are_not_mixed() {
    let home = Home::new();
    let (one, two) = (filled(&home, 220), grown(221, 40));
    let mut views = Views::open(home.path()).expect("open");
    let before = views.dump().expect("dumped");
    let error = views.apply(&two.events(), &two.state()).expect_err("another's");
    assert!(
        matches!(error, ViewsError::OtherCommunity { found, expected } if found == one.id && expected == two.id)
    );
    let error = views.apply(&two.events(), &one.state()).expect_err("another's");
    assert!(matches!(error, ViewsError::ForeignEvent { found, .. } if found == two.id));
    assert_eq!(views.dump().expect("dumped"), before);
    drop(views);

    let kept = Views::open_or_rebuild(home.path(), &one.id).expect("its own");
    assert!(kept.discarded.is_none());
    drop(kept);
    let opened = Views::open_or_rebuild(home.path(), &two.id).expect("made again");
    assert!(matches!(opened.discarded, Some(OpenError::OtherCommunity { .. })));
    assert_eq!(opened.views.community().expect("readable"), None);
}

#[test]
fn a_file_of_another_program_is_never_deleted() {
    let home = Home::new();
    sql(
        &home,
        "CREATE TABLE letters (text TEXT); INSERT INTO letters VALUES ('dear'); PRAGMA user_version = -3",
    );
    let community = grown(230, 0).id;
    let error = Views::open_or_rebuild(home.path(), &community).expect_err("not ours");
    assert!(matches!(error, OpenError::NotViews { .. }), "{error:?}");
    sql(&home, "SELECT text FROM letters");
    assert!(matches!(Views::open(home.folder.path().join("no/views.db")), Err(OpenError::Sqlite { .. })));
}

#[test]
fn readers_wait_for_no_migration() {
    let home = Home::new();
    assert!(matches!(Reader::open(home.path()), Err(OpenError::Sqlite { .. })));
    sql(&home, "VACUUM");
    assert!(matches!(Reader::open(home.path()), Err(OpenError::Older { found: 0, .. })));
}

#[test]
fn a_gap_tells_what_is_missing_and_changes_nothing() {
    let world = grown(240, 60);
    let state = world.state();
    let feed: Vec<VerifiedEvent> = world.feeds().into_iter().max_by_key(Vec::len).expect("a longest feed");
    let home = Home::new();
    let mut views = Views::open(home.path()).expect("a new file");
    views.apply(&feed[..2], &state).expect("applied");
    let before = views.dump().expect("dumped");
    let mut batch = feed[1..4].to_vec();
    batch.extend_from_slice(&feed[5..]);
    let error = views.apply(&batch, &state).expect_err("the fifth is missing");
    let ViewsError::Gap { feed: named, from_seq, met_seq } = error else { panic!("{error:?}") };
    assert_eq!((named, from_seq, met_seq), (feed[0].feed, 5, 6));
    assert_eq!(views.dump().expect("dumped"), before);
    views.apply(&feed, &state).expect("from the start is fine too");
    assert_eq!(views.cursors().expect("cursors")[&feed[0].feed], feed.len() as u64);
}

#[test]
fn what_is_known_already_costs_no_write() {
    let world = grown(250, 80);
    let (events, state) = (world.events(), Arc::new(world.state()));
    let home = Home::new();
    let mut views = Views::open(home.path()).expect("a new file");
    let first = views.apply_shared(&events, &state).expect("applied");
    assert_eq!(first.events, events.len());
    assert!(first.messages > 0 && first.state_rows > 0);
    assert_eq!(views.apply_shared(&events, &state).expect("applied"), Applied::default());
    assert_eq!(views.apply(&events, &state).expect("applied"), Applied::default());
    // An empty batch still brings the tables to the state.
    let mut renamed = (*state).clone();
    renamed.name = "Meadow".into();
    assert_eq!(views.apply(&[], &renamed).expect("applied").state_rows, 1);
    // And so does the state that was shared before that.
    assert_eq!(views.apply_shared(&[], &state).expect("applied").state_rows, 1);
    assert_eq!(views.dump().expect("dumped"), rebuilt(&events, &state));
}
