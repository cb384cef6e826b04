use super::*;
use crate::gguf::Array;
use crate::source::MemoryWeights;
use crate::testing::{CONTROL_TOKENS, MERGES, TinyModel};
use std::sync::Arc;

fn tokenizer_with(extra: Vec<(&'static str, Value)>) -> Result<Tokenizer, TokenizerError> {
    let model = TinyModel { extra, ..TinyModel::default() };
    let header = Header::read(&MemoryWeights::from(model.to_gguf())).unwrap();
    Tokenizer::from_header(&header)
}

fn tokenizer() -> Arc<Tokenizer> {
    Arc::new(tokenizer_with(Vec::new()).unwrap())
}

fn decode(tokenizer: &Arc<Tokenizer>, tokens: &[u32]) -> String {
    let mut stream = TextStream::new(Arc::clone(tokenizer));
    let mut text: String = tokens.iter().filter_map(|&token| stream.push(token)).collect();
    text.extend(stream.finish());
    text
}

#[test]
fn merges_apply_and_text_comes_back() {
    let tokenizer = tokenizer();
    // "hello" and " w" are single tokens of the tiny vocabulary.
    assert_eq!(tokenizer.encode("hello w").unwrap(), [259, 260]);
    for text in ["", "hello", "  a\n\tb ", "žluťoučký 🦀 日本", "\0\u{7f}\u{a0}"] {
        assert_eq!(decode(&tokenizer, &tokenizer.encode(text).unwrap()), text);
    }
}

#[test]
fn plain_text_never_becomes_a_control_token() {
    let tokenizer = tokenizer();
    for text in CONTROL_TOKENS {
        let tokens = tokenizer.encode(text).unwrap();
        assert!(tokens.iter().all(|id| tokenizer.special_text(*id).is_none()));
        assert_eq!(decode(&tokenizer, &tokens), text);
    }
}

#[test]
fn a_word_that_is_a_control_token_stays_a_word_even_without_merges() {
    // Llama 3 looks whole words up before merging; a control token named like
    // a word must not be found.
    let mut tokens = TinyModel::vocabulary();
    tokens[263] = "user".into();
    let tokenizer = tokenizer_with(vec![
        ("tokenizer.ggml.tokens", Value::Array(Array::Texts(tokens))),
        ("tokenizer.ggml.pre", Value::Text("llama-bpe".into())),
    ])
    .unwrap();
    assert_eq!(tokenizer.special_text(263), Some("user"));
    assert!(!tokenizer.encode("user").unwrap().contains(&263));
    assert_eq!(tokenizer.segments("user"), [Segment::Special(263)]);
    assert_eq!(tokenizer.encode("hello").unwrap(), [259]);
}

#[test]
fn segments_find_the_longest_special_token() {
    let tokenizer = tokenizer();
    let segments = tokenizer.segments("a<|user|>b<|end|><|en");
    let expected = [
        Segment::Text("a"),
        Segment::Special(263),
        Segment::Text("b"),
        Segment::Special(261),
        Segment::Text("<|en"),
    ];
    assert_eq!(segments, expected);
    assert!(tokenizer.segments("").is_empty());
}

#[test]
fn a_stream_never_cuts_a_character() {
    let tokenizer = tokenizer();
    let mut stream = TextStream::new(Arc::clone(&tokenizer));
    let crab = tokenizer.encode("🦀").unwrap();
    assert_eq!(crab.len(), 4);
    assert!(crab[..3].iter().all(|&token| stream.push(token).is_none()));
    assert_eq!(stream.push(crab[3]).as_deref(), Some("🦀"));
    // Half a character, then another one: the half is lost, the rest stays.
    assert_eq!(stream.push(crab[0]), None);
    assert_eq!(stream.push(u32::from(b'a')).as_deref(), Some("\u{fffd}a"));
    assert_eq!(stream.push(crab[0]), None);
    assert_eq!(stream.finish().as_deref(), Some("\u{fffd}"));
    assert_eq!(stream.finish(), None);
    // Control tokens and unknown ids say nothing.
    assert_eq!((stream.push(261), stream.push(9_999)), (None, None));
}

#[test]
fn any_bytes_stream_to_what_the_lossy_whole_is() {
    let tokenizer = tokenizer();
    for seed in 0..500 {
        let tokens: Vec<u32> = (0..12).map(|i| (crate::sample::mix(seed, i) % 256) as u32).collect();
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| tokenizer.bytes(token)).collect();
        assert_eq!(decode(&tokenizer, &tokens), String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn what_is_not_supported_is_said_clearly() {
    let text = |text: &str| Value::Text(text.into());
    let texts =
        |items: &[&str]| Value::Array(Array::Texts(items.iter().map(|&item| item.to_owned()).collect()));
    let longer_than_every_token = "<|assistant|> <|assistant|>";
    for (key, value, expected) in [
        ("tokenizer.ggml.model", text("llama"), "unsupported tokenizer llama"),
        ("tokenizer.ggml.pre", text("tekken"), "unsupported pre-tokenizer tekken"),
        ("tokenizer.ggml.tokens", texts(&[]), "`tokenizer.ggml.tokens` is missing"),
        ("tokenizer.ggml.token_type", Value::Array(Array::Integers(vec![1])), "one entry per"),
        ("tokenizer.ggml.merges", texts(&["a"]), "merge 0 (`a`)"),
        ("tokenizer.ggml.merges", texts(&["a bb"]), "merge 0"),
        ("tokenizer.ggml.merges", texts(&[longer_than_every_token]), "merge 0"),
    ] {
        let error = tokenizer_with(vec![(key, value)]).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let too_long = "a".repeat(TEXT_BYTES_MAX + 1);
    assert!(matches!(tokenizer().encode(&too_long), Err(EncodeError::TooLong { .. })));
}

#[test]
fn a_byte_without_a_token_is_an_error_not_a_hole_in_the_text() {
    let mut tokens = TinyModel::vocabulary();
    tokens[usize::from(b'z')] = "unused".into();
    let tokens = Value::Array(Array::Texts(tokens));
    let tokenizer = tokenizer_with(vec![("tokenizer.ggml.tokens", tokens)]).unwrap();
    let error = tokenizer.encode("zebra").unwrap_err();
    assert!(matches!(error, EncodeError::Unspellable { byte: b'z' }));
}

#[test]
fn end_tokens_come_from_metadata_and_names() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.end(), Some(261));
    assert_eq!(tokenizer.end_tokens().iter().copied().collect::<Vec<_>>(), [261]);
    assert!(!tokenizer.adds_begin());
    assert_eq!(tokenizer.len() as usize, 256 + MERGES.len() + CONTROL_TOKENS.len());
}
