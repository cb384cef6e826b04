//! Which relay a device calls its home: pure, from measured round-trip times.
//!
//! The nearest one, unless several are about as near: then each device goes by
//! a hash of itself and the relay, so that a community spreads over them and
//! hardly anyone moves when one comes or goes (rendezvous hashing). A home is
//! kept while it is not much slower than the best.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use exo_model::charter::Relay;
use exo_model::charter::relay::RELAYS_MAX;
use exo_model::hash::blake3;
use exo_model::id::DeviceId;
use iroh::{RelayConfig, RelayUrl};
use iroh_relay::RelayQuicConfig;

/// Relays at most this many times as far as the nearest are about as near.
const NEAR_FACTOR: u32 = 2;
/// And so are those this much farther: below it nobody notices.
const NEAR_SLACK: Duration = Duration::from_millis(10);
/// A home may become this many times as far as what is about as near, before
/// it is given up: a home that changes has to be told to everyone.
const STAY_FACTOR: u32 = 2;
/// Relays that are tried for a device of which one knows only the name.
pub const GUESSES_MAX: usize = 3;

/// How far a relay is; `None` if it does not answer, or was of no use lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Its address as in the charter.
    pub url: String,
    /// The shortest round trip.
    pub rtt: Option<Duration>,
}

/// All relays, the one to call home first, then those to fall back to.
pub fn order<'a>(device: &DeviceId, relays: &'a [Measured], home: Option<&str>) -> Vec<&'a str> {
    let best = relays.iter().filter_map(|relay| relay.rtt).min().unwrap_or_default();
    let near = (best * NEAR_FACTOR).max(best + NEAR_SLACK);
    let place = |relay: &Measured| {
        let stays = |rtt| home == Some(relay.url.as_str()) && rtt <= near * STAY_FACTOR;
        match relay.rtt {
            Some(rtt) if stays(rtt) => (0, Duration::ZERO),
            Some(rtt) if rtt <= near => (1, Duration::ZERO),
            Some(rtt) => (2, rtt),
            None => (3, Duration::ZERO),
        }
    };
    let mut ordered: Vec<_> = relays.iter().collect();
    ordered.sort_by_cached_key(|relay| (place(relay), rank(device, &relay.url)));
    ordered.into_iter().map(|relay| relay.url.as_str()).collect()
}

/// Where `device` is most likely to be met, if it has not said which relay it
/// calls home: right for each device that has them all about as near, and for
/// everyone where there are at most [`GUESSES_MAX`].
pub fn guess(device: &DeviceId, relays: &[Relay]) -> BTreeSet<RelayUrl> {
    let mut ordered: Vec<&Relay> = relays.iter().take(RELAYS_MAX).collect();
    ordered.sort_by_cached_key(|relay| rank(device, &relay.url));
    let urls = ordered.into_iter().filter_map(|relay| relay.url.parse().ok());
    urls.take(GUESSES_MAX).collect()
}

/// Lowest first.
fn rank(device: &DeviceId, url: &str) -> [u8; 32] {
    *blake3(&[device.as_bytes(), url.as_bytes()].concat()).as_bytes()
}

/// A relay as iroh wants it. A relay of ours answers address discovery at the
/// same number as HTTPS, over UDP; one without TLS does not.
pub(super) fn config(url: &str) -> Option<RelayConfig> {
    let (_, port) = place(url)?;
    let quic = url.starts_with("https://").then(|| RelayQuicConfig::new(port));
    Some(RelayConfig::new(url.parse().ok()?, quic))
}

/// A relay as an endpoint's map holds it.
pub fn entry(url: &str) -> Option<(RelayUrl, Arc<RelayConfig>)> {
    Some((url.parse().ok()?, Arc::new(config(url)?)))
}

/// Host and port of a relay's address.
pub(super) fn place(url: &str) -> Option<(String, u16)> {
    let url: RelayUrl = url.parse().ok()?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Some((host, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u16) -> DeviceId {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        DeviceId::from_bytes(bytes)
    }

    fn relays(rtts_ms: &[Option<u64>]) -> Vec<Measured> {
        let relay = |(at, rtt_ms): (usize, &Option<u64>)| Measured {
            url: format!("https://r{at}.example.org"),
            rtt: rtt_ms.map(Duration::from_millis),
        };
        rtts_ms.iter().enumerate().map(relay).collect()
    }

    fn home(number: u16, relays: &[Measured]) -> String {
        order(&device(number), relays, None)[0].to_owned()
    }

    #[test]
    fn the_nearest_is_home_and_what_does_not_answer_is_last() {
        let relays = relays(&[None, Some(90), Some(20), Some(200)]);
        for number in 0..50 {
            let ordered = order(&device(number), &relays, None);
            let urls = [2, 1, 3, 0].map(|at| relays[at].url.as_str());
            assert_eq!(ordered, urls);
        }
        assert_eq!(order(&device(1), &[], None), [""; 0]);
    }

    #[test]
    fn members_spread_over_relays_that_are_about_as_near() {
        let near = relays(&[Some(20), Some(30), Some(38), Some(300)]);
        let counts = near.iter().map(|relay| (0..600).filter(|n| home(*n, &near) == relay.url).count());
        let counts: Vec<usize> = counts.collect();
        assert_eq!((counts.iter().sum::<usize>(), counts[3]), (600, 0), "{counts:?}");
        assert!(counts[..3].iter().all(|count| *count > 140), "evenly: {counts:?}");

        // Who was not on the one that went away stays where they are.
        let gone = relays(&[Some(20), None, Some(38), Some(300)]);
        for number in 0..600 {
            let before = home(number, &near);
            assert!(before == near[1].url || home(number, &gone) == before);
        }
        let tiny = relays(&[Some(1), Some(9)]);
        assert!((0..100).any(|n| home(n, &tiny) == tiny[1].url), "milliseconds do not matter");
    }

    #[test]
    fn a_home_is_kept_until_it_is_much_slower() {
        let kept = |rtts_ms: &[Option<u64>]| {
            let relays = relays(rtts_ms);
            let homes: BTreeSet<bool> = (0..50)
                .map(|n| order(&device(n), &relays, Some(&relays[1].url))[0] == relays[1].url)
                .collect();
            homes
        };
        assert_eq!(kept(&[Some(20), Some(35)]), [true].into());
        assert_eq!(kept(&[Some(20), Some(80)]), [true].into(), "twice what is about as near");
        assert_eq!(kept(&[Some(20), Some(81)]), [false].into());
        assert_eq!(kept(&[Some(20), None]), [false].into());
    }

    #[test]
    fn a_device_is_looked_for_where_its_hash_puts_it() {
        let listed: Vec<Relay> =
            (0..9).map(|at| Relay::new(&format!("https://r{at}.example.org"), None).unwrap()).collect();
        let measured = relays(&[Some(20); 9]);
        for number in 0..50 {
            let guessed = guess(&device(number), &listed);
            assert_eq!(guessed.len(), GUESSES_MAX);
            assert!(guessed.contains(&home(number, &measured).parse().unwrap()));
        }
        assert_eq!(guess(&device(1), &listed[..2]).len(), 2);
    }

    #[test]
    fn addresses_come_apart() {
        assert_eq!(place("https://r.example.org"), Some(("r.example.org".into(), 443)));
        assert_eq!(place("http://[2001:db8::7]:81"), Some(("2001:db8::7".into(), 81)));
        assert_eq!(place("https://203.0.113.999"), None);
        let port = |url| config(url).and_then(|config| config.quic).map(|quic| quic.port);
        assert_eq!(port("https://r.example.org:8443"), Some(8443));
        assert_eq!(port("http://r.example.org:8443"), None);
    }
}
