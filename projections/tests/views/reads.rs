//! Queries, held against what the state and the events say themselves.

use std::collections::BTreeSet;

use exo_model::amount::Amount;
use exo_model::text::is_clean_message;
use exo_model::{ChannelId, CommunityState, DeviceId, Event, JobId, Stream, VerifiedEvent};
use exo_projections::query::PAGE_ROWS_MAX;
use exo_projections::rows::{MessageRow, TransactionRow};
use exo_projections::{Reader, Views};

use crate::Home;
use crate::world::{World, grown};

/// What a channel shows, found the slow way.
pub(crate) fn expected_messages(
    events: &[VerifiedEvent],
    state: &CommunityState,
    channel: &ChannelId,
) -> Vec<(DeviceId, u64, String)> {
    let mut shown: Vec<_> = events
        .iter()
        .filter(|event| event.feed.stream == Stream::Channel(*channel))
        .filter(|event| state.is_member(&event.feed.device) && state.channels.contains_key(channel))
        .filter_map(|event| match &event.event {
            Ok(Event::MessagePosted { text }) if is_clean_message(text) => Some((event, text)),
            _ => None,
        })
        .collect();
    shown.sort_by_key(|(event, _)| (event.lamport, event.time_ms, event.hash));
    shown.into_iter().map(|(event, text)| (event.feed.device, event.seq, text.clone())).collect()
}

fn all_messages(reader: &Reader, channel: &ChannelId, page_rows: usize) -> Vec<MessageRow> {
    let mut all: Vec<MessageRow> = Vec::new();
    loop {
        let before = all.first().map(MessageRow::cursor);
        let page = reader.messages(channel, page_rows, before).expect("a page");
        if page.is_empty() {
            return all;
        }
        all.splice(0..0, page);
    }
}

#[test]
fn pages_are_the_messages_of_members_in_order() {
    for seed in 100..106 {
        let world = grown(seed, 150);
        let (events, state) = (world.events(), world.state());
        let home = Home::new();
        Views::open(home.path()).expect("a new file").apply(&events, &state).expect("applied");
        let reader = Reader::open(home.path()).expect("readable");
        let mut channels: Vec<ChannelId> = state.channels.keys().copied().collect();
        channels.push(ChannelId::from_bytes([9; 16])); // written to, never created
        let mut total = 0;
        for channel in &channels {
            let expected = expected_messages(&events, &state, channel);
            for page_rows in [1, 7, PAGE_ROWS_MAX] {
                let rows = all_messages(&reader, channel, page_rows);
                assert!(rows.iter().all(|row| row.author_name == state.name_of(&row.author)));
                let shown: Vec<_> = rows.into_iter().map(|row| (row.author, row.seq, row.text)).collect();
                assert_eq!(shown, expected, "seed {seed}, pages of {page_rows}");
            }
            assert_eq!(reader.message_count(channel).expect("read"), expected.len() as u64);
            total += expected.len();
        }
        assert!(total > 10, "seed {seed}: {total} messages");
    }
}

#[test]
fn tables_say_what_the_state_says() {
    for seed in 120..126 {
        let world = grown(seed, 200);
        let state = world.state();
        let home = Home::new();
        Views::open(home.path()).expect("a new file").apply(&world.events(), &state).expect("applied");
        let reader = Reader::open(home.path()).expect("readable");

        let community = reader.community().expect("read").expect("there");
        assert_eq!(
            (community.id, community.name, community.floor),
            (state.id, state.name.clone(), state.ledger.floor())
        );
        people_match(&reader, &state);
        machines_and_models_match(&reader, &state);
        ledger_matches(&reader, &state);
    }
}

fn people_match(reader: &Reader, state: &CommunityState) {
    let members = reader.members().expect("read");
    assert_eq!(members.len(), state.members.len());
    assert!(members.is_sorted_by_key(|member| (member.name.clone(), member.device)));
    for row in members {
        let member = &state.members[&row.device];
        let expected = (member.name.as_str(), member.role, member.admitted_by, member.admitted_ms);
        assert_eq!((row.name.as_str(), row.role, row.admitted_by, row.admitted_ms), expected);
    }
    let channels = reader.channels().expect("read");
    assert_eq!(channels.len(), state.channels.len());
    assert!(channels.iter().all(|row| state.channels[&row.channel].name == row.name));
}

fn machines_and_models_match(reader: &Reader, state: &CommunityState) {
    let machines = reader.machines().expect("read");
    assert!(machines.iter().map(|row| &row.device).eq(state.machines.keys()));
    for row in &machines {
        let machine = &state.machines[&row.device];
        assert_eq!(row.memory_bytes, machine.memory_bytes.min(i64::MAX.unsigned_abs()));
        assert_eq!(row.micros_per_mib, machine.micros_per_mib);
        assert_eq!(row.addresses, machine.addresses);
        assert_eq!(row.name, state.name_of(&row.device));
    }
    let shards: BTreeSet<_> =
        reader.shards().expect("read").into_iter().map(|row| (row.device, row.model, row.layers)).collect();
    let expected: BTreeSet<_> = state
        .machines
        .iter()
        .flat_map(|(device, machine)| machine.shards.iter().map(|(model, layers)| (*device, *model, *layers)))
        .collect();
    assert_eq!(shards, expected);
    let models = reader.models().expect("read");
    assert_eq!(models.len(), state.models.len());
    for row in &models {
        let model = &state.models[&row.model];
        assert_eq!((&row.name, &row.holders), (&model.manifest.name, &model.holders));
        assert_eq!(row.layer_count, model.manifest.layer_count());
        assert_eq!(row.size_bytes, model.manifest.size_bytes);
    }
}

fn ledger_matches(reader: &Reader, state: &CommunityState) {
    let balances = reader.balances().expect("read");
    assert_eq!(balances.len(), state.members.len());
    for row in &balances {
        assert_eq!(row.balance, state.ledger.balance(&row.device));
        assert_eq!(row.available, state.ledger.available(&row.device));
        let held = row.balance.checked_sub(state.ledger.floor()).and_then(|free| free.checked_sub(row.held));
        assert_eq!(held, row.available);
    }
    let mut locks: Vec<TransactionRow> = Vec::new();
    loop {
        let page = reader.transactions(3, locks.first().map(TransactionRow::cursor)).expect("a page");
        if page.is_empty() {
            break;
        }
        locks.splice(0..0, page);
    }
    assert!(locks.is_sorted_by_key(|row| (row.lamport, row.time_ms, row.lock)));
    assert_eq!(locks.len(), state.ledger.locks().len());
    for row in &locks {
        let lock = &state.ledger.locks()[&row.lock];
        let expected = (lock.payer, lock.payee, lock.job, lock.max, lock.settled, lock.closed);
        assert_eq!((row.payer, row.payee, row.job, row.max, row.settled, row.closed), expected);
    }
    for job in reader.jobs(PAGE_ROWS_MAX).expect("read") {
        let own = || locks.iter().filter(|row| row.job == job.job && row.payer == job.payer);
        assert_eq!(job.locks, own().count() as u64);
        assert_eq!(job.open, own().filter(|row| !row.closed).count() as u64);
        assert_eq!(job.max.token_mib(), own().map(|row| row.max.token_mib()).sum::<i64>());
        assert_eq!(job.settled.token_mib(), own().map(|row| row.settled.token_mib()).sum::<i64>());
        assert_eq!(Some(job.started_ms), own().map(|row| row.time_ms).min());
    }
}

/// The largest locks there are, as many as SQLite's own sum could not add.
#[test]
fn sums_of_a_job_do_not_overflow() {
    use exo_model::decide::Intent;
    let mut world = World::found(140);
    let ticket = world.invite(1);
    let (ben, _) = world.admit(0, &ticket, "Ben").expect("admitted");
    let payee = world.peers[ben].device();
    let job = JobId::from_bytes([1; 16]);
    let lock = world.intend(0, Intent::Lock { job, payee, max: Amount::from_token_mib(400) });
    lock.expect("within the floor");
    let home = Home::new();
    let mut views = Views::open(home.path()).expect("a new file");
    views.apply(&world.events(), &world.state()).expect("applied");
    // The ledger reaches such sums only after 2^15 closed locks; two rows with
    // huge amounts are the same to the query.
    drop(views);
    let db = rusqlite::Connection::open(home.path()).expect("open");
    db.execute_batch(
        "INSERT INTO locks SELECT x'77', payer, payee, job, 9223372036854775807, 5, 0 FROM locks; \
         UPDATE locks SET max = 9223372036854775807; \
         INSERT INTO lock_events SELECT lamport, time_ms, x'77' FROM lock_events",
    )
    .expect("written");
    let jobs = Reader::open(home.path()).expect("readable").jobs(10).expect("read");
    assert_eq!((jobs.len(), jobs[0].locks), (1, 2));
    assert_eq!(jobs[0].max, Amount::from_token_mib(i64::MAX));
    assert_eq!(jobs[0].settled, Amount::from_token_mib(5));
}

#[test]
fn a_page_is_never_longer_than_the_limit() {
    let mut world = World::found(150);
    let hall = world.create_channel("hall");
    for index in 0..PAGE_ROWS_MAX + 3 {
        world.post(0, hall, &format!("message {index}")).expect("posted");
    }
    let home = Home::new();
    Views::open(home.path()).expect("a new file").apply(&world.events(), &world.state()).expect("applied");
    let reader = Reader::open(home.path()).expect("readable");
    let page = reader.messages(&hall, usize::MAX, None).expect("a page");
    assert_eq!((page.len(), page[0].text.as_str()), (PAGE_ROWS_MAX, "message 3"));
    assert!(reader.messages(&hall, 0, None).expect("a page").is_empty());
}
