//! Writing archives: beside the target, then in its place.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use exo_model::codec;
use exo_model::hash::ContentHasher;
use exo_model::id::{BlobHash, CommunityId};
use exo_model::port::Signer;
use exo_sync::archive as inner;
use minicbor::Encode;
use tempfile::NamedTempFile;

use super::sealing::{Output, Passphrase};
use super::{
    ArchiveError, BLOB_BYTES_MAX, BLOBS_MAX, Header, Kind, MAGIC, TAG_BLOB, TAG_COMMUNITY, TAG_END, VERSION,
};

/// How a file is written.
#[derive(Default)]
pub(crate) struct WriteOptions<'a> {
    /// What it is sealed with; without one everyone who has the file reads what
    /// is not sealed in the community itself: who is in it, and when they wrote.
    pub(crate) passphrase: Option<&'a Passphrase>,
    /// Whether a file of this name is replaced.
    pub(crate) replaces: bool,
}

/// A blob that goes with an archive.
pub(crate) struct BlobToWrite<'a> {
    /// Its name.
    pub(crate) hash: BlobHash,
    /// How long it is.
    pub(crate) size_bytes: u64,
    /// Opens its bytes; called once, when it is its turn.
    pub(crate) open: Box<dyn FnOnce() -> io::Result<Box<dyn Read + 'a>> + Send + 'a>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Communities.
    pub(crate) communities: usize,
    /// Changes in them.
    pub(crate) changes: u64,
    /// Blobs.
    pub(crate) blobs: usize,
    /// Length below the seal.
    pub(crate) bytes: u64,
}

/// Writes one community into a file: everything in its store, and these blobs.
pub(crate) fn export_community(
    target: &Path,
    store: &Path,
    community: CommunityId,
    blobs: Vec<BlobToWrite<'_>>,
    signer: &dyn Signer,
    made_ms: i64,
    options: &WriteOptions<'_>,
) -> Result<Written, ArchiveError> {
    let header = Header { kind: Kind::Community, device: signer.device(), made_ms };
    write_archive(target, options, &header, signer, |archive| {
        if !archive.community(store, community)? {
            return Err(inner::ArchiveError::Nothing(community).into());
        }
        archive.blobs(blobs)
    })
}

/// Writes a file whole or not at all, readable by its owner only.
pub(super) fn write_archive(
    target: &Path,
    options: &WriteOptions<'_>,
    header: &Header,
    signer: &dyn Signer,
    fill: impl FnOnce(&mut ArchiveWriter<'_>) -> Result<(), ArchiveError>,
) -> Result<Written, ArchiveError> {
    let failed = |source| ArchiveError::Io { path: target.to_owned(), source };
    if !options.replaces && target.exists() {
        return Err(ArchiveError::Exists(target.to_owned()));
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Deleted again by its destructor unless it is put in the target's place.
    let draft = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    let output = Output::new(BufWriter::new(draft), options.passphrase).map_err(failed)?;
    let digesting = Digesting { output, hasher: ContentHasher::default(), bytes: 0 };
    let mut archive = ArchiveWriter { path: target, out: digesting, written: Written::default() };
    archive.put(MAGIC)?;
    archive.put(&[VERSION])?;
    archive.put_sized(header)?;
    fill(&mut archive)?;
    archive.put(&[TAG_END])?;
    let digest = archive.out.hasher.finish();
    archive.put(digest.as_bytes())?;
    archive.put(signer.sign(&header.signed_message(&digest)).as_bytes())?;
    let written = Written { bytes: archive.out.bytes, ..archive.written };
    let buffered = archive.out.output.finish().map_err(failed)?;
    let draft = buffered.into_inner().map_err(|error| failed(error.into_error()))?;
    draft.as_file().sync_all().map_err(failed)?;
    let placed = if options.replaces { draft.persist(target) } else { draft.persist_noclobber(target) };
    match placed {
        Ok(_) => Ok(written),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(ArchiveError::Exists(target.to_owned()))
        }
        Err(error) => Err(failed(error.error)),
    }
}

/// An archive that is being written.
pub(super) struct ArchiveWriter<'a> {
    path: &'a Path,
    out: Digesting,
    written: Written,
}

impl ArchiveWriter<'_> {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Writes an encoded value after its length.
    pub(super) fn put_sized(&mut self, value: &impl Encode<()>) -> Result<(), ArchiveError> {
        let bytes = codec::encode(value);
        let length = u32::try_from(bytes.len()).map_err(|_| ArchiveError::TooLarge)?;
        self.put(&length.to_be_bytes())?;
        self.put(&bytes)
    }

    /// Writes a community as its store has it at this moment; returns whether
    /// anything of it is stored.
    pub(super) fn community(&mut self, store: &Path, community: CommunityId) -> Result<bool, ArchiveError> {
        // Nothing is written before something is found.
        let mut tagged = Tagged { tag: Some(TAG_COMMUNITY), out: &mut self.out };
        let exported = match inner::export(store, community, &mut tagged) {
            Ok(exported) => exported,
            Err(inner::ArchiveError::Nothing(_)) => return Ok(false),
            Err(inner::ArchiveError::Io(source)) => return Err(self.failed(source)),
            Err(error) => return Err(error.into()),
        };
        self.put_sized(&exported.waypoints)?;
        self.written.communities += 1;
        self.written.changes += exported.changes;
        Ok(true)
    }

    /// Writes blobs, each checked against its name on the way.
    pub(super) fn blobs(&mut self, blobs: Vec<BlobToWrite<'_>>) -> Result<(), ArchiveError> {
        if blobs.len() > BLOBS_MAX {
            return Err(ArchiveError::TooLarge);
        }
        for BlobToWrite { hash, size_bytes, open } in blobs {
            if size_bytes > BLOB_BYTES_MAX {
                return Err(ArchiveError::TooLarge);
            }
            self.put(&[TAG_BLOB])?;
            self.put(hash.as_bytes())?;
            self.put(&size_bytes.to_be_bytes())?;
            let bytes = open().map_err(|source| self.failed(source))?;
            let mut checked = Checked { input: bytes, hasher: ContentHasher::default() };
            let copied = io::copy(&mut (&mut checked).take(size_bytes), &mut self.out);
            let copied = copied.map_err(|source| self.failed(source))?;
            if copied != size_bytes || checked.hasher.finish() != hash {
                return Err(ArchiveError::Blob(hash));
            }
            self.written.blobs += 1;
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Io { path: PathBuf::from(self.path), source }
    }
}

/// Hashes what is written.
struct Digesting {
    output: Output<BufWriter<NamedTempFile>>,
    hasher: ContentHasher,
    bytes: u64,
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Writes a tag before the first bytes.
struct Tagged<'a> {
    tag: Option<u8>,
    out: &'a mut Digesting,
}

impl Write for Tagged<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tag) = self.tag.take() {
            self.out.write_all(&[tag])?;
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hashes what is read.
pub(super) struct Checked<R> {
    pub(super) input: R,
    pub(super) hasher: ContentHasher,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }
}
