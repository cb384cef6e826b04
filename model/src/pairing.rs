//! Linking a second device: the code that the two devices share for a few
//! minutes.
//!
//! The first device makes a [`PairingCode`] and shows it, as twelve words or
//! as a link in a QR code; the second one reads it. From the code both derive two
//! key pairs, one for each side: whoever holds the code can be the other side,
//! and nobody else can. The words say nothing of where the first device is: they
//! serve on the same local network. The link says that too.
//!
//! Never here: how the two meet, and what they tell each other.

use std::fmt;
use std::str::FromStr;

use bip39::{Language, Mnemonic};
use data_encoding::BASE32_NOPAD;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::charter::{Relay, relay};
use crate::codec;
use crate::event::cluster::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use crate::phrase::{is_between_words, listed_word};
use crate::port::Entropy;
use crate::signature::SecretKey;

/// Words of a code.
pub const CODE_WORDS: usize = 12;
/// How long a code can be used: ten minutes, in ms.
pub const PAIRING_LASTS_MS: i64 = 10 * 60 * 1_000;
/// What a link begins with.
pub const LINK_PREFIX: &str = "exo-studio://link/";
/// Longest text read as a code, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024;
const CODE_LEN: usize = 16;
const CHECKSUM_LEN: usize = 4;
const HOST_CONTEXT: &str = "exo-studio exo/pairing-host/1";
const GUEST_CONTEXT: &str = "exo-studio exo/pairing-guest/1";

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairingCodeError {
    /// Neither a link nor twelve words.
    #[error("this is no code for linking a device: enter its {CODE_WORDS} words, or the whole link")]
    Form,
    /// Not in the list of words.
    #[error("word {number} is not in the word list: compare it with the other device")]
    UnknownWord {
        /// Which word, counted from one.
        number: usize,
    },
    /// All in the list, but no code.
    #[error("these words are no code: one of them is another word; compare them with the other device")]
    Checksum,
    /// Characters are missing or changed.
    #[error("the link is incomplete or has a typing error: copy it again, all of it")]
    Damaged,
}

/// The secret of one pairing, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PairingCode(Zeroizing<[u8; CODE_LEN]>);

impl PairingCode {
    /// A fresh code.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; CODE_LEN]);
        entropy.fill(bytes.as_mut());
        Self(bytes)
    }

    /// The words, to be typed on the other device.
    pub fn words(&self) -> Vec<&'static str> {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, self.0.as_ref())
            .unwrap_or_else(|error| unreachable!("{CODE_LEN} bytes are {CODE_WORDS} words: {error}"));
        mnemonic.words().collect()
    }

    /// Key of the side that shows the code.
    pub fn host_key(&self) -> SecretKey {
        self.key(HOST_CONTEXT)
    }

    /// Key of the side that reads it.
    pub fn guest_key(&self) -> SecretKey {
        self.key(GUEST_CONTEXT)
    }

    fn key(&self, context: &'static str) -> SecretKey {
        SecretKey::from_bytes(&Zeroizing::new(blake3::derive_key(context, self.0.as_ref())))
    }

    fn of_words(text: &str) -> Result<Self, PairingCodeError> {
        let mut words = Vec::new();
        for typed in text.split(is_between_words).filter(|typed| !typed.is_empty()) {
            let unknown = PairingCodeError::UnknownWord { number: words.len() + 1 };
            words.push(listed_word(typed).ok_or(unknown)?);
        }
        if words.len() != CODE_WORDS {
            return Err(PairingCodeError::Form);
        }
        let phrase = Zeroizing::new(words.join(" "));
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &phrase)
            .map_err(|_| PairingCodeError::Checksum)?;
        let (padded, _) = mnemonic.to_entropy_array();
        let padded = Zeroizing::new(padded);
        let mut bytes = Zeroizing::new([0; CODE_LEN]);
        bytes.copy_from_slice(&padded[..CODE_LEN]);
        Ok(Self(bytes))
    }
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairingCode(…)")
    }
}

/// A code with where the first device can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingInvite {
    /// The secret.
    pub code: PairingCode,
    /// Socket addresses, `ip:port`; none where only the words are known.
    pub addresses: Vec<String>,
    /// Relays over which it can be reached.
    pub relays: Vec<Relay>,
}

#[derive(Encode, Decode)]
struct Travelling {
    #[cbor(n(0), with = "minicbor::bytes")]
    code: [u8; CODE_LEN],
    #[n(1)]
    addresses: Vec<String>,
    #[n(2)]
    relays: Vec<Relay>,
}

impl fmt::Display for PairingInvite {
    /// The link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addresses, relays) = (self.addresses.clone(), self.relays.clone());
        let mut bytes = Zeroizing::new(codec::encode(&Travelling { code: *self.code.0, addresses, relays }));
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_LEN]);
        write!(f, "{LINK_PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
    }
}

impl FromStr for PairingInvite {
    type Err = PairingCodeError;

    /// Reads a link, or the words alone.
    fn from_str(text: &str) -> Result<Self, PairingCodeError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PairingCodeError::Form);
        }
        let text = Zeroizing::new(text.trim().to_ascii_lowercase());
        let Some(body) = text.strip_prefix(LINK_PREFIX) else {
            let code = PairingCode::of_words(&text)?;
            return Ok(Self { code, addresses: Vec::new(), relays: Vec::new() });
        };
        let body = Zeroizing::new(body.to_ascii_uppercase());
        let bytes = BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| PairingCodeError::Damaged)?;
        let bytes = Zeroizing::new(bytes);
        let split = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(PairingCodeError::Damaged)?;
        let (contents, checksum) = bytes.split_at(split);
        if blake3::hash(contents).as_bytes()[..CHECKSUM_LEN] != *checksum {
            return Err(PairingCodeError::Damaged);
        }
        let read: Travelling =
            codec::decode(contents, TEXT_BYTES_MAX).map_err(|_| PairingCodeError::Damaged)?;
        let fits = read.addresses.len() <= ADDRESSES_MAX
            && read.addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
            && relay::are_usable(&read.relays);
        if !fits {
            return Err(PairingCodeError::Damaged);
        }
        let code = PairingCode(Zeroizing::new(read.code));
        Ok(Self { code, addresses: read.addresses, relays: read.relays })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(byte: u8) -> PairingCode {
        PairingCode(Zeroizing::new([byte; CODE_LEN]))
    }

    #[test]
    fn words_and_links_are_read_back() {
        for byte in 0..=255 {
            let code = code(byte);
            assert_eq!(code.words().len(), CODE_WORDS);
            let typed = format!("1. {}\n", code.words().join(", ").to_uppercase());
            let read: PairingInvite = typed.parse().expect("words");
            assert_eq!((read.code, read.addresses.len()), (code.clone(), 0));
            let relays = vec![Relay { url: "https://relay.example.org".into(), pin: None }];
            let invite = PairingInvite { code, addresses: vec!["192.0.2.7:4711".into()], relays };
            assert_eq!(invite.to_string().parse::<PairingInvite>(), Ok(invite.clone()));
            assert_eq!(invite.to_string().to_uppercase().parse::<PairingInvite>(), Ok(invite));
        }
    }

    #[test]
    fn the_two_sides_have_different_keys_and_so_has_every_code() {
        let mut seen = std::collections::BTreeSet::new();
        for byte in 0..=255 {
            assert!(seen.insert(code(byte).host_key().public_bytes()));
            assert!(seen.insert(code(byte).guest_key().public_bytes()));
        }
        assert_eq!(format!("{:?}", code(3)), "PairingCode(…)");
    }

    #[test]
    fn what_is_no_code_is_told_apart() {
        let words = code(9).words();
        let read = |text: &str| text.parse::<PairingInvite>().map(|_| ());
        assert_eq!(read(&words[..11].join(" ")), Err(PairingCodeError::Form));
        assert_eq!(read("zebra zzz"), Err(PairingCodeError::UnknownWord { number: 2 }));
        let mut swapped = words.clone();
        swapped[11] = if swapped[11] == "zoo" { "abandon" } else { "zoo" };
        assert_eq!(read(&swapped.join(" ")), Err(PairingCodeError::Checksum));
        let link = PairingInvite { code: code(9), addresses: Vec::new(), relays: Vec::new() }.to_string();
        for cut in LINK_PREFIX.len()..link.len() {
            assert_eq!(read(&link[..cut]), Err(PairingCodeError::Damaged), "cut at {cut}");
        }
        assert_eq!(read(&"a".repeat(TEXT_BYTES_MAX + 1)), Err(PairingCodeError::Form));
    }
}
