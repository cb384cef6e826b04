//! An independent llama in plain f64, one token at a time over the whole
//! text, without a cache: what the real one is compared with.

use std::collections::BTreeMap;

use candle_core::CpuStorage;

use crate::gguf::Header;
use crate::source::{MemoryWeights, WeightSource};

type Matrix = (usize, Vec<f64>);

/// Every tensor of a file as (columns, values).
fn tensors(source: &MemoryWeights, header: &Header) -> BTreeMap<String, Matrix> {
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        let bytes = source.read_at(info.range).unwrap();
        let elements = info.dims.iter().product::<u64>() as usize;
        let aligned: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            })
            .collect();
        let aligned: Vec<u8> = aligned.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let blocks = info.dtype.from_data(aligned[..bytes.len()].into());
        let Ok(CpuStorage::F32(values)) = blocks.dequantize(elements) else { unreachable!() };
        let columns = info.dims[0] as usize;
        tensors.insert(name.clone(), (columns, values.into_iter().map(f64::from).collect()));
    }
    tensors
}

fn multiply((columns, values): &Matrix, x: &[f64]) -> Vec<f64> {
    values.chunks(*columns).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

fn norm((_, weight): &Matrix, x: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(x, w)| x / (mean + 1e-5).sqrt() * w).collect()
}

fn rotate(x: &mut [f64], position: usize, head_size: usize) {
    for head in x.chunks_mut(head_size) {
        for pair in 0..head_size / 2 {
            let exponent = 2.0 * pair as f64 / head_size as f64;
            let angle = position as f64 / 10_000_f64.powf(exponent);
            let (a, b) = (head[2 * pair], head[2 * pair + 1]);
            head[2 * pair] = a * angle.cos() - b * angle.sin();
            head[2 * pair + 1] = a * angle.sin() + b * angle.cos();
        }
    }
}

/// Logits after the last of `tokens`.
pub(super) fn logits(file: Vec<u8>, tokens: &[u32], heads: usize, kv_heads: usize) -> Vec<f64> {
    let source = MemoryWeights::from(file);
    let header = Header::read(&source).unwrap();
    let tensors = tensors(&source, &header);
    let get = |name: &str| &tensors[name];
    let (hidden, embedding) = get("token_embd.weight");
    let head_size = hidden / heads;
    let mut rows: Vec<Vec<f64>> =
        tokens.iter().map(|&token| embedding[token as usize * hidden..][..*hidden].to_vec()).collect();
    let layers = (0..).take_while(|n| tensors.contains_key(&format!("blk.{n}.attn_q.weight")));
    for layer in layers.collect::<Vec<_>>() {
        let of = |name: &str| get(&format!("blk.{layer}.{name}.weight"));
        let normed: Vec<_> = rows.iter().map(|row| norm(of("attn_norm"), row)).collect();
        let rotated = |name: &str| -> Vec<Vec<f64>> {
            let rotate_row = |(position, row): (usize, &Vec<f64>)| {
                let mut out = multiply(of(name), row);
                rotate(&mut out, position, head_size);
                out
            };
            normed.iter().enumerate().map(rotate_row).collect()
        };
        let (queries, keys) = (rotated("attn_q"), rotated("attn_k"));
        let values: Vec<_> = normed.iter().map(|row| multiply(of("attn_v"), row)).collect();
        for (at, row) in rows.iter_mut().enumerate() {
            let mut attended = Vec::new();
            for head in 0..heads {
                let query = &queries[at][head * head_size..][..head_size];
                let kv = head * kv_heads / heads * head_size;
                let scores: Vec<f64> = (0..=at)
                    .map(|other| {
                        let key = &keys[other][kv..kv + head_size];
                        let dot: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                        (dot / (head_size as f64).sqrt()).exp()
                    })
                    .collect();
                let sum: f64 = scores.iter().sum();
                attended.extend((kv..kv + head_size).map(|element| {
                    let weighted = |(other, score): (usize, &f64)| score * values[other][element];
                    scores.iter().enumerate().map(weighted).sum::<f64>() / sum
                }));
            }
            let out = multiply(of("attn_output"), &attended);
            row.iter_mut().zip(out).for_each(|(x, y)| *x += y);
            let normed = norm(of("ffn_norm"), row);
            let gate = multiply(of("ffn_gate"), &normed);
            let up = multiply(of("ffn_up"), &normed);
            let wide: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let out = multiply(of("ffn_down"), &wide);
            row.iter_mut().zip(out).for_each(|(x, y)| *x += y);
        }
    }
    let last = norm(get("output_norm.weight"), rows.last().unwrap());
    let head = tensors.get("output.weight").unwrap_or_else(|| get("token_embd.weight"));
    multiply(head, &last)
}
