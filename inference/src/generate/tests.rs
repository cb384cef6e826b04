use super::*;
use crate::chat::Role;
use crate::gguf::Value;
use crate::manifest::derive_manifest;
use crate::source::MemoryWeights;
use crate::testing::TinyModel;
use exo_model::id::BlobHash;

fn open(model: &TinyModel, cuts: &[u32]) -> Result<LocalModel, OpenError> {
    let source = MemoryWeights::from(model.to_gguf());
    let manifest = derive_manifest(&source, BlobHash::from_bytes([0; 32])).unwrap();
    let ends = cuts.iter().copied().chain([manifest.layer_count()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let stages: Vec<_> = starts.zip(ends).map(|(start, end)| LayerRange::new(start, end).unwrap()).collect();
    LocalModel::open_in_stages(&source, &manifest, &stages)
}

fn options(max_tokens: u32, seed: u64) -> GenerateOptions {
    let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed };
    GenerateOptions { max_tokens, context_tokens: 200, sampling }
}

fn ask(model: &LocalModel, options: &GenerateOptions) -> Answer {
    let messages = [Message::new(Role::System, "Say hello."), Message::new(Role::User, "hello w 🦀?")];
    let mut streamed = String::new();
    let mut on_text = |text: &str| {
        streamed.push_str(text);
        ControlFlow::Continue(())
    };
    let answer = model.generate(&messages, options, &mut on_text).unwrap();
    assert_eq!(streamed, answer.text);
    answer
}

#[test]
fn a_model_in_stages_says_what_the_whole_model_says() {
    let model = TinyModel { tied: true, ..TinyModel::default() };
    let whole = open(&model, &[]).unwrap();
    let chain = open(&model, &[1, 3]).unwrap();
    let mut texts = Vec::new();
    for seed in 0..4 {
        let answer = ask(&whole, &options(30, seed));
        assert_eq!(ask(&chain, &options(30, seed)), answer);
        assert_eq!(ask(&whole, &options(30, seed)), answer);
        let tokens = (answer.prompt_tokens, answer.answer_tokens);
        assert!(tokens.0 > 10 && tokens.1 <= 30, "{tokens:?}");
        texts.push(answer.text);
    }
    texts.dedup();
    assert!(texts.len() > 1, "seeds make a difference");
}

#[test]
fn limits_and_the_reader_end_an_answer() {
    let model = open(&TinyModel::default(), &[2]).unwrap();
    let greedy = |max_tokens, context_tokens| GenerateOptions {
        max_tokens,
        context_tokens,
        sampling: Sampling::GREEDY,
    };
    let answer = ask(&model, &greedy(3, 200));
    assert_eq!((answer.finish, answer.answer_tokens), (FinishReason::MaxTokens, 3));
    let prompt = answer.prompt_tokens;
    let answer = ask(&model, &greedy(50, prompt + 4));
    assert_eq!((answer.finish, answer.answer_tokens), (FinishReason::ContextFull, 5));
    assert_eq!(ask(&model, &greedy(0, 200)).text, "");
    let error = model
        .generate(&[Message::new(Role::User, "hello")], &greedy(5, 2), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(GenerateError::Session(RequesterError::Prompt { .. }))));
    let mut pieces = 0;
    let mut stop_at_once = |_: &str| {
        pieces += 1;
        ControlFlow::Break(())
    };
    let messages = [Message::new(Role::User, "hello")];
    let answer = model.generate(&messages, &options(100, 5), &mut stop_at_once).unwrap();
    assert_eq!(answer.finish, FinishReason::Stopped);
    // One piece, and at most what was held back of an unfinished character.
    assert!((1..=2).contains(&pieces));
}

#[test]
fn an_end_token_ends_the_answer_unseen() {
    // Make every plain token an end token's neighbour: greedy output depends
    // on random weights, so ask with the first sampled token as end token.
    let model = TinyModel::default();
    let opened = open(&model, &[]).unwrap();
    let prompt = opened.chat.encode(&opened.tokenizer, &[Message::new(Role::User, "hello")]).unwrap();
    let session = JobId::from_bytes([0; 16]);
    let mut chain = LocalChain::new(&opened.stages, session, 0, Sampling::GREEDY, 100).unwrap();
    let mut first = None;
    for _ in 0..2 {
        let request = SessionRequest {
            session,
            prompt: prompt.clone(),
            max_tokens: 5,
            end_tokens: first.into_iter().collect(),
            context_tokens: 100,
        };
        let mut requester = RequesterSession::new(request).unwrap();
        let outputs = requester.handle(RequesterInput::Begin { epoch: 0 }).unwrap();
        for output in outputs {
            if let RequesterOutput::Send(frame) = output {
                chain.send_frame(frame).unwrap();
            }
        }
        let token = chain.take_token().unwrap();
        first = Some(token.token);
        requester.handle(RequesterInput::Token(token)).unwrap();
        if requester.finished().is_some() {
            assert_eq!(requester.finished(), Some(FinishReason::EndToken));
            assert!(requester.answer().is_empty());
            return;
        }
    }
    panic!("the end token did not end the answer");
}

#[test]
fn a_model_without_template_or_tokenizer_says_so() {
    for (key, value, expected) in [
        ("tokenizer.chat_template", Value::Bool(true), "no chat template"),
        ("tokenizer.ggml.model", Value::Text("bert".into()), "unsupported tokenizer bert"),
    ] {
        let model = TinyModel { extra: vec![(key, value)], ..TinyModel::default() };
        let error = open(&model, &[]).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
