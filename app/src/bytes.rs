//! Sizes as people write and read them.

use std::str::FromStr;

/// A number of bytes, written like `700KiB`, `3 MiB`, `8GiB` or `123456`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

const UNITS: [(&str, u64); 8] = [
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.trim().to_uppercase();
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| upper.strip_suffix(suffix).map(|digits| (digits.trim(), *unit)))
            .unwrap_or((upper.as_str(), 1));
        let unreadable = || format!("\"{text}\" is not a size; write for example 700MiB or 8GiB");
        let count: f64 = digits.parse().map_err(|_| unreadable())?;
        let bytes = count * unit as f64;
        if !(0.0..9e18).contains(&bytes) {
            return Err(unreadable());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
        Ok(Self(bytes as u64))
    }
}

/// A size with one decimal, for people.
pub(crate) fn human(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x400 => return format!("{bytes} B"),
        0x400..0x10_0000 => (1_u64 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_written() {
        assert_eq!("700 KiB".parse(), Ok(ByteSize(700 << 10)));
        assert_eq!("1.5gib".parse(), Ok(ByteSize(3 << 29)));
        assert_eq!("42".parse(), Ok(ByteSize(42)));
        for bad in ["", "many", "-1", "1e30GiB", "NaN", "inf"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_show_one_decimal() {
        assert_eq!(human(1_023), "1023 B");
        assert_eq!(human(1_536), "1.5 KiB");
        assert_eq!(human(3 << 30), "3.0 GiB");
    }
}
