//! Stage streams: frames both ways, in order, bounded.

use exo_sync::mesh::{ALPN_STAGE, STAGE_FRAME_BYTES_MAX};
use exo_sync::wire::FrameError;

use crate::common::net::{Node, raw_dial, raw_endpoint};
use crate::common::{Rng, in_time};

#[tokio::test]
async fn stage_streams_carry_frames_both_ways() {
    let a = Node::found(1).await;
    let mut b = a.befriend(2).await;
    a.linked_with(&[&b]).await;
    let mut rng = Rng(0x57a6_0001);
    let frames: Vec<Vec<u8>> = [0, 1, 70_000, 3, 1 << 21].iter().map(|len| rng.bytes(*len)).collect();
    for _ in 0..2 {
        let mut out = a.mesh.open_stage(b.home.device()).await.expect("reachable");
        assert_eq!(out.peer, b.home.device());
        let send = async {
            for frame in &frames {
                out.sender.send(frame).await.expect("sent");
            }
            out.sender.finish();
        };
        let serve = async {
            let mut accepted = in_time("a stream", b.stages.recv()).await.expect("the mesh runs");
            assert_eq!(accepted.peer, a.home.device());
            let mut echoed = Vec::new();
            while let Some(frame) = accepted.receiver.receive().await.expect("whole frames") {
                accepted.sender.send(&frame).await.expect("sent");
                echoed.push(frame);
            }
            accepted.sender.finish();
            assert_eq!(echoed, frames);
            accepted
        };
        let receive = async {
            let mut back = Vec::new();
            while let Some(frame) = out.receiver.receive().await.expect("whole frames") {
                back.push(frame);
            }
            back
        };
        let ((), _accepted, back) = in_time("echo", async { tokio::join!(send, serve, receive) }).await;
        assert_eq!(back, frames);
    }
}

#[tokio::test]
async fn n7_oversize_stage_frames_are_refused_on_both_ends() {
    let mut a = Node::found(1).await;
    let b = a.befriend(2).await;
    let mut out = b.mesh.open_stage(a.home.device()).await.expect("reachable");
    let refused = out.sender.send(&vec![0; STAGE_FRAME_BYTES_MAX + 1]).await;
    assert!(matches!(refused, Err(FrameError::Oversize { .. })), "{refused:?}");
    // Nothing of it was sent: the stream is as good as before.
    out.sender.send(b"small").await.expect("sent");
    let mut accepted = in_time("a stream", a.stages.recv()).await.expect("the mesh runs");
    let small = in_time("a frame", accepted.receiver.receive()).await.expect("a frame");
    assert_eq!(small.as_deref(), Some(b"small".as_slice()));

    a.home.admit(66).await;
    let mallory = raw_endpoint(66, &[], 1 << 20).await;
    let connection = raw_dial(&mallory, &a, ALPN_STAGE).await;
    let too_long = u32::try_from(STAGE_FRAME_BYTES_MAX + 1).expect("fits").to_be_bytes();
    for (bytes, oversize) in [(&too_long[..], true), (&[0xff; 9][..], true), (&[0, 0, 0, 9, 1][..], false)] {
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        exo_sync::wire::write(&mut send, &a.home.community, 64).await.expect("sent");
        send.write_all(bytes).await.expect("sent");
        send.finish().expect("open");
        let mut accepted = in_time("a stream", a.stages.recv()).await.expect("the mesh runs");
        let error = in_time("an end", accepted.receiver.receive()).await.expect_err("refused");
        assert_eq!(matches!(error, FrameError::Oversize { .. }), oversize, "{error}");
    }
}

#[tokio::test]
async fn a_stage_to_nobody_is_an_error() {
    let a = Node::found(1).await;
    let unknown = crate::common::device(77);
    assert!(in_time("an answer", a.mesh.open_stage(unknown)).await.is_err());
    let no_key = exo_model::DeviceId::from_bytes([0xff; 32]);
    assert!(in_time("an answer", a.mesh.open_stage(no_key)).await.is_err());
}
