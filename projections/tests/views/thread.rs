//! The writer on its thread.

use std::sync::Arc;
use std::sync::mpsc;

use exo_model::community::Community;
use exo_projections::writer::{INBOX_BATCHES_MAX, TrySubmitError, WriterGone};
use exo_projections::{Reader, Views, ViewsError, ViewsWriter};

use crate::world::{Rng, grown};
use crate::{Home, rebuilt};

#[test]
fn batches_are_applied_in_order_and_reported() {
    let world = grown(300, 100);
    let home = Home::new();
    let (sender, outcomes) = mpsc::channel();
    let views = Views::open(home.path()).expect("a new file");
    let writer = ViewsWriter::spawn(views, move |outcome| drop(sender.send(outcome))).expect("a thread");
    let mut community = Community::new(world.id);
    let mut state = Arc::new(community.state().clone());
    let mut tickets = Vec::new();
    for batch in world.shuffled(&mut Rng::new(300)) {
        // As the app does: the same Arc while nothing changed.
        if community.insert(&batch) {
            state = Arc::new(community.state().clone());
        }
        tickets.push(writer.submit(batch, Arc::clone(&state)).expect("taken"));
    }
    writer.flush().expect("alive");
    let reported: Vec<u64> = outcomes
        .try_iter()
        .map(|outcome| {
            outcome.result.expect("applied");
            outcome.ticket
        })
        .collect();
    assert_eq!(reported, tickets);
    let reader = Reader::open(home.path()).expect("readable");
    assert_eq!(reader.dump().expect("dumped"), rebuilt(&world.events(), &world.state()));
    writer.shutdown().expect("ended");
    assert!(matches!(outcomes.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
}

#[test]
fn a_failed_batch_is_reported_and_healed_by_what_was_missing() {
    let world = grown(310, 60);
    let state = Arc::new(world.state());
    let home = Home::new();
    let (sender, outcomes) = mpsc::channel();
    let views = Views::open(home.path()).expect("a new file");
    let writer = ViewsWriter::spawn(views, move |outcome| drop(sender.send(outcome))).expect("a thread");
    let feed = world.feeds().into_iter().max_by_key(Vec::len).expect("a longest feed");
    writer.submit(feed[2..].to_vec(), Arc::clone(&state)).expect("taken");
    let error = outcomes.recv().expect("reported").result.expect_err("its start is missing");
    assert!(matches!(error, ViewsError::Gap { from_seq: 1, met_seq: 3, .. }), "{error:?}");
    writer.submit(world.events(), Arc::clone(&state)).expect("taken");
    writer.shutdown().expect("ended"); // applies what is in the inbox
    outcomes.recv().expect("reported").result.expect("applied");
    let dump = Views::open(home.path()).expect("open").dump().expect("dumped");
    assert_eq!(dump, rebuilt(&world.events(), &state));
}

#[test]
fn a_full_inbox_hands_the_batch_back() {
    let world = grown(320, 0);
    let (events, state) = (world.events(), Arc::new(world.state()));
    let home = Home::new();
    let (started, has_started) = mpsc::channel();
    let (release, wait) = mpsc::channel::<()>();
    let views = Views::open(home.path()).expect("a new file");
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
    let world = grown(330, 0);
    let state = Arc::new(world.state());
    let home = Home::new();
    let views = Views::open(home.path()).expect("a new file");
    let writer = ViewsWriter::spawn(views, |_| panic!("expected by this test")).expect("a thread");
    writer.submit(Vec::new(), Arc::clone(&state)).expect("taken");
    assert_eq!(writer.flush(), Err(WriterGone));
    assert_eq!(writer.submit(Vec::new(), state), Err(WriterGone));
    assert_eq!(writer.shutdown(), Err(WriterGone));
}
