//! What a private fact must look like to mean anything. One's own devices write
//! these, but a stolen one is a stranger.

use crate::envelope::LAMPORT_MAX;
use crate::event::PrivateEvent;
use crate::event::private::{TITLE_BYTES_MAX, TURN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::text::{is_clean_line, is_clean_name};

/// Why a fact counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivateFault {
    /// A title, folder or name that is too long or not clean.
    #[error("a title or name is too long, or has characters that deceive")]
    Name,
    /// A turn, prompt, draft or value over its limit.
    #[error("a text is too long")]
    Text,
    /// A read position that no message can have.
    #[error("the read position is out of range")]
    Position,
}

/// Whether an event means something.
pub(super) fn event(event: &PrivateEvent) -> Result<(), PrivateFault> {
    match event {
        PrivateEvent::ThreadTitled { title, folder, .. } => {
            let may_stand = |text: &str| text.is_empty() || is_title(text);
            ensure(may_stand(title) && may_stand(folder), PrivateFault::Name)
        }
        PrivateEvent::TurnAdded { text, about, .. } => {
            ensure(text.len() <= TURN_BYTES_MAX && about.len() <= VALUE_BYTES_MAX, PrivateFault::Text)
        }
        PrivateEvent::PromptSaved { name, text: value } | PrivateEvent::SettingSet { name, value } => {
            ensure(is_title(name), PrivateFault::Name)?;
            ensure(value.len() <= VALUE_BYTES_MAX, PrivateFault::Text)
        }
        PrivateEvent::DraftSaved { text, .. } => ensure(text.len() <= VALUE_BYTES_MAX, PrivateFault::Text),
        PrivateEvent::ReadUpTo { lamport, .. } => ensure(*lamport <= LAMPORT_MAX, PrivateFault::Position),
        PrivateEvent::CommunityJoined { name, .. } => ensure(is_clean_name(name), PrivateFault::Name),
        PrivateEvent::BranchChosen { .. }
        | PrivateEvent::ThreadDeleted { .. }
        | PrivateEvent::NotifySet { .. }
        | PrivateEvent::BlockSet { .. }
        | PrivateEvent::HideSet { .. }
        | PrivateEvent::TrustOverridden { .. } => Ok(()),
    }
}

fn is_title(text: &str) -> bool {
    text.len() <= TITLE_BYTES_MAX && is_clean_line(text)
}

fn ensure(holds: bool, fault: PrivateFault) -> Result<(), PrivateFault> {
    if holds { Ok(()) } else { Err(fault) }
}
