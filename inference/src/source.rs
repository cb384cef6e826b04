//! The port through which model bytes arrive: [`WeightSource`].
//!
//! Everything that reads a model file (header, manifest, stages) reads it
//! through this port, so a stage loads the same way from a whole file on disk
//! and from the ranges a peer has fetched so far (implemented in another
//! crate). It never reads a byte that was not asked for and never writes.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use exo_model::weights::ByteRange;

/// Why bytes of a model file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The range is reversed or reaches past the end of the file.
    #[error("bytes {}..{} are outside the model file of {size} bytes", range.start, range.end)]
    OutOfBounds {
        /// What was asked for.
        range: ByteRange,
        /// Length of the file in bytes.
        size: u64,
    },
    /// The file is known, but these bytes of it are not here (yet).
    #[error("bytes {}..{} of the model file are not here yet", .0.start, .0.end)]
    Absent(ByteRange),
    /// The bytes should be here, but reading them failed.
    #[error("reading bytes {}..{} of the model file failed", range.start, range.end)]
    Io {
        /// What was asked for.
        range: ByteRange,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// Random access to the bytes of one model file, whole or partial.
pub trait WeightSource: Send + Sync {
    /// Length of the whole file in bytes, even where only parts are here.
    fn size(&self) -> u64;

    /// The bytes of `range`, exactly `range.len()` of them; borrowed where the
    /// source can lend them (memory maps).
    ///
    /// # Errors
    /// [`SourceError`], which names the range.
    fn read_at(&self, range: ByteRange) -> Result<Cow<'_, [u8]>, SourceError>;
}

impl<S: WeightSource + ?Sized> WeightSource for Arc<S> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, range: ByteRange) -> Result<Cow<'_, [u8]>, SourceError> {
        (**self).read_at(range)
    }
}

/// The part of `bytes` that `range` names.
fn slice_of(bytes: &[u8], range: ByteRange) -> Result<&[u8], SourceError> {
    let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    bounds
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or(SourceError::OutOfBounds { range, size: bytes.len() as u64 })
}

/// A whole model file on disk, memory-mapped: pages are read when touched and
/// can be dropped again by the operating system.
#[derive(Debug)]
pub struct FileWeights {
    map: memmap2::Mmap,
}

impl FileWeights {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be opened or mapped.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is read-only. Another program that truncates the
        // file while it is mapped ends this process with SIGBUS: this is for
        // files that the person named, which are used in place and are not to
        // be changed meanwhile. Bytes from peers come through the blob store.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self { map })
    }
}

impl WeightSource for FileWeights {
    fn size(&self) -> u64 {
        self.map.len() as u64
    }

    fn read_at(&self, range: ByteRange) -> Result<Cow<'_, [u8]>, SourceError> {
        slice_of(&self.map, range).map(Cow::Borrowed)
    }
}

/// A whole model file in memory: part of the program, or a test's.
#[derive(Debug, Clone)]
pub struct MemoryWeights(Bytes);

#[derive(Debug, Clone)]
enum Bytes {
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl From<&'static [u8]> for MemoryWeights {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Bytes::Static(bytes))
    }
}

impl From<Arc<[u8]>> for MemoryWeights {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(Bytes::Shared(bytes))
    }
}

impl From<Vec<u8>> for MemoryWeights {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Shared(bytes.into()))
    }
}

impl MemoryWeights {
    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Static(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

impl WeightSource for MemoryWeights {
    fn size(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn read_at(&self, range: ByteRange) -> Result<Cow<'_, [u8]>, SourceError> {
        slice_of(self.bytes(), range).map(Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_not_there_is_an_error_that_names_it() {
        let source = MemoryWeights::from(vec![1, 2, 3]);
        let all = ByteRange { start: 0, end: 3 };
        assert_eq!(source.read_at(all).unwrap().as_ref(), [1, 2, 3]);
        for (start, end) in [(0, 4), (3, 2), (u64::MAX - 1, u64::MAX), (4, 4)] {
            let error = source.read_at(ByteRange { start, end }).unwrap_err();
            assert!(error.to_string().contains(&format!("{start}..{end}")));
        }
    }

    #[test]
    fn a_file_reads_like_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        std::fs::write(&path, [9, 8, 7, 6]).unwrap();
        let source = FileWeights::open(&path).unwrap();
        assert_eq!(source.size(), 4);
        let middle = ByteRange { start: 1, end: 3 };
        assert_eq!(source.read_at(middle).unwrap().as_ref(), [8, 7]);
        assert!(FileWeights::open(dir.path().join("none")).is_err());
    }
}
