//! Members who lie. Each is a member with a key of their own and a program that
//! is not ours: what it may do is what any bytes may do.

use exo_model::codec;
use exo_model::feed::{FeedPosition, Stream};
use exo_model::id::{ChangeHash, DeviceId};
use exo_sync::hub::{Hint, Random as _};
use exo_sync::session::{Claim, FeedHead, Frame, Greeting, PlaceRange, Says};

use super::Nx;
use super::gossip::Said;
use super::world::{Event, World};

/// Words that a flooding member says each second.
const FLOOD: u64 = 4;

/// In which way somebody lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vice {
    /// Half of its frames are noise.
    Garbage,
    /// It claims things outside the ranges it speaks of, and asks for lines
    /// that do not exist.
    OutOfBounds,
    /// It says that everyone's feeds go on where they do not.
    Liar,
    /// It passes on nothing that others wrote.
    Withholder,
    /// It hints at what does not exist, in its own name and in others'.
    Forger,
    /// It hints at what does not exist, all the time.
    Flooder,
    /// It writes two lines of everything, and shows each to half of the others.
    TwoFaced,
    /// It accepts everything and reads nothing.
    SlowReader,
}

impl Vice {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Garbage,
        Self::OutOfBounds,
        Self::Liar,
        Self::Withholder,
        Self::Forger,
        Self::Flooder,
        Self::TwoFaced,
        Self::SlowReader,
    ];

    /// Whether it does something of its own accord.
    pub(crate) const fn is_busy(self) -> bool {
        matches!(self, Self::Forger | Self::Flooder)
    }
}

impl World {
    /// What a node really sends instead of a frame.
    pub(crate) fn twisted(&mut self, nx: Nx, frame: Frame) -> Vec<Vec<u8>> {
        let honest = codec::encode(&frame);
        let Some(vice) = self.nodes[nx].vice else { return vec![honest] };
        let chance = &mut self.nodes[nx].chance;
        match (vice, frame) {
            (Vice::Garbage, _) if chance.percent(50) => {
                let len = chance.below(200);
                vec![chance.bytes(len)]
            }
            (Vice::OutOfBounds, Frame::Claims(_)) => {
                let other = DeviceId::from_bytes([0xff; 32]);
                let end = FeedPosition { seq: 9, hash: ChangeHash::from_bytes(chance.array()) };
                let head = FeedHead { device: other, stream: Stream::Ledger, segment: u32::MAX, end };
                let want = Frame::Want { line: head, marks: vec![end; 8] };
                let empty = PlaceRange { from: Some(head.place()), upto: Some(head.place()) };
                let claim = Claim { range: empty, says: Says::Ends(vec![head]) };
                vec![codec::encode(&want), codec::encode(&Frame::Claims(vec![claim]))]
            }
            (Vice::Liar, Frame::Greeting(greeting)) => {
                let root = chance.array();
                vec![codec::encode(&Frame::Greeting(Greeting { root, ..greeting }))]
            }
            (Vice::Liar, Frame::Claims(claims)) => {
                let claims = claims.into_iter().map(|claim| lying(claim, chance.array())).collect();
                vec![codec::encode(&Frame::Claims(claims))]
            }
            _ => vec![honest],
        }
    }

    pub(crate) fn mischief(&mut self, nx: Nx, life: u32) {
        let Some(vice) = self.nodes[nx].vice.filter(|_| self.nodes[nx].is_life(life)) else { return };
        let (words, pause_ms) = if vice == Vice::Flooder { (FLOOD, 1_000) } else { (1, 5_000) };
        for _ in 0..words {
            let other = self.chance.below(self.nodes.len());
            let name = if vice == Vice::Forger && self.chance.percent(50) { other } else { nx };
            self.hint_falsely(nx, name, other);
        }
        self.after(pause_ms, Event::Mischief(nx, life));
    }

    /// A node says, in somebody's name, that a third has written what it has not.
    pub fn hint_falsely(&mut self, nx: Nx, name: Nx, other: Nx) {
        let hint = self.false_hint(other);
        self.say(nx, name, &Said::Hint(hint));
    }

    fn false_hint(&mut self, other: Nx) -> Hint {
        let stream = Stream::Channel(self.template.channel);
        let seq = 1_000 + self.chance.any() % 1_000_000;
        let end = FeedPosition { seq, hash: ChangeHash::from_bytes(self.chance.array()) };
        let head = FeedHead { device: self.nodes[other].device(), stream, segment: 0, end };
        Hint { root: self.chance.array(), news: vec![head], more: self.chance.percent(30) }
    }
}

fn lying(claim: Claim, hash: [u8; 32]) -> Claim {
    let further = |mut heads: Vec<FeedHead>| {
        for head in &mut heads {
            head.end = FeedPosition { seq: head.end.seq + 1_000, hash: ChangeHash::from_bytes(hash) };
        }
        heads
    };
    let says = match claim.says {
        Says::Ends(heads) => Says::Ends(further(heads)),
        Says::Answer(heads) => Says::Answer(further(heads)),
        fingerprint @ Says::Fingerprint(_) => fingerprint,
    };
    Claim { says, ..claim }
}
