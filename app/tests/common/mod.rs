//! The program as a process that speaks JSON lines.
#![allow(dead_code, reason = "compiled into every test file, each uses a part")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for anything; nothing should take a tenth of it.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo-studio"));
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

/// A node that speaks JSON lines; killed, not ended, when dropped.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) output: BufReader<ChildStdout>,
    next_id: u64,
}

impl Node {
    pub(crate) fn start(data: &Path) -> Self {
        let mut child = program()
            .args(["node", "--json", "--bind", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut node = Self { child, output, next_id: 1 };
        assert!(node.read()["ready"]["device"].is_string());
        node
    }

    pub(crate) fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub(crate) fn write(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{line}").expect("taken");
    }

    /// Sends a command and returns its answer, `ok` or `error`.
    pub(crate) fn call(&mut self, mut command: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        command["id"] = json!(id);
        self.write(&command.to_string());
        loop {
            let answer = self.read();
            if answer["id"] == json!(id) && answer.get("event").is_none() {
                return answer;
            }
        }
    }

    pub(crate) fn ok(&mut self, command: Value) -> Value {
        let answer = self.call(command);
        assert!(answer.get("error").is_none(), "{answer}");
        answer["ok"].clone()
    }

    pub(crate) fn error(&mut self, command: Value) -> String {
        self.call(command)["error"].as_str().expect("an error").to_owned()
    }

    pub(crate) fn messages(&mut self) -> Vec<String> {
        let history = self.ok(json!({"command": "history", "limit": 500}));
        let messages = history["messages"].as_array().expect("messages");
        messages.iter().map(|message| message["text"].as_str().expect("text").to_owned()).collect()
    }
}

impl Node {
    /// Messages, or none while there is no channel to read yet.
    pub(crate) fn messages_if_any(&mut self) -> Vec<String> {
        let answer = self.call(json!({"command": "history", "limit": 500}));
        let messages = answer["ok"]["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().filter_map(|message| message["text"].as_str().map(ToOwned::to_owned)).collect()
    }

    /// Kills it and starts it again.
    pub(crate) fn restart(&mut self, data: &Path) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        *self = Self::start(data);
    }
}

/// Waits until `check` holds.
pub(crate) fn until(what: &str, mut check: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(begun.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("runs")
}
