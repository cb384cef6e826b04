//! One person's own facts, in the private community of their devices.

use minicbor::{Decode, Encode};

use crate::id::{ChangeHash, ChannelId, CommunityId, PersonId, ThreadId};

/// Longest turn of a thread, in bytes.
pub const TURN_BYTES_MAX: usize = 24 * 1024;
/// Longest title, folder or setting name, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest prompt, draft or setting value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Speaker {
    /// Instructions.
    #[n(0)]
    System,
    /// The person.
    #[n(1)]
    Person,
    /// The model.
    #[n(2)]
    Model,
    /// A tool that the model called.
    #[n(3)]
    Tool,
}

/// Whom or what something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Subject {
    /// A person, everywhere.
    #[n(0)]
    Person(#[n(0)] PersonId),
    /// A channel of a community.
    #[n(1)]
    Channel(#[n(0)] CommunityId, #[n(1)] ChannelId),
    /// A whole community.
    #[n(2)]
    Community(#[n(0)] CommunityId),
    /// A thread with a model.
    #[n(3)]
    Thread(#[n(0)] ThreadId),
}

/// How loud something may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Notify {
    /// Everything.
    #[n(0)]
    All,
    /// Only what mentions me or answers me.
    #[n(1)]
    Mentions,
    /// Nothing; it is muted.
    #[n(2)]
    Nothing,
}

/// One personal fact.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PrivateEvent {
    /// A thread with a model has this title and lies in this folder; both may
    /// be empty.
    #[n(0)]
    ThreadTitled {
        /// Which one.
        #[n(0)]
        thread: ThreadId,
        /// Title.
        #[n(1)]
        title: String,
        /// Folder.
        #[n(2)]
        folder: String,
    },
    /// A turn of a thread. Two turns with one parent are branches.
    #[n(1)]
    TurnAdded {
        /// The thread.
        #[n(0)]
        thread: ThreadId,
        /// The turn before it; none for a first one.
        #[n(1)]
        parent: Option<ChangeHash>,
        /// Who speaks.
        #[n(2)]
        speaker: Speaker,
        /// What; a longer text goes on in turns that continue this one.
        #[n(3)]
        text: String,
        /// Model and figures of an answer as a JSON object; may be empty.
        #[n(4)]
        about: String,
    },
    /// The branch of a thread that is shown.
    #[n(2)]
    BranchChosen {
        /// The thread.
        #[n(0)]
        thread: ThreadId,
        /// Its last turn.
        #[n(1)]
        leaf: ChangeHash,
    },
    /// The thread is gone.
    #[n(3)]
    ThreadDeleted {
        /// Which one.
        #[n(0)]
        thread: ThreadId,
    },
    /// A prompt of the library has this text; an empty one is gone.
    #[n(4)]
    PromptSaved {
        /// Its name.
        #[n(0)]
        name: String,
        /// Its text.
        #[n(1)]
        text: String,
    },
    /// Read up to here.
    #[n(5)]
    ReadUpTo {
        /// Where.
        #[n(0)]
        subject: Subject,
        /// Lamport time of the newest message read.
        #[n(1)]
        lamport: u64,
    },
    /// How loud something may be.
    #[n(6)]
    NotifySet {
        /// What.
        #[n(0)]
        subject: Subject,
        /// How loud.
        #[n(1)]
        notify: Notify,
    },
    /// I do not want to see this person's words, or I do again.
    #[n(7)]
    BlockSet {
        /// Whom.
        #[n(0)]
        person: PersonId,
        /// Whether they are blocked.
        #[n(1)]
        blocked: bool,
    },
    /// One message is out of my sight, or back.
    #[n(8)]
    HideSet {
        /// Which one.
        #[n(0)]
        message: ChangeHash,
        /// Whether it is hidden.
        #[n(1)]
        hidden: bool,
    },
    /// What is being written but not sent; an empty draft is gone.
    #[n(9)]
    DraftSaved {
        /// Where.
        #[n(0)]
        subject: Subject,
        /// The text.
        #[n(1)]
        text: String,
    },
    /// A setting of the program.
    #[n(10)]
    SettingSet {
        /// Its name.
        #[n(0)]
        name: String,
        /// Its value; an empty one is unset.
        #[n(1)]
        value: String,
    },
    /// How far I trust a person, other than the community does.
    #[n(11)]
    TrustOverridden {
        /// Whom.
        #[n(0)]
        person: PersonId,
        /// The level; none takes the override back.
        #[n(1)]
        level: Option<crate::trust::TrustLevel>,
    },
    /// A community this person belongs to, so that a new device finds it.
    #[n(12)]
    CommunityJoined {
        /// Which one.
        #[n(0)]
        community: CommunityId,
        /// Its name, for display.
        #[n(1)]
        name: String,
        /// Whether it is put away.
        #[n(2)]
        archived: bool,
    },
}
