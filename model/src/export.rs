//! A community as one sequence of bytes: all feeds, as they were signed.
//!
//! The form is canonical: one frame for each segment of a feed, in the order
//! of feeds, with the author's signature over its last change; where its lines
//! part one for each line, from the first change on, in the order of the
//! frames' BLAKE3 hashes. So two replicas with the same changes export the
//! same bytes, and export, import, export gives them again. Nothing is opened: what is sealed stays sealed. Whoever
//! imports passes every frame through the [gate](crate::feed::gate), like
//! anything else of unknown origin.
//!
//! `magic, version, community, frames (length in 4 bytes, run in CBOR),
//! a length of 0, BLAKE3 of everything before`. Never here: files, and
//! passphrases around them.

use crate::codec::{self, DecodeError};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::feed::{FeedId, Run, SEGMENT_CHANGES_MAX};
use crate::id::CommunityId;

/// What every export starts with.
pub const MAGIC: &[u8; 8] = b"exo-comm";
/// The version this build writes and reads.
pub const EXPORT_VERSION: u8 = 1;
/// Longest frame: one line of one segment of a feed, however much its author
/// wrote. Were it less, a member could make everyone's exports fail.
#[expect(clippy::cast_possible_truncation, reason = "8,192")]
pub const FRAME_BYTES_MAX: usize =
    SEGMENT_CHANGES_MAX as usize * (ENVELOPE_BYTES_MAX + CHANGE_BYTES) + FRAME_HEAD_BYTES;
/// Bytes of [`FrameReader::new`].
pub const HEAD_LEN: usize = MAGIC.len() + 1 + CommunityId::LEN;
/// Bytes of the digest at the end.
pub const DIGEST_LEN: usize = 32;
/// Bytes of a frame's length; zeros stand for the end.
pub const LENGTH_LEN: usize = 4;

/// Bytes around a change's payload, at most.
const CHANGE_BYTES: usize = 32;
/// Bytes around a run's changes, at most.
const FRAME_HEAD_BYTES: usize = 1_024;

/// Bytes that are no export, or not a whole one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Not an export at all.
    #[error("this is not an exported community")]
    NotAnExport,
    /// Written by a newer program.
    #[error("this export has version {0}; this program reads version {EXPORT_VERSION}: update it")]
    Version(u8),
    /// Cut short or changed.
    #[error("the export is damaged or incomplete: copy it again")]
    Damaged,
    /// A frame is longer than allowed.
    #[error("a part of {0} bytes is longer than an export's parts may be")]
    TooLong(usize),
    /// A frame is no run.
    #[error("part {index}: {reason}")]
    Frame {
        /// Number of the frame, from 0.
        index: usize,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// A frame is another community's, not the whole of a segment, or not in
    /// order.
    #[error("part {0} is out of order, or of another community")]
    Order(usize),
}

/// Writes an export, frame by frame.
#[derive(Debug)]
pub struct Exporter {
    community: CommunityId,
    hasher: blake3::Hasher,
    last: Option<(FeedId, blake3::Hash)>,
    frames: usize,
}

impl Exporter {
    /// An export of `community`; returns its first bytes.
    pub fn new(community: CommunityId) -> (Self, Vec<u8>) {
        let mut exporter = Self { community, hasher: blake3::Hasher::new(), last: None, frames: 0 };
        let mut head = MAGIC.to_vec();
        head.push(EXPORT_VERSION);
        head.extend_from_slice(community.as_bytes());
        exporter.hasher.update(&head);
        (exporter, head)
    }

    /// The bytes of the next line: all of its changes in one run, feeds in
    /// ascending order, lines of one feed in that of [`Self::order_of`].
    ///
    /// # Errors
    /// [`ExportError`] where it does not belong here or is too long.
    pub fn segment(&mut self, run: &Run) -> Result<Vec<u8>, ExportError> {
        let run_bytes = codec::encode(run);
        if run_bytes.len() > FRAME_BYTES_MAX {
            return Err(ExportError::TooLong(run_bytes.len()));
        }
        let place = check_order(self.frames, &self.community, self.last.as_ref(), run, &run_bytes)?;
        let length = u32::try_from(run_bytes.len()).map_err(|_| ExportError::TooLong(run_bytes.len()))?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&run_bytes);
        self.hasher.update(&frame);
        self.last = Some(place);
        self.frames += 1;
        Ok(frame)
    }

    /// What lines of one feed are ordered by.
    pub fn order_of(run: &Run) -> [u8; 32] {
        *blake3::hash(&codec::encode(run)).as_bytes()
    }

    /// The last bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let mut tail = vec![0; LENGTH_LEN];
        self.hasher.update(&tail);
        tail.extend_from_slice(self.hasher.finalize().as_bytes());
        tail
    }
}

/// Reads an export from memory (a mapped file).
#[derive(Clone, Debug)]
pub struct Importer<'a> {
    community: CommunityId,
    rest: &'a [u8],
    last: Option<(FeedId, blake3::Hash)>,
    frames: usize,
}

impl<'a> Importer<'a> {
    /// Checks that the export is whole before anything of it is looked at.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, ExportError> {
        let (community, rest) = head_of(bytes)?;
        let (rest, digest) = rest.split_last_chunk::<DIGEST_LEN>().ok_or(ExportError::Damaged)?;
        if blake3::hash(&bytes[..bytes.len() - DIGEST_LEN]).as_bytes() != digest {
            return Err(ExportError::Damaged);
        }
        let rest = rest.strip_suffix([0; LENGTH_LEN].as_slice()).ok_or(ExportError::Damaged)?;
        Ok(Self { community, rest, last: None, frames: 0 })
    }

    /// Which community it is of.
    pub const fn community(&self) -> CommunityId {
        self.community
    }

    fn next_run(&mut self) -> Result<Run, ExportError> {
        let (length, rest) = self.rest.split_first_chunk::<LENGTH_LEN>().ok_or(ExportError::Damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(ExportError::TooLong(length));
        }
        let (frame, rest) = rest.split_at_checked(length).ok_or(ExportError::Damaged)?;
        let (run, place) = decode_frame(self.frames, &self.community, self.last.as_ref(), frame)?;
        self.rest = rest;
        self.last = Some(place);
        self.frames += 1;
        Ok(run)
    }
}

impl Iterator for Importer<'_> {
    type Item = Result<Run, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let run = self.next_run();
        if run.is_err() {
            self.rest = &[];
        }
        Some(run)
    }
}

/// Reads an export of any length, of which the caller holds one frame at a
/// time. What it says of frames counts only once [`FrameReader::finish`] found
/// the export whole: go through all of it first.
#[derive(Debug)]
pub struct FrameReader {
    community: CommunityId,
    hasher: blake3::Hasher,
    last: Option<(FeedId, blake3::Hash)>,
    frames: usize,
}

impl FrameReader {
    /// Begins with the first [`HEAD_LEN`] bytes.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn new(head: &[u8; HEAD_LEN]) -> Result<Self, ExportError> {
        let (community, _) = head_of(head)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(head);
        Ok(Self { community, hasher, last: None, frames: 0 })
    }

    /// Which community it is of.
    pub const fn community(&self) -> CommunityId {
        self.community
    }

    /// The length of the next frame, of which nothing is read or made room for
    /// yet; `None` at the end.
    ///
    /// # Errors
    /// [`ExportError::TooLong`].
    pub fn length(&mut self, bytes: [u8; LENGTH_LEN]) -> Result<Option<usize>, ExportError> {
        self.hasher.update(&bytes);
        match u32::from_be_bytes(bytes) as usize {
            0 => Ok(None),
            length if length > FRAME_BYTES_MAX => Err(ExportError::TooLong(length)),
            length => Ok(Some(length)),
        }
    }

    /// The frame that had this length.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn frame(&mut self, frame: &[u8]) -> Result<Run, ExportError> {
        self.hasher.update(frame);
        let (run, place) = decode_frame(self.frames, &self.community, self.last.as_ref(), frame)?;
        self.last = Some(place);
        self.frames += 1;
        Ok(run)
    }

    /// Compares with the digest at the end.
    ///
    /// # Errors
    /// [`ExportError::Damaged`].
    pub fn finish(self, digest: &[u8; DIGEST_LEN]) -> Result<(), ExportError> {
        if self.hasher.finalize().as_bytes() == digest { Ok(()) } else { Err(ExportError::Damaged) }
    }
}

/// The community that an export's first bytes name, and the bytes after them.
fn head_of(bytes: &[u8]) -> Result<(CommunityId, &[u8]), ExportError> {
    let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(ExportError::NotAnExport)?;
    let (version, rest) = rest.split_first().ok_or(ExportError::Damaged)?;
    if *version != EXPORT_VERSION {
        return Err(ExportError::Version(*version));
    }
    let (community, rest) = rest.split_first_chunk::<{ CommunityId::LEN }>().ok_or(ExportError::Damaged)?;
    Ok((CommunityId::from_bytes(*community), rest))
}

/// A frame's run, and its place.
fn decode_frame(
    index: usize,
    community: &CommunityId,
    last: Option<&(FeedId, blake3::Hash)>,
    frame: &[u8],
) -> Result<(Run, (FeedId, blake3::Hash)), ExportError> {
    let run: Run =
        codec::decode(frame, FRAME_BYTES_MAX).map_err(|reason| ExportError::Frame { index, reason })?;
    let place = check_order(index, community, last, &run, frame)?;
    Ok((run, place))
}

/// The place of a frame, which must be after the last one's.
fn check_order(
    index: usize,
    community: &CommunityId,
    last: Option<&(FeedId, blake3::Hash)>,
    run: &Run,
    run_bytes: &[u8],
) -> Result<(FeedId, blake3::Hash), ExportError> {
    let place = (run.feed, blake3::hash(run_bytes));
    let follows = last.is_none_or(|(feed, hash)| {
        (*feed, hash.as_bytes().as_slice()) < (place.0, place.1.as_bytes().as_slice())
    });
    if follows && run.feed.community == *community && run.first_seq == 1 {
        Ok(place)
    } else {
        Err(ExportError::Order(index))
    }
}
