//! The shared state of a community, pure and replayable.
//!
//! Flow: an [`Intent`](decide::Intent) becomes signed [`Event`](event::Event)s
//! through [`decide`]; each is one Automerge change of a one-writer
//! [`feed`](feed); a peer's changes pass the [gate](feed::gate) and come out as
//! [`VerifiedEvent`](feed::VerifiedEvent)s; [`Community`](community::Community)
//! reduces the set of all events to a
//! [`CommunityState`](community::CommunityState), the same for every order of
//! arrival.
//!
//! Never here: tokio, files, clocks, threads, iroh, SQLite, candle, Slint.
//! Time and randomness are arguments ([`port`]). Maps are ordered.

pub mod amount;
pub mod codec;
pub mod community;
pub mod decide;
pub mod envelope;
pub mod event;
pub mod feed;
pub mod hash;
pub mod id;
pub mod invite;
pub mod ledger;
pub mod port;
pub mod signature;
pub mod text;
pub mod weights;

pub use community::{Community, CommunityState};
pub use event::Event;
pub use feed::{FeedId, Stream, VerifiedEvent};
pub use id::{BlobHash, ChangeHash, ChannelId, CommunityId, DeviceId, InviteKey, JobId};
