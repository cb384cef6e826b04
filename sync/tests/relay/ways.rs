//! How packets go: over a relay where there is no other way, over the next one
//! when it is gone, and past it where peers can meet.

use exo_sync::relay::{choice, goes_over};

use super::{Peer, Running, ask, in_time, other_pin, until};
use iroh::EndpointAddr;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_over_a_relay_where_there_is_no_other_way() {
    let relay = Running::open().await;
    let relays = [relay.relay.clone()];
    let (a, b) = (Peer::relayed(1, &relays).await, Peer::relayed(2, &relays).await);
    assert_eq!(a.at_home().await, relay.url());
    assert_eq!(b.at_home().await, relay.url());
    let text = vec![7; 200_000];
    let connection = a.exchange(&b, relay.url(), &text).await;
    assert!(connection.paths().iter().all(|path| path.is_relay()), "no other way");
    let figures = relay.server.figures();
    assert_eq!(figures.devices, 2);
    assert!(figures.carried_bytes > 2 * text.len() as u64, "both ways: {figures:?}");
    relay.server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_with_another_certificate_than_the_pinned_one_is_refused() {
    let relay = Running::open().await;
    let mut wrong = relay.relay.clone();
    wrong.pin = other_pin();
    let mut unpinned = relay.relay.clone();
    unpinned.pin = None;
    let peer = Peer::relayed(1, &[wrong]).await;
    until("a handshake that breaks off", || relay.metric("exo_relay_http_errors_total") > 0).await;
    // Nor is a certificate that no authority vouches for taken without a pin.
    let before = relay.metric("exo_relay_http_errors_total");
    peer.relays.send_replace(vec![unpinned]);
    until("another one", || relay.metric("exo_relay_http_errors_total") > before + 1).await;
    assert_eq!(relay.metric("exo_relay_accepts_total"), 0);
    assert!(!peer.status().connected);

    peer.relays.send_replace(vec![relay.relay.clone()]);
    assert_eq!(peer.at_home().await, relay.url());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n11_the_relay_dies_and_another_one_takes_over() {
    let (first, second) = (Running::open().await, Running::open().await);
    let relays = [first.relay.clone(), second.relay.clone()];
    let (a, b) = (Peer::relayed(1, &relays).await, Peer::relayed(2, &relays).await);
    a.at_home().await;
    let home = b.at_home().await;
    let before = a.exchange(&b, home.clone(), b"over the one").await;
    assert!(goes_over(&before, &home));
    let (dies, lives) = if home == first.url() { (first, second) } else { (second, first) };
    dies.server.stop().await.expect("stops");

    for peer in [&a, &b] {
        until("the other relay", || {
            let status = peer.status();
            status.connected && status.url == Some(lives.url())
        })
        .await;
    }
    // What went over the dead one is closed, so that iroh does not go on with it.
    assert!(goes_over(&before, &home) && !goes_over(&before, &lives.url()));
    before.close(0_u8.into(), b"its relay is gone");
    // Who knows nothing but the list tries where the other is likely to be.
    let mut to = EndpointAddr::new(b.endpoint.id());
    for url in choice::guess(&b.device(), &relays) {
        to = to.with_relay_url(url);
    }
    let after = a.connect(to).await;
    assert_eq!(in_time("an echo", ask(&after, b"over the other")).await, b"over the other");
    assert_eq!(lives.server.figures().devices, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_is_preferred_to_a_relay() {
    let relay = Running::open().await;
    let relays = [relay.relay.clone()];
    let (a, b) = (Peer::start(1, &relays, true).await, Peer::start(2, &relays, true).await);
    let url = b.at_home().await;
    a.at_home().await;
    // Told of the relay only: they find the direct path by themselves.
    let connection = a.exchange(&b, url, b"first over the relay").await;
    until("the direct path", || connection.paths().iter().any(|path| path.is_selected() && path.is_ip()))
        .await;
    // Each side finds it for itself; then the relay has nothing left to carry.
    let text = vec![7; 300_000];
    let idle_relay = async {
        loop {
            let before = relay.server.figures().carried_bytes;
            assert_eq!(ask(&connection, &text).await, text);
            if relay.server.figures().carried_bytes - before < 10_000 {
                return;
            }
        }
    };
    in_time("a relay with nothing to carry", idle_relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_different_homes_reach_each_other() {
    let (first, second) = (Running::open().await, Running::open().await);
    let a = Peer::relayed(1, std::slice::from_ref(&first.relay)).await;
    let b = Peer::relayed(2, std::slice::from_ref(&second.relay)).await;
    assert_eq!((a.at_home().await, b.at_home().await), (first.url(), second.url()));
    // The relay of the other is not in the map, but it must be trusted.
    a.relays.send_replace(vec![first.relay.clone(), second.relay.clone()]);
    b.relays.send_replace(vec![first.relay.clone(), second.relay.clone()]);
    a.exchange(&b, second.url(), b"over the other's home").await;
    b.exchange(&a, first.url(), b"and back").await;
}
