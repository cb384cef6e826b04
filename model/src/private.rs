//! What one person keeps to themselves: threads with models, prompts, drafts,
//! settings, read positions, whom and what they mute, block or hide, how far
//! they trust, which communities they are in.
//!
//! Flow: the [`PrivateEvent`]s of the person's own devices, in their private
//! community, come in, in any order. The result is a function of the set of
//! events: order and repetition change nothing.
//!
//! - Everything but turns and read positions is a register: the last word by
//!   [`Stamp`] stands. Of each kind, a bounded number is kept, those written
//!   last. What was set back (an empty draft, an unblocked person) keeps its
//!   place among them, or an older word could come back.
//! - A read position is the greatest Lamport time told; of those, the greatest
//!   are kept.
//! - Turns form trees, see [`Thread`]. Deleting a thread is final: its
//!   contents are dropped at once, what comes later counts for nothing.
//! - What is malformed counts for nothing.
//!
//! Never here: what others may know (nothing), asking a model, search.

mod check;
mod snapshot;
mod threads;
mod window;

use crate::event::PrivateEvent;
use crate::event::private::{Notify, Subject};
use crate::feed::VerifiedEvent;
use crate::id::{ChangeHash, CommunityId, PersonId, ThreadId};
use crate::register::{Registers, Stamp};
use crate::trust::TrustLevel;

pub use crate::snapshot::{SNAPSHOT_VERSION, SnapshotError};
pub use check::PrivateFault;
pub use snapshot::SNAPSHOT_BYTES_MAX;
pub use threads::{THREADS_MAX, Thread, Turn};
pub use window::{TURN_BYTES_TOTAL_MAX, TURNS_MAX};

use threads::Threads;
use window::Window;

/// Most prompts of the library.
pub const PROMPTS_MAX: usize = 1_024;
/// Most drafts.
pub const DRAFTS_MAX: usize = 1_024;
/// Most settings.
pub const SETTINGS_MAX: usize = 1_024;
/// Most read positions.
pub const READS_MAX: usize = 1 << 16;
/// Most subjects with a loudness of their own.
pub const NOTIFY_MAX: usize = 1 << 16;
/// Most people blocked or unblocked.
pub const BLOCKS_MAX: usize = 1 << 16;
/// Most messages hidden or shown again.
pub const HIDDEN_MAX: usize = 1 << 17;
/// Most people whom one trusts otherwise than the community does.
pub const TRUST_MAX: usize = 1 << 16;
/// Most communities.
pub const COMMUNITIES_MAX: usize = 4_096;

/// When a fact was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The change that carries it.
    pub id: ChangeHash,
    /// Lamport time; grows along every feed.
    pub lamport: u64,
    /// Wall time of writing, ms since the Unix epoch; for display.
    pub time_ms: i64,
}

impl Written {
    /// The circumstances of a verified event.
    pub const fn of(event: &VerifiedEvent) -> Self {
        Self { id: event.hash, lamport: event.lamport, time_ms: event.time_ms }
    }

    const fn stamp(&self) -> Stamp {
        Stamp { lamport: self.lamport, id: self.id }
    }
}

/// What became of one fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Something is different now.
    Changed,
    /// Known before, overtaken, about a deleted thread, or older than all that
    /// there is room for.
    Unchanged,
    /// It can mean nothing, ever.
    Malformed(PrivateFault),
}

/// One person's own facts. Two are equal when their contents are, however they
/// came about.
#[derive(Clone, Debug)]
pub struct PrivateState {
    threads: Threads,
    texts: Texts,
    attention: Attention,
    trust: Registers<PersonId, Option<TrustLevel>>,
    communities: Registers<CommunityId, Membership>,
}

/// Texts by name or place; an empty one is gone.
#[derive(Clone, Debug)]
struct Texts {
    prompts: Registers<Box<str>, Box<str>>,
    drafts: Registers<Subject, Box<str>>,
    settings: Registers<Box<str>, Box<str>>,
}

/// What is seen and heard.
#[derive(Clone, Debug)]
struct Attention {
    /// The Lamport time read up to takes the place of the stamp's.
    reads: Registers<Subject, ()>,
    notify: Registers<Subject, Notify>,
    blocked: Registers<PersonId, bool>,
    hidden: Registers<ChangeHash, bool>,
}

/// A community the person belongs to.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Membership {
    /// Its name when it was last noted.
    #[n(0)]
    pub name: Box<str>,
    /// Whether it is put away.
    #[n(1)]
    pub archived: bool,
}

impl Default for PrivateState {
    fn default() -> Self {
        Self {
            threads: Threads::new(THREADS_MAX, Window::new(TURNS_MAX, TURN_BYTES_TOTAL_MAX)),
            texts: Texts {
                prompts: Registers::new(PROMPTS_MAX),
                drafts: Registers::new(DRAFTS_MAX),
                settings: Registers::new(SETTINGS_MAX),
            },
            attention: Attention {
                reads: Registers::new(READS_MAX),
                notify: Registers::new(NOTIFY_MAX),
                blocked: Registers::new(BLOCKS_MAX),
                hidden: Registers::new(HIDDEN_MAX),
            },
            trust: Registers::new(TRUST_MAX),
            communities: Registers::new(COMMUNITIES_MAX),
        }
    }
}

impl PrivateState {
    /// Takes one fact.
    pub fn insert(&mut self, written: &Written, event: &PrivateEvent) -> Noted {
        if let Err(fault) = check::event(event) {
            return Noted::Malformed(fault);
        }
        let changed = match event {
            PrivateEvent::ThreadTitled { .. }
            | PrivateEvent::TurnAdded { .. }
            | PrivateEvent::BranchChosen { .. }
            | PrivateEvent::ThreadDeleted { .. } => self.threads.insert(written, event),
            _ => self.write(written.stamp(), event),
        };
        if changed { Noted::Changed } else { Noted::Unchanged }
    }

    /// Writes a register.
    fn write(&mut self, stamp: Stamp, event: &PrivateEvent) -> bool {
        let Self { texts, attention, trust, communities, .. } = self;
        match event {
            PrivateEvent::PromptSaved { name, text } => {
                texts.prompts.set(name.as_str().into(), stamp, text.as_str().into())
            }
            PrivateEvent::DraftSaved { subject, text } => {
                texts.drafts.set(*subject, stamp, text.as_str().into())
            }
            PrivateEvent::SettingSet { name, value } => {
                texts.settings.set(name.as_str().into(), stamp, value.as_str().into())
            }
            PrivateEvent::ReadUpTo { subject, lamport } => {
                let read = Stamp { lamport: *lamport, id: ChangeHash::from_bytes([0; ChangeHash::LEN]) };
                attention.reads.set(*subject, read, ())
            }
            PrivateEvent::NotifySet { subject, notify } => attention.notify.set(*subject, stamp, *notify),
            PrivateEvent::BlockSet { person, blocked } => attention.blocked.set(*person, stamp, *blocked),
            PrivateEvent::HideSet { message, hidden } => attention.hidden.set(*message, stamp, *hidden),
            PrivateEvent::TrustOverridden { person, level } => trust.set(*person, stamp, *level),
            PrivateEvent::CommunityJoined { community, name, archived } => {
                let membership = Membership { name: name.as_str().into(), archived: *archived };
                communities.set(*community, stamp, membership)
            }
            PrivateEvent::ThreadTitled { .. }
            | PrivateEvent::TurnAdded { .. }
            | PrivateEvent::BranchChosen { .. }
            | PrivateEvent::ThreadDeleted { .. } => false,
        }
    }

    /// A thread that was not deleted.
    pub fn thread(&self, id: &ThreadId) -> Option<&Thread> {
        self.threads.get(id)
    }

    /// The threads of a folder, or all; those with the newest turns or titles
    /// first, at most `limit`.
    pub fn threads(&self, folder: Option<&str>, limit: usize) -> Vec<(ThreadId, &Thread)> {
        self.threads.list(folder, limit)
    }

    /// The folders in use, by name; the empty name is no folder.
    pub fn folders(&self) -> std::collections::BTreeSet<&str> {
        self.threads.folders()
    }

    /// A prompt of the library.
    pub fn prompt(&self, name: &str) -> Option<&str> {
        self.texts.prompts.get(name).map(|text| &**text).filter(|text| !text.is_empty())
    }

    /// All prompts, by name.
    pub fn prompts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .prompts
            .iter()
            .map(|(name, _, text)| (&**name, &**text))
            .filter(|(_, text)| !text.is_empty())
    }

    /// What is being written somewhere.
    pub fn draft(&self, subject: &Subject) -> Option<&str> {
        self.texts.drafts.get(subject).map(|text| &**text).filter(|text| !text.is_empty())
    }

    /// A setting of the program.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.texts.settings.get(name).map(|value| &**value).filter(|value| !value.is_empty())
    }

    /// Lamport time up to which something was read; 0 for nothing.
    pub fn read_up_to(&self, subject: &Subject) -> u64 {
        self.attention.reads.stamp(subject).map_or(0, |read| read.lamport)
    }

    /// How loud something may be, where that was said.
    pub fn notify(&self, subject: &Subject) -> Option<Notify> {
        self.attention.notify.get(subject).copied()
    }

    /// Whether a person's words are not to be seen.
    pub fn is_blocked(&self, person: &PersonId) -> bool {
        self.attention.blocked.get(person).copied().unwrap_or(false)
    }

    /// The people whose words are not to be seen.
    pub fn blocked(&self) -> impl Iterator<Item = &PersonId> {
        self.attention.blocked.iter().filter(|(_, _, blocked)| **blocked).map(|(person, ..)| person)
    }

    /// Whether one message is not to be seen.
    pub fn is_hidden(&self, message: &ChangeHash) -> bool {
        self.attention.hidden.get(message).copied().unwrap_or(false)
    }

    /// How far a person is trusted, where that differs from the community.
    pub fn trust(&self, person: &PersonId) -> Option<TrustLevel> {
        self.trust.get(person).copied().flatten()
    }

    /// The communities the person belongs to.
    pub fn communities(&self) -> impl Iterator<Item = (&CommunityId, &Membership)> {
        self.communities.iter().map(|(community, _, membership)| (community, membership))
    }
}
