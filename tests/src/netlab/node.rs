//! A program that speaks JSON lines, `exo-studio node --json`, driven from
//! outside: everything has a deadline, and it may be killed at any moment.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for an answer unless another is named.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest wait for a node to end after its input did.
const ENDING: Duration = Duration::from_secs(15);
/// Messages of one page; a node gives no more at once.
const PAGE: usize = 500;
/// Commands under way at once in [`Node::all`]: a node takes 16.
const AT_ONCE: usize = 12;

/// Why a command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The process ended.
    Ended,
    /// Nothing came in time.
    Silent,
}

/// A running node; killed, not ended, when dropped.
pub struct Node {
    /// Its device id.
    pub device: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// Answers that came while another was waited for.
    early: BTreeMap<u64, Value>,
    next_id: u64,
}

impl Node {
    /// Starts a node and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(command: &mut Command) -> Self {
        Self::try_start(command).unwrap_or_else(|error| panic!("a node does not start: {error:?}"))
    }

    /// Starts a node that may be killed before it is ready.
    ///
    /// # Errors
    /// When it ends before it is ready.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn try_start(command: &mut Command) -> Result<Self, Gone> {
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program is there");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let input = child.stdin.take();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { continue };
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut node =
            Self { device: String::new(), child, input, lines, early: BTreeMap::new(), next_id: 1 };
        let ready = node.lines.recv_timeout(ANSWER).map_err(why)?;
        node.device = ready["ready"]["device"].as_str().expect("the first line says ready").to_owned();
        Ok(node)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a command without waiting for its answer.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn send(&mut self, mut command: Value) -> Result<u64, Gone> {
        let id = self.next_id;
        self.next_id += 1;
        command["id"] = json!(id);
        let input = self.input.as_mut().ok_or(Gone::Ended)?;
        writeln!(input, "{command}").map_err(|_| Gone::Ended)?;
        Ok(id)
    }

    /// Waits for the answer to a command: its `ok`, or its error as text.
    ///
    /// # Errors
    /// When the node ended, or says nothing for too long.
    pub fn answer(&mut self, id: u64, within: Duration) -> Result<Result<Value, String>, Gone> {
        let end = Instant::now() + within;
        let mut line = self.early.remove(&id);
        loop {
            if let Some(mut line) = line {
                return Ok(match line["error"].as_str() {
                    Some(error) => Err(error.to_owned()),
                    None => Ok(line["ok"].take()),
                });
            }
            let left = end.saturating_duration_since(Instant::now());
            let next = self.lines.recv_timeout(left).map_err(why)?;
            line = None;
            match next["id"].as_u64() {
                _ if next.get("event").is_some() => {}
                Some(other) if other == id => line = Some(next),
                Some(other) => drop(self.early.insert(other, next)),
                None => {}
            }
        }
    }

    /// Whether the answer to a command has come.
    pub fn has_answered(&mut self, id: u64) -> bool {
        while let Ok(next) = self.lines.try_recv() {
            if let (Some(other), None) = (next["id"].as_u64(), next.get("event")) {
                self.early.insert(other, next);
            }
        }
        self.early.contains_key(&id)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn call(&mut self, command: Value) -> Result<Result<Value, String>, Gone> {
        let id = self.send(command)?;
        self.answer(id, ANSWER)
    }

    /// Sends a command that has to succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn ok(&mut self, command: Value) -> Value {
        let what = command["command"].to_string();
        match self.call(command) {
            Ok(Ok(answer)) => answer,
            other => panic!("{what}: {other:?}"),
        }
    }

    /// Sends commands, several at a time, that all have to succeed.
    ///
    /// # Panics
    /// When one does not.
    pub fn all(&mut self, commands: impl IntoIterator<Item = Value>) {
        let mut under_way = std::collections::VecDeque::new();
        for command in commands {
            if under_way.len() == AT_ONCE {
                self.must(under_way.pop_front());
            }
            under_way.push_back(self.send(command).expect("the node is there"));
        }
        while !under_way.is_empty() {
            self.must(under_way.pop_front());
        }
    }

    fn must(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.answer(id, ANSWER).expect("the node is there").expect("done");
        }
    }

    /// All messages, oldest first, page by page.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn messages(&mut self) -> Result<Vec<String>, Gone> {
        let mut pages = Vec::new();
        let mut before = Value::Null;
        loop {
            let page = self.page(&before)?;
            let Some(oldest) = page.first() else { break };
            before = oldest.clone();
            pages.push(page);
        }
        Ok(pages.iter().rev().flatten().map(text_of).collect())
    }

    /// The latest messages, oldest first: those of the last page.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn latest(&mut self) -> Result<Vec<String>, Gone> {
        Ok(self.page(&Value::Null)?.iter().map(text_of).collect())
    }

    /// A page of messages; empty while there is no channel yet.
    fn page(&mut self, before: &Value) -> Result<Vec<Value>, Gone> {
        let history = self.call(json!({"command": "history", "limit": PAGE, "before": before}))?;
        Ok(history.ok().and_then(|history| history["messages"].as_array().cloned()).unwrap_or_default())
    }

    /// Kills the process, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends its input and waits until it has saved everything and gone.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(mut self) {
        self.input = None;
        super::until("a node ends with its input", ENDING, || self.child.try_wait().ok().flatten());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn text_of(message: &Value) -> String {
    message["text"].as_str().unwrap_or_default().to_owned()
}

const fn why(error: RecvTimeoutError) -> Gone {
    match error {
        RecvTimeoutError::Timeout => Gone::Silent,
        RecvTimeoutError::Disconnected => Gone::Ended,
    }
}
