//! Limits and hygiene of short texts written by people.

/// Longest name of a person, community, channel or machine, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Why a text is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space.
    #[error("{what} is empty: please write something")]
    Empty {
        /// What the text is for.
        what: &'static str,
    },
    /// Over the limit.
    #[error("{what} has {len} bytes; at most {max} are possible")]
    TooLong {
        /// What the text is for.
        what: &'static str,
        /// Length met, in bytes.
        len: usize,
        /// Length allowed, in bytes.
        max: usize,
    },
}

/// A name as it may enter the shared state: one line, trimmed, no control or
/// direction-changing characters, at most [`NAME_BYTES_MAX`] bytes.
///
/// # Errors
/// When nothing is left, or too much.
pub fn clean_name(what: &'static str, text: &str) -> Result<String, TextError> {
    let kept: String = text.chars().filter(|c| !is_unsafe(*c)).collect();
    bounded(what, kept.trim(), NAME_BYTES_MAX)
}

/// A message as it may enter the shared state: trimmed, line breaks and tabs
/// kept, other control characters dropped.
///
/// # Errors
/// When nothing is left, or too much.
pub fn clean_message(text: &str) -> Result<String, TextError> {
    let kept: String = text
        .chars()
        .filter(|c| matches!(c, '\n' | '\t') || !is_unsafe(*c))
        .collect();
    bounded("the message", kept.trim(), MESSAGE_BYTES_MAX)
}

/// Whether a received name is one that [`clean_name`] could have let through.
pub fn is_clean_name(text: &str) -> bool {
    clean_name("", text).is_ok_and(|clean| clean == text)
}

/// Whether a received message is one [`clean_message`] could have let through.
pub fn is_clean_message(text: &str) -> bool {
    clean_message(text).is_ok_and(|clean| clean == text)
}

/// Control characters move cursors and hide text; the bidirectional overrides
/// and isolates make one name look like another (Unicode UAX #9).
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn bounded(what: &'static str, text: &str, max: usize) -> Result<String, TextError> {
    if text.is_empty() {
        return Err(TextError::Empty { what });
    }
    if text.len() > max {
        return Err(TextError::TooLong { what, len: text.len(), max });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_could_deceive() {
        assert_eq!(clean_name("name", " Ana\u{1b}[2J\u{202e} ").as_deref(), Ok("Ana[2J"));
        assert!(!is_clean_name("a\nb"));
        assert!(is_clean_name("Zoë 漢字"));
        assert!(clean_name("name", "\u{7}").is_err());
    }

    #[test]
    fn messages_keep_their_lines() {
        assert_eq!(clean_message("a\n\tb\u{0}\n").as_deref(), Ok("a\n\tb"));
        assert!(clean_message(&"x".repeat(MESSAGE_BYTES_MAX + 1)).is_err());
    }
}
