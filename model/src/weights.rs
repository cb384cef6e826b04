//! What a community knows about a model file: where each layer's bytes lie.
//!
//! The manifest is shared in the `library` stream. It lets a planner place
//! layers and a peer fetch only the bytes it will host, before anyone but the
//! adder has seen the file. Nothing here reads a file; `inference` derives a
//! manifest from a GGUF header and compares a received one against it.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::codec;
use crate::id::BlobHash;
use crate::text::is_clean_line;

/// Most layers a manifest may name.
pub const LAYERS_MAX: u32 = 512;
/// Most byte ranges one part of a model file may be scattered over.
pub const RANGES_PER_PART_MAX: usize = 64;
/// Longest name, architecture or licence text, in bytes.
pub const MODEL_TEXT_BYTES_MAX: usize = 128;
/// Longest header of a model file, bytes.
pub const HEADER_BYTES_MAX: u64 = 64 << 20;
/// Longest encoded manifest: fits one event with room for its envelope.
pub const MANIFEST_BYTES_MAX: usize = 24 * 1024;

/// Consecutive transformer layers `start..end` of one model, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LayerRange {
    #[n(0)]
    start: u32,
    #[n(1)]
    end: u32,
}

impl LayerRange {
    /// `start..end`, or `None` where that is empty or past [`LAYERS_MAX`].
    pub const fn new(start: u32, end: u32) -> Option<Self> {
        if start < end && end <= LAYERS_MAX { Some(Self { start, end }) } else { None }
    }

    /// First layer.
    pub const fn start(self) -> u32 {
        self.start
    }

    /// One past the last layer.
    pub const fn end(self) -> u32 {
        self.end
    }

    /// Number of layers, at least 1 for a range made by [`LayerRange::new`].
    pub const fn count(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether `other` lies within this range.
    pub const fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// Bytes `start..end` of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct ByteRange {
    /// First byte.
    #[n(0)]
    pub start: u64,
    /// One past the last byte.
    #[n(1)]
    pub end: u64,
}

impl ByteRange {
    /// Length in bytes.
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range holds no byte.
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The smallest range around this one whose ends are multiples of
    /// `alignment` bytes, cut at `size`. `alignment` must not be 0.
    pub const fn aligned(self, alignment: u64, size: u64) -> Self {
        let end = self.end.div_ceil(alignment).saturating_mul(alignment);
        Self { start: self.start / alignment * alignment, end: if end < size { end } else { size } }
    }
}

/// Sorts ranges and joins those that touch or overlap; empty ones vanish.
pub fn merge_ranges(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable();
    let mut merged: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Total length of `ranges` in bytes, saturating; overlaps count twice.
pub fn total_len(ranges: &[ByteRange]) -> u64 {
    ranges.iter().fold(0, |sum, range| sum.saturating_add(range.len()))
}

/// A model file as its community knows it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ModelManifest {
    /// BLAKE3 of the whole file.
    #[n(0)]
    pub file: BlobHash,
    /// Length of the file in bytes.
    #[n(1)]
    pub size_bytes: u64,
    /// Name for people, from the file (`general.name`).
    #[n(2)]
    pub name: String,
    /// `general.architecture`, e.g. `llama`.
    #[n(3)]
    pub architecture: String,
    /// Licence as the file states it; empty when it states none.
    #[n(4)]
    pub licence: String,
    /// Longest context in tokens.
    #[n(5)]
    pub context_length: u32,
    /// Width of the activations that travel between stages.
    #[n(6)]
    pub hidden_size: u32,
    /// Bytes of keys and values one layer keeps per token (f32).
    #[n(7)]
    pub kv_bytes_per_token_layer: u32,
    /// Metadata and tensor directory: every stage needs these.
    #[n(8)]
    pub header: ByteRange,
    /// Token embedding: the first stage needs it.
    #[n(9)]
    pub embedding: Vec<ByteRange>,
    /// Per layer, the bytes of its tensors.
    #[n(10)]
    pub layers: Vec<Vec<ByteRange>>,
    /// Final norm and output head (the embedding again when tied): the last
    /// stage needs these.
    #[n(11)]
    pub head: Vec<ByteRange>,
}

/// Why a manifest from a peer is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A count or a text is over its fixed limit.
    #[error("model manifest is over its limits: {0}")]
    TooLarge(&'static str),
    /// A text has characters that could deceive.
    #[error("model manifest has texts with control characters")]
    Text,
    /// A byte range is empty, reversed, outside the file, or in the header.
    #[error("model manifest names bytes outside its file, or its header's")]
    BadRange,
}

impl ModelManifest {
    /// Number of transformer layers.
    pub fn layer_count(&self) -> u32 {
        u32::try_from(self.layers.len()).unwrap_or(u32::MAX)
    }

    /// All layers, or `None` for a manifest without any.
    pub fn all_layers(&self) -> Option<LayerRange> {
        LayerRange::new(0, self.layer_count())
    }

    /// Checks a manifest of unknown origin against the limits above.
    ///
    /// # Errors
    /// See [`ManifestError`]. That the ranges are the file's own is checked by
    /// `inference`, once the header bytes are there.
    pub fn check(&self) -> Result<(), ManifestError> {
        for text in [&self.name, &self.architecture, &self.licence] {
            if text.len() > MODEL_TEXT_BYTES_MAX {
                return Err(ManifestError::TooLarge("a text"));
            }
            if !text.is_empty() && !is_clean_line(text) {
                return Err(ManifestError::Text);
            }
        }
        if self.layers.is_empty() || self.layer_count() > LAYERS_MAX {
            return Err(ManifestError::TooLarge("the number of layers"));
        }
        let parts = self.layers.iter().chain([&self.embedding, &self.head]);
        for part in parts {
            if part.len() > RANGES_PER_PART_MAX {
                return Err(ManifestError::TooLarge("the ranges of one part"));
            }
            if part
                .iter()
                .any(|range| range.is_empty() || range.start < self.header.end || range.end > self.size_bytes)
            {
                return Err(ManifestError::BadRange);
            }
        }
        if self.header.len() > HEADER_BYTES_MAX {
            return Err(ManifestError::TooLarge("the header"));
        }
        if self.header.start != 0 || self.header.is_empty() || self.header.end > self.size_bytes {
            return Err(ManifestError::BadRange);
        }
        if codec::encode(self).len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge("the whole"));
        }
        Ok(())
    }

    /// The bytes a stage hosting `layers` needs: header, its layers, the
    /// embedding if it is first, norm and head if it is last. Sorted, merged;
    /// empty where `layers` is outside the model.
    pub fn stage_ranges(&self, layers: LayerRange) -> Vec<ByteRange> {
        let Some(own) = self.layers.get(layers.start() as usize..layers.end() as usize) else {
            return Vec::new();
        };
        let mut ranges = vec![self.header];
        ranges.extend(own.iter().flatten());
        if layers.start() == 0 {
            ranges.extend(&self.embedding);
        }
        if layers.end() == self.layer_count() {
            ranges.extend(&self.head);
        }
        merge_ranges(ranges)
    }

    /// Bytes of weights a stage hosting `layers` holds (header not counted):
    /// what work units are measured in.
    pub fn weight_bytes(&self, layers: LayerRange) -> u64 {
        total_len(&self.stage_ranges(layers)).saturating_sub(self.header.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange { start, end }
    }

    #[test]
    fn merging_joins_touching_and_overlapping_ranges() {
        let merged = merge_ranges(vec![range(5, 7), range(0, 2), range(2, 4), range(6, 9), range(3, 3)]);
        assert_eq!(merged, [range(0, 4), range(5, 9)]);
        assert_eq!(total_len(&merged), 8);
    }

    #[test]
    fn alignment_widens_but_never_past_the_file() {
        assert_eq!(range(17, 33).aligned(16, 100), range(16, 48));
        assert_eq!(range(90, 99).aligned(16, 100), range(80, 100));
    }

    #[test]
    fn layer_ranges_are_never_empty() {
        assert!(LayerRange::new(2, 2).is_none());
        assert!(LayerRange::new(0, LAYERS_MAX + 1).is_none());
    }
}
