//! What a fact must look like to mean anything. Pure tests of one event; none
//! of them looks at the conversation.

use crate::event::TalkEvent;
use crate::event::talk::{ATTACHMENTS_MAX, Attachment, DIRECT_PEOPLE_MAX, MENTIONS_MAX, REACTION_BYTES_MAX};
use crate::id::{ChangeHash, PersonId};
use crate::text::{MESSAGE_BYTES_MAX, is_clean_line, is_clean_message, is_clean_name};

/// Largest attachment a message may announce: 1 TiB, far more than anyone
/// fetches; keeps sums of sizes from overflowing.
pub const ATTACHMENT_SIZE_MAX: u64 = 1 << 40;
/// Longest media type: twice the 127 of RFC 6838, and the slash.
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;
/// Longest half of a media type (RFC 6838, section 4.2).
const MEDIA_NAME_BYTES_MAX: usize = 127;

/// Why a fact counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Empty with nothing attached, too long, or not clean.
    #[error("the text is empty, too long, or has characters that deceive")]
    Text,
    /// Too many people mentioned.
    #[error("more than {MENTIONS_MAX} people are mentioned")]
    Mentions,
    /// Too many files, or one with an unusable name, media type or size.
    #[error("the attachments are malformed")]
    Attachment,
    /// Not one short clean line.
    #[error("the reaction is malformed")]
    Reaction,
    /// Opens a direct conversation, in a channel.
    #[error("this is no direct conversation")]
    NotDirect,
    /// Not these people's conversation, or not in order.
    #[error("the people do not belong to this conversation")]
    People,
}

/// A message as its author posts it.
#[derive(Clone, Copy)]
pub(super) struct Post<'a> {
    pub(super) text: &'a str,
    pub(super) reply_to: Option<ChangeHash>,
    pub(super) mentions: &'a [PersonId],
    pub(super) attachments: &'a [Attachment],
}

/// Whether a message means something.
pub(super) fn post(post: &Post<'_>) -> Result<(), Fault> {
    let Post { text, mentions, attachments, .. } = post;
    if mentions.len() > MENTIONS_MAX {
        return Err(Fault::Mentions);
    }
    if attachments.len() > ATTACHMENTS_MAX || !attachments.iter().all(attachment) {
        return Err(Fault::Attachment);
    }
    ensure(is_message(text) || (text.is_empty() && !attachments.is_empty()), Fault::Text)
}

/// Whether what is said about a message, or opens a conversation, means
/// something.
pub(super) fn fact(event: &TalkEvent) -> Result<(), Fault> {
    match event {
        TalkEvent::Posted { text, reply_to, mentions, attachments } => {
            post(&Post { text, reply_to: *reply_to, mentions, attachments })
        }
        // Whether an empty text may stand depends on the message.
        TalkEvent::Edited { text, .. } => ensure(text.is_empty() || is_message(text), Fault::Text),
        TalkEvent::Reacted { reaction, .. } => {
            ensure(reaction.len() <= REACTION_BYTES_MAX && is_clean_line(reaction), Fault::Reaction)
        }
        TalkEvent::DirectOpened { people } => {
            let ordered = people.windows(2).all(|two| two[0] < two[1]);
            ensure(ordered && (2..=DIRECT_PEOPLE_MAX).contains(&people.len()), Fault::People)
        }
        TalkEvent::Deleted { .. } | TalkEvent::Pinned { .. } => Ok(()),
    }
}

fn ensure(holds: bool, fault: Fault) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault) }
}

/// [`is_clean_message`], quickly for plain ASCII: a snapshot is full of it.
fn is_message(text: &str) -> bool {
    let is_plain = |b: &u8| matches!(b, b'\n' | b'\t' | b' '..=b'~');
    let (Some(first), Some(last)) = (text.as_bytes().first(), text.as_bytes().last()) else { return false };
    let is_trimmed = first.is_ascii_graphic() && last.is_ascii_graphic();
    (is_trimmed && text.len() <= MESSAGE_BYTES_MAX && text.as_bytes().iter().all(is_plain))
        || is_clean_message(text)
}

/// Names are shown and offered for saving, so they are no paths either.
fn attachment(file: &Attachment) -> bool {
    let name = &file.name;
    is_clean_name(name)
        && !name.contains(['/', '\\'])
        && name != "."
        && name != ".."
        && is_media_type(&file.media_type)
        && file.size_bytes <= ATTACHMENT_SIZE_MAX
}

/// `type/subtype` in the restricted names of RFC 6838, section 4.2.
fn is_media_type(text: &str) -> bool {
    text.len() <= MEDIA_TYPE_BYTES_MAX
        && text
            .split_once('/')
            .is_some_and(|(kind, subtype)| is_restricted_name(kind) && is_restricted_name(subtype))
}

fn is_restricted_name(name: &str) -> bool {
    name.len() <= MEDIA_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_way_agrees_with_the_slow_one() {
        let mut texts: Vec<String> = (0..=0x17f).filter_map(char::from_u32).map(String::from).collect();
        texts.extend(texts.clone().iter().flat_map(|c| [format!("{c}a"), format!("a{c}"), format!("a{c}b")]));
        texts.extend([String::new(), "x".repeat(MESSAGE_BYTES_MAX), "x".repeat(MESSAGE_BYTES_MAX + 1)]);
        for text in texts {
            assert_eq!(is_message(&text), is_clean_message(&text), "{text:?}");
        }
    }

    #[test]
    fn media_types_of_rfc_6838() {
        for good in ["text/plain", "image/svg+xml", "application/vnd.api.v1+json", "x-a/b_c"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in [
            "",
            "text",
            "/plain",
            "text/",
            "text/plain; charset=utf-8",
            "a/b/c",
            "te xt/plain",
            "é/b",
            "-a/b",
        ] {
            assert!(!is_media_type(bad), "{bad}");
        }
        let longest = "a".repeat(MEDIA_NAME_BYTES_MAX);
        assert!(is_media_type(&format!("{longest}/{longest}")));
        assert!(!is_media_type(&format!("{longest}a/b")));
    }
}
