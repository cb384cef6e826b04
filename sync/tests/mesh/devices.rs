//! Devices of one person: linked by a code, brought back by the phrase, cut off
//! when they are lost.

use std::net::SocketAddr;

use exo_model::decide::Intent;
use exo_model::invite::{Contact, Ticket};
use exo_model::pairing::{PairingCode, PairingInvite};
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_sync::mesh::{HomecomingError, KnownCommunity, PairingGuest, pair};

use crate::common::insider::{Person, Seeded};
use crate::common::net::{Node, converge};
use crate::common::{certificate, device, in_time, key, person, until};

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn fresh_invite(seed: u64) -> PairingInvite {
    let code = PairingCode::generate(&Seeded::new(seed));
    PairingInvite { code, addresses: Vec::new(), relays: Vec::new() }
}

/// What an enrolled device finds its community with.
fn ticket(known: &KnownCommunity) -> Ticket {
    let secret = SecretKey::from_bytes(&[0x77; 32]);
    Ticket::new(known.community, known.name.clone(), &secret, i64::MAX, known.contacts.clone())
}

fn guest<'a>(invite: &'a PairingInvite, seed: &'a SecretKey) -> PairingGuest<'a> {
    let sealing = SealingKey::of_device(seed).public();
    PairingGuest { invite, bind: ANYWHERE, key: seed, sealing, name: "Laptop".into() }
}

#[tokio::test]
async fn a_second_device_is_linked_by_a_code_and_reads_and_writes() {
    let phone = Node::found(1).await;
    let ben = phone.befriend(2).await;
    phone.home.post("before there was a laptop").await;
    converge(&[&phone, &ben]).await;
    let host = phone.mesh.node().open_pairing(fresh_invite(1), ANYWHERE).await.expect("opens");
    let read: PairingInvite = host.invite().to_string().parse().expect("a link survives being text");
    let waiting = tokio::spawn(host.wait(certificate(1), "Ona".into()));
    let new_key = key(7);
    let paired = in_time("pairing", pair(guest(&read, &new_key))).await.expect("linked");
    let claims = in_time("the first device", waiting).await.expect("no panic").expect("linked");
    assert_eq!((paired.certificate.claims.clone(), paired.person_name.as_str()), (claims.clone(), "Ona"));
    assert_eq!((claims.person, claims.device, claims.serial), (person(1), device(7), 2));
    assert_eq!(paired.communities.len(), 1);

    let laptop = Node::newcomer(7, paired.communities[0].community).await;
    laptop.joins(&ticket(&paired.communities[0])).await;
    converge(&[&phone, &ben, &laptop]).await;
    let charter = ben.home.state().charter.clone();
    assert_eq!(charter.person_of(&device(7)), Some(person(1)));
    assert_eq!(charter.members.len(), 2, "one person with two devices");
    until("the words", || laptop.home.texts() == ["before there was a laptop"]).await;
    laptop.home.post("from the laptop").await;
    converge(&[&phone, &ben, &laptop]).await;
    until("the words", || ben.home.texts().len() == 2).await;
    // A third one gets a serial above.
    let host = laptop.mesh.node().open_pairing(fresh_invite(2), ANYWHERE).await.expect("opens");
    let read = host.invite().clone();
    let waiting = tokio::spawn(host.wait(paired.certificate, "Ona".into()));
    let third = key(8);
    let paired = in_time("pairing", pair(guest(&read, &third))).await.expect("linked");
    assert_eq!(paired.certificate.claims.serial, 3);
    waiting.await.expect("no panic").expect("linked");
}

#[tokio::test]
async fn another_code_links_nothing() {
    let phone = Node::found(1).await;
    let host = phone.mesh.node().open_pairing(fresh_invite(1), ANYWHERE).await.expect("opens");
    let mut wrong = fresh_invite(3);
    wrong.addresses.clone_from(&host.invite().addresses);
    let right = host.invite().clone();
    let waiting = tokio::spawn(host.wait(certificate(1), "Ona".into()));
    let new_key = key(7);
    let tried = tokio::time::timeout(std::time::Duration::from_secs(2), pair(guest(&wrong, &new_key))).await;
    assert!(tried.is_err(), "it goes on trying, in vain");
    assert!(!phone.home.state().charter.is_member(&device(7)));
    in_time("pairing", pair(guest(&right, &new_key))).await.expect("the right code still works");
    waiting.await.expect("no panic").expect("linked");
    assert!(phone.home.state().charter.is_member(&device(7)));
}

/// All devices of a person are gone; a member of another person takes them back.
#[tokio::test]
async fn the_phrase_brings_a_person_back_through_any_member() {
    let phone = Node::found(1).await;
    let ben = phone.befriend(2).await;
    phone.home.post("remember this").await;
    converge(&[&phone, &ben]).await;
    phone.close().await.close().await;

    let newcomer = Node::newcomer(9, ben.home.community).await;
    let contact = |node: &Node| -> Vec<Contact> { vec![node.contact()] };
    let back = Person::new(1).certify(&key(9), 5);
    // Another person's certificate, another device's, and one without the phrase.
    let stranger = Person::new(40).certify(&key(9), 1);
    let refused = newcomer.mesh.node().come_back(&stranger, &contact(&ben)).await;
    assert!(matches!(refused, Err(HomecomingError::Refused(_))), "{refused:?}");
    let elses = Person::new(1).certify(&key(10), 5);
    let refused = newcomer.mesh.node().come_back(&elses, &contact(&ben)).await;
    assert!(matches!(refused, Err(HomecomingError::Refused(_))), "{refused:?}");
    let mut forged = back.clone();
    forged.claims.person = person(2);
    let refused = newcomer.mesh.node().come_back(&forged, &contact(&ben)).await;
    assert!(matches!(refused, Err(HomecomingError::Refused(_))), "{refused:?}");
    let nobody = [Contact { device: device(99), addresses: vec!["127.0.0.1:9".into()] }];
    let unreached = newcomer.mesh.node().come_back(&back, &nobody).await;
    assert!(matches!(unreached, Err(HomecomingError::Unreached(_))), "{unreached:?}");

    let known = newcomer.mesh.node().come_back(&back, &contact(&ben)).await.expect("welcome");
    assert_eq!(known.len(), 1);
    newcomer.joins(&ticket(&known[0])).await;
    converge(&[&ben, &newcomer]).await;
    assert_eq!(newcomer.home.state().charter.person_of(&device(9)), Some(person(1)));
    until("the words", || newcomer.home.texts() == ["remember this"]).await;
    newcomer.home.post("I am back").await;
    converge(&[&ben, &newcomer]).await;
    // Asking again changes nothing.
    let again = newcomer.mesh.node().come_back(&back, &contact(&ben)).await.expect("welcome");
    assert_eq!(again.len(), 1);
}

/// N5, M8: a device that is revoked, and a person who is removed, are cut off
/// while they are connected.
#[tokio::test]
async fn n5_m8_a_revoked_device_is_cut_off_live() {
    let phone = Node::found(1).await;
    let ben = phone.befriend(2).await;
    let cleo = phone.befriend(3).await;
    converge(&[&phone, &ben, &cleo]).await;
    phone.linked_with(&[&ben, &cleo]).await;
    ben.linked_with(&[&cleo]).await;
    let stage = ben.mesh.open_stage(phone.home.device()).await;
    assert!(stage.is_ok(), "a member may");
    let remove = Intent::Remove { person: person(2), ban: false, reason: String::new() };
    phone.home.replica.record(remove).await.expect("an owner may");
    until("phone cuts", || !phone.mesh.node().is_connected(&device(2))).await;
    converge(&[&phone, &cleo]).await;
    until("cleo cuts", || !cleo.mesh.node().is_connected(&device(2))).await;
    cleo.home.post("among ourselves").await;
    converge(&[&phone, &cleo]).await;
    assert!(ben.home.texts().iter().all(|text| text != "among ourselves"));
    let refused = async {
        let mut stream = ben.mesh.open_stage(phone.home.device()).await.ok()?;
        stream.receiver.receive().await.ok()?
    };
    assert_eq!(in_time("a refusal", refused).await, None);
}
