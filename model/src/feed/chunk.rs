//! The canonical Automerge encoding of a one-put change.
//!
//! Format: Automerge binary format, change chunks
//! (<https://automerge.org/automerge-binary-format-spec/>). A chunk is magic,
//! checksum, type, length, then the body built here. Its hash is SHA-256 from
//! the type byte on; the checksum is the hash's first four bytes.
//!
//! The golden tests hold this encoder against Automerge's own commit.

use sha2::{Digest, Sha256};

use super::{Change, FeedPosition};
use crate::id::{ChangeHash, DeviceId};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHUNK_TYPE_CHANGE: u8 = 1;

// Column specifications: id << 4 | type.
const COLUMN_KEY_STRING: u8 = 0x15;
const COLUMN_INSERT: u8 = 0x34;
const COLUMN_ACTION: u8 = 0x42;
const COLUMN_VALUE_METADATA: u8 = 0x56;
const COLUMN_VALUE: u8 = 0x57;
const COLUMN_PREDECESSORS: u8 = 0x70;

/// Run-length header "literal run of one value" (−1 as signed LEB128).
const ONE_LITERAL: u8 = 0x7f;
const ACTION_PUT: u8 = 1;
const VALUE_TYPE_BYTES: u64 = 7;
const KEY_LEN: u8 = 8;

/// The key the change `seq` puts at: eight hexadecimal digits, so that the
/// map's key order is the order of writing.
pub fn key(seq: u64) -> String {
    format!("{seq:08x}")
}

/// The hash of the change after `previous` in `device`'s feed.
pub fn change_hash(device: &DeviceId, previous: &FeedPosition, change: &Change) -> ChangeHash {
    hash_of(&type_length_body(device, previous, change))
}

/// The whole chunk, as Automerge stores it, and its hash.
pub fn encode(device: &DeviceId, previous: &FeedPosition, change: &Change) -> (Vec<u8>, ChangeHash) {
    let hashed = type_length_body(device, previous, change);
    let hash = hash_of(&hashed);
    let mut chunk = Vec::with_capacity(hashed.len() + 8);
    chunk.extend_from_slice(&MAGIC);
    chunk.extend_from_slice(&hash.as_bytes()[..4]);
    chunk.extend_from_slice(&hashed);
    (chunk, hash)
}

fn hash_of(hashed: &[u8]) -> ChangeHash {
    ChangeHash::from_bytes(Sha256::digest(hashed).into())
}

fn type_length_body(device: &DeviceId, previous: &FeedPosition, change: &Change) -> Vec<u8> {
    let body = body(device, previous, change);
    let mut out = Vec::with_capacity(body.len() + 6);
    out.push(CHUNK_TYPE_CHANGE);
    unsigned(&mut out, body.len() as u64);
    out.extend_from_slice(&body);
    out
}

fn body(device: &DeviceId, previous: &FeedPosition, change: &Change) -> Vec<u8> {
    let seq = previous.seq + 1;
    let mut out = Vec::with_capacity(change.payload.len() + 140);
    if previous.seq == 0 {
        out.push(0);
    } else {
        out.push(1);
        out.extend_from_slice(previous.hash.as_bytes());
    }
    unsigned(&mut out, DeviceId::LEN as u64);
    out.extend_from_slice(device.as_bytes());
    unsigned(&mut out, seq);
    unsigned(&mut out, seq); // start_op: one operation a change
    signed(&mut out, change.time_ms);
    out.push(0); // no message
    out.push(0); // no other actors
    columns(&mut out, seq, &change.payload);
    out
}

fn columns(out: &mut Vec<u8>, seq: u64, payload: &[u8]) {
    let mut value_metadata = vec![ONE_LITERAL];
    unsigned(&mut value_metadata, ((payload.len() as u64) << 4) | VALUE_TYPE_BYTES);

    // An empty column is left out, its specification too.
    out.push(if payload.is_empty() { 5 } else { 6 });
    out.extend_from_slice(&[COLUMN_KEY_STRING, KEY_LEN + 2, COLUMN_INSERT, 1, COLUMN_ACTION, 2]);
    out.push(COLUMN_VALUE_METADATA);
    unsigned(out, value_metadata.len() as u64);
    if !payload.is_empty() {
        out.push(COLUMN_VALUE);
        unsigned(out, payload.len() as u64);
    }
    out.extend_from_slice(&[COLUMN_PREDECESSORS, 2]);

    out.extend_from_slice(&[ONE_LITERAL, KEY_LEN]);
    out.extend_from_slice(key(seq).as_bytes());
    out.push(1); // insert: one false
    out.extend_from_slice(&[ONE_LITERAL, ACTION_PUT]);
    out.extend_from_slice(&value_metadata);
    out.extend_from_slice(payload);
    out.extend_from_slice(&[ONE_LITERAL, 0]); // no predecessors
}

/// Unsigned LEB128.
fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Signed LEB128.
fn signed(out: &mut Vec<u8>, mut value: i64) {
    loop {
        #[expect(clippy::cast_sign_loss, reason = "masked to seven bits")]
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0) {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use automerge::transaction::{CommitOptions, Transactable};
    use automerge::{ActorId, Automerge, ROOT, ReadDoc};

    use super::*;

    /// Automerge's own commit of the same change, byte for byte.
    #[test]
    fn equals_automerges_own_commit() {
        let device = DeviceId::from_bytes([7; 32]);
        let mut document = Automerge::new().with_actor(ActorId::from(device.as_bytes().as_slice()));
        let mut position = FeedPosition::START;
        let times = [0, 1, 63, 64, 8_191, 1_790_000_000_000, super::super::TIME_MS_MAX];
        for (index, len) in [0_usize, 1, 7, 8, 127, 128, 300, 2_047, 2_048, 32_768].into_iter().enumerate() {
            let change = Change {
                time_ms: times[index % times.len()],
                payload: (0_u8..251).cycle().take(len).collect(),
            };
            let mut transaction = document.transaction();
            transaction.put(ROOT, key(position.seq + 1), change.payload.clone()).expect("put");
            let (hash, _) = transaction.commit_with(CommitOptions::default().with_time(change.time_ms));
            let hash = hash.expect("one change");
            let theirs = document.get_change_by_hash(&hash).expect("stored");

            let (chunk, ours) = encode(&device, &position, &change);
            assert_eq!(chunk.as_slice(), theirs.raw_bytes(), "payload of {len} bytes");
            assert_eq!(ours.as_bytes(), &hash.0);
            position = FeedPosition { seq: position.seq + 1, hash: ours };
        }
    }

    /// Pins the format: a later Automerge may encode otherwise, stored feeds
    /// may not change.
    #[test]
    fn golden_first_change() {
        let change = Change { time_ms: 1_790_000_000_000, payload: b"first light".to_vec() };
        let (chunk, hash) = encode(&DeviceId::from_bytes([1; 32]), &FeedPosition::START, &change);
        assert_eq!(data_encoding::HEXLOWER.encode(&chunk), include_str!("golden_first_change.hex").trim());
        assert_eq!(&chunk[4..8], &hash.as_bytes()[..4]);
    }
}
