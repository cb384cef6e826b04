//! What a replica lets in, and when: forks are proven, floods wait, what waits
//! for its past has bounded room; and credit that came back is found.

mod common;

use exo_model::amount::Amount;
use exo_model::charter::ORPHANS_PER_DEVICE_MAX;
use exo_model::decide::{Intent, Refusal};
use exo_model::envelope::{Envelope, SegmentEnd};
use exo_model::event::{CharterEvent, Event, LedgerEvent};
use exo_model::feed::{Change, FeedId, Rejection, Stream};
use exo_model::id::{ChangeHash, JobId};
use exo_model::ledger::LedgerFault;
use exo_model::trust::TrustLevel;
use exo_sync::replica::{Ingested, ReplicaError};

use common::{Author, Home, NOW, citing, device, message, person, rejection};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Proofs of forks in the charter, as told.
fn proofs(home: &Home) -> usize {
    let is_proof = |event: &Result<Event, _>| {
        matches!(event, Ok(Event::Charter(CharterEvent::EquivocationProven { .. })))
    };
    home.events().iter().filter(|event| is_proof(&event.event)).count()
}

#[tokio::test]
async fn a1_l1_a_fork_is_refused_and_proven_once() {
    let home = Home::found(1);
    home.admit(2).await;
    let cleo = home.befriend(3).await;
    let feed = home.messages_of(device(2));
    let line = |word: &str, count| Author::new(2).run(feed, vec![message(9, word); count]);
    // Each has another line; they meet in the middle of a run and at its end.
    home.replica.ingest(line("one", 3)).await.expect("a member's");
    cleo.replica.ingest(line("other", 2)).await.expect("a member's");
    let ingest = async |word, count| home.replica.ingest(line(word, count)).await.expect("a member's");
    assert_eq!(ingest("other", 2).await, Ingested::Stored(2));
    assert_eq!(ingest("third", 1).await, Ingested::Stored(1), "words are all readable");
    for _ in 0..3 {
        for (word, count) in [("one", 3), ("other", 2), ("third", 1)] {
            assert_eq!(ingest(word, count).await, Ingested::Known);
        }
        assert_eq!(proofs(&home), 1, "said once, however often it comes");
    }
    assert_eq!(home.end_of(&feed).await.seq, 3, "the first line stays the first");
    // Words that part bar nobody; a charter that parts ends its device.
    assert!(home.state().charter.is_member(&device(2)));
    let charter = FeedId { stream: Stream::Charter, ..feed };
    let act = |word: &str| Author::new(2).run(charter, vec![message(9, word)]);
    for home in [&home, &cleo] {
        home.replica.ingest(act("one")).await.expect("a member's");
    }
    assert_eq!(home.replica.ingest(act("other")).await.expect("a proof"), Ingested::Stored(1));
    assert_eq!(proofs(&home), 2);
    assert!(!home.state().charter.is_member(&device(2)));
    // Two lines are proof enough.
    assert_eq!(rejection(home.replica.ingest(act("third")).await), Rejection::Fork { seq: 1 });
    // The proof travels as any act, with what it cites, and means the same everywhere.
    cleo.pull(&home).await;
    home.pull(&cleo).await;
    assert!(!cleo.state().charter.is_member(&device(2)));
    assert_eq!((cleo.state().hash(), cleo.digest()), (home.state().hash(), home.digest()));
    let (state, digest) = (home.state().hash(), home.digest());
    let again = home.reopen().await;
    assert_eq!((again.state().hash(), again.digest()), (state, digest), "lines are read back");
    assert!(again.events().is_empty(), "and nothing is told twice");
    again.replica.audit().await.expect("each line is a document");
}

#[tokio::test]
async fn a1_a_fork_too_long_to_prove_stands_unproven() {
    let home = Home::found(1);
    home.admit(2).await;
    let feed = home.messages_of(device(2));
    let line = |word: &str| Author::new(2).run(feed, vec![message(9, word); 200]);
    home.replica.ingest(line("one")).await.expect("a member's");
    assert_eq!(home.replica.ingest(line("other")).await.expect("a member's"), Ingested::Stored(200));
    assert_eq!(proofs(&home), 0);
}

#[tokio::test]
async fn n6_a_flood_waits_and_gets_in_later() {
    let home = Home::found(1);
    home.admit_at(2, TrustLevel::Public).await;
    home.admit_at(3, TrustLevel::Public).await;
    // 15 changes of 32,000 bytes: eight such runs fit 4 MiB, nine do not.
    let big = |seed: u8, runs: usize| {
        let mut author = Author::new(seed);
        let feed = home.messages_of(device(seed));
        let change = Change { time_ms: NOW, payload: vec![7; 32_000] };
        (0..runs).map(|_| author.run(feed, vec![change.clone(); 15])).collect::<Vec<_>>()
    };
    let runs = big(2, 9);
    for run in &runs[..8] {
        assert_eq!(home.replica.ingest(run.clone()).await.expect("room"), Ingested::Stored(15));
    }
    let last = || home.replica.ingest(runs[8].clone());
    assert_eq!(last().await.expect("put off"), Ingested::Deferred);
    assert_eq!(home.replica.ingest(runs[0].clone()).await.expect("costs nothing"), Ingested::Known);
    // Nobody else waits for it.
    let other = big(3, 1).remove(0);
    assert_eq!(home.replica.ingest(other).await.expect("another's"), Ingested::Stored(15));
    home.post("nor does its owner").await;
    home.clock.set(NOW - DAY_MS);
    assert_eq!(last().await.expect("no time passed"), Ingested::Deferred);
    home.clock.set(NOW - DAY_MS + DAY_MS / 4);
    assert_eq!(last().await.expect("room again"), Ingested::Stored(15));
}

/// Acts that wait for what never comes fill a bounded room; what waits for
/// nothing comes in all the same, and then what waited for that.
#[tokio::test]
async fn a12_acts_beyond_the_waiting_room_are_put_off_and_come_later() {
    let home = Home::found(1);
    for seed in [2, 3] {
        home.admit(seed).await;
    }
    let dora = home.befriend(4).await;
    let charter = |seed| FeedId::new(home.community, device(seed), Stream::Charter);
    let flood = |author: &mut Author, seed, cited| {
        author.run(charter(seed), vec![citing(9, "waits", vec![cited]); ORPHANS_PER_DEVICE_MAX])
    };
    let filled = Ingested::Stored(ORPHANS_PER_DEVICE_MAX);
    let for_ever = flood(&mut Author::new(2), 2, ChangeHash::from_bytes([0xee; 32]));
    assert_eq!(home.replica.ingest(for_ever).await.expect("a member's"), filled);
    let before = home.state().hash();

    let profile = Intent::SetProfile { name: "Dora".into(), about: String::new() };
    dora.replica.record(profile).await.expect("a member may");
    let act = dora.replica.read_run(charter(4), 0).await.expect("readable").expect("there");
    let hash = dora.end_of(&charter(4)).await.hash;
    // One device's room is not another's.
    let mut author = Author::new(3);
    let run = flood(&mut author, 3, hash);
    let signature = run.signature;
    assert_eq!(home.replica.ingest(run).await.expect("a member's"), filled);
    let end = SegmentEnd { end: home.end_of(&charter(3)).await, signature };
    let mut next = citing(9, "waits for Dora", vec![hash]);
    let mut envelope = Envelope::decode(&next.payload).expect("an envelope");
    envelope.previous = Some(end);
    next.payload = envelope.encode();
    let late = author.run(charter(3).with_segment(1), vec![next]);
    let ingest = || home.replica.ingest(late.clone());
    assert_eq!(ingest().await.expect("put off"), Ingested::Deferred);
    assert_eq!(home.state().hash(), before, "what waits counts for nothing");
    assert_eq!(home.replica.ingest(act).await.expect("waits for nothing"), Ingested::Stored(1));
    assert_ne!(home.state().hash(), before, "and counts");
    assert_eq!(ingest().await.expect("its past is here"), Ingested::Stored(1));
    home.post("unharmed").await;
    let (state, digest) = (home.state().hash(), home.digest());
    let again = home.reopen().await;
    assert_eq!((again.state().hash(), again.digest()), (state, digest));
}

fn lock(payee: &Home, job: u8, max: i64) -> Intent {
    Intent::Lock {
        job: JobId::from_bytes([job; 16]),
        payee: payee.device(),
        max: Amount::from_token_mib(max),
    }
}

fn counts(home: &Home) -> usize {
    let is_count = |event: &Result<Event, _>| matches!(event, Ok(Event::Ledger(LedgerEvent::Counted { .. })));
    home.events().iter().filter(|event| is_count(&event.event)).count()
}

/// The floor is 1,000 below zero: a second lock needs what the first gave back.
#[tokio::test]
async fn credit_that_closed_locks_gave_back_is_found_without_asking() {
    let home = Home::found(1);
    let ben = home.befriend(2).await;
    let first = home.replica.record(lock(&ben, 1, 900)).await.expect("within the line");
    let digest = home.digest();
    let refused = home.replica.record(lock(&ben, 2, 900)).await;
    let Err(ReplicaError::Refused(Refusal::Ledger(LedgerFault::Headroom { available, wanted }))) = refused
    else {
        panic!("not refused: {refused:?}")
    };
    assert_eq!((available.token_mib(), wanted.token_mib()), (100, 900));
    assert_eq!(home.digest(), digest, "nothing to count: nothing recorded");

    ben.pull(&home).await;
    ben.replica.record(Intent::Close { lock: first, voucher: None }).await.expect("the payee may");
    home.pull(&ben).await;
    home.replica.record(lock(&ben, 2, 100)).await.expect("fits without");
    assert_eq!(counts(&home), 0, "counted only where it is needed");
    home.replica.record(lock(&ben, 3, 900)).await.expect("what came back is counted first");
    assert_eq!(counts(&home), 1);
    // What came in counts too, for whoever gives it on.
    let to = exo_model::event::ledger::Account::Device(home.device());
    let give = Intent::Transfer { to, amount: Amount::from_token_mib(500), note: String::new() };
    ben.replica.record(give).await.expect("within the line");
    home.pull(&ben).await;
    let to = exo_model::event::ledger::Account::Device(ben.device());
    let give = Intent::Transfer { to, amount: Amount::from_token_mib(500), note: String::new() };
    home.replica.record(give).await.expect("given on");
    assert_eq!(counts(&home), 2);
    let over = home.replica.record(lock(&ben, 4, 1)).await;
    assert!(matches!(over, Err(ReplicaError::Refused(Refusal::Ledger(LedgerFault::Headroom { .. })))));
    ben.pull(&home).await;
    assert_eq!(ben.state().hash(), home.state().hash());
}

/// Two lines of one charter feed, shown to two partitions, each of which goes on
/// citing the one it has.
#[tokio::test]
async fn l1_a_fork_of_a_charter_feed_does_not_part_the_community() {
    let home = Home::found(1);
    home.admit(2).await;
    let cleo = home.befriend(3).await;
    let charter = FeedId::new(home.community, device(2), Stream::Charter);
    let act = |word: &str| Author::new(2).run(charter, vec![message(9, word)]);
    home.replica.ingest(act("one")).await.expect("a member's");
    cleo.replica.ingest(act("other")).await.expect("a member's");
    home.invite(1, NOW, Vec::new()).await;
    let profile = Intent::SetProfile { name: "Cleo".into(), about: "elsewhere".into() };
    cleo.replica.record(profile).await.expect("a member may");
    for _ in 0..2 {
        cleo.pull(&home).await;
        home.pull(&cleo).await;
    }
    assert_eq!(cleo.state().charter.invites.len(), home.state().charter.invites.len());
    let told = |home: &Home| home.state().charter.members[&person(3)].about.clone();
    assert_eq!((told(&home).as_str(), told(&cleo).as_str()), ("elsewhere", "elsewhere"));
    assert!(!cleo.state().charter.is_member(&device(2)), "and the fork is proven");
    assert_eq!((cleo.state().hash(), cleo.digest()), (home.state().hash(), home.digest()));
}

/// Three lines, of which each of three partitions saw one and wrote under it:
/// the third is nobody's second, and is taken because it is cited.
#[tokio::test]
async fn l1_a_third_line_is_taken_where_others_wrote_under_it() {
    let home = Home::found(1);
    home.admit(2).await;
    let cleo = home.befriend(3).await;
    let dora = home.befriend(4).await;
    cleo.pull(&home).await;
    let charter = FeedId::new(home.community, device(2), Stream::Charter);
    // A line of one act, and lines of many that only show late what is cited.
    let many = async |home: &Home, word: &str| {
        let mut author = Author::new(2);
        for _ in 0..40 {
            let run = author.run(charter, vec![message(9, &word.repeat(5_000))]);
            home.replica.ingest(run).await.expect("a member's");
        }
    };
    home.replica.ingest(Author::new(2).run(charter, vec![message(9, "one")])).await.expect("a member's");
    many(&cleo, "other").await;
    many(&dora, "third").await;
    for (home, name) in [(&home, "Ana"), (&cleo, "Cleo"), (&dora, "Dora")] {
        let profile = Intent::SetProfile { name: name.into(), about: String::new() };
        home.replica.record(profile).await.expect("a member may");
    }
    let all = [&home, &cleo, &dora];
    for _ in 0..3 {
        for (to, from) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            // A line that nothing waits for yet is refused, and comes again.
            all[to].pull_patiently(all[from]).await;
        }
    }
    assert!(all.iter().all(|home| home.digest() == all[0].digest()), "every line everywhere");
    assert!(all.iter().all(|home| home.state().hash() == all[0].state().hash()));
    assert!(!dora.state().charter.is_member(&device(2)));
}

/// A segment that goes on after the next one began is proven by whoever has
/// both, whichever came first.
#[tokio::test]
async fn l1_a_segment_that_goes_on_too_far_is_proven() {
    for order in [[0, 1], [1, 0]] {
        let home = Home::found(1);
        home.admit(2).await;
        let feed = home.messages_of(device(2));
        let mut author = Author::new(2);
        let first = author.run(feed, vec![message(9, "one")]);
        let end = SegmentEnd { end: author.end_of(&feed), signature: first.signature };
        let beyond = author.run(feed, vec![message(9, "two")]);
        let mut opening = message(10, "next");
        let mut envelope = Envelope::decode(&opening.payload).expect("an envelope");
        envelope.previous = Some(end);
        opening.payload = envelope.encode();
        let next = author.run(feed.with_segment(1), vec![opening]);
        home.replica.ingest(first).await.expect("a member's");
        let runs = [beyond, next];
        for (index, proven) in order.into_iter().zip([0, 1]) {
            assert_eq!(
                home.replica.ingest(runs[index].clone()).await.expect("a member's"),
                Ingested::Stored(1)
            );
            assert_eq!(proofs(&home), proven, "{order:?}");
        }
    }
}

/// More people wrote acts of governance apart than one event can cite: the next
/// who writes anything joins them.
#[tokio::test]
async fn more_open_heads_than_one_event_cites_hold_up_nobody() {
    let home = Home::found(1);
    for seed in 2..=70 {
        home.admit(seed).await;
    }
    for seed in 2..=70 {
        let charter = FeedId::new(home.community, device(seed), Stream::Charter);
        let act = Author::new(seed).run(charter, vec![message(9, "apart")]);
        home.replica.ingest(act).await.expect("a member's");
    }
    let before = home.replica.snapshot().change_count();
    assert!(home.state().charter.heads.len() > 64);
    home.post("all together").await;
    assert_eq!(home.replica.snapshot().change_count(), before + 2, "one act joins, and the words");
    assert!(home.state().charter.heads.len() <= 64);
}

/// A double spend: each of two partitions is paid with the same credit. Both
/// payments reach both, the proof bars the payer, and all agree on what counts.
#[tokio::test]
async fn l1_a_double_spend_comes_to_one_state_everywhere() {
    let home = Home::found(1);
    let mut ben = home.member_in_memory(2).await;
    let cleo = home.befriend(3).await;
    home.tell(&mut ben).await;
    let mut twin = ben.twin();
    let pay = |to: &Home| Intent::Transfer {
        to: exo_model::event::ledger::Account::Device(to.device()),
        amount: Amount::from_token_mib(900),
        note: String::new(),
    };
    ben.act(pay(&home));
    twin.act(pay(&cleo));
    home.hear(&ben, Stream::Ledger).await;
    cleo.hear(&twin, Stream::Ledger).await;
    for _ in 0..2 {
        cleo.pull(&home).await;
        home.pull(&cleo).await;
    }
    assert!(proofs(&home) > 0);
    assert_eq!((cleo.state().hash(), cleo.digest()), (home.state().hash(), home.digest()));
    let more = home.hear(&twin, Stream::Ledger).await;
    assert!(more.iter().all(|ingested| *ingested == Ingested::Known), "both lines are here");
    // What was judged as it came is what it comes to at once.
    let (hash, home, cleo) = (home.state().hash(), home.reopen().await, cleo.reopen().await);
    assert_eq!((home.state().hash(), cleo.state().hash()), (hash, hash));
    let paid = home.state().ledger.balance(&exo_model::event::ledger::Account::Device(device(2)));
    assert!(paid.token_mib() >= -1_000, "no further than the credit line: {paid:?}");
}

/// The third line shows what is cited only in its second run, and no proof of
/// the first two fits an event: it comes in all the same.
#[tokio::test]
async fn l1_a_third_line_is_taken_whatever_its_runs_show() {
    let home = Home::found(1);
    home.admit(2).await;
    let cleo = home.befriend(3).await;
    let charter = FeedId::new(home.community, device(2), Stream::Charter);
    let long = |word: &str| Author::new(2).run(charter, vec![message(9, word); 66]);
    home.replica.ingest(long("one")).await.expect("a member's");
    home.replica.ingest(long("other")).await.expect("a member's");
    let mut author = Author::new(2);
    let first = author.run(charter, vec![message(9, "third")]);
    let rest = author.line_run(charter, vec![message(9, &"x".repeat(31_000)); 19]);
    cleo.replica.ingest(long("one")).await.expect("a member's");
    cleo.replica.ingest(first).await.expect("a member's");
    cleo.replica.ingest_line(rest).await.expect("a member's");
    let profile = Intent::SetProfile { name: "Cleo".into(), about: "under the third".into() };
    cleo.replica.record(profile).await.expect("a member may");
    for _ in 0..3 {
        home.pull_patiently(&cleo).await;
        cleo.pull_patiently(&home).await;
    }
    assert_eq!(home.state().charter.members[&person(3)].about, "under the third");
    assert_eq!((cleo.state().hash(), cleo.digest()), (home.state().hash(), home.digest()));
}

/// A later segment of the charter waits until the one before is here, so that
/// nothing of it is dropped where there is no room for what waits.
#[tokio::test]
async fn a12_a_segment_waits_for_the_one_before() {
    let home = Home::found(1);
    home.admit(2).await;
    let charter = FeedId::new(home.community, device(2), Stream::Charter);
    let mut author = Author::new(2);
    let first = author.run(charter, vec![message(9, "one")]);
    let end = SegmentEnd { end: author.end_of(&charter), signature: first.signature };
    let mut opening = message(10, "next");
    let mut envelope = Envelope::decode(&opening.payload).expect("an envelope");
    envelope.previous = Some(end);
    opening.payload = envelope.encode();
    let next = author.run(charter.with_segment(1), vec![opening]);
    assert_eq!(home.replica.ingest(next.clone()).await.expect("put off"), Ingested::Deferred);
    home.replica.ingest(first).await.expect("a member's");
    assert_eq!(home.replica.ingest(next).await.expect("has its place"), Ingested::Stored(1));
}

/// Segments that go on after the next one began are lines too: one is enough.
#[tokio::test]
async fn l1_a_device_whose_segments_all_go_on_is_heard_once() {
    let home = Home::found(1);
    home.admit(2).await;
    let charter = FeedId::new(home.community, device(2), Stream::Charter);
    let mut author = Author::new(2);
    let mut run = author.run(charter, vec![message(9, "one")]);
    let mut became = Vec::new();
    for segment in 0..3 {
        let here = charter.with_segment(segment);
        let end = SegmentEnd { end: author.end_of(&here), signature: run.signature };
        let beyond = author.run(here, vec![message(9, "goes on")]);
        let mut opening = message(10, "next");
        let mut envelope = Envelope::decode(&opening.payload).expect("an envelope");
        envelope.previous = Some(end);
        opening.payload = envelope.encode();
        home.replica.ingest(run).await.expect("a member's");
        run = author.run(charter.with_segment(segment + 1), vec![opening]);
        home.replica.ingest(run.clone()).await.expect("follows the one before");
        became.push(home.replica.ingest(beyond).await.is_ok());
    }
    assert_eq!(became, [true, false, false]);
    assert_eq!(proofs(&home), 1);
}
