//! The file as the `sqlite3` command line tool reads it, which shares no code
//! of ours and is another build of SQLite.

use std::process::Command;

use exo_projections::{Reader, Views};

use crate::Home;
use crate::reads::expected_messages;
use crate::world::grown;

/// STRICT tables are known from this version on.
const OLDEST: (u32, u32) = (3, 37);

fn tool_version() -> Option<(u32, u32)> {
    let output = Command::new("sqlite3").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.split([' ', '.']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[test]
fn sqlite3_reads_the_same() {
    let version = tool_version();
    if version.is_none_or(|version| version < OLDEST) {
        #[expect(clippy::print_stderr, reason = "why nothing was tested")]
        {
            eprintln!("skipped: no sqlite3 tool of version {OLDEST:?} or later, found {version:?}");
        }
        return;
    }
    let world = grown(400, 200);
    let (events, state) = (world.events(), world.state());
    let home = Home::new();
    Views::open(home.path()).expect("a new file").apply(&events, &state).expect("applied");
    let ask = |sql: &str| {
        let output =
            Command::new("sqlite3").arg("-readonly").arg(home.path()).arg(sql).output().expect("run");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    };
    assert_eq!(ask("PRAGMA integrity_check"), "ok");
    assert_eq!(ask("PRAGMA journal_mode"), "wal");

    let count = |table: &str| ask(&format!("SELECT count(*) FROM {table}"));
    assert_eq!(count("members"), state.members.len().to_string());
    assert_eq!(count("channels"), state.channels.len().to_string());
    assert_eq!(count("machines"), state.machines.len().to_string());
    assert_eq!(count("models"), state.models.len().to_string());
    assert_eq!(count("locks"), state.ledger.locks().len().to_string());
    assert_eq!(count("balances"), state.members.len().to_string());
    assert_eq!(count("cursors"), world.feeds().len().to_string());
    assert_eq!(ask("SELECT sum(seq) FROM cursors"), events.len().to_string());
    assert_eq!(ask("SELECT sum(balance) FROM balances"), "0");

    let reader = Reader::open(home.path()).expect("readable");
    for channel in state.channels.keys() {
        let expected = expected_messages(&events, &state, channel).len().to_string();
        let shown = format!(
            "SELECT count(*) FROM messages JOIN members USING (device) JOIN channels USING (channel) \
             WHERE channel = x'{}'",
            channel.to_hex()
        );
        assert_eq!(ask(&shown), expected);
        assert_eq!(reader.message_count(channel).expect("read").to_string(), expected);
    }
}
