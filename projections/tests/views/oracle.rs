//! The file as the `sqlite3` command line tool reads it, which shares no code
//! of ours and is another build of SQLite.

use std::process::Command;

use exo_projections::{Reader, Views};

use crate::Folder;
use crate::grown::grown;
use crate::reads::expected_messages;

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
    let world = grown(400, 150);
    let home = world.reader(2);
    let state = home.community.state();
    let folder = Folder::new();
    Views::open(folder.path()).expect("a new file").apply(&home.events, state).expect("applied");
    let ask = |sql: &str| {
        let output =
            Command::new("sqlite3").arg("-readonly").arg(folder.path()).arg(sql).output().expect("run");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    };
    assert_eq!(ask("PRAGMA integrity_check"), "ok");
    assert_eq!(ask("PRAGMA journal_mode"), "wal");

    let count = |table: &str| ask(&format!("SELECT count(*) FROM {table}"));
    let charter = &state.charter;
    let devices = charter.devices.len() + charter.former_devices.len();
    assert_eq!(count("members"), charter.members.len().to_string());
    assert_eq!(count("people"), (charter.members.len() + charter.former.len()).to_string());
    assert_eq!(count("devices"), devices.to_string());
    assert_eq!(count("channels"), charter.channels.len().to_string());
    assert_eq!(count("machines"), state.machines.len().to_string());
    assert_eq!(count("models"), state.models.len().to_string());
    assert_eq!(count("locks"), state.ledger.locks().len().to_string());
    assert_eq!(count("balances"), devices.to_string());
    assert_eq!(count("cursors"), world.feeds().len().to_string());
    assert_eq!(ask("SELECT sum(seq) FROM cursors"), home.events.len().to_string());
    let all = "SELECT (SELECT sum(balance) FROM balances) + (SELECT balance FROM community)";
    assert_eq!(ask(all), "0");

    let reader = Reader::open(folder.path()).expect("readable");
    for channel in charter.channels.keys() {
        let expected = expected_messages(&home, channel).len().to_string();
        let shown = format!(
            "SELECT count(*) FROM messages JOIN devices USING (device) JOIN channels USING (channel) \
             LEFT JOIN fences USING (device, channel) WHERE channel = x'{}' \
             AND (NOT fenced OR (messages.segment, messages.seq) <= (fences.segment, fences.seq))",
            channel.to_hex()
        );
        assert_eq!(ask(&shown), expected);
        assert_eq!(reader.message_count(channel).expect("read").to_string(), expected);
    }
}
