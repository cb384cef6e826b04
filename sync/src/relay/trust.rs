//! Which certificates a device accepts, and from which relays.
//!
//! iroh knows one set of roots for all relays; a self-signed certificate among
//! them could speak for any name. So the check is ours, and goes by host: where
//! a community pinned a certificate, that one and no other; where it did not,
//! one that a public authority vouches for; hosts that it does not name, none.
//! The list can change while the endpoint lives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use exo_model::charter::Relay;
use exo_model::charter::relay::RELAYS_MAX;
use exo_model::id::CertificatePin;
use iroh::endpoint::Builder;
use iroh::tls::CaTlsConfig;
use iroh::{NetReportConfig, RelayMap, RelayMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::choice;

/// What is accepted from one host. A host can run several relays, on several
/// ports; the check does not learn the port, so any of their certificates does.
#[derive(Clone, Debug, Default)]
struct Accepted {
    pins: BTreeSet<CertificatePin>,
    authorities: bool,
}

/// The relays that a device trusts to carry its packets. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct RelayTrust {
    hosts: Arc<RwLock<BTreeMap<String, Accepted>>>,
}

impl RelayTrust {
    /// Trusts these relays and no others; at most [`RELAYS_MAX`] are looked at.
    pub fn set(&self, relays: &[Relay]) {
        let mut hosts: BTreeMap<String, Accepted> = BTreeMap::new();
        for relay in relays.iter().take(RELAYS_MAX).filter(|relay| relay.is_tls()) {
            let Some((host, _)) = choice::place(&relay.url) else { continue };
            let accepted = hosts.entry(host).or_default();
            match relay.pin {
                Some(pin) => drop(accepted.pins.insert(pin)),
                None => accepted.authorities = true,
            }
        }
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// An endpoint that is about to use relays: with this check, and without any
    /// relay yet ([`HomeRelay`](super::HomeRelay) sees to that).
    pub fn prepare(&self, builder: Builder) -> Builder {
        let mut probes = NetReportConfig::default();
        // A request in the clear that would tell us of a login page.
        probes.captive_portal_check = false;
        builder
            .relay_mode(RelayMode::Custom(RelayMap::empty()))
            .ca_tls_config(self.tls_config())
            .net_report_config(probes)
    }

    fn tls_config(&self) -> CaTlsConfig {
        let trust = self.clone();
        CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
            let authorities = CaTlsConfig::embedded().server_cert_verifier(provider.clone())?;
            Ok(Arc::new(Verifier { trust: trust.clone(), authorities, provider }))
        }))
    }

    fn accepted(&self, host: &str) -> Option<Accepted> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }
}

struct Verifier {
    trust: RelayTrust,
    authorities: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refused = || Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let host = server_name.to_str().to_ascii_lowercase();
        let accepted = self.trust.accepted(&host).ok_or_else(refused)?;
        // A pin is the whole certificate: neither name nor dates can say more.
        if accepted.pins.contains(&CertificatePin::of_certificate(end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        if !accepted.authorities {
            return Err(refused());
        }
        self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(relays: &[Relay]) -> Arc<dyn ServerCertVerifier> {
        let trust = RelayTrust::default();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = trust.tls_config().server_cert_verifier(provider).unwrap();
        // After the verifier was made, as when the charter changes.
        trust.set(relays);
        verifier
    }

    fn accepts(verifier: &Arc<dyn ServerCertVerifier>, shown: &CertificateDer<'_>, host: &str) -> bool {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now()).is_ok()
    }

    fn certificate(host: &str) -> CertificateDer<'static> {
        rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap().cert.der().clone()
    }

    #[test]
    fn a_pinned_certificate_speaks_for_its_relay_and_for_nothing_else() {
        let (ours, other) = (certificate("relay.example.org"), certificate("relay.example.org"));
        let pin = Some(CertificatePin::of_certificate(&ours));
        let verifier = verifier(&[
            Relay::new("https://relay.example.org:8443", pin).unwrap(),
            Relay::new("https://[2001:db8::7]", pin).unwrap(),
            Relay::new("https://second.example.org", None).unwrap(),
            Relay::new("http://third.example.org", None).unwrap(),
        ]);
        assert!(accepts(&verifier, &ours, "relay.example.org"));
        assert!(accepts(&verifier, &ours, "Relay.Example.org"));
        assert!(accepts(&verifier, &ours, "2001:db8::7"));
        assert!(!accepts(&verifier, &other, "relay.example.org"), "another certificate of the same name");
        for host in ["second.example.org", "third.example.org", "elsewhere.example.org", "127.0.0.1"] {
            assert!(!accepts(&verifier, &ours, host), "{host}");
        }
    }
}
