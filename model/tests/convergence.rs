//! M5: the state is a function of the set of events. Every order of delivery
//! gives one state and one hash, with all keys at hand or with keys that come
//! in their own time. Charter and ledger are held to references elsewhere;
//! here is all of it together.

mod home;

use std::collections::{BTreeMap, VecDeque};

use exo_model::amount::Amount;
use exo_model::charter::Role;
use exo_model::decide::Intent;
use exo_model::event::CharterEvent;
use exo_model::event::keys::Audience;
use exo_model::event::ledger::Account;
use exo_model::feed::gate::AcceptedRun;
use exo_model::feed::{FeedId, Stream};
use exo_model::port::Signer as _;
use exo_model::sealing::{EpochKey, SealingKey};
use exo_model::signature::SecretKey;
use exo_model::weights::LayerRange;
use exo_model::{BlobHash, ChannelId, Community, CommunityState, JobId};
use home::seeded::{Rng, permutations};
use home::{Home, Person, Seeded, found, manifest, meet};

const MODEL: BlobHash = BlobHash::from_bytes([0xb1; 32]);

/// A history with races: two members admit on a one-use invite and a third
/// opens a channel without the right, while credit moves and models come.
struct History {
    /// Everyone, with everything.
    everyone: Vec<Home>,
}

fn history() -> History {
    let mut a = found("Ana", &Person::new(1));
    a.open_channel(1, false);
    let many = a.invite(5);
    let mut b = a.admit("Ben", &Person::new(2), &many);
    let mut c = a.admit("Cleo", &Person::new(3), &many);
    let once = a.invite(1);
    a.act(Intent::AddModel(manifest(MODEL)));
    meet(&mut [&mut a, &mut b, &mut c]);
    // Apart from here on.
    let mut d = b.admit("Dan", &Person::new(4), &once);
    let mut e = c.admit("Eve", &Person::new(5), &once);
    for newcomer in [&mut d, &mut e] {
        newcomer.act(offer(7));
    }
    b.act(Intent::AddModel(manifest(MODEL)));
    b.act(Intent::HostShard { model: MODEL, layers: LayerRange::new(0, 2).expect("in bounds") });
    c.force(channel(2, "taken"));
    c.act(Intent::SetProfile { name: "Clementine".into(), about: String::new() });
    a.force(channel(2, "real"));
    a.act(Intent::SetRole(c.person(), Role::Moderator));
    money(&mut a, &mut b);
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    b.act(Intent::Count);
    meet(&mut [&mut a, &mut b, &mut c, &mut d, &mut e]);
    History { everyone: vec![a, b, c, d, e] }
}

fn money(a: &mut Home, b: &mut Home) {
    let amount = Amount::from_token_mib(50);
    a.act(Intent::Transfer { to: Account::Device(b.device()), amount, note: "thanks".into() });
    a.act(Intent::Lock {
        job: JobId::from_bytes([1; 16]),
        payee: b.device(),
        max: Amount::from_token_mib(600),
    });
    let lock = a.act(Intent::Lock { job: JobId::from_bytes([2; 16]), payee: b.device(), max: amount });
    a.send_to(b);
    b.act(Intent::Close { lock, voucher: None });
}

fn offer(memory_bytes: u64) -> Intent {
    Intent::OfferMachine { memory_bytes, micros_per_mib: 1, addresses: Vec::new() }
}

fn channel(number: u8, name: &str) -> CharterEvent {
    let channel = ChannelId::from_bytes([number; 16]);
    CharterEvent::ChannelCreated { channel, name: name.into(), closed: false, guests: false }
}

impl History {
    /// All runs, feed by feed, each feed in its order.
    fn runs(&self) -> Vec<AcceptedRun> {
        self.everyone[0].store.values().flatten().cloned().collect()
    }

    /// Somebody who holds every key from the start, and no event yet.
    fn reader(&self) -> Community {
        let key = SecretKey::from_bytes(&[60; 32]);
        let id = self.everyone[0].community.id();
        let mut reader = Community::new(id, key.device(), SealingKey::of_device(&key));
        for home in &self.everyone {
            for id in home.community.keyring().ids() {
                let held = home.community.keyring().key(id).expect("held");
                reader.learn_key(EpochKey::from_bytes(held.as_bytes()));
            }
        }
        reader
    }

    fn state(&self) -> &CommunityState {
        self.everyone[0].community.state()
    }
}

fn assert_same(state: &CommunityState, expected: &CommunityState, what: &str) {
    assert_eq!(state.hash(), expected.hash(), "{what}");
    assert_eq!(state.charter, expected.charter, "{what}");
    assert_eq!((&state.machines, &state.models), (&expected.machines, &expected.models), "{what}");
    assert_eq!(state.headroom, expected.headroom, "{what}");
}

#[test]
fn the_history_says_what_its_events_say() {
    let history = history();
    for home in &history.everyone {
        assert_same(home.community.state(), history.state(), &home.name);
    }
    let state = history.state();
    assert_eq!(state.charter.members.len(), 4, "one of two newcomers has the invite");
    assert_eq!(state.charter.channels[&ChannelId::from_bytes([2; 16])].name, "real");
    assert_eq!(state.machines.len(), 2, "the host's, and that of the newcomer who came in");
    assert_eq!(state.models[&MODEL].holders.len(), 2);
    let balance = |home: usize| state.ledger.balance(&Account::Device(history.everyone[home].device()));
    assert_eq!((balance(0).token_mib(), balance(1).token_mib()), (-50, 50));
    assert_eq!(state.ledger.total(), 0);
}

/// The founding apart, and everyone else's events by writer.
fn by_writer(runs: &[AcceptedRun]) -> Vec<Vec<AcceptedRun>> {
    let is_founding = |run: &AcceptedRun| run.feed().stream == Stream::Charter && run.first_seq() == 1;
    let founder = runs.iter().find(|run| is_founding(run) && blake3_is_id(run)).expect("a founding");
    let mut batches: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for run in runs.iter().filter(|run| *run != founder) {
        batches.entry(run.feed().device).or_default().push(run.clone());
    }
    std::iter::once(vec![founder.clone()]).chain(batches.into_values()).collect()
}

fn blake3_is_id(run: &AcceptedRun) -> bool {
    blake3::hash(&run.changes()[0].payload).as_bytes() == run.feed().community.as_bytes()
}

#[test]
fn m05_every_delivery_order_of_six_batches_gives_one_state() {
    let history = history();
    let batches = by_writer(&history.runs());
    assert_eq!(batches.len(), 6);
    let mut count = 0;
    permutations(&[0, 1, 2, 3, 4, 5], &mut |order| {
        // What comes before the founding waits whole; a founder's charter does
        // not go on before it began.
        let place = |batch| order.iter().position(|other| *other == batch);
        let founders = batches.iter().position(|batch| batch.iter().any(|run| follows(run, &batches[0][0])));
        if place(0) > place(founders.expect("the founder wrote on")) {
            return;
        }
        count += 1;
        let mut reader = history.reader();
        for run in order.iter().flat_map(|batch| &batches[*batch]) {
            reader.insert(run);
        }
        assert_same(reader.state(), history.state(), &format!("{order:?}"));
    });
    assert_eq!(count, 360);
}

fn follows(run: &AcceptedRun, first: &AcceptedRun) -> bool {
    run.feed() == first.feed() && run.start() == first.end()
}

/// Any order that keeps each feed in its own.
fn shuffled(rng: &mut Rng, runs: &[AcceptedRun]) -> Vec<AcceptedRun> {
    let mut feeds: BTreeMap<FeedId, VecDeque<AcceptedRun>> = BTreeMap::new();
    for run in runs {
        feeds.entry(*run.feed()).or_default().push_back(run.clone());
    }
    let mut turns: Vec<FeedId> = runs.iter().map(|run| *run.feed()).collect();
    rng.shuffle(&mut turns);
    turns.iter().filter_map(|feed| feeds.get_mut(feed)?.pop_front()).collect()
}

#[test]
fn m05_p01_shuffles_run_by_run_agree_and_so_does_every_prefix() {
    let history = history();
    let (runs, mut rng) = (history.runs(), Rng(100));
    for round in 0..40 {
        let order = shuffled(&mut rng, &runs);
        let mut growing = history.reader();
        for (count, run) in (1..).zip(&order) {
            growing.insert(run);
            if round < 4 && count % 10 == 0 {
                // A fresh reduce of the same events, in the order of feeds.
                let mut prefix = order[..count].to_vec();
                prefix.sort_by_key(|run| (*run.feed(), run.first_seq()));
                let mut fresh = history.reader();
                prefix.iter().for_each(|run| drop(fresh.insert(run)));
                assert_same(growing.state(), fresh.state(), "a prefix");
            }
        }
        assert_same(growing.state(), history.state(), &format!("round {round}"));
    }
}

/// A member's second replica, to which keys come as events, some of them after
/// what they open.
#[test]
fn m05_keys_that_come_late_open_what_waited() {
    let history = history();
    let (runs, mut rng) = (history.runs(), Rng(200));
    let original = &history.everyone[1];
    for round in 0..12 {
        let key = SecretKey::from_bytes(&original.key.to_bytes());
        let mut replica = Home::new("Ben again", original.community.id(), key, Seeded::new(round));
        history.everyone[0].hand_governance_to(&mut replica);
        for run in shuffled(&mut rng, &runs) {
            replica.keep(run);
        }
        assert_same(replica.community.state(), original.community.state(), &format!("round {round}"));
        let held = |home: &Home| home.community.keyring().ids().copied().collect::<Vec<_>>();
        assert_eq!(held(&replica), held(original));
        let audience = Audience::Members;
        assert_eq!(replica.community.writing_key(&audience), original.community.writing_key(&audience));
    }
}

#[test]
fn runs_delivered_again_change_nothing() {
    let history = history();
    let (runs, mut rng) = (history.runs(), Rng(5));
    let mut reader = history.reader();
    runs.iter().for_each(|run| drop(reader.insert(run)));
    for _ in 0..5 {
        for run in shuffled(&mut rng, &runs) {
            let inserted = reader.insert(&run);
            assert!(!inserted.changed && inserted.events.is_empty(), "nothing is new");
        }
        assert_same(reader.state(), history.state(), "again");
    }
    for (feed, _) in reader.frontier().collect::<Vec<_>>() {
        let of_feed: Vec<_> = runs.iter().filter(|run| *run.feed() == feed).cloned().collect();
        reader.reopen(&feed, &of_feed);
        assert_same(reader.state(), history.state(), "read again");
    }
}

#[test]
fn n01_runs_of_another_community_change_nothing() {
    let history = history();
    let mut other = found("Ona", &Person::new(9));
    assert_ne!(other.community.id(), history.everyone[0].community.id());
    for home in &history.everyone {
        for id in home.community.keyring().ids() {
            let held = home.community.keyring().key(id).expect("held");
            other.community.learn_key(EpochKey::from_bytes(held.as_bytes()));
        }
    }
    let (before, lamport) = (other.community.state().clone(), other.community.next_lamport());
    for run in history.runs() {
        other.community.insert(&run);
    }
    assert_same(other.community.state(), &before, "untouched");
    assert_eq!(other.community.next_lamport(), lamport, "not even its clock");
}
