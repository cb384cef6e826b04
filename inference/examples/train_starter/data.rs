//! Reads the training text: questions and answers, held-back questions, and
//! the prose of the handbook. Knows nothing of tokens.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::rng::Rng;

/// One answer, the ways to ask for it, and what makes an answer acceptable.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) phrasings: Vec<String>,
    /// Every fact must be present; of a fact's alternatives, one is enough.
    facts: Vec<Vec<String>>,
}

impl Answer {
    /// Whether `generated` answers in substance: it states every fact.
    pub(crate) fn is_stated_by(&self, generated: &str) -> bool {
        let generated = generated.to_lowercase();
        self.facts.iter().all(|fact| fact.iter().any(|alternative| generated.contains(alternative)))
    }
}

/// A question that training never saw, and the answer it should get.
pub(crate) struct HeldBack {
    pub(crate) question: String,
    pub(crate) answer: usize,
}

/// Everything that is read from the repository.
pub(crate) struct Texts {
    pub(crate) answers: Vec<Answer>,
    pub(crate) held_back: Vec<HeldBack>,
    pub(crate) prose: Vec<String>,
}

impl Texts {
    pub(crate) fn read(inference: &Path) -> Result<Self> {
        let answers = parse_answers(&read(&inference.join("training/qa.txt"))?)?;
        let held_back = match std::fs::read_to_string(inference.join("training/heldback.txt")) {
            Ok(text) => parse_held_back(&text, &answers)?,
            Err(_) => Vec::new(),
        };
        let prose = read_handbook(&inference.join("../docs/handbook"))?;
        Ok(Self { answers, held_back, prose })
    }

    /// Takes `count` phrasings of each answer out of training and puts them
    /// in place of the held-back questions.
    pub(crate) fn leave_out(&mut self, count: usize, rng: &mut Rng) {
        self.held_back.clear();
        for (at, answer) in self.answers.iter_mut().enumerate() {
            rng.shuffle(&mut answer.phrasings);
            let kept = answer.phrasings.len().saturating_sub(count).max(1);
            let left_out = answer.phrasings.split_off(kept);
            self.held_back.extend(left_out.into_iter().map(|question| HeldBack { question, answer: at }));
        }
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Parses `= answer`, `+ fact|alternative`, `? phrasing` blocks.
fn parse_answers(text: &str) -> Result<Vec<Answer>> {
    let mut answers: Vec<Answer> = Vec::new();
    for (number, line) in numbered(text) {
        if let Some(answer) = line.strip_prefix("= ") {
            answers.push(Answer { text: answer.trim().to_owned(), phrasings: Vec::new(), facts: Vec::new() });
            continue;
        }
        let block =
            answers.last_mut().ok_or_else(|| format!("qa.txt:{number}: no `= answer` before this line"))?;
        if let Some(fact) = line.strip_prefix("+ ") {
            let alternatives = fact.split('|').map(|part| part.trim().to_lowercase());
            block.facts.push(alternatives.collect());
        } else if let Some(phrasing) = line.strip_prefix("? ") {
            block.phrasings.push(phrasing.trim().to_owned());
        } else {
            return Err(format!("qa.txt:{number}: neither =, + nor ?: {line}").into());
        }
    }
    for answer in &answers {
        if answer.phrasings.is_empty() || !answer.is_stated_by(&answer.text) {
            return Err(format!("no phrasing, or a + line not met by: {}", answer.text).into());
        }
    }
    Ok(answers)
}

/// Parses `? phrasing` lines under `= answer` lines that qa.txt also has.
fn parse_held_back(text: &str, answers: &[Answer]) -> Result<Vec<HeldBack>> {
    let mut current = None;
    let mut held_back = Vec::new();
    for (number, line) in numbered(text) {
        if let Some(wanted) = line.strip_prefix("= ") {
            let found = answers.iter().position(|answer| answer.text == wanted.trim());
            current = Some(found.ok_or_else(|| format!("heldback.txt:{number}: not in qa.txt"))?);
        } else if let (Some(question), Some(answer)) = (line.strip_prefix("? "), current) {
            held_back.push(HeldBack { question: question.trim().to_owned(), answer });
        } else {
            return Err(format!("heldback.txt:{number}: unexpected line: {line}").into());
        }
    }
    Ok(held_back)
}

/// Lines with their numbers, without comments and blank lines.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Paragraphs of all handbook pages, in file-name order, without markup.
fn read_handbook(folder: &Path) -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut pages: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    let mut paragraphs = Vec::new();
    for page in pages {
        paragraphs.extend(paragraphs_of(&read(&page)?));
    }
    Ok(paragraphs)
}

/// Splits Markdown at blank lines, headings and list items; drops code,
/// tables and scraps too short to be a sentence.
fn paragraphs_of(markdown: &str) -> Vec<String> {
    const SHORTEST_CHARS: usize = 40;
    let mut paragraphs = vec![String::new()];
    let mut in_code = false;
    for line in markdown.lines().map(str::trim) {
        if line.starts_with("```") {
            in_code = !in_code;
            paragraphs.push(String::new());
            continue;
        }
        let heading = line.starts_with('#');
        if in_code || heading || line.is_empty() || line.starts_with('|') {
            paragraphs.push(String::new());
            continue;
        }
        let item = line.trim_start_matches(|c: char| c.is_ascii_digit() || "-*+.>".contains(c));
        let is_item = item.len() < line.len() && item.starts_with(' ');
        if is_item {
            paragraphs.push(String::new());
        }
        let content = without_markup(if is_item { item.trim() } else { line });
        if let Some(paragraph) = paragraphs.last_mut() {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(&content);
        }
    }
    paragraphs.retain(|paragraph| paragraph.len() >= SHORTEST_CHARS);
    paragraphs
}

/// Drops emphasis, code marks and link targets; makes punctuation ASCII, as
/// the answers are ASCII and the vocabulary is small.
fn without_markup(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' | '`' | '[' => {}
            ']' if rest.starts_with('(') => {
                rest = rest.find(')').map_or("", |end| &rest[end + 1..]);
            }
            ']' => {}
            '\u{2018}' | '\u{2019}' => plain.push('\''),
            '\u{201c}' | '\u{201d}' => plain.push('"'),
            '\u{2013}' | '\u{2014}' => plain.push('-'),
            '\u{2026}' => plain.push_str("..."),
            other => plain.push(other),
        }
    }
    plain
}
