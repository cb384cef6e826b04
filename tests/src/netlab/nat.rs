//! Routers that translate addresses, and a probe that says what one does.
//!
//! A router has an interface `lan` and an interface `wan`. All kinds keep out
//! what nobody inside asked for, except where a port is forwarded.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use super::Space;

/// Longest wait of the probe for a packet that may come.
const PROBE_WAIT: Duration = Duration::from_millis(300);
/// Port of the probe's outside ends.
const OUTSIDE_PORT: u16 = 9_999;

/// How a router translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// One port outside for one inside, and whoever knows it gets in: the port is
    /// forwarded.
    FullCone,
    /// One port outside for one inside; only who was sent something gets in.
    Cone,
    /// Another port outside for each destination; only who was sent something
    /// gets in, and nobody else can know the port.
    Symmetric,
}

impl Nat {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FullCone => "full cone",
            Self::Cone => "cone",
            Self::Symmetric => "symmetric",
        }
    }

    /// Makes `router` translate for the machine `inside`, whose program listens
    /// on `port`.
    pub fn install(self, router: &Space, inside: Ipv4Addr, port: u16) {
        // The kernel keeps a port if it is free, so plain masquerading is a cone.
        let masquerade = if self == Self::Symmetric { "masquerade fully-random" } else { "masquerade" };
        let forward =
            format!("add rule ip home before iifname \"wan\" udp dport {port} dnat to {inside}:{port}");
        let forward = if self == Self::FullCone { forward } else { String::new() };
        // What is dropped on its way in is forgotten. Otherwise a stranger's packet
        // would hold the very port that hole punching is about.
        router.forward();
        router.rules(&format!(
            "add table ip home
             add chain ip home before {{ type nat hook prerouting priority dstnat; }}
             add chain ip home after {{ type nat hook postrouting priority srcnat; }}
             add chain ip home input {{ type filter hook input priority filter; }}
             add chain ip home through {{ type filter hook forward priority filter; }}
             add rule ip home after oifname \"wan\" {masquerade}
             add rule ip home input iifname \"wan\" drop
             add rule ip home through iifname \"wan\" ct state established accept
             add rule ip home through iifname \"wan\" ct status dnat accept
             add rule ip home through iifname \"wan\" drop
             {forward}"
        ));
    }
}

/// What packets show of a router, whatever its rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Two destinations see one port.
    pub one_port: bool,
    /// A stranger's packet to that port gets in.
    pub lets_strangers_in: bool,
}

impl Seen {
    /// The kind of router that behaves so, if it is one of ours.
    pub const fn kind(self) -> Option<Nat> {
        match (self.one_port, self.lets_strangers_in) {
            (true, true) => Some(Nat::FullCone),
            (true, false) => Some(Nat::Cone),
            (false, false) => Some(Nat::Symmetric),
            (false, true) => None,
        }
    }
}

/// Finds out how the router in front of `home` translates `port`: sends from it
/// to two of `outside`'s addresses, and has a third one send there.
///
/// # Panics
/// When nothing gets out.
pub fn probe(home: &Space, port: u16, outside: &Space, addresses: [Ipv4Addr; 3]) -> Seen {
    let bind = |address: Ipv4Addr, port: u16| {
        let socket = UdpSocket::bind(SocketAddrV4::new(address, port)).expect("a free port");
        socket.set_read_timeout(Some(PROBE_WAIT)).expect("a deadline");
        socket
    };
    let inner = home.inside(|| bind(Ipv4Addr::UNSPECIFIED, port));
    let outer = outside.inside(|| addresses.map(|address| bind(address, OUTSIDE_PORT)));
    let mut buffer = [0; 16];
    let seen: Vec<_> = outer[..2]
        .iter()
        .map(|socket| {
            inner.send_to(b"out", socket.local_addr().expect("bound")).expect("sent");
            socket.recv_from(&mut buffer).expect("what is sent gets out").1
        })
        .collect();
    // Who was sent something can answer: otherwise the next question says nothing.
    outer[0].send_to(b"answer", seen[0]).expect("sent");
    assert_eq!(inner.recv(&mut buffer).expect("answers get in"), 6);
    outer[2].send_to(b"in", seen[0]).expect("sent");
    let lets_strangers_in = inner.recv(&mut buffer).is_ok();
    Seen { one_port: seen[0].port() == seen[1].port(), lets_strangers_in }
}
