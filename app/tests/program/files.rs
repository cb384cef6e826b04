//! Communities and backups as files, in the hands of a person.

use std::path::Path;
use std::process::Output;

use serde_json::json;

use super::{Node, program};

fn output(args: &[&str], data: &Path) -> Output {
    program().args(args).arg("--data").arg(data).output().expect("runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn done(args: &[&str], data: &Path) -> String {
    let output = output(args, data);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

fn fails(args: &[&str], data: &Path) -> String {
    let output = output(args, data);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
    said(&output)
}

/// Ends a node as its input ending does.
fn end(mut node: Node) {
    drop(node.child.stdin.take());
    node.child.wait().expect("ends");
}

/// Ana's folder with one community and two messages.
fn garden(home: &Path) -> String {
    let mut ana = Node::start(home);
    ana.ok(json!({"command": "found", "name": "Ana", "community": "Garden"}));
    for text in ["Frost tonight.", "Cover the beans."] {
        ana.ok(json!({"command": "say", "text": text}));
    }
    let phrase = ana.ok(json!({"command": "phrase"}));
    end(ana);
    phrase["phrase"].as_str().expect("24 words").to_owned()
}

#[test]
fn a_community_goes_out_and_comes_back_and_nothing_is_doubled() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, file) = (folder.path().join("ana"), folder.path().join("garden.exo"));
    let file = file.to_str().expect("text");
    let phrase = garden(&home);
    assert!(done(&["community", "list"], &home).starts_with("Garden "));
    // Without a terminal to ask at, the seal has to be said.
    assert!(fails(&["community", "export", file], &home).contains("--no-passphrase"));
    let told = done(&["community", "export", file, "--community", "Garden", "--no-passphrase"], &home);
    assert!(told.contains("Garden is in") && told.contains("not sealed"), "{told}");
    assert!(fails(&["community", "export", file, "--no-passphrase"], &home).contains("exists already"));
    let other = &["community", "export", file, "--community", "Choir", "--no-passphrase"];
    assert!(fails(other, &home).contains("community list"));
    let bytes = std::fs::read(file).expect("written");
    assert!(!bytes.windows(5).any(|window| window == b"beans"), "words are sealed in any case");

    // Into the same folder: all known.
    let told = done(&["community", "import", file], &home);
    assert!(told.contains("Garden: 0 changes new"), "{told}");
    // A device that has lost its store has it back, its own words included.
    std::fs::remove_dir_all(home.join("communities")).expect("lost");
    let told = done(&["community", "import", file], &home);
    assert!(told.contains("0 deferred, 0 refused") && told.contains("had written and lost"), "{told}");
    let mut ana = Node::start(&home);
    assert_eq!(ana.messages(), ["Frost tonight.", "Cover the beans."]);
    end(ana);

    // Someone else can keep the file, and reads nothing of it.
    let stranger = folder.path().join("eve");
    assert!(fails(&["community", "import", file], &stranger).contains("nothing in this file can be read"));
    assert!(done(&["community", "list"], &stranger).contains("no community"));
    // Ana's words on paper open it on any device.
    let words = folder.path().join("words");
    std::fs::write(&words, phrase).expect("written");
    let words = words.to_str().expect("text");
    let told = done(&["community", "import", file, "--phrase-file", words], &stranger);
    assert!(told.contains("You can read it"), "{told}");
    let again = done(&["community", "import", file, "--phrase-file", words], &stranger);
    assert!(again.contains("0 changes new"), "{again}");
    let mut reader = Node::start(&stranger);
    assert_eq!(reader.messages(), ["Frost tonight.", "Cover the beans."]);
    let entry = reader.ok(json!({"command": "communities"}))["communities"][0].clone();
    assert_eq!((&entry["standing"], &entry["member"]), (&json!("reading"), &json!(false)));
    assert!(reader.error(json!({"command": "say", "text": "hi"})).contains("member"));
}

#[test]
fn a_running_node_exports_and_imports_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, file) = (folder.path().join("ana"), folder.path().join("garden.exo"));
    let phrase = garden(&home);
    let mut ana = Node::start(&home);
    ana.ok(json!({"command": "add_model"}));
    let path = file.to_str().expect("text");
    let busy = fails(&["community", "export", path, "--no-passphrase"], &home);
    assert!(busy.contains("type \"export FILE\""), "{busy}");
    assert!(fails(&["community", "import", path], &home).contains("type \"import FILE\""));
    assert!(fails(&["backup", path, "--no-passphrase"], &home).contains("type \"backup FILE\""));
    assert!(ana.error(json!({"command": "export", "file": file})).contains("passphrase"));
    let told = ana.ok(json!({"command": "export", "file": file, "passphrase": "marigold", "blobs": true}));
    assert_eq!((&told["sealed"], &told["blobs"]), (&json!(true), &json!(1)), "{told}");
    ana.ok(json!({"command": "say", "text": "Later."}));
    let wrong = json!({"command": "import", "file": file, "passphrase": "tulip"});
    assert!(ana.error(wrong).contains("not the one"));
    assert!(ana.error(json!({"command": "import", "file": file})).contains("sealed with a passphrase"));
    let told = ana.ok(json!({"command": "import", "file": file, "passphrase": "marigold"}));
    let told = &told["communities"][0];
    assert_eq!((&told["new"], &told["refused"], &told["member"]), (&json!(0), &json!(0), &json!(true)));
    assert_eq!(ana.messages().len(), 3);

    // A node that is not in the community gets to read it, with its model.
    let words = folder.path().join("words");
    std::fs::write(&words, phrase).expect("written");
    let other = folder.path().join("other");
    let mut reader = Node::start(&other);
    let without = reader.error(json!({"command": "import", "file": file, "passphrase": "marigold"}));
    assert!(without.contains("--phrase-file"), "{without}");
    assert_eq!(reader.ok(json!({"command": "communities"}))["communities"], json!([]));
    let import = json!({"command": "import", "file": file, "passphrase": "marigold", "phrase_file": words});
    let told = reader.ok(import.clone());
    assert!(told["communities"][0]["new"].as_u64() > Some(0), "{told}");
    assert_eq!(reader.messages(), ["Frost tonight.", "Cover the beans."]);
    let holdings = reader.ok(json!({"command": "holdings"}));
    assert_eq!(holdings["ranges"], json!([[0, holdings["size_bytes"]]]), "the model came with it");
    let again = reader.ok(import);
    assert_eq!(again["communities"][0]["new"], json!(0));
    end(reader);
    let mut again = Node::start(&other);
    assert_eq!(again.messages().len(), 2, "and it stays");
    // With an invite it becomes a member like everyone else.
    let error = again.error(json!({"command": "use", "community": "Choir"}));
    assert!(error.contains("communities"), "{error}");
}

#[test]
fn a_backup_becomes_a_new_device_that_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, file) = (folder.path().join("ana"), folder.path().join("ana.exo"));
    let phrase = garden(&home);
    let (secret, words) = (folder.path().join("secret"), folder.path().join("words"));
    std::fs::write(&secret, "marigold\n").expect("written");
    std::fs::write(&words, phrase).expect("written");
    let [file, secret, words] = [&file, &secret, &words].map(|path| path.to_str().expect("text"));
    let told = done(&["backup", file, "--passphrase-file", secret], &home);
    assert!(told.contains("1 communities") && told.contains("24 words"), "{told}");

    let new = folder.path().join("new");
    assert!(fails(&["restore", file], &new).contains("--passphrase-file"));
    let sealed = &["restore", file, "--passphrase-file", secret];
    assert!(fails(sealed, &new).contains("--phrase-file"));
    let all = &["restore", file, "--passphrase-file", secret, "--phrase-file", words];
    assert!(fails(all, &home).contains("not empty"));
    let told = done(all, &new);
    for expected in ["Restored Ana", "Garden", "0 refused", "What works now: reading", "online"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!new.join("recovery-phrase.txt").exists());
    let old = std::fs::read(home.join("device.key")).expect("a key");
    assert_ne!(std::fs::read(new.join("device.key")).expect("a key"), old);
    let mut restored = Node::start(&new);
    assert_eq!(restored.messages(), ["Frost tonight.", "Cover the beans."]);
    assert!(restored.error(json!({"command": "say", "text": "I am back"})).contains("member"));
    let status = restored.until("it asks to be let in", &json!({"command": "status"}), |status| {
        status["standing"] == json!("joining")
    });
    assert_eq!(status["join"]["state"], json!("trying"));
    assert_eq!(restored.ok(json!({"command": "phrase"}))["phrase"], json!(null));
}

#[test]
fn damaged_and_foreign_files_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (home, file) = (folder.path().join("ana"), folder.path().join("garden.exo"));
    garden(&home);
    let path = file.to_str().expect("text");
    assert!(fails(&["community", "import", path], &home).contains("garden.exo"));
    done(&["community", "export", path, "--no-passphrase"], &home);
    let mut bytes = std::fs::read(&file).expect("written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).expect("written");
    let told = fails(&["community", "import", path], &home);
    assert!(told.contains("damaged"), "{told}");
    std::fs::write(&file, b"a holiday photograph").expect("written");
    assert!(fails(&["community", "import", path], &home).contains("no file that Exo-Studio exported"));
    let usage = output(&["community", "export"], &home);
    assert_eq!(usage.status.code(), Some(2), "{}", said(&usage));
    for command in ["community export", "community import", "backup", "restore", "invite", "join", "keeper"] {
        let words: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let help = output(&words, &home);
        assert!(help.status.success() && said(&help).contains("Example"), "{command}: {}", said(&help));
    }
}
