//! Rows that come from single events: what the state does not hold.
//!
//! They are kept whether or not their author has a right to be heard; queries
//! join them with the mirrored state. So an event that arrives late and takes
//! a membership back hides its messages, and one that gives it shows them,
//! without touching a row.

use exo_model::event::{LedgerEvent, TalkEvent};
use exo_model::text::is_clean_message;
use exo_model::{Event, Stream, VerifiedEvent};
use rusqlite::{Connection, params};

use crate::error::ViewsError;

// An event that could not be opened at first is told again, and others of its
// feed with it.
const MESSAGE: &str = "INSERT OR IGNORE INTO messages \
    (channel, lamport, hash, device, segment, seq, time_ms, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const LOCK: &str = "INSERT OR IGNORE INTO lock_events (lamport, hash, time_ms) VALUES (?1, ?2, ?3)";

/// Writes the row of one event, unless it is there. Returns how many messages
/// that added.
pub(crate) fn record(db: &Connection, event: &VerifiedEvent) -> Result<usize, ViewsError> {
    let out_of_range = |_| ViewsError::OutOfRange { feed: event.feed, seq: event.seq };
    let lamport = i64::try_from(event.lamport).map_err(out_of_range)?;
    let hash = event.hash.as_bytes();
    match (&event.feed.stream, &event.event) {
        // A text no honest device lets out could hide or forge what is around
        // it on screen.
        (Stream::Channel(channel), Ok(Event::Talk(TalkEvent::Posted { text, .. })))
            if is_clean_message(text) =>
        {
            let seq = i64::try_from(event.seq).map_err(out_of_range)?;
            let (device, segment) = (event.feed.device.as_bytes(), event.feed.segment);
            let row = params![channel.as_bytes(), lamport, hash, device, segment, seq, event.time_ms, text];
            db.prepare_cached(MESSAGE)
                .and_then(|mut insert| insert.execute(row))
                .map_err(ViewsError::while_doing("writing a message"))
        }
        (Stream::Ledger, Ok(Event::Ledger(LedgerEvent::Locked { .. }))) => {
            db.prepare_cached(LOCK)
                .and_then(|mut insert| insert.execute(params![lamport, hash, event.time_ms]))
                .map_err(ViewsError::while_doing("writing the time of a lock"))?;
            Ok(0)
        }
        _ => Ok(0),
    }
}
