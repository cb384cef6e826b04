use std::borrow::Cow;
use std::sync::Mutex;

use candle_core::quantized::GgmlDType;
use exo_model::id::BlobHash;
use exo_model::weights::{ByteRange, LayerRange, ModelManifest};

use super::*;
use crate::engine::{Activations, ForwardError, ROWS_MAX, StageInput, StageOutput};
use crate::gguf::Value;
use crate::manifest::derive_manifest;
use crate::source::{MemoryWeights, SourceError, WeightSource};
use crate::testing::TinyModel;

const HASH: BlobHash = BlobHash::from_bytes([7; 32]);

fn open(model: &TinyModel) -> (MemoryWeights, ModelManifest) {
    let source = MemoryWeights::from(model.to_gguf());
    let manifest = derive_manifest(&source, HASH).unwrap();
    (source, manifest)
}

fn load(model: &TinyModel, start: u32, end: u32) -> Stage {
    let (source, manifest) = open(model);
    Stage::load(&source, &manifest, LayerRange::new(start, end).unwrap()).unwrap()
}

/// Logits after each chunk of `tokens`, through stages cut at `cuts`.
fn run(model: &TinyModel, cuts: &[u32], tokens: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let (source, manifest) = open(model);
    let ends = cuts.iter().copied().chain([manifest.layer_count()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let mut stages: Vec<_> = starts
        .zip(ends)
        .map(|(start, end)| {
            let layers = LayerRange::new(start, end).unwrap();
            let stage = Stage::load(&source, &manifest, layers).unwrap();
            let cache = stage.new_cache(u32::MAX).unwrap();
            (stage, cache)
        })
        .collect();
    let mut logits = Vec::new();
    for (index, chunk_tokens) in tokens.chunks(chunk).enumerate() {
        let position = (index * chunk) as u32;
        let mut carried: Option<Activations> = None;
        for (stage, cache) in &mut stages {
            let input = match carried.take() {
                Some(activations) => StageInput::Hidden(activations),
                None => StageInput::Tokens(chunk_tokens),
            };
            match stage.forward(cache, input, position).unwrap() {
                StageOutput::Hidden(activations) => carried = Some(activations),
                StageOutput::Logits(values) => logits.push(values),
            }
        }
    }
    logits
}

fn prompt(len: u32) -> Vec<u32> {
    (0..len).map(|index| (index * 37 + 11) % 260).collect()
}

#[test]
fn a_chain_of_stages_gives_the_bits_of_the_whole() {
    for tied in [false, true] {
        for dtype in [GgmlDType::Q8_0, GgmlDType::F32] {
            let model = TinyModel { tied, dtype, ..TinyModel::default() };
            let whole = run(&model, &[], &prompt(21), 8);
            for cuts in [&[1][..], &[2], &[3], &[1, 2], &[1, 2, 3]] {
                assert_eq!(run(&model, cuts, &prompt(21), 8), whole, "{tied} {dtype:?} {cuts:?}");
            }
        }
    }
}

#[test]
fn every_quantisation_runs_and_chunking_changes_no_bit() {
    for dtype in [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let model = TinyModel { dtype, hidden: 256, layers: 2, ..TinyModel::default() };
        let last = |chunk| run(&model, &[], &prompt(12), chunk).pop().unwrap();
        let whole = last(12);
        assert!(whole.iter().any(|logit| *logit != whole[0]));
        for chunk in [1, 5, 7] {
            assert_eq!(last(chunk), whole, "{dtype:?}, chunks of {chunk}");
        }
    }
}

#[test]
fn quantised_models_say_nearly_what_the_f32_model_says() {
    let shape = TinyModel { hidden: 256, layers: 2, ..TinyModel::default() };
    let last = |dtype| {
        let model = TinyModel { dtype, ..shape.clone() };
        run(&model, &[1], &prompt(12), 12).pop().unwrap()
    };
    let exact = last(GgmlDType::F32);
    for (dtype, least) in [
        (GgmlDType::F16, 0.9999),
        (GgmlDType::Q8_0, 0.999),
        (GgmlDType::Q6K, 0.99),
        // Random weights have no structure that would hide 4-bit rounding.
        (GgmlDType::Q4K, 0.8),
        (GgmlDType::Q4_0, 0.8),
    ] {
        let found = cosine(&exact, &last(dtype));
        assert!(found > least, "{dtype:?}: {found}");
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    math::dot(a, b) / (math::dot(a, a) * math::dot(b, b)).sqrt()
}

#[test]
fn truncating_forgets_and_a_gap_is_refused() {
    let model = TinyModel::default();
    let stage = load(&model, 0, 4);
    let mut cache = stage.new_cache(32).unwrap();
    let forward = |cache: &mut KvCache, tokens: &[u32], position| {
        stage.forward(cache, StageInput::Tokens(tokens), position)
    };
    forward(&mut cache, &[1, 2, 3, 4], 0).unwrap();
    let plain = forward(&mut cache, &[5], 4).unwrap();
    forward(&mut cache, &[9, 9, 9], 2).unwrap();
    assert_eq!(cache.len(), 5);
    forward(&mut cache, &[3, 4], 2).unwrap();
    assert_eq!(forward(&mut cache, &[5], 4).unwrap(), plain);
    cache.truncate(4);
    assert_eq!(forward(&mut cache, &[5], 4).unwrap(), plain);
    let gap = forward(&mut cache, &[1], 6).unwrap_err();
    assert!(matches!(gap, ForwardError::Gap { position: 6, expected: 5 }));
    assert_eq!(cache.len(), 5);
}

#[test]
fn bad_inputs_are_rejections_that_say_what_is_wrong() {
    let model = TinyModel::default();
    let (first, rest) = (load(&model, 0, 1), load(&model, 1, 4));
    let mut cache = rest.new_cache(8).unwrap();
    let hidden = |rows: usize, width: usize, value: f32| {
        StageInput::Hidden(Activations::new(rows, width, vec![value; rows * width]).unwrap())
    };
    let cases = [
        (hidden(1, 64, f32::NAN), 0, "not all finite"),
        (hidden(1, 64, f32::INFINITY), 0, "not all finite"),
        (hidden(1, 32, 0.0), 0, "32 wide, the model is 64 wide"),
        (hidden(0, 64, 0.0), 0, "0 rows"),
        (hidden(ROWS_MAX + 1, 64, 0.0), 0, "65 rows"),
        (hidden(9, 64, 0.0), 0, "context of 8 tokens is full"),
        (hidden(1, 64, 0.0), u32::MAX, "leaves a gap"),
        (StageInput::Tokens(&[1]), 0, "takes activations"),
    ];
    for (input, position, expected) in cases {
        let error = rest.forward(&mut cache, input, position).unwrap_err();
        assert!(error.is_rejection(), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(cache.is_empty());
    }
    let mut cache = first.new_cache(8).unwrap();
    let error = first.forward(&mut cache, StageInput::Tokens(&[999]), 0).unwrap_err();
    assert!(error.to_string().contains("token 999"), "{error}");
    let error = first.forward(&mut cache, hidden(1, 64, 0.0), 0).unwrap_err();
    assert!(error.to_string().contains("takes token ids"), "{error}");
    let error = rest.forward(&mut cache, hidden(1, 64, 0.0), 0).unwrap_err();
    assert!(matches!(error, ForwardError::ForeignCache) && !error.is_rejection());
    assert!(Activations::new(2, 3, vec![0.0; 5]).is_err());
    assert!(Activations::new(usize::MAX, 2, vec![]).is_err());
}

/// Remembers what was read.
struct Recording<'a> {
    inner: &'a MemoryWeights,
    read: Mutex<Vec<ByteRange>>,
}

impl WeightSource for Recording<'_> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, range: ByteRange) -> Result<Cow<'_, [u8]>, SourceError> {
        self.read.lock().unwrap().push(range);
        self.inner.read_at(range)
    }
}

#[test]
fn a_stage_reads_only_its_own_bytes() {
    for tied in [false, true] {
        let (source, manifest) = open(&TinyModel { tied, ..TinyModel::default() });
        for (start, end) in [(0, 4), (0, 1), (1, 3), (3, 4)] {
            let layers = LayerRange::new(start, end).unwrap();
            let recording = Recording { inner: &source, read: Mutex::default() };
            let stage = Stage::load(&recording, &manifest, layers).unwrap();
            assert_eq!((stage.is_first(), stage.is_last()), (start == 0, end == 4));
            let allowed = manifest.stage_ranges(layers);
            for read in recording.read.into_inner().unwrap() {
                let inside = allowed.iter().any(|range| range.start <= read.start && read.end <= range.end);
                assert!(inside, "{layers}: read {read:?}");
            }
        }
    }
}

#[test]
fn bytes_that_are_not_here_are_named_and_foreign_manifests_refused() {
    struct Partial<'a>(&'a MemoryWeights, u64);
    impl WeightSource for Partial<'_> {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_at(&self, range: ByteRange) -> Result<Cow<'_, [u8]>, SourceError> {
            if range.end > self.1 {
                return Err(SourceError::Absent(range));
            }
            self.0.read_at(range)
        }
    }
    let (source, manifest) = open(&TinyModel::default());
    let all = manifest.all_layers().unwrap();
    let partial = Partial(&source, manifest.header.end);
    let error = Stage::load(&partial, &manifest, all).err().unwrap();
    assert!(matches!(error, LoadError::Source { .. }), "{error}");
    let beyond = LayerRange::new(3, 5).unwrap();
    let error = Stage::load(&source, &manifest, beyond).err().unwrap();
    assert!(matches!(error, LoadError::NoSuchLayers { .. }));
    let mut lying = manifest.clone();
    lying.layers.swap(0, 1);
    assert!(matches!(Stage::load(&source, &lying, all).err().unwrap(), LoadError::Check(_)));
    let mut lying = manifest;
    lying.size_bytes += 1;
    assert!(matches!(Stage::load(&source, &lying, all).err().unwrap(), LoadError::Check(_)));
}

#[test]
fn bytes_without_alignment_load_the_same() {
    let model = TinyModel { dtype: GgmlDType::F32, ..TinyModel::default() };
    let mut shifted = vec![0];
    shifted.extend(model.to_gguf());
    let leaked: &'static [u8] = Box::leak(shifted.into_boxed_slice());
    let source = MemoryWeights::from(&leaked[1..]);
    let manifest = derive_manifest(&source, HASH).unwrap();
    let stage = Stage::load(&source, &manifest, manifest.all_layers().unwrap()).unwrap();
    let logits = stage.forward(&mut stage.new_cache(4).unwrap(), StageInput::Tokens(&[1, 2]), 0).unwrap();
    let expected = run(&model, &[], &[1, 2], 2).pop().unwrap();
    assert_eq!(logits, StageOutput::Logits(expected));
}

#[test]
fn metadata_that_changes_the_computation_is_refused() {
    let text = |text: &str| Value::Text(text.into());
    let number = Value::Unsigned;
    for (key, value, expected) in [
        ("llama.rope.scaling.type", text("yarn"), "rope scaling `yarn`"),
        ("llama.expert_count", number(8), "experts"),
        ("llama.attention.sliding_window", number(4_096), "sliding-window"),
        ("llama.attention.value_length", number(32), "another width"),
        ("llama.block_count", number(3), "`blk.3."),
        ("llama.block_count", number(5), "`blk.4.attn_norm.weight` is missing"),
        ("llama.block_count", number(0), "`llama.block_count`"),
        ("llama.attention.head_count", number(0), "head_count"),
        ("llama.attention.head_count_kv", number(3), "head_count_kv"),
        ("llama.embedding_length", number(128), "shape"),
        ("llama.rope.dimension_count", number(3), "dimension_count"),
        ("llama.rope.freq_base", Value::Float(f64::NAN), "freq_base"),
        ("llama.attention.layer_norm_rms_epsilon", Value::Float(-1.0), "epsilon"),
        ("llama.context_length", number(u64::from(u32::MAX)), "context_length"),
    ] {
        let model = TinyModel { extra: vec![(key, value)], ..TinyModel::default() };
        let source = MemoryWeights::from(model.to_gguf());
        let error = derive_manifest(&source, HASH).unwrap_err().to_string();
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn positions_matter_and_later_tokens_do_not() {
    let model = TinyModel::default();
    let a = run(&model, &[], &[5, 9, 5], 3).pop().unwrap();
    let b = run(&model, &[], &[9, 5, 5], 3).pop().unwrap();
    assert_ne!(a, b);
    let prefix = run(&model, &[], &prompt(6), 1);
    let longer = run(&model, &[], &prompt(9), 1);
    assert_eq!(prefix[..], longer[..6]);
}

#[test]
fn it_agrees_with_an_independent_f64_implementation() {
    for (tied, heads, kv_heads) in [(false, 4, 2), (true, 8, 1), (true, 2, 2)] {
        let model = TinyModel { tied, heads, kv_heads, dtype: GgmlDType::F32, ..TinyModel::default() };
        let tokens = prompt(40);
        let file = model.to_gguf();
        let expected = reference::logits(file, &tokens, heads as usize, kv_heads as usize);
        let found = run(&model, &[2], &tokens, 16).pop().unwrap();
        let largest = expected.iter().fold(0.0_f64, |most, logit| most.max(logit.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            let error = (f64::from(*found) - expected).abs() / largest;
            assert!(error < 1e-5, "{found} / {expected}");
        }
    }
}

#[test]
fn rope_factors_are_read_by_every_stage_and_used() {
    let model = |rope_factor| TinyModel { rope_factor, ..TinyModel::default() };
    let last = |rope_factor, cuts: &[u32]| run(&model(rope_factor), cuts, &prompt(20), 20).pop().unwrap();
    assert_eq!(last(Some(1.0), &[]), last(None, &[]));
    assert_ne!(last(Some(4.0), &[]), last(None, &[]));
    assert_eq!(last(Some(4.0), &[1, 2]), last(Some(4.0), &[]));
    let (source, manifest) = open(&model(Some(4.0)));
    let layers = LayerRange::new(1, 2).unwrap();
    let recording = Recording { inner: &source, read: Mutex::default() };
    Stage::load(&recording, &manifest, layers).unwrap();
    let allowed = manifest.stage_ranges(layers);
    for read in recording.read.into_inner().unwrap() {
        assert!(allowed.iter().any(|range| range.start <= read.start && read.end <= range.end));
    }
}

#[test]
fn a_cache_that_no_machine_could_hold_is_an_error() {
    let huge = Value::Unsigned(1 << 24);
    let extra = vec![("llama.context_length", huge)];
    let stage = load(&TinyModel { extra, ..TinyModel::default() }, 0, 1);
    let mut config = stage.config().clone();
    config.kv_heads = 1 << 10;
    config.head_size = 1 << 16;
    let layers = LayerRange::new(0, 4).unwrap();
    assert!(KvCache::new(&config, layers, u32::MAX).is_none());
    assert!(KvCache::new(&config, layers, 0).is_some());
}
