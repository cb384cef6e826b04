//! The mesh: how a community's truth and bytes get from peer to peer.
//!
//! - [`store`]: `store.db`, the signed changes on disk;
//! - [`archive`]: a community out of its store into a file, and back in;
//! - [`replica`]: the thread that owns the store, gates, stores, reduces, tells;
//! - [`session`]: one sync exchange, without I/O; [`wire`]: its frames;
//! - [`mesh`]: the iroh endpoint, who is let in, links to peers, gossip hints,
//!   joining, and the byte streams that stages talk over;
//! - [`blobs`]: model files by byte range over iroh-blobs.
//!
//! Gossip carries hints, never truth. Nothing here contacts anyone but the
//! addresses found in tickets and in the community's own cluster feeds.

pub mod archive;
pub mod blobs;
pub mod mesh;
pub mod replica;
pub mod session;
pub mod store;
pub mod wire;
