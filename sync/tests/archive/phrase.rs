//! A new device with nothing but an export and its person's phrase.

use exo_model::decide::Intent;
use exo_model::port::Signer as _;
use exo_sync::archive::Imported;

use super::common::insider::Person;
use super::common::{Home, certificate, key};
use super::{Exported, export, lived_in, try_import};

async fn restore(seed: u8, of: u8, whole: &(Vec<u8>, Exported), from: &Home) -> (Home, Imported) {
    let home = Home::empty(seed, from.community);
    let recovery = Person::new(of).phrase.recovery_key();
    let imported = try_import(&home, &whole.0, &whole.1.waypoints, Some(recovery)).await.expect("imported");
    (home, imported)
}

/// Closes and opens again, with views that know nothing.
async fn afresh(home: Home) -> Home {
    let (seed, community, folder) = (home.seed, home.community, home.folder.clone());
    home.close().await;
    Home::open(seed, community, folder, Vec::new())
}

#[tokio::test]
async fn a_restored_device_reads_at_once_and_after_a_restart_and_writes_when_enrolled() {
    let (ana, ben) = lived_in().await;
    let whole = export(&ben.path(), ben.community);
    let (again, imported) = restore(9, 2, &whole, &ana).await;
    assert_eq!((imported.new, imported.deferred, imported.refused, imported.own), (whole.1.changes, 0, 0, 0));
    assert_eq!(again.texts(), ["hello", "hello yourself"]);
    assert_eq!(again.state().hash(), ana.state().hash());
    assert!(!again.state().charter.is_member(&again.device()), "reading is not being enrolled");

    let again = afresh(again).await;
    assert_eq!(again.state().hash(), ana.state().hash(), "without the phrase");
    assert_eq!(again.unreadable(), 0);
    assert_eq!(again.texts(), ["hello", "hello yourself"]);
    let kept = again.folder.path().join("store.keys");
    assert!(kept.exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&kept).expect("there").permissions().mode() & 0o777, 0o600);
    }

    // Any member posts the certificate; then it writes on, and needs the kept
    // keys no more: they are sealed to it like to any device.
    ana.replica.record(Intent::AddDevice(Person::new(2).certify(&key(9), 2))).await.expect("enrolled");
    again.pull(&ana).await;
    assert!(again.state().charter.is_member(&again.device()));
    again.replica.tend().await.expect("tended");
    again.post("it is me").await;
    ana.pull(&again).await;
    assert!(ana.texts().contains(&"it is me".to_owned()));
    std::fs::remove_file(&kept).expect("removed");
    let again = afresh(again).await;
    assert_eq!(again.state().hash(), ana.state().hash());
    assert_eq!(again.unreadable(), 0);
    assert_eq!(again.texts().len(), 3);
}

#[tokio::test]
async fn another_device_cannot_read_the_kept_keys() {
    let (ana, ben) = lived_in().await;
    let (again, _) = restore(9, 2, &export(&ben.path(), ben.community), &ana).await;
    let folder = again.folder.clone();
    again.close().await;
    let thief = Home::open(8, ana.community, folder, Vec::new());
    assert!(thief.state().charter.members.is_empty());
    assert!(thief.texts().is_empty());
}

/// Seals lie in stored feeds as well: a keeper's copy, and the phrase later.
#[tokio::test]
async fn the_phrase_opens_what_is_stored_already() {
    let (ana, _ben) = lived_in().await;
    let whole = export(&ana.path(), ana.community);
    let (again, _) = restore(9, 2, &whole, &ana).await;
    std::fs::remove_file(again.folder.path().join("store.keys")).expect("removed");
    let again = afresh(again).await;
    assert!(again.state().charter.members.is_empty(), "nothing opens the charter");
    let learned =
        again.replica.learn_with_phrase(Person::new(2).phrase.recovery_key()).await.expect("learned");
    assert_eq!(learned, 3, "governance, members, the channel; Ben is no moderator");
    assert_eq!(again.state().hash(), ana.state().hash());
    assert_eq!(again.texts(), ["hello", "hello yourself"]);
}

#[tokio::test]
async fn without_keys_only_the_founding_is_stored_and_the_rest_waits() {
    let (ana, ben) = lived_in().await;
    let whole = export(&ben.path(), ben.community);
    let (thief, imported) = restore(7, 7, &whole, &ana).await;
    assert_eq!((imported.keys, imported.refused, imported.known), (0, 0, 0));
    assert_eq!(imported.new + imported.deferred, whole.1.changes);
    assert!(imported.deferred > imported.new, "{imported:?}");
    assert!(thief.texts().is_empty());
    assert_eq!(certificate(7).claims.device, key(7).device());
}
