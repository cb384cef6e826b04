use super::*;
use crate::sample::mix;
use crate::source::MemoryWeights;
use crate::testing::{GgufWriter, TinyModel};

fn parse(bytes: Vec<u8>) -> Result<Header, GgufError> {
    Header::read(&MemoryWeights::from(bytes))
}

/// A file with one tensor of 64 f32 and this metadata.
fn small(entries: &[(&str, Value)]) -> Vec<u8> {
    let mut writer = GgufWriter::default();
    writer.tensor("t", &[32, 2], GgmlDType::F32, &[1.0; 64]);
    entries.iter().for_each(|(key, value)| writer.set(key, value.clone()));
    writer.finish()
}

#[test]
fn a_written_file_reads_back() {
    let texts = Value::Array(Array::Texts(vec!["a".into(), "é".into()]));
    let bytes = small(&[
        ("n", Value::Unsigned(7)),
        ("f", Value::Float(0.5)),
        ("b", Value::Bool(true)),
        ("s", Value::Text("hi".into())),
        ("l", texts.clone()),
        ("i", Value::Array(Array::Integers(vec![-1, 2]))),
    ]);
    let len = bytes.len() as u64;
    let header = parse(bytes).unwrap();
    assert_eq!(header.get("n").and_then(Value::as_u64), Some(7));
    assert_eq!(header.get("f").and_then(Value::as_f64), Some(0.5));
    assert_eq!(header.get("b").and_then(Value::as_bool), Some(true));
    assert_eq!(header.text("s"), Some("hi"));
    assert_eq!(header.get("l"), Some(&texts));
    assert_eq!(header.get("i").and_then(Value::as_integers), Some(&[-1, 2][..]));
    let tensor = &header.tensors()["t"];
    assert_eq!((tensor.dtype, tensor.dims.as_slice()), (GgmlDType::F32, &[32, 2][..]));
    assert_eq!((tensor.range.len(), tensor.range.end), (256, len));
    assert_eq!(header.file_size(), len);
}

#[test]
fn every_supported_type_has_the_length_candle_gives_it() {
    for dtype in [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q5_0,
        GgmlDType::Q8_0,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let mut writer = GgufWriter::default();
        writer.tensor("t", &[256, 3], dtype, &[0.5; 768]);
        let header = parse(writer.finish()).unwrap();
        let expected = 768 / dtype.block_size() * dtype.type_size();
        assert_eq!(header.tensors()["t"].range.len(), expected as u64);
    }
}

/// A header by hand: magic, version, counts, then `rest`.
fn raw(version: u32, tensors: u64, entries: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.extend(rest);
    bytes
}

/// One directory entry named `t`.
fn entry(dims: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = 1_u64.to_le_bytes().to_vec();
    bytes.push(b't');
    bytes.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

#[test]
fn what_is_wrong_is_said() {
    let huge = u64::MAX;
    let text = |len: u64| len.to_le_bytes().to_vec();
    let value =
        |type_id: u32, rest: &[u8]| [&1_u64.to_le_bytes()[..], b"k", &type_id.to_le_bytes(), rest].concat();
    let array = |type_id: u32, len: u64| value(9, &[&type_id.to_le_bytes()[..], &len.to_le_bytes()].concat());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"GGML".to_vec(), "not a GGUF file"),
        (b"GG".to_vec(), "ends within the magic number"),
        (raw(1, 0, 0, &[]), "version 1 is not supported"),
        (raw(3_u32.swap_bytes(), 0, 0, &[]), "little-endian"),
        (raw(3, huge, 0, &[]), "GGUF tensors: 18446744073709551615 is over"),
        (raw(3, 0, huge, &[]), "metadata entries"),
        (raw(3, 0, 1, &text(huge)), "metadata key"),
        (raw(3, 0, 1, &value(8, &text(huge))), "text value"),
        (raw(3, 0, 1, &value(8, &text(9))), "ends within text value"),
        (raw(3, 0, 1, &value(99, &[])), "`k` has unsupported type 99"),
        (raw(3, 0, 1, &array(4, huge)), "array items"),
        (raw(3, 0, 1, &array(4, 1 << 20)), "ends within an array"),
        (raw(3, 0, 1, &array(8, 1 << 20)), "ends within an array"),
        (raw(3, 0, 1, &array(9, 0)), "`k` has unsupported type 9"),
        (raw(3, 1, 0, &entry(&[], 0, 0)), "no dimension"),
        (raw(3, 1, 0, &entry(&[4, 0], 0, 0)), "a dimension is 0"),
        (raw(3, 1, 0, &entry(&[1; 5], 0, 0)), "tensor dimensions: 5"),
        (raw(3, 1, 0, &entry(&[33], 8, 0)), "whole number of blocks"),
        (raw(3, 1, 0, &entry(&[huge, huge], 0, 0)), "size overflows"),
        (raw(3, 1, 0, &entry(&[1 << 62, 1], 0, 0)), "size overflows"),
        (raw(3, 1, 0, &entry(&[4], 0, 1)), "offset is not aligned"),
        (raw(3, 1, 0, &entry(&[4], 0, huge & !31)), "past the end"),
        (raw(3, 1, 0, &entry(&[4], 0, 0)), "past the end"),
        (raw(3, 1, 0, &entry(&[32], 20, 0)), "`t` has unsupported type IQ4_NL"),
        (raw(3, 1, 0, &entry(&[32], 77, 0)), "`t` has unsupported type number 77"),
        (small(&[("general.alignment", Value::Unsigned(48))]), "alignment 48"),
        (small(&[("general.alignment", Value::Unsigned(4))]), "alignment 4"),
        (small(&[("general.alignment", Value::Unsigned(1 << 20))]), "alignment 1048576"),
    ];
    for (bytes, expected) in cases {
        let error = parse(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} / {expected}");
    }
}

#[test]
fn repeated_names_and_shared_bytes_are_refused() {
    let twice = [entry(&[4], 0, 0), entry(&[4], 0, 32)].concat();
    let mut bytes = raw(3, 2, 0, &twice);
    bytes.resize(bytes.len() + 256, 0);
    assert!(parse(bytes.clone()).unwrap_err().to_string().contains("twice"));
    // Rename the second: now its bytes are looked at.
    let second = bytes.len() - 256 - entry(&[4], 0, 0).len() + 8;
    bytes[second] = b'u';
    assert!(parse(bytes.clone()).is_ok());
    let offset = bytes.len() - 256 - 8;
    bytes[offset..offset + 8].copy_from_slice(&0_u64.to_le_bytes());
    assert!(parse(bytes).unwrap_err().to_string().contains("overlap"));
}

#[test]
fn headers_longer_than_a_window_are_read_and_longer_than_the_limit_refused() {
    let texts = vec!["x".repeat(1_000); 3_000];
    let bytes = small(&[("long", Value::Array(Array::Texts(texts)))]);
    assert!(bytes.len() as u64 > 2 * FIRST_WINDOW_BYTES);
    assert!(parse(bytes).is_ok());

    struct Endless;
    impl WeightSource for Endless {
        fn size(&self) -> u64 {
            1 << 40
        }
        fn read_at(&self, range: ByteRange) -> Result<std::borrow::Cow<'_, [u8]>, SourceError> {
            // 64 keys with texts of 1 MiB and a byte: more than fits.
            let mut bytes = raw(3, 0, 4_000, &[]);
            for index in 0..66_u64 {
                bytes.extend(8_u64.to_le_bytes());
                bytes.extend(format!("{index:08}").bytes());
                bytes.extend(8_u32.to_le_bytes());
                bytes.extend(STRING_BYTES_MAX.to_le_bytes());
                bytes.resize(bytes.len() + STRING_BYTES_MAX as usize, b'x');
            }
            bytes.truncate(range.end as usize);
            Ok(bytes.into())
        }
    }
    assert!(matches!(Header::read(&Endless), Err(GgufError::HeaderTooLong)));
}

#[test]
fn mutated_headers_never_panic() {
    let honest = TinyModel { layers: 1, ..TinyModel::default() }.to_gguf();
    let end = usize::try_from(parse(honest.clone()).unwrap().range().end).unwrap();
    for seed in 0..3_000_u64 {
        let mut bytes = honest.clone();
        for round in 0..=seed % 4 {
            let bits = mix(seed, round);
            let at = (bits >> 16) as usize % end;
            bytes[at] = match bits % 3 {
                0 => bits as u8,
                1 => 0xff,
                _ => bytes[at] ^ (1 << (bits % 8)),
            };
        }
        if seed % 5 == 0 {
            bytes.truncate(mix(seed, 99) as usize % end);
        }
        check_everything_above(bytes);
    }
}

#[test]
fn random_bytes_never_panic() {
    for seed in 0..3_000_u64 {
        let len = mix(seed, 0) % 400;
        let mut bytes: Vec<u8> = (0..len).map(|index| mix(seed, index + 1) as u8).collect();
        if seed % 2 == 0 {
            // Give it a plausible start, so that it gets further.
            let rest = bytes.split_off(bytes.len().min(24));
            bytes = raw(3, mix(seed, 500) % 3, mix(seed, 501) % 3, &rest);
        }
        check_everything_above(bytes);
    }
}

/// Whatever parses must also be safe for everything that reads a header.
fn check_everything_above(bytes: Vec<u8>) {
    let Ok(header) = parse(bytes) else { return };
    for info in header.tensors().values() {
        assert!(info.range.end <= header.file_size());
    }
    let _ = crate::manifest::describe(&header, exo_model::id::BlobHash::from_bytes([0; 32]));
    if let Ok(tokenizer) = crate::tokenizer::Tokenizer::from_header(&header) {
        let _ = tokenizer.encode("hello <|end|>");
    }
    let _ = crate::chat::ChatTemplate::from_header(&header);
}

/// Candle's reader and writer, which we did not write, as the oracle.
mod against_candle {
    use std::io::Cursor;

    use candle_core::quantized::{QTensor, gguf_file};
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn candles_files_are_read() {
        let values: Vec<f32> = (0..512_u16).map(f32::from).collect();
        let tensor = Tensor::from_vec(values, (8, 64), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, GgmlDType::Q8_0).unwrap();
        let list = gguf_file::Value::Array(vec![gguf_file::Value::I32(-3), gguf_file::Value::I32(4)]);
        let alignment = gguf_file::Value::U32(32);
        let metadata = [("list", &list), ("general.alignment", &alignment)];
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, &metadata, &[("a", &tensor), ("b", &tensor)]).unwrap();
        let bytes = file.into_inner();
        let header = parse(bytes.clone()).unwrap();
        assert_eq!(header.get("list").and_then(Value::as_integers), Some(&[-3, 4][..]));
        for name in ["a", "b"] {
            let info = &header.tensors()[name];
            assert_eq!((info.dtype, info.dims.as_slice()), (GgmlDType::Q8_0, &[64, 8][..]));
            let (start, end) = (info.range.start as usize, info.range.end as usize);
            assert_eq!(bytes[start..end], *tensor.data().unwrap());
        }
    }

    #[test]
    fn candle_finds_what_we_find() {
        let bytes = TinyModel::default().to_gguf();
        let header = parse(bytes.clone()).unwrap();
        let content = gguf_file::Content::read(&mut Cursor::new(bytes)).unwrap();
        assert_eq!(content.tensor_infos.len(), header.tensors().len());
        for (name, info) in header.tensors() {
            let theirs = &content.tensor_infos[name];
            assert_eq!(content.tensor_data_offset + theirs.offset, info.range.start);
            assert_eq!(theirs.ggml_dtype, info.dtype);
            let dims: Vec<u64> = theirs.shape.dims().iter().rev().map(|&dim| dim as u64).collect();
            assert_eq!(dims, info.dims);
        }
    }
}
