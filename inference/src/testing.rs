//! Test support: a GGUF writer and a tiny random llama with a byte-level
//! tokenizer and a chat template. Hidden from the docs; used by the tests of
//! this crate and of those that wire it. It never runs in the product.

use std::collections::BTreeMap;

use candle_core::quantized::GgmlDType;

use crate::gguf::{Array, Value, id_of};
use crate::sample::mix;
use crate::tokenizer::byte_to_char;

/// Writes GGUF v3 files in memory; panics on what no test should ask for.
#[derive(Default)]
pub struct GgufWriter {
    metadata: BTreeMap<String, Value>,
    tensors: Vec<(String, Vec<u64>, GgmlDType, Vec<u8>)>,
}

impl GgufWriter {
    /// Sets a metadata value.
    pub fn set(&mut self, key: &str, value: Value) {
        self.metadata.insert(key.to_owned(), value);
    }

    /// Adds a tensor of `values`, quantised to `dtype`; `dims` innermost first.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn tensor(&mut self, name: &str, dims: &[u64], dtype: GgmlDType, values: &[f32]) {
        assert_eq!(dims.iter().product::<u64>(), values.len() as u64);
        let bytes = quantise(dtype, values);
        self.tensors.push((name.to_owned(), dims.to_vec(), dtype, bytes));
    }

    /// The file.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0_u64;
        for (name, dims, dtype, bytes) in &self.tensors {
            put_text(&mut out, name);
            #[allow(clippy::cast_possible_truncation)]
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(id_of(*dtype).unwrap_or(u32::MAX).to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (bytes.len() as u64).next_multiple_of(32);
        }
        for (_, _, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
    }
}

fn quantise(dtype: GgmlDType, values: &[f32]) -> Vec<u8> {
    let mut storage = dtype.cpu_zeros(values.len());
    storage.from_float(values);
    // SAFETY: candle's storage is a plain vector of blocks of this length, and
    // it outlives the copy.
    unsafe { std::slice::from_raw_parts(storage.as_ptr(), storage.storage_size_in_bytes()) }.to_vec()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut head = |id: u32| out.extend(id.to_le_bytes());
    match value {
        #[allow(clippy::cast_possible_truncation)]
        Value::Unsigned(number) => {
            head(4);
            out.extend((*number as u32).to_le_bytes());
        }
        Value::Signed(number) => {
            head(11);
            out.extend(number.to_le_bytes());
        }
        #[allow(clippy::cast_possible_truncation)]
        Value::Float(number) => {
            head(6);
            out.extend((*number as f32).to_le_bytes());
        }
        Value::Bool(flag) => {
            head(7);
            out.push((*flag).into());
        }
        Value::Text(text) => {
            head(8);
            put_text(out, text);
        }
        Value::Array(array) => {
            head(9);
            put_array(out, array);
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let mut head = |id: u32, len: usize| {
        out.extend(id.to_le_bytes());
        out.extend((len as u64).to_le_bytes());
    };
    match array {
        Array::Integers(items) => {
            head(11, items.len());
            items.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        Array::Floats(items) => {
            head(12, items.len());
            items.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        Array::Texts(items) => {
            head(8, items.len());
            items.iter().for_each(|item| put_text(out, item));
        }
    }
}

/// The chat template of [`TinyModel`].
pub const TEMPLATE: &str = "{% for message in messages %}<|{{ message.role }}|>\
    {{ message.content | trim }}<|end|>{% endfor %}\
    {% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Control tokens of [`TinyModel`], the last ids of its vocabulary.
pub const CONTROL_TOKENS: [&str; 4] = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"];

/// Merges of [`TinyModel`]'s tokenizer.
pub const MERGES: [&str; 5] = ["h e", "l l", "he ll", "hell o", "Ġ w"];

/// A llama with random weights, small enough for tests.
#[derive(Debug, Clone)]
pub struct TinyModel {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Layers.
    pub layers: u64,
    /// Width; a multiple of the type's block size and of `heads`.
    pub hidden: u64,
    /// Query heads.
    pub heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Context in tokens.
    pub context: u64,
    /// Type of the matrices.
    pub dtype: GgmlDType,
    /// Value of all rope frequency factors; none are written where `None`.
    pub rope_factor: Option<f32>,
    /// Metadata to add or replace.
    pub extra: Vec<(&'static str, Value)>,
    /// Seed of the weights.
    pub seed: u64,
}

impl Default for TinyModel {
    fn default() -> Self {
        Self {
            architecture: "llama",
            tied: false,
            layers: 4,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            context: 256,
            dtype: GgmlDType::Q8_0,
            rope_factor: None,
            extra: Vec::new(),
            seed: 1,
        }
    }
}

impl TinyModel {
    /// The vocabulary's texts, in order of their ids.
    pub fn vocabulary() -> Vec<String> {
        let bytes = (0..=255).map(|byte| byte_to_char(byte).to_string());
        let merged = MERGES.iter().map(|merge| merge.replace(' ', ""));
        let control = CONTROL_TOKENS.iter().map(|&text| text.to_owned());
        bytes.chain(merged).chain(control).collect()
    }

    /// The model as a GGUF file.
    pub fn to_gguf(&self) -> Vec<u8> {
        let mut writer = GgufWriter::default();
        self.put_metadata(&mut writer);
        put_tokenizer(&mut writer);
        self.put_tensors(&mut writer);
        if let Some(factor) = self.rope_factor {
            let pairs = self.hidden / self.heads / 2;
            let factors: Vec<f32> = (0..pairs).map(|_| factor).collect();
            writer.tensor("rope_freqs.weight", &[pairs], GgmlDType::F32, &factors);
        }
        for (key, value) in &self.extra {
            writer.set(key, value.clone());
        }
        writer.finish()
    }

    fn put_metadata(&self, writer: &mut GgufWriter) {
        let text = |text: &str| Value::Text(text.to_owned());
        writer.set("general.architecture", text(self.architecture));
        writer.set("general.name", text("Tiny"));
        writer.set("general.license", text("CC0-1.0"));
        for (key, number) in [
            ("block_count", self.layers),
            ("context_length", self.context),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.hidden * 2),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
        ] {
            writer.set(&format!("llama.{key}"), Value::Unsigned(number));
        }
        writer.set("llama.attention.layer_norm_rms_epsilon", Value::Float(1e-5));
    }

    fn put_tensors(&self, writer: &mut GgufWriter) {
        let (hidden, wide) = (self.hidden, self.hidden * 2);
        let kv = hidden / self.heads * self.kv_heads;
        let words = Self::vocabulary().len() as u64;
        let mut stream = self.seed << 20;
        let mut put = |name: String, dims: &[u64]| {
            stream += 1;
            let norm = dims.len() == 1;
            let dtype = if norm { GgmlDType::F32 } else { self.dtype };
            let values: Vec<f32> = (0..dims.iter().product())
                .map(|index| random(stream, index) * 0.2 + f32::from(u8::from(norm)))
                .collect();
            writer.tensor(&name, dims, dtype, &values);
        };
        put("token_embd.weight".into(), &[hidden, words]);
        put("output_norm.weight".into(), &[hidden]);
        if !self.tied {
            put("output.weight".into(), &[hidden, words]);
        }
        for layer in 0..self.layers {
            for (name, columns, rows) in [
                ("attn_q", hidden, hidden),
                ("attn_k", hidden, kv),
                ("attn_v", hidden, kv),
                ("attn_output", hidden, hidden),
                ("ffn_gate", hidden, wide),
                ("ffn_up", hidden, wide),
                ("ffn_down", wide, hidden),
            ] {
                put(format!("blk.{layer}.{name}.weight"), &[columns, rows]);
            }
            put(format!("blk.{layer}.attn_norm.weight"), &[hidden]);
            put(format!("blk.{layer}.ffn_norm.weight"), &[hidden]);
        }
    }
}

fn put_tokenizer(writer: &mut GgufWriter) {
    let texts = |items: Vec<String>| Value::Array(Array::Texts(items));
    let vocabulary = TinyModel::vocabulary();
    let plain = vocabulary.len() - CONTROL_TOKENS.len();
    let kinds = (0..vocabulary.len()).map(|id| if id < plain { 1 } else { 3 }).collect();
    writer.set("tokenizer.ggml.model", Value::Text("gpt2".into()));
    writer.set("tokenizer.ggml.pre", Value::Text("gpt-2".into()));
    writer.set("tokenizer.ggml.token_type", Value::Array(Array::Integers(kinds)));
    writer.set("tokenizer.ggml.eos_token_id", Value::Unsigned(plain as u64));
    writer.set("tokenizer.ggml.tokens", texts(vocabulary));
    writer.set("tokenizer.ggml.merges", texts(MERGES.map(str::to_owned).into()));
    writer.set("tokenizer.chat_template", Value::Text(TEMPLATE.into()));
}

/// A number in −1..1.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn random(stream: u64, index: u64) -> f32 {
    let bits = mix(stream, index) >> 40;
    (bits as f64 / f64::from(1 << 23) - 1.0) as f32
}
