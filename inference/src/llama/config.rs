//! The numbers of a llama model, from its header, and what is not supported.

use exo_model::weights::LAYERS_MAX;

use crate::gguf::{Header, TensorInfo, Value};
use crate::manifest::layer_of;

/// Widest activations, in elements: what a frame can carry.
pub(super) const HIDDEN_SIZE_MAX: u32 = 65_536;
/// Widest feed-forward layer, in elements.
pub(super) const FEED_FORWARD_MAX: u32 = 1 << 20;
/// Most tokens in a vocabulary.
pub(super) const VOCABULARY_MAX: u32 = 1 << 20;
/// Longest context accepted from a header, in tokens.
pub(super) const CONTEXT_MAX: u32 = 1 << 24;
/// Most attention heads.
pub(super) const HEADS_MAX: u32 = 1_024;

/// Why a header describes no model this engine can run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A number is absent, of another type, or outside what is possible.
    #[error("`{key}` is missing or not usable")]
    BadNumber {
        /// The metadata key.
        key: String,
    },
    /// The model asks for something this engine does not do.
    #[error("the model needs {0}, which is not supported yet")]
    Unsupported(String),
    /// A tensor the architecture needs is absent.
    #[error("tensor `{0}` is missing")]
    MissingTensor(String),
    /// A tensor's shape contradicts the metadata.
    #[error("tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// The tensor.
        tensor: String,
        /// Shape in the file, innermost first.
        found: Vec<u64>,
        /// Shape by the metadata, innermost first.
        expected: Vec<u64>,
    },
    /// A tensor that the architecture does not know, so that leaving it out
    /// would change what the model says.
    #[error("tensor `{0}` is not part of a llama model")]
    UnknownTensor(String),
}

/// The shape of a llama model. All counts are at least 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Transformer layers.
    pub layer_count: u32,
    /// Longest context in tokens.
    pub context_length: u32,
    /// Width of the activations (`n_embd`).
    pub hidden_size: u32,
    /// Width of the feed-forward layer.
    pub feed_forward: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_size: u32,
    /// Leading elements of a head that are rotated; even.
    pub rope_size: u32,
    /// Base of the rotation frequencies.
    pub rope_base: f64,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Whether the output head is the token embedding.
    pub tied: bool,
}

impl Config {
    /// Reads and checks metadata and tensor shapes.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_header(header: &Header) -> Result<Self, ConfigError> {
        refuse_unsupported(header)?;
        let number = |key: &str, max: u32| number(header, &format!("llama.{key}"), max);
        let or = |key: &str, max: u32, default: u32| match header.get(&format!("llama.{key}")) {
            Some(_) => number(key, max),
            None => Ok(default),
        };
        let hidden_size = number("embedding_length", HIDDEN_SIZE_MAX)?;
        let heads = number("attention.head_count", HEADS_MAX)?;
        let kv_heads = or("attention.head_count_kv", HEADS_MAX, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(bad("llama.attention.head_count_kv"));
        }
        let head_size = or("attention.key_length", HIDDEN_SIZE_MAX, hidden_size / heads)?;
        if head_size == 0 {
            return Err(bad("llama.attention.head_count"));
        }
        if or("attention.value_length", HIDDEN_SIZE_MAX, head_size)? != head_size {
            return Err(unsupported("values of another width than keys"));
        }
        let rope_size = or("rope.dimension_count", head_size, head_size)?;
        if !rope_size.is_multiple_of(2) {
            return Err(bad("llama.rope.dimension_count"));
        }
        let config = Self {
            layer_count: number("block_count", LAYERS_MAX)?,
            context_length: number("context_length", CONTEXT_MAX)?,
            hidden_size,
            feed_forward: number("feed_forward_length", FEED_FORWARD_MAX)?,
            heads,
            kv_heads,
            head_size,
            rope_size,
            rope_base: float(header, "llama.rope.freq_base", Some(10_000.0), 1.0..=1e12)?,
            norm_epsilon: epsilon(header)?,
            vocabulary: vocabulary(header)?,
            tied: !header.tensors().contains_key("output.weight"),
        };
        config.check_tensors(header)?;
        Ok(config)
    }

    /// Elements of keys (or values) of one token in one layer.
    pub fn kv_size(&self) -> u32 {
        self.kv_heads.saturating_mul(self.head_size)
    }

    /// Bytes of keys and values of one token in one layer, as f32.
    pub fn kv_bytes_per_token_layer(&self) -> u32 {
        self.kv_size().saturating_mul(8)
    }

    /// Name and shape (innermost first) of each tensor of a layer.
    fn layer_tensors(&self) -> [(&'static str, [u64; 2]); 9] {
        let hidden = u64::from(self.hidden_size);
        let wide = u64::from(self.feed_forward);
        let query = u64::from(self.heads) * u64::from(self.head_size);
        let kv = u64::from(self.kv_heads) * u64::from(self.head_size);
        [
            ("attn_norm", [hidden, 1]),
            ("attn_q", [hidden, query]),
            ("attn_k", [hidden, kv]),
            ("attn_v", [hidden, kv]),
            ("attn_output", [query, hidden]),
            ("ffn_norm", [hidden, 1]),
            ("ffn_gate", [hidden, wide]),
            ("ffn_up", [hidden, wide]),
            ("ffn_down", [wide, hidden]),
        ]
    }

    fn check_tensors(&self, header: &Header) -> Result<(), ConfigError> {
        let (hidden, words) = (u64::from(self.hidden_size), u64::from(self.vocabulary));
        let mut known = 2;
        check_shape(header, "token_embd.weight", [hidden, words])?;
        check_shape(header, "output_norm.weight", [hidden, 1])?;
        if !self.tied {
            check_shape(header, "output.weight", [hidden, words])?;
            known += 1;
        }
        if header.tensors().contains_key("rope_freqs.weight") {
            check_shape(header, "rope_freqs.weight", [u64::from(self.rope_size / 2), 1])?;
            known += 1;
        }
        let tensors = self.layer_tensors();
        for layer in 0..self.layer_count {
            for (name, shape) in tensors {
                check_shape(header, &format!("blk.{layer}.{name}.weight"), shape)?;
                known += 1;
            }
        }
        if header.tensors().len() == known {
            return Ok(());
        }
        let stranger = header.tensors().keys().find(|name| !self.knows(name));
        Err(ConfigError::UnknownTensor(stranger.cloned().unwrap_or_default()))
    }

    fn knows(&self, name: &str) -> bool {
        const OUTSIDE_LAYERS: [&str; 4] =
            ["token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"];
        let Some(layer) = layer_of(name) else {
            return OUTSIDE_LAYERS.contains(&name);
        };
        let expected = |(tensor, _): &(&str, _)| name == format!("blk.{layer}.{tensor}.weight");
        layer < self.layer_count as usize && self.layer_tensors().iter().any(expected)
    }
}

fn bad(key: &str) -> ConfigError {
    ConfigError::BadNumber { key: key.to_owned() }
}

fn unsupported(what: impl Into<String>) -> ConfigError {
    ConfigError::Unsupported(what.into())
}

/// A whole number from 1 to `max`.
fn number(header: &Header, key: &str, max: u32) -> Result<u32, ConfigError> {
    header
        .get(key)
        .and_then(Value::as_u64)
        .and_then(|value| u32::try_from(value).ok())
        .filter(|value| (1..=max).contains(value))
        .ok_or_else(|| bad(key))
}

fn float(
    header: &Header,
    key: &str,
    default: Option<f64>,
    bounds: std::ops::RangeInclusive<f64>,
) -> Result<f64, ConfigError> {
    let value = match header.get(key) {
        Some(value) => value.as_f64(),
        None => default,
    };
    // NaN is in no range.
    value.filter(|value| bounds.contains(value)).ok_or_else(|| bad(key))
}

#[allow(clippy::cast_possible_truncation)] // bounded just before
fn epsilon(header: &Header) -> Result<f32, ConfigError> {
    let key = "llama.attention.layer_norm_rms_epsilon";
    float(header, key, None, 1e-12..=1.0).map(|value| value as f32)
}

/// The vocabulary's size is the embedding's: the metadata key is optional.
fn vocabulary(header: &Header) -> Result<u32, ConfigError> {
    let name = "token_embd.weight";
    let info = header.tensors().get(name);
    let info = info.ok_or_else(|| ConfigError::MissingTensor(name.to_owned()))?;
    let rows = info.dims.get(1).copied().unwrap_or(1);
    u32::try_from(rows)
        .ok()
        .filter(|rows| *rows <= VOCABULARY_MAX)
        .ok_or_else(|| unsupported(format!("a vocabulary of {rows} tokens")))
}

/// Trailing dimensions of 1 mean nothing; `[n, 1]` stands for a vector.
fn check_shape(header: &Header, name: &str, expected: [u64; 2]) -> Result<(), ConfigError> {
    let info: &TensorInfo =
        header.tensors().get(name).ok_or_else(|| ConfigError::MissingTensor(name.to_owned()))?;
    let dim = |index: usize| info.dims.get(index).copied().unwrap_or(1);
    if [dim(0), dim(1)] == expected && info.dims.iter().skip(2).all(|&dim| dim == 1) {
        return Ok(());
    }
    Err(ConfigError::TensorShape {
        tensor: name.to_owned(),
        found: info.dims.clone(),
        expected: expected.to_vec(),
    })
}

/// Refuses metadata that changes the computation in ways not done here.
fn refuse_unsupported(header: &Header) -> Result<(), ConfigError> {
    let factor = header.get("llama.rope.scaling.factor").and_then(Value::as_f64);
    match header.text("llama.rope.scaling.type") {
        None | Some("none") => {}
        Some("linear") if factor.is_none_or(|factor| factor == 1.0) => {}
        Some(kind) => return Err(unsupported(format!("rope scaling `{kind}`"))),
    }
    let neutral = [
        ("llama.rope.scale_linear", 1.0, "linear rope scaling"),
        ("llama.expert_count", 0.0, "experts"),
        ("llama.attention.sliding_window", 0.0, "sliding-window attention"),
        ("llama.attention.clamp_kqv", 0.0, "clamped keys and values"),
        ("llama.attention.max_alibi_bias", 0.0, "ALiBi positions"),
        ("llama.logit_scale", 1.0, "scaled logits"),
    ];
    for (key, value, what) in neutral {
        if header.get(key).is_some_and(|found| found.as_f64() != Some(value)) {
            return Err(unsupported(what));
        }
    }
    for (key, harmless, what) in [
        ("llama.attention.causal", true, "attention to later tokens"),
        ("llama.use_parallel_residual", false, "parallel residuals"),
    ] {
        if header.get(key).is_some_and(|found| found.as_bool() != Some(harmless)) {
            return Err(unsupported(what));
        }
    }
    Ok(())
}
