//! Varies a question as people would type it, anew in every epoch.
//!
//! The number of phrasings bounds how well the model understands, not its
//! size, so each written phrasing stands for many: other words for the same
//! frame, politeness, capitals, punctuation and slips of the finger. Nothing
//! here may change what is asked: words such as "off" or "not" stay.

use crate::rng::Rng;

const PREFIXES: &[&str] = &[
    "please tell me ",
    "hey, ",
    "hi, ",
    "hello, ",
    "can you tell me ",
    "could you tell me ",
    "i want to know ",
    "i would like to know ",
    "quick question: ",
    "question: ",
    "so ",
    "ok, ",
    "sorry, ",
    "tell me ",
    "do you know ",
    "hi there! ",
    "um, ",
    "one more thing: ",
    "help: ",
    "i was wondering, ",
    "please, ",
    "in exo studio, ",
    "and ",
    "please explain ",
];

const SUFFIXES: &[&str] = &[
    " please",
    ", please",
    " thanks",
    ", thanks",
    " in exo studio",
    " here",
    " pls",
    " in this app",
    ", thank you",
    " exactly",
    " in exo",
    " then",
];

/// Interchangeable words, matched as whole words. Broad meaning only: a
/// group never holds words that some answer tells apart.
const SWAPS: &[&[&str]] = &[
    &["how do i", "how can i", "how do you", "how to", "what's the way to", "how would i"],
    &["what is", "what's", "whats"],
    &["what does", "what do"],
    &["where is", "where's", "where do i find", "where can i find"],
    &["can i", "could i", "is it possible to", "may i", "am i able to"],
    &["do i need", "do i have to have", "must i have", "will i need"],
    &["do i have to", "must i", "do i need to"],
    &["i am", "i'm", "im"],
    &["i have", "i've", "ive"],
    &["don't", "do not", "dont"],
    &["can't", "cannot", "can not", "cant"],
    &["doesn't", "does not", "doesnt"],
    &["isn't", "is not", "isnt"],
    &["computer", "machine", "pc", "laptop"],
    &["someone", "somebody", "a person", "another person"],
    &["everyone", "everybody", "all people"],
    &["picture", "image", "photo"],
    &["delete", "remove", "get rid of"],
    &["begin", "start"],
    &["show", "display"],
    &["use", "work with"],
    &["explain", "describe"],
    &["mean", "stand for"],
    &["kind", "sort"],
    &["quick", "fast"],
    &["problem", "trouble", "issue"],
    &["app", "program", "application"],
    &["see", "look at", "view"],
    &["make", "create"],
    &["happens", "will happen"],
];

/// Words a hurried writer leaves out without harm.
const DROPPABLE: &[&str] = &["the", "a", "an", "do", "i", "is", "to", "of", "my", "me", "can", "it"];

/// Words that say little about the subject of a question.
const LIGHT: &[&str] = &[
    "the", "a", "an", "do", "does", "i", "is", "are", "to", "of", "my", "me", "can", "it", "in", "and",
    "for", "on", "with", "this", "that", "what", "how", "you", "be", "there", "or", "at", "if", "am", "so",
    "we", "which", "when", "any", "have", "has", "get", "will", "by", "as",
];

/// A question for an answer that can be asked by `phrasings` and says `text`:
/// a phrasing, a blend of two, or bare keywords; then varied as if typed.
pub(crate) fn question(phrasings: &[String], at: usize, text: &str, rng: &mut Rng) -> String {
    let phrasing = &phrasings[at];
    let other = &phrasings[rng.below(phrasings.len())];
    let chosen = match rng.below(20) {
        0..3 => spliced(phrasing, other, rng),
        3..6 => keywords(&format!("{phrasing} {other}"), rng),
        6 => keywords(&format!("{phrasing} {text}"), rng),
        _ => phrasing.clone(),
    };
    vary(&chosen, rng)
}

/// The beginning of one question with the end of another. Often no good
/// English, but its words belong to the answer, and that is to be learned.
fn spliced(one: &str, other: &str, rng: &mut Rng) -> String {
    let one: Vec<&str> = one.split(' ').collect();
    let other: Vec<&str> = other.split(' ').collect();
    let begin = 1 + rng.below(one.len());
    let end = rng.below(other.len());
    [&one[..begin], &other[end..]].concat().join(" ")
}

/// A few words of `text` that carry meaning, in any order.
fn keywords(text: &str, rng: &mut Rng) -> String {
    let trim = |word: &'_ str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    let mut words: Vec<String> = text.split(' ').map(trim).collect();
    words.retain(|word| !word.is_empty() && !LIGHT.contains(&word.to_ascii_lowercase().as_str()));
    rng.shuffle(&mut words);
    words.truncate(2 + rng.below(4));
    if words.is_empty() { text.to_owned() } else { words.join(" ") }
}

/// One varied form of `question`.
fn vary(question: &str, rng: &mut Rng) -> String {
    let mut text = question.to_owned();
    if rng.chance(0.3) {
        swap_words(&mut text, rng);
    }
    if rng.chance(0.5) {
        text = text.trim_end_matches(['?', '.', '!', ' ']).to_owned();
    }
    if rng.chance(0.12) {
        drop_word(&mut text, rng);
    }
    // "hello" or "thanks" alone is small talk: courtesy would change it.
    let is_question = text.split(' ').count() >= 3;
    if is_question && rng.chance(0.2) {
        text = format!("{}{}", rng.pick(PREFIXES), lower_first(&text));
    }
    if is_question && rng.chance(0.1) {
        let body = text.trim_end_matches(['?', '.', '!', ' ']);
        text = format!("{body}{}", rng.pick(SUFFIXES));
    }
    if rng.chance(0.18) {
        slip(&mut text, rng);
        if rng.chance(0.2) {
            slip(&mut text, rng);
        }
    }
    if !text.ends_with(['?', '.', '!']) && rng.chance(0.3) {
        text.push_str(rng.pick(&["?", "?", "?", ".", "??", "!", " ?"]));
    }
    recase(text, rng)
}

/// Replaces one known expression by another of its group.
fn swap_words(text: &mut String, rng: &mut Rng) {
    let lower = text.to_ascii_lowercase();
    let first = rng.below(SWAPS.len());
    for turn in 0..SWAPS.len() {
        let group = SWAPS[(first + turn) % SWAPS.len()];
        let hit = group.iter().find_map(|words| whole_word(&lower, words).map(|at| (at, words.len())));
        if let Some((at, length)) = hit {
            text.replace_range(at..at + length, rng.pick(group));
            return;
        }
    }
}

/// Where `words` stands in `text` with no letter, digit or apostrophe beside.
fn whole_word(text: &str, words: &str) -> Option<usize> {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'\'');
    let bytes = text.as_bytes();
    text.match_indices(words).map(|(at, _)| at).find(|&at| {
        let before = at.checked_sub(1).and_then(|previous| bytes.get(previous));
        !is_part(before) && !is_part(bytes.get(at + words.len()))
    })
}

/// Leaves out one word that carries little; short questions stay whole.
fn drop_word(text: &mut String, rng: &mut Rng) {
    let words: Vec<&str> = text.split(' ').collect();
    let light = |word: &&str| DROPPABLE.contains(&word.to_ascii_lowercase().as_str());
    let candidates: Vec<usize> = (0..words.len()).filter(|&at| light(&words[at])).collect();
    if words.len() < 4 || candidates.is_empty() {
        return;
    }
    let gone = candidates[rng.below(candidates.len())];
    let kept = words.iter().enumerate().filter(|(at, _)| *at != gone);
    *text = kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ");
}

/// A typing slip: two letters swapped, one lost, or one doubled. It needs a
/// word of five letters, so that "on" never becomes "no".
fn slip(text: &mut String, rng: &mut Rng) {
    let mut bytes = text.clone().into_bytes();
    let letters = |at: usize| bytes[at..at + 5].iter().all(u8::is_ascii_alphabetic);
    let places: Vec<usize> = (0..bytes.len().saturating_sub(4)).filter(|&at| letters(at)).collect();
    if places.is_empty() {
        return;
    }
    let at = places[rng.below(places.len())] + 1 + rng.below(3);
    match rng.below(3) {
        0 => bytes.swap(at, at + 1),
        1 => drop(bytes.remove(at)),
        _ => bytes.insert(at, bytes[at]),
    }
    if let Ok(slipped) = String::from_utf8(bytes) {
        *text = slipped;
    }
}

fn recase(text: String, rng: &mut Rng) -> String {
    match rng.below(20) {
        0..8 => text,
        8..15 => text.to_ascii_lowercase(),
        15..19 => {
            let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
            format!("{}{rest}", first.to_ascii_uppercase())
        }
        _ => text.to_ascii_uppercase(),
    }
}

fn lower_first(text: &str) -> String {
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    format!("{}{rest}", first.to_ascii_lowercase())
}
