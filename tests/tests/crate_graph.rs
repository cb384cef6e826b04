//! The crates depend on each other as the floor plan says, and on nothing they
//! must not know.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use exo_tests::workspace_root;
use serde_json::Value;

/// Which of our crates each may name.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("exo-model", &[]),
    ("exo-sync", &["exo-model"]),
    ("exo-inference", &["exo-model"]),
    ("exo-projections", &["exo-model"]),
    ("exo-ui", &[]),
    ("exo-studio", &["exo-model", "exo-sync", "exo-inference", "exo-projections", "exo-ui"]),
    ("exo-tests", &["exo-model", "exo-sync", "exo-inference", "exo-projections", "exo-ui"]),
];

/// What each crate must not depend on, directly.
const FORBIDDEN: [(&str, &[&str]); 5] = [
    ("exo-model", &["tokio", "iroh", "rusqlite", "candle-core", "slint", "rand", "getrandom"]),
    ("exo-sync", &["candle-core", "slint", "tokenizers"]),
    ("exo-inference", &["tokio", "iroh", "rusqlite", "slint"]),
    ("exo-projections", &["tokio", "iroh", "candle-core", "slint"]),
    ("exo-ui", &["tokio", "iroh", "rusqlite", "candle-core", "automerge"]),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"])
        .current_dir(workspace_root())
        .output()
        .expect("cargo is there: it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Direct dependencies by crate; those for tests and builds left out.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let needed = package["dependencies"].as_array().expect("dependencies").iter();
            let normal = needed.filter(|needed| needed["kind"].is_null());
            (text(&package["name"]), normal.map(|needed| text(&needed["name"])).collect())
        })
        .collect()
}

#[test]
fn our_crates_name_only_whom_they_may() {
    let dependencies = dependencies(&metadata());
    let ours: BTreeSet<_> = dependencies.keys().cloned().collect();
    let planned: BTreeSet<_> = ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(ours, planned, "exactly these seven crates");
    for (name, allowed) in ALLOWED {
        let named: BTreeSet<_> = dependencies[name].intersection(&ours).map(String::as_str).collect();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        assert!(named.is_subset(&allowed), "{name} names {named:?}, it may name {allowed:?}");
    }
}

#[test]
fn crates_do_not_know_what_is_not_theirs() {
    let dependencies = dependencies(&metadata());
    for (name, forbidden) in FORBIDDEN {
        let found: Vec<_> = forbidden.iter().filter(|f| dependencies[name].contains(**f)).collect();
        assert!(found.is_empty(), "{name} depends on {found:?}");
    }
}

#[test]
fn only_app_has_a_binary_and_all_seven_are_default_members() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let kinds = |package: &Value| {
        let targets = package["targets"].as_array().expect("targets").clone();
        targets.into_iter().any(|target| target["kind"][0] == "bin")
    };
    let with_binary: Vec<_> =
        packages.iter().filter(|package| kinds(package)).map(|p| p["name"].clone()).collect();
    assert_eq!(with_binary, ["exo-studio"]);
    assert_eq!(metadata["workspace_default_members"].as_array().map(Vec::len), Some(7));
}
