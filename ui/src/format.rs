//! Wording: values become the words that a person reads.

use crate::view::{AskState, AskView, Connection, HostedLayers, Joining, PeerPath, Role};

/// Faces without a picture have this many colours; `Theme.tones` holds them.
const TONES: usize = 8;

/// `1,234,567`.
pub(crate) fn count(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0 {
        out.push('−');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Work units out of the ledger's smallest unit, token·MiB: `0.074 WU`,
/// `−1,000 WU`.
pub(crate) fn credits(token_mib: i64) -> String {
    /// token·MiB of one work unit.
    const PER_WORK_UNIT: u64 = 1_024;
    let amount = token_mib.unsigned_abs();
    let whole = i64::try_from(amount / PER_WORK_UNIT).unwrap_or(i64::MAX);
    let thousandths = format!("{:03}", amount % PER_WORK_UNIT * 1_000 / PER_WORK_UNIT);
    let sign = if token_mib < 0 { "−" } else { "" };
    match thousandths.trim_end_matches('0') {
        "" => format!("{sign}{} WU", count(whole)),
        fraction => format!("{sign}{}.{fraction} WU", count(whole)),
    }
}

fn plural(value: i64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

/// `512 MiB`, `4 GiB`, `1.5 GiB`.
pub(crate) fn memory(mib: u64) -> String {
    const MIB_PER_GIB: u64 = 1_024;
    if mib < MIB_PER_GIB {
        return format!("{mib} MiB");
    }
    let tenths = (u128::from(mib) * 10 + 512) / 1_024;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} GiB"),
        (whole, tenth) => format!("{whole}.{tenth} GiB"),
    }
}

/// `Ana`, `Ana and Ben`, `Ana, Ben and Chloe`, `Ana, Ben and 3 others`.
pub(crate) fn names(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, two, three] => format!("{one}, {two} and {three}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} others", rest.len()),
    }
}

/// `direct, 12 ms`.
pub(crate) fn path(path: PeerPath) -> String {
    let with_time = |word: &str, rtt_ms: Option<u32>| match rtt_ms {
        Some(0) => format!("{word} · <1 ms"),
        Some(rtt_ms) => format!("{word} · {rtt_ms} ms"),
        None => word.to_owned(),
    };
    match path {
        PeerPath::ThisMachine => "this machine".to_owned(),
        PeerPath::Direct { rtt_ms } => with_time("direct", rtt_ms),
        PeerPath::Relayed { rtt_ms } => with_time("relayed", rtt_ms),
        PeerPath::Offline => "offline".to_owned(),
    }
}

/// `layers 0–2 of Exo Starter`.
pub(crate) fn layers(layers: &HostedLayers) -> String {
    if layers.first == layers.last {
        format!("layer {} of {}", layers.first, layers.model)
    } else {
        format!("layers {}–{} of {}", layers.first, layers.last, layers.model)
    }
}

/// `owner`, `member` and so on.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Moderator => "moderator",
        Role::Member => "member",
        Role::Guest => "guest",
        Role::Keeper => "keeper",
    }
}

/// `3 members`.
pub(crate) fn members(members: usize) -> String {
    plural(i64::try_from(members).unwrap_or(i64::MAX), "member", "members")
}

/// The words of the status line.
pub(crate) fn connection(connection: Connection) -> String {
    let Connection { connected, known } = connection;
    match (connected, known) {
        (0, 0) => "only this machine so far – invite someone".to_owned(),
        (0, _) => "offline – messages are kept and sent later".to_owned(),
        (connected, known) => {
            // A peer may connect before it is known by name.
            let known = known.max(connected);
            let noun = if known == 1 { "peer" } else { "peers" };
            format!("connected to {connected} of {known} {noun}")
        }
    }
}

/// Title and progress of the joining page.
pub(crate) fn joining(joining: &Joining) -> (String, String) {
    let (title, whom) = if joining.community.is_empty() {
        ("Joining your community".to_owned(), "the community")
    } else {
        (format!("Joining {}", joining.community), joining.community.as_str())
    };
    let tried = match joining.tries {
        0 => String::new(),
        1 => " Tried once.".to_owned(),
        tries => format!(" Tried {} times.", count(i64::from(tries))),
    };
    let progress = format!(
        "Waiting for someone from {whom} to be online.{tried} You can close this window; it goes on next time."
    );
    (title, progress)
}

/// The words of the model's state; empty where the answer speaks for itself.
pub(crate) fn ask_state(state: &AskState) -> String {
    match state {
        AskState::Unavailable { reason } | AskState::Failed { reason } => reason.clone(),
        AskState::Ready | AskState::Finished => String::new(),
        AskState::Preparing => "Looking for machines to answer…".to_owned(),
        AskState::Fetching { by, percent } => {
            let percent = percent.min(&100);
            match by.as_slice() {
                [] => format!("Fetching layers… {percent} %"),
                [one] => format!("{one} is fetching layers… {percent} %"),
                many => format!("{} are fetching layers… {percent} %", names(many)),
            }
        }
        AskState::Answering { by } => match by.as_slice() {
            [] => "Answering".to_owned(),
            [one] => format!("{one} is answering"),
            many => format!("{} are answering", names(many)),
        },
        AskState::Stopped => "You stopped this answer.".to_owned(),
    }
}

/// Keeps a number and its unit on one line.
fn unbroken(words: &str) -> String {
    words.replace(' ', "\u{a0}")
}

/// `34 tokens · 12.4 tokens/s · served by Ana and Ben · 0.074 WU`.
pub(crate) fn ask_summary(ask: &AskView) -> String {
    let mut parts = Vec::new();
    if ask.tokens > 0 {
        parts.push(unbroken(&plural(i64::from(ask.tokens), "token", "tokens")));
    }
    if let Some(speed) = ask.tokens_per_second.filter(|speed| speed.is_finite()) {
        parts.push(unbroken(&format!("{speed:.1} tokens/s")));
    }
    if !ask.served_by.is_empty() {
        parts.push(format!("served by {}", names(&ask.served_by)));
    }
    if let Some(spent) = ask.credits_spent {
        parts.push(unbroken(&credits(spent)));
    }
    parts.join(" · ")
}

/// One or two letters for a face without a picture.
pub(crate) fn initials(name: &str) -> String {
    // A word may start with a sign, as in "(Ana)", or have no letter at all.
    let mut letters = name.split_whitespace().filter_map(|word| word.chars().find(|c| c.is_alphanumeric()));
    match (letters.next(), letters.next_back()) {
        (Some(first), Some(last)) if first.is_alphabetic() && last.is_alphabetic() => {
            first.to_uppercase().chain(last.to_uppercase()).collect()
        }
        (Some(first), _) => first.to_uppercase().collect(),
        // The software renderer has no coloured glyphs: an emoji would be a hole.
        (None, _) => "?".to_owned(),
    }
}

/// The colour of a face: always the same for the same name.
pub(crate) fn tone(name: &str) -> i32 {
    // FNV-1a; any spread does.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::try_from(hash as usize % TONES).unwrap_or(0)
}

/// `text`, or its start and a note where it is longer than `chars_max`.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    // A text with few bytes cannot have many characters.
    if text.len() <= chars_max {
        return text.to_owned();
    }
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => {
            let all = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            format!("{}… (cut here; {} characters in all)", &text[..end], count(all))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_like_numbers() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(-1_000), "−1,000");
        assert_eq!(count(i64::MIN), "−9,223,372,036,854,775,808");
        assert_eq!(credits(0), "0 WU");
        assert_eq!(credits(-76), "−0.074 WU");
        assert_eq!(credits(-1_024_000), "−1,000 WU");
        assert_eq!(credits(1_536), "1.5 WU");
        assert_eq!(credits(i64::MIN), "−9,007,199,254,740,992 WU");
        assert_eq!(memory(512), "512 MiB");
        assert_eq!(memory(1_536), "1.5 GiB");
        assert_eq!(memory(4_096), "4 GiB");
        assert_eq!(memory(u64::MAX), "18014398509481984 GiB");
    }

    #[test]
    fn lists_of_names() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&list(&[])), "");
        assert_eq!(names(&list(&["Ana", "Ben"])), "Ana and Ben");
        assert_eq!(names(&list(&["Ana", "Ben", "Chloe"])), "Ana, Ben and Chloe");
        assert_eq!(names(&list(&["Ana", "Ben", "Chloe", "Dan"])), "Ana, Ben and 2 others");
    }

    #[test]
    fn states_in_words() {
        let state = AskState::Fetching { by: vec!["Ana".to_owned()], percent: 62 };
        assert_eq!(ask_state(&state), "Ana is fetching layers… 62 %");
        let both = Connection { connected: 2, known: 2 };
        assert_eq!(connection(both), "connected to 2 of 2 peers");
        let away = Connection { connected: 0, known: 2 };
        assert_eq!(connection(away), "offline – messages are kept and sent later");
        let waiting = Joining { community: "Lindenhof".to_owned(), tries: 3, problem: None };
        assert_eq!(
            joining(&waiting).1,
            "Waiting for someone from Lindenhof to be online. Tried 3 times. You can close this window; it goes on next time."
        );
    }

    #[test]
    fn faces() {
        assert_eq!(initials("Ana Berger"), "AB");
        assert_eq!(initials("ana"), "A");
        assert_eq!(initials("  "), "?");
        assert_eq!(initials("🦊 fox"), "F");
        assert_eq!(initials("李小龍"), "李");
        assert!((0..8).contains(&tone("Ana")));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äöü… (cut here; 4 characters in all)");
    }
}
