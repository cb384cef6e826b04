//! Archives written, read, restored, and met by liars.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exo_model::amount::Amount;
use exo_model::certificate::DeviceCertificate;
use exo_model::charter::CommunityKind;
use exo_model::decide::Intent;
use exo_model::hash::blake3;
use exo_model::id::{BlobHash, CommunityId, DeviceId};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Signer as _;
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_sync::replica::{self, Founding, Replica, ReplicaConfig};

use super::backup::{Keepsakes, Layout, Restored, StoreAt, backup, restore};
use super::read::Archive;
use super::sealing::Passphrase;
use super::write::{BlobToWrite, WriteOptions, Written, export_community};
use super::{ArchiveError, Kind};
use crate::folder::{Folder, certify};
use crate::host::{OsEntropy, SystemClock};

/// Mutants of one file.
const MUTANTS: usize = 2_000;
const BLOB: &[u8] = b"a picture of the garden";

/// One person's device with two communities.
struct Ana {
    root: tempfile::TempDir,
    key: SecretKey,
    phrase: RecoveryPhrase,
    communities: Vec<CommunityId>,
}

fn store_of(root: &Path, community: &CommunityId) -> PathBuf {
    root.join("communities").join(community.to_hex()).join("store.db")
}

fn open(root: &Path, community: CommunityId, key: &SecretKey) -> (Replica, std::thread::JoinHandle<()>) {
    let path = store_of(root, &community);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let config = ReplicaConfig {
        path,
        community,
        signer: Arc::new(SecretKey::from_bytes(&key.to_bytes())),
        sealing: SealingKey::of_device(key),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        view_cursors: Vec::new(),
    };
    Replica::open(config, |_| ()).expect("opens")
}

fn close((replica, thread): (Replica, std::thread::JoinHandle<()>)) {
    drop(replica);
    thread.join().expect("ends well");
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

fn post(replica: &Replica, text: &str) {
    let channel = *replica.state().charter.channels.keys().next().expect("a channel");
    let text = text.to_owned();
    let post = Intent::Post { channel, text, reply_to: None, mentions: Vec::new(), attachments: Vec::new() };
    block(replica.record(post)).expect("a member may write");
}

fn layout(store_of: &dyn Fn(&Path, &CommunityId) -> PathBuf) -> Layout<'_> {
    Layout { store_of, blobs: "restored-blobs", finish: &|_, _, _| Ok(()) }
}

impl Ana {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (key, phrase) = (SecretKey::generate(&OsEntropy), RecoveryPhrase::generate(&OsEntropy));
        let mut ana = Self { root, key, phrase, communities: Vec::new() };
        ana.found("Garden");
        ana.found("Choir");
        ana
    }

    fn found(&mut self, name: &str) {
        // The community is named by its first change, so its store moves there.
        let draft = self.root.path().join("draft.db");
        let founding = Founding {
            kind: CommunityKind::Shared,
            certificate: certify(&self.key, &self.phrase, 1).expect("certified"),
            founder_name: "Ana",
            name,
            floor: Amount::from_token_mib(-1_000),
        };
        let sealing = SealingKey::of_device(&self.key);
        let community = replica::found(&draft, founding, &self.key, sealing, &SystemClock, &OsEntropy);
        let community = community.expect("founded");
        let path = store_of(self.root.path(), &community);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::rename(&draft, &path).expect("moved");
        let opened = open(self.root.path(), community, &self.key);
        post(&opened.0, &format!("hello {name}"));
        close(opened);
        self.communities.push(community);
    }

    fn store(&self, index: usize) -> PathBuf {
        store_of(self.root.path(), &self.communities[index])
    }

    fn export(&self, target: &Path, options: &WriteOptions<'_>) -> Result<Written, ArchiveError> {
        export_community(target, &self.store(0), self.communities[0], vec![blob()], &self.key, 7, options)
    }

    fn keepsakes(&self) -> Keepsakes {
        Keepsakes {
            person: self.phrase.person(),
            name: "Ana".into(),
            communities: self.communities.iter().map(|id| (*id, "one of them".to_owned())).collect(),
            settings: BTreeMap::from([("theme".to_owned(), "dark".to_owned())]),
        }
    }

    fn backup(&self, target: &Path, passphrase: Option<&Passphrase>) -> Written {
        let store = |index: usize| StoreAt { community: self.communities[index], store: self.store(index) };
        let options = WriteOptions { passphrase, replaces: true };
        let stores = [store(0), store(1)];
        backup(target, &self.keepsakes(), &stores, vec![blob()], &self.key, 7, &options).expect("written")
    }

    fn restore(&self, file: &Path, root: &Path) -> Result<Restored, ArchiveError> {
        restore(&mut Archive::open(file, None)?, root, &self.phrase, &layout(&store_of))
    }
}

fn blob() -> BlobToWrite<'static> {
    BlobToWrite {
        hash: blake3(BLOB),
        size_bytes: BLOB.len() as u64,
        open: Box::new(|| Ok(Box::new(Cursor::new(BLOB)))),
    }
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.into()).expect("usable").with_work_factor(4)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// A replica of the community in an archive, on a device that knows only the
/// phrase.
fn import(ana: &Ana, archive: &mut Archive, root: &Path) -> exo_sync::archive::Imported {
    let key = SecretKey::generate(&OsEntropy);
    let opened = open(root, archive.communities().next().expect("one"), &key);
    let imported = archive.import(0, &opened.0, Some(ana.phrase.recovery_key())).expect("imported");
    close(opened);
    imported
}

#[test]
fn an_exported_community_comes_back_sealed_or_not() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    let words = passphrase("correct horse");
    let (plain, sealed) = (folder.path().join("garden.exo"), folder.path().join("sealed.exo"));
    ana.export(&plain, &WriteOptions::default()).expect("written");
    let written = ana.export(&sealed, &WriteOptions { passphrase: Some(&words), replaces: false });
    let written = written.expect("written");
    assert_eq!((written.communities, written.blobs), (1, 1));
    assert!(written.changes > 5);

    for (path, passphrase) in [(&plain, None), (&sealed, Some(&words)), (&plain, Some(&words))] {
        let mut archive = Archive::open(path, passphrase).expect("whole");
        assert_eq!((archive.header().kind, archive.header().device), (Kind::Community, ana.key.device()));
        assert_eq!(archive.communities().collect::<Vec<_>>(), ana.communities[..1]);
        let root = tempfile::tempdir().expect("a temporary folder");
        let imported = import(&ana, &mut archive, root.path());
        assert_eq!((imported.new, imported.deferred, imported.refused), (written.changes, 0, 0));
        // Out again: the same export, whoever signs around it.
        let mut inner = [Vec::new(), Vec::new()];
        for (root, bytes) in [ana.root.path(), root.path()].into_iter().zip(&mut inner) {
            let store = store_of(root, &ana.communities[0]);
            exo_sync::archive::export(&store, ana.communities[0], bytes).expect("exported");
        }
        assert_eq!(inner[0], inner[1]);

        let blob = archive.blobs()[0];
        let mut bytes = Vec::new();
        archive.save_blob(&blob, &mut bytes).expect("saved");
        assert_eq!((bytes.as_slice(), blob.hash, blob.size_bytes), (BLOB, blake3(BLOB), 23));
    }
}

#[test]
fn files_are_private_and_replaced_only_when_told() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    let path = folder.path().join("garden.exo");
    ana.export(&path, &WriteOptions::default()).expect("written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    std::fs::write(&path, b"precious").expect("written");
    assert!(matches!(ana.export(&path, &WriteOptions::default()), Err(ArchiveError::Exists(_))));
    assert_eq!(std::fs::read(&path).expect("there"), b"precious");
    ana.export(&path, &WriteOptions { passphrase: None, replaces: true }).expect("replaced");
    Archive::open(&path, None).expect("whole");

    // What fails leaves neither a file nor a draft.
    let other = folder.path().join("other.exo");
    let wrong = BlobToWrite { hash: BlobHash::from_bytes([1; 32]), ..blob() };
    let short = BlobToWrite { size_bytes: 24, ..blob() };
    for blob in [wrong, short] {
        let options = WriteOptions::default();
        let failed =
            export_community(&other, &ana.store(0), ana.communities[0], vec![blob], &ana.key, 7, &options);
        assert!(matches!(failed, Err(ArchiveError::Blob(_))), "{failed:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1);
}

#[test]
fn wrong_passphrases_damage_and_strangers_files_are_told_apart() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    assert!(matches!(Passphrase::new(String::new()), Err(ArchiveError::Passphrase)));
    assert!(matches!(Passphrase::new("  \n".into()), Err(ArchiveError::Passphrase)));
    assert!(matches!(Passphrase::new("x".repeat(1_025)), Err(ArchiveError::Passphrase)));
    let words = passphrase("correct horse");
    let path = folder.path().join("sealed.exo");
    ana.export(&path, &WriteOptions { passphrase: Some(&words), replaces: false }).expect("written");
    let bytes = std::fs::read(&path).expect("there");
    assert!(bytes.starts_with(b"age-encryption.org/v1\n-> scrypt "), "an age file");
    let open = |bytes: &[u8], passphrase: Option<&Passphrase>| {
        std::fs::write(&path, bytes).expect("written");
        Archive::open(&path, passphrase).map(drop).expect_err("refused")
    };
    assert!(matches!(open(&bytes, None), ArchiveError::Sealed));
    assert!(matches!(open(&bytes, Some(&passphrase("wrong horse"))), ArchiveError::WrongPassphrase));
    let mut changed = bytes.clone();
    let last = changed.len() - 9;
    changed[last] ^= 1;
    assert!(matches!(open(&changed, Some(&words)), ArchiveError::Damaged));
    assert!(matches!(open(&bytes[..bytes.len() - 1], Some(&words)), ArchiveError::Damaged));
    assert!(matches!(open(&bytes[..60], Some(&words)), ArchiveError::Damaged));

    // A header that never ends, and one that asks for a day of work.
    let endless = [b"age-encryption.org/v1\n-> scrypt ".to_vec(), vec![b'a'; 1 << 20]].concat();
    assert!(matches!(open(&endless, Some(&words)), ArchiveError::Damaged));
    let line_end = bytes.iter().skip(22).position(|byte| *byte == b'\n').expect("a line") + 22;
    let costly = [&bytes[..line_end - 1], b"30", &bytes[line_end..]].concat();
    assert!(matches!(open(&costly, Some(&words)), ArchiveError::Work(30)));

    assert!(matches!(open(b"hello", None), ArchiveError::NotAnArchive));
    assert!(matches!(open(b"", None), ArchiveError::NotAnArchive));
    assert!(matches!(open(b"exo-file\x02", None), ArchiveError::Version(2)));
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public();
    let for_keys = age::encrypt(&recipient, b"exo-file").expect("encrypted");
    assert!(matches!(open(&for_keys, Some(&words)), ArchiveError::SealedForKeys));
}

/// The seal is age's: its own reader opens it, and what is in it is the file
/// that is written without a passphrase.
#[test]
fn the_age_crate_alone_opens_a_sealed_archive() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    let words = passphrase("correct horse");
    let (plain, sealed) = (folder.path().join("garden.exo"), folder.path().join("sealed.exo"));
    ana.export(&plain, &WriteOptions::default()).expect("written");
    ana.export(&sealed, &WriteOptions { passphrase: Some(&words), replaces: false }).expect("written");
    let bytes = std::fs::read(&sealed).expect("there");
    let identity = age::scrypt::Identity::new("correct horse".to_owned().into());
    let opened = age::decrypt(&identity, &bytes).expect("opens");
    assert_eq!(opened, std::fs::read(&plain).expect("there"));
}

/// Files of the first version stay readable: one that was written once, sealed.
#[test]
fn a_file_that_was_written_once_stays_readable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/archive/golden.exo");
    let mut archive = Archive::open(&path, Some(&passphrase("golden"))).expect("readable for ever");
    assert_eq!(archive.header().made_ms, 7);
    let root = tempfile::tempdir().expect("a temporary folder");
    let phrase = RecoveryPhrase::from_entropy(&[42; 32]);
    let restored =
        restore(&mut archive, &root.path().join("data"), &phrase, &layout(&store_of)).expect("restored");
    assert_eq!(restored.keepsakes.name, "Golden");
    assert_eq!(restored.communities.len(), 1);
    assert_eq!(restored.communities[0].1.refused + restored.communities[0].1.deferred, 0);
    assert_eq!(std::fs::read(&restored.blobs[0]).expect("there"), BLOB);
}

/// Writes the file of the test above.
///
/// `cargo test -p exo-studio write_the_golden_file -- --ignored`
#[test]
#[ignore = "writes a file that must not change"]
fn write_the_golden_file() {
    let mut ana = Ana::new();
    ana.phrase = RecoveryPhrase::from_entropy(&[42; 32]);
    ana.communities.clear();
    ana.found("Garden");
    let words = passphrase("golden");
    let options = WriteOptions { passphrase: Some(&words), replaces: false };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/archive/golden.exo");
    let keepsakes = Keepsakes { name: "Golden".into(), ..ana.keepsakes() };
    let stores = [StoreAt { community: ana.communities[0], store: ana.store(0) }];
    backup(&path, &keepsakes, &stores, vec![blob()], &ana.key, 7, &options).expect("written");
}

#[test]
fn a_backup_holds_neither_the_devices_key_nor_the_phrase() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    let path = folder.path().join("ana.exo");
    let written = ana.backup(&path, None);
    assert_eq!((written.communities, written.blobs), (2, 1));
    let bytes = std::fs::read(&path).expect("there");
    assert_eq!(written.bytes, bytes.len() as u64);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let words = ana.phrase.words();
    let secrets: [(&str, Vec<u8>); 7] = [
        ("the device's key", ana.key.to_bytes().to_vec()),
        ("the same in hexadecimal", hex(&ana.key.to_bytes()).into_bytes()),
        ("the person's key", ana.phrase.person_key().to_bytes().to_vec()),
        ("the same in hexadecimal", hex(&ana.phrase.person_key().to_bytes()).into_bytes()),
        ("the phrase", words.join(" ").into_bytes()),
        ("a part of the phrase", words[..3].join(" ").into_bytes()),
        ("its end", words[21..].join(" ").into_bytes()),
    ];
    for (what, secret) in secrets {
        assert!(!contains(&bytes, &secret), "{what}");
    }
    // The search finds what is there.
    assert!(contains(&bytes, ana.key.device().as_bytes()) && contains(&bytes, b"dark"));
}

#[test]
fn a_restored_folder_has_a_new_device_and_reads_everything() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    let (file, root) = (folder.path().join("ana.exo"), folder.path().join("data"));
    ana.backup(&file, None);
    let restored = ana.restore(&file, &root).expect("restored");
    assert_eq!(restored.keepsakes, ana.keepsakes());
    let claims = &restored.certificate.claims;
    assert_eq!((claims.person, claims.serial), (ana.phrase.person(), 2));
    assert_ne!(claims.device, ana.key.device());
    assert_eq!(std::fs::read(&restored.blobs[0]).expect("there"), BLOB);

    // The program finds its key and certificate there, and no phrase.
    let data = Folder::open(&root).expect("opens");
    let key = data.device_key(&OsEntropy).expect("a key");
    assert_eq!(key.device(), claims.device);
    assert_eq!(data.certificate(&key, &OsEntropy).expect("a certificate"), restored.certificate);
    assert_eq!(data.phrase().expect("readable"), None);

    for (index, (community, imported)) in restored.communities.iter().enumerate() {
        assert_eq!(*community, ana.communities[index]);
        assert_eq!((imported.deferred, imported.refused, imported.own), (0, 0, 0), "{imported:?}");
        let (old, new) = (open(ana.root.path(), *community, &ana.key), open(&root, *community, &key));
        assert_eq!(old.0.state().hash(), new.0.state().hash(), "without the phrase, after a restart");
        assert!(!new.0.state().charter.is_member(&key.device()));
        enrol_and_write(&old.0, &new.0, &restored.certificate);
        close(old);
        close(new);
    }
}

/// A member posts the certificate; the new device then writes on, in feeds of
/// its own.
fn enrol_and_write(old: &Replica, new: &Replica, certificate: &DeviceCertificate) {
    block(old.record(Intent::AddDevice(certificate.clone()))).expect("a member may");
    pull(new, old);
    assert!(new.state().charter.is_member(&new.device()));
    post(new, "back again");
    pull(old, new);
    assert_eq!(old.state().hash(), new.state().hash());
    let mine = |device: DeviceId| {
        let positions = old.positions();
        positions.iter().filter(|(feed, _)| feed.device == device).count()
    };
    assert!(mine(new.device()) > 0 && mine(old.device()) > 0);
}

fn pull(to: &Replica, from: &Replica) {
    for _ in 0..3 {
        for (feed, end) in from.positions() {
            let mut after = 0;
            while after < end.seq {
                let run = block(from.read_line(feed, end, after)).expect("readable").expect("there");
                after += run.run.changes.len() as u64;
                block(to.ingest_line(run)).expect("honest");
            }
        }
    }
}

#[test]
fn a_restore_that_cannot_be_is_none_at_all() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    let (file, root) = (folder.path().join("ana.exo"), folder.path().join("data"));
    ana.backup(&file, None);
    let other = RecoveryPhrase::generate(&OsEntropy);
    let mut archive = Archive::open(&file, None).expect("whole");
    let refused = restore(&mut archive, &root, &other, &layout(&store_of));
    assert!(matches!(refused, Err(ArchiveError::OtherPerson(person)) if person == ana.phrase.person()));
    std::fs::create_dir(&root).expect("made");
    std::fs::write(root.join("device.key"), b"precious").expect("written");
    assert!(matches!(ana.restore(&file, &root), Err(ArchiveError::NotEmpty(_))));
    let export = folder.path().join("garden.exo");
    ana.export(&export, &WriteOptions::default()).expect("written");
    let empty = folder.path().join("empty");
    assert!(matches!(ana.restore(&export, &empty), Err(ArchiveError::NotABackup)));
    // A store cannot be where there is a file.
    let blocked = restore(&mut archive, &empty, &ana.phrase, &layout(&|root, _| root.join("a\0b")));
    assert!(blocked.is_err());
    let names: Vec<_> = std::fs::read_dir(folder.path()).expect("there").collect();
    assert_eq!(names.len(), 3, "two files and one folder: {names:?}");
    // An empty folder is as good as none.
    std::fs::create_dir(&empty).expect("made");
    ana.restore(&file, &empty).expect("restored");
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).expect("below a usize")
    }
}

/// Every byte counts: nothing that differs from what was written is read.
#[test]
fn mutants_of_a_file_are_refused_whatever_was_changed() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    let words = passphrase("correct horse");
    let path = folder.path().join("mutant.exo");
    let mut files = Vec::new();
    for passphrase in [None, Some(&words)] {
        ana.backup(&path, passphrase);
        files.push((std::fs::read(&path).expect("there"), passphrase));
    }
    let mut rng = Rng(11);
    for round in 0..MUTANTS {
        let (bytes, passphrase) = &files[round % 2];
        let mut mutant = bytes.clone();
        let at = rng.below(mutant.len());
        match rng.below(4) {
            0 => mutant[at] ^= 1 << rng.below(8),
            1 => mutant.truncate(at),
            2 => mutant.insert(at, mutant[at].wrapping_add(1)),
            _ => {
                let to = (at + 1 + rng.below(9)).min(mutant.len());
                drop(mutant.drain(at..to));
            }
        }
        std::fs::write(&path, &mutant).expect("written");
        let refused = Archive::open(&path, *passphrase).map(drop);
        assert!(refused.is_err(), "round {round}");
    }
}

/// Who changes a file can make its digest anew, but not the signature.
#[test]
fn a_file_that_was_changed_on_its_way_is_not_signed() {
    let (ana, folder) = (Ana::new(), tempfile::tempdir().expect("a temporary folder"));
    let path = folder.path().join("ana.exo");
    ana.backup(&path, None);
    let mut bytes = Vec::new();
    std::fs::File::open(&path).expect("there").read_to_end(&mut bytes).expect("read");
    let at = bytes.windows(4).position(|window| window == b"dark").expect("a setting");
    bytes[at..at + 4].copy_from_slice(b"lite");
    let body = bytes.len() - 96;
    let digest = blake3(&bytes[..body]);
    bytes[body..body + 32].copy_from_slice(digest.as_bytes());
    std::fs::File::create(&path).expect("there").write_all(&bytes).expect("written");
    assert!(matches!(Archive::open(&path, None).map(drop), Err(ArchiveError::Signature)));
}
