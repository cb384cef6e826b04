//! Links and hints: what anyone writes reaches everyone, whoever comes, goes
//! or moves meanwhile.

use crate::common::in_time;
use crate::common::net::{Node, converge};
use crate::common::{Home, until};

#[tokio::test]
async fn three_peers_converge_after_writing_at_once() {
    let a = Node::found(1).await;
    let (b, c) = tokio::join!(a.befriend(2), a.befriend(3));
    converge(&[&a, &b, &c]).await;
    let before = a.home.replica.snapshot().change_count();
    let write = async |node: &Node| {
        for n in 0..15 {
            node.home.post(&format!("{n} from {}", node.home.seed)).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write(&a), write(&b), write(&c));
    for node in [&a, &b, &c] {
        until("all messages", || node.home.replica.snapshot().change_count() == before + 45).await;
        assert!(node.mesh.refusals().is_empty(), "{:?}", node.mesh.refusals());
        node.home.replica.audit().await.expect("one chain a feed");
    }
    converge(&[&a, &b, &c]).await;
}

#[tokio::test]
async fn n3_what_was_written_offline_on_both_sides_merges() {
    let a = Node::found(1).await;
    let b = a.befriend(2).await;
    a.linked_with(&[&b]).await;
    converge(&[&a, &b]).await;
    for round in 0..2 {
        b.mesh.node().set_online(false);
        until("the goodbye", || !a.sees(b.home.device()) && !b.sees(a.home.device())).await;
        let fetched = b.mesh.open_stage(a.home.device()).await;
        assert!(fetched.is_err(), "offline is offline");
        a.home.post(&format!("on the ground {round}")).await;
        b.home.post(&format!("on the plane {round}")).await;
        assert_ne!(a.home.digest(), b.home.digest());
        b.mesh.node().set_online(true);
        converge(&[&a, &b]).await;
        a.linked_with(&[&b]).await;
    }
}

#[tokio::test]
async fn n4_a_peer_that_restarts_on_another_port_is_found_again() {
    let a = Node::found(1).await;
    let b = a.befriend(2).await;
    let c = a.befriend(3).await;
    converge(&[&a, &b, &c]).await;
    let old = b.mesh.node().port();
    let home: Home = b.close().await;
    until("the goodbye", || !a.sees(home.device())).await;
    a.home.post("while you were away").await;
    home.post("typed while starting").await;
    let home = home.reopen().await;
    let b = Node::start(home, 0).await;
    assert_ne!(b.mesh.node().port(), old, "the system gives another port");
    b.offer().await;
    converge(&[&a, &b, &c]).await;
    b.linked_with(&[&a, &c]).await;
    c.home.post("welcome back").await;
    converge(&[&a, &b, &c]).await;
}

#[tokio::test]
async fn a_closed_mesh_is_quiet_and_its_folder_can_be_used_again() {
    let a = Node::found(1).await;
    let b = a.befriend(2).await;
    converge(&[&a, &b]).await;
    for _ in 0..2 {
        in_time("closing", a.mesh.node().close()).await;
    }
    until("the goodbye", || !b.sees(a.home.device())).await;
    assert!(a.mesh.open_stage(b.home.device()).await.is_err());
    let again = Node::start(a.home, 0).await;
    again.offer().await;
    b.home.post("and again").await;
    converge(&[&again, &b]).await;
}

#[tokio::test]
async fn peers_are_the_other_members_and_their_links() {
    let a = Node::found(1).await;
    assert!(a.mesh.peers().is_empty(), "oneself is no peer");
    let absent = a.home.admit(9).await;
    let b = a.befriend(2).await;
    a.linked_with(&[&b]).await;
    let peers = a.mesh.peers();
    assert_eq!(peers.len(), 2);
    assert!(!a.sees(absent));
    let linked = peers.iter().find(|peer| peer.device == b.home.device()).expect("listed");
    assert_eq!(linked.path.as_str(), "direct");
    // Asking for an exchange that cannot happen does nothing.
    a.mesh.sync_soon(&absent);
    a.mesh.sync_soon(&b.home.device());
    converge(&[&a, &b]).await;
}
