//! Turns text into batches: conversations of varied questions, and windows
//! of prose. Each epoch is drawn anew.

use crate::Result;
use crate::augment;
use crate::data::{Answer, Texts};
use crate::net::Tokens;
use crate::rng::Rng;
use crate::tokenizer::Vocabulary;

/// Parts of a batch that are computed side by side. It is constant, and not
/// the number of cores, so that a seed gives the same weights on any count.
pub(crate) const SHARDS: usize = 2;
const BATCH: usize = 16;
/// How much a prediction matters. The network is to give answers; questions
/// and prose only teach it the words.
const QUESTION_WEIGHT: f32 = 0.1;
const ANSWER_WEIGHT: f32 = 1.0;
const PROSE_WEIGHT: f32 = 0.3;
/// Longest window of prose, as attention grows with its square.
const WINDOW_TOKENS: usize = 160;
/// Prose of an epoch, at most, as a share of its conversations' tokens.
const PROSE_SHARE: f64 = 0.2;

/// Sequences of a batch that one thread computes, and how their predictions
/// count.
pub(crate) struct Shard {
    pub(crate) tokens: Tokens,
    pub(crate) targets: Vec<u32>,
    pub(crate) weights: Vec<f32>,
}

pub(crate) struct Batch {
    pub(crate) shards: Vec<Shard>,
    /// Sum of all weights: the loss is a mean over it.
    pub(crate) weight: f32,
    /// Tokens without padding.
    pub(crate) tokens: usize,
}

/// A sequence, with the weight of each token as something to predict.
#[derive(Default)]
struct Sequence {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl Sequence {
    fn push(&mut self, ids: &[u32], weight: f32) {
        self.ids.extend_from_slice(ids);
        self.weights.resize(self.ids.len(), weight);
    }
}

/// The texts in tokens, ready to draw epochs from.
pub(crate) struct Corpus<'a> {
    vocabulary: &'a Vocabulary,
    /// Each answer with its tokens.
    answers: Vec<(&'a Answer, Vec<u32>)>,
    prose: Vec<Vec<u32>>,
}

impl<'a> Corpus<'a> {
    pub(crate) fn new(texts: &'a Texts, vocabulary: &'a Vocabulary) -> Result<Self> {
        let mut answers = Vec::with_capacity(texts.answers.len());
        for answer in &texts.answers {
            answers.push((answer, vocabulary.encode(&answer.text)?));
        }
        let mut prose = Vec::new();
        for paragraph in &texts.prose {
            let mut ids = vocabulary.encode(paragraph)?;
            ids.push(vocabulary.marks.end);
            prose.extend(ids.chunks(WINDOW_TOKENS).map(<[u32]>::to_vec));
        }
        Ok(Self { vocabulary, answers, prose })
    }

    /// All phrasings once, in varied form, with some prose between.
    pub(crate) fn epoch(&self, rng: &mut Rng) -> Result<Vec<Batch>> {
        let mut sequences = self.conversations(rng)?;
        let tokens: usize = sequences.iter().map(|sequence| sequence.ids.len()).sum();
        let mut prose: Vec<&Vec<u32>> = self.prose.iter().filter(|ids| ids.len() > 1).collect();
        rng.shuffle(&mut prose);
        let mut left = tokens as f64 * PROSE_SHARE;
        for ids in prose {
            left -= ids.len() as f64;
            if left < 0.0 {
                break;
            }
            let mut sequence = Sequence::default();
            sequence.push(ids, PROSE_WEIGHT);
            sequences.push(sequence);
        }
        // Batches of like length need little padding; shuffled first, so that
        // sequences of one length meet others in every epoch.
        rng.shuffle(&mut sequences);
        sequences.sort_by_key(|sequence| sequence.ids.len());
        let padding = self.vocabulary.marks.padding;
        let mut batches: Vec<Batch> = sequences.chunks(BATCH).map(|chunk| batch(chunk, padding)).collect();
        rng.shuffle(&mut batches);
        Ok(batches)
    }

    /// Mostly one question each; some continue with a second or third, as a
    /// reader's conversation does.
    fn conversations(&self, rng: &mut Rng) -> Result<Vec<Sequence>> {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for (at, (answer, _)) in self.answers.iter().enumerate() {
            pairs.extend((0..answer.phrasings.len()).map(|phrasing| (at, phrasing)));
        }
        rng.shuffle(&mut pairs);
        let mut sequences = Vec::with_capacity(pairs.len());
        let mut rest = pairs.as_slice();
        while !rest.is_empty() {
            let turns = match rng.below(32) {
                0 => 3,
                1..4 => 2,
                _ => 1,
            };
            let (taken, left) = rest.split_at(turns.min(rest.len()));
            rest = left;
            let mut sequence = Sequence::default();
            for (answer, phrasing) in taken {
                self.push_turn(&mut sequence, *answer, *phrasing, rng)?;
            }
            sequences.push(sequence);
        }
        Ok(sequences)
    }

    /// One question and its answer, in the format of the chat template.
    fn push_turn(&self, to: &mut Sequence, answer: usize, phrasing: usize, rng: &mut Rng) -> Result<()> {
        let marks = self.vocabulary.marks;
        let (answer, ids) = &self.answers[answer];
        let question = augment::question(&answer.phrasings, phrasing, &answer.text, rng);
        // Nothing tells that a next question comes: not worth learning.
        to.push(&[marks.user], 0.0);
        to.push(&self.vocabulary.encode(&question)?, QUESTION_WEIGHT);
        to.push(&[marks.end, marks.assistant], QUESTION_WEIGHT);
        to.push(ids, ANSWER_WEIGHT);
        to.push(&[marks.end], ANSWER_WEIGHT);
        Ok(())
    }
}

/// Deals neighbours out to shards, so that shards are of like size.
fn batch(sequences: &[Sequence], padding: u32) -> Batch {
    let shards: Vec<Shard> = (0..SHARDS)
        .map(|first| sequences.iter().skip(first).step_by(SHARDS).collect::<Vec<_>>())
        .filter(|members| !members.is_empty())
        .map(|members| shard(&members, padding))
        .collect();
    Batch {
        weight: shards.iter().flat_map(|shard| &shard.weights).sum(),
        tokens: sequences.iter().map(|sequence| sequence.ids.len()).sum(),
        shards,
    }
}

/// Pads to one length; each token but the last predicts its successor.
fn shard(sequences: &[&Sequence], padding: u32) -> Shard {
    let longest = sequences.iter().map(|sequence| sequence.ids.len()).max();
    let seq = longest.unwrap_or(1) - 1;
    let total = sequences.len() * seq;
    let mut ids = Vec::with_capacity(total);
    let mut targets = Vec::with_capacity(total);
    let mut weights = Vec::with_capacity(total);
    for sequence in sequences {
        let end = ids.len() + seq;
        ids.extend_from_slice(&sequence.ids[..sequence.ids.len() - 1]);
        targets.extend_from_slice(&sequence.ids[1..]);
        weights.extend_from_slice(&sequence.weights[1..]);
        ids.resize(end, padding);
        targets.resize(end, padding);
        weights.resize(end, 0.0);
    }
    let batch = sequences.len();
    Shard { tokens: Tokens { ids, batch, seq }, targets, weights }
}
