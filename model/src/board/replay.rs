//! Replaying edits through Automerge.
//!
//! Automerge numbers a change's operations after the highest it holds, so an
//! edit is always replayed in a document that holds exactly its past: then its
//! change, and its hash, follow from that past alone. An edit that builds on
//! everything goes straight into the *trunk*. One made apart goes into a
//! *branch*, a document left behind where its past ends, and joins the trunk
//! with the others of its batch. Branches are a cache: they change the speed
//! of a replay, never its result.
//!
//! No byte that a stranger wrote is read by Automerge here.

use std::collections::{BTreeMap, BTreeSet};

use automerge::transaction::{CommitOptions, Transactable as _};
use automerge::{
    ActorId, Automerge, AutomergeError, Change, ObjId, ObjType, ROOT, ReadDoc as _, ScalarValue, TextEncoding,
};

use super::bits::Bits;
use super::{BoardContents, BoardIntent, BoardValue};
use crate::id::{BoardId, ChangeHash, DeviceId};

/// Most branches kept; the one unused for longest goes first.
const BRANCHES_MAX: usize = 24;
/// A branch is left behind each time the trunk has grown by so many edits, so
/// that a late edit from far back has somewhere near to start.
const MILESTONE_EDITS: usize = 128;

/// An edit as it is to be replayed.
pub(super) struct Step<'a> {
    pub(super) id: ChangeHash,
    pub(super) author: DeviceId,
    /// The edits it builds on; all replayed before.
    pub(super) builds_on: Vec<ChangeHash>,
    /// The author's edit whose line it continues.
    pub(super) follows: Option<ChangeHash>,
    /// Whether it continues that line or begins its own.
    pub(super) continues: bool,
    pub(super) intents: &'a [BoardIntent],
}

/// An edit that was replayed.
struct Done {
    id: ChangeHash,
    change: automerge::ChangeHash,
    actor: ActorId,
    builds_on: Vec<usize>,
    fields: BTreeSet<String>,
    /// What its actor was chosen by.
    line: (Option<ChangeHash>, bool),
}

/// A document that holds some edits and all they build on.
struct Branch {
    document: Automerge,
    holds: Bits,
    /// When it was last of use; counts up.
    used: u64,
}

/// The documents of one board.
pub(super) struct Replay {
    board: BoardId,
    genesis: Automerge,
    layout: Layout,
    trunk: Automerge,
    done: Vec<Done>,
    index: BTreeMap<ChangeHash, usize>,
    /// Edits nothing replayed builds on.
    heads: BTreeSet<usize>,
    /// Made on branches, not in the trunk yet.
    apart: BTreeMap<usize, Change>,
    branches: Vec<Branch>,
    uses: u64,
}

impl Replay {
    pub(super) fn new(board: BoardId, contents: &BoardContents) -> Result<Self, AutomergeError> {
        let mut genesis = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint)
            .with_actor(ActorId::from(board.as_bytes().as_slice()));
        let mut transaction = genesis.transaction();
        let texts = transaction.put_object(ROOT, "texts", ObjType::Map)?;
        let values = transaction.put_object(ROOT, "values", ObjType::Map)?;
        for (name, text) in &contents.texts {
            let field = transaction.put_object(&texts, name.as_str(), ObjType::Text)?;
            transaction.splice_text(&field, 0, 0, text)?;
        }
        for (key, value) in &contents.values {
            transaction.put(&values, key.as_str(), scalar(value))?;
        }
        transaction.commit_with(CommitOptions::default());
        Ok(Self {
            board,
            trunk: genesis.clone(),
            genesis,
            layout: Layout { texts, values, fields: BTreeMap::new() },
            done: Vec::new(),
            index: BTreeMap::new(),
            heads: BTreeSet::new(),
            apart: BTreeMap::new(),
            branches: Vec::new(),
            uses: 0,
        })
    }

    pub(super) fn has(&self, id: &ChangeHash) -> bool {
        self.index.contains_key(id)
    }

    /// Whether each edit replayed so far would be replayed the same way again.
    /// `line` says of an edit that still counts what its actor is chosen by.
    pub(super) fn stands(&self, line: impl Fn(&ChangeHash) -> Option<(Option<ChangeHash>, bool)>) -> bool {
        self.done.iter().all(|done| line(&done.id) == Some(done.line))
    }

    /// Edits nothing replayed builds on.
    pub(super) fn heads(&self) -> Vec<ChangeHash> {
        let mut heads: Vec<_> = self.heads.iter().filter_map(|at| Some(self.done.get(*at)?.id)).collect();
        heads.sort_unstable();
        heads
    }

    /// Replays one edit.
    pub(super) fn step(&mut self, step: Step<'_>) -> Result<(), AutomergeError> {
        let mut builds_on: Vec<usize> =
            step.builds_on.iter().filter_map(|id| self.index.get(id).copied()).collect();
        builds_on.sort_unstable();
        builds_on.dedup();
        let fields: BTreeSet<String> =
            step.intents.iter().filter_map(BoardIntent::field).map(str::to_owned).collect();
        for field in &fields {
            self.make_field(field)?;
        }
        let at = self.done.len();
        let actor = self.actor(&step);
        let change = if self.heads.iter().all(|head| builds_on.binary_search(head).is_ok()) {
            self.join_trunk()?;
            let change = self.layout.write(&mut self.trunk, &fields, actor.clone(), step.intents)?;
            if at.is_multiple_of(MILESTONE_EDITS) {
                let document = self.trunk.clone();
                self.keep(Branch { document, holds: Bits::full(at + 1), used: 0 });
            }
            change
        } else {
            self.step_apart(&builds_on, &fields, actor.clone(), step.intents)?
        };
        for before in &builds_on {
            self.heads.remove(before);
        }
        self.heads.insert(at);
        self.index.insert(step.id, at);
        let line = (step.follows, step.continues);
        self.done.push(Done { id: step.id, change, actor, builds_on, fields, line });
        Ok(())
    }

    /// Brings the edits made on branches into the trunk.
    pub(super) fn join_trunk(&mut self) -> Result<(), AutomergeError> {
        if self.apart.is_empty() {
            return Ok(());
        }
        let apart = std::mem::take(&mut self.apart);
        let fields = apart.keys().filter_map(|at| self.done.get(*at)).flat_map(|done| &done.fields);
        let mut changes = self.layout.lacking(&self.trunk, fields)?;
        changes.extend(apart.into_values());
        self.trunk.apply_changes(changes)
    }

    pub(super) fn automerge_heads(&self) -> Vec<ChangeHash> {
        let mut heads: Vec<_> =
            self.trunk.get_heads().iter().map(|head| ChangeHash::from_bytes(head.0)).collect();
        heads.sort_unstable();
        heads
    }

    pub(super) fn contents(&self) -> BoardContents {
        let names = |map| self.trunk.keys(map);
        let texts =
            names(&self.layout.texts).filter_map(|name| Some((name.clone(), self.text(&name)?))).collect();
        let values =
            names(&self.layout.values).filter_map(|key| Some((key.clone(), self.value(&key)?))).collect();
        BoardContents { texts, values }
    }

    pub(super) fn text(&self, field: &str) -> Option<String> {
        let (_, object) = self.trunk.get(&self.layout.texts, field).ok()??;
        self.trunk.text(&object).ok()
    }

    pub(super) fn value(&self, key: &str) -> Option<BoardValue> {
        let (value, _) = self.trunk.get(&self.layout.values, key).ok()??;
        match value.as_scalar()? {
            ScalarValue::Str(text) => Some(BoardValue::Text(text.to_string())),
            ScalarValue::Int(number) => Some(BoardValue::Integer(*number)),
            ScalarValue::Boolean(flag) => Some(BoardValue::Flag(*flag)),
            _ => None,
        }
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.trunk.keys(&self.layout.values).collect()
    }

    /// An actor may write each of its sequence numbers once. So an author has
    /// one for their line of edits, and an edit beside that line (they signed
    /// two after the same one) begins a line under its own id.
    fn actor(&self, step: &Step<'_>) -> ActorId {
        let before = step.follows.and_then(|id| self.done.get(*self.index.get(&id)?));
        match before {
            _ if !step.continues => ActorId::from(step.id.as_bytes().as_slice()),
            Some(before) => before.actor.clone(),
            None => ActorId::from(step.author.as_bytes().as_slice()),
        }
    }

    /// Two authors may be the first to write a field, apart: were each to make
    /// it, one text would hide the other. So a field is made by one change that
    /// follows from board and name alone, the same in every past.
    fn make_field(&mut self, name: &str) -> Result<(), AutomergeError> {
        if self.layout.fields.contains_key(name) || self.genesis.get(&self.layout.texts, name)?.is_some() {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"exo/board/field/1").update(self.board.as_bytes()).update(name.as_bytes());
        let mut document = self.genesis.clone();
        document.set_actor(ActorId::from(hasher.finalize().as_bytes().as_slice()));
        let mut transaction = document.transaction();
        transaction.put_object(&self.layout.texts, name, ObjType::Text)?;
        transaction.commit_with(CommitOptions::default());
        if let Some(change) = document.get_last_local_change() {
            self.layout.fields.insert(name.to_owned(), change);
        }
        Ok(())
    }

    /// Replays an edit in a document that holds its past and nothing else.
    fn step_apart(
        &mut self,
        builds_on: &[usize],
        fields: &BTreeSet<String>,
        actor: ActorId,
        intents: &[BoardIntent],
    ) -> Result<automerge::ChangeHash, AutomergeError> {
        let past = self.past(builds_on);
        let mut branch = self.nearest(&past);
        let lacks = || past.beyond(&branch.holds).filter_map(|at| Some((at, self.done.get(at)?)));
        let mut missing =
            self.layout.lacking(&branch.document, lacks().flat_map(|(_, done)| &done.fields))?;
        missing.extend(lacks().filter_map(|(at, done)| {
            let apart = self.apart.get(&at).cloned();
            apart.or_else(|| self.trunk.get_change_by_hash(&done.change))
        }));
        if !missing.is_empty() {
            branch.document.apply_changes(missing)?;
        }
        branch.holds = past;
        let change = self.layout.write(&mut branch.document, fields, actor, intents)?;
        let at = self.done.len();
        branch.holds.set(at);
        if let Some(made) = branch.document.get_change_by_hash(&change) {
            self.apart.insert(at, made);
        }
        self.keep(branch);
        Ok(change)
    }

    /// These edits and all they build on.
    fn past(&self, builds_on: &[usize]) -> Bits {
        let mut past = Bits::default();
        let mut open = builds_on.to_vec();
        while let Some(at) = open.pop() {
            if past.set(at)
                && let Some(done) = self.done.get(at)
            {
                open.extend(&done.builds_on);
            }
        }
        past
    }

    /// The branch that lacks least of `past` and holds nothing else. It is
    /// taken where it is exactly that, else copied: copies share their memory.
    fn nearest(&mut self, past: &Bits) -> Branch {
        let fits = self.branches.iter().enumerate().filter(|(_, branch)| branch.holds.within(past));
        let Some((at, _)) = fits.max_by_key(|(_, branch)| branch.holds.count()) else {
            return Branch { document: self.genesis.clone(), holds: Bits::default(), used: 0 };
        };
        if self.branches[at].holds.count() == past.count() {
            return self.branches.swap_remove(at);
        }
        self.uses += 1;
        let branch = &mut self.branches[at];
        branch.used = self.uses;
        Branch { document: branch.document.clone(), holds: branch.holds.clone(), used: 0 }
    }

    fn keep(&mut self, mut branch: Branch) {
        self.uses += 1;
        branch.used = self.uses;
        if self.branches.len() >= BRANCHES_MAX
            && let Some(at) = (0..self.branches.len()).min_by_key(|at| self.branches[*at].used)
        {
            self.branches.swap_remove(at);
        }
        self.branches.push(branch);
    }
}

/// Where things lie in every document of a board.
struct Layout {
    texts: ObjId,
    values: ObjId,
    /// The changes that make text fields.
    fields: BTreeMap<String, Change>,
}

impl Layout {
    /// What makes those of `fields` that the document has not.
    fn lacking<'a>(
        &self,
        document: &Automerge,
        fields: impl IntoIterator<Item = &'a String>,
    ) -> Result<Vec<Change>, AutomergeError> {
        let mut lacking = Vec::new();
        for name in fields.into_iter().collect::<BTreeSet<_>>() {
            if let Some(change) = self.fields.get(name)
                && document.get(&self.texts, name.as_str())?.is_none()
            {
                lacking.push(change.clone());
            }
        }
        Ok(lacking)
    }

    /// Writes one change: the intents, by `actor`, on all the document holds.
    fn write(
        &self,
        document: &mut Automerge,
        fields: &BTreeSet<String>,
        actor: ActorId,
        intents: &[BoardIntent],
    ) -> Result<automerge::ChangeHash, AutomergeError> {
        let lacking = self.lacking(document, fields)?;
        if !lacking.is_empty() {
            document.apply_changes(lacking)?;
        }
        document.set_actor(actor);
        let mut transaction = document.transaction();
        for intent in intents {
            match intent {
                BoardIntent::Splice { field, index, delete, insert } => {
                    let Some((_, text)) = transaction.get(&self.texts, field.as_str())? else { continue };
                    let length = transaction.length(&text);
                    let index = usize::try_from(*index).map_or(length, |index| index.min(length));
                    let rest = length - index;
                    let delete = usize::try_from(*delete).map_or(rest, |delete| delete.min(rest));
                    transaction.splice_text(&text, index, isize::try_from(delete).unwrap_or(0), insert)?;
                }
                BoardIntent::Put { key, value } => {
                    transaction.put(&self.values, key.as_str(), scalar(value))?;
                }
                BoardIntent::Delete { key } => transaction.delete(&self.values, key.as_str())?,
            }
        }
        // An edit that changes nothing has a change too: it cites.
        let (change, _) = transaction.commit_with(CommitOptions::default());
        Ok(change.unwrap_or_else(|| document.empty_commit(CommitOptions::default())))
    }
}

fn scalar(value: &BoardValue) -> ScalarValue {
    match value {
        BoardValue::Text(text) => ScalarValue::Str(text.as_str().into()),
        BoardValue::Integer(number) => ScalarValue::Int(*number),
        BoardValue::Flag(flag) => ScalarValue::Boolean(*flag),
    }
}
