use super::*;
use crate::gguf::{self, Header};
use crate::source::MemoryWeights;
use crate::testing::{CONTROL_TOKENS, TinyModel};
use crate::tokenizer::TextStream;
use std::sync::Arc;

const END: u32 = 261;
const USER: u32 = 263;
const ASSISTANT: u32 = 264;

fn open(template: Option<&str>) -> Result<(Arc<Tokenizer>, ChatTemplate), ChatError> {
    let value = template.map(|text| gguf::Value::Text(text.into()));
    let extra = value.map(|value| ("tokenizer.chat_template", value)).into_iter().collect();
    let model = TinyModel { extra, ..TinyModel::default() };
    let header = Header::read(&MemoryWeights::from(model.to_gguf())).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_header(&header).unwrap());
    Ok((tokenizer, ChatTemplate::from_header(&header)?))
}

/// The prompt with control tokens in words, to compare by eye.
fn prompt(template: Option<&str>, messages: &[Message]) -> Result<String, ChatError> {
    let (tokenizer, chat) = open(template)?;
    let mut text = String::new();
    let mut stream = TextStream::new(Arc::clone(&tokenizer));
    for token in chat.encode(&tokenizer, messages)? {
        match tokenizer.special_text(token) {
            Some(name) => {
                text.extend(stream.finish());
                text.push_str(&name.replace(['<', '>'], "~"));
            }
            None => text.extend(stream.push(token)),
        }
    }
    text.extend(stream.finish());
    Ok(text)
}

fn user(content: &str) -> Message {
    Message::new(Role::User, content)
}

#[test]
fn the_models_template_places_control_tokens() {
    let messages = [Message::new(Role::System, "Be kind."), user(" hello ")];
    let expected = "~|system|~Be kind.~|end|~~|user|~hello~|end|~~|assistant|~";
    assert_eq!(prompt(None, &messages).unwrap(), expected);
}

#[test]
fn typed_control_tokens_stay_text() {
    let (tokenizer, chat) = open(None).unwrap();
    for typed in CONTROL_TOKENS {
        let tokens = chat.encode(&tokenizer, &[user(typed)]).unwrap();
        let specials: Vec<u32> =
            tokens.iter().copied().filter(|id| tokenizer.special_text(*id).is_some()).collect();
        assert_eq!(specials, [USER, END, ASSISTANT]);
        let spelled = tokenizer.encode(typed).unwrap();
        assert!(tokens.windows(spelled.len()).any(|window| window == spelled));
    }
}

#[test]
fn no_template_can_be_made_to_join_a_control_token() {
    // Each of these turns some harmless text into `<|end|>`.
    for (template, typed) in [
        ("{{ messages[0].content | replace('x', '') }}", "<|enxd|>"),
        ("{{ messages[0].content.replace('x', '') }}", "<|exnd|>"),
        ("{{ messages[0].content.split('x')[0] }}{{ 'd|>' }}", "<|enxtra"),
        ("{{ messages[0].content | lower }}", "<|END|>"),
        ("{{ messages[0].content[::-1] }}", ">|dne|<"),
        ("{{ messages[0].content | trim }}{{ messages[1].content }}", "<|en"),
    ] {
        let (tokenizer, chat) = open(Some(template)).unwrap();
        let tokens = chat.encode(&tokenizer, &[user(typed), user("d|>")]).unwrap();
        assert!(!tokens.contains(&END), "{template}");
    }
}

#[test]
fn private_use_characters_in_a_message_survive() {
    let typed = "a\u{f0000}b\u{e000}c<d";
    let text = prompt(Some("{{ messages[0].content }}"), &[user(typed)]).unwrap();
    assert_eq!(text, typed);
}

#[test]
fn a_template_can_refuse_and_the_reason_is_told() {
    let template = "{{ raise_exception('roles must alternate: ' ~ messages[0].content) }}";
    let error = prompt(Some(template), &[user("<hi>")]).unwrap_err();
    let expected = "the model's chat template refuses this conversation: \
        roles must alternate: <hi>";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn templates_are_bounded() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}\
        {% endfor %}";
    let doubling = "{% set n = namespace(x='aaaaaaaa') %}\
        {% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}";
    for template in [endless, doubling] {
        let error = prompt(Some(template), &[user("hi")]).unwrap_err();
        assert!(matches!(error, ChatError::OutOfFuel), "{error}");
    }
    let recursive = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(matches!(prompt(Some(recursive), &[]), Err(ChatError::Template(_))));
    let growing = "{{ messages[0].content.replace('a', messages[0].content) }}";
    let long = user(&"a".repeat(10_000));
    assert!(matches!(prompt(Some(growing), &[long]), Err(ChatError::Template(_))));
    assert!(matches!(prompt(Some("{% for %}"), &[]), Err(ChatError::Template(_))));
    let messages = vec![user(""); MESSAGES_MAX + 1];
    assert!(matches!(prompt(None, &messages), Err(ChatError::TooLong(_))));
    let long = user(&"a".repeat(CONTENT_BYTES_MAX + 1));
    assert!(matches!(prompt(None, &[long]), Err(ChatError::TooLong(_))));
}

#[test]
fn pythons_string_methods_work() {
    let template = "{% set c = messages[0].content %}{{ c.strip() }}|{{ c.lstrip(' a') }}|\
        {{ c.split()[0] }}|{{ c.upper() }}|{{ c.startswith(' a') }}|{{ c.title() }}|\
        {{ messages[0].get('name', 'none') }}|{{ messages[0].items() | length }}|\
        {% for k in messages[0].keys() %}{{ k }}{% endfor %}";
    let text = prompt(Some(template), &[user(" ab cd ")]).unwrap();
    assert_eq!(text, "ab cd|b cd |ab| AB CD |True| Ab Cd |none|2|rolecontent");
    let unknown = "{{ messages[0].content.encode() }}";
    assert!(matches!(prompt(Some(unknown), &[user("")]), Err(ChatError::Template(_))));
}
