//! From a GGUF header to a [`ModelManifest`], and back to check one.
//!
//! The adder of a model derives its manifest once; a peer that received the
//! manifest compares it with the file's own header as soon as the header
//! bytes are there. Both go through [`describe`], so they cannot disagree on
//! what a part is. Nothing here reads tensor data or trusts a peer.

use exo_model::id::BlobHash;
use exo_model::weights::{
    ByteRange, LAYERS_MAX, MODEL_TEXT_BYTES_MAX, ManifestError, ModelManifest, merge_ranges,
};

use crate::gguf::{GgufError, HEADER_BYTES_MAX, Header};
use crate::llama::{Config, ConfigError};
use crate::source::WeightSource;

/// The architectures this engine runs.
pub const SUPPORTED_ARCHITECTURES: &[&str] = &["llama"];

/// Why a file cannot be described as a model.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// The header is unreadable.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file's architecture has no engine here.
    #[error("unsupported architecture {0}; supported: {known}", known = SUPPORTED_ARCHITECTURES.join(", "))]
    Architecture(String),
    /// The header says something the engine cannot do, or contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The description would be over the limits of a manifest.
    #[error(transparent)]
    Limits(#[from] ManifestError),
}

/// Why a received manifest is not the file's.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file itself cannot be described.
    #[error("the model file is not usable: {0}")]
    File(#[from] DescribeError),
    /// The manifest differs from the file's own header in this part.
    #[error("the manifest does not fit its file: {0} differs")]
    Mismatch(&'static str),
}

/// Reads the header behind `source` and describes the file, whose BLAKE3 hash
/// is `file_hash` (taken as given: hashing is the store's work).
///
/// # Errors
/// See [`DescribeError`].
pub fn derive_manifest(
    source: &dyn WeightSource,
    file_hash: BlobHash,
) -> Result<ModelManifest, DescribeError> {
    describe(&Header::read(source)?, file_hash)
}

/// Compares a received `manifest` with the file's own `header`.
///
/// # Errors
/// [`CheckError::Mismatch`] names the first part that differs.
pub fn check_manifest(header: &Header, manifest: &ModelManifest) -> Result<(), CheckError> {
    let own = describe(header, manifest.file)?;
    let parts = [
        ("the file size", own.size_bytes == manifest.size_bytes),
        ("the architecture", own.architecture == manifest.architecture),
        ("the context length", own.context_length == manifest.context_length),
        ("the hidden size", own.hidden_size == manifest.hidden_size),
        ("the size of keys and values", own.kv_bytes_per_token_layer == manifest.kv_bytes_per_token_layer),
        ("the header's range", own.header == manifest.header),
        ("the embedding's ranges", own.embedding == manifest.embedding),
        ("the number of layers", own.layers.len() == manifest.layers.len()),
        ("a layer's ranges", own.layers == manifest.layers),
        ("the head's ranges", own.head == manifest.head),
        ("the name", own.name == manifest.name),
        ("the licence", own.licence == manifest.licence),
    ];
    match parts.into_iter().find(|(_, same)| !same) {
        Some((part, _)) => Err(CheckError::Mismatch(part)),
        None => Ok(()),
    }
}

/// Reads exactly the header bytes that `manifest` names, so that it works as
/// soon as those are here, and checks the manifest against them.
///
/// # Errors
/// See [`CheckError`].
pub fn read_checked_header(
    source: &dyn WeightSource,
    manifest: &ModelManifest,
) -> Result<Header, CheckError> {
    if manifest.size_bytes != source.size() {
        return Err(CheckError::Mismatch("the file size"));
    }
    if manifest.header.start != 0 || manifest.header.len() > HEADER_BYTES_MAX {
        return Err(CheckError::Mismatch("the header's range"));
    }
    let unreadable = |error| CheckError::File(DescribeError::Gguf(error));
    let bytes = source.read_at(manifest.header).map_err(|error| unreadable(error.into()))?;
    let header = Header::parse(&bytes, source.size()).map_err(unreadable)?;
    check_manifest(&header, manifest)?;
    Ok(header)
}

/// Refuses a file whose architecture has no engine here.
pub(crate) fn check_architecture(header: &Header) -> Result<&str, DescribeError> {
    let architecture = header.text("general.architecture").unwrap_or("(none stated)");
    if SUPPORTED_ARCHITECTURES.contains(&architecture) {
        Ok(architecture)
    } else {
        Err(DescribeError::Architecture(clipped(architecture, MODEL_TEXT_BYTES_MAX)))
    }
}

/// The manifest of the file whose header this is.
///
/// # Errors
/// See [`DescribeError`].
pub fn describe(header: &Header, file_hash: BlobHash) -> Result<ModelManifest, DescribeError> {
    let architecture = check_architecture(header)?;
    let config = Config::from_header(header)?;
    let parts = Parts::collect(header, &config);
    let text = |key| clipped(header.text(key).unwrap_or_default(), MODEL_TEXT_BYTES_MAX);
    let manifest = ModelManifest {
        file: file_hash,
        size_bytes: header.file_size(),
        name: text("general.name"),
        architecture: architecture.to_owned(),
        licence: text("general.license"),
        context_length: config.context_length,
        hidden_size: config.hidden_size,
        kv_bytes_per_token_layer: config.kv_bytes_per_token_layer(),
        header: header.range(),
        embedding: parts.embedding,
        layers: parts.layers,
        head: parts.head,
    };
    manifest.check()?;
    Ok(manifest)
}

/// The byte ranges of each part.
struct Parts {
    embedding: Vec<ByteRange>,
    layers: Vec<Vec<ByteRange>>,
    head: Vec<ByteRange>,
}

impl Parts {
    fn collect(header: &Header, config: &Config) -> Self {
        let range_of = |name: &str| header.tensors().get(name).map(|info| info.range);
        let shared: Vec<_> = range_of("rope_freqs.weight").into_iter().collect();
        let mut layers = vec![shared; config.layer_count.min(LAYERS_MAX) as usize];
        for (name, info) in header.tensors() {
            if let Some(layer) = layer_of(name).and_then(|index| layers.get_mut(index)) {
                layer.push(info.range);
            }
        }
        let embedding: Vec<_> = range_of("token_embd.weight").into_iter().collect();
        let mut head: Vec<_> = range_of("output_norm.weight").into_iter().collect();
        match range_of("output.weight") {
            Some(output) => head.push(output),
            None => head.extend(&embedding),
        }
        Self { embedding, layers: layers.into_iter().map(merge_ranges).collect(), head: merge_ranges(head) }
    }
}

/// The layer a tensor belongs to: `blk.7.attn_q.weight` to 7.
pub(crate) fn layer_of(tensor: &str) -> Option<usize> {
    let (index, _) = tensor.strip_prefix("blk.")?.split_once('.')?;
    index.parse().ok()
}

/// The longest beginning of `text` within `bytes_max`, cut between characters.
fn clipped(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemoryWeights;
    use crate::testing::TinyModel;

    const HASH: BlobHash = BlobHash::from_bytes([7; 32]);

    fn header_and_manifest(model: &TinyModel) -> (Header, ModelManifest) {
        let source = MemoryWeights::from(model.to_gguf());
        (Header::read(&source).unwrap(), derive_manifest(&source, HASH).unwrap())
    }

    #[test]
    fn a_manifest_covers_every_tensor_and_checks_against_its_header() {
        for tied in [false, true] {
            let model = TinyModel { tied, ..TinyModel::default() };
            let (header, manifest) = header_and_manifest(&model);
            check_manifest(&header, &manifest).unwrap();
            let all = manifest.stage_ranges(manifest.all_layers().unwrap());
            for info in header.tensors().values() {
                let covers =
                    |range: &ByteRange| range.start <= info.range.start && info.range.end <= range.end;
                assert!(all.iter().any(covers), "{:?} is in no part", info.range);
            }
            let embedding = manifest.embedding[0];
            let in_head = manifest
                .head
                .iter()
                .any(|range| range.start <= embedding.start && embedding.end <= range.end);
            assert_eq!(in_head, tied);
        }
    }

    #[test]
    fn a_manifest_that_lies_is_refused_by_the_name_of_the_part() {
        let (header, honest) = header_and_manifest(&TinyModel::default());
        type Lie = fn(&mut ModelManifest);
        let lies: [(&str, Lie); 6] = [
            ("file size", |m| m.size_bytes += 1),
            ("hidden size", |m| m.hidden_size *= 2),
            ("a layer's", |m| m.layers[1][0].start += 1),
            ("number of layers", |m| drop(m.layers.pop())),
            ("head", |m| m.head.truncate(0)),
            ("header", |m| m.header.end -= 1),
        ];
        for (part, lie) in lies {
            let mut manifest = honest.clone();
            lie(&mut manifest);
            let error = check_manifest(&header, &manifest).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn another_architecture_is_refused_by_name() {
        let model = TinyModel { architecture: "mamba", ..TinyModel::default() };
        let source = MemoryWeights::from(model.to_gguf());
        let error = derive_manifest(&source, HASH).unwrap_err();
        assert_eq!(error.to_string(), "unsupported architecture mamba; supported: llama");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clipped("aé", 2), "a");
        assert_eq!(clipped("aé", 3), "aé");
    }
}
