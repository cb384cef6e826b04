//! Queries, held against what the state and the events say themselves.

use std::collections::BTreeSet;

use exo_model::amount::Amount;
use exo_model::community::WordStanding;
use exo_model::event::ledger::{Account, Purpose};
use exo_model::event::{Event, TalkEvent};
use exo_model::text::is_clean_message;
use exo_model::{ChannelId, CommunityState, DeviceId, Stream};
use exo_projections::query::PAGE_ROWS_MAX;
use exo_projections::rows::{MessageRow, TransactionRow};
use exo_projections::{Reader, Views};

use crate::Folder;
use crate::grown::grown;
use crate::home::Home;
use crate::world::{World, lock};

/// What a channel shows, found the slow way, by the model's own judgement of
/// each word.
pub(crate) fn expected_messages(home: &Home, channel: &ChannelId) -> Vec<(DeviceId, u64, String)> {
    let known = home.community.state().charter.channels.contains_key(channel);
    let mut shown: Vec<_> = home
        .events
        .iter()
        .filter(|event| known && event.feed.stream == Stream::Channel(*channel))
        .filter(|event| home.community.word_standing(event) == WordStanding::Counts)
        .filter_map(|event| match &event.event {
            Ok(Event::Talk(TalkEvent::Posted { text, .. })) if is_clean_message(text) => Some((event, text)),
            _ => None,
        })
        .collect();
    shown.sort_by_key(|(event, _)| (event.lamport, event.time_ms, event.hash));
    shown.into_iter().map(|(event, text)| (event.feed.device, event.seq, text.clone())).collect()
}

/// A whole reader of a community, and its views.
fn viewed(world: &World, number: usize) -> (Home, Folder) {
    let home = world.reader(number);
    let folder = Folder::new();
    let mut views = Views::open(folder.path()).expect("a new file");
    views.apply(&home.events, home.community.state()).expect("applied");
    (home, folder)
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
fn pages_are_the_messages_that_count_in_order() {
    for seed in 100..104 {
        let world = grown(seed, 120);
        for number in [0, 2] {
            let (home, folder) = viewed(&world, number);
            let charter = &home.community.state().charter;
            let reader = Reader::open(folder.path()).expect("readable");
            let mut channels: Vec<ChannelId> = charter.channels.keys().copied().collect();
            channels.push(ChannelId::from_bytes([9; 16])); // written to, never created
            let mut counts = Vec::new();
            for channel in &channels {
                let expected = expected_messages(&home, channel);
                for page_rows in [1, 7, PAGE_ROWS_MAX] {
                    let rows = all_messages(&reader, channel, page_rows);
                    assert!(rows.iter().all(|row| row.author_name == charter.name_of(&row.author)));
                    assert!(rows.iter().all(|row| row.author_name == charter.person_name(&row.person)));
                    let shown: Vec<_> = rows.into_iter().map(|row| (row.author, row.seq, row.text)).collect();
                    assert_eq!(shown, expected, "seed {seed}, pages of {page_rows}");
                }
                assert_eq!(reader.message_count(channel).expect("read"), expected.len() as u64);
                counts.push(expected.len());
            }
            assert!(counts[0] > 5, "seed {seed}: {counts:?}");
            // The second channel is closed, and the founder is not in it.
            assert_eq!(counts[1] > 0, number == 2, "seed {seed}: {counts:?}");
        }
    }
}

#[test]
fn tables_say_what_the_state_says() {
    let (mut gifts, mut departed) = (0, 0);
    for seed in 120..125 {
        let (home, folder) = viewed(&grown(seed, 150), 0);
        let state = home.community.state();
        let reader = Reader::open(folder.path()).expect("readable");

        let community = reader.community().expect("read").expect("there");
        let floor = state.charter.settings.as_ref().expect("founded").floors.friends;
        assert_eq!((community.id, community.name.as_str()), (state.id, state.charter.name()));
        assert_eq!(community.floor, floor);
        assert_eq!(community.balance, state.ledger.balance(&Account::Community));
        let sum: i64 = reader.balances().expect("read").iter().map(|row| row.balance.token_mib()).sum();
        assert_eq!(sum + community.balance.token_mib(), 0, "seed {seed}");
        gifts += i64::from(community.balance != Amount::ZERO);
        departed += state.charter.former.len();
        people_match(&reader, state);
        machines_and_models_match(&reader, state);
        ledger_matches(&reader, state);
    }
    assert!(gifts > 0 && departed > 0, "{gifts} communities with credit, {departed} people gone");
}

fn people_match(reader: &Reader, state: &CommunityState) {
    let members = reader.members().expect("read");
    assert_eq!(members.len(), state.charter.members.len());
    assert!(members.is_sorted_by_key(|member| (member.name.clone(), member.person)));
    for row in members {
        let member = &state.charter.members[&row.person];
        let expected = (member.name.as_str(), member.role, member.admitted_by, member.admitted_ms);
        assert_eq!((row.name.as_str(), row.role, row.admitted_by, row.admitted_ms), expected);
        assert_eq!((&row.devices, &row.about), (&member.devices, &member.about));
    }
    let channels = reader.channels().expect("read");
    assert_eq!(channels.len(), state.charter.channels.len());
    assert!(channels.iter().all(|row| state.charter.channels[&row.channel].name == row.name));
}

fn machines_and_models_match(reader: &Reader, state: &CommunityState) {
    let machines = reader.machines().expect("read");
    assert!(machines.iter().map(|row| &row.device).eq(state.machines.keys()));
    for row in &machines {
        let machine = &state.machines[&row.device];
        assert_eq!(row.memory_bytes, machine.memory_bytes.min(i64::MAX.unsigned_abs()));
        assert_eq!(row.micros_per_mib, machine.micros_per_mib);
        assert_eq!(row.addresses, machine.addresses);
        assert_eq!(row.name, state.charter.name_of(&row.device));
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
    assert_eq!(balances.len(), state.charter.devices.len() + state.charter.former_devices.len());
    assert!(balances.is_sorted_by_key(|row| (row.name.clone(), row.person, row.device)));
    for row in &balances {
        assert_eq!(row.balance, state.ledger.balance(&Account::Device(row.device)));
        assert_eq!(row.held, state.ledger.held(&row.device));
        assert_eq!(row.available, state.headroom.get(&row.device).copied());
        assert_eq!(row.available.is_some(), state.charter.is_member(&row.device));
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
        let Purpose::Job(job) = lock.purpose else { panic!("{lock:?}") };
        let expected = (lock.payer, lock.payee, Some(job), lock.max);
        assert_eq!((row.payer, row.payee, row.job, row.max), expected);
        assert_eq!((row.settled, row.closed), (lock.final_amount(), lock.closed.is_some()));
    }
    for job in reader.jobs(PAGE_ROWS_MAX).expect("read") {
        let own = || locks.iter().filter(|row| row.job == Some(job.job) && row.payer == job.payer);
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
    let mut world = World::found(140);
    let ben = world.join(0, "Ben");
    world.intend(0, lock(world.device(ben), 1, 400)).expect("within the floor");
    let (_home, folder) = viewed(&world, 0);
    // The ledger reaches such sums only after 2^15 closed locks; two rows with
    // huge amounts are the same to the query.
    let db = rusqlite::Connection::open(folder.path()).expect("open");
    db.execute_batch(
        "INSERT INTO locks SELECT x'77', payer, payee, job, 9223372036854775807, 5, 0 FROM locks; \
         UPDATE locks SET max = 9223372036854775807; \
         INSERT INTO lock_events SELECT lamport, time_ms, x'77' FROM lock_events",
    )
    .expect("written");
    let jobs = Reader::open(folder.path()).expect("readable").jobs(10).expect("read");
    assert_eq!((jobs.len(), jobs[0].locks), (1, 2));
    assert_eq!(jobs[0].max, Amount::from_token_mib(i64::MAX));
    assert_eq!(jobs[0].settled, Amount::from_token_mib(5));
}

#[test]
fn a_page_is_never_longer_than_the_limit() {
    let mut world = World::found(150);
    let hall = world.homes[0].open_channel(1, false);
    for index in 0..PAGE_ROWS_MAX + 3 {
        world.post(0, hall, &format!("message {index}")).expect("posted");
    }
    let (_home, folder) = viewed(&world, 0);
    let reader = Reader::open(folder.path()).expect("readable");
    let page = reader.messages(&hall, usize::MAX, None).expect("a page");
    assert_eq!((page.len(), page[0].text.as_str()), (PAGE_ROWS_MAX, "message 3"));
    assert!(reader.messages(&hall, 0, None).expect("a page").is_empty());
}
