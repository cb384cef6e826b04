//! Reports to the moderators.

use minicbor::{Decode, Encode};

use crate::id::{ChangeHash, PersonId};
use crate::sealing::SealedFor;

/// What people tell the moderators.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ModerationEvent {
    /// The author reports a person.
    #[n(0)]
    ReportFiled {
        /// Whom.
        #[n(0)]
        subject: PersonId,
        /// The message it is about, if it is about one.
        #[n(1)]
        message: Option<ChangeHash>,
        /// What happened, for the moderators' devices only.
        #[n(2)]
        account: SealedFor,
    },
}
