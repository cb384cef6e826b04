//! House rules that a machine can check.

use std::path::{Path, PathBuf};

use exo_tests::{files_below, workspace_root};

/// Modules without clocks, hash maps, runtimes and I/O: everything they do
/// follows from their arguments.
const PURE: [&str; 5] =
    ["model/src", "inference/src/plan", "inference/src/session", "sync/src/session", "sync/src/hub"];
const PURE_TOO: [&str; 4] =
    ["inference/src/plan.rs", "inference/src/session.rs", "sync/src/session.rs", "sync/src/hub.rs"];

/// Words that pure code does not need.
const IMPURE: [&str; 22] = [
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "chrono",
    "tokio",
    "async ",
    ".await",
    "std::thread",
    "std::fs",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::env",
    "tracing",
    "println!",
    "getrandom",
    "thread_local!",
    "static mut",
    "Mutex",
    "RwLock",
];

/// Parts of the model that the scan must meet: what people agree on is decided
/// there, so every file of it is looked at.
const MODEL_PARTS: [&str; 13] = [
    "board",
    "charter",
    "community",
    "conversation",
    "decide",
    "dispute",
    "event",
    "feed",
    "ledger",
    "moderation",
    "private",
    "sealing",
    "trust",
];

/// Longest source file, in lines; reviewed from 800 on.
const LINES_MAX: usize = 800;

fn sources(places: &[&str]) -> Vec<PathBuf> {
    let root = workspace_root();
    let one = |place: &&str| {
        let path = root.join(place);
        if path.is_dir() { files_below(&path, "rs") } else { vec![path] }
    };
    places.iter().flat_map(one).collect()
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `word` stands in `code`, not as the beginning of a longer one.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let after = code[at + word.len()..].chars().next();
        !word.ends_with(char::is_alphanumeric) || !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn pure_modules_have_no_clock_hash_map_runtime_or_files() {
    let mut places = PURE.to_vec();
    places.extend(PURE_TOO);
    let files = sources(&places);
    assert!(files.len() > 20, "the scan finds the pure modules: {}", files.len());
    for path in files {
        for (index, line) in read(&path).lines().enumerate() {
            for word in IMPURE {
                assert!(!has_word(code(line), word), "{}:{}: {word}", path.display(), index + 1);
            }
        }
    }
}

/// Every part of the model lies in the scan's way, and nothing of it is
/// compiled from elsewhere.
#[test]
fn the_whole_model_is_scanned() {
    let root = workspace_root().join("model/src");
    let files = sources(&["model/src"]);
    for part in MODEL_PARTS {
        let own = files.iter().filter(|path| path.starts_with(root.join(part)));
        assert!(own.count() > 0, "no file of model/src/{part}");
        assert!(files.contains(&root.join(part).with_extension("rs")), "no model/src/{part}.rs");
    }
    for path in &files {
        let text = read(path);
        let elsewhere =
            text.lines().map(code).find(|line| line.contains("#[path") || line.contains("include!("));
        assert_eq!(elsewhere, None, "{}", path.display());
    }
}

#[test]
fn the_scan_sees_what_it_looks_for() {
    assert!(has_word(code("let map = HashMap::new(); // why"), "HashMap"));
    assert!(!has_word(code("/// unlike a HashMap"), "HashMap"));
    let root = concat!("/ho", "me/");
    assert!(
        has_rooted(&format!("in {root}ana"), root) && !has_rooted(&format!("../tests{root}mod.rs"), root)
    );
    assert!(has_word("later.await?", ".await") && !has_word("self.awaited", ".await"));
}

#[test]
fn sources_stay_readable() {
    for path in files_below(&workspace_root(), "rs") {
        let text = read(&path);
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        for (index, line) in text.lines().enumerate() {
            // Put together, so that this file does not contain it.
            for word in [concat!("to", "do!("), concat!("FIX", "ME"), concat!("un", "implemented!(")] {
                assert!(!line.contains(word), "{}:{}: {word}", path.display(), index + 1);
            }
        }
    }
}

#[test]
fn modules_say_what_they_are() {
    for folder in ["app", "model", "sync", "inference", "projections", "ui", "tests"] {
        for path in files_below(&workspace_root().join(folder), "rs") {
            let text = read(&path);
            // A module of unit tests is described by its parent.
            let exempt = path.ends_with("ui/build.rs") || path.ends_with("tests.rs");
            let documented = text.starts_with("//!") || exempt;
            assert!(documented, "{} starts without //! docs", path.display());
        }
    }
}

#[test]
fn the_project_names_no_absolute_path() {
    for extension in ["rs", "toml", "md", "slint"] {
        for path in files_below(&workspace_root(), extension) {
            let text = read(&path);
            for word in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")] {
                assert!(!has_rooted(&text, word), "{}: {word}", path.display());
            }
        }
    }
}

/// Whether a path begins with `word`, rather than going through it.
fn has_rooted(text: &str, word: &str) -> bool {
    let goes_on = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
    text.match_indices(word).any(|(at, _)| !goes_on(&text[..at]))
}
