//! Who each blob is held for, and how.
//!
//! Each holding is a tag in the store's own table, so that it is written in
//! one transaction with nothing to fall out of step, and the store's collector
//! sees it. A copy in memory answers for every request of a peer. Tags of
//! other shapes are left alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use iroh_blobs::HashAndFormat;
use iroh_blobs::api::{RequestResult, Store};
use n0_future::StreamExt as _;

use exo_model::id::{BlobHash, CommunityId};

/// What every tag of ours begins with; the number is the format's.
const PREFIX: &[u8] = b"exo/1/";
/// Kind, day, community, blob.
const TAG_LEN: usize = PREFIX.len() + 1 + 4 + 32 + 32;

/// How a blob is held for a community, the weaker before the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// A fetch of it began on this day and has not ended.
    Fetching(u32),
    /// It stays until somebody says otherwise.
    Kept,
    /// It is a file of this device's person, added where it lies.
    InPlace,
}

impl Hold {
    const fn kind(self) -> (u8, u32) {
        match self {
            Self::Fetching(day) => (b'f', day),
            Self::Kept => (b'k', 0),
            Self::InPlace => (b'p', 0),
        }
    }

    const fn of_kind(kind: u8, day: u32) -> Option<Self> {
        match kind {
            b'f' => Some(Self::Fetching(day)),
            b'k' => Some(Self::Kept),
            b'p' => Some(Self::InPlace),
            _ => None,
        }
    }
}

type ByBlob = BTreeMap<BlobHash, BTreeMap<CommunityId, Hold>>;

/// The holdings of a store.
pub(super) struct Holdings {
    by_blob: Mutex<ByBlob>,
    /// One change at a time, so that memory and table tell the same.
    changing: tokio::sync::Mutex<()>,
}

impl Holdings {
    /// Reads the tags of `store`.
    pub(super) async fn load(store: &Store) -> RequestResult<Self> {
        let mut by_blob = ByBlob::new();
        let mut tags = store.tags().list_prefix(PREFIX).await?;
        let mut outdone = Vec::new();
        while let Some(tag) = tags.next().await {
            let tag = tag?;
            let Some((community, blob, hold)) = parse(tag.name.0.as_ref()) else { continue };
            let held = by_blob.entry(blob).or_default().entry(community).or_insert(hold);
            // A kill between writing the new tag and removing the old leaves both.
            if *held != hold {
                outdone.push(name(community, blob, hold.min(*held)));
                *held = hold.max(*held);
            }
        }
        for old in outdone {
            store.tags().delete(old).await?;
        }
        Ok(Self { by_blob: Mutex::new(by_blob), changing: tokio::sync::Mutex::default() })
    }

    /// Holds `blob` for `community` in this way, unless it is held more firmly
    /// already. The store writes it to disk with what it writes next.
    pub(super) async fn set(
        &self,
        store: &Store,
        community: CommunityId,
        blob: BlobHash,
        hold: Hold,
    ) -> RequestResult<()> {
        let _changing = self.changing.lock().await;
        let before = self.get(community, blob);
        if before.is_some_and(|before| before >= hold) {
            return Ok(());
        }
        store.tags().set(name(community, blob, hold), HashAndFormat::raw(super::hash(blob))).await?;
        if let Some(before) = before {
            store.tags().delete(name(community, blob, before)).await?;
        }
        self.lock().entry(blob).or_default().insert(community, hold);
        Ok(())
    }

    /// Ends a fetch: what came is kept from now on, unless it was given up
    /// meanwhile. [`Holdings::write_kept`] is due then, with the day returned.
    pub(super) fn keep_fetched(&self, community: CommunityId, blob: BlobHash) -> Option<u32> {
        let mut by_blob = self.lock();
        let hold = by_blob.get_mut(&blob).and_then(|holds| holds.get_mut(&community));
        let hold = hold?;
        let Hold::Fetching(day) = *hold else { return None };
        *hold = Hold::Kept;
        Some(day)
    }

    /// Writes down that a fetch of `day` ended, which may take as long as the
    /// disk needs to catch up. A kill before leaves a fetch that has nothing
    /// left to do.
    pub(super) async fn write_kept(
        &self,
        store: &Store,
        community: CommunityId,
        blob: BlobHash,
        day: u32,
    ) -> RequestResult<()> {
        let _changing = self.changing.lock().await;
        let old = Hold::Fetching(day);
        match self.get(community, blob) {
            // Let go meanwhile, and wanted again.
            Some(hold) if hold == old => return Ok(()),
            Some(hold) => {
                let value = HashAndFormat::raw(super::hash(blob));
                store.tags().set(name(community, blob, hold), value).await?;
            }
            None => {}
        }
        store.tags().delete(name(community, blob, old)).await?;
        Ok(())
    }

    /// Holds `blob` for `community` no longer.
    pub(super) async fn remove(
        &self,
        store: &Store,
        community: CommunityId,
        blob: BlobHash,
    ) -> RequestResult<()> {
        let _changing = self.changing.lock().await;
        let Some(hold) = self.get(community, blob) else { return Ok(()) };
        store.tags().delete(name(community, blob, hold)).await?;
        store.sync_db().await?;
        let mut by_blob = self.lock();
        if let Some(holds) = by_blob.get_mut(&blob) {
            holds.remove(&community);
            if holds.is_empty() {
                by_blob.remove(&blob);
            }
        }
        Ok(())
    }

    /// Whether a community that `blob` is held for satisfies `admits`.
    pub(super) fn any(&self, blob: &BlobHash, mut admits: impl FnMut(&CommunityId) -> bool) -> bool {
        // Asked outside the lock: whoever answers may take a while.
        self.communities(blob).iter().any(&mut admits)
    }

    pub(super) fn communities(&self, blob: &BlobHash) -> Vec<CommunityId> {
        self.lock().get(blob).map(|holds| holds.keys().copied().collect()).unwrap_or_default()
    }

    /// Everything that is held.
    pub(super) fn all(&self) -> ByBlob {
        self.lock().clone()
    }

    /// Fetches that began before a day.
    pub(super) fn fetches_before(&self, day: u32) -> Vec<(CommunityId, BlobHash)> {
        let mut old = Vec::new();
        for (blob, holds) in &*self.lock() {
            let began = |hold: &Hold| matches!(hold, Hold::Fetching(since) if *since < day);
            old.extend(
                holds.iter().filter(|(_, hold)| began(hold)).map(|(community, _)| (*community, *blob)),
            );
        }
        old
    }

    fn get(&self, community: CommunityId, blob: BlobHash) -> Option<Hold> {
        self.lock().get(&blob).and_then(|holds| holds.get(&community)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, ByBlob> {
        self.by_blob.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(community: CommunityId, blob: BlobHash, hold: Hold) -> Vec<u8> {
    let (kind, day) = hold.kind();
    let mut name = Vec::with_capacity(TAG_LEN);
    name.extend_from_slice(PREFIX);
    name.push(kind);
    name.extend_from_slice(&day.to_be_bytes());
    name.extend_from_slice(community.as_bytes());
    name.extend_from_slice(blob.as_bytes());
    name
}

fn parse(name: &[u8]) -> Option<(CommunityId, BlobHash, Hold)> {
    let (kind, rest) = name.strip_prefix(PREFIX)?.split_first()?;
    let (day, rest) = rest.split_first_chunk::<4>()?;
    let (community, rest) = rest.split_first_chunk::<32>()?;
    let blob: &[u8; 32] = rest.try_into().ok()?;
    let hold = Hold::of_kind(*kind, u32::from_be_bytes(*day))?;
    Some((CommunityId::from_bytes(*community), BlobHash::from_bytes(*blob), hold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tags_are_read_back_and_others_left_alone() {
        let (community, blob) = (CommunityId::from_bytes([3; 32]), BlobHash::from_bytes([9; 32]));
        for hold in [Hold::Fetching(0), Hold::Fetching(u32::MAX), Hold::Kept, Hold::InPlace] {
            let name = name(community, blob, hold);
            assert_eq!(name.len(), TAG_LEN);
            assert_eq!(parse(&name), Some((community, blob, hold)));
            for cut in 0..name.len() {
                assert_eq!(parse(&name[..cut]), None);
            }
            assert_eq!(parse(&[name.as_slice(), b"x"].concat()), None);
        }
        assert_eq!(parse(b"auto-2026-01-01"), None);
    }
}
