//! SQLite views derived from a community's events; thrown away and rebuilt at
//! will.
//!
//! Flow: the event store (`sync`) holds the signed changes, the gate makes
//! [`VerifiedEvent`](exo_model::VerifiedEvent)s of them,
//! [`Community`](exo_model::Community) reduces those to a
//! [`CommunityState`](exo_model::CommunityState), and here both are laid down
//! in `views.db`, one file per community, in a form a window can page through:
//!
//! - [`Views`] is the one writer: content rows of the new events, the tables
//!   that mirror the state, and how far each feed was taken, in one
//!   transaction. [`ViewsWriter`] puts it on a thread of its own behind a
//!   bounded inbox.
//! - [`Reader`] is the read side; it never waits for the writer (WAL).
//! - [`dump`] writes every table as ordered text, for the promise that views
//!   kept up to date event by event equal views built from nothing.
//!
//! Never here: the truth (that is the event store's), the network, keys, any
//! judgement of what an event means (that is `reduce`'s), clocks. Views hold
//! plaintext under the protection of the operating system's user.

mod content;
mod cursors;
pub mod dump;
pub mod error;
mod merge;
pub mod query;
pub mod rows;
pub mod schema;
mod tables;
pub mod views;
pub mod writer;

pub use error::{OpenError, QueryError, ViewsError};
pub use query::{PageCursor, Reader};
pub use views::{Applied, Opened, Views};
pub use writer::{Outcome, ViewsWriter};
