//! What a run cost.

use std::fmt;

/// Sums over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Things that happened in the run.
    pub steps: u64,
    /// Dials begun.
    pub dials: u64,
    /// Links made, counted once for both sides.
    pub links: u64,
    /// Exchanges begun.
    pub exchanges: u64,
    /// Frames of exchanges sent.
    pub frames: u64,
    /// Their bytes, as encoded, with the length before each.
    pub frame_bytes: u64,
    /// Messages of gossip sent, those of its own upkeep among them.
    pub gossip: u64,
    /// Their bytes, as encoded.
    pub gossip_bytes: u64,
    /// Hints said.
    pub hints: u64,
    /// Changes stored that others wrote.
    pub stored: u64,
    /// Things refused.
    pub refused: u64,
    /// Wake-ups of hubs that had nothing to do and wanted the next at once.
    pub spins: u64,
}

impl Tally {
    /// What happened since an earlier moment.
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            steps: self.steps - earlier.steps,
            dials: self.dials - earlier.dials,
            links: self.links - earlier.links,
            exchanges: self.exchanges - earlier.exchanges,
            frames: self.frames - earlier.frames,
            frame_bytes: self.frame_bytes - earlier.frame_bytes,
            gossip: self.gossip - earlier.gossip,
            gossip_bytes: self.gossip_bytes - earlier.gossip_bytes,
            hints: self.hints - earlier.hints,
            stored: self.stored - earlier.stored,
            refused: self.refused - earlier.refused,
            spins: self.spins - earlier.spins,
        }
    }
}

/// What one size of mesh cost, for a table.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Nodes.
    pub nodes: usize,
    /// Events written.
    pub events: usize,
    /// What that took.
    pub tally: Tally,
    /// Devices that a node is linked with, on average and at most.
    pub links_mean: f64,
    /// See `links_mean`.
    pub links_most: usize,
}

impl Cost {
    /// Messages of exchanges and gossip, for each node and event.
    pub fn messages(&self) -> f64 {
        self.each(self.tally.frames + self.tally.gossip)
    }

    /// Their bytes, for each node and event.
    pub fn bytes(&self) -> f64 {
        self.each(self.tally.frame_bytes + self.tally.gossip_bytes)
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
    fn each(&self, sum: u64) -> f64 {
        sum as f64 / (self.nodes * self.events) as f64
    }

    /// The headings of a table.
    pub const HEAD: &str =
        "nodes events | frames  bytes  gossip  bytes  exchanges dials (each node, event) | links mean most";
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        write!(
            f,
            "{:5} {:6} | {:6.2} {:6.0} {:7.2} {:6.0} {:9.2} {:6.3}                    | {:10.1} {:4}",
            self.nodes,
            self.events,
            self.each(tally.frames),
            self.each(tally.frame_bytes),
            self.each(tally.gossip),
            self.each(tally.gossip_bytes),
            self.each(tally.exchanges),
            self.each(tally.dials),
            self.links_mean,
            self.links_most,
        )
    }
}
