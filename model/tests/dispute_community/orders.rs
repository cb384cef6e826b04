//! Orders of delivery: verdicts before their locks and locks before their
//! verdicts come to one state.

use std::collections::{BTreeMap, VecDeque};

use exo_model::charter::Role;
use exo_model::decide::Intent;
use exo_model::dispute::{Status, Step};
use exo_model::event::dispute::DisputeEvent;
use exo_model::event::ledger::Account;
use exo_model::feed::gate::AcceptedRun;
use exo_model::feed::{FeedId, Stream};
use exo_model::port::Signer as _;
use exo_model::sealing::{EpochKey, SealingKey};
use exo_model::signature::SecretKey;
use exo_model::{ChangeHash, Community, CommunityState};

use crate::home::permutations;
use crate::home::seeded::Rng;
use crate::village::{FOUNDER, LINE, MAX, PAYEE, PAYER, Village, finding, mib, voted};

/// A refund that is counted and partly given away, and then made smaller by
/// an appeal: the community, the lock and the dispute.
fn judged() -> (Village, ChangeHash, ChangeHash) {
    let mut village = Village::of([Role::Member, Role::Member, Role::Owner, Role::Owner, Role::Owner]);
    let lock = village.job(500);
    let dispute = village.disputed(lock, 500);
    let jurors = village.jurors(dispute, 0);
    village.votes(dispute, 0, &jurors, &[300, 300]);
    village.meet();
    village.homes[PAYER].act(Intent::Count);
    let to = Account::Device(village.homes[FOUNDER].device());
    village.homes[PAYER].act(Intent::Transfer { to, amount: mib(50), note: String::new() });
    village.meet();
    village.homes[FOUNDER].act(Intent::Count);
    village.act(PAYEE, DisputeEvent::Appealed { dispute });
    village.meet();
    let owner = village.jurors(dispute, 1)[0];
    village.act(owner, voted(dispute, 1, 100));
    village.meet();
    (village, lock, dispute)
}

/// Somebody who holds every key from the start, and no event yet.
fn reader(village: &Village) -> Community {
    let key = SecretKey::from_bytes(&[60; 32]);
    let id = village.homes[FOUNDER].community.id();
    let mut reader = Community::new(id, key.device(), SealingKey::of_device(&key));
    for home in &village.homes {
        for id in home.community.keyring().ids() {
            let held = home.community.keyring().key(id).expect("held");
            reader.learn_key(EpochKey::from_bytes(held.as_bytes()));
        }
    }
    reader
}

fn insert(reader: &mut Community, feeds: &[Vec<AcceptedRun>]) {
    for run in feeds.iter().flatten() {
        reader.insert(run);
        assert_eq!(reader.state().ledger.total(), 0);
    }
}

fn assert_same(state: &CommunityState, expected: &CommunityState, what: &str) {
    assert_eq!(state.charter, expected.charter, "{what}");
    assert_eq!(state.disputes, expected.disputes, "{what}");
    assert_eq!(state.headroom, expected.headroom, "{what}");
    assert_eq!(state.hash(), expected.hash(), "{what}");
}

#[test]
fn the_history_says_what_its_events_say() {
    let (village, lock, dispute) = judged();
    let state = village.agreed();
    assert_eq!(state.disputes.verdicts().count(), 1);
    let verdict = state.disputes.verdicts().next().expect("one");
    assert_eq!((verdict.dispute, verdict.lock), (dispute, lock));
    assert_eq!((verdict.payer, verdict.payee), (village.id(PAYER), village.id(PAYEE)));
    assert_eq!((verdict.refund, verdict.round), (mib(100), 1));
    let kept = state.disputes.get(&dispute).expect("it was opened");
    assert_eq!(kept.status(), Status::Decided(1));
    let steps: Vec<_> = kept.history().iter().map(|entry| entry.step).collect();
    let vote = |round, amount| Step::Voted { round, finding: finding(amount) };
    let expected =
        [Step::Opened, Step::Seeded, Step::Drawn, vote(0, 300), vote(0, 300), Step::Appealed, vote(1, 100)];
    assert_eq!(steps, expected);
    assert_eq!((village.balances(), village.balance(FOUNDER)), ([-500 + 100 - 50, 500 - 100], 50));
    assert_eq!(village.headrooms(), [LINE - MAX + 100 + 100 - 50, LINE + 500 - 100]);
}

#[test]
fn a_verdict_that_comes_before_its_lock_and_one_that_comes_after_are_one() {
    let (village, lock, dispute) = judged();
    let expected = village.agreed();
    let of = |stream: Stream| -> Vec<Vec<AcceptedRun>> {
        let feeds = village.homes[FOUNDER].store.iter();
        feeds.filter(|(feed, _)| feed.stream == stream).map(|(_, runs)| runs.clone()).collect()
    };
    let (charter, ledger) = (of(Stream::Charter), of(Stream::Ledger));
    assert_eq!(ledger.len(), 3, "the payer's, the payee's, and that of who got a gift");
    let mut count = 0;
    permutations(&ledger, &mut |ledger| {
        count += 1;
        let mut late = reader(&village);
        insert(&mut late, &charter);
        assert_eq!(late.state().disputes, expected.disputes, "the verdict is there");
        assert!(late.state().ledger.lock(&lock).is_none(), "what it is about is not");
        insert(&mut late, ledger);
        assert_same(late.state(), expected, "the charter first");

        let mut early = reader(&village);
        insert(&mut early, ledger);
        assert!(early.state().ledger.lock(&lock).is_none(), "it waits for its heads");
        assert!(early.state().disputes.get(&dispute).is_none());
        insert(&mut early, &charter);
        assert_same(early.state(), expected, "the ledger first");
    });
    assert_eq!(count, 6);
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
fn shuffles_run_by_run_of_a_dispute_agree() {
    let (village, ..) = judged();
    let expected = village.agreed();
    let runs: Vec<AcceptedRun> = village.homes[FOUNDER].store.values().flatten().cloned().collect();
    let mut rng = Rng(300);
    for round in 0..40 {
        let mut growing = reader(&village);
        insert(&mut growing, &[shuffled(&mut rng, &runs)]);
        assert_same(growing.state(), expected, &format!("round {round}"));
    }
}
