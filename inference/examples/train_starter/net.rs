//! The network: Llama's architecture at the size of a thumbnail.
//!
//! Weights of products are kept as (input, output), which spares a transpose
//! in the backward pass; `gguf` turns them for the file. Names are those of
//! GGUF, so that a parameter has one name everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::Result;
use crate::ops::dropout::DropAdd;
use crate::ops::heads::{HeadDims, Heads, Rotation};
use crate::ops::norm::RmsNorm;
use crate::ops::softmax::CausalSoftmax;
use crate::ops::swiglu::SwiGlu;
use crate::rng::Rng;

pub(crate) const LAYERS: usize = 6;
pub(crate) const WIDTH: usize = 192;
pub(crate) const FEED_FORWARD: usize = 512;
pub(crate) const HEADS: usize = 6;
pub(crate) const KV_HEADS: usize = 3;
pub(crate) const HEAD_WIDTH: usize = WIDTH / HEADS;
pub(crate) const CONTEXT: usize = 512;
pub(crate) const ROPE_BASE: f32 = 10_000.0;
pub(crate) const NORM_EPSILON: f32 = 1e-5;
/// Dropout 0.1, in the unit of [`DropAdd`].
const DROP_65536THS: u16 = 6_554;

/// What a parameter is, hence how it starts and how it is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows are tokens; also the output weights.
    Embedding,
    /// A product's weights, (input, output).
    Weight,
    /// A product that writes to the residual stream.
    Output,
    /// A gain of a norm.
    Norm,
}

/// Name, kind and shape of a parameter.
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<usize>,
}

/// All parameters in the order of the file: embedding, layers, last norm.
pub(crate) fn specs(vocabulary: usize) -> Vec<Spec> {
    let kv = KV_HEADS * HEAD_WIDTH;
    let spec = |name: String, kind, shape: &[usize]| Spec { name, kind, shape: shape.to_vec() };
    let mut specs = vec![spec("token_embd.weight".into(), Kind::Embedding, &[vocabulary, WIDTH])];
    for layer in 0..LAYERS {
        let parts: [(&str, Kind, &[usize]); 9] = [
            ("attn_norm", Kind::Norm, &[WIDTH]),
            ("attn_q", Kind::Weight, &[WIDTH, WIDTH]),
            ("attn_k", Kind::Weight, &[WIDTH, kv]),
            ("attn_v", Kind::Weight, &[WIDTH, kv]),
            ("attn_output", Kind::Output, &[WIDTH, WIDTH]),
            ("ffn_norm", Kind::Norm, &[WIDTH]),
            ("ffn_gate", Kind::Weight, &[WIDTH, FEED_FORWARD]),
            ("ffn_up", Kind::Weight, &[WIDTH, FEED_FORWARD]),
            ("ffn_down", Kind::Output, &[FEED_FORWARD, WIDTH]),
        ];
        specs
            .extend(parts.map(|(part, kind, shape)| spec(format!("blk.{layer}.{part}.weight"), kind, shape)));
    }
    specs.push(spec("output_norm.weight".into(), Kind::Norm, &[WIDTH]));
    specs
}

impl Spec {
    /// Values to start from.
    pub(crate) fn initial(&self, rng: &mut Rng) -> Vec<f32> {
        const DEVIATION: f64 = 0.04;
        let count = self.shape.iter().product();
        match self.kind {
            Kind::Norm => vec![1.0; count],
            Kind::Embedding | Kind::Weight => rng.normals(count, DEVIATION),
            // Each layer adds twice to the residual stream; scaled so that
            // the sum over all layers keeps its size.
            Kind::Output => rng.normals(count, DEVIATION / ((2 * LAYERS) as f64).sqrt()),
        }
    }
}

struct Layer {
    attn_norm: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_output: Tensor,
    ffn_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// The forward pass over given parameters: variables when training, plain
/// tensors when evaluating.
pub(crate) struct Net {
    embedding: Tensor,
    layers: Vec<Layer>,
    output_norm: Tensor,
    rotation: Arc<Rotation>,
}

/// Token ids of `batch` sequences of the same length, row after row.
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    pub(crate) batch: usize,
    pub(crate) seq: usize,
}

impl Net {
    pub(crate) fn new(mut parameters: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut take = |name: &str| {
            let missing = || format!("no tensor {name}");
            parameters.remove(name).ok_or_else(missing)
        };
        let embedding = take("token_embd.weight")?;
        let output_norm = take("output_norm.weight")?;
        let mut layers = Vec::with_capacity(LAYERS);
        for layer in 0..LAYERS {
            let mut part = |part: &str| take(&format!("blk.{layer}.{part}.weight"));
            layers.push(Layer {
                attn_norm: part("attn_norm")?,
                query: part("attn_q")?,
                key: part("attn_k")?,
                value: part("attn_v")?,
                attn_output: part("attn_output")?,
                ffn_norm: part("ffn_norm")?,
                gate: part("ffn_gate")?,
                up: part("ffn_up")?,
                down: part("ffn_down")?,
            });
        }
        Ok(Self {
            embedding,
            layers,
            output_norm,
            rotation: Arc::new(Rotation::new(CONTEXT, HEAD_WIDTH, ROPE_BASE.into())),
        })
    }

    /// Hidden states, one row for each token, after the last norm. With
    /// `dropout`, parts of what layers add are dropped.
    pub(crate) fn hidden(&self, tokens: &Tokens, dropout: Option<&Rng>) -> Result<Tensor> {
        let ids = Tensor::from_slice(&tokens.ids, tokens.ids.len(), &Device::Cpu)?;
        let mut x = self.embedding.index_select(&ids, 0)?;
        for (at, layer) in self.layers.iter().enumerate() {
            let rng = |part| dropout.map(|rng| rng.fork(2 * at as u64 + part));
            let attended = self.attention(layer, &x, tokens)?;
            x = add(&x, &attended, rng(0))?;
            let fed = feed_forward(layer, &x)?;
            x = add(&x, &fed, rng(1))?;
        }
        norm(&x, &self.output_norm)
    }

    /// Logits of hidden states; the embedding serves as output weights.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.matmul(&self.embedding.t()?)?)
    }

    fn attention(&self, layer: &Layer, x: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        let (batch, seq) = (tokens.batch, tokens.seq);
        let heads = |heads, merge, turned: bool| Heads {
            dims: HeadDims { batch, seq, heads, width: HEAD_WIDTH },
            merge,
            rotation: turned.then(|| self.rotation.clone()),
        };
        let x = norm(x, &layer.attn_norm)?;
        let query = x.matmul(&layer.query)?.apply_op1(heads(HEADS, false, true))?;
        let key = x.matmul(&layer.key)?.apply_op1(heads(KV_HEADS, false, true))?;
        let value = x.matmul(&layer.value)?.apply_op1(heads(KV_HEADS, false, false))?;
        // Query heads that share a key head are rows of one product, so keys
        // and values are never repeated.
        let group = HEADS / KV_HEADS * seq;
        let query = query.reshape((batch, KV_HEADS, group, HEAD_WIDTH))?;
        let scale = (HEAD_WIDTH as f32).sqrt().recip();
        let scores = query.matmul(&key.t()?)?;
        let shares = scores.apply_op1(CausalSoftmax { seq, scale })?;
        let mixed = shares.matmul(&value)?;
        let merged = mixed.apply_op1(heads(HEADS, true, false))?;
        Ok(merged.matmul(&layer.attn_output)?)
    }
}

fn feed_forward(layer: &Layer, x: &Tensor) -> Result<Tensor> {
    let x = norm(x, &layer.ffn_norm)?;
    let gate = x.matmul(&layer.gate)?;
    let activated = gate.apply_op2(&x.matmul(&layer.up)?, SwiGlu)?;
    Ok(activated.matmul(&layer.down)?)
}

fn norm(x: &Tensor, gain: &Tensor) -> Result<Tensor> {
    Ok(x.apply_op2(gain, RmsNorm { epsilon: NORM_EPSILON })?)
}

fn add(x: &Tensor, added: &Tensor, dropout: Option<Rng>) -> Result<Tensor> {
    let sum = match dropout {
        Some(rng) => x.apply_op2(added, DropAdd { drop_65536ths: DROP_65536THS, rng })?,
        None => (x + added)?,
    };
    Ok(sum)
}
