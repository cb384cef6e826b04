//! The writer on its thread.

use std::sync::Arc;
use std::sync::mpsc;

use exo_projections::writer::{INBOX_BATCHES_MAX, TrySubmitError, WriterGone};
use exo_projections::{Reader, Views, ViewsError, ViewsWriter};

use crate::grown::grown;
use crate::home::Home;
use crate::world::{Rng, World};
use crate::{Folder, rebuilt};

/// A community of one, with a message.
fn small(seed: u64) -> Home {
    let mut world = World::found(seed);
    let hall = world.homes[0].open_channel(1, false);
    world.post(0, hall, "hello").expect("a member");
    world.reader(0)
}

#[test]
fn batches_are_applied_in_order_and_reported() {
    let world = grown(300, 60);
    let folder = Folder::new();
    let (sender, outcomes) = mpsc::channel();
    let views = Views::open(folder.path()).expect("a new file");
    let writer = ViewsWriter::spawn(views, move |outcome| drop(sender.send(outcome))).expect("a thread");
    let mut home = world.blank(2);
    let mut state = Arc::new(home.community.state().clone());
    let (mut tickets, mut from_start) = (Vec::new(), 0);
    for run in world.shuffled(&mut Rng::new(300)).into_iter().flatten() {
        // As the app does: the same Arc while nothing changed, all of it again
        // where a key opened what was there before.
        let inserted = home.keep(run);
        let reopened = !inserted.reopen.is_empty();
        if inserted.changed || reopened {
            state = Arc::new(home.community.state().clone());
        }
        let ticket = if reopened {
            from_start += 1;
            writer.submit_from_start(home.events.clone(), Arc::clone(&state))
        } else {
            writer.submit(inserted.events, Arc::clone(&state))
        };
        tickets.push(ticket.expect("taken"));
    }
    assert!(from_start > 2, "{from_start}");
    writer.flush().expect("alive");
    let reported: Vec<u64> = outcomes
        .try_iter()
        .map(|outcome| {
            outcome.result.expect("applied");
            outcome.ticket
        })
        .collect();
    assert_eq!(reported, tickets);
    let reader = Reader::open(folder.path()).expect("readable");
    let whole = world.reader(2);
    assert_eq!(reader.dump().expect("dumped"), rebuilt(&whole.events, whole.community.state()));
    writer.shutdown().expect("ended");
    assert!(matches!(outcomes.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
}

#[test]
fn a_failed_batch_is_reported_and_healed_by_what_was_missing() {
    let whole = small(310);
    let state = Arc::new(whole.community.state().clone());
    let folder = Folder::new();
    let (sender, outcomes) = mpsc::channel();
    let views = Views::open(folder.path()).expect("a new file");
    let writer = ViewsWriter::spawn(views, move |outcome| drop(sender.send(outcome))).expect("a thread");
    let second = whole.events.iter().filter(|event| event.seq == 2).cloned().collect();
    writer.submit(second, Arc::clone(&state)).expect("taken");
    let error = outcomes.recv().expect("reported").result.expect_err("its start is missing");
    assert!(matches!(error, ViewsError::Gap { from_seq: 1, met_seq: 2, .. }), "{error:?}");
    writer.submit(whole.events.clone(), Arc::clone(&state)).expect("taken");
    writer.shutdown().expect("ended"); // applies what is in the inbox
    outcomes.recv().expect("reported").result.expect("applied");
    let dump = Views::open(folder.path()).expect("open").dump().expect("dumped");
    assert_eq!(dump, rebuilt(&whole.events, &state));
}

/// What takes the place of everything goes in whole or not at all, and nobody
/// who reads meets an empty file in between.
#[test]
fn a_batch_from_the_start_takes_the_place_of_all() {
    let whole = small(311);
    let state = Arc::new(whole.community.state().clone());
    let folder = Folder::new();
    let (sender, outcomes) = mpsc::channel();
    let mut views = Views::open(folder.path()).expect("a new file");
    views.apply(&whole.events, &state).expect("applied");
    let before = views.dump().expect("dumped");
    let writer = ViewsWriter::spawn(views, move |outcome| drop(sender.send(outcome))).expect("a thread");
    let reader = Reader::open(folder.path()).expect("readable");

    let broken = whole.events.iter().filter(|event| event.seq > 1).cloned().collect();
    writer.submit_from_start(broken, Arc::clone(&state)).expect("taken");
    let error = outcomes.recv().expect("reported").result.expect_err("not from the start");
    assert!(matches!(error, ViewsError::Gap { .. }), "{error:?}");
    assert_eq!(reader.dump().expect("dumped"), before);

    // The first half, then the rest: as one large batch is told.
    let (first, second) = whole.events.split_at(whole.events.len() / 2);
    writer.submit_from_start(first.to_vec(), Arc::clone(&state)).expect("taken");
    let applied = outcomes.recv().expect("reported").result.expect("applied");
    assert_eq!(applied.events, first.len(), "all are new again");
    assert_eq!(reader.dump().expect("dumped"), rebuilt(first, &state));
    writer.submit(second.to_vec(), state).expect("taken");
    assert_eq!(outcomes.recv().expect("reported").result.expect("applied").events, second.len());
    assert_eq!(reader.dump().expect("dumped"), before);
}

#[test]
fn a_full_inbox_hands_the_batch_back() {
    let whole = small(320);
    let (events, state) = (whole.events.clone(), Arc::new(whole.community.state().clone()));
    let folder = Folder::new();
    let (started, has_started) = mpsc::channel();
    let (release, wait) = mpsc::channel::<()>();
    let views = Views::open(folder.path()).expect("a new file");
    let writer = ViewsWriter::spawn(views, move |_| {
        started.send(()).ok();
        wait.recv().ok();
    })
    .expect("a thread");
    // The thread is held up in its first outcome; the inbox fills.
    writer.submit(events.clone(), Arc::clone(&state)).expect("taken");
    has_started.recv().expect("the first outcome");
    for _ in 0..INBOX_BATCHES_MAX {
        writer.try_submit(Vec::new(), Arc::clone(&state)).expect("room");
    }
    let error = writer.try_submit(events.clone(), Arc::clone(&state)).expect_err("full");
    let TrySubmitError::Full(back) = error else { panic!("{error:?}") };
    assert_eq!(back, events);
    drop(release);
    writer.flush().expect("alive");
    writer.try_submit(back, state).expect("room again");
}

#[test]
fn a_dead_thread_is_noticed() {
    let state = Arc::new(small(330).community.state().clone());
    let folder = Folder::new();
    let views = Views::open(folder.path()).expect("a new file");
    let writer = ViewsWriter::spawn(views, |_| panic!("expected by this test")).expect("a thread");
    writer.submit(Vec::new(), Arc::clone(&state)).expect("taken");
    assert_eq!(writer.flush(), Err(WriterGone));
    assert_eq!(writer.submit(Vec::new(), state), Err(WriterGone));
    assert_eq!(writer.shutdown(), Err(WriterGone));
}
