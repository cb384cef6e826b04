//! The same rules a second time: sort all facts, replay them into plain maps,
//! and look at everything.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::event::PrivateEvent;
use exo_model::event::private::{Notify, Subject};
use exo_model::id::ThreadId;
use exo_model::private::{PrivateState, Written};
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, ChannelId, CommunityId, PersonId};

pub(crate) type Fact = (Written, PrivateEvent);

/// Title, folder, turns with parents, and the branch that is shown.
pub(crate) type SeenThread =
    (String, String, BTreeMap<ChangeHash, (Option<ChangeHash>, String)>, Vec<ChangeHash>);

/// Everything that can be asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    threads: BTreeMap<ThreadId, SeenThread>,
    prompts: BTreeMap<String, String>,
    settings: BTreeMap<String, String>,
    drafts: BTreeMap<Subject, String>,
    reads: BTreeMap<Subject, u64>,
    notify: BTreeMap<Subject, Notify>,
    blocked: BTreeSet<PersonId>,
    hidden: BTreeSet<ChangeHash>,
    trust: BTreeMap<PersonId, TrustLevel>,
    communities: BTreeMap<CommunityId, (String, bool)>,
}

#[derive(Default)]
struct Tree {
    title: String,
    folder: String,
    turns: Vec<(Written, Option<ChangeHash>, String)>,
    chosen: Option<ChangeHash>,
}

impl Tree {
    fn path(&self, leaf: ChangeHash) -> Vec<ChangeHash> {
        let mut path = Vec::new();
        let mut next = Some(leaf);
        while let Some((written, parent, _)) =
            next.and_then(|id| self.turns.iter().find(|(written, ..)| written.id == id))
        {
            if path.contains(&written.id) {
                return Vec::new();
            }
            path.insert(0, written.id);
            next = *parent;
        }
        path
    }

    /// Of all turns, newest first, the first that nobody continues and that lies
    /// behind the chosen one, if that is here.
    fn shown(&self) -> Vec<ChangeHash> {
        let chosen = self.chosen.filter(|id| self.turns.iter().any(|(written, ..)| written.id == *id));
        let is_leaf = |id: &ChangeHash| !self.turns.iter().any(|(_, parent, _)| *parent == Some(*id));
        let mut paths = self
            .turns
            .iter()
            .rev()
            .filter(|(written, ..)| is_leaf(&written.id))
            .map(|(written, ..)| self.path(written.id));
        let behind = paths.find(|path| chosen.is_none_or(|chosen| path.contains(&chosen)));
        behind.or_else(|| chosen.map(|chosen| self.path(chosen))).unwrap_or_default()
    }
}

impl Seen {
    pub(crate) fn of(facts: &[Fact]) -> Self {
        let mut sorted: Vec<&Fact> = facts.iter().collect();
        sorted.sort_by_key(|(written, _)| (written.lamport, written.id));
        let mut out = Self::default();
        let mut trees: BTreeMap<ThreadId, Tree> = BTreeMap::new();
        let mut deleted = BTreeSet::new();
        for (written, event) in sorted {
            out.replay(written, event, &mut trees, &mut deleted);
        }
        trees.retain(|thread, _| !deleted.contains(thread));
        out.threads = trees
            .into_iter()
            .map(|(id, tree)| {
                let shown = tree.shown();
                let turns =
                    tree.turns.into_iter().map(|(written, parent, text)| (written.id, (parent, text)));
                (id, (tree.title, tree.folder, turns.collect(), shown))
            })
            .collect();
        out.prompts.retain(|_, text| !text.is_empty());
        out.settings.retain(|_, text| !text.is_empty());
        out.drafts.retain(|_, text| !text.is_empty());
        out.reads.retain(|_, read| *read > 0);
        out
    }

    fn replay(
        &mut self,
        written: &Written,
        event: &PrivateEvent,
        trees: &mut BTreeMap<ThreadId, Tree>,
        deleted: &mut BTreeSet<ThreadId>,
    ) {
        match event.clone() {
            PrivateEvent::ThreadTitled { title, .. } if title.contains('\n') => {}
            PrivateEvent::ThreadTitled { thread, title, folder } => {
                let tree = trees.entry(thread).or_default();
                (tree.title, tree.folder) = (title, folder);
            }
            PrivateEvent::TurnAdded { thread, parent, text, .. } => {
                trees.entry(thread).or_default().turns.push((*written, parent, text));
            }
            PrivateEvent::BranchChosen { thread, leaf } => {
                trees.entry(thread).or_default().chosen = Some(leaf);
            }
            PrivateEvent::ThreadDeleted { thread } => {
                deleted.insert(thread);
            }
            PrivateEvent::PromptSaved { name, text } => {
                self.prompts.insert(name, text);
            }
            PrivateEvent::ReadUpTo { subject, lamport } => {
                let read = self.reads.entry(subject).or_default();
                *read = lamport.max(*read);
            }
            PrivateEvent::NotifySet { subject, notify } => {
                self.notify.insert(subject, notify);
            }
            PrivateEvent::BlockSet { person, blocked } => toggle(&mut self.blocked, person, blocked),
            PrivateEvent::HideSet { message, hidden } => toggle(&mut self.hidden, message, hidden),
            PrivateEvent::DraftSaved { subject, text } => {
                self.drafts.insert(subject, text);
            }
            PrivateEvent::SettingSet { name, value } => {
                self.settings.insert(name, value);
            }
            PrivateEvent::TrustOverridden { person, level } => {
                self.trust.remove(&person);
                self.trust.extend(level.map(|level| (person, level)));
            }
            PrivateEvent::CommunityJoined { community, name, archived } => {
                self.communities.insert(community, (name, archived));
            }
        }
    }
}

fn toggle<T: Ord>(set: &mut BTreeSet<T>, item: T, on: bool) {
    if on {
        set.insert(item);
    } else {
        set.remove(&item);
    }
}

/// What a state answers, for the few things that the histories speak of.
pub(crate) fn seen(state: &PrivateState) -> Seen {
    let mut out = Seen::default();
    for n in 0..4 {
        let community = CommunityId::from_bytes([n; 32]);
        let person = PersonId::from_bytes([n; 32]);
        let thread = ThreadId::from_bytes([n; 16]);
        let channel = Subject::Channel(community, ChannelId::from_bytes([n; 16]));
        for subject in
            [Subject::Person(person), Subject::Community(community), channel, Subject::Thread(thread)]
        {
            out.drafts.extend(state.draft(&subject).map(|text| (subject, text.to_owned())));
            out.reads.extend(Some((subject, state.read_up_to(&subject))).filter(|(_, read)| *read > 0));
            out.notify.extend(state.notify(&subject).map(|notify| (subject, notify)));
        }
        out.hidden.extend(Some(crate::seeded::hash(n.into())).filter(|id| state.is_hidden(id)));
        out.trust.extend(state.trust(&person).map(|level| (person, level)));
        let name = format!("setting {n}");
        out.settings.extend(state.setting(&name).map(|value| (name.clone(), value.to_owned())));
        if let Some(held) = state.thread(&thread) {
            let shown: Vec<ChangeHash> = held.transcript().iter().map(|turn| turn.stamp.id).collect();
            let turns = held.turns().map(|turn| (turn.stamp.id, (turn.parent, turn.text.to_string())));
            let seen = (held.title().to_owned(), held.folder().to_owned(), turns.collect(), shown);
            out.threads.insert(thread, seen);
        }
    }
    out.prompts = state.prompts().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    out.blocked = state.blocked().copied().collect();
    out.communities =
        state.communities().map(|(id, held)| (*id, (held.name.to_string(), held.archived))).collect();
    out
}
