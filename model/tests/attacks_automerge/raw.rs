//! Automerge changes as an attacker writes them: every field of a chunk is
//! free. Written apart from the encoder under test.

use exo_model::feed::{Change, FeedPosition, chunk};
use exo_model::{ChangeHash, DeviceId};
use sha2::{Digest as _, Sha256};

/// One operation of a change. An honest one is a put of bytes at the next key
/// of the root map.
#[derive(Clone)]
pub(crate) struct Op {
    /// The object's id, as index of the actor and counter; none for the root.
    pub(crate) object: Option<(u64, u64)>,
    pub(crate) key: String,
    /// 1 puts, 3 deletes, 5 increments.
    pub(crate) action: u8,
    pub(crate) value: Vec<u8>,
    /// Operations it overwrites, as index of the actor and counter.
    pub(crate) predecessors: Vec<(u64, u64)>,
}

/// A change chunk.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) deps: Vec<ChangeHash>,
    pub(crate) actor: Vec<u8>,
    pub(crate) others: Vec<Vec<u8>>,
    pub(crate) seq: u64,
    pub(crate) start_op: u64,
    pub(crate) time_ms: i64,
    pub(crate) op: Op,
}

impl Raw {
    /// What an honest program writes after `previous`.
    pub(crate) fn honest(device: &DeviceId, previous: &FeedPosition, change: &Change) -> Self {
        let seq = previous.seq + 1;
        Self {
            deps: if previous.seq == 0 { Vec::new() } else { vec![previous.hash] },
            actor: device.as_bytes().to_vec(),
            others: Vec::new(),
            seq,
            start_op: seq,
            time_ms: change.time_ms,
            op: Op {
                object: None,
                key: chunk::key(seq),
                action: 1,
                value: change.payload.clone(),
                predecessors: Vec::new(),
            },
        }
    }

    /// The chunk with a right checksum, and its hash.
    pub(crate) fn encode(&self) -> (Vec<u8>, ChangeHash) {
        seal(1, &self.body())
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        unsigned(&mut out, self.deps.len() as u64);
        self.deps.iter().for_each(|dep| out.extend_from_slice(dep.as_bytes()));
        bytes(&mut out, &self.actor);
        unsigned(&mut out, self.seq);
        unsigned(&mut out, self.start_op);
        signed(&mut out, self.time_ms);
        unsigned(&mut out, 0);
        unsigned(&mut out, self.others.len() as u64);
        self.others.iter().for_each(|other| bytes(&mut out, other));
        let columns: Vec<_> = self.columns().into_iter().filter(|(_, data)| !data.is_empty()).collect();
        unsigned(&mut out, columns.len() as u64);
        for (specification, data) in &columns {
            unsigned(&mut out, *specification);
            unsigned(&mut out, data.len() as u64);
        }
        columns.iter().for_each(|(_, data)| out.extend_from_slice(data));
        out
    }

    fn columns(&self) -> Vec<(u64, Vec<u8>)> {
        let op = &self.op;
        let literal = |value: u64| {
            let mut column = vec![0x7f];
            unsigned(&mut column, value);
            column
        };
        let object = |part: fn((u64, u64)) -> u64| op.object.map(|id| literal(part(id))).unwrap_or_default();
        let mut key = vec![0x7f];
        bytes(&mut key, op.key.as_bytes());
        let kind = if op.action == 1 { (op.value.len() as u64) << 4 | 7 } else { 0 };
        let delta = |value: u64| {
            let mut column = vec![0x7f];
            signed(&mut column, value.cast_signed());
            column
        };
        let first = op.predecessors.first().copied();
        vec![
            (0x01, object(|id| id.0)),
            (0x02, object(|id| id.1)),
            (0x15, key),
            (0x34, vec![1]),
            (0x42, literal(op.action.into())),
            (0x56, literal(kind)),
            (0x57, if op.action == 1 { op.value.clone() } else { Vec::new() }),
            (0x70, literal(op.predecessors.len() as u64)),
            (0x71, first.map(|id| literal(id.0)).unwrap_or_default()),
            (0x73, first.map(|id| delta(id.1)).unwrap_or_default()),
        ]
    }
}

/// A chunk of any type around a body, with a right checksum.
fn seal(kind: u8, body: &[u8]) -> (Vec<u8>, ChangeHash) {
    let mut hashed = vec![kind];
    bytes(&mut hashed, body);
    let hash = ChangeHash::from_bytes(Sha256::digest(&hashed).into());
    (frame(&hash, &hashed), hash)
}

/// A change chunk whose contents are deflated. Its checksum is that of the
/// contents, which only whoever inflates them can check.
fn deflated(hash: &ChangeHash, stream: &[u8]) -> Vec<u8> {
    let mut chunk = vec![2];
    bytes(&mut chunk, stream);
    frame(hash, &chunk)
}

fn frame(hash: &ChangeHash, rest: &[u8]) -> Vec<u8> {
    [&[0x85, 0x6f, 0x4a, 0x83], &hash.as_bytes()[..4], rest].concat()
}

fn bytes(out: &mut Vec<u8>, data: &[u8]) {
    unsigned(out, data.len() as u64);
    out.extend_from_slice(data);
}

/// Unsigned LEB128.
fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Signed LEB128.
fn signed(out: &mut Vec<u8>, mut value: i64) {
    while !(-64..64).contains(&value) {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0] & 0x7f);
}

/// The change with a value of `len` zeros, as a deflated chunk a hundred times
/// shorter, and its hash. What is repeated whole comes after one zero.
pub(crate) fn bomb(raw: &Raw, len: usize) -> (Vec<u8>, ChangeHash) {
    assert_eq!(len % REPEAT, 1);
    let mut large = raw.clone();
    large.op.value = vec![0; len];
    let body = large.body();
    let (_, hash) = seal(1, &body);
    // Behind the value only the column of predecessors follows: one zero.
    let (head, rest) = body.split_at(body.len() - len - NO_PREDECESSORS);
    (deflated(&hash, &deflate(head, &rest[..len], &rest[len..])), hash)
}

/// Zeros that take thirteen bits.
pub(crate) const REPEAT: usize = 258;
const NO_PREDECESSORS: usize = 2;

/// A deflate stream of head, zeros and tail.
fn deflate(head: &[u8], zeros: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.stored(&[head, &[0]].concat(), false);
    bits.push(0b010, 3); // fixed codes, not the last block
    for _ in 0..zeros.len() / REPEAT {
        bits.push(0b1010_0011, 8); // length 258, first bit lowest
        bits.push(0, 5); // distance 1
    }
    bits.push(0, 7); // end of block
    bits.stored(tail, true);
    bits.out
}

#[derive(Default)]
struct Bits {
    out: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, bits: u32, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.held.to_le_bytes()[0]);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// A block as it is; its length is written twice, once inverted.
    fn stored(&mut self, piece: &[u8], last: bool) {
        self.push(last.into(), 3);
        self.align();
        let len = u16::try_from(piece.len()).expect("short");
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(&(!len).to_le_bytes());
        self.out.extend_from_slice(piece);
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.push(0, 8 - self.count);
        }
    }
}
