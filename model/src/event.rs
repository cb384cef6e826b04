//! Everything that can happen in a community, as data.
//!
//! One family of events for each kind of stream. The numbers are the format:
//! they are never reused and never change meaning; a kind that a later
//! version adds is kept, passed on and counts for nothing here. An event
//! states a fact that its author signs; whether it counts is decided by
//! [`community`](crate::community), not here.

pub mod charter;
pub mod cluster;
pub mod dispute;
pub mod keys;
pub mod ledger;
pub mod moderation;
pub mod private;
pub mod talk;

use minicbor::{Decode, Encode};

use crate::board::{BoardContents, BoardEdit};
use crate::codec::{self, DecodeError};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::feed::Stream;
use crate::weights::ModelManifest;

pub use charter::CharterEvent;
pub use cluster::ClusterEvent;
pub use dispute::DisputeEvent;
pub use keys::KeyEvent;
pub use ledger::LedgerEvent;
pub use moderation::ModerationEvent;
pub use private::PrivateEvent;
pub use talk::TalkEvent;

/// One fact, as signed by the device whose feed it is in.
#[expect(clippy::large_enum_variant, reason = "read one by one, and not kept as they are")]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// Governance.
    #[n(0)]
    Charter(#[n(0)] CharterEvent),
    /// Credits.
    #[n(1)]
    Ledger(#[n(0)] LedgerEvent),
    /// What a machine offers and hosts.
    #[n(2)]
    Cluster(#[n(0)] ClusterEvent),
    /// What the community shares.
    #[n(3)]
    Library(#[n(0)] LibraryEvent),
    /// Words in a channel or between a few people.
    #[n(4)]
    Talk(#[n(0)] TalkEvent),
    /// Edits of a board.
    #[n(5)]
    Board(#[n(0)] BoardEvent),
    /// Epoch keys and their seals; the one family that is never sealed itself.
    #[n(6)]
    Keys(#[n(0)] KeyEvent),
    /// Reports to the moderators.
    #[n(7)]
    Moderation(#[n(0)] ModerationEvent),
    /// One person's own facts, in their private community.
    #[n(8)]
    Private(#[n(0)] PrivateEvent),
}

/// Facts about what a community shares.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LibraryEvent {
    /// A model file is known to the community; the author holds all of it.
    #[n(0)]
    ModelAdded {
        /// Where its layers lie.
        #[n(0)]
        manifest: ModelManifest,
    },
}

/// Facts about a board.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BoardEvent {
    /// The board starts from these contents: plain for a new one, carried over
    /// for one that was compacted.
    #[n(0)]
    Started {
        /// What it starts with.
        #[n(0)]
        contents: BoardContents,
    },
    /// Some intents on the board.
    #[n(1)]
    Edited {
        /// What was done, on which heads.
        #[n(0)]
        edit: BoardEdit,
    },
}

impl Event {
    /// Reads an event of any origin.
    ///
    /// # Errors
    /// [`DecodeError`], also for kinds that a later version adds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, ENVELOPE_BYTES_MAX)
    }

    /// Whether this kind of event belongs in `stream`; elsewhere it counts for
    /// nothing.
    pub const fn belongs_in(&self, stream: &Stream) -> bool {
        matches!(
            (self, stream),
            (Self::Charter(_), Stream::Charter)
                | (Self::Ledger(_), Stream::Ledger)
                | (Self::Cluster(_), Stream::Cluster)
                | (Self::Library(_), Stream::Library)
                | (Self::Talk(_), Stream::Channel(_) | Stream::Direct(_))
                | (Self::Board(_), Stream::Board(_))
                | (Self::Keys(_), Stream::Keys)
                | (Self::Moderation(_), Stream::Moderation)
                | (Self::Private(_), Stream::Private)
        )
    }
}

macro_rules! into_event {
    ($($family:ident($inner:ty)),* $(,)?) => {
        $(impl From<$inner> for Event {
            fn from(event: $inner) -> Self {
                Self::$family(event)
            }
        })*
    };
}

into_event!(
    Charter(CharterEvent),
    Ledger(LedgerEvent),
    Cluster(ClusterEvent),
    Library(LibraryEvent),
    Talk(TalkEvent),
    Board(BoardEvent),
    Keys(KeyEvent),
    Moderation(ModerationEvent),
    Private(PrivateEvent),
);
