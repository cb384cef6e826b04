//! Reading an export: all of it once, then part by part into a replica.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use exo_model::codec;
use exo_model::export::{DIGEST_LEN, ExportError, FRAME_BYTES_MAX, FrameReader, HEAD_LEN, LENGTH_LEN};
use exo_model::feed::opening::{FeedContext, Keyring};
use exo_model::feed::{FeedId, FeedPosition, LineId, Run, Stream, gate};
use exo_model::id::CommunityId;
use exo_model::sealing::SealingKey;

use super::{ArchiveError, EXPORT_BYTES_MAX, FRAMES_MAX, Waypoints};
use crate::replica::{Ingested, Replica, ReplicaError};
use crate::session::{self, LineRun};

/// Most passes over what found no place yet. People who let each other in one
/// after the other may take one each: as many as a community has members.
const PASSES_MAX: usize = exo_model::charter::MEMBERS_MAX + 1;
/// Most refused lines that are named; the others are counted.
const REFUSALS_MAX: usize = 64;
/// Bytes around the run in the frame of an exchange, at most.
const EXCHANGE_FRAME_BYTES: usize = 64;

/// In what order lines are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Keys,
    Charter,
    Other,
}

/// Where a line lies in the file.
#[derive(Clone, Copy, Debug)]
struct FrameAt {
    offset: u64,
    len: u32,
    rank: Rank,
}

/// An export that was read through and found whole.
#[derive(Clone, Debug)]
pub struct Scan {
    community: CommunityId,
    frames: Vec<FrameAt>,
    changes: u64,
    bytes: u64,
}

impl Scan {
    /// Which community it is of.
    pub const fn community(&self) -> CommunityId {
        self.community
    }

    /// Lines of segments in it.
    pub fn lines(&self) -> usize {
        self.frames.len()
    }

    /// Changes in them.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// How long it is.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Reads one export from `input`, whose next byte is byte number `offset` of
/// the file, up to its last byte and no further. Checks its digest, that every
/// part is readable and in order; who signed what is for the gate.
///
/// # Errors
/// What is wrong with it, or with reading.
pub fn scan(input: &mut dyn Read, offset: u64) -> Result<Scan, ArchiveError> {
    let mut head = [0; HEAD_LEN];
    fill(input, &mut head)?;
    let mut reader = FrameReader::new(&head)?;
    let mut scan =
        Scan { community: reader.community(), frames: Vec::new(), changes: 0, bytes: HEAD_LEN as u64 };
    let mut frame = Vec::new();
    loop {
        let mut length = [0; LENGTH_LEN];
        fill(input, &mut length)?;
        scan.bytes += LENGTH_LEN as u64;
        let Some(length) = reader.length(length)? else { break };
        read_frame(input, length, &mut frame)?;
        let run = reader.frame(&frame)?;
        let rank = match run.feed.stream {
            Stream::Keys => Rank::Keys,
            Stream::Charter => Rank::Charter,
            _ => Rank::Other,
        };
        let len = u32::try_from(length).map_err(|_| ExportError::TooLong(length))?;
        scan.frames.push(FrameAt { offset: offset + scan.bytes, len, rank });
        scan.changes += run.changes.len() as u64;
        scan.bytes += u64::from(len);
        if scan.frames.len() > FRAMES_MAX || scan.bytes > EXPORT_BYTES_MAX {
            return Err(ArchiveError::TooLarge);
        }
    }
    let mut digest = [0; DIGEST_LEN];
    fill(input, &mut digest)?;
    scan.bytes += DIGEST_LEN as u64;
    reader.finish(&digest)?;
    Ok(scan)
}

/// What became of an export's changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Stored now.
    pub new: u64,
    /// Of these, written by this very device: its store had lost them. Such a
    /// device should meet its peers before it writes, for they may hold more.
    pub own: u64,
    /// Stored before; also what lines of one feed have in common.
    pub known: u64,
    /// Without a place here: their authors are not members as far as this
    /// device can read, or what they follow is not in the export.
    pub deferred: u64,
    /// Refused: forged, malformed, or beyond what a feed may hold.
    pub refused: u64,
    /// Why, for the first of them.
    pub refusals: Vec<Refused>,
    /// Keys that were sealed to this device or to the recovery key.
    pub keys: u64,
}

/// A line that was refused, or the rest of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its feed.
    pub feed: FeedId,
    /// Why.
    pub reason: String,
}

/// Offers everything in an export to the replica, which keeps what has its
/// place. Seals for this device are opened first, and those for `recovery`, the
/// key of its person's phrase: without the charter's key nobody in the export
/// is known. Importing again stores nothing.
///
/// `scan` and `waypoints` are of this very `input`. Waits for the replica: not
/// for async code.
///
/// # Errors
/// When reading fails or the replica does. What was stored until then stays,
/// and can be imported again.
pub fn import(
    replica: &Replica,
    input: &mut (impl Read + Seek),
    scan: &Scan,
    waypoints: &Waypoints,
    recovery: Option<SealingKey>,
) -> Result<Imported, ArchiveError> {
    let expected = replica.state().id;
    if expected != scan.community {
        return Err(ArchiveError::OtherCommunity { expected, found: scan.community });
    }
    let mut importing = Importing { replica, input, scan, waypoints, imported: Imported::default() };
    importing.learn_seals(recovery.map(Arc::new))?;
    importing.settle(&[Rank::Keys, Rank::Charter])?;
    importing.settle(&[Rank::Other])?;
    Ok(importing.imported)
}

/// A line that is not settled yet.
struct Pending {
    index: usize,
    /// Changes of it that this import stored.
    new: u64,
    /// Changes that are stored by now.
    taken: u64,
    /// All of them.
    count: u64,
}

struct Importing<'a, R> {
    replica: &'a Replica,
    input: &'a mut R,
    scan: &'a Scan,
    waypoints: &'a Waypoints,
    imported: Imported,
}

impl<R: Read + Seek> Importing<'_, R> {
    fn line(&mut self, index: usize) -> Result<Run, ArchiveError> {
        let at = self.scan.frames[index];
        self.input.seek(SeekFrom::Start(at.offset)).map_err(unreadable)?;
        let mut frame = Vec::new();
        read_frame(self.input, at.len as usize, &mut frame)?;
        // It was readable; so the file was changed meanwhile.
        codec::decode(&frame, FRAME_BYTES_MAX).map_err(|_| ExportError::Damaged.into())
    }

    /// The lines of a rank, in the order of the file.
    fn of_rank(&self, rank: Rank) -> impl Iterator<Item = usize> + use<R> {
        let frames = self.scan.frames.iter().enumerate();
        let indices: Vec<_> = frames.filter(|(_, at)| at.rank == rank).map(|(index, _)| index).collect();
        indices.into_iter()
    }

    fn learn_seals(&mut self, recovery: Option<Arc<SealingKey>>) -> Result<(), ArchiveError> {
        for index in self.of_rank(Rank::Keys) {
            let run = self.line(index)?;
            let line = LineId::from(run.feed);
            let Ok(run) = gate::admit(run, &FeedPosition::START) else { continue };
            let (mut context, none) = (FeedContext::default(), Keyring::default());
            let changes = run.changes().iter().zip(run.hashes());
            let events = changes.map(|(change, hash)| context.open(&line, change, *hash, &none)).collect();
            self.imported.keys += self.replica.learn_seals(events, recovery.clone())? as u64;
        }
        Ok(())
    }

    /// Offers lines of these ranks as long as that brings something.
    fn settle(&mut self, ranks: &[Rank]) -> Result<(), ArchiveError> {
        let indices = ranks.iter().flat_map(|rank| self.of_rank(*rank)).collect::<Vec<_>>();
        let mut pending: Vec<_> =
            indices.into_iter().map(|index| Pending { index, new: 0, taken: 0, count: 0 }).collect();
        for _ in 0..PASSES_MAX {
            let mut left = Vec::new();
            let mut has_stored = false;
            for mut line in pending {
                let before = line.new;
                if !self.offer(&mut line)? {
                    left.push(line);
                    has_stored |= left.last().is_some_and(|line| line.new > before);
                } else {
                    has_stored |= line.new > before;
                }
            }
            pending = left;
            if pending.is_empty() || !has_stored {
                break;
            }
        }
        for line in pending {
            self.count(&line);
            self.imported.deferred += line.count - line.taken;
        }
        Ok(())
    }

    /// Offers a line; returns whether it is settled, one way or the other.
    fn offer(&mut self, line: &mut Pending) -> Result<bool, ArchiveError> {
        let run = self.line(line.index)?;
        let feed = run.feed;
        line.count = run.changes.len() as u64;
        line.taken = 0;
        let mut at = FeedPosition::START;
        for run in self.waypoints.cut(line.index as u64, run) {
            let count = run.changes.len() as u64;
            // The gate is passed here too, for the hash that the next run follows.
            let end = match gate::admit(run.clone(), &at) {
                Ok(run) => run.end(),
                Err(rejection) => return Ok(self.refuse(line, feed, rejection.to_string())),
            };
            let run = LineRun { after: at.hash, run };
            if codec::encode(&run).len() + EXCHANGE_FRAME_BYTES > session::FRAME_BYTES_MAX {
                let reason = "too long without a signature in between: nobody could hand it on";
                return Ok(self.refuse(line, feed, reason.into()));
            }
            match self.replica.import_run(run) {
                Ok(Ingested::Stored(stored)) => {
                    line.new += stored as u64;
                    if feed.device == self.replica.device() {
                        self.imported.own += stored as u64;
                    }
                }
                Ok(Ingested::Known) => {}
                Ok(Ingested::Deferred) => return Ok(false),
                Err(ReplicaError::Rejected(rejection)) => {
                    return Ok(self.refuse(line, feed, rejection.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
            line.taken += count;
            at = end;
        }
        self.count(line);
        Ok(true)
    }

    fn refuse(&mut self, line: &Pending, feed: FeedId, reason: String) -> bool {
        self.count(line);
        self.imported.refused += line.count - line.taken;
        if self.imported.refusals.len() < REFUSALS_MAX {
            self.imported.refusals.push(Refused { feed, reason });
        }
        true
    }

    fn count(&mut self, line: &Pending) {
        self.imported.new += line.new;
        self.imported.known += line.taken.saturating_sub(line.new);
    }
}

/// Reads `length` bytes in place of what is in `frame`. Grows with what is
/// really there.
fn read_frame(
    input: &mut (impl Read + ?Sized),
    length: usize,
    frame: &mut Vec<u8>,
) -> Result<(), ArchiveError> {
    frame.clear();
    let read = input.take(length as u64).read_to_end(frame).map_err(unreadable)?;
    if read == length { Ok(()) } else { Err(ExportError::Damaged.into()) }
}

fn fill(input: &mut dyn Read, bytes: &mut [u8]) -> Result<(), ArchiveError> {
    input.read_exact(bytes).map_err(unreadable)
}

/// A file that ends early, or that its seal says is not what was written, is
/// damaged; everything else is a failure of this machine.
fn unreadable(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ExportError::Damaged.into(),
        _ => error.into(),
    }
}
