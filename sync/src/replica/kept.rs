//! Keys that came another way than by a feed this device is named in: from a
//! recovery phrase.
//!
//! Keys are otherwise read from `keys` feeds at every start. Those that are
//! sealed to a phrase cannot be: the phrase is not held on any device. So a
//! restored device keeps them in a file beside its store, each sealed to this
//! device's own sealing key: whoever reads the file without `device.key` reads
//! nothing. Once the device is enrolled the keys are sealed to it in feeds too,
//! like to any other device, and the file says nothing new.
//!
//! Where it is missing or damaged, the phrase is asked for again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};

use exo_model::codec;
use exo_model::id::KeyId;
use exo_model::sealing::{SealContext, SealedKey, open_key, seal_key};

use super::ReplicaError;
use super::worker::Worker;

/// Most keys kept; beyond it nothing is learned from seals any more.
pub(super) const KEPT_KEYS_MAX: usize = 65_536;
/// Longest file: each key takes about 140 bytes.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// What these seals are made for: no audience of a `keys` feed is named so.
const KEPT_FOR: &[u8] = b"exo/kept-keys/1";

/// The file.
pub(super) struct KeptKeys {
    path: PathBuf,
    sealed: Vec<KeptKey>,
}

#[derive(Clone, Debug, Encode, Decode)]
struct KeptKey {
    #[n(0)]
    id: KeyId,
    #[n(1)]
    seal: SealedKey,
}

impl KeptKeys {
    /// The file beside a store.
    pub(super) fn beside(store: &Path) -> Self {
        Self { path: store.with_extension("keys"), sealed: Vec::new() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sealed.len()
    }

    fn read(&self) -> Vec<KeptKey> {
        let bytes = match fs::metadata(&self.path) {
            Ok(file) if file.len() <= KEPT_BYTES_MAX as u64 => fs::read(&self.path).unwrap_or_default(),
            _ => return Vec::new(),
        };
        codec::decode(&bytes, KEPT_BYTES_MAX).unwrap_or_else(|error| {
            tracing::warn!(%error, "kept keys are not readable: the recovery phrase brings them back");
            Vec::new()
        })
    }

    /// Puts the new file in the old one's place, whole and on the disk.
    fn write(&self) -> io::Result<()> {
        let fresh = self.path.with_extension("keys.new");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&fresh)?;
        file.write_all(&codec::encode(&self.sealed))?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }
}

impl Worker {
    /// Takes the kept keys, before anything is read.
    pub(super) fn recall_keys(&mut self) {
        let context = SealContext { community: self.community.id(), audience: KEPT_FOR };
        for kept in self.kept.read().into_iter().take(KEPT_KEYS_MAX) {
            match open_key(&kept.seal, &kept.id, self.community.local_sealing(), &context) {
                Ok(key) => {
                    self.community.learn_key(key);
                    self.kept.sealed.push(kept);
                }
                Err(error) => tracing::warn!(key = %kept.id, %error, "a kept key"),
            }
        }
    }

    /// Keeps keys that are in the keyring. Durable when it returns.
    pub(super) fn keep_keys(&mut self, ids: &[KeyId]) -> Result<(), ReplicaError> {
        if ids.is_empty() {
            return Ok(());
        }
        let context = SealContext { community: self.community.id(), audience: KEPT_FOR };
        let mine = self.community.sealing_key();
        for id in ids {
            let Some(key) = self.community.keyring().key(id) else { continue };
            if let Ok(seal) = seal_key(key, &mine, &context, self.entropy.as_ref()) {
                self.kept.sealed.push(KeptKey { id: *id, seal });
            }
        }
        self.kept.write().map_err(ReplicaError::Keys)
    }
}
