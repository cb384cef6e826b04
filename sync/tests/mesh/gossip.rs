//! Gossip runs on the links, and on nothing else.

use exo_model::feed::Stream;
use exo_sync::mesh::ALPN_SYNC;

use crate::common::net::{Node, converge, raw_dial, raw_endpoint};
use crate::common::{in_time, until};

fn channel_of(node: &Node) -> Stream {
    let state = node.home.state();
    Stream::Channel(*state.charter.channels.keys().next().expect("a channel"))
}

/// Says again and again that `from` types, until `to` hears of it.
async fn is_heard(from: &Node, to: &Node) {
    let stream = channel_of(from);
    until("a word", || {
        from.mesh.typing(stream);
        to.mesh.who_types(&stream).contains(&from.home.device())
    })
    .await;
}

#[tokio::test]
async fn gossip_needs_no_connection_but_the_link() {
    let node = Node::found(1).await;
    node.home.admit(7).await;
    let member = raw_endpoint(7, &[], 1 << 20).await;
    let link = raw_dial(&member, &node, ALPN_SYNC).await;
    // Streams of gossip go one way; exchanges are on others.
    in_time("a word on the link", link.accept_uni()).await.expect("the link stands");
}

/// Gossip uses the newest of several links to a device; when that one is
/// closed, the other still serves.
#[tokio::test]
async fn gossip_goes_on_over_the_other_of_two_links() {
    let a = Node::found(1).await;
    let b = a.befriend(2).await;
    a.linked_with(&[&b]).await;
    converge(&[&a, &b]).await;
    is_heard(&a, &b).await;
    let second = raw_endpoint(2, &[], 1 << 20).await;
    // Not more often: here one side alone sees that a link is gone, and iroh-gossip's
    // count of open requests goes wrong by one each time.
    for _ in 0..2 {
        let link = raw_dial(&second, &a, ALPN_SYNC).await;
        let accepting = link.clone();
        let heard = tokio::spawn(async move { accepting.accept_uni().await.is_ok() });
        until("a word on the second link", || {
            a.mesh.typing(Stream::Library);
            heard.is_finished()
        })
        .await;
        assert!(heard.await.expect("no panic"), "the second link stands");
        link.close(0_u32.into(), b"");
    }
    // What was heard before runs out by itself; this word is new.
    let stream = Stream::Ledger;
    until("a word over the first link", || {
        a.mesh.typing(stream);
        b.mesh.who_types(&stream).contains(&a.home.device())
    })
    .await;
}
