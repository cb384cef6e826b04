//! Asks the model in a file, greedily, and counts the answers that are right
//! word by word or in substance. It sees what a reader of the file sees:
//! weights after Q8_0, and the tokenizer of the metadata.

use std::path::Path;

use crate::Result;
use crate::batch::SHARDS;
use crate::data::{Answer, Texts};
use crate::gguf;
use crate::net::{Net, Tokens};
use crate::rng::Rng;
use crate::tokenizer::{Marks, Vocabulary};

const LONGEST_ANSWER_TOKENS: usize = 120;
const BATCH: usize = 32;
const SEEN_PER_ANSWER: usize = 2;
const WRONG_SHOWN: usize = 15;

/// A conversation that ends with `question`, whose answer is known.
struct Case<'a> {
    prompt: Vec<u32>,
    question: &'a str,
    answer: &'a Answer,
    reply: Vec<u32>,
}

/// Evaluates the file at `path` and prints the counts.
pub(crate) fn evaluate(path: &Path, texts: &Texts, seed: u64) -> Result<()> {
    let (parameters, vocabulary) = gguf::read(path)?;
    let net = Net::new(parameters)?;
    let mut rng = Rng::new(seed).fork(u64::MAX);
    let mut seen = Vec::new();
    let mut follow_ups = Vec::new();
    for answer in &texts.answers {
        for _ in 0..SEEN_PER_ANSWER {
            let question = &answer.phrasings[rng.below(answer.phrasings.len())];
            seen.push(case(&vocabulary, None, question, answer)?);
        }
        let earlier = &texts.answers[rng.below(texts.answers.len())];
        let question = &answer.phrasings[rng.below(answer.phrasings.len())];
        follow_ups.push(case(&vocabulary, Some(earlier), question, answer)?);
    }
    let mut held_back = Vec::new();
    for held in &texts.held_back {
        held_back.push(case(&vocabulary, None, &held.question, &texts.answers[held.answer])?);
    }
    score("seen phrasings", seen, &net, &vocabulary)?;
    score("seen phrasings as a second question", follow_ups, &net, &vocabulary)?;
    if held_back.is_empty() {
        println!("held-back phrasings: skipped, there is no training/heldback.txt");
        return Ok(());
    }
    score("held-back phrasings", held_back, &net, &vocabulary)
}

fn case<'a>(
    vocabulary: &Vocabulary,
    earlier: Option<&Answer>,
    question: &'a str,
    answer: &'a Answer,
) -> Result<Case<'a>> {
    let Marks { user, assistant, end, .. } = vocabulary.marks;
    let mut prompt = Vec::new();
    if let Some(earlier) = earlier {
        prompt.push(user);
        prompt.extend(vocabulary.encode(&earlier.phrasings[0])?);
        prompt.extend([end, assistant]);
        prompt.extend(vocabulary.encode(&earlier.text)?);
        prompt.push(end);
    }
    prompt.push(user);
    prompt.extend(vocabulary.encode(question)?);
    prompt.extend([end, assistant]);
    Ok(Case { prompt, question, answer, reply: Vec::new() })
}

fn score(title: &str, mut cases: Vec<Case<'_>>, net: &Net, vocabulary: &Vocabulary) -> Result<()> {
    // Of like length, so that a batch has little padding.
    cases.sort_by_key(|case| case.prompt.len());
    let marks = vocabulary.marks;
    let share = cases.len().div_ceil(SHARDS).max(1);
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let reply_all = |part: &mut [Case<'_>]| -> Result<()> {
            part.chunks_mut(BATCH).try_for_each(|batch| reply(net, batch, marks))
        };
        let spawn = |part| scope.spawn(move || reply_all(part));
        let threads: Vec<_> = cases.chunks_mut(share).map(spawn).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|result| result.unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    let (mut exact, mut stated) = (0, 0);
    let mut wrong = Vec::new();
    for case in &cases {
        let reply = vocabulary.decode(&case.reply)?;
        exact += usize::from(reply == case.answer.text);
        if case.answer.is_stated_by(&reply) {
            stated += 1;
        } else {
            wrong.push((case.question, reply));
        }
    }
    let count = cases.len();
    println!("{title}: {exact} of {count} exact, {stated} of {count} in substance");
    // Spread over the whole, as cases are sorted by length.
    for (question, reply) in wrong.iter().step_by(wrong.len().div_ceil(WRONG_SHOWN).max(1)) {
        println!("  wrong: {question} -> {reply}");
    }
    Ok(())
}

/// Extends each case's reply by the likeliest token until it ends. There is
/// no cache: the whole conversation is computed for each token.
fn reply(net: &Net, cases: &mut [Case<'_>], marks: Marks) -> Result<()> {
    let mut open: Vec<&mut Case<'_>> = cases.iter_mut().collect();
    for _ in 0..LONGEST_ANSWER_TOKENS {
        let next = next_tokens(net, &open, marks.padding)?;
        for (case, token) in open.iter_mut().zip(&next) {
            if *token != marks.end {
                case.reply.push(*token);
            }
        }
        let mut next = next.iter();
        open.retain(|_| next.next().is_some_and(|token| *token != marks.end));
        if open.is_empty() {
            break;
        }
    }
    Ok(())
}

fn next_tokens(net: &Net, cases: &[&mut Case<'_>], padding: u32) -> Result<Vec<u32>> {
    let length = |case: &&mut Case<'_>| case.prompt.len() + case.reply.len();
    let seq = cases.iter().map(length).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(cases.len() * seq);
    let mut lasts = Vec::with_capacity(cases.len());
    for case in cases {
        let start = ids.len();
        ids.extend_from_slice(&case.prompt);
        ids.extend_from_slice(&case.reply);
        lasts.push(u32::try_from(ids.len() - 1)?);
        ids.resize(start + seq, padding);
    }
    let batch = cases.len();
    let hidden = net.hidden(&Tokens { ids, batch, seq }, None)?;
    let lasts = candle_core::Tensor::from_vec(lasts, batch, hidden.device())?;
    let logits = net.logits(&hidden.index_select(&lasts, 0)?)?;
    Ok(logits.argmax(1)?.to_vec1::<u32>()?)
}
