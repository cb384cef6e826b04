//! Opening a feed as the Automerge document it is.
//!
//! Not on the way of any received byte: only chunks that [`super::gate`]
//! rebuilt and accepted are loaded, as one concatenated file, which is what
//! `automerge` documents are. Used to audit a store against Automerge's own
//! reading, and to hand a feed to any other Automerge program.

use automerge::{Automerge, ROOT, ReadDoc};

use super::{Change, FeedId, FeedPosition, chunk};
use crate::id::ChangeHash;

/// A stored feed that Automerge does not read as we do.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Automerge refuses the chunks.
    #[error("Automerge cannot load the feed: {0}")]
    Load(#[from] automerge::AutomergeError),
    /// Automerge reads something else.
    #[error("Automerge reads the feed differently: {0}")]
    Differs(&'static str),
}

/// Encodes a whole feed as an Automerge file and returns it with its end.
pub fn encode_file<'a>(
    feed: &FeedId,
    changes: impl IntoIterator<Item = &'a Change>,
) -> (Vec<u8>, FeedPosition) {
    let mut file = Vec::new();
    let mut position = FeedPosition::START;
    for change in changes {
        let (bytes, hash) = chunk::encode(&feed.device, &position, change);
        file.extend_from_slice(&bytes);
        position = FeedPosition { seq: position.seq + 1, hash };
    }
    (file, position)
}

/// Loads a whole feed into Automerge and compares what it reads: heads, number
/// of keys, and the last value.
///
/// # Errors
/// When Automerge refuses or disagrees.
pub fn audit(feed: &FeedId, changes: &[Change]) -> Result<ChangeHash, DocumentError> {
    let (file, end) = encode_file(feed, changes);
    let document = Automerge::load(&file)?;
    if changes.is_empty() {
        return Ok(end.hash);
    }
    let heads = document.get_heads();
    if heads.len() != 1 || heads[0].0 != *end.hash.as_bytes() {
        return Err(DocumentError::Differs("its head is another change"));
    }
    if document.length(ROOT) as u64 != end.seq {
        return Err(DocumentError::Differs("it has another number of events"));
    }
    let last = document.get(ROOT, chunk::key(end.seq))?;
    let read = last.as_ref().and_then(|(value, _)| value.as_bytes());
    if read != changes.last().map(|change| change.payload.as_slice()) {
        return Err(DocumentError::Differs("its last event has other bytes"));
    }
    Ok(end.hash)
}
