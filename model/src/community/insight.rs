//! What others make of a community: who said what, what is reported, what
//! reputations rest on, and where two replicas can be compared.

use std::collections::BTreeMap;

use super::{Community, WordStanding};
use crate::board::contents::board_id;
use crate::board::{BoardContents, PlacedEdit};
use crate::codec;
use crate::conversation::Spoken;
use crate::dispute::Disputes;
use crate::event::charter::{ReportOutcome, VouchGround};
use crate::event::{BoardEvent, Event};
use crate::feed::{Meaningless, Stream, VerifiedEvent};
use crate::id::{ChangeHash, PersonId};
use crate::moderation::Deed;
use crate::private::Written;
use crate::trust::evidence::{Evidence, Moderation, Settled, Severity, Vouch, VouchKind};

/// Where a replica stands, in two hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Hash of where all lines of all feeds end: of which changes are here.
    pub frontier: [u8; 32],
    /// [`CommunityState::hash`](super::CommunityState::hash): the same on every
    /// replica with the same frontier that can read charter and ledger.
    pub state: [u8; 32],
}

impl Community {
    /// Where this replica stands. Two with one frontier and two states would
    /// be a fault of the program, or of a disk.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut ends: Vec<_> = self
            .contexts
            .iter()
            .filter(|(_, context)| context.at.seq > 0)
            .map(|(line, context)| (line.feed, context.at))
            .collect();
        // Which line arrived first is each replica's own matter.
        ends.sort_by_key(|(feed, end)| (*feed, end.hash));
        Checkpoint { frontier: *blake3::hash(&codec::encode(&ends)).as_bytes(), state: self.state.hash() }
    }

    /// The person who wrote an event, whether they are a member still or not.
    pub fn author_of(&self, event: &VerifiedEvent) -> Option<PersonId> {
        self.charter.now().ever_of(&event.feed.device)
    }

    /// Words for a [`Conversation`](crate::conversation::Conversation); `None`
    /// where they do not count (yet).
    pub fn spoken(&self, event: &VerifiedEvent) -> Option<Spoken> {
        let author = self.author_of(event)?;
        (self.word_standing(event) == WordStanding::Counts).then(|| Spoken::of(event, author))
    }

    /// A fact of one's own for a [`PrivateState`](crate::private::PrivateState);
    /// `None` where it does not count (yet).
    pub fn own_fact(&self, event: &VerifiedEvent) -> Option<Written> {
        let counts = self.word_standing(event) == WordStanding::Counts;
        counts.then_some(Written { id: event.hash, lamport: event.lamport, time_ms: event.time_ms })
    }

    /// What a board's first change says it starts from; `None` for every other
    /// change. A board has one start, because its id follows from that: who
    /// wrote it, and what became of them since, is no question.
    pub fn board_start<'a>(&self, event: &'a VerifiedEvent) -> Option<&'a BoardContents> {
        let (Ok(Event::Board(BoardEvent::Started { contents })), Stream::Board(board)) =
            (&event.event, event.feed.stream)
        else {
            return None;
        };
        let is_this = board_id(self.id, event.feed.device, contents) == board;
        (is_this && contents.check().is_ok()).then_some(contents)
    }

    /// A change for a [`Board`](crate::board::Board); `None` where it is of no
    /// board, or cannot be judged or read yet. What lies beyond a fence counts
    /// if someone built on it, so it is handed on with a mark; what is no edit,
    /// or nobody's right, as a change that says nothing.
    pub fn placed_edit(&self, event: &VerifiedEvent) -> Option<PlacedEdit> {
        let Stream::Board(_) = event.feed.stream else { return None };
        let (edit, fenced) = match &event.event {
            Ok(Event::Board(BoardEvent::Edited { edit })) => match self.word_standing(event) {
                WordStanding::Counts => (Some(edit.clone()), false),
                WordStanding::Void => (Some(edit.clone()), true),
                WordStanding::NotEntitled => (None, false),
                WordStanding::Waiting => return None,
            },
            Err(Meaningless::NoKey(_)) => return None,
            Ok(_) | Err(_) => (None, false),
        };
        let previous = Some(event.previous).filter(|_| event.seq > 1 || event.feed.segment > 0);
        Some(PlacedEdit {
            id: event.hash,
            author: event.feed.device,
            previous,
            time_ms: event.time_ms,
            fenced,
            edit,
        })
    }

    /// What reputations are computed from, as far as events say it. Failures
    /// and spot checks have no events yet.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            vouches: self.vouches().collect(),
            settled: self.settled(),
            moderation: self.moderated().collect(),
            ..Evidence::default()
        }
    }

    fn vouches(&self) -> impl Iterator<Item = Vouch> + '_ {
        self.charter.vouches().map(|(from, to, ground, time_ms)| {
            let kind = match ground {
                VouchGround::Known => VouchKind::Plain,
                VouchGround::SafetyWords => VouchKind::SafetyWords,
                VouchGround::MetInPerson => VouchKind::MetInPerson,
            };
            Vouch { from, to, kind, time_ms }
        })
    }

    /// Sums by payer and payee, of what was not given back, each as old as the
    /// newest work in it.
    fn settled(&self) -> Vec<Settled> {
        let now = self.charter.now();
        let mut sums: BTreeMap<(PersonId, PersonId), (u64, i64)> = BTreeMap::new();
        for lock in self.ledger.locks().values() {
            let (Some(payer), Some(payee)) = (now.ever_of(&lock.payer), now.ever_of(&lock.payee)) else {
                continue;
            };
            let kept = lock.final_amount().checked_sub(lock.refunded()).unwrap_or_default();
            let kept = u64::try_from(kept.token_mib()).unwrap_or(0);
            if kept > 0 {
                let (sum, last_ms) = sums.entry((payer, payee)).or_default();
                *sum = sum.saturating_add(kept);
                *last_ms = lock.settled_ms.max(*last_ms);
            }
        }
        let entry = |((payer, payee), (token_mib, last_ms))| Settled { payer, payee, token_mib, last_ms };
        sums.into_iter().map(entry).collect()
    }

    fn moderated(&self) -> impl Iterator<Item = Moderation> + '_ {
        self.charter.moderation().log().filter_map(|row| {
            let severity = match row.deed {
                Deed::Removed | Deed::Banned => Severity::Removed,
                Deed::Decided(_, ReportOutcome::Warned | ReportOutcome::Hidden) => Severity::Warned,
                _ => return None,
            };
            Some(Moderation { subject: row.subject, by: row.by, severity, time_ms: row.time_ms })
        })
    }

    /// All disputes.
    pub const fn disputes(&self) -> &Disputes {
        self.charter.disputes()
    }

    /// Takes reports whose authors had the right to file them.
    pub(super) fn take_reports(&mut self, events: &[VerifiedEvent]) {
        let filed = events.iter().filter(|event| matches!(event.event, Ok(Event::Moderation(_))));
        let waiting = std::mem::take(&mut self.waiting_reports);
        for event in filed.cloned().chain(waiting) {
            match (self.word_standing(&event), self.author_of(&event), &event.event) {
                (WordStanding::Counts, Some(author), Ok(Event::Moderation(body))) => {
                    self.reports.apply(event.hash, author, event.time_ms, body);
                }
                (WordStanding::Waiting, ..) if self.waiting_reports.len() < super::REPORTS_WAITING_MAX => {
                    self.waiting_reports.push(event);
                }
                _ => {}
            }
        }
    }

    /// What moderators are asked to look at, oldest first.
    pub fn open_reports(&self) -> Vec<crate::moderation::OpenReport<'_>> {
        self.reports.open(self.charter.moderation())
    }

    /// Why everyone was asked not to look at a message, if they were.
    pub fn is_hidden(&self, author: PersonId, message: ChangeHash) -> bool {
        self.charter.moderation().hiding(author, message).is_some()
    }
}
