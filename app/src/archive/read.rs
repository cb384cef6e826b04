//! Reading archives: all of a file once, and nothing of it is believed before
//! that; then whatever is asked for.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use exo_model::codec;
use exo_model::hash::ContentHasher;
use exo_model::id::{BlobHash, CommunityId};
use exo_model::sealing::SealingKey;
use exo_model::signature::{self, Signature};
use exo_sync::archive as inner;
use exo_sync::archive::{Imported, Scan, WAYPOINTS_BYTES_MAX, Waypoints};
use exo_sync::replica::Replica;

use super::backup::Keepsakes;
use super::sealing::{Input, Passphrase};
use super::write::Checked;
use super::{
    ArchiveError, BLOB_BYTES_MAX, BLOBS_MAX, COMMUNITIES_MAX, HEADER_BYTES_MAX, Header, KEEPSAKES_BYTES_MAX,
    Kind, MAGIC, TAG_BLOB, TAG_COMMUNITY, TAG_END, TAG_KEEPSAKES, VERSION, unreadable,
};

const DIGEST_LEN: usize = BlobHash::LEN;
const SIGNATURE_LEN: usize = 64;

/// A blob in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobIn {
    /// Its name.
    pub(crate) hash: BlobHash,
    /// How long it is.
    pub(crate) size_bytes: u64,
    offset: u64,
}

struct CommunityIn {
    scan: Scan,
    waypoints: Span,
}

#[derive(Clone, Copy)]
struct Span {
    offset: u64,
    len: usize,
}

/// An archive that was read through: whole, and signed by the device that its
/// header names.
pub(crate) struct Archive {
    path: PathBuf,
    input: Input<File>,
    index: Index,
}

struct Index {
    header: Header,
    keepsakes: Option<Keepsakes>,
    communities: Vec<CommunityIn>,
    blobs: Vec<BlobIn>,
}

impl Archive {
    /// Opens a file and reads all of it.
    pub(crate) fn open(path: &Path, passphrase: Option<&Passphrase>) -> Result<Self, ArchiveError> {
        let file = File::open(path).map_err(|source| ArchiveError::Io { path: path.to_owned(), source })?;
        let mut input = Input::open(path, file, passphrase)?;
        let index = Reading::new(path, &mut input).index()?;
        Ok(Self { path: path.to_owned(), input, index })
    }

    /// What it says of itself; who signed it is certain.
    pub(crate) const fn header(&self) -> &Header {
        &self.index.header
    }

    /// What a backup holds besides communities.
    pub(crate) const fn keepsakes(&self) -> Option<&Keepsakes> {
        self.index.keepsakes.as_ref()
    }

    /// The communities in it, in order.
    pub(crate) fn communities(&self) -> impl Iterator<Item = CommunityId> {
        self.index.communities.iter().map(|community| community.scan.community())
    }

    /// The blobs in it, in order.
    pub(crate) fn blobs(&self) -> &[BlobIn] {
        &self.index.blobs
    }

    /// Imports community number `index` into its replica; `recovery` is the key
    /// of a recovery phrase, where this device has no key of its own yet.
    pub(crate) fn import(
        &mut self,
        index: usize,
        replica: &Replica,
        recovery: Option<SealingKey>,
    ) -> Result<Imported, ArchiveError> {
        let failed = |source| unreadable(&self.path, source);
        let community = self.index.communities.get(index).ok_or(ArchiveError::NoSuchCommunity(index))?;
        self.input.seek(SeekFrom::Start(community.waypoints.offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(community.waypoints.len as u64).read_to_end(&mut bytes);
        read.map_err(failed)?;
        let waypoints = Waypoints::decode(&bytes)?;
        Ok(inner::import(replica, &mut self.input, &community.scan, &waypoints, recovery)?)
    }

    /// Writes a blob's bytes into `out`, checked against its name. What was
    /// written is to be thrown away where this fails.
    pub(crate) fn save_blob(&mut self, blob: &BlobIn, out: &mut dyn Write) -> Result<(), ArchiveError> {
        let failed = |source| unreadable(&self.path, source);
        self.input.seek(SeekFrom::Start(blob.offset)).map_err(failed)?;
        let mut checked =
            Checked { input: (&mut self.input).take(blob.size_bytes), hasher: ContentHasher::default() };
        let copied = io::copy(&mut checked, out).map_err(failed)?;
        if copied == blob.size_bytes && checked.hasher.finish() == blob.hash {
            Ok(())
        } else {
            Err(ArchiveError::Damaged)
        }
    }
}

impl Archive {
    /// Writes all blobs into `folder`, each into a file named by its hash, and
    /// returns the names. What is there already is left as it is.
    pub(crate) fn save_blobs(&mut self, folder: &Path) -> Result<Vec<String>, ArchiveError> {
        let failed = |source| ArchiveError::Io { path: folder.to_owned(), source };
        let blobs = self.blobs().to_vec();
        if !blobs.is_empty() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut names = Vec::new();
        for blob in blobs {
            let name = blob.hash.to_hex();
            let path = folder.join(&name);
            names.push(name);
            if path.exists() {
                continue;
            }
            // Deleted again by its destructor unless it is whole.
            let mut draft = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
            self.save_blob(&blob, &mut draft)?;
            draft.as_file().sync_all().map_err(failed)?;
            draft.persist(&path).map_err(|error| failed(error.error))?;
        }
        Ok(names)
    }
}

/// A file on its first way through.
struct Reading<'a> {
    path: &'a Path,
    input: &'a mut Input<File>,
    hasher: ContentHasher,
    position: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl<'a> Reading<'a> {
    fn new(path: &'a Path, input: &'a mut Input<File>) -> Self {
        Self { path, input, hasher: ContentHasher::default(), position: 0 }
    }

    fn index(mut self) -> Result<Index, ArchiveError> {
        let header = self.header()?;
        let mut index = Index { header, keepsakes: None, communities: Vec::new(), blobs: Vec::new() };
        loop {
            match self.array::<1>()? {
                [TAG_END] => break,
                [TAG_KEEPSAKES] if header.kind == Kind::Backup && index.keepsakes.is_none() => {
                    let bytes = self.sized(KEEPSAKES_BYTES_MAX)?;
                    let read =
                        codec::decode(&bytes, KEEPSAKES_BYTES_MAX).map_err(|_| ArchiveError::Damaged)?;
                    index.keepsakes = Some(read);
                }
                [TAG_COMMUNITY] if index.communities.len() < header.kind.communities_max() => {
                    index.communities.push(self.community()?);
                }
                [TAG_BLOB] if index.blobs.len() < BLOBS_MAX => index.blobs.push(self.blob()?),
                _ => return Err(ArchiveError::Damaged),
            }
        }
        self.finish(&header)?;
        Ok(index)
    }

    fn header(&mut self) -> Result<Header, ArchiveError> {
        // Something else altogether may be shorter than our first bytes.
        let mut magic = Vec::new();
        self.by_ref()
            .take(MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(|source| self.failed(source))?;
        if magic != MAGIC {
            return Err(ArchiveError::NotAnArchive);
        }
        match self.array::<1>()? {
            [VERSION] => {}
            [other] => return Err(ArchiveError::Version(other)),
        }
        let bytes = self.sized(HEADER_BYTES_MAX)?;
        codec::decode(&bytes, HEADER_BYTES_MAX).map_err(|_| ArchiveError::Damaged)
    }

    fn community(&mut self) -> Result<CommunityIn, ArchiveError> {
        let position = self.position;
        let scan = inner::scan(self, position)?;
        let len = self.length(WAYPOINTS_BYTES_MAX)?;
        let offset = self.position;
        let bytes = self.bytes(len)?;
        Waypoints::decode(&bytes)?;
        Ok(CommunityIn { scan, waypoints: Span { offset, len } })
    }

    fn blob(&mut self) -> Result<BlobIn, ArchiveError> {
        let hash = BlobHash::from_bytes(self.array()?);
        let size_bytes = u64::from_be_bytes(self.array()?);
        if size_bytes > BLOB_BYTES_MAX {
            return Err(ArchiveError::Damaged);
        }
        let offset = self.position;
        let mut checked = Checked { input: self.by_ref().take(size_bytes), hasher: ContentHasher::default() };
        let copied = io::copy(&mut checked, &mut io::sink());
        let found = checked.hasher.finish();
        let copied = copied.map_err(|source| self.failed(source))?;
        if copied == size_bytes && found == hash {
            Ok(BlobIn { hash, size_bytes, offset })
        } else {
            Err(ArchiveError::Damaged)
        }
    }

    /// Digest, signature, and nothing after them.
    fn finish(mut self, header: &Header) -> Result<(), ArchiveError> {
        let digest = self.hasher.finish();
        if self.array::<DIGEST_LEN>()? != *digest.as_bytes() {
            return Err(ArchiveError::Damaged);
        }
        let signed = Signature::from_bytes(self.array::<SIGNATURE_LEN>()?);
        if self.read(&mut [0]).map_err(|source| self.failed(source))? != 0 {
            return Err(ArchiveError::Damaged);
        }
        signature::verify(&header.device, &header.signed_message(&digest), &signed)
            .map_err(|_| ArchiveError::Signature)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes).map_err(|source| self.failed(source))?;
        Ok(bytes)
    }

    fn length(&mut self, max: usize) -> Result<usize, ArchiveError> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        if length > max { Err(ArchiveError::Damaged) } else { Ok(length) }
    }

    fn sized(&mut self, max: usize) -> Result<Vec<u8>, ArchiveError> {
        let length = self.length(max)?;
        self.bytes(length)
    }

    /// Grows with what is really there.
    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        self.by_ref().take(length as u64).read_to_end(&mut bytes).map_err(|source| self.failed(source))?;
        if bytes.len() == length { Ok(bytes) } else { Err(ArchiveError::Damaged) }
    }

    fn failed(&self, source: io::Error) -> ArchiveError {
        unreadable(self.path, source)
    }
}

impl Kind {
    const fn communities_max(self) -> usize {
        match self {
            Self::Community => 1,
            Self::Backup => COMMUNITIES_MAX,
        }
    }
}
