//! Writing to a terminal, where some of the words come from strangers.

/// `text` with every control character replaced, so that no message, name or
/// answer can move the cursor, recolour the screen or type for the person.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' || !c.is_control() { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(super::printable("a\u{1b}[2Jb\nc\u{9b}"), "a\u{fffd}[2Jb\nc\u{fffd}");
    }
}
