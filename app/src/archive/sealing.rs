//! The age file around an archive, sealed with a passphrase (scrypt).
//!
//! Readable by every program that reads age files, so nobody depends on this
//! one to get their words back.

use std::io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, scrypt};

use super::{ArchiveError, unreadable};

/// Longest passphrase, bytes.
pub(crate) const PASSPHRASE_BYTES_MAX: usize = 1_024;
/// Work that guessing costs for each try: 2^18 of scrypt's rounds take about a
/// second and 256 MiB.
const WORK_FACTOR: u8 = 18;
/// Most work that opening a file may ask for: twice as much as ours.
pub(crate) const WORK_FACTOR_MAX: u8 = WORK_FACTOR + 1;
/// Longest header of an age file that one passphrase seals; ours takes about
/// 150 bytes.
const AGE_HEADER_BYTES_MAX: usize = 1_024;
/// What an age file starts with.
const AGE_MAGIC: &[u8] = b"age-encryption.org/";
/// What its header ends with.
const AGE_HEADER_END: &[u8] = b"\n--- ";

/// What seals an archive; wiped when dropped.
pub(crate) struct Passphrase {
    secret: SecretString,
    work_factor: u8,
}

impl Passphrase {
    /// Takes a passphrase as it was typed.
    pub(crate) fn new(text: String) -> Result<Self, ArchiveError> {
        let fits = !text.trim().is_empty() && text.len() <= PASSPHRASE_BYTES_MAX;
        let secret = SecretString::from(text);
        if fits { Ok(Self { secret, work_factor: WORK_FACTOR }) } else { Err(ArchiveError::Passphrase) }
    }

    /// The same with work that tests have time for.
    #[cfg(test)]
    pub(super) fn with_work_factor(self, work_factor: u8) -> Self {
        Self { work_factor, ..self }
    }
}

/// What an archive is written into.
pub(super) enum Output<W: Write> {
    Plain(W),
    Sealed(StreamWriter<W>),
}

impl<W: Write> Output<W> {
    pub(super) fn new(inner: W, passphrase: Option<&Passphrase>) -> io::Result<Self> {
        let Some(passphrase) = passphrase else { return Ok(Self::Plain(inner)) };
        let mut recipient = scrypt::Recipient::new(passphrase.secret.clone());
        recipient.set_work_factor(passphrase.work_factor);
        let sealing = Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self::Sealed(sealing.wrap_output(inner)?))
    }

    /// Writes the last bytes.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(inner) => Ok(inner),
            Self::Sealed(sealed) => sealed.finish(),
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.write(bytes),
            Self::Sealed(sealed) => sealed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(inner) => inner.flush(),
            Self::Sealed(sealed) => sealed.flush(),
        }
    }
}

/// What an archive is read from.
pub(super) enum Input<R: Read + Seek> {
    Plain(BufReader<R>),
    Sealed(StreamReader<BufReader<R>>),
}

impl<R: Read + Seek> Input<R> {
    /// Opens the seal, where there is one.
    pub(super) fn open(path: &Path, inner: R, passphrase: Option<&Passphrase>) -> Result<Self, ArchiveError> {
        let mut inner = BufReader::with_capacity(64 * 1024, inner);
        let start = inner.fill_buf().map_err(|source| unreadable(path, source))?;
        if !start.starts_with(AGE_MAGIC) {
            return Ok(Self::Plain(inner));
        }
        // The reader of headers has no limit of its own.
        let header = &start[..start.len().min(AGE_HEADER_BYTES_MAX)];
        if !header.windows(AGE_HEADER_END.len()).any(|window| window == AGE_HEADER_END) {
            return Err(ArchiveError::Damaged);
        }
        let passphrase = passphrase.ok_or(ArchiveError::Sealed)?;
        let sealed = Decryptor::new_buffered(inner).map_err(|error| refusal(&error))?;
        if !sealed.is_scrypt() {
            return Err(ArchiveError::SealedForKeys);
        }
        let mut identity = scrypt::Identity::new(passphrase.secret.clone());
        identity.set_max_work_factor(WORK_FACTOR_MAX);
        let opened = sealed.decrypt(std::iter::once(&identity as &dyn age::Identity));
        Ok(Self::Sealed(opened.map_err(|error| refusal(&error))?))
    }
}

/// Whether a file is sealed, by its first bytes.
pub(crate) fn is_sealed(path: &Path) -> Result<bool, ArchiveError> {
    let failed = |source| ArchiveError::Io { path: path.to_owned(), source };
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(AGE_MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
    Ok(start == AGE_MAGIC)
}

fn refusal(error: &DecryptError) -> ArchiveError {
    match error {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => ArchiveError::WrongPassphrase,
        DecryptError::ExcessiveWork { required, .. } => ArchiveError::Work(*required),
        DecryptError::NoMatchingKeys => ArchiveError::SealedForKeys,
        _ => ArchiveError::Damaged,
    }
}

impl<R: Read + Seek> Read for Input<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.read(bytes),
            Self::Sealed(sealed) => sealed.read(bytes),
        }
    }
}

impl<R: Read + Seek> Seek for Input<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Plain(inner) => inner.seek(to),
            Self::Sealed(sealed) => sealed.seek(to),
        }
    }
}
