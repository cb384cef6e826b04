//! Reading from and writing to a terminal, where some of the words come from
//! strangers and some are not for whoever looks on.

use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

use crate::ticket::Ground;

/// `text` with every control character replaced, so that no message, name or
/// answer can move the cursor, recolour the screen or type for the person.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' || !c.is_control() { c } else { '\u{fffd}' }).collect()
}

/// What this terminal writes on, as far as it says so; most are dark.
pub(crate) fn ground() -> Ground {
    ground_of(std::env::var("COLORFGBG").ok().as_deref())
}

/// `COLORFGBG` names the colours of the text and, last, of the ground.
fn ground_of(colours: Option<&str>) -> Ground {
    match colours.and_then(|colours| colours.rsplit(';').next()) {
        Some("7" | "15") => Ground::Light,
        _ => Ground::Dark,
    }
}

/// While it lives, a terminal does not show what is typed. Where that cannot be
/// had (no terminal, no `stty`) it is shown.
pub(crate) struct Hidden {
    is_hidden: bool,
}

impl Hidden {
    /// Hides what is typed from here on.
    pub(crate) fn begin() -> Self {
        Self { is_hidden: std::io::stdin().is_terminal() && stty("-echo") }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.is_hidden {
            stty("echo");
        }
    }
}

/// Sets the terminal that standard input is.
fn stty(setting: &str) -> bool {
    let mut command = Command::new("stty");
    command.arg(setting).stdin(Stdio::inherit()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Asks at the terminal and reads a line; hidden while it is typed, if asked
/// for. An error where there is no terminal to ask at, or the person breaks off.
pub(crate) async fn ask(question: &str, is_secret: bool) -> std::io::Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(std::io::Error::other("there is no terminal to ask at"));
    }
    super::shell::say(question);
    let hidden = is_secret.then(Hidden::begin);
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = reading => line.map_err(std::io::Error::other)?,
        _ = tokio::signal::ctrl_c() => Err(std::io::Error::other("stopped")),
    };
    drop(hidden);
    if is_secret {
        super::shell::say("\n");
    }
    Ok(line?.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}"), "a\u{fffd}[2Jb\nc\u{fffd}");
    }

    #[test]
    fn the_ground_is_what_the_terminal_says() {
        for (colours, ground) in [
            (None, Ground::Dark),
            (Some("15;0"), Ground::Dark),
            (Some("0;15"), Ground::Light),
            (Some("0;default;7"), Ground::Light),
            (Some(""), Ground::Dark),
        ] {
            assert_eq!(ground_of(colours), ground, "{colours:?}");
        }
    }
}
