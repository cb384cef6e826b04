//! The replica: one truth, one chain a device, whatever arrives in whatever
//! order; and whoever watches is told everything exactly once.

mod common;

use std::collections::BTreeSet;

use exo_model::decide::{Intent, Refusal};
use exo_model::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use exo_model::feed::{Change, FeedId, Rejection, Run, Stream};
use exo_model::id::{ChannelId, CommunityId};
use exo_model::port::Signer as _;
use exo_sync::replica::{Ingested, ReplicaError};

use common::{Author, Home, NOW, Rng, certificate, device, key, message, posting, rejection};

/// A founder, device 1, and the outside author of member 2's message feed.
async fn with_author() -> (Home, FeedId, Author) {
    let home = Home::found(1);
    home.admit(2).await;
    let feed = home.messages_of(device(2));
    (home, feed, Author::new(2))
}

#[tokio::test]
async fn records_are_kept_and_refusals_leave_nothing() {
    let home = Home::found(1);
    let before = home.replica.snapshot();
    let unknown = posting(ChannelId::from_bytes([99; 16]), "hello");
    let refused = home.replica.record(unknown).await;
    assert!(matches!(refused, Err(ReplicaError::Refused(Refusal::UnknownChannel))), "{refused:?}");
    assert_eq!(home.digest(), before.digest());
    home.post("hello").await;
    home.post("again").await;
    let snapshot = home.replica.snapshot();
    assert_eq!(snapshot.change_count(), before.change_count() + 2);
    assert_ne!(snapshot.digest(), before.digest());
    assert_eq!(home.replica.audit().await.expect("Automerge agrees"), 3, "keys, charter, channel");
    let stranger = Home::empty(5, home.community);
    stranger.take_governance(&home).await;
    stranger.pull(&home).await;
    let refused = stranger.replica.record(Intent::DropShard { model: exo_model::hash::blake3(b"") }).await;
    assert!(matches!(refused, Err(ReplicaError::Refused(Refusal::NotAMember))), "{refused:?}");
    assert_eq!(stranger.state().hash(), home.state().hash(), "it knows who is in, and is not");
}

#[tokio::test]
async fn runs_that_repeat_or_overlap_add_only_what_is_new() {
    let (home, feed, mut author) = with_author().await;
    let whole = |count| Author::new(2).messages(feed, 0, count);
    let first = author.messages(feed, 0, 4);
    assert_eq!(home.replica.ingest(first.clone()).await.expect("new"), Ingested::Stored(4));
    assert_eq!(home.replica.ingest(first).await.expect("old"), Ingested::Known);
    assert_eq!(home.replica.ingest(whole(2)).await.expect("a part"), Ingested::Known);
    assert_eq!(home.replica.ingest(whole(9)).await.expect("overlaps"), Ingested::Stored(5));
    let mut other = Author::new(2);
    other.messages(feed, 0, 6);
    assert_eq!(home.replica.ingest(other.messages(feed, 6, 5)).await.expect("overlaps"), Ingested::Stored(2));
    let mut ahead = Author::new(2);
    ahead.messages(feed, 0, 12);
    let gap = rejection(home.replica.ingest(ahead.messages(feed, 12, 1)).await);
    assert_eq!(gap, Rejection::OutOfPlace { first_seq: 13, known_seq: 11 }, "A7: a gap");
    assert_eq!(home.seqs(&feed), (1..=11).collect::<Vec<_>>());
    home.replica.audit().await.expect("one chain");
}

#[tokio::test]
async fn a1_the_lines_of_a_fork_never_mix_and_the_first_stays() {
    let (home, feed, mut author) = with_author().await;
    home.replica.ingest(author.messages(feed, 0, 3)).await.expect("new");
    let before = home.end_of(&feed).await;
    let fork = |common: usize, own: usize| {
        let mut author = Author::new(2);
        let mut changes: Vec<Change> =
            (0..common).map(|n| message(100 + n as u64, &format!("message {n}"))).collect();
        changes.extend((0..own).map(|n| message(200 + n as u64, "another story")));
        author.run(feed, changes)
    };
    let ends = async || {
        let positions = home.replica.positions();
        let mut ends: Vec<_> =
            positions.into_iter().filter(|(id, _)| *id == feed).map(|(_, end)| end.seq).collect();
        ends.sort_unstable();
        ends
    };
    // What is new of each, and where the lines end then: some go on, some part.
    let (new, known) = (Ingested::Stored, Ingested::Known);
    for (common, own, became, lines) in [
        (2, 1, new(1), vec![3, 3]),
        (0, 1, new(1), vec![1, 3, 3]),
        (0, 3, new(2), vec![3, 3, 3]),
        (0, 2, known, vec![3, 3, 3]),
        (2, 4, new(3), vec![3, 3, 6]),
        (1, 5, new(5), vec![3, 3, 6, 6]),
    ] {
        let ingested = home.replica.ingest(fork(common, own)).await.expect("a member's");
        assert_eq!(ingested, became, "{common} in common, {own} of its own");
        assert_eq!(ends().await, lines, "{common} in common, {own} of its own");
        assert_eq!(home.end_of(&feed).await, before);
    }
    // A fork's continuation alone hangs on a change that is not here.
    let mut other = Author::new(2);
    other.run(feed, vec![message(100, "another"), message(101, "story"), message(102, "altogether")]);
    let tail = rejection(home.replica.ingest(other.messages(feed, 3, 2)).await);
    assert_eq!(tail, Rejection::Signature);
    assert_eq!(home.replica.ingest(author.messages(feed, 3, 1)).await.expect("goes on"), Ingested::Stored(1));
}

#[tokio::test]
async fn a2_one_bad_change_refuses_its_run_and_nothing_else() {
    let (home, feed, _) = with_author().await;
    let mut rng = Rng(0x4e91_0001);
    let honest = Author::new(2).messages(feed, 0, 8);
    let before = home.digest();
    for _ in 0..60 {
        let mut run = honest.clone();
        let at = rng.below(8);
        match rng.below(6) {
            0 => run.changes[at].time_ms += 1,
            1 => run.changes[at].payload[3] ^= 1,
            2 => drop(run.changes.remove(at)),
            3 => run.changes.insert(at, message(7, "smuggled in")),
            4 => run.feed.segment = u32::try_from(1 + rng.below(1_000)).expect("small"),
            _ => run.feed.stream = Stream::Channel(ChannelId::from_bytes([100 + at.to_le_bytes()[0]; 16])),
        }
        let refused = home.replica.ingest(run).await;
        assert!(matches!(refused, Err(ReplicaError::Rejected(_)) | Ok(Ingested::Deferred)), "{refused:?}");
        assert_eq!(home.digest(), before);
    }
    assert_eq!(home.replica.ingest(honest).await.expect("honest"), Ingested::Stored(8));
}

#[tokio::test]
async fn a8_a9_impossible_changes_are_refused_though_signed() {
    let (home, feed, author) = with_author().await;
    let before = home.digest();
    let payload = vec![1];
    for change in [
        Change { time_ms: -1, payload: payload.clone() },
        Change { time_ms: i64::MIN, payload: payload.clone() },
        Change { time_ms: i64::MAX, payload: payload.clone() },
        Change { time_ms: 0, payload: Vec::new() },
        Change { time_ms: 0, payload: vec![0; ENVELOPE_BYTES_MAX + 1] },
    ] {
        rejection(home.replica.ingest(author.clone().run(feed, vec![change])).await);
    }
    assert_eq!(
        rejection(home.replica.ingest(author.clone().run(feed, Vec::new())).await),
        Rejection::Count(0)
    );
    let many = vec![Change { time_ms: 0, payload: payload.clone() }; 8_193];
    assert_eq!(rejection(home.replica.ingest(author.clone().run(feed, many)).await), Rejection::Count(8_193));
    let mut zero = author.clone().run(feed, vec![Change { time_ms: 0, payload }]);
    zero.first_seq = 0;
    rejection(home.replica.ingest(zero).await);
    assert_eq!(home.digest(), before);
}

/// An authentic change without meaning stays in the chain and is passed on.
#[tokio::test]
async fn meaningless_events_are_kept_and_passed_on() {
    let (home, feed, mut author) = with_author().await;
    let unknown =
        Envelope { version: 200, lamport: 5, body: vec![0xff], heads: None, key: None, previous: None };
    let changes = vec![
        Change { time_ms: 0, payload: vec![0xff; 100] },
        Change { time_ms: 0, payload: unknown.encode() },
        message(9, "sealed with no key"),
    ];
    assert_eq!(home.replica.ingest(author.run(feed, changes)).await.expect("authentic"), Ingested::Stored(3));
    let other = home.befriend(3).await;
    assert_eq!(other.digest(), home.digest());
    assert_eq!(other.state().hash(), home.state().hash());
    assert_eq!(other.seqs(&feed), [1, 2, 3]);
    assert!(other.events().iter().filter(|event| event.feed == feed).all(|event| event.event.is_err()));
    other.replica.audit().await.expect("one chain");
}

#[tokio::test]
async fn n1_a_run_replayed_into_another_community_is_refused() {
    let (home, feed, mut author) = with_author().await;
    let other = Home::found(4);
    other.admit(2).await;
    let feed = FeedId { stream: Stream::Library, ..feed };
    let run = author.messages(feed, 0, 2);
    let refused = other.replica.ingest(run.clone()).await;
    assert!(matches!(refused, Err(ReplicaError::OtherCommunity)), "{refused:?}");
    let relabelled = Run { feed: FeedId { community: other.community, ..feed }, ..run.clone() };
    assert_eq!(rejection(other.replica.ingest(relabelled).await), Rejection::Signature);
    let stolen = Run { feed: FeedId { device: home.device(), ..feed }, ..run };
    assert_eq!(rejection(home.replica.ingest(stolen).await), Rejection::Signature, "another's feed");
}

#[tokio::test]
async fn a12_strangers_wait_until_they_are_members() {
    let home = Home::found(1);
    let before = home.digest();
    let feed = home.messages_of(device(2));
    let early = Author::new(2).messages(feed, 0, 3);
    assert_eq!(home.replica.ingest(early.clone()).await.expect("put off"), Ingested::Deferred);
    for seed in 20..60 {
        let run = Author::new(seed).messages(FeedId { device: device(seed), ..feed }, 0, 5);
        assert_eq!(home.replica.ingest(run).await.expect("put off"), Ingested::Deferred);
    }
    assert_eq!(home.digest(), before, "nothing of a stranger is stored");
    home.admit(2).await;
    assert_eq!(home.replica.ingest(early).await.expect("a member's"), Ingested::Stored(3));
}

/// Two replicas that founded nothing take one thing only: the change that the
/// community is named by.
#[tokio::test]
async fn the_founding_comes_first_and_only_the_founder_can_bring_it() {
    let home = Home::found(1);
    home.post("hello").await;
    home.admit(2).await;
    let feed = |stream| FeedId::new(home.community, home.device(), stream);
    let read = async |feed| home.replica.read_run(feed, 0).await.expect("readable").expect("there");
    let charter = feed(Stream::Charter);
    let (founding, keys) = (read(charter).await, read(feed(Stream::Keys)).await);
    let messages = read(home.messages_of(home.device())).await;
    // Somebody else's founding, relabelled to this community.
    let other = Author::new(3).run(FeedId { device: device(3), ..charter }, vec![message(1, "I found this")]);
    for newcomer in [Home::empty(2, home.community), Home::empty(9, home.community)] {
        for early in [&messages, &keys, &other] {
            assert_eq!(newcomer.replica.ingest(early.clone()).await.expect("put off"), Ingested::Deferred);
        }
        assert_eq!(newcomer.replica.snapshot().change_count(), 0);
        let stored = newcomer.replica.ingest(founding.clone()).await.expect("founds");
        assert_eq!(stored, Ingested::Stored(founding.changes.len()));
        let late = newcomer.replica.ingest(messages.clone()).await.expect("nobody is known yet");
        assert_eq!(late, Ingested::Deferred);
        newcomer.take_governance(&home).await;
        assert_eq!(newcomer.state().hash(), home.state().hash(), "now it can be read");
        newcomer.pull(&home).await;
        let is_member = newcomer.seed == 2;
        assert_eq!(newcomer.digest() == home.digest(), is_member, "words are for members");
        assert_eq!(newcomer.texts().len(), usize::from(is_member));
    }
}

#[tokio::test]
async fn m7_an_invite_answered_by_two_devices_admits_the_same_one_everywhere() {
    for seed in 0..4 {
        let owner = Home::found(1);
        owner.admit(2).await;
        let ticket = owner.invite(1, NOW + 1_000, Vec::new()).await;
        let second = Home::empty(2, owner.community);
        second.take_governance(&owner).await;
        second.pull(&owner).await;
        for (home, newcomer) in [(&owner, 30 + seed), (&second, 40 + seed)] {
            let request = ticket.request(certificate(newcomer), format!("Member {newcomer}"));
            home.replica.record(Intent::Admit(request)).await.expect("not known to be used");
        }
        owner.pull(&second).await;
        second.pull(&owner).await;
        let (a, b) = (owner.state(), second.state());
        assert_eq!((a.hash(), owner.digest()), (b.hash(), second.digest()));
        let got_in = |seed| a.charter.is_member(&device(seed));
        assert_ne!(got_in(30 + seed), got_in(40 + seed), "exactly one got in");
        let reopened = second.reopen().await;
        assert_eq!(reopened.state().hash(), a.hash());
    }
}

#[tokio::test]
async fn observers_get_every_event_exactly_once_across_reopenings() {
    let (home, feed, mut author) = with_author().await;
    let mut told: Vec<(FeedId, u64)> = Vec::new();
    let (mut home, mut written) = (home, 0);
    for round in 0..4 {
        home.replica.ingest(author.messages(feed, written, 3)).await.expect("new");
        written += 3;
        home.post(&format!("round {round}")).await;
        if round == 2 {
            home.replica.ingest(Author::new(2).messages(feed, 0, written)).await.expect("known");
        }
        let (seed, community, folder) = (home.seed, home.community, home.folder.clone());
        told.extend(home.events().iter().map(|event| (event.feed, event.seq)));
        let mut cursors = std::collections::BTreeMap::new();
        cursors.extend(told.iter().copied());
        home.close().await;
        home = Home::open(
            seed,
            community,
            folder,
            cursors.into_iter().map(|(feed, seq)| (feed.into(), seq)).collect(),
        );
        assert!(home.events().is_empty(), "told twice");
    }
    let stored = home.replica.snapshot().change_count();
    assert_eq!(told.len() as u64, stored);
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len() as u64, stored);
    // Views that lost their last rows are given exactly those again.
    let (seed, community, folder) = (home.seed, home.community, home.folder.clone());
    home.close().await;
    let keys = FeedId::new(community, device(1), Stream::Keys);
    let behind = Home::open(seed, community, folder, vec![(keys.into(), u64::MAX), (feed.into(), 7)]);
    let again: Vec<_> = behind.events().iter().map(|event| (event.feed, event.seq)).collect();
    let expected: Vec<_> = told.iter().filter(|(id, seq)| *id != keys && (*id != feed || *seq > 7)).collect();
    assert_eq!(again.iter().collect::<BTreeSet<_>>(), expected.iter().copied().collect());
    assert_eq!(again.len(), expected.len());
}

#[tokio::test]
async fn records_from_many_tasks_at_once_make_one_chain() {
    let home = Home::found(1);
    let channel = home.channel();
    let tasks: Vec<_> = (0..150)
        .map(|n| {
            let replica = home.replica.clone();
            tokio::spawn(async move { replica.record(posting(channel, &format!("from task {n}"))).await })
        })
        .collect();
    let mut hashes = BTreeSet::new();
    for task in tasks {
        hashes.insert(task.await.expect("no panic").expect("recorded"));
    }
    assert_eq!(hashes.len(), 150);
    assert_eq!(home.replica.audit().await.expect("one chain"), 3);
    let feed = home.messages_of(home.device());
    assert_eq!(home.seqs(&feed), (1..=150).collect::<Vec<_>>());
}

#[tokio::test]
async fn p2_what_was_recorded_before_closing_is_there_afterwards() {
    let home = Home::found(1);
    let channel = home.channel();
    let tasks: Vec<_> = (0..30)
        .map(|n| {
            let replica = home.replica.clone();
            tokio::spawn(async move { replica.record(posting(channel, &n.to_string())).await })
        })
        .collect();
    home.post("first").await;
    home.replica.close().await;
    home.replica.close().await;
    let mut recorded = BTreeSet::new();
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(hash) => drop(recorded.insert(hash)),
            Err(error) => assert!(matches!(error, ReplicaError::Closed), "{error}"),
        }
    }
    let late = home.replica.record(posting(channel, "late")).await;
    assert!(matches!(late, Err(ReplicaError::Closed)), "{late:?}");
    let (seed, community, folder) = (home.seed, home.community, home.folder.clone());
    home.thread.join().expect("the thread ends well");
    let again = Home::open(seed, community, folder, Vec::new());
    let stored: BTreeSet<_> = again.events().iter().map(|event| event.hash).collect();
    assert!(recorded.is_subset(&stored), "answered, but not stored");
    again.post("and goes on").await;
    again.replica.audit().await.expect("one chain");
}

#[tokio::test]
async fn random_orders_of_arrival_give_one_state() {
    let source = Home::found(1);
    for seed in 2..6 {
        source.admit(seed).await;
    }
    source.admit(9).await;
    let mut runs = Vec::new();
    for seed in 2..6 {
        let (feed, mut author) = (source.messages_of(device(seed)), Author::new(seed));
        for n in 0..4 {
            runs.push(author.messages(feed, n * 3, 3));
        }
    }
    for run in &runs {
        source.replica.ingest(run.clone()).await.expect("in order");
    }
    for seed in 0..6 {
        let mut rng = Rng(seed);
        let home = Home::empty(9, source.community);
        home.take_governance(&source).await;
        let mut order = runs.clone();
        for last in (1..order.len()).rev() {
            order.swap(last, rng.below(last + 1));
        }
        // Whoever is out of place or not yet a member comes again later.
        for _ in 0..order.len() {
            for run in &order {
                let _ = home.replica.ingest(run.clone()).await;
            }
            if home.replica.snapshot().change_count() == 0 {
                home.pull(&source).await;
            }
        }
        assert_eq!((home.digest(), home.state().hash()), (source.digest(), source.state().hash()));
    }
}

#[tokio::test]
async fn a_replica_of_an_unknown_community_is_empty_and_stays_so() {
    let home = Home::empty(1, CommunityId::from_bytes([5; 32]));
    assert_eq!(home.replica.snapshot().change_count(), 0);
    assert_eq!(home.replica.positions(), []);
    assert_eq!(home.replica.audit().await.expect("nothing to audit"), 0);
    let refused = home.replica.record(Intent::DropShard { model: exo_model::hash::blake3(b"") }).await;
    assert!(matches!(refused, Err(ReplicaError::Refused(Refusal::NotAMember))), "{refused:?}");
    assert_eq!(key(1).device(), home.device());
}

/// A replica that remembers reads no word again; one whose memory does not fit
/// reads everything.
#[tokio::test]
async fn what_is_remembered_is_not_read_again_and_changes_nothing() {
    let home = Home::found(1);
    for n in 0..5 {
        home.post(&format!("message {n}")).await;
    }
    let (seed, community, folder) = (home.seed, home.community, home.folder.clone());
    let (state, digest, cursors) = (home.state().hash(), home.digest(), home.cursors());
    let (path, feed) = (home.path(), home.messages_of(home.device()));
    home.close().await;
    let memory = path.with_extension("snapshot");
    let remembered = std::fs::read(&memory).expect("written when it closes");
    let open = |cursors: &[_]| Home::open(seed, community, folder.clone(), cursors.to_vec());
    let same = |home: &Home| assert_eq!((home.state().hash(), home.digest()), (state, digest));

    // What nobody reads again may be damaged without notice: that it opens says
    // that it was not read.
    let db = rusqlite::Connection::open(&path).expect("a database");
    let damage = |byte: &str| {
        let sql = format!(
            "UPDATE changes SET payload = CAST(payload || x'{byte}' AS BLOB) WHERE seq = 3 AND feed = (SELECT id FROM feeds WHERE stream = ?1)"
        );
        db.execute(&sql, [exo_model::codec::encode(&feed.stream)]).expect("damaged");
    };
    damage("00");
    let home = open(&cursors);
    same(&home);
    assert!(home.events().is_empty());
    home.post("it goes on").await;
    home.close().await;
    std::fs::write(&memory, &remembered).expect("the older one");
    let home = open(&cursors);
    assert_eq!(home.texts(), ["it goes on"], "what came since is read");
    home.close().await;
    let refused = |cursors: &[_]| {
        let config = common::config(seed, community, path.clone(), 0);
        let config = exo_sync::replica::ReplicaConfig { view_cursors: cursors.to_vec(), ..config };
        exo_sync::replica::Replica::open(config, |_| {}).is_err()
    };
    // Views that lost something, and memories that are none: everything is read,
    // and the damage shows.
    let behind: Vec<_> = cursors.iter().map(|(line, seq)| (*line, seq.saturating_sub(2))).collect();
    assert!(refused(&behind), "views that are behind are told what they lack");
    for memory_bytes in [&remembered[..remembered.len() - 1], &[], b"no snapshot at all"] {
        std::fs::write(&memory, memory_bytes).expect("written");
        assert!(refused(&cursors), "{memory_bytes:?}");
    }
    std::fs::remove_file(&memory).expect("there");
    assert!(refused(&cursors));
}
