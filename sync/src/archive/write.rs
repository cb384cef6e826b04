//! Writing an export.

use std::io::Write;
use std::path::Path;

use exo_model::export::Exporter;
use exo_model::feed::{FeedPosition, LineId, Run, gate};
use exo_model::id::CommunityId;
use exo_model::port::{ChangeStore as _, StoredLine};
use exo_model::signature::Signature;

use super::{ArchiveError, EXPORT_BYTES_MAX, FRAMES_MAX, Waypoints};
use crate::session::RUN_BYTES_MAX;
use crate::store::{Store, StoreError};

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Lines of segments.
    pub lines: u64,
    /// Changes, those that lines share counted in each.
    pub changes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// What belongs beside them.
    pub waypoints: Waypoints,
}

/// Writes all that is stored of a community into `out`, as it was at one
/// moment. Everything passes the gate on its way: a damaged store makes no
/// export that nobody can import.
///
/// # Errors
/// When the store is not readable or damaged, or `out` fails.
pub fn export(store: &Path, community: CommunityId, out: &mut dyn Write) -> Result<Exported, ArchiveError> {
    let store = Store::open_snapshot(store)?;
    let mut lines = store.lines(community)?;
    if lines.is_empty() {
        return Err(ArchiveError::Nothing(community));
    }
    if lines.len() > FRAMES_MAX {
        return Err(ArchiveError::TooLarge);
    }
    lines.sort_by_key(|line| line.id);
    let (exporter, head) = Exporter::new(community);
    let exported = Exported { lines: 0, changes: 0, bytes: 0, waypoints: Waypoints::default() };
    let mut writing = Writing { store, exporter, out, exported };
    writing.put(&head)?;
    for of_feed in lines.chunk_by(|one, other| one.id.feed == other.id.feed) {
        writing.feed(of_feed)?;
    }
    writing.finish()
}

struct Writing<'a> {
    store: Store,
    exporter: Exporter,
    out: &'a mut dyn Write,
    exported: Exported,
}

impl Writing<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.exported.bytes += bytes.len() as u64;
        if self.exported.bytes > EXPORT_BYTES_MAX {
            return Err(ArchiveError::TooLarge);
        }
        Ok(self.out.write_all(bytes)?)
    }

    /// Lines of one feed, in the order of their hashes. Where there are
    /// several each is read twice: no more than one is held.
    fn feed(&mut self, lines: &[StoredLine]) -> Result<(), ArchiveError> {
        let mut ordered: Vec<([u8; 32], LineId)> = Vec::with_capacity(lines.len());
        for line in lines {
            let order = if lines.len() == 1 { [0; 32] } else { Exporter::order_of(&self.line(line.id)?.0) };
            ordered.push((order, line.id));
        }
        ordered.sort_unstable();
        for (_, line) in ordered {
            let (run, signatures) = self.line(line)?;
            for (seq, signature) in signatures {
                self.exported.waypoints.note(self.exported.lines, seq, signature)?;
            }
            let frame = self.exporter.segment(&run)?;
            self.put(&frame)?;
            self.exported.lines += 1;
            self.exported.changes += run.changes.len() as u64;
        }
        Ok(())
    }

    /// A whole line from its feed's first change on, and the signatures within
    /// it at which it would be cut for a peer.
    fn line(&self, line: LineId) -> Result<(Run, Vec<(u64, Signature)>), ArchiveError> {
        let end = self.store.position(line)?;
        let mut at = FeedPosition::START;
        let mut signatures = Vec::new();
        let mut changes = Vec::new();
        let mut last = None;
        while at.seq < end.seq {
            let run = self.store.read_run(line, at.seq, RUN_BYTES_MAX)?;
            let run = run.ok_or(StoreError::Damaged("changes are missing"))?;
            let run =
                gate::admit(run, &at).map_err(|_| StoreError::Damaged("a feed is not what was signed"))?;
            if let Some(signature) = last.replace(run.signature()) {
                signatures.push((at.seq, signature));
            }
            at = run.end();
            changes.extend_from_slice(run.changes());
        }
        let signature =
            last.filter(|_| at == end).ok_or(StoreError::Damaged("a feed's end is another change"))?;
        Ok((Run { feed: line.feed, first_seq: 1, changes, signature }, signatures))
    }

    fn finish(mut self) -> Result<Exported, ArchiveError> {
        let tail = self.exporter.finish();
        self.exported.bytes += tail.len() as u64;
        self.out.write_all(&tail)?;
        self.out.flush()?;
        Ok(self.exported)
    }
}
