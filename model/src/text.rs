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

/// A name as it may enter the shared state: one line, trimmed, nothing
/// invisible or direction-changing, at most [`NAME_BYTES_MAX`] bytes.
///
/// # Errors
/// When nothing is left, or too much.
pub fn clean_name(what: &'static str, text: &str) -> Result<String, TextError> {
    bounded(what, &clean_line(text), NAME_BYTES_MAX)
}

/// Whether a received line of any length is visible throughout.
pub fn is_clean_line(text: &str) -> bool {
    !text.is_empty() && clean_line(text) == text
}

fn clean_line(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !is_unsafe(*c) && !is_invisible(*c)) {
        // Joiners and variation selectors shape emoji and several scripts;
        // behind an ASCII letter they would only make two equal-looking names.
        let shapes = is_shaping(c);
        if !shapes || kept.chars().next_back().is_some_and(|before| !before.is_ascii()) {
            kept.push(c);
        }
    }
    kept.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{200c}' | '\u{200d}')).to_owned()
}

/// A message as it may enter the shared state: trimmed, line breaks and tabs
/// kept, other control characters dropped.
///
/// # Errors
/// When nothing is left, or too much.
pub fn clean_message(text: &str) -> Result<String, TextError> {
    let kept: String = text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_unsafe(*c)).collect();
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

/// Control characters and line separators move cursors and hide text; the
/// bidirectional overrides and isolates make one text look like another
/// (Unicode UAX #9).
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without a glyph (Unicode Default_Ignorable_Code_Point and blank
/// fillers), the shaping ones aside.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Zero-width joiners and variation selectors.
fn is_shaping(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
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
        for hidden in ["Ana\u{200b}", "a\u{2028}b", "\u{3164}", "Ana\u{200d}", "a\u{feff}", "\u{e0041}"] {
            assert!(!is_clean_name(hidden), "{hidden:?}");
        }
        for shaped in ["👩\u{200d}👧", "می\u{200c}خواهم", "❤\u{fe0f}"] {
            assert!(is_clean_name(shaped), "{shaped:?}");
        }
    }

    #[test]
    fn messages_keep_their_lines() {
        assert_eq!(clean_message("a\n\tb\u{0}\n").as_deref(), Ok("a\n\tb"));
        assert!(clean_message(&"x".repeat(MESSAGE_BYTES_MAX + 1)).is_err());
    }
}
