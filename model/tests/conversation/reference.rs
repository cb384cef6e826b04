//! The same rules a second time, slowly: everything is there, everything is
//! sorted, every question is a walk over all facts.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::conversation::{Cause, Conversation, MessageView, Spoken, Unread};
use exo_model::event::TalkEvent;
use exo_model::{ChangeHash, DeviceId, PersonId};

/// One fact and whether it is well formed, which its maker knows.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) spoken: Spoken,
    pub(crate) event: TalkEvent,
    pub(crate) well_formed: bool,
}

/// All that can be seen of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) order: (u64, i64, ChangeHash),
    pub(crate) author: PersonId,
    pub(crate) device: DeviceId,
    pub(crate) text: Option<String>,
    pub(crate) edits: (usize, Option<(u64, ChangeHash)>),
    pub(crate) reply_to: Option<ChangeHash>,
    pub(crate) mentions: BTreeSet<PersonId>,
    pub(crate) files: Vec<String>,
    pub(crate) reactions: BTreeMap<String, BTreeSet<PersonId>>,
    pub(crate) pinned_by: Option<PersonId>,
}

pub(crate) fn seen(view: &MessageView<'_>) -> Seen {
    let position = view.position();
    Seen {
        order: (position.lamport, position.time_ms, position.id),
        author: view.author(),
        device: view.device(),
        text: view.text().map(str::to_owned),
        edits: (view.edit_count(), view.last_edit().map(|stamp| (stamp.lamport, stamp.id))),
        reply_to: view.reply_to(),
        mentions: view.mentions().iter().copied().collect(),
        files: view.attachments().iter().map(|file| file.name.clone()).collect(),
        reactions: view.reactions().into_iter().map(|(text, people)| (text.to_owned(), people)).collect(),
        pinned_by: view.pinned_by(),
    }
}

pub(crate) fn all_seen(conversation: &Conversation) -> Vec<Seen> {
    let mut out = Vec::new();
    let mut after = None;
    loop {
        let page = conversation.page_after(after.as_ref(), 7);
        let Some(last) = page.last() else { return out };
        after = Some(last.position());
        out.extend(page.iter().map(seen));
    }
}

/// Person, stamp, message, and either (mentions, answers) or (who, reaction).
pub(crate) type Concern = ((u64, ChangeHash), ChangeHash, Result<(bool, bool), (PersonId, String)>);

pub(crate) fn concerns(conversation: &Conversation, me: &PersonId) -> Vec<Concern> {
    let mut out: Vec<Concern> = Vec::new();
    let mut before = None;
    loop {
        let page = conversation.activity(me, before.as_ref(), 3);
        let Some(last) = page.last() else { return out };
        before = Some(last.at);
        out.extend(page.iter().map(|activity| {
            let cause = match activity.cause {
                Cause::Words { mentions, answers } => Ok((mentions, answers)),
                Cause::Reaction { person, reaction } => Err((person, reaction.to_owned())),
            };
            ((activity.at.lamport, activity.at.id), activity.message.id(), cause)
        }));
    }
}

pub(crate) struct Reference {
    facts: Vec<Told>,
    pub(crate) messages: Vec<Seen>,
}

/// The last word of each person on each reaction.
type LastWords<'a> = BTreeMap<(PersonId, &'a str), ((u64, ChangeHash), bool)>;

type Said<'a> = ((u64, ChangeHash), PersonId, &'a TalkEvent);

impl Reference {
    pub(crate) fn new(told: &[Told]) -> Self {
        let by_id: BTreeMap<ChangeHash, Told> =
            told.iter().filter(|told| told.well_formed).map(|told| (told.spoken.id, told.clone())).collect();
        let mut facts: Vec<Told> = by_id.into_values().collect();
        facts.sort_by_key(|told| (told.spoken.lamport, told.spoken.id));
        let mut out = Self { facts, messages: Vec::new() };
        let mut messages: Vec<Seen> = out.facts.iter().filter_map(|told| out.see(told)).collect();
        messages.sort_by_key(|seen| seen.order);
        out.messages = messages;
        out
    }

    fn said(&self) -> impl Iterator<Item = Said<'_>> {
        self.facts.iter().map(|told| ((told.spoken.lamport, told.spoken.id), told.spoken.author, &told.event))
    }

    fn see(&self, told: &Told) -> Option<Seen> {
        let TalkEvent::Posted { text, reply_to, mentions, attachments } = &told.event else { return None };
        let Spoken { id, author, device, lamport, time_ms } = told.spoken;
        let mut seen = Seen {
            order: (lamport, time_ms, id),
            author,
            device,
            text: Some(text.clone()),
            edits: (0, None),
            reply_to: *reply_to,
            mentions: mentions.iter().copied().collect(),
            files: attachments.iter().map(|file| file.name.clone()).collect(),
            reactions: BTreeMap::new(),
            pinned_by: None,
        };
        // In ascending order, so that what comes later overwrites.
        let mut reactions: LastWords<'_> = BTreeMap::new();
        for (stamp, by, event) in self.said() {
            match event {
                TalkEvent::Edited { message, text }
                    if *message == id && by == author && !(text.is_empty() && seen.files.is_empty()) =>
                {
                    seen.text = Some(text.clone());
                    seen.edits = (seen.edits.0 + 1, Some(stamp));
                }
                TalkEvent::Reacted { message, reaction, on } if *message == id => {
                    reactions.insert((by, reaction), (stamp, *on));
                }
                TalkEvent::Pinned { message, on } if *message == id => {
                    seen.pinned_by = on.then_some(by);
                }
                _ => {}
            }
        }
        Self::keep_newest(&mut seen, &reactions);
        if self.is_deleted(&id, &author) {
            Self::delete(&mut seen);
        }
        Some(seen)
    }

    fn keep_newest(seen: &mut Seen, reactions: &LastWords<'_>) {
        for ((by, reaction), (stamp, on)) in reactions {
            let newer = reactions.iter().filter(|((other, _), (at, _))| other == by && at > stamp).count();
            if *on && newer < 16 {
                seen.reactions.entry((*reaction).to_owned()).or_default().insert(*by);
            }
        }
    }

    fn is_deleted(&self, id: &ChangeHash, author: &PersonId) -> bool {
        self.said().any(|(_, by, event)| {
            matches!(event, TalkEvent::Deleted { message } if message == id) && by == *author
        })
    }

    fn delete(seen: &mut Seen) {
        seen.text = None;
        seen.edits = (0, None);
        seen.mentions.clear();
        seen.files.clear();
        seen.reactions.clear();
        seen.pinned_by = None;
    }

    fn find(&self, id: &ChangeHash) -> Option<&Seen> {
        self.messages.iter().find(|seen| seen.order.2 == *id)
    }

    pub(crate) fn concerns(&self, me: &PersonId) -> Vec<Concern> {
        let mut out: Vec<Concern> = Vec::new();
        for seen in self.messages.iter().filter(|seen| seen.text.is_some()) {
            let mine = seen.author == *me;
            let mentions = seen.mentions.contains(me);
            let parent = seen.reply_to.and_then(|id| self.find(&id));
            let answers = parent.is_some_and(|parent| parent.author == *me);
            if !mine && (mentions || answers) {
                out.push(((seen.order.0, seen.order.2), seen.order.2, Ok((mentions, answers))));
            }
            if !mine {
                continue;
            }
            for (reaction, people) in &seen.reactions {
                for by in people.iter().filter(|by| *by != me) {
                    let stamp = self.said().filter(|(_, person, event)| {
                        *person == *by
                            && matches!(event, TalkEvent::Reacted { message, reaction: other, .. }
                                if *message == seen.order.2 && other == reaction)
                    });
                    let last = stamp.map(|(stamp, ..)| stamp).max().expect("somebody reacted");
                    out.push((last, seen.order.2, Err((*by, reaction.clone()))));
                }
            }
        }
        out.sort_by_key(|(stamp, ..)| std::cmp::Reverse(*stamp));
        out
    }

    pub(crate) fn unread(&self, me: &PersonId, read: u64) -> Unread {
        let mine = self.concerns(me);
        let newer: Vec<&Seen> = self
            .messages
            .iter()
            .filter(|seen| seen.order.0 > read && seen.author != *me && seen.text.is_some())
            .collect();
        let for_me = newer.iter().filter(|seen| mine.iter().any(|(at, ..)| at.1 == seen.order.2)).count();
        Unread { messages: newer.len(), for_me, more: false }
    }

    pub(crate) fn pinned(&self) -> Vec<ChangeHash> {
        let mut pins: Vec<_> = self
            .messages
            .iter()
            .filter(|seen| seen.pinned_by.is_some())
            .map(|seen| {
                let on = self.said().filter(|(_, _, event)| {
                    matches!(event, TalkEvent::Pinned { message, .. } if *message == seen.order.2)
                });
                (on.map(|(stamp, ..)| stamp).max(), seen.order.2)
            })
            .collect();
        pins.sort_unstable();
        pins.into_iter().rev().map(|(_, id)| id).collect()
    }

    /// Everything that leads to `root` over answers, root aside; in order.
    pub(crate) fn thread(&self, root: &ChangeHash) -> Vec<ChangeHash> {
        let leads = |seen: &&Seen| {
            let mut at = seen.reply_to;
            while let Some(id) = at {
                if id == *root {
                    return true;
                }
                at = self.find(&id).and_then(|parent| parent.reply_to);
            }
            false
        };
        self.messages.iter().filter(leads).map(|seen| seen.order.2).collect()
    }
}
