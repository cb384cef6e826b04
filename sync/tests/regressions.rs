//! Faults that were found once and must not come back.

mod common;

use common::net::*;
use common::*;
use exo_model::feed::{FeedId, Run, Stream};
use exo_sync::mesh::{ALPN_JOIN, ALPN_SYNC, JoinStatus};
use exo_sync::replica::{Ingested, Replica, ReplicaError};
use exo_sync::wire;

/// Who copies the founding event into a feed of their own founds nothing, and
/// fills nobody's disk.
#[tokio::test]
async fn a_copied_founding_is_no_founding() {
    let home = Home::found(1);
    let charter = FeedId::new(home.community, home.device(), Stream::Charter);
    let founding = home.replica.read_run(charter, 0).await.expect("r").expect("t");
    let copy = |seed: u8, segment| {
        let feed = FeedId { device: device(seed), segment, ..charter };
        Author::new(seed).run(feed, vec![founding.changes[0].clone()])
    };
    home.admit(2).await;
    for reads in [true, false] {
        let newcomer = Home::empty(2, home.community);
        if reads {
            newcomer.take_governance(&home).await;
        }
        let other_segment = newcomer.replica.ingest(copy(1, 7)).await;
        assert!(!matches!(other_segment, Ok(Ingested::Stored(_))));
        let mut stored = 0;
        for seed in 3..100 {
            let got = newcomer.replica.ingest(copy(seed, 0)).await.expect("authentic");
            stored += usize::from(got != Ingested::Deferred);
        }
        assert!(stored <= 16, "{stored} feeds of nobody");
        assert!(newcomer.state().charter.members.is_empty(), "nobody is in by a copy");
    }
    // Whoever can read the charter takes no copy at all.
    let member = home.befriend(40).await;
    assert_eq!(member.replica.ingest(copy(3, 0)).await.expect("authentic"), Ingested::Deferred);
    // A copy that came first does not keep the founder out.
    let newcomer = Home::empty(2, home.community);
    newcomer.take_governance(&home).await;
    newcomer.replica.ingest(copy(3, 0)).await.expect("authentic");
    newcomer.pull(&home).await;
    assert_eq!(newcomer.state().hash(), home.state().hash());
}

#[tokio::test]
async fn a2_an_impossible_sequence_number_is_the_peers_fault() {
    let home = Home::found(1);
    home.admit(2).await;
    let feed = home.messages_of(device(2));
    home.replica.ingest(Author::new(2).messages(feed, 0, 1)).await.expect("ok");
    let run = Run { first_seq: u64::MAX, ..Author::new(2).messages(feed, 0, 1) };
    let got = home.replica.ingest(run).await;
    assert!(matches!(got, Err(ReplicaError::Rejected(_))));
}

#[tokio::test]
async fn damaged_ends_and_hashes_are_noticed_on_opening() {
    for damage in [
        "UPDATE feeds SET hash = zeroblob(32)",
        "UPDATE changes SET hash = zeroblob(32) WHERE seq = 2",
        "UPDATE feeds SET seq = seq - 1, hash = (SELECT hash FROM changes WHERE feed = id AND changes.seq = feeds.seq - 1) WHERE id = 2",
    ] {
        let home = Home::found(1);
        home.post("a").await;
        home.post("b").await;
        home.post("c").await;
        let (path, community, _folder) = (home.path(), home.community, home.folder.clone());
        home.close().await;
        let db = rusqlite::Connection::open(&path).expect("db");
        db.execute(damage, []).expect("ok");
        drop(db);
        let opened = Replica::open(config(1, community, path, 0), |_| {});
        assert!(opened.is_err(), "{damage}");
    }
}

/// A member whose window is tiny never reads; the victim has exactly four runs for it.
#[tokio::test]
async fn n9_a_peer_that_never_reads_does_not_hold_its_link() {
    let victim = Node::start(Home::found(1), 0).await;
    let mallory = raw_endpoint(66, &[ALPN_SYNC], 64).await;
    // Mallory says where it is, so that the victim dials it.
    let addr = mallory.bound_sockets()[0].to_string();
    let community = victim.home.community;
    let mut insider = victim.home.member_in_memory(66).await;
    insider.act(exo_model::decide::Intent::OfferMachine {
        memory_bytes: 0,
        micros_per_mib: 0,
        addresses: vec![addr],
    });
    victim.home.hear(&insider, Stream::Cluster).await;
    // Feeds at the victim: keys(1), charter(1), cluster(66); one more of 66.
    let library = FeedId::new(community, device(66), Stream::Library);
    victim.home.replica.ingest(Author::new(66).messages(library, 0, 1)).await.expect("ok");
    assert_eq!(victim.home.replica.positions().len(), 4);
    let mut dials = 0;
    for _ in 0..3 {
        let dialled = async {
            loop {
                let incoming = mallory.accept().await.expect("open");
                if let Ok(accepting) = incoming.accept()
                    && let Ok(connection) = accepting.await
                {
                    return connection;
                }
            }
        };
        let Ok(connection) = tokio::time::timeout(std::time::Duration::from_secs(12), dialled).await else {
            break;
        };
        dials += 1;
        let (mut send, recv) = in_time("stream", connection.accept_bi()).await.expect("bi");
        wire::write(&mut send, &hello(community, Vec::new()), 1 << 20).await.expect("hello");
        tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
        connection.close(0u32.into(), b"gone");
        drop(recv);
    }
    assert_eq!(dials, 3, "the victim dials again after the connection closed");
}

/// The contact admits, then vanishes before serving; another contact knows.
#[tokio::test]
async fn m7_an_admission_that_leads_nowhere_is_asked_again() {
    let owner = Node::found(1).await;
    let raw = raw_endpoint(66, &[ALPN_JOIN], 1 << 20).await;
    let liar = exo_model::invite::Contact {
        device: device(66),
        addresses: vec![raw.bound_sockets()[0].to_string()],
    };
    let ticket = owner.home.invite(1, NOW + 1000, vec![liar, owner.contact()]).await;
    let newcomer = Node::newcomer(2, owner.home.community).await;
    let join = newcomer.mesh.join(&ticket, certificate(2), "Ben".into());
    let connection = raw.accept().await.expect("i").accept().expect("a").await.expect("c");
    let (mut send, mut recv) = connection.accept_bi().await.expect("bi");
    let _request = wire::read_bytes(&mut recv, 4096).await.expect("req");
    wire::write_bytes(&mut send, &[0x82, 0x00, 0x81, 0x80], 4096).await.expect("admitted, with no keys");
    let _ = send.finish();
    connection.closed().await;
    raw.close().await;
    let mut status = join.watch();
    let joined = tokio::time::timeout(
        std::time::Duration::from_secs(20),
        status.wait_for(|s| *s == JoinStatus::Joined),
    )
    .await;
    assert!(joined.is_ok());
}
