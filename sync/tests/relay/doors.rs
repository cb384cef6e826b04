//! Whom a relay serves, how much, and what it says about that.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exo_sync::relay::{AllowList, BYTES_PER_SECOND_MIN, RelayAccess, RelayError, RelayLimits, RelayServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ANY, Peer, Running, config, in_time, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_and_a_member_who_is_struck_off_is_cut_off() {
    let list = AllowList::default();
    let relay = Running::start(RelayAccess::Listed(list.clone()), RelayLimits::default()).await;
    let relays = [relay.relay.clone()];
    let (member, stranger) = (Peer::relayed(1, &relays).await, Peer::relayed(2, &relays).await);
    list.replace([member.device()].into());
    member.at_home().await;
    until("the refusal", || stranger.status().refused.is_some()).await;
    assert!(stranger.status().refused.is_some_and(|reason| reason.contains("members")));
    assert_eq!(relay.server.figures().devices, 1);

    // Nobody is inside who is not on the list, and who comes on it comes in.
    list.replace([stranger.device()].into());
    until("the member's end", || member.status().refused.is_some()).await;
    stranger.at_home().await;
    assert_eq!(relay.server.figures().devices, 1);
    list.replace(BTreeSet::new());
    until("an empty relay", || relay.server.figures().devices == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_answers_for_its_members() {
    let open = Arc::new(AtomicBool::new(true));
    let answers = open.clone();
    let access = RelayAccess::Members(Arc::new(move |_| answers.load(Ordering::SeqCst)));
    let relay = Running::start(access, RelayLimits::default()).await;
    let peer = Peer::relayed(1, std::slice::from_ref(&relay.relay)).await;
    peer.at_home().await;
    open.store(false, Ordering::SeqCst);
    until("the end of it", || relay.server.figures().devices == 0 && relay.server.figures().refused > 0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_relay_says_so() {
    let limits = RelayLimits { connections_max: 1, ..RelayLimits::default() };
    let relay = Running::start(RelayAccess::Open, limits).await;
    let relays = [relay.relay.clone()];
    let first = Peer::relayed(1, &relays).await;
    first.at_home().await;
    let second = Peer::relayed(2, &relays).await;
    until("the refusal", || second.status().refused.is_some_and(|reason| reason.contains("full"))).await;
    assert_eq!(relay.server.figures().devices, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_fast_has_to_wait() {
    let (rate, burst) = (NonZeroU32::new(256 << 10), NonZeroU32::new(32 << 10));
    let (Some(bytes_per_second), Some(burst_bytes)) = (rate, burst) else { panic!("not zero") };
    let limits = RelayLimits { bytes_per_second, burst_bytes, ..RelayLimits::default() };
    for (limits, waits) in [(limits, true), (RelayLimits::default(), false)] {
        let relay = Running::start(RelayAccess::Open, limits).await;
        let relays = [relay.relay.clone()];
        let (a, b) = (Peer::relayed(1, &relays).await, Peer::relayed(2, &relays).await);
        a.at_home().await;
        let url = b.at_home().await;
        a.exchange(&b, url, &vec![7; 300_000]).await;
        assert_eq!(relay.server.figures().limited_bytes > 0, waits, "{limits:?}");
        assert_eq!(relay.metric("exo_relay_limited_connections_total") > 0, waits);
    }
}

/// iroh's server alone leaves connections open that nobody serves any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_stopped_or_dropped_lets_everyone_go() {
    for is_stopped in [true, false, true, false] {
        let relay = Running::open().await;
        let relays = [relay.relay.clone()];
        let (a, b) = (Peer::relayed(1, &relays).await, Peer::relayed(2, &relays).await);
        a.at_home().await;
        b.at_home().await;
        if is_stopped {
            relay.server.stop().await.expect("stops");
        } else {
            drop(relay.server);
        }
        until("the end of it", || !a.status().connected && !b.status().connected).await;
    }
}

#[tokio::test]
async fn the_figures_have_a_page_if_wanted() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut config = config(&folder, RelayAccess::Open, RelayLimits::default());
    config.metrics = Some(ANY);
    let relay = RelayServer::start(config).await.expect("the relay starts");
    let address = relay.metrics_address().expect("a page");
    let get = async |request: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
        stream.write_all(request).await.expect("written");
        let mut answer = String::new();
        in_time("the page", stream.read_to_string(&mut answer)).await.map(|_| answer)
    };
    let page = get(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("read");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.ends_with(&relay.metrics_text()), "{page}");
    assert!(page.contains("# TYPE exo_relay_devices gauge\nexo_relay_devices 0\n"), "{page}");
    assert!(get(b"GET / HTTP/1.1\r\n\r\n").await.expect("read").starts_with("HTTP/1.1 404"));
    // No end of a request, and no end of it.
    let endless = get(&[b'x'; 8 * 1024]).await;
    assert!(endless.is_err() || endless.is_ok_and(|answer| answer.is_empty()));
    assert!(get(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("read").contains("200 OK"));
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let fails = async |limits, https| {
        let mut config = config(&folder, RelayAccess::Open, limits);
        if let Some(tls) = &mut config.tls {
            tls.https = https;
        }
        RelayServer::start(config).await.err()
    };
    let taken = std::net::TcpListener::bind(ANY).expect("free").local_addr().expect("bound");
    let holder = std::net::TcpListener::bind(taken).expect("free");
    let error = fails(RelayLimits::default(), taken).await.expect("taken");
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    drop(holder);
    let Some(bytes_per_second) = NonZeroU32::new(BYTES_PER_SECOND_MIN - 1) else { panic!("not zero") };
    let error = fails(RelayLimits { bytes_per_second, ..RelayLimits::default() }, ANY).await;
    assert!(matches!(error, Some(RelayError::Limits)), "{error:?}");
}
