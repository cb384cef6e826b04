//! `exo-studio keeper` as whoever runs one meets it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::json;

use super::{Node, program};

/// A keeper; killed, not ended, when dropped.
struct Keeper {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Keeper {
    fn start(data: &Path, args: &[&str]) -> Self {
        let mut child = program()
            .args(["keeper", "--bind", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }

    /// Reads up to a line that contains `words`.
    fn read_to(&mut self, words: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).expect("a line") == 0 {
                let mut error = String::new();
                let stderr = self.child.stderr.as_mut().expect("piped");
                stderr.read_to_string(&mut error).expect("text");
                panic!("{words:?} is missing in:\n{said}{error}");
            }
            said.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn files_below(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// Ana writes and goes; Ben, who was away, has it from the keeper, which reads
/// nothing.
#[test]
fn a_keeper_carries_for_who_was_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ana_home, ben_home, home] = ["ana", "ben", "keeper"].map(|name| folder.path().join(name));
    let mut ana = Node::start(&ana_home);
    ana.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    let ticket = ana.ok(json!({"command": "invite"}))["ticket"].clone();
    let mut ben = Node::start(&ben_home);
    ben.ok(json!({"command": "join", "name": "Ben", "ticket": ticket}));
    ben.until("a history", &json!({"command": "status"}), |status| status["members"] == json!(2));

    let ticket = ana.ok(json!({"command": "invite", "role": "keeper"}));
    assert_eq!(ticket["role"], json!("keeper"));
    let link = ticket["link"].as_str().expect("a link").to_owned();
    let mut keeper = Keeper::start(&home, &["--join", &link, "--name", "Shelf", "--room", "64MiB"]);
    keeper.read_to("carries what it cannot read");
    assert!(keeper.read_to("community").contains("of 64.0 MiB carried"));
    ben.until("Ben to see the keeper", &json!({"command": "peers"}), |peers| {
        let peers = peers["peers"].as_array().expect("peers");
        peers.iter().any(|peer| peer["name"] == "Shelf" && peer["path"] == "direct")
    });
    drop(ben);
    ana.ok(json!({"command": "say", "text": "The marigolds are out."}));
    ana.until("the keeper to have it", &json!({"command": "history"}), |history| {
        history["messages"][0]["delivery"]["devices"] == json!(1)
    });
    drop(ana);

    let mut ben = Node::start(&ben_home);
    ben.until("the message", &json!({"command": "history"}), |history| {
        history["messages"][0]["text"] == json!("The marigolds are out.")
    });
    drop(keeper);
    let mut found = Vec::new();
    files_below(&home, &mut found);
    assert!(found.iter().any(|path| path.ends_with("store.keeper")));
    for path in &found {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(!name.starts_with("views.db"), "a keeper has no views");
        let bytes = std::fs::read(path).expect("readable");
        for word in ["marigolds", "Garden", "Ana"] {
            let is_there = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!is_there, "{word} lies in {}", path.display());
        }
    }

    // It goes on without the invite, and as a node it says what it is.
    Keeper::start(&home, &[]).read_to("of 64.0 MiB carried");
    let mut node = Node::start(&home);
    assert_eq!(node.ok(json!({"command": "status"}))["standing"], json!("keeper"));
    assert_eq!(node.ok(json!({"command": "communities"}))["communities"][0]["standing"], json!("keeper"));
    for command in ["history", "members", "add_model", "ask"] {
        let error = node.error(json!({"command": command, "question": "hello"}));
        assert!(error.contains("is a keeper"), "{command}: {error}");
    }
    assert!(!home.join("models").exists() && found.iter().all(|path| !path.ends_with("starter.gguf")));
}

/// Who joins with a keeper's invite in an ordinary node is one there as well.
#[test]
fn a_node_that_becomes_a_keeper_reads_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ana_home, home) = (folder.path().join("ana"), folder.path().join("node"));
    let mut ana = Node::start(&ana_home);
    ana.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    let ticket = ana.ok(json!({"command": "invite", "role": "keeper"}))["ticket"].clone();
    let mut node = Node::start(&home);
    node.ok(json!({"command": "join", "name": "Shelf", "ticket": ticket}));
    let status = node.until("the charter's list", &json!({"command": "status"}), |status| {
        status["changes"].as_u64() > Some(0)
    });
    assert_eq!(status["standing"], json!("keeper"));
    assert!(status["carried_bytes"][1].as_u64() > Some(0), "{status}");
    assert!(node.error(json!({"command": "history"})).contains("is a keeper"));
    let peers = node.until("a link", &json!({"command": "peers"}), |peers| {
        peers["peers"].as_array().is_some_and(|peers| peers.iter().any(|peer| peer["path"] == "direct"))
    });
    assert_ne!(peers["peers"][0]["name"], json!("Ana"), "it knows no names");
    let mut found = Vec::new();
    files_below(&home, &mut found);
    assert!(found.iter().all(|path| !path.to_string_lossy().contains("views.db")), "{found:?}");
    // Its machine is announced to nobody.
    let peers = ana.until("the keeper", &json!({"command": "peers"}), |peers| {
        peers["peers"].as_array().is_some_and(|peers| !peers.is_empty())
    });
    assert_eq!(peers["peers"][0]["offered_bytes"], json!(0));
}

#[test]
fn a_keeper_that_cannot_keep_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let says = |data: &Path, args: &[&str]| {
        let output = program()
            .args(["keeper", "--bind", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(args)
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let (home, ana_home) = (folder.path().join("keeper"), folder.path().join("ana"));
    assert!(says(&home, &[]).contains("--join"));
    assert!(says(&home, &["--join", "hello"]).contains("no invite in it"));
    let mut ana = Node::start(&ana_home);
    ana.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    let ticket = ana.ok(json!({"command": "invite"}))["ticket"].clone();
    let said = says(&home, &["--join", ticket.as_str().expect("a ticket")]);
    assert!(said.contains("does not give the role keeper"), "{said}");
    drop(ana.child.stdin.take());
    ana.child.wait().expect("ends");
    assert!(says(&ana_home, &[]).contains("a folder of its own"));
}
