//! GPT-2's byte alphabet: every byte as one printable character, so that a
//! vocabulary of texts can hold any bytes
//! (<https://github.com/openai/gpt-2/blob/master/src/encoder.py>).

/// Bytes that stand for themselves.
fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character for a byte: itself, or 256 + its rank among the others.
pub(crate) fn byte_to_char(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&other| !is_printable(other)).count();
    u32::try_from(256 + rank).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte a character stands for; `None` for characters outside the
/// alphabet.
pub(super) fn char_to_byte(char: char) -> Option<u8> {
    match u8::try_from(char) {
        Ok(byte) if is_printable(byte) => Some(byte),
        Ok(_) => None,
        Err(_) => {
            let rank = usize::try_from(u32::from(char) - 256).ok()?;
            (0..=u8::MAX).filter(|&byte| !is_printable(byte)).nth(rank)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        let chars: std::collections::BTreeSet<_> = (0..=u8::MAX).map(byte_to_char).collect();
        assert_eq!(chars.len(), 256);
        for byte in 0..=u8::MAX {
            assert_eq!(char_to_byte(byte_to_char(byte)), Some(byte));
        }
        // The two that everyone knows, and one outside.
        assert_eq!((byte_to_char(b' '), byte_to_char(b'\n')), ('Ġ', 'Ċ'));
        assert_eq!(char_to_byte('€'), None);
    }
}
