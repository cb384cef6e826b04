//! Connections: dialled, admitted, broken. What `mesh::link`, `mesh::admission`
//! and QUIC do on a real node.

use std::collections::BTreeSet;

use exo_model::id::DeviceId;
use exo_sync::hub::{Farewell, Input, LinkId};

use super::Nx;
use super::exchange::Item;
use super::network::IDLE_MS;
use super::world::{Event, World};

/// Longest wait for a connection, ms: `mesh::DIAL_DEADLINE`.
const DIAL_MS: u64 = 5_000;
/// Pause before a packet is sent again that a split network took, ms; up to twice
/// as long.
const RESEND_MS: u64 = 1_000;

/// What one side knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The handshake is not over.
    Pending,
    /// It stands.
    Open,
    /// It is gone.
    Gone,
}

/// One side of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) nx: Nx,
    pub(crate) standing: Standing,
}

/// A connection; the first side dialled.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    /// Exchanges that are over, by side: what still arrives of them is nothing.
    pub(crate) over: BTreeSet<(usize, u64)>,
}

impl Conn {
    /// Which side a node is.
    pub(crate) fn side_of(&self, nx: Nx) -> usize {
        usize::from(self.ends[0].nx != nx)
    }

    pub(crate) fn is_open(&self, side: usize) -> bool {
        self.ends[side].standing == Standing::Open
    }
}

impl World {
    pub(crate) fn dial(&mut self, nx: Nx, device: &DeviceId) {
        self.tally.dials += 1;
        self.nodes[nx].dials += 1;
        let (life, begun_ms) = (self.nodes[nx].life, self.now_ms);
        match self.nx_of(device) {
            Some(to) => {
                let delay_ms = self.network.delay_ms(&mut self.chance);
                self.after(delay_ms, Event::Dialled { from: nx, life, to, begun_ms });
            }
            None => panic!("seed {}: a dial of nobody", self.seed),
        }
    }

    pub(crate) fn dialled(&mut self, from: Nx, life: u32, to: Nx, begun_ms: u64) {
        if !self.nodes[from].is_life(life) {
            return;
        }
        let is_reached = self.nodes[to].running.is_some() && !self.network.is_cut(from, to);
        if !is_reached || !self.nodes[from].online {
            self.at(begun_ms + DIAL_MS, Event::DialFails(from, life, to));
            return;
        }
        self.given += 1;
        let link = self.given;
        let is_admitted = self.nodes[to].online && self.nodes[to].admits(&self.nodes[from].device());
        let standing = if is_admitted { Standing::Open } else { Standing::Gone };
        let ends = [End { nx: from, standing: Standing::Pending }, End { nx: to, standing }];
        self.conns.insert(link, Conn { ends, over: BTreeSet::new() });
        let back_ms = self.network.delay_ms(&mut self.chance);
        self.after(back_ms, Event::LinkUp(link));
        if is_admitted {
            self.tally.links += 1;
            let device = self.nodes[from].device();
            self.hear(to, Input::Linked { link, device, dialled: false });
        } else {
            // The dialler has a connection for as long as it takes to hear no.
            let no_ms = self.network.delay_ms(&mut self.chance);
            self.after(back_ms + no_ms, Event::Break(link, 0));
        }
    }

    pub(crate) fn dial_fails(&mut self, nx: Nx, life: u32, to: Nx) {
        if self.nodes[nx].is_life(life) {
            let device = self.nodes[to].device();
            self.hear(nx, Input::DialFailed(device));
        }
    }

    pub(crate) fn link_up(&mut self, link: LinkId) {
        let Some(conn) = self.conns.get_mut(&link) else { return };
        if conn.ends[0].standing != Standing::Pending {
            // The dialler died meanwhile.
            return;
        }
        conn.ends[0].standing = Standing::Open;
        let (from, to) = (conn.ends[0].nx, conn.ends[1].nx);
        let device = self.nodes[to].device();
        if self.nodes[from].online {
            self.hear(from, Input::Linked { link, device, dialled: true });
        } else {
            // The switch refuses also what was dialled before.
            self.hear(from, Input::DialFailed(device));
            self.forget_end(link, 0);
            self.break_later(link, 1);
        }
    }

    /// A hub closes a link.
    pub(crate) fn close(&mut self, nx: Nx, link: LinkId, farewell: Farewell) {
        let Some(conn) = self.conns.get(&link) else { return };
        let side = conn.side_of(nx);
        let other = conn.ends[1 - side].nx;
        if farewell == Farewell::NotAMember {
            self.cut_gossip_between(nx, other);
        }
        self.after(0, Event::Break(link, side));
        self.break_later(link, 1 - side);
    }

    /// One side hears of it when the other closed, or misses it.
    fn break_later(&mut self, link: LinkId, side: usize) {
        let Some(conn) = self.conns.get(&link) else { return };
        let is_cut = self.network.is_cut(conn.ends[0].nx, conn.ends[1].nx);
        let ms = if is_cut { IDLE_MS } else { self.network.delay_ms(&mut self.chance) };
        self.after(ms, Event::Break(link, side));
    }

    pub(crate) fn break_side(&mut self, link: LinkId, side: usize) {
        let Some(conn) = self.conns.get(&link).filter(|conn| conn.is_open(side)) else { return };
        let nx = conn.ends[side].nx;
        self.forget_end(link, side);
        self.end_talks_on(nx, link);
        self.hear(nx, Input::Unlinked(link));
    }

    fn forget_end(&mut self, link: LinkId, side: usize) {
        let Some(conn) = self.conns.get_mut(&link) else { return };
        conn.ends[side].standing = Standing::Gone;
        if conn.ends.iter().all(|end| end.standing == Standing::Gone) {
            self.conns.remove(&link);
        }
    }

    /// A program died: whoever it was linked with notices after a while.
    pub(crate) fn cut_links_of(&mut self, nx: Nx) {
        let links: Vec<_> = self.conns.iter().map(|(link, conn)| (*link, conn.ends)).collect();
        for (link, ends) in links {
            for (side, end) in ends.iter().enumerate() {
                if end.nx == nx && end.standing != Standing::Gone {
                    self.after(IDLE_MS, Event::Break(link, 1 - side));
                    self.forget_end(link, side);
                }
            }
        }
    }

    /// The network was split: what goes through the cut breaks in a while.
    pub(crate) fn watch_cut_links(&mut self) {
        let cut: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| self.network.is_cut(conn.ends[0].nx, conn.ends[1].nx))
            .map(|(link, _)| *link)
            .collect();
        for link in cut {
            self.after(IDLE_MS, Event::Idle(link));
        }
    }

    pub(crate) fn idle(&mut self, link: LinkId) {
        let Some(conn) = self.conns.get(&link) else { return };
        if self.network.is_cut(conn.ends[0].nx, conn.ends[1].nx) {
            self.break_side(link, 0);
            self.break_side(link, 1);
        }
    }

    /// Sends something on a stream.
    pub(crate) fn send(&mut self, link: LinkId, to: usize, exchange: u64, seq: u32, item: Item) {
        let ms = self.network.delay_ms(&mut self.chance);
        self.after(ms, Event::Packet { link, to, exchange, seq, item });
    }

    pub(crate) fn packet(&mut self, link: LinkId, to: usize, exchange: u64, seq: u32, item: Item) {
        let Some(conn) = self.conns.get(&link) else { return };
        let is_cut = self.network.is_cut(conn.ends[0].nx, conn.ends[1].nx);
        if is_cut || conn.ends[to].standing == Standing::Pending {
            let ms = if is_cut { self.chance.between(RESEND_MS, 2 * RESEND_MS) } else { 1 };
            self.after(ms, Event::Packet { link, to, exchange, seq, item });
            return;
        }
        if !conn.is_open(to) {
            // Nobody there knows of this connection.
            self.break_later(link, 1 - to);
            return;
        }
        self.arrive(link, to, exchange, seq, item);
    }

    /// How many devices each node is linked with that runs.
    pub fn degrees(&self) -> Vec<usize> {
        let running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        running.map(|running| running.hub.linked_devices().count()).collect()
    }

    /// How many connections a node has, second ones to the same device among
    /// them.
    pub fn connections_of(&self, nx: Nx) -> usize {
        let ends = self.conns.values().flat_map(|conn| conn.ends);
        ends.filter(|end| end.nx == nx && end.standing == Standing::Open).count()
    }
}
