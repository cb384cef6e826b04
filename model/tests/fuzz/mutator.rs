//! Seeded damage: bits, bytes, cuts, pieces of other inputs, and lengths that
//! are lies.

use crate::seeded::{Rng, mutate};

/// A mutant of one of the inputs.
pub(crate) fn mutant(rng: &mut Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let (input, other) = (&inputs[rng.below(inputs.len())], &inputs[rng.below(inputs.len())]);
    match rng.below(8) {
        0 => spliced(rng, input, other),
        1 | 2 => with_claim(rng, input),
        3 => with_length(rng, input),
        _ => mutate(rng, input),
    }
}

/// The beginning of one input and the end of another.
fn spliced(rng: &mut Rng, one: &[u8], other: &[u8]) -> Vec<u8> {
    let (end, start) = (rng.below(one.len() + 1), rng.below(other.len() + 1));
    [&one[..end], &other[start..]].concat()
}

/// A CBOR head with an argument of eight bytes in the place of a byte: a
/// length, a number or a tag that claims anything.
fn with_claim(rng: &mut Rng, input: &[u8]) -> Vec<u8> {
    let at = rng.below(input.len());
    let major = input[at] & 0xe0;
    let argument = match rng.below(4) {
        0 => u64::MAX,
        1 => 1 << rng.below(64),
        2 => u64::from(input[at] & 0x1f),
        _ => rng.next(),
    };
    let head = [&[major | 27], argument.to_be_bytes().as_slice()].concat();
    [&input[..at], &head, &input[at + 1..]].concat()
}

/// A byte that may be a short length, one or two more or less, with or without
/// the bytes to go with it.
fn with_length(rng: &mut Rng, input: &[u8]) -> Vec<u8> {
    let at = rng.below(input.len());
    let mut out = input.to_vec();
    match rng.below(4) {
        0 => out[at] = out[at].wrapping_add(1),
        1 => out[at] = out[at].wrapping_sub(1),
        2 => {
            out[at] = out[at].wrapping_add(1);
            let twin = out[at];
            out.insert(rng.below(out.len() - at) + at + 1, twin);
        }
        _ => {
            out[at] = out[at].wrapping_sub(1);
            out.remove(rng.below(out.len() - at) + at);
        }
    }
    out
}
