//! Strangers are refused; a hostile member is noted and hurts nobody.

use exo_model::decide::Intent;
use exo_model::feed::{Change, FeedId, Stream};
use exo_model::id::CommunityId;
use exo_model::trust::TrustLevel;
use exo_sync::mesh::probe::Hostility;
use exo_sync::mesh::{ALPN_STAGE, ALPN_SYNC};
use exo_sync::session::{FRAME_BYTES_MAX, Frame, LineRun, WIRE_VERSION_OLDEST};
use exo_sync::wire;
use iroh::endpoint::{Connection, ConnectionError};

use crate::common::net::{Node, converge, hello, raw_dial, raw_endpoint, raw_exchange};
use crate::common::{Author, NOW, device, in_time, person, until};

/// The seed of a member whose program is not ours.
const MALLORY: u8 = 66;

/// Waits until the other side closes; its code.
async fn close_code(connection: &Connection) -> u64 {
    match in_time("a refusal", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("closed otherwise: {other}"),
    }
}

#[tokio::test]
async fn n5_n8_a_stranger_is_refused_on_every_protocol_but_joining() {
    let node = Node::found(1).await;
    let stranger = raw_endpoint(50, &[], 1 << 20).await;
    for alpn in [ALPN_SYNC, ALPN_STAGE, iroh_blobs::ALPN] {
        let connection = raw_dial(&stranger, &node, alpn).await;
        // Whatever it sends at once is never answered.
        let frames = [hello(node.home.community, Vec::new()), Frame::Done];
        if let Ok((mut send, mut recv)) = connection.open_bi().await {
            let _ = wire::write(&mut send, &frames[0], FRAME_BYTES_MAX).await;
            let answer = in_time("an end", wire::read_bytes(&mut recv, FRAME_BYTES_MAX)).await;
            assert!(!matches!(answer, Ok(Some(_))), "answered a stranger");
        }
        assert_eq!(close_code(&connection).await, 1);
    }
    assert!(node.mesh.peers().is_empty());
    // The same key, once admitted, is let in: membership was the reason.
    node.home.admit(50).await;
    let connection = raw_dial(&stranger, &node, ALPN_SYNC).await;
    greets(&connection, node.home.community).await;
}

/// An honest exchange of a raw member; returns the runs it was sent.
async fn greets(connection: &Connection, community: CommunityId) -> Vec<LineRun> {
    let frames = [hello(community, Vec::new()), Frame::Done];
    let (_send, mut recv) = raw_exchange(connection, &frames).await;
    let mut runs = Vec::new();
    loop {
        let frame = in_time("a frame", wire::read::<_, Frame>(&mut recv, FRAME_BYTES_MAX)).await;
        match frame.expect("a proper frame").expect("not ended") {
            Frame::Hello { version, community: theirs, .. } => {
                assert_eq!((version, theirs), (WIRE_VERSION_OLDEST, community));
            }
            Frame::Changes(run) => runs.push(run),
            Frame::Done => return runs,
            other => panic!("nothing was asked for: {other:?}"),
        }
    }
}

#[tokio::test]
async fn n7_a_forged_change_and_an_oversize_frame_are_refused_and_noted() {
    let victim = Node::found(1).await;
    let prober = victim.befriend(2).await;
    victim.home.post("mine").await;
    converge(&[&victim, &prober]).await;
    let before = victim.home.digest();
    for (n, hostility) in [Hostility::ForgedChange, Hostility::OversizeFrame].into_iter().enumerate() {
        prober.mesh.probe(victim.home.device(), hostility).await.expect("reachable");
        until("a note", || victim.mesh.refusals().len() == n + 1).await;
        let note = victim.mesh.refusals().pop().expect("a note");
        assert_eq!(note.device, prober.home.device());
        let word = ["signature", "refused: at most"][n];
        assert!(note.reason.contains(word), "{}", note.reason);
    }
    assert_eq!(*victim.mesh.node().watch_refusals().borrow(), 2);
    assert_eq!(victim.home.digest(), before, "its feed is what it was");
    victim.home.post("still me").await;
    prober.home.post("no hard feelings").await;
    converge(&[&victim, &prober]).await;
    victim.home.replica.audit().await.expect("one chain");
}

/// What a member must not send, with what the note says.
fn misdeeds(community: CommunityId, feed: FeedId) -> Vec<(Vec<Frame>, &'static str)> {
    let greeting = || hello(community, Vec::new());
    let elsewhere = CommunityId::from_bytes([9; 32]);
    let foreign = Author::new(MALLORY).line_messages(FeedId { community: elsewhere, ..feed }, 0, 1);
    let other_version =
        Frame::Hello { version: WIRE_VERSION_OLDEST + 7, community, heads: Vec::new(), window: None };
    vec![
        (vec![Frame::Done], "unexpected"),
        (vec![Frame::Changes(Author::new(MALLORY).line_messages(feed, 0, 1))], "unexpected"),
        (vec![greeting(), greeting()], "unexpected"),
        (vec![other_version], "version"),
        (vec![greeting(), Frame::Changes(foreign)], "another community"),
    ]
}

#[tokio::test]
async fn n1_n10_a1_misdeeds_of_a_member_are_noted_and_honest_sync_goes_on() {
    let victim = Node::found(1).await;
    victim.home.admit(MALLORY).await;
    let feed = victim.home.messages_of(device(MALLORY));
    victim.home.replica.ingest(Author::new(MALLORY).messages(feed, 0, 1)).await.expect("honest so far");
    let before = (victim.home.end_of(&feed).await, victim.home.replica.snapshot().change_count());
    let mallory = raw_endpoint(MALLORY, &[], 1 << 20).await;
    let connection = raw_dial(&mallory, &victim, ALPN_SYNC).await;
    let community = victim.home.community;
    let mut noted = 0;
    for (frames, word) in misdeeds(community, feed) {
        let _streams = raw_exchange(&connection, &frames).await;
        noted += 1;
        until(word, || victim.mesh.refusals().len() == noted).await;
        let note = victim.mesh.refusals().pop().expect("a note");
        assert!(note.device == device(MALLORY) && note.reason.contains(word), "{}: {word}", note.reason);
    }
    for garbage in [vec![0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff], vec![0, 0, 0, 0], vec![0x7f; 64]] {
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&garbage).await.expect("sent");
        noted += 1;
        until("a note on garbage", || victim.mesh.refusals().len() == noted).await;
    }
    let after = (victim.home.end_of(&feed).await, victim.home.replica.snapshot().change_count());
    assert_eq!(after, before, "nothing came in");
    let fork = Author::new(MALLORY).line_messages(feed, 50, 1);
    let _streams =
        raw_exchange(&connection, &[hello(community, Vec::new()), Frame::Changes(fork), Frame::Done]).await;
    until("a second line and its proof", || victim.home.replica.snapshot().change_count() == before.1 + 2)
        .await;
    let ends = victim.home.replica.snapshot().ends;
    assert!(ends.of_feed(&feed).contains(&before.0), "the first line is what it was");
    assert!(!greets(&connection, community).await.is_empty(), "the same connection still serves");
    let ben = victim.befriend(2).await;
    victim.home.post("unharmed").await;
    converge(&[&victim, &ben]).await;
}

#[tokio::test]
async fn a2_a_bad_run_among_good_ones_is_refused_alone() {
    let victim = Node::found(1).await;
    victim.home.admit(MALLORY).await;
    let mallory = raw_endpoint(MALLORY, &[], 1 << 20).await;
    let connection = raw_dial(&mallory, &victim, ALPN_SYNC).await;
    let good = victim.home.messages_of(device(MALLORY));
    let mut author = Author::new(MALLORY);
    let mut bad = author.line_messages(FeedId { stream: Stream::Ledger, ..good }, 0, 8);
    bad.run.changes[4].time_ms += 1;
    let frames = [
        hello(victim.home.community, Vec::new()),
        Frame::Changes(author.line_messages(good, 0, 3)),
        Frame::Changes(bad),
        Frame::Changes(author.line_messages(good, 3, 3)),
        Frame::Done,
    ];
    let before = victim.home.replica.snapshot().change_count();
    let _streams = raw_exchange(&connection, &frames).await;
    until("both good runs", || victim.home.replica.snapshot().change_count() == before + 6).await;
    until("a note", || victim.mesh.refusals().len() == 1).await;
    assert!(victim.mesh.refusals()[0].reason.contains("signature"));
}

/// What does not fit today is put off; the rest of the feed, which then has no
/// place, is nobody's fault.
#[tokio::test]
async fn n6_a_flood_beyond_the_quota_is_put_off_without_blame() {
    let victim = Node::found(1).await;
    victim.home.admit_at(MALLORY, TrustLevel::Public).await;
    let mallory = raw_endpoint(MALLORY, &[], 1 << 20).await;
    let connection = raw_dial(&mallory, &victim, ALPN_SYNC).await;
    let mut author = Author::new(MALLORY);
    let feed = victim.home.messages_of(device(MALLORY));
    let big = vec![Change { time_ms: NOW, payload: vec![7; 32_000] }; 15];
    let mut frames = vec![hello(victim.home.community, Vec::new())];
    frames.extend((0..12).map(|_| Frame::Changes(author.line_run(feed, big.clone()))));
    frames.push(Frame::Done);
    let (_send, mut recv) = raw_exchange(&connection, &frames).await;
    // The exchange ends as any other.
    while let Ok(Some(_)) = in_time("an end", wire::read_bytes(&mut recv, FRAME_BYTES_MAX)).await {}
    until("what fits", || {
        let told = victim.home.seqs(&feed);
        told.len() == 8 * 15
    })
    .await;
    greets(&connection, victim.home.community).await;
    assert_eq!(victim.home.end_of(&feed).await.seq, 8 * 15);
    assert!(victim.mesh.refusals().is_empty(), "{:?}", victim.mesh.refusals());
}

/// Refused from the removal on, on every protocol but joining.
#[tokio::test]
async fn n5_a_removed_members_device_is_refused_from_then_on() {
    let node = Node::found(1).await;
    node.home.admit(MALLORY).await;
    let mallory = raw_endpoint(MALLORY, &[], 1 << 20).await;
    let connection = raw_dial(&mallory, &node, ALPN_SYNC).await;
    greets(&connection, node.home.community).await;
    let remove = Intent::Remove { person: person(MALLORY), ban: false, reason: String::new() };
    node.home.replica.record(remove).await.expect("the owner may");
    for alpn in [ALPN_SYNC, ALPN_STAGE, iroh_blobs::ALPN] {
        let connection = raw_dial(&mallory, &node, alpn).await;
        assert_eq!(close_code(&connection).await, 1);
    }
    assert!(node.mesh.peers().is_empty());
}

/// A flood of hostile things leaves a bounded number of notes.
#[tokio::test]
async fn n6_notes_on_refusals_are_bounded() {
    let victim = Node::found(1).await;
    victim.home.admit(MALLORY).await;
    let mallory = raw_endpoint(MALLORY, &[], 1 << 20).await;
    let connection = raw_dial(&mallory, &victim, ALPN_SYNC).await;
    for _ in 0..100 {
        let _streams = raw_exchange(&connection, &[Frame::Done]).await;
    }
    let mut count = victim.mesh.node().watch_refusals();
    in_time("100 refusals", count.wait_for(|count| *count == 100)).await.expect("still running");
    assert_eq!(victim.mesh.refusals().len(), 64);
}
