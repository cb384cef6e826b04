//! Words in channels and between a few people.

use minicbor::{Decode, Encode};

use crate::id::{BlobHash, ChangeHash, PersonId};

/// Most people one message mentions.
pub const MENTIONS_MAX: usize = 32;
/// Most attachments of one message.
pub const ATTACHMENTS_MAX: usize = 16;
/// Longest reaction, in bytes: one emoji with its joiners.
pub const REACTION_BYTES_MAX: usize = 32;
/// Most people of a direct conversation.
pub const DIRECT_PEOPLE_MAX: usize = 16;

/// A file that goes with a message. It travels as a blob, sealed with a key of
/// its own and named by the hash of its sealed bytes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Attachment {
    /// The sealed blob.
    #[n(0)]
    pub blob: BlobHash,
    /// The key it is sealed with.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub key: [u8; 32],
    /// File name, for display.
    #[n(2)]
    pub name: String,
    /// Media type, as its author states it.
    #[n(3)]
    pub media_type: String,
    /// Length before sealing, in bytes.
    #[n(4)]
    pub size_bytes: u64,
}

/// One fact of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TalkEvent {
    /// A message.
    #[n(0)]
    Posted {
        /// What was written; may be empty where something is attached.
        #[n(0)]
        text: String,
        /// The message it answers.
        #[n(1)]
        reply_to: Option<ChangeHash>,
        /// Who is meant to notice.
        #[n(2)]
        mentions: Vec<PersonId>,
        /// What goes with it.
        #[n(3)]
        attachments: Vec<Attachment>,
    },
    /// The author's message reads otherwise from here on.
    #[n(1)]
    Edited {
        /// Which one.
        #[n(0)]
        message: ChangeHash,
        /// What it says now.
        #[n(1)]
        text: String,
    },
    /// The author's message is gone.
    #[n(2)]
    Deleted {
        /// Which one.
        #[n(0)]
        message: ChangeHash,
    },
    /// A reaction is put on a message, or taken off again.
    #[n(3)]
    Reacted {
        /// To which one.
        #[n(0)]
        message: ChangeHash,
        /// One emoji.
        #[n(1)]
        reaction: String,
        /// Whether it is there from here on.
        #[n(2)]
        on: bool,
    },
    /// A message is kept at hand for everyone, or no longer.
    #[n(4)]
    Pinned {
        /// Which one.
        #[n(0)]
        message: ChangeHash,
        /// Whether it is from here on.
        #[n(1)]
        on: bool,
    },
    /// A direct conversation between these people, whose id is the hash of
    /// them.
    #[n(5)]
    DirectOpened {
        /// Who, in order, the author among them.
        #[n(0)]
        people: Vec<PersonId>,
    },
}
