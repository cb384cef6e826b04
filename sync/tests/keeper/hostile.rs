//! Members who lie to keepers, and keepers that lie to members.

use exo_model::charter::Role;
use exo_model::decide::Intent;
use exo_model::event::Event;
use exo_model::event::keys::KeyEvent;
use exo_model::feed::{FeedId, Rejection, Stream};
use exo_model::id::ChangeHash;
use exo_model::port::Signer as _;
use exo_model::roll::{ListedPerson, Listing};
use exo_sync::replica::{Ingested, ReplicaError};

use super::{keeper, remove};
use crate::common::insider::seeded::Rng;
use crate::common::insider::to_run;
use crate::common::{Author, Home, device, message, person, rejection};

/// The last list that `home` was told of.
fn last_list(home: &Home) -> Option<ChangeHash> {
    let lists = home.events().into_iter().filter(|event| {
        let is_last =
            |event: &Event| matches!(event, Event::Keys(KeyEvent::ListedForKeepers { is_last: true, .. }));
        event.event.as_ref().is_ok_and(is_last)
    });
    lists.max_by_key(|event| event.order()).map(|event| event.hash)
}

#[tokio::test]
async fn a_removed_device_that_names_itself_and_its_friends_is_not_believed() {
    let ana = Home::found(1);
    let mut eve = ana.member_in_memory(2).await;
    let ben = ana.befriend(3).await;
    ana.replica.record(Intent::SetRole(person(2), Role::Admin)).await.expect("an owner may");
    let keeper = keeper(&ana, 9).await;
    keeper.pull(&ana).await;
    ana.tell(&mut eve).await;
    let before = last_list(&ana);
    ana.replica.record(remove(2)).await.expect("an owner may");
    ana.tell(&mut eve).await;
    let friends = Listing {
        listers: vec![ListedPerson { role: Role::Owner, devices: vec![eve.key.device()] }],
        writers: [device(66)].into(),
        ..Listing::default()
    };
    for follows in [before, last_list(&ana), None] {
        for event in friends.post(follows) {
            eve.write(Stream::Keys, &event.into());
        }
    }
    // Her lists come first, and are on their way with everyone.
    keeper.hear(&eve, Stream::Keys).await;
    ben.pull(&ana).await;
    keeper.pull(&ben).await;
    assert!(keeper.replica.knows_device(&device(1)) && keeper.replica.knows_device(&device(3)));
    assert!(!keeper.replica.knows_device(&device(2)) && !keeper.replica.knows_device(&device(66)));
    ana.post("we are still here").await;
    keeper.pull(&ana).await;
    assert_eq!(
        keeper.end_of(&ana.messages_of(device(1))).await,
        ana.end_of(&ana.messages_of(device(1))).await
    );
}

/// A list that leaves everyone else out keeps nobody from putting it right.
#[tokio::test]
async fn who_is_left_out_by_a_liar_is_still_heard() {
    let ana = Home::found(1);
    let mut eve = ana.member_in_memory(2).await;
    ana.replica.record(Intent::SetRole(person(2), Role::Admin)).await.expect("an owner may");
    let keeper = keeper(&ana, 9).await;
    keeper.pull(&ana).await;
    ana.tell(&mut eve).await;
    let alone = Listing {
        listers: vec![ListedPerson { role: Role::Owner, devices: vec![eve.key.device()] }],
        ..Listing::default()
    };
    for event in alone.post(last_list(&ana)) {
        eve.write(Stream::Keys, &event.into());
    }
    keeper.hear(&eve, Stream::Keys).await;
    assert!(!keeper.replica.knows_device(&device(1)), "an admin is believed until an owner speaks");
    let dialled = keeper.replica.snapshot().devices();
    assert!(dialled.contains(&device(1)), "but the keeper goes on asking those it was told of");
    ana.hear(&eve, Stream::Keys).await;
    ana.replica.tend().await.expect("it is put right");
    keeper.pull(&ana).await;
    assert!(keeper.replica.knows_device(&device(1)));
    assert_eq!(keeper.digest(), ana.digest());
}

/// Everything that travels is signed by members: a keeper can leave out, delay
/// and repeat.
#[tokio::test]
async fn a_keeper_that_withholds_or_repeats_harms_no_member() {
    let ana = Home::found(1);
    let ben = ana.befriend(2).await;
    let cleo = ana.befriend(3).await;
    let keeper = keeper(&ana, 9).await;
    keeper.pull(&ana).await;
    let mut old = Vec::new();
    for (feed, _) in keeper.replica.positions() {
        old.push(keeper.replica.read_run(feed, 0).await.expect("readable").expect("there"));
    }
    ana.replica.record(remove(3)).await.expect("an owner may");
    ana.post("without Cleo").await;
    ben.pull(&ana).await;
    let (state, digest) = (ben.state().hash(), ben.digest());
    // All it had before, in any order, over and over: lists among it.
    let mut rng = Rng(5);
    for _ in 0..3 {
        rng.shuffle(&mut old);
        for run in &old {
            assert_eq!(ben.replica.ingest(run.clone()).await.expect("authentic"), Ingested::Known);
        }
    }
    assert_eq!((ben.state().hash(), ben.digest()), (state, digest));
    assert!(!ben.replica.knows_device(&device(3)));
    // What it makes up, or cuts, or puts elsewhere, is nobody's.
    let mut words =
        ana.replica.read_run(ana.messages_of(device(1)), 0).await.expect("readable").expect("there");
    words.feed = ana.messages_of(device(2));
    assert_eq!(rejection(ben.replica.ingest(words.clone()).await), Rejection::Signature);
    words.feed = ana.messages_of(device(1));
    words.changes[0].time_ms += 1;
    assert_eq!(rejection(cleo.replica.ingest(words).await), Rejection::Signature);
    // Who hears from it alone knows what it lets them know, and no more.
    cleo.pull(&keeper).await;
    assert!(cleo.replica.knows_device(&device(3)));
    cleo.pull(&ben).await;
    assert!(!cleo.replica.knows_device(&device(3)), "and the rest from anyone else");
}

/// Two keepers that hear the same in different orders go by the same list.
#[tokio::test]
async fn keepers_that_hear_the_same_in_any_order_go_by_the_same_list() {
    let ana = Home::found(1);
    let mut others = Vec::new();
    for seed in [2, 3] {
        others.push(ana.member_in_memory(seed).await);
        ana.replica.record(Intent::SetRole(person(seed), Role::Moderator)).await.expect("an owner may");
    }
    let (one, two) = (keeper(&ana, 9).await, keeper(&ana, 10).await);
    for other in &mut others {
        ana.tell(other).await;
    }
    // Each lets someone in, not knowing of the other, and lists that.
    for (other, seed) in others.iter_mut().zip([20, 21]) {
        let ticket = other.invite(1);
        other.admit("New", &crate::common::insider::Person::new(seed), &ticket);
    }
    let mut runs = Vec::new();
    for other in &others {
        runs.extend(other.store.values().flatten().map(to_run));
    }
    for (feed, end) in ana.replica.positions() {
        let mut after = 0;
        while after < end.seq {
            let run = ana.replica.read_run(feed, after).await.expect("readable").expect("there");
            after += run.changes.len() as u64;
            runs.push(run);
        }
    }
    let mut rng = Rng(11);
    for keeper in [&one, &two] {
        let mut stored = true;
        while std::mem::take(&mut stored) {
            rng.shuffle(&mut runs);
            for run in &runs {
                match keeper.replica.ingest(run.clone()).await {
                    Ok(Ingested::Stored(_)) => stored = true,
                    Ok(_) | Err(ReplicaError::Rejected(Rejection::OutOfPlace { .. })) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert_eq!(one.digest(), two.digest());
    let listing = |keeper: &Home| keeper.replica.snapshot().kept.expect("a keeper").listing.clone();
    assert_eq!(listing(&one), listing(&two));
    assert!(
        listing(&one).knows(&device(20)) != listing(&one).knows(&device(21)),
        "one of them, until they meet"
    );
}

/// A device whose lines part is carried on all of them, up to a limit.
#[tokio::test]
async fn lines_of_a_liar_are_carried_and_bounded() {
    let ana = Home::found(1);
    ana.admit(2).await;
    let keeper = keeper(&ana, 9).await;
    keeper.pull(&ana).await;
    let feed = ana.messages_of(device(2));
    let line = |word: &str| Author::new(2).run(feed, vec![message(9, word); 2]);
    assert_eq!(keeper.replica.ingest(line("one")).await.expect("a member's"), Ingested::Stored(2));
    assert_eq!(keeper.replica.ingest(line("other")).await.expect("a member's"), Ingested::Stored(2));
    let ben = ana.befriend(3).await;
    ben.pull(&keeper).await;
    let lines = ben.replica.positions();
    assert_eq!(lines.iter().filter(|(of, _)| *of == feed).count(), 2, "both reach everyone");
    let charter = FeedId { stream: Stream::Charter, ..feed };
    for n in 0..1_030 {
        let act = Author::new(2).run(charter, vec![message(9, &format!("act {n}"))]);
        match keeper.replica.ingest(act).await {
            Ok(became) => assert!(n < 1_024 && became == Ingested::Stored(1), "{n}: {became:?}"),
            Err(ReplicaError::Rejected(Rejection::Fork { seq: 1 })) => assert!(n >= 1_024, "{n}"),
            Err(error) => panic!("{n}: {error}"),
        }
    }
}
