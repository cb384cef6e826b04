//! A keeper carries what members write, for members who were away, and reads
//! none of it; and what hostile members and keepers can do about that.

mod common;

#[path = "keeper/hostile.rs"]
mod hostile;
#[path = "keeper/room.rs"]
mod room;

use exo_model::charter::Role;
use exo_model::decide::{Intent, Refusal};
use exo_model::feed::{FeedId, Stream};
use exo_model::id::InviteKey;
use exo_model::invite::Ticket;
use exo_model::port::ChangeStore as _;
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;
use exo_sync::replica::{Ingested, KeepingError, ROOM_BYTES, ReplicaError};
use exo_sync::store::Store;

use common::{Home, certificate, device, key, person};

/// Keeper number `seed`, admitted by `by`, with an empty store.
async fn keeper(by: &Home, seed: u8) -> Home {
    keeper_with(by, seed, ROOM_BYTES).await
}

async fn keeper_with(by: &Home, seed: u8, room_bytes: u64) -> Home {
    let secret = SecretKey::from_bytes(&[0x60 ^ seed; 32]);
    let invite = InviteKey::from_bytes(secret.public_bytes());
    let (role, trust) = (Role::Keeper, TrustLevel::Public);
    let issued = Intent::IssueInvite { key: invite, uses: 1, expires_ms: i64::MAX, role, trust };
    by.replica.record(issued).await.expect("an owner may");
    let ticket = Ticket::new(by.community, "Garden".into(), &secret, i64::MAX, Vec::new());
    let request = ticket.request(certificate(seed), format!("Keeper {seed}"));
    by.replica.record(Intent::Admit(request)).await.expect("the invite is fresh");
    let home = Home::empty(seed, by.community);
    // The answer brings no key, and a member who sent some would be ignored.
    home.take_governance(by).await;
    let anchor = by.replica.keeper_anchor().await.expect("running");
    home.replica.become_keeper(anchor, room_bytes).await.expect("an empty store");
    home
}

fn remove(seed: u8) -> Intent {
    Intent::Remove { person: person(seed), ban: false, reason: String::new() }
}

#[tokio::test]
async fn who_was_away_gets_everything_from_the_keeper_alone() {
    let ana = Home::found(1);
    let ben = ana.befriend(2).await;
    ana.replica.record(Intent::SetRole(person(2), Role::Moderator)).await.expect("an owner may");
    let keeper = keeper(&ana, 9).await;
    assert!(keeper.replica.knows_device(&device(1)) && keeper.replica.knows_device(&device(9)));
    assert!(!keeper.replica.knows_device(&device(7)), "a stranger");
    for text in ["Frost tonight.", "Cover the beans."] {
        ana.post(text).await;
    }
    keeper.pull(&ana).await;
    assert_eq!(keeper.digest(), ana.digest(), "it carries everything");
    let digest = ana.digest();
    ana.close().await;

    ben.pull(&keeper).await;
    assert_eq!(ben.digest(), digest);
    assert_eq!(ben.texts(), ["Frost tonight.", "Cover the beans."]);
    ben.post("They are covered.").await;
    keeper.pull(&ben).await;
    assert_eq!(keeper.digest(), ben.digest());
    // A fresh device of a member, with nothing but the keys of the charter.
    let cleo = ben.newcomer(3).await;
    keeper.pull(&ben).await;
    cleo.pull(&keeper).await;
    assert_eq!(cleo.state().hash(), ben.state().hash());
    keeper.replica.audit().await.expect("every feed is a document");
}

#[tokio::test]
async fn a_keeper_holds_no_key_and_no_word() {
    let ana = Home::found(1);
    let ben = ana.befriend(2).await;
    let keeper = keeper(&ana, 9).await;
    ana.post("The spare key is under the marigolds.").await;
    ben.pull(&ana).await;
    ben.post("Marigolds, then.").await;
    keeper.pull(&ben).await;
    keeper.pull(&ana).await;
    let folder = keeper.folder.clone();
    assert!(keeper.events().is_empty() && keeper.state().charter.members.is_empty());
    assert!(keeper.replica.seal_governance(ben_sealing()).await.expect("running").is_empty());
    // Even where someone seals it the charter's keys.
    let keys = ana.replica.seal_governance(ben_sealing()).await.expect("running");
    assert!(!keys.is_empty(), "a member gets them");
    let own = exo_model::sealing::SealingKey::of_device(&key(9)).public();
    assert!(ana.replica.seal_governance(own).await.expect("running").is_empty(), "a keeper does not");
    keeper.close().await;
    let mut read = 0;
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        read += bytes.len();
        for word in ["marigolds", "Marigolds", "Garden", "general", "Ona", "Member 2"] {
            let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found, "{word} lies in the keeper's folder");
        }
    }
    assert!(read > 4_000, "the folder holds what was carried");
}

fn ben_sealing() -> exo_model::id::SealingPublicKey {
    exo_model::sealing::SealingKey::of_device(&key(2)).public()
}

#[tokio::test]
async fn a_keeper_writes_nothing_and_admits_nobody() {
    let ana = Home::found(1);
    let keeper = keeper(&ana, 9).await;
    keeper.pull(&ana).await;
    let before = keeper.digest();
    let ticket = ana.invite(1, i64::MAX, Vec::new()).await;
    let request = ticket.request(certificate(3), "Cleo".into());
    for intent in [Intent::Admit(request), Intent::Leave, remove(1), common::posting(ana.channel(), "hello")]
    {
        let refused = keeper.replica.record(intent).await;
        assert!(matches!(refused, Err(ReplicaError::Refused(Refusal::NotAMember))), "{refused:?}");
    }
    keeper.replica.tend().await.expect("nothing to do");
    assert_eq!(keeper.digest(), before);
    // Nor do members take its words, whatever its program is.
    let feed = ana.messages_of(device(9));
    let words = common::Author::new(9).run(feed, vec![common::message(9, "psst")]);
    assert_eq!(ana.replica.ingest(words.clone()).await.expect("put off"), Ingested::Deferred);
    assert_eq!(keeper.replica.ingest(words).await.expect("put off"), Ingested::Deferred);
    // It may connect, and fetches no model.
    let snapshot = ana.replica.snapshot();
    assert!(snapshot.knows_device(&device(9)) && !snapshot.may_fetch(&device(9)));
    assert!(snapshot.may_fetch(&device(1)) && !snapshot.may_fetch(&device(7)));
    assert!(!keeper.replica.snapshot().may_fetch(&device(1)));
}

#[tokio::test]
async fn what_a_removed_member_writes_is_carried_no_further() {
    let ana = Home::found(1);
    let ben = ana.befriend(2).await;
    let keeper = keeper(&ana, 9).await;
    ben.pull(&ana).await;
    ben.post("while I am here").await;
    for home in [&ana, &keeper] {
        home.pull(&ben).await;
    }
    keeper.pull(&ana).await;
    assert!(keeper.replica.knows_device(&device(2)));
    let feed = ana.messages_of(device(2));
    assert_eq!(keeper.end_of(&feed).await.seq, 1);
    ana.replica.record(remove(2)).await.expect("an owner may");
    ben.post("and when I am gone").await;
    keeper.pull(&ana).await;
    assert!(!keeper.replica.knows_device(&device(2)), "nor may it connect");
    keeper.pull(&ben).await;
    assert_eq!(keeper.end_of(&feed).await.seq, 1, "what was written before is kept");
    // A keeper that comes later still carries what counts.
    let late = self::keeper(&ana, 10).await;
    late.pull(&keeper).await;
    late.pull(&ana).await;
    assert_eq!(late.end_of(&feed).await.seq, 1);
    late.pull(&ben).await;
    assert_eq!(late.end_of(&feed).await.seq, 1);
    assert_eq!(late.digest(), ana.digest());
    // What others may have written under is carried: the charter alone.
    let charter = FeedId { stream: Stream::Charter, ..feed };
    assert!(late.end_of(&charter).await.seq == ana.end_of(&charter).await.seq);
}

#[tokio::test]
async fn a_keeper_goes_on_after_a_restart() {
    let ana = Home::found(1);
    let ben = ana.befriend(2).await;
    let keeper = keeper(&ana, 9).await;
    ana.post("before").await;
    keeper.pull(&ana).await;
    let (digest, kept) = (keeper.digest(), keeper.replica.snapshot().kept.expect("a keeper"));
    assert!(kept.carried_bytes > 0);
    let keeper = keeper.reopen().await;
    assert_eq!(keeper.digest(), digest);
    assert_eq!(keeper.replica.snapshot().kept.expect("still a keeper"), kept);
    ana.replica.record(remove(2)).await.expect("an owner may");
    keeper.pull(&ana).await;
    let keeper = keeper.reopen().await;
    assert!(!keeper.replica.knows_device(&device(2)), "it remembers who went");
    assert_eq!(keeper.digest(), ana.digest());
    drop(ben);
}

#[tokio::test]
async fn who_reads_the_community_cannot_become_its_keeper() {
    let ana = Home::found(1);
    let ben = ana.befriend(2).await;
    let anchor = ana.replica.keeper_anchor().await.expect("running");
    let refused = ben.replica.become_keeper(anchor.clone(), ROOM_BYTES).await;
    assert!(matches!(refused, Err(ReplicaError::Keeping(KeepingError::Reads))), "{refused:?}");
    let elsewhere = Home::found(5);
    let stranger = Home::empty(6, elsewhere.community);
    let refused = stranger.replica.become_keeper(anchor, ROOM_BYTES).await;
    assert!(matches!(refused, Err(ReplicaError::Keeping(KeepingError::OtherCommunity))), "{refused:?}");
    // A damaged file is said, not passed over: else it would open as a member's.
    let keeper = keeper(&ana, 9).await;
    let (folder, community) = (keeper.folder.clone(), keeper.community);
    keeper.close().await;
    std::fs::write(folder.path().join("store.keeper"), b"what?").expect("writable");
    let config = common::config(9, community, folder.path().join("store.db"), 1 << 20);
    let opened = exo_sync::replica::Replica::open(config, |_| {});
    let error = opened.err().expect("refused").to_string();
    assert!(error.contains("join again"), "{error}");
    let store = Store::open(&folder.path().join("store.db")).expect("the store is whole");
    assert!(store.lines(community).expect("readable").is_empty());
}
