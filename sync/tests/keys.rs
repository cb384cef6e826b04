//! Keys at a replica: started, sealed to whoever comes, read back, and gone for
//! whoever was put out; own segments that roll.

mod common;

use exo_model::decide::{Intent, Refusal};
use exo_model::feed::gate;
use exo_model::feed::{
    FeedId, FeedPosition, Meaningless, SEGMENT_AGE_MS, SEGMENT_CHANGES, Stream, VerifiedEvent,
};
use exo_model::port::ChangeStore as _;
use exo_sync::replica::{Ingested, ReplicaError};
use exo_sync::store::Store;

use common::{Author, Home, NOW, device, person, posting};

#[tokio::test]
async fn keys_are_sealed_to_a_newcomer_and_read_back_after_a_restart() {
    let home = Home::found(1);
    home.post("before you came").await;
    let ben = home.befriend(2).await;
    ben.post("thank you").await;
    home.pull(&ben).await;
    let said = ["before you came", "thank you"];
    for home in [home, ben] {
        assert_eq!(home.texts(), said, "device {}", home.seed);
        assert_eq!(home.unreadable(), 0);
        let (seed, community, folder) = (home.seed, home.community, home.folder.clone());
        let state = home.state().hash();
        home.close().await;
        // From the store alone: no cursors, and nobody hands over keys again.
        let again = Home::open(seed, community, folder, Vec::new());
        assert_eq!((again.texts(), again.unreadable()), (said.map(String::from).to_vec(), 0));
        assert_eq!(again.state().hash(), state);
        again.post("and on").await;
        assert_eq!(again.texts().len(), 3);
    }
}

#[tokio::test]
async fn a_newcomer_who_receives_feeds_before_keys_catches_up() {
    let home = Home::found(1);
    for n in 0..3 {
        home.post(&format!("message {n}")).await;
    }
    home.admit(2).await;
    let ben = Home::empty(2, home.community);
    ben.pull(&home).await;
    assert!(ben.unreadable() > 0, "the founder's feed came, sealed");
    assert!(ben.state().charter.members.is_empty());
    ben.take_governance(&home).await;
    assert!(ben.state().charter.is_member(&ben.device()));
    let told = ben.events().len();
    assert_eq!((ben.unreadable(), ben.retellings()), (0, told), "its one feed is told again");

    let feed = |stream| FeedId::new(home.community, home.device(), stream);
    let channel = home.messages_of(home.device());
    let words = home.replica.read_run(channel, 0).await.expect("readable").expect("there");
    assert_eq!(ben.replica.ingest(words).await.expect("a member's"), Ingested::Stored(3));
    assert_eq!((ben.texts().len(), ben.unreadable()), (0, 3));
    let keys = home.replica.read_run(feed(Stream::Keys), 0).await.expect("readable").expect("there");
    ben.replica.ingest(keys).await.expect("a member's");
    assert_eq!((ben.texts().len(), ben.unreadable(), ben.retellings()), (3, 0, told + 3));
    assert_eq!(ben.seqs(&channel), [1, 2, 3], "each of them once");
    ben.pull(&home).await;
    assert_eq!((ben.digest(), ben.state().hash()), (home.digest(), home.state().hash()));
}

/// The key is stored, and the program dies before the views hear of it: what
/// they were told as unreadable is told again.
#[tokio::test]
async fn p2_keys_that_the_views_missed_tell_again_what_they_open() {
    let home = Home::found(1);
    home.post("sealed").await;
    let ben = home.newcomer(2).await;
    let read = async |stream| {
        let feed = FeedId::new(home.community, home.device(), stream);
        home.replica.read_run(feed, 0).await.expect("readable").expect("there")
    };
    ben.replica.ingest(read(Stream::Charter).await).await.expect("the founding");
    ben.replica.ingest(read(Stream::Channel(home.channel())).await).await.expect("a member's");
    let views = ben.cursors();
    assert_eq!(ben.unreadable(), 1);
    ben.replica.ingest(read(Stream::Keys).await).await.expect("a member's");
    let (seed, community, folder) = (ben.seed, ben.community, ben.folder.clone());
    ben.close().await;
    let again = Home::open(seed, community, folder, views.clone());
    assert_eq!((again.retellings(), again.unreadable()), (0, 0), "what they could not read, and that once");
    assert_eq!(again.texts(), ["sealed"]);
    // Views that know of the keys are told nothing twice.
    let mut views: std::collections::BTreeMap<_, _> = views.into_iter().collect();
    views.extend(again.cursors());
    let (seed, community, folder) = (again.seed, again.community, again.folder.clone());
    again.close().await;
    let again = Home::open(seed, community, folder, views.into_iter().collect());
    assert!(again.events().is_empty());
}

#[tokio::test]
async fn e1_whoever_was_removed_reads_nothing_new_and_changes_nothing() {
    let home = Home::found(1);
    let (ben, cleo) = (home.befriend(2).await, home.befriend(3).await);
    home.pull(&ben).await;
    let mut eve = home.member_in_memory(4).await;
    for seed in [2, 4] {
        let remove = Intent::Remove { person: person(seed), ban: false, reason: String::new() };
        home.replica.record(remove).await.expect("the owner may");
        assert!(!home.state().charter.is_member(&device(seed)));
    }
    home.post("now that we are alone").await;
    let before = home.state().hash();
    // Without knowing of it, he goes on under the old key.
    let profile = Intent::SetProfile { name: "Still Ben".into(), about: String::new() };
    ben.replica.record(profile).await.expect("as far as he knows");
    ben.post("still here").await;
    home.pull(&ben).await;
    assert_eq!(home.state().hash(), before, "beyond the fence nothing counts");
    // A program like ours keeps no words that are not for it; one that holds all
    // that travels, and its old keys, opens nothing of them.
    ben.pull(&home).await;
    assert_eq!(ben.end_of(&home.messages_of(home.device())).await.seq, 0);
    home.tell(&mut eve).await;
    let words = |event: &&VerifiedEvent| matches!(event.feed.stream, Stream::Channel(_));
    let words: Vec<_> =
        eve.events.iter().filter(words).filter(|event| event.feed.device == device(1)).collect();
    assert_eq!(words.len(), 1);
    assert!(matches!(words[0].event, Err(Meaningless::NoKey(_))), "{:?}", words[0].event);
    let refused = ben.replica.record(posting(home.channel(), "hello?")).await;
    assert!(matches!(refused, Err(ReplicaError::Refused(Refusal::NotAMember))), "{refused:?}");
    cleo.pull(&home).await;
    assert!(cleo.texts().contains(&"now that we are alone".to_owned()));
    assert_eq!(cleo.state().hash(), home.state().hash());
}

#[tokio::test]
async fn a_segment_rolls_by_age_and_goes_on_after_a_restart() {
    let home = Home::found(1);
    let channel = home.messages_of(home.device());
    home.post("this month").await;
    home.clock.set(NOW + SEGMENT_AGE_MS - 1);
    home.post("still this month").await;
    home.clock.set(NOW + SEGMENT_AGE_MS);
    home.post("next month").await;
    let home = home.reopen().await;
    home.clock.set(NOW + SEGMENT_AGE_MS + 1);
    home.post("after a restart").await;
    assert_eq!(home.end_of(&channel).await.seq, 2);
    assert_eq!(home.end_of(&channel.with_segment(1)).await.seq, 2);
    assert_eq!(home.end_of(&channel.with_segment(2)).await.seq, 0);
    home.replica.audit().await.expect("each segment is one chain");
    let ben = home.befriend(2).await;
    assert_eq!(ben.texts(), ["this month", "still this month", "next month", "after a restart"]);
    assert_eq!((ben.digest(), ben.state().hash()), (home.digest(), home.state().hash()));
}

/// All but the last two of a full segment are written at once: each of one's
/// own posts waits for the disk.
#[tokio::test]
async fn a_segment_rolls_by_count_and_is_read_back() {
    let home = Home::found(1);
    let channel = home.messages_of(home.device());
    let (path, community, folder) = (home.path(), home.community, home.folder.clone());
    home.close().await;
    let before = usize::try_from(SEGMENT_CHANGES - 2).expect("small");
    let run = gate::admit(Author::new(1).messages(channel, 0, before), &FeedPosition::START);
    Store::open(&path).expect("opens").append(&run.expect("authentic")).expect("stored");
    let home = Home::open(1, community, folder.clone(), Vec::new());
    for text in ["the last but one", "the last", "the first of the next"] {
        home.post(text).await;
    }
    assert_eq!(home.end_of(&channel).await.seq, SEGMENT_CHANGES);
    assert_eq!(home.end_of(&channel.with_segment(1)).await.seq, 1);
    home.replica.audit().await.expect("each segment is one chain");
    let (state, digest) = (home.state().hash(), home.digest());
    home.close().await;
    let again = Home::open(1, community, folder, Vec::new());
    assert_eq!((again.state().hash(), again.digest()), (state, digest));
    assert_eq!(again.texts(), ["the last but one", "the last", "the first of the next"]);
    again.post("and goes on").await;
    assert_eq!(again.end_of(&channel.with_segment(1)).await.seq, 2);
}
