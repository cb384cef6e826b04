//! Writes and reads the model file: GGUF 3, products in Q8_0, norms in F32.
//!
//! Tensors lie in the order of layers, so that each layer is one range of
//! bytes: peers fetch layers, not tensors.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use crate::Result;
use crate::net::{self, Kind};
use crate::tokenizer::{CHAT_TEMPLATE, Vocabulary};

/// `general.file_type` of a file whose weights are mostly Q8_0.
const MOSTLY_Q8_0: u32 = 7;
/// `tokenizer.ggml.token_type` of text and of control tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const VERSION: u32 = 3;

/// Writes beside `path` and renames, so that a killed run leaves the last
/// complete file.
pub(crate) fn write(
    path: &Path,
    parameters: &BTreeMap<String, Tensor>,
    vocabulary: &Vocabulary,
) -> Result<()> {
    let mut tensors = Vec::new();
    for spec in net::specs(vocabulary.tokens.len()) {
        let tensor = parameters.get(&spec.name).ok_or(format!("no tensor {}", spec.name))?;
        let quantised = match spec.kind {
            Kind::Norm => QTensor::quantize(tensor, GgmlDType::F32)?,
            Kind::Embedding => QTensor::quantize(tensor, GgmlDType::Q8_0)?,
            // GGUF keeps (output, input); blocks of Q8_0 run along inputs.
            Kind::Weight | Kind::Output => QTensor::quantize(&tensor.t()?.contiguous()?, GgmlDType::Q8_0)?,
        };
        tensors.push((spec.name, quantised));
    }
    let metadata = metadata(vocabulary)?;
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors)?;
    let mut bytes = file.into_inner();
    // Candle writes version 2, which is version 3 in all but the number when
    // the machine is little-endian.
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension("gguf.partial");
    std::fs::write(&partial, bytes)?;
    std::fs::rename(&partial, path)?;
    Ok(())
}

fn metadata(vocabulary: &Vocabulary) -> Result<Vec<(&'static str, Value)>> {
    let text = |text: &str| Value::String(text.to_owned());
    let count = |count: usize| u32::try_from(count).map(Value::U32);
    let marks = vocabulary.marks;
    let types = (0..vocabulary.tokens.len())
        .map(|id| Value::I32(if vocabulary.is_special(id) { CONTROL } else { NORMAL }));
    let tokens = vocabulary.tokens.iter().map(|token| text(token));
    let merges = vocabulary.merges.iter().map(|(a, b)| text(&format!("{a} {b}")));
    Ok(vec![
        ("general.architecture", text("llama")),
        ("general.name", text("Exo Starter")),
        (
            "general.description",
            text("Answers questions about Exo-Studio's handbook. Wrong answers sound as sure as right ones."),
        ),
        ("general.license", text(env!("CARGO_PKG_LICENSE"))),
        ("general.languages", Value::Array(vec![text("en")])),
        ("general.file_type", Value::U32(MOSTLY_Q8_0)),
        ("general.quantization_version", Value::U32(2)),
        ("general.alignment", Value::U32(32)),
        ("llama.block_count", count(net::LAYERS)?),
        ("llama.context_length", count(net::CONTEXT)?),
        ("llama.embedding_length", count(net::WIDTH)?),
        ("llama.feed_forward_length", count(net::FEED_FORWARD)?),
        ("llama.attention.head_count", count(net::HEADS)?),
        ("llama.attention.head_count_kv", count(net::KV_HEADS)?),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(net::NORM_EPSILON)),
        ("llama.rope.dimension_count", count(net::HEAD_WIDTH)?),
        ("llama.rope.freq_base", Value::F32(net::ROPE_BASE)),
        ("llama.vocab_size", count(vocabulary.tokens.len())?),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", Value::Array(tokens.collect())),
        ("tokenizer.ggml.token_type", Value::Array(types.collect())),
        ("tokenizer.ggml.merges", Value::Array(merges.collect())),
        // Conversations have no token of their own to begin with; readers
        // want an id all the same.
        ("tokenizer.ggml.bos_token_id", Value::U32(marks.end)),
        ("tokenizer.ggml.eos_token_id", Value::U32(marks.end)),
        ("tokenizer.ggml.padding_token_id", Value::U32(marks.padding)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
    ])
}

/// Reads parameters back as `f32`, in the network's orientation.
pub(crate) fn read(path: &Path) -> Result<(BTreeMap<String, Tensor>, Vocabulary)> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut file = Cursor::new(bytes);
    let content = Content::read(&mut file)?;
    let tokens = strings(&content, "tokenizer.ggml.tokens")?;
    let mut merges = Vec::new();
    for merge in strings(&content, "tokenizer.ggml.merges")? {
        let (a, b) = merge.split_once(' ').ok_or("a merge without a space")?;
        merges.push((a.to_owned(), b.to_owned()));
    }
    let vocabulary = Vocabulary::from_parts(tokens, merges)?;
    let mut parameters = BTreeMap::new();
    for spec in net::specs(vocabulary.tokens.len()) {
        let stored = content.tensor(&mut file, &spec.name, &Device::Cpu)?;
        let tensor = stored.dequantize(&Device::Cpu)?;
        let tensor = match spec.kind {
            Kind::Norm | Kind::Embedding => tensor,
            Kind::Weight | Kind::Output => tensor.t()?.contiguous()?,
        };
        parameters.insert(spec.name, tensor);
    }
    Ok((parameters, vocabulary))
}

fn strings(content: &Content, key: &str) -> Result<Vec<String>> {
    let value = content.metadata.get(key).ok_or(format!("no {key}"))?;
    let mut strings = Vec::new();
    for entry in value.to_vec()? {
        strings.push(entry.to_string()?.clone());
    }
    Ok(strings)
}
