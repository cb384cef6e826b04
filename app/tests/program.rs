//! The program as a person or another program meets it.

#[path = "program/files.rs"]
mod files;
#[path = "program/invites.rs"]
mod invites;
#[path = "program/keeper.rs"]
mod keeper;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo-studio"));
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

/// A node that speaks JSON lines; killed, not ended, when dropped.
struct Node {
    child: Child,
    output: BufReader<ChildStdout>,
    next_id: u64,
}

impl Node {
    fn start(data: &Path) -> Self {
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

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn write(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{line}").expect("taken");
    }

    /// Sends a command and returns its answer, `ok` or `error`.
    fn call(&mut self, mut command: Value) -> Value {
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

    fn ok(&mut self, command: Value) -> Value {
        let answer = self.call(command);
        assert!(answer.get("error").is_none(), "{answer}");
        answer["ok"].clone()
    }

    fn error(&mut self, command: Value) -> String {
        self.call(command)["error"].as_str().expect("an error").to_owned()
    }

    fn messages(&mut self) -> Vec<String> {
        let history = self.ok(json!({"command": "history", "limit": 500}));
        let messages = history["messages"].as_array().expect("messages");
        messages.iter().map(|message| message["text"].as_str().expect("text").to_owned()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long something that comes over the network may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

impl Node {
    /// Asks again and again until `done` holds of the answer.
    fn until(&mut self, what: &str, command: &Value, done: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.ok(command.clone());
            if done(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("runs")
}

#[test]
fn the_demo_holds_every_check() {
    let output = run(&["demo", "--json", "--ask", "what is a work unit?"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let lines: Vec<_> = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "one JSON object");
    let report: Value = serde_json::from_slice(lines[0]).expect("JSON");
    assert_eq!(report["ok"], json!(true));
    assert_eq!(report["peers"], json!(3));
    assert_eq!(report["refused"], json!(2));
    check_plan(&report);
    check_agreement(&report);
    assert!(report["tokens"].as_u64() > Some(0) && report["tokens_per_second"].as_f64() > Some(0.0));
    assert!(!report["text"].as_str().expect("text").is_empty());
}

/// The plan covers every layer once, with a machine each; Ben and Chloe
/// fetched a part of the file, Ana nothing.
fn check_plan(report: &Value) {
    let plan = report["plan"].as_array().expect("a plan");
    let mut peers: Vec<_> = plan.iter().map(|stage| stage["peer"].as_str().expect("a name")).collect();
    let mut reached = 0;
    for stage in plan {
        assert_eq!(stage["layers"][0].as_u64(), Some(reached));
        reached = stage["layers"][1].as_u64().expect("a number");
    }
    assert_eq!(reached, 6, "the starter model has six layers");
    peers.sort_unstable();
    assert_eq!(peers, ["Ana", "Ben", "Chloe"]);
    let size = report["model_bytes"].as_u64().expect("a size");
    let fetched = |name: &str| report["bytes_fetched"][name].as_u64().expect("a number");
    assert_eq!(fetched("Ana"), 0);
    for name in ["Ben", "Chloe"] {
        assert!(fetched(name) > 0 && fetched(name) < size / 2, "{name} fetched {} of {size}", fetched(name));
    }
}

/// Three equal hashes; balances that sum to zero, with Ana paying both others.
fn check_agreement(report: &Value) {
    let hashes = report["state_hash"].as_array().expect("hashes");
    assert!(hashes.len() == 3 && hashes.iter().all(|hash| hash == &hashes[0]));
    let balance = |name: &str| report["balances"][name].as_i64().expect("a balance");
    assert_eq!(balance("Ana") + balance("Ben") + balance("Chloe"), 0);
    assert!(balance("Ben") > 0 && balance("Chloe") > 0);
}

#[test]
fn p2_a_killed_node_loses_nothing_it_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut said = Vec::new();
    for round in 0..6 {
        let mut node = Node::start(folder.path());
        if round == 0 {
            node.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
        }
        assert_eq!(node.messages(), said, "round {round}");
        for count in 0..4 {
            let text = format!("message {round}.{count}");
            node.ok(json!({"command": "say", "text": text}));
            said.push(text);
        }
        if round == 3 {
            // The views are a cache: without them everything comes back.
            drop(node);
            for file in ["views.db", "views.db-wal", "views.db-shm"] {
                let _ = std::fs::remove_file(folder.path().join(file));
            }
        }
        // Otherwise dropped here: killed right after the last answer.
    }
    let mut node = Node::start(folder.path());
    assert_eq!(node.messages(), said);
    assert_eq!(node.ok(json!({"command": "audit"}))["feeds"], json!(4));
}

#[test]
fn one_person_alone_asks_the_built_in_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(folder.path());
    node.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    let error = node.error(json!({"command": "ask", "question": "hello"}));
    assert!(error.contains("no model"), "{error}");
    node.ok(json!({"command": "add_model"}));
    node.ok(json!({"command": "add_model"}));
    let answer = node.ok(json!({"command": "ask", "question": "hello", "max_tokens": 8}));
    assert!(answer["tokens"].as_u64().is_some_and(|tokens| (1..=8).contains(&tokens)), "{answer}");
    assert_eq!(answer["plan"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["spent"], json!([]), "one's own machine is not paid");
    let again = node.ok(json!({"command": "ask", "question": "hello", "max_tokens": 8}));
    assert_eq!(again["text"], answer["text"]);
}

#[test]
fn bad_input_gets_an_answer_and_breaks_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(folder.path());
    for line in ["not json", "[]", "{}", r#"{"id":7,"command":"dance"}"#, r#"{"command":"say"}"#, "\u{0}"] {
        node.write(line);
        assert!(node.read()["error"].is_string(), "{line:?}");
    }
    assert!(node.error(json!({"command": "say", "text": "hi"})).contains("no community"));
    assert!(node.error(json!({"command": "join", "name": "Ben", "ticket": "hello"})).contains("exo1"));
    assert!(node.error(json!({"command": "found", "name": " ", "community": "x"})).contains("your name"));
    node.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    assert!(node.error(json!({"command": "say", "text": "\u{7}"})).contains("empty"));
    assert!(node.error(json!({"command": "say", "text": "x".repeat(17_000)})).contains("16384"));
    assert!(node.error(json!({"command": "invite", "uses": 0})).contains("1 to"));
    assert!(node.error(json!({"command": "add_model", "path": "/does/not/exist.gguf"})).contains("exist"));
    let junk = folder.path().join("junk.gguf");
    std::fs::write(&junk, b"GGUF\xff\xff\xff\xff garbage").expect("written");
    assert!(node.error(json!({"command": "add_model", "path": junk})).contains("junk.gguf"));
    let peer = "00".repeat(32);
    let probe = json!({"command": "probe", "peer": peer, "hostility": "forged_change"});
    assert!(node.error(probe).contains("demo"));
    node.ok(json!({"command": "say", "text": "still here"}));
    assert_eq!(node.messages(), ["still here"]);
}

#[test]
fn a_folder_serves_one_node_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = Node::start(folder.path());
    let second = program().args(["node", "--json", "--data"]).arg(folder.path()).output().expect("runs");
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another Exo-Studio is running"));
}

#[test]
fn without_a_display_the_window_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = program().arg("--data").arg(folder.path()).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("exo-studio node") && said.contains("exo-studio demo"), "{said}");
}

#[test]
fn the_terminal_speaks_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = program()
        .args(["node", "--bind", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    let file = folder.path().join("the garden.exo").display().to_string();
    let lines = [
        "dance",
        "found Ana in The Garden",
        "say hello there",
        "members",
        "history",
        "balances",
        "invites",
        "invite --role guest",
        "invites",
        "invite many",
        "export garden.exo",
        "a passphrase",
        "another one",
        &format!("export \"{file}\""),
        "one passphrase",
        "one passphrase",
        &format!("import \"{file}\""),
        "one passphrase",
        "quit",
    ];
    input.write_all(format!("{}\n", lines.join("\n")).as_bytes()).expect("taken");
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for expected in [
        "no command \"dance\"",
        "You are in The Garden",
        "Ana: hello there  ·",
        "owner",
        "0.000 WU",
        "exo-studio://join/exo1",
        "█",
        "1 of 1 uses left, as guest",
        "made by Ana",
        "No invite is open",
        "error: invalid value 'many'",
        "Nothing was written",
        "The Garden is in ",
        "0 changes new",
        "Goodbye",
    ] {
        assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
    }
}
