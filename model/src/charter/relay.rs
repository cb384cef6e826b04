//! Relays that a community names for its members: servers that carry sealed
//! packets between two devices that cannot reach each other directly.
//!
//! Only the form of an entry is judged here, the same on every peer and for
//! ever; whether a relay answers is found out by whoever uses it. An entry has
//! exactly one form, so that one relay is one entry.

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::id::CertificatePin;

/// Most relays of one community: a member measures each of them.
pub const RELAYS_MAX: usize = 16;
/// Longest address of a relay, in bytes: a name of 253 and what is around it.
pub const RELAY_URL_BYTES_MAX: usize = 270;
/// Longest name of a host, as in the domain name system.
const HOST_BYTES_MAX: usize = 253;
/// Longest part of a name between two dots.
const LABEL_BYTES_MAX: usize = 63;
/// Longest text form of an IPv6 address.
const IPV6_BYTES_MAX: usize = 45;
/// Most digits of a port.
const PORT_DIGITS_MAX: usize = 5;

/// One relay.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Relay {
    /// Where it is: scheme, host and, unless it is the scheme's own, a port.
    #[n(0)]
    pub url: String,
    /// The one certificate it may show; without one, its certificate must be
    /// vouched for by an authority that everyone's computer knows.
    #[n(1)]
    pub pin: Option<CertificatePin>,
}

/// A list of relays that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// Not the address of a relay.
    #[error(
        "{0:?} is not the address of a relay: write it like https://relay.example.org or \
         https://203.0.113.7:8443, with nothing behind the port"
    )]
    Url(String),
    /// Listed twice.
    #[error("the relay {0} is listed twice: leave one of them away")]
    Twice(String),
    /// A certificate where none is shown.
    #[error("the relay {0} shows no certificate that could be pinned: use https, or leave the pin away")]
    PinWithoutTls(String),
    /// Over [`RELAYS_MAX`].
    #[error("{0} relays are too many: a community can list {RELAYS_MAX}")]
    TooMany(usize),
}

impl CertificatePin {
    /// Of a certificate in its DER form.
    pub fn of_certificate(der: &[u8]) -> Self {
        Self::from_bytes(Sha256::digest(der).into())
    }
}

impl Relay {
    /// An entry from what a person wrote.
    ///
    /// # Errors
    /// When it is not the address of a relay, or has a pin without TLS.
    pub fn new(url: &str, pin: Option<CertificatePin>) -> Result<Self, RelayError> {
        let relay = Self { url: clean_url(url), pin };
        if !is_url(&relay.url) {
            return Err(RelayError::Url(url.chars().take(RELAY_URL_BYTES_MAX).collect()));
        }
        if relay.is_usable() { Ok(relay) } else { Err(RelayError::PinWithoutTls(relay.url)) }
    }

    /// Whether the connection to it is encrypted once more.
    pub fn is_tls(&self) -> bool {
        self.url.starts_with("https://")
    }

    fn is_usable(&self) -> bool {
        is_url(&self.url) && (self.pin.is_none() || self.is_tls())
    }
}

/// Relays as they may enter the shared state, from what a person wrote.
///
/// # Errors
/// See [`RelayError`].
pub fn clean(relays: &[Relay]) -> Result<Vec<Relay>, RelayError> {
    if relays.len() > RELAYS_MAX {
        return Err(RelayError::TooMany(relays.len()));
    }
    let mut cleaned: Vec<Relay> = Vec::with_capacity(relays.len());
    for relay in relays {
        let relay = Relay::new(&relay.url, relay.pin)?;
        if cleaned.iter().any(|other| other.url == relay.url) {
            return Err(RelayError::Twice(relay.url));
        }
        cleaned.push(relay);
    }
    Ok(cleaned)
}

/// Whether a received list is one that [`clean`] could have let through.
pub(super) fn are_usable(relays: &[Relay]) -> bool {
    relays.len() <= RELAYS_MAX
        && relays.iter().all(Relay::is_usable)
        && relays
            .iter()
            .enumerate()
            .all(|(at, relay)| relays[..at].iter().all(|other| other.url != relay.url))
}

/// The one form of an address: no white space around it, no capitals, no
/// slash at the end, no port that the scheme implies.
fn clean_url(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('/').unwrap_or(&text);
    let port = if text.starts_with("https://") { ":443" } else { ":80" };
    text.strip_suffix(port).unwrap_or(text).to_owned()
}

fn is_url(url: &str) -> bool {
    if url.len() > RELAY_URL_BYTES_MAX {
        return false;
    }
    let (rest, implied) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (rest, "443"),
        (None, Some(rest)) => (rest, "80"),
        (None, None) => return false,
    };
    let (is_host, port) = match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, ""))) => (is_ipv6(host), None),
        Some(Some((host, port))) => (is_ipv6(host) && port.starts_with(':'), Some(&port[1..])),
        Some(None) => return false,
        None => match rest.split_once(':') {
            Some((host, port)) => (is_name(host), Some(port)),
            None => (is_name(rest), None),
        },
    };
    is_host && port.is_none_or(|port| port != implied && is_port(port))
}

/// A name, or an IPv4 address, which looks like one.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= HOST_BYTES_MAX && host.split('.').all(is_label)
}

/// Looks like an IPv6 address. Only the characters are judged: what a library
/// reads as one must not decide what counts.
fn is_ipv6(host: &str) -> bool {
    host.len() <= IPV6_BYTES_MAX
        && host.matches(':').count() >= 2
        && host.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b':' | b'.'))
}

fn is_port(port: &str) -> bool {
    port.len() <= PORT_DIGITS_MAX
        && port.bytes().all(|b| b.is_ascii_digit())
        && !port.starts_with('0')
        && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_relay_has_one_address() {
        for (written, meant) in [
            (" https://Relay.Example.org/ ", "https://relay.example.org"),
            ("https://relay.example.org:443", "https://relay.example.org"),
            ("https://relay.example.org:8443/", "https://relay.example.org:8443"),
            ("http://relay.example.org:80", "http://relay.example.org"),
            ("https://203.0.113.7:1", "https://203.0.113.7:1"),
            ("https://[2001:DB8::7]:65535", "https://[2001:db8::7]:65535"),
            ("http://[::1]", "http://[::1]"),
        ] {
            let relay = Relay::new(written, None).unwrap();
            assert_eq!(relay.url, meant, "{written:?}");
            assert!(are_usable(std::slice::from_ref(&relay)));
            assert_eq!(relay.is_tls(), meant.starts_with("https"));
            assert_eq!(written == meant, is_url(written), "only the one form is taken from others");
        }
    }

    #[test]
    fn what_is_no_relay_is_refused() {
        let long = format!("https://{}", vec!["a".repeat(63); 5].join("."));
        for bad in [
            "",
            "relay.example.org",
            "ftp://relay.example.org",
            "https://",
            "https://ana@relay.example.org",
            "https://ana:word@relay.example.org",
            "https://relay.example.org/path",
            "https://relay.example.org?token=1",
            "https://relay.example.org#a",
            "https://relay..org",
            "https://-relay.org",
            "https://relay.org:",
            "https://relay.org:0",
            "https://relay.org:080",
            "https://relay.org:65536",
            "https://relay.org:+80",
            "https://rélay.org",
            "https://rel ay.org",
            "https://[::1",
            "https://[::1]8443",
            "https://[1]",
            "https://[relay.org]",
            long.as_str(),
        ] {
            assert!(!is_url(bad), "{bad}");
            assert!(matches!(Relay::new(bad, None), Err(RelayError::Url(_))), "{bad}");
        }
    }

    #[test]
    fn lists_are_bounded_and_name_each_relay_once() {
        let pin = Some(CertificatePin::of_certificate(b"shown"));
        let relay = |number: usize| Relay { url: format!("https://r{number}.example.org"), pin };
        let full: Vec<_> = (0..RELAYS_MAX).map(relay).collect();
        assert_eq!(clean(&full), Ok(full.clone()));
        assert!(are_usable(&full) && are_usable(&[]));
        let more: Vec<_> = (0..=RELAYS_MAX).map(relay).collect();
        assert_eq!(clean(&more), Err(RelayError::TooMany(RELAYS_MAX + 1)));
        assert!(!are_usable(&more));
        let twice = [relay(1), Relay { pin: None, ..relay(1) }];
        assert_eq!(clean(&twice), Err(RelayError::Twice(relay(1).url)));
        assert!(!are_usable(&twice));
        let open = [Relay { url: "http://relay.example.org".into(), pin }];
        assert_eq!(clean(&open), Err(RelayError::PinWithoutTls(open[0].url.clone())));
        assert!(!are_usable(&open));
    }
}
