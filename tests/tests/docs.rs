//! The design pages name the test of each rule: each of them is there.

use std::collections::BTreeSet;

use exo_tests::{files_below, workspace_root};

/// Names in backticks that look like tests: lower case, three words or more;
/// the rest of a long one is left out as `…`.
fn named(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2).map(|name| name.rsplit("::").next().unwrap_or(name)).filter(|name| {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '…';
        name.chars().all(is_word) && name.matches('_').count() >= 3
    })
}

#[test]
fn tests_that_the_design_names_are_there() {
    let root = workspace_root();
    let sources: Vec<String> = ["model", "sync", "projections", "inference", "ui", "app", "tests"]
        .iter()
        .flat_map(|place| files_below(&root.join(place), "rs"))
        .map(|path| std::fs::read_to_string(path).expect("readable"))
        .collect();
    let mut missing = BTreeSet::new();
    let mut found = 0;
    for path in files_below(&root.join("docs/design"), "md") {
        let page = std::fs::read_to_string(&path).expect("readable");
        for name in named(&page) {
            let begins = format!("fn {}", name.trim_end_matches('…'));
            if sources.iter().any(|source| source.contains(&begins)) {
                found += 1;
            } else {
                missing.insert(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 100, "{found} tests are named");
}
