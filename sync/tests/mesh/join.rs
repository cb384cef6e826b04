//! Joining: whoever is online completes it, and an invite is used as often as
//! it says and no longer than it says.

use exo_model::id::CommunityId;
use exo_model::invite::{JoinRequest, Ticket};
use exo_model::signature::SecretKey;
use exo_sync::mesh::{ALPN_JOIN, JoinStatus};
use exo_sync::wire;

use crate::common::net::{Node, converge, raw_dial, raw_endpoint};
use crate::common::{NOW, certificate, device, in_time, person, until};

const FRAME_BYTES_MAX: usize = 64 * 1024;

fn refusal(status: JoinStatus) -> String {
    match status {
        JoinStatus::Refused(reason) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn m7_a_one_use_invite_admits_once_and_an_expired_one_nobody() {
    let owner = Node::found(1).await;
    let ticket = owner.home.invite(1, NOW + 1_000, vec![owner.contact()]).await;
    let read_back: Ticket = ticket.to_string().parse().expect("a ticket survives being text");
    let first = Node::newcomer(2, owner.home.community).await;
    first.joins(&read_back).await;
    converge(&[&owner, &first]).await;

    let second = Node::newcomer(3, owner.home.community).await;
    let done = |status: &JoinStatus| !matches!(status, JoinStatus::Trying { .. });
    assert!(refusal(second.tries(&ticket, done).await).contains("already used"));
    // The one who is in already may ask again: its answer may have been lost.
    let again = first.tries(&ticket, done).await;
    assert!(matches!(again, JoinStatus::Admitted | JoinStatus::Joined), "{again:?}");

    let late = owner.home.invite(1, NOW + 1_000, vec![owner.contact()]).await;
    owner.home.clock.set(NOW + 1_001);
    assert!(refusal(second.tries(&late, done).await).contains("expired"));
    assert!(!owner.home.state().charter.is_member(&device(3)));
    assert_eq!(second.home.replica.snapshot().change_count(), 0, "a refused newcomer learns nothing");
}

#[tokio::test]
async fn m7_a_ticket_nobody_issued_goes_on_trying_and_gets_nothing() {
    let owner = Node::found(1).await;
    let secret = SecretKey::from_bytes(&[0xee; 32]);
    let contacts = vec![owner.contact()];
    let ticket = Ticket::new(owner.home.community, "Garden".into(), &secret, NOW + 1_000, contacts);
    let newcomer = Node::newcomer(2, owner.home.community).await;
    let tried =
        newcomer.tries(&ticket, |status| matches!(status, JoinStatus::Trying { rounds: 1.., .. })).await;
    assert!(
        matches!(&tried, JoinStatus::Trying { last_error, .. } if last_error.contains("not known")),
        "{tried:?}"
    );
    assert_eq!(owner.home.state().charter.members.len(), 1);
}

#[tokio::test]
async fn m7_a_request_for_another_device_or_name_is_refused() {
    let owner = Node::found(1).await;
    let ticket = owner.home.invite(5, NOW + 1_000, vec![owner.contact()]).await;
    let thief = raw_endpoint(66, &[], 1 << 20).await;
    let before = owner.home.digest();
    let honest = ticket.request(certificate(66), "Eve".into());
    let mut requests = vec![ticket.request(certificate(2), "Ben".into())];
    requests.push(ticket.request(certificate(66), "  Eve\u{202e} ".into()));
    requests.push(JoinRequest { name: "Owner".into(), ..honest.clone() });
    // Poses as a device of someone who is in, with a certificate nobody signed
    // and an invite nobody issued: the answer carries the keys of the charter.
    let mut posing = certificate(66);
    posing.claims.person = person(1);
    let made_up = Ticket::new(
        owner.home.community,
        "Garden".into(),
        &SecretKey::from_bytes(&[0xee; 32]),
        NOW + 1_000,
        Vec::new(),
    );
    requests.push(made_up.request(posing, "Ona".into()));
    let elsewhere = CommunityId::from_bytes([9; 32]);
    requests.push(JoinRequest { community: elsewhere, ..honest });
    for request in &requests {
        let connection = raw_dial(&thief, &owner, ALPN_JOIN).await;
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        wire::write(&mut send, request, FRAME_BYTES_MAX).await.expect("sent");
        let answer = in_time("an answer", wire::read_bytes(&mut recv, FRAME_BYTES_MAX)).await;
        let answer = answer.expect("readable").expect("an answer");
        assert_eq!(answer[..2], [0x82, 1], "admitted: {request:?}");
        connection.close(0_u32.into(), b"");
    }
    // Garbage and an oversize prefix are noted, and joining goes on working.
    let noted = owner.mesh.refusals().len();
    for (n, garbage) in [vec![0, 0, 0, 3, 1, 2, 3], vec![0xff; 16]].into_iter().enumerate() {
        let connection = raw_dial(&thief, &owner, ALPN_JOIN).await;
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&garbage).await.expect("sent");
        until("a note", || owner.mesh.refusals().len() == noted + n + 1).await;
        connection.close(0_u32.into(), b"");
    }
    assert_eq!(owner.home.digest(), before);
    let honest = Node::newcomer(2, owner.home.community).await;
    honest.joins(&ticket).await;
}

#[tokio::test]
async fn a_join_started_while_nobody_is_online_completes_later() {
    let owner = Node::found(1).await;
    let ticket = owner.home.invite(1, NOW + 1_000, vec![owner.contact()]).await;
    owner.mesh.node().set_online(false);
    assert!(!owner.mesh.node().is_online());
    let newcomer = Node::newcomer(2, owner.home.community).await;
    let join = newcomer.mesh.join(&ticket, certificate(2), "Ben".into());
    let mut status = join.watch();
    let tried = status.wait_for(|status| matches!(status, JoinStatus::Trying { rounds: 1.., .. }));
    in_time("a first round", tried).await.expect("goes on");
    owner.mesh.node().set_online(true);
    in_time("the end", status.wait_for(|status| *status == JoinStatus::Joined)).await.expect("goes on");
    assert_eq!(newcomer.home.state().charter.members[&person(2)].name, "Ben");
    converge(&[&owner, &newcomer]).await;
}

/// The founder is gone for good: another member completes the join, and those
/// who are left find each other.
#[tokio::test]
async fn n4_without_the_inviter_members_still_talk_and_let_newcomers_in() {
    let founder = Node::found(1).await;
    let ben = founder.befriend(2).await;
    let cleo = founder.befriend(3).await;
    let contacts = vec![founder.contact(), ben.contact()];
    let ticket = founder.home.invite(1, NOW + 1_000, contacts).await;
    converge(&[&founder, &ben, &cleo]).await;
    ben.linked_with(&[&cleo]).await;
    founder.close().await.close().await;

    ben.home.post("is anyone there?").await;
    converge(&[&ben, &cleo]).await;
    cleo.home.post("I am").await;
    converge(&[&ben, &cleo]).await;

    let dora = Node::newcomer(4, ben.home.community).await;
    dora.joins(&ticket).await;
    converge(&[&ben, &cleo, &dora]).await;
    dora.linked_with(&[&ben, &cleo]).await;
    dora.home.post("me too").await;
    converge(&[&ben, &cleo, &dora]).await;
}
