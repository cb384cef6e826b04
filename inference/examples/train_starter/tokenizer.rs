//! The vocabulary: byte-level BPE, trained here and rebuilt from the parts
//! that a GGUF file stores. Training uses the rebuilt form as well, so that
//! what a reader of the file will see is what the network learned.

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::Result;
use crate::data::Texts;

/// Size of the vocabulary with special tokens; a small text may give fewer.
const VOCABULARY_SIZE: usize = 1024;
const PADDING: &str = "<|pad|>";
const USER: &str = "<|user|>";
const ASSISTANT: &str = "<|assistant|>";
const END: &str = "<|end|>";
/// In the order of their ids, from 0: the BPE trainer puts them first.
const SPECIAL: [&str; 4] = [PADDING, USER, ASSISTANT, END];

/// The conversation format the network is trained on, as a Jinja template.
pub(crate) const CHAT_TEMPLATE: &str = "{% for message in messages %}\
{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}<|end|>\
{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>\
{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Pairs to join, the earliest learned first.
type Merges = Vec<(String, String)>;

/// Ids of the tokens that structure a conversation.
#[derive(Clone, Copy)]
pub(crate) struct Marks {
    pub(crate) padding: u32,
    pub(crate) user: u32,
    pub(crate) assistant: u32,
    pub(crate) end: u32,
}

/// A vocabulary with its merges, and the tokenizer made of them.
pub(crate) struct Vocabulary {
    pub(crate) tokens: Vec<String>,
    pub(crate) merges: Merges,
    pub(crate) marks: Marks,
    tokenizer: Tokenizer,
}

impl Vocabulary {
    /// Learns merges from all text that training shows to the network.
    pub(crate) fn train(texts: &Texts) -> Result<Self> {
        // Answers are what the network writes, a phrasing is one of twelve
        // readings: repeated, they get merges of their own.
        const ANSWER_REPEATS: usize = 4;
        let mut lines: Vec<String> = texts.prose.clone();
        for answer in &texts.answers {
            lines.extend(std::iter::repeat_n(answer.text.clone(), ANSWER_REPEATS));
            lines.extend(answer.phrasings.iter().cloned());
            lines.extend(answer.phrasings.iter().map(|text| text.to_ascii_lowercase()));
        }
        let trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(VOCABULARY_SIZE)
            .min_frequency(2)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(SPECIAL.map(|name| AddedToken::from(name, true)).to_vec())
            .build();
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(byte_level()));
        tokenizer.train(&mut TrainerWrapper::from(trainer), lines.into_iter())?;
        let (tokens, merges) = parts_of(&tokenizer)?;
        Self::from_parts(tokens, merges)
    }

    /// Rebuilds the tokenizer from what a GGUF file stores.
    pub(crate) fn from_parts(tokens: Vec<String>, merges: Merges) -> Result<Self> {
        let mut vocab = Vocab::default();
        for (id, token) in tokens.iter().enumerate() {
            vocab.insert(token.clone(), u32::try_from(id)?);
        }
        let id_of = |name: &str| vocab.get(name).copied().ok_or(format!("no token {name}"));
        let marks = Marks {
            padding: id_of(PADDING)?,
            user: id_of(USER)?,
            assistant: id_of(ASSISTANT)?,
            end: id_of(END)?,
        };
        let model = BPE::builder().vocab_and_merges(vocab, merges.clone()).build()?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(byte_level()));
        tokenizer.with_decoder(Some(byte_level()));
        tokenizer.add_special_tokens(SPECIAL.map(|name| AddedToken::from(name, true)))?;
        Ok(Self { tokens, merges, marks, tokenizer })
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode_fast(text, false)?.get_ids().to_vec())
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true)
    }

    /// Whether `id` is a control token and not text.
    pub(crate) fn is_special(&self, id: usize) -> bool {
        self.tokens.get(id).is_some_and(|token| SPECIAL.contains(&token.as_str()))
    }
}

fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// Tokens by id and merges by rank. The crate keeps its merges to itself,
/// but its JSON form has them.
fn parts_of(tokenizer: &Tokenizer) -> Result<(Vec<String>, Merges)> {
    let json: serde_json::Value = serde_json::from_str(&tokenizer.to_string(false)?)?;
    let vocab: std::collections::BTreeMap<String, usize> =
        serde_json::from_value(json["model"]["vocab"].clone())?;
    let merges = serde_json::from_value(json["model"]["merges"].clone())?;
    let mut tokens = vec![String::new(); vocab.len()];
    for (token, id) in vocab {
        *tokens.get_mut(id).ok_or("ids of the vocabulary have a gap")? = token;
    }
    Ok((tokens, merges))
}
