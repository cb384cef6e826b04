//! Tells the demo's story, step by step, in plain words.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use serde_json::Value;

use crate::bytes::human;
use crate::face::terminal::printable;

/// Writes the story to standard output, or to standard error where standard
/// output belongs to JSON.
pub(super) struct Narrator {
    to_stderr: bool,
    steps: u32,
    begun: Instant,
    in_line: bool,
    /// Percent last shown, by name.
    shown: BTreeMap<String, u64>,
}

impl Narrator {
    pub(super) fn new(to_stderr: bool) -> Self {
        Self { to_stderr, steps: 0, begun: Instant::now(), in_line: false, shown: BTreeMap::new() }
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        self.steps += 1;
        let line = format!("\n{:>2}. {}\n", self.steps, printable(title));
        self.break_line();
        self.write(&line);
    }

    /// One line within a step.
    pub(super) fn note(&mut self, line: &str) {
        self.break_line();
        self.write(&format!("    {}\n", printable(line)));
    }

    /// A check that held.
    pub(super) fn held(&mut self, what: &str) {
        self.break_line();
        self.write(&format!("    ✓ {}\n", printable(what)));
    }

    /// How far someone's download is: a line that moves on a terminal, every
    /// quarter elsewhere.
    pub(super) fn progress(&mut self, name: &str, received: u64, total: u64) {
        let percent = received.saturating_mul(100) / total.max(1);
        let step = if self.is_terminal() { 2 } else { 25 };
        let shown = percent / step * step;
        if self.shown.insert(name.to_owned(), shown) == Some(shown) {
            return;
        }
        let line = format!("{} fetches {} of {}: {shown} %", printable(name), human(received), human(total));
        if self.is_terminal() {
            self.write(&format!("\r    {line:<60}"));
            self.in_line = true;
        } else {
            self.note(&line);
        }
    }

    /// Text that arrives piece by piece.
    pub(super) fn stream(&mut self, piece: &str) {
        if !self.in_line {
            self.write("    ");
            self.in_line = true;
        }
        self.write(&printable(piece));
    }

    /// The end, when every check held.
    pub(super) fn end(&mut self, line: &str) {
        self.break_line();
        let seconds = self.begun.elapsed().as_secs_f64();
        self.write(&format!("\n{} ({seconds:.1} s)\nok\n", printable(line)));
    }

    /// The end, when one did not.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        self.break_line();
        self.write(&format!("    ✗ {}\n\nfailed\n", printable(&format!("{error:#}"))));
    }

    /// The one JSON object.
    pub(super) fn object(&mut self, object: &Value) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{object}");
    }

    fn break_line(&mut self) {
        if std::mem::take(&mut self.in_line) {
            self.write("\n");
        }
    }

    fn is_terminal(&self) -> bool {
        if self.to_stderr { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() }
    }

    fn write(&mut self, text: &str) {
        // A closed pipe is the reader's choice.
        if self.to_stderr {
            let mut out = std::io::stderr().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        } else {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}
