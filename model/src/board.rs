//! Boards: texts and values that many people edit, also offline.
//!
//! Guidelines, topics of channels, shared notes and prompts. An edit is an
//! *intent* in its author's own signed feed: it cites the board's heads that
//! it was made on, and follows its author's previous edit of the board. The
//! caller takes the changes of verified feeds and hands them in as
//! [`PlacedEdit`]s, in any order; each peer replays them through an Automerge
//! of its own, so that no foreign Automerge byte ever enters. Equal sets of
//! edits give equal Automerge heads, texts and values on every peer.
//!
//! Flow: [`edit`] bounds what an edit may say · `graph` places it after all it
//! builds on · `count` judges which of the placed edits count · `replay` runs
//! those through Automerge · [`contents`] is what a new board starts from.
//!
//! Which edits count:
//! - An edit beyond its author's fence counts only if a counting edit within
//!   its own author's fence cites it, itself or through others.
//! - A board takes [`EDITS_MAX`] edits and so much text ([`INSERTED_BYTES_MAX`],
//!   [`DELETED_CHARS_MAX`], [`FIELDS_MAX`], [`KEYS_MAX`]). In order of depth
//!   and id, the first edit that does not fit closes the board: none behind it
//!   counts. Someone may sign edits far back to push others out; a fence takes
//!   those out again. A full board is compacted into a new one.
//! - An author may sign [`EDITS_PER_MINUTE_MAX`] edits in a minute of the time
//!   they sign, which never runs back. Those who sign two edits after the same
//!   one have a pace on each line; that is an equivocation, with its own proof.
//! - What cites an edit that cannot count was not made by an honest program,
//!   and counts for nothing.
//!
//! Never here: who may edit a board, where a fence lies, signatures, clocks.
//! The caller answers the first three; the last no verdict needs.

mod bits;
pub mod contents;
mod count;
pub mod edit;
mod graph;
mod replay;
mod write;

use automerge::AutomergeError;

pub use contents::{BoardContents, ContentsError};
pub use edit::{BoardEdit, BoardIntent, BoardValue, EditError};

use crate::id::{BoardId, ChangeHash, DeviceId};
use count::{Added, Count, Tail};
use graph::{Graph, Node, Place, Verdict};
use replay::{Replay, Step};

/// Most edits that count on one board: replaying them takes about a second.
pub const EDITS_MAX: usize = 16 * 1024;
/// Most text that edits bring to a board over its life, in bytes.
pub const INSERTED_BYTES_MAX: u64 = 1024 * 1024;
/// Most characters that edits ask to delete over a board's life.
pub const DELETED_CHARS_MAX: u64 = 1024 * 1024;
/// Most text fields of a board, over its life.
pub const FIELDS_MAX: usize = 64;
/// Most keys of a board, over its life.
pub const KEYS_MAX: usize = 1_024;
/// Most edits of one author in one minute of their own time.
pub const EDITS_PER_MINUTE_MAX: u32 = 120;
/// Most edits held, those that do not count included. The rest is deferred.
pub const HELD_MAX: usize = 4 * EDITS_MAX;
/// Most edits that wait for others after an insertion. The rest is deferred.
pub const WAITING_MAX: usize = 1_024;

/// A change of a board's feed: an edit as a rule, and what its author's feed
/// and the charter say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedEdit {
    /// The feed change.
    pub id: ChangeHash,
    /// Who signed it.
    pub author: DeviceId,
    /// The author's previous change of this board, in the order of their feed.
    pub previous: Option<ChangeHash>,
    /// When the author says it was written, ms since the Unix epoch.
    pub time_ms: i64,
    /// Whether it lies beyond a fence of its author.
    pub fenced: bool,
    /// What it says; none where the change is no edit, or one that its author
    /// had no right to. The author's next edit follows it all the same.
    pub edit: Option<BoardEdit>,
}

impl PlacedEdit {
    /// No hash cites itself; a caller's mistake could.
    fn links_to_itself(&self) -> bool {
        self.previous == Some(self.id) || self.edit.as_ref().is_some_and(|edit| edit.heads.contains(&self.id))
    }
}

/// Whether an edit counts, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is part of the board.
    Counted,
    /// An edit it cites or follows has not come yet.
    Waiting,
    /// It lies beyond a fence and no counting edit cites it.
    Fenced,
    /// The board had no room for it.
    Full,
    /// Its author wrote more than [`EDITS_PER_MINUTE_MAX`] in its minute.
    TooFast,
    /// It is no edit that its author may make, breaks the bounds of one, or its
    /// own links are wrong.
    Malformed,
    /// It cites an edit that is malformed or too fast, or that cites such.
    Unfounded,
}

/// Automerge refused an edit of ours: a fault of this program, not of the
/// edit's author. The board is of no more use.
#[derive(Debug, thiserror::Error)]
#[error("the board cannot be replayed: {0}")]
pub struct ReplayError(#[from] AutomergeError);

/// Why a board cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The contents break their bounds.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// Ours.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// One board: the edits held, which of them count, and what they give.
pub struct Board {
    id: BoardId,
    start: BoardContents,
    graph: Graph,
    count: Count,
    replay: Replay,
}

impl Board {
    /// An empty board.
    ///
    /// # Errors
    /// [`ReplayError`]: ours.
    pub fn new(id: BoardId) -> Result<Self, ReplayError> {
        Self::begin(id, BoardContents::default())
    }

    /// A board that starts with contents. All peers must start it with the
    /// same.
    ///
    /// # Errors
    /// When the contents break their bounds.
    pub fn with_contents(id: BoardId, contents: BoardContents) -> Result<Self, StartError> {
        contents.check()?;
        Ok(Self::begin(id, contents)?)
    }

    fn begin(id: BoardId, start: BoardContents) -> Result<Self, ReplayError> {
        let (count, replay) = (Count::new(&start), Replay::new(id, &start)?);
        Ok(Self { id, start, graph: Graph::default(), count, replay })
    }

    /// Which board.
    pub fn id(&self) -> BoardId {
        self.id
    }

    /// Takes edits in, in any order and any batches; large batches are cheaper.
    /// An edit that is known is not taken again, but its `fenced` is: so the
    /// caller tells of fences that come or go.
    ///
    /// Returns the edits there was no room for. They are not held: the caller
    /// offers them again when others have come. Everything said of a board is a
    /// function of the edits it holds.
    ///
    /// # Errors
    /// [`ReplayError`]: ours; the board is then to be built anew.
    pub fn insert(
        &mut self,
        edits: impl IntoIterator<Item = PlacedEdit>,
    ) -> Result<Vec<PlacedEdit>, ReplayError> {
        let insertion = self.graph.insert(edits);
        let mut recount = insertion.fences_moved;
        let mut fresh = Vec::new();
        for id in &insertion.placed {
            // After one that bears on others, the set is counted as a whole.
            recount = recount || matches!(self.count.add(&self.graph, id), Added::Bears);
            fresh.extend(self.graph.get(id).map(|node| (node.depth, *id)));
        }
        if recount {
            self.count.recount(&self.graph);
            if !self.replay.stands(|id| self.line(id)) {
                self.replay = Replay::new(self.id, &self.start)?;
            }
            fresh = self.count.counted().iter().copied().collect();
        }
        fresh.sort_unstable();
        for place in fresh {
            self.replay_line(place)?;
        }
        self.replay.join_trunk()?;
        Ok(insertion.deferred)
    }

    /// How many edits can be taken in whatever they cite. More may fit.
    pub fn room_for(&self) -> usize {
        self.graph.room()
    }

    /// Whether an edit counts. None for one that is not held.
    pub fn standing(&self, id: &ChangeHash) -> Option<Standing> {
        if self.graph.is_waiting(id) {
            return Some(Standing::Waiting);
        }
        let node = self.graph.get(id)?;
        Some(match node.verdict {
            Verdict::Malformed => Standing::Malformed,
            Verdict::TooFast => Standing::TooFast,
            Verdict::Unfounded => Standing::Unfounded,
            Verdict::Sound if self.count.counts(&(node.depth, *id)) => Standing::Counted,
            Verdict::Sound if node.fenced => Standing::Fenced,
            Verdict::Sound => Standing::Full,
        })
    }

    /// The counting edits that no counting edit builds on, in ascending order:
    /// what the next edit cites.
    pub fn heads(&self) -> Vec<ChangeHash> {
        self.replay.heads()
    }

    /// The heads of the Automerge document, in ascending order. Equal boards
    /// have equal ones, on every peer.
    pub fn automerge_heads(&self) -> Vec<ChangeHash> {
        self.replay.automerge_heads()
    }

    /// A text; none if nobody wrote it yet.
    pub fn text(&self, field: &str) -> Option<String> {
        self.replay.text(field)
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<BoardValue> {
        self.replay.value(key)
    }

    /// The keys that have a value, in order.
    pub fn keys(&self) -> Vec<String> {
        self.replay.keys()
    }

    /// Everything as it stands: what a compacted board starts with.
    pub fn contents(&self) -> BoardContents {
        self.replay.contents()
    }

    /// Replays an edit and then, as long as they are ready, the edits that
    /// continue its author's line: one who wrote much offline is replayed in
    /// one go.
    fn replay_line(&mut self, place: Place) -> Result<(), ReplayError> {
        let mut next = Some(place);
        while let Some((depth, id)) = next.take() {
            let Some(node) = self.graph.get(&id) else { break };
            let builds_on = self.builds_on(&id, node);
            let ready = builds_on.iter().all(|before| self.replay.has(before));
            if !self.count.counts(&(depth, id)) || self.replay.has(&id) || !ready {
                break;
            }
            let Some((follows, continues)) = self.line(&id) else { break };
            let (author, intents) = (node.author, &node.intents);
            self.replay.step(Step { id, author, builds_on, follows, continues, intents })?;
            next = self.count.heir(&Tail::After(id));
        }
        Ok(())
    }

    fn builds_on(&self, id: &ChangeHash, node: &Node) -> Vec<ChangeHash> {
        node.cites.iter().copied().chain(self.count.follows(id)).collect()
    }

    /// For a counting edit: whose line it is on, and whether it continues it.
    fn line(&self, id: &ChangeHash) -> Option<(Option<ChangeHash>, bool)> {
        let node = self.graph.get(id)?;
        let place = (node.depth, *id);
        let heir = self.count.heir(&self.count.tail(id, node.author));
        self.count.counts(&place).then(|| (self.count.follows(id), heir == Some(place)))
    }
}
