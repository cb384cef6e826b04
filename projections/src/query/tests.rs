use rusqlite::params_from_iter;

use super::{MESSAGE_COUNT, MESSAGES, TRANSACTIONS};
use crate::schema;

/// How SQLite goes about a query, step by step.
fn plan(sql: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = schema::open_writer(&folder.path().join("views.db")).expect("a new file");
    let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a query");
    let parameters = vec![0; explain.parameter_count()];
    let steps = explain.query_map(params_from_iter(parameters), |row| row.get(3)).expect("explained");
    steps.collect::<Result<_, _>>().expect("text")
}

/// A page costs what it holds, however long the history is: no table is read
/// whole, nothing is sorted, no index is made for the occasion.
#[test]
fn pages_are_ranges() {
    for sql in [MESSAGES, MESSAGE_COUNT] {
        let steps = plan(sql);
        assert!(
            steps.iter().any(|step| step.starts_with("SEARCH m USING PRIMARY KEY (channel=?")),
            "{steps:?}"
        );
        for wrong in ["SCAN", "TEMP B-TREE", "AUTOMATIC"] {
            assert!(!steps.iter().any(|step| step.contains(wrong)), "{wrong}: {steps:?}");
        }
    }
    let steps = plan(TRANSACTIONS);
    assert!(steps.iter().any(|step| step.starts_with("SEARCH e USING PRIMARY KEY")), "{steps:?}");
    assert!(steps.iter().any(|step| step.starts_with("SEARCH l USING PRIMARY KEY")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:?}");
}
