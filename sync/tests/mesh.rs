//! The mesh over real iroh endpoints on 127.0.0.1, several nodes in one
//! process: joining, links, hostile peers, stage streams.

mod common;

#[path = "mesh/devices.rs"]
mod devices;
#[path = "mesh/gossip.rs"]
mod gossip;
#[path = "mesh/hostile.rs"]
mod hostile;
#[path = "mesh/join.rs"]
mod join;
#[path = "mesh/links.rs"]
mod links;
#[path = "mesh/stage.rs"]
mod stage;
