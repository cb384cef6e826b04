//! Hundreds of nodes in one process and one thread, under a seed.
//!
//! Every node runs what a real one does: [`Hub`](exo_sync::hub::Hub) decides,
//! [`SyncSession`](exo_sync::session::SyncSession) exchanges,
//! [`ReplicaCore`](exo_sync::replica::ReplicaCore) stores in a `store.db` of its
//! own, and gossip is iroh-gossip's protocol core, as it is. What stands between
//! them here stands in for `exo_sync::mesh` alone: connections, streams, timers.
//!
//! - [`world`]: virtual time, the queue of what is to happen, the journal
//! - [`network`]: delay, loss, partitions
//! - [`node`]: one program, with crash and restart
//! - [`links`]: connections, made and broken
//! - [`exchange`]: sessions over them
//! - [`gossip`]: words over iroh-gossip's core
//! - [`byzantine`]: members who lie
//! - [`story`]: what people do, and what befalls their machines
//! - [`measure`], [`chance`], [`people`]: figures, randomness, who takes part
//!
//! One seed decides everything: the same seed gives the same journal, a hash
//! over all that happened in its order. No clock is read, but for one moment
//! that all of gossip's times are counted from and none depends on.
//!
//! What differs from a real node: words of gossip carry a keyed hash instead of
//! a signature, which costs a hundredth; joining is one call instead of a
//! stream; gossip has a connection for each topic; a machine dies between two
//! things that happen, never within one.

pub mod byzantine;
pub mod chance;
pub mod exchange;
pub mod gossip;
pub mod links;
pub mod measure;
pub mod network;
pub mod node;
pub mod people;
pub mod story;
pub mod world;

pub use byzantine::Vice;
pub use measure::{Cost, Tally};
pub use network::Weather;
pub use people::Templates;
pub use story::Story;
pub use world::{Plan, World};

/// A node's number: the person's who runs it.
pub type Nx = usize;
