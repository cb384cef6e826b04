//! The mesh: how a community's truth and bytes get from peer to peer.
//!
//! - [`store`]: `store.db`, the signed changes on disk;
//! - [`archive`]: a community out of its store into a file, and back in;
//! - [`replica`]: the thread that owns the store, gates, stores, reduces, tells;
//! - [`session`]: one sync exchange, without I/O; [`wire`]: its frames;
//! - [`hub`]: whom to link with, when to exchange, what to gossip, without I/O;
//! - [`mesh`]: the iroh endpoint, who is let in, links to peers, gossip, joining,
//!   and the byte streams that stages talk over;
//! - [`blobs`]: model files by byte range over iroh-blobs;
//! - [`relay`]: servers that carry packets where two peers cannot meet, and
//!   which of them a peer uses.
//!
//! Gossip carries hints, never truth. Nothing here contacts anyone but the
//! addresses found in tickets and in the community's own cluster feeds, and
//! relays that the community named.

pub mod archive;
pub mod blobs;
pub mod hub;
pub mod mesh;
pub mod relay;
pub mod replica;
pub mod session;
pub mod store;
pub mod wire;
