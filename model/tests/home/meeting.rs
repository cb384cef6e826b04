//! How replicas exchange what they have, in any order.

use std::collections::BTreeSet;

use exo_model::community::Inserted;
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{FeedId, FeedPosition, Rejection, Run};
use exo_model::sealing::EpochKey;
use exo_model::signature::SecretKey;

use super::seeded::permutations;
use super::{Home, Seeded};

impl Home {
    /// Stores and reduces a run that the gate accepted.
    pub(crate) fn keep(&mut self, run: AcceptedRun) -> Inserted {
        let inserted = self.community.insert(&run);
        self.store.entry(*run.feed()).or_default().push(run);
        self.events.extend(inserted.events.iter().cloned());
        let mut reopen = inserted.reopen.clone();
        let reopened = !reopen.is_empty();
        while let Some(feed) = reopen.pop_first() {
            let runs = self.store.get(&feed).cloned().unwrap_or_default();
            reopen.extend(self.community.reopen(&feed, &runs).reopen);
        }
        if reopened {
            self.read_again();
        }
        inserted
    }

    /// All events as far as they can be opened now.
    pub(crate) fn read_again(&mut self) {
        self.events.clear();
        for (feed, runs) in self.store.clone() {
            let inserted = self.community.reopen(&feed, &runs);
            self.events.extend(inserted.events);
        }
    }

    pub(super) fn position(&self, feed: &FeedId) -> FeedPosition {
        self.store.get(feed).and_then(|runs| runs.last()).map_or(FeedPosition::START, AcceptedRun::end)
    }

    /// Takes what a peer sends.
    pub(crate) fn take(&mut self, run: Run) -> Result<(), Rejection> {
        let known = self.position(&run.feed);
        let accepted = gate::admit(run, &known)?;
        self.keep(accepted);
        Ok(())
    }

    /// Every run that `other` lacks, feed by feed: keys and charter first.
    pub(crate) fn missing_at(&self, other: &Self) -> Vec<Run> {
        let mut feeds: Vec<_> = self.store.iter().collect();
        feeds.sort_by_key(|(feed, _)| (feed.stream, feed.device, feed.segment));
        feeds
            .into_iter()
            .flat_map(|(feed, runs)| {
                let known = other.position(feed).seq;
                runs.iter().filter(move |run| run.start().seq >= known).map(to_run)
            })
            .collect()
    }

    /// Sends everything that `other` lacks.
    pub(crate) fn send_to(&self, other: &mut Self) {
        for run in self.missing_at(other) {
            other.take(run).unwrap_or_else(|error| panic!("{} to {}: {error}", self.name, other.name));
        }
    }

    /// The same device with the same keys and changes, as a copy of its folder
    /// would be.
    pub(crate) fn twin(&self) -> Self {
        let mut twin = self.blank();
        for id in self.community.keyring().ids() {
            let key = self.community.keyring().key(id).expect("held");
            twin.community.learn_key(EpochKey::from_bytes(key.as_bytes()));
        }
        for run in self.store.values().flatten() {
            twin.keep(run.clone());
        }
        twin
    }

    /// The same device before it learnt anything.
    pub(crate) fn blank(&self) -> Self {
        let key = SecretKey::from_bytes(&self.key.to_bytes());
        let seeded = Seeded::of_device(&key, 1 + self.events.len() as u64);
        let mut blank = Self::new(&self.name, self.community.id(), key, seeded);
        blank.now_ms = self.now_ms;
        blank
    }
}

pub(crate) fn to_run(run: &AcceptedRun) -> Run {
    Run {
        feed: *run.feed(),
        first_seq: run.first_seq(),
        changes: run.changes().to_vec(),
        signature: run.signature(),
    }
}

/// Everybody gets everything, until nothing moves any more.
pub(crate) fn meet(homes: &mut [&mut Home]) {
    for _ in 0..homes.len() + 2 {
        for from in 0..homes.len() {
            for to in 0..homes.len() {
                if from != to {
                    let runs = homes[from].missing_at(homes[to]);
                    for run in runs {
                        homes[to].take(run).expect("an honest run");
                    }
                }
            }
        }
    }
}

/// Everybody gets everything and does what holders of keys owe the others.
pub(crate) fn settle(homes: &mut [&mut Home]) {
    for _ in 0..3 {
        meet(homes);
        for home in homes.iter_mut() {
            home.tend();
        }
    }
    meet(homes);
}

/// Lets the homes meet, and copies of them in every order, each telling the
/// next one what it knows before all tell all. Everyone who is a member in the
/// end, as the first one sees it, must come to one state; people who are not
/// may be past reading it.
pub(crate) fn meet_in_every_order(homes: &mut [&mut Home]) -> [u8; 32] {
    let before: Vec<Home> = homes.iter().map(|home| home.twin()).collect();
    meet(homes);
    let charter = homes[0].community.state().charter.clone();
    let stays = |home: &Home| charter.is_member(&home.device());
    let mut hashes: BTreeSet<_> = homes.iter().filter(|home| stays(home)).map(|home| home.hash()).collect();
    permutations(&before.iter().collect::<Vec<_>>(), &mut |order| {
        let mut twins: Vec<Home> = order.iter().map(|home| home.twin()).collect();
        for next in 1..twins.len() {
            let (told, rest) = twins.split_at_mut(next);
            told[next - 1].send_to(&mut rest[0]);
        }
        meet(&mut twins.iter_mut().collect::<Vec<_>>());
        hashes.extend(twins.iter().filter(|home| stays(home)).map(Home::hash));
    });
    assert_eq!(hashes.len(), 1, "one state, whoever meets whom first");
    homes[0].hash()
}
