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

#[tokio::test]
async fn gossip_begins_anew_with_each_link() {
    let a = Node::found(1).await;
    let b = a.befriend(2).await;
    for round in 0..2 {
        a.linked_with(&[&b]).await;
        converge(&[&a, &b]).await;
        is_heard(&a, &b).await;
        is_heard(&b, &a).await;
        let goes = if round % 2 == 0 { &a } else { &b };
        goes.mesh.node().set_online(false);
        until("no link", || {
            !a.mesh.node().is_connected(&b.home.device()) && !b.mesh.node().is_connected(&a.home.device())
        })
        .await;
        goes.mesh.node().set_online(true);
        // What was heard before does not count.
        until("silence", || {
            let stream = channel_of(&a);
            a.mesh.who_types(&stream).is_empty() && b.mesh.who_types(&stream).is_empty()
        })
        .await;
    }
}
