//! From a typed line to a command.

use clap::Parser as _;

use crate::command::{Command, InviteWish, NotifyLevel};
use crate::files::{BackupWish, ExportWish, ImportWish};

/// What a typed line asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Nothing,
    Help,
    Quit,
    Unknown(String),
    Incomplete(&'static str),
    /// Options that do not fit, or a request for help with them.
    Explained(String),
    Run(Box<Command>),
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_value(self).ok() == serde_json::to_value(other).ok()
    }
}

/// Commands with options, which are the same as on the command line.
#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true, disable_help_subcommand = true)]
enum WithOptions {
    /// Make an invite, or take one back.
    Invite(InviteLine),
    /// Write a community into a file.
    Export(ExportWish),
    /// Take in what a file holds.
    Import(ImportWish),
    /// Write everything of yours into a file.
    Backup(BackupWish),
}

/// `invite`, with its own command.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct InviteLine {
    #[command(subcommand)]
    pub(crate) what: Option<InviteWhat>,
    #[command(flatten)]
    pub(crate) wish: InviteWish,
}

/// What can be done with an invite that is there.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum InviteWhat {
    /// Let nobody join with an invite any more.
    Revoke {
        /// Its id, or how that starts; "invites" shows it.
        id: String,
    },
}

impl InviteLine {
    /// What is to be done.
    pub(crate) fn command(self) -> Command {
        match self.what {
            Some(InviteWhat::Revoke { id }) => Command::RevokeInvite { invite: id },
            None => Command::Invite(self.wish),
        }
    }
}

pub(super) fn parse(line: &str) -> Line {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let text = || rest.to_owned();
    let optional = || (!rest.is_empty()).then(|| rest.to_owned());
    let word = word.to_lowercase();
    let command = match word.as_str() {
        "" => return Line::Nothing,
        "help" | "?" => return Line::Help,
        "quit" | "exit" => return Line::Quit,
        "found" => match rest.split_once(" in ") {
            Some((name, community)) => Command::Found { name: name.into(), community: community.into() },
            None => return Line::Incomplete("found NAME in COMMUNITY"),
        },
        "join" => match rest.rsplit_once(" with ") {
            Some((name, ticket)) => Command::Join { name: name.into(), ticket: unquoted(ticket).into() },
            None => return Line::Incomplete("join NAME with TICKET, LINK or FILE"),
        },
        "cancel" => Command::CancelJoin,
        "communities" => Command::Communities,
        "use" if !rest.is_empty() => Command::Use { community: text() },
        "use" => return Line::Incomplete("use COMMUNITY"),
        "invite" | "export" | "import" | "backup" => return with_options(&word, rest),
        "invites" => Command::Invites,
        "devices" => Command::Devices,
        "device" => match rest.split_once(char::is_whitespace).unwrap_or((rest, "")) {
            ("link", "") => Command::LinkDevice,
            ("status", "") => Command::LinkStatus,
            ("join", code) if !code.trim().is_empty() => Command::BecomeDevice { code: code.trim().into() },
            ("revoke", device) if !device.trim().is_empty() => {
                Command::RevokeDevice { device: device.trim().into(), phrase: None }
            }
            _ => {
                return Line::Incomplete(
                    "device link, device status, device join CODE or device revoke DEVICE",
                );
            }
        },
        "come" => match rest.strip_prefix("back as ").and_then(|rest| rest.rsplit_once(" with ")) {
            Some((name, ticket)) => {
                Command::ComeBack { name: name.into(), phrase: String::new(), ticket: ticket.into() }
            }
            None => return Line::Incomplete("come back as NAME with TICKET"),
        },
        "relays" => match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => Command::Relays,
            ["add", url] => Command::AddRelay { url: (*url).into(), pin: None },
            ["add", url, pin] => Command::AddRelay { url: (*url).into(), pin: Some((*pin).into()) },
            ["remove", url] => Command::RemoveRelay { url: (*url).into() },
            _ => return Line::Incomplete("relays, relays add URL [PIN] or relays remove URL"),
        },
        "setting" if !rest.is_empty() => match rest.split_once('=') {
            Some((name, value)) => {
                Command::Setting { name: name.trim().into(), value: Some(value.trim().into()) }
            }
            None => Command::Setting { name: text(), value: None },
        },
        "setting" => return Line::Incomplete("setting NAME, or setting NAME = VALUE"),
        "read" => Command::MarkRead,
        "notify" => match rest {
            "all" => Command::Notify { level: NotifyLevel::All },
            "mentions" => Command::Notify { level: NotifyLevel::Mentions },
            "nothing" => Command::Notify { level: NotifyLevel::Nothing },
            _ => return Line::Incomplete("notify all, notify mentions or notify nothing"),
        },
        "phrase" if matches!(rest, "" | "forget") => Command::Phrase { forget: rest == "forget" },
        "phrase" => return Line::Incomplete("phrase [forget]"),
        "remove" | "ban" if !rest.is_empty() => {
            Command::Remove { person: text(), ban: word == "ban", reason: String::new() }
        }
        "remove" | "ban" => return Line::Incomplete("remove NAME"),
        "role" => match rest.rsplit_once(char::is_whitespace) {
            Some((person, role)) => Command::SetRole { person: person.trim().into(), role: role.into() },
            None => return Line::Incomplete("role NAME ROLE"),
        },
        "leave" => Command::Leave,
        "say" if !rest.is_empty() => Command::Say { text: text() },
        "say" => return Line::Incomplete("say TEXT"),
        "ask" if !rest.is_empty() => Command::Ask { question: text(), model: None, max_tokens: None },
        "ask" => return Line::Incomplete("ask QUESTION"),
        "history" => Command::History { limit: None, before: None },
        "members" => Command::Members,
        "peers" => Command::Peers,
        "models" if rest.is_empty() => Command::Models,
        "models" => match rest.split_once(char::is_whitespace).unwrap_or((rest, "")) {
            ("add", "") => Command::AddModel { path: None },
            ("add", path) => Command::AddModel { path: Some(path.trim().into()) },
            _ => return Line::Incomplete("models add [FILE]"),
        },
        "share" => Command::Share { model: optional() },
        "balances" => Command::Balances,
        "offline" => Command::Online { online: false },
        "online" => Command::Online { online: true },
        "status" => Command::Status,
        "audit" => Command::Audit,
        _ => return Line::Unknown(word),
    };
    Line::Run(Box::new(command))
}

fn with_options(word: &str, rest: &str) -> Line {
    let words = std::iter::once(word.to_owned()).chain(split(rest));
    match WithOptions::try_parse_from(words) {
        Ok(WithOptions::Invite(line)) => Line::Run(Box::new(line.command())),
        Ok(WithOptions::Export(wish)) => Line::Run(Box::new(Command::Export(wish))),
        Ok(WithOptions::Import(wish)) => Line::Run(Box::new(Command::Import(wish))),
        Ok(WithOptions::Backup(wish)) => Line::Run(Box::new(Command::Backup(wish))),
        Err(error) => Line::Explained(error.to_string()),
    }
}

/// A name in quotation marks is one word, with its blanks.
fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_begun) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => (is_quoted, is_begun) = (!is_quoted, true),
            c if c.is_whitespace() && !is_quoted => {
                if is_begun {
                    words.push(std::mem::take(&mut word));
                    is_begun = false;
                }
            }
            c => {
                word.push(c);
                is_begun = true;
            }
        }
    }
    if is_begun {
        words.push(word);
    }
    words
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> String {
        match parse(line) {
            Line::Run(command) => serde_json::to_string(&*command).expect("serialises"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn lines_become_commands() {
        assert_eq!(
            run("found Ana Maria in The Garden"),
            r#"{"command":"found","name":"Ana Maria","community":"The Garden"}"#
        );
        assert_eq!(
            run("join Ben with Love with exo1abc"),
            r#"{"command":"join","name":"Ben with Love","ticket":"exo1abc"}"#
        );
        assert_eq!(run("say  hello  there "), r#"{"command":"say","text":"hello  there"}"#);
        assert_eq!(run("models add /tmp/a b.gguf"), r#"{"command":"add_model","path":"/tmp/a b.gguf"}"#);
        assert_eq!(parse("found Ana"), Line::Incomplete("found NAME in COMMUNITY"));
        assert_eq!(parse("dance"), Line::Unknown("dance".into()));
        assert_eq!(parse("   "), Line::Nothing);
    }

    #[test]
    fn options_are_those_of_the_command_line() {
        assert_eq!(run("invite"), r#"{"command":"invite","uses":1}"#);
        assert_eq!(run("Invite 5"), r#"{"command":"invite","uses":5}"#);
        assert_eq!(
            run("invite 2 --role keeper --days 0.5 --png \"my code.png\""),
            r#"{"command":"invite","uses":2,"role":"keeper","days":0.5,"png":"my code.png"}"#
        );
        assert_eq!(run("invite revoke 1a2b"), r#"{"command":"revoke_invite","invite":"1a2b"}"#);
        assert_eq!(run("invites"), r#"{"command":"invites"}"#);
        assert_eq!(
            run("export garden.exo --no-passphrase --blobs"),
            r#"{"command":"export","file":"garden.exo","blobs":true,"no_passphrase":true}"#
        );
        assert_eq!(run("backup b.exo"), r#"{"command":"backup","file":"b.exo"}"#);
        assert_eq!(run("import a.exo"), r#"{"command":"import","file":"a.exo"}"#);
        for wrong in [
            "invite many",
            "invite --role emperor",
            "export",
            "export a b",
            "export a --passphrase-file f --no-passphrase",
            "import a --help",
        ] {
            assert!(matches!(parse(wrong), Line::Explained(_)), "{wrong}: {:?}", parse(wrong));
        }
    }

    #[test]
    fn names_in_quotation_marks_are_one_word() {
        assert_eq!(split("a \"b  c\"  --x \"\""), ["a", "b  c", "--x", ""]);
        assert_eq!(split("\"open end"), ["open end"]);
        assert_eq!(unquoted(" \"my file\" "), "my file");
    }
}
