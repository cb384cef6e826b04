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
pub mod board;
pub mod certificate;
pub mod charter;
pub mod cluster;
pub mod codec;
pub mod community;
pub mod conversation;
pub mod decide;
pub mod dispute;
pub mod envelope;
pub mod epochs;
pub mod event;
pub mod export;
pub mod feed;
pub mod hash;
pub mod id;
pub mod invite;
pub mod ledger;
pub mod moderation;
pub mod pairing;
pub mod phrase;
pub mod port;
pub mod private;
pub mod profile;
pub mod quota;
pub mod register;
pub mod roll;
pub mod safety_words;
pub mod sealing;
pub mod signature;
pub mod snapshot;
pub mod text;
pub mod trust;
pub mod weights;

pub use community::{Community, CommunityState};
pub use event::Event;
pub use feed::{FeedId, Stream, VerifiedEvent};
pub use id::{BlobHash, ChangeHash, ChannelId, CommunityId, DeviceId, InviteKey, JobId, PersonId};
