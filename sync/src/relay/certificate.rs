//! What a relay shows to prove that it is the one that was named.
//!
//! Either certificate files that an authority issued, or a certificate that the
//! relay signs itself: made on the first start, kept in a folder, and pinned by
//! its SHA-256. A self-signed one never expires; whoever replaces it has to
//! give everyone the new pin.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exo_model::id::CertificatePin;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::RelayError;

/// Largest certificate or key file that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The self-signed certificate, in its folder.
const CERTIFICATE_FILE: &str = "relay-cert.pem";
/// Its private key.
const KEY_FILE: &str = "relay-key.pem";

/// Where a relay's certificate comes from.
#[derive(Clone, Debug)]
pub enum RelayCertificate {
    /// PEM files that somebody else renews; read again while the relay runs.
    Files {
        /// The certificate, and those that vouch for it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Signed by itself, made in `folder` on the first start.
    SelfSigned {
        /// Where it is kept.
        folder: PathBuf,
        /// What the relay is called.
        host: String,
    },
}

/// A certificate ready to be shown.
pub(super) struct Shown {
    pub(super) config: ServerConfig,
    /// Of a self-signed one. Files are renewed, and with them their hash.
    pub(super) pin: Option<CertificatePin>,
}

impl RelayCertificate {
    pub(super) async fn load(&self) -> Result<Shown, RelayError> {
        match self {
            Self::Files { certificate, key } => files(certificate, key).await,
            Self::SelfSigned { folder, host } => {
                let (folder, host) = (folder.clone(), host.clone());
                tokio::task::spawn_blocking(move || self_signed(&folder, &host))
                    .await
                    .map_err(|error| RelayError::Start(error.to_string()))?
            }
        }
    }
}

async fn files(certificate: &Path, key: &Path) -> Result<Shown, RelayError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |path: &Path, reason: String| RelayError::Certificate { path: path.to_owned(), reason };
    for path in [certificate, key] {
        read(path)?;
    }
    let resolver = iroh_relay::server::reloading_resolver(
        &provider,
        certificate.to_owned(),
        key.to_owned(),
        iroh_relay::server::DEFAULT_CERT_RELOAD_INTERVAL,
    )
    .await
    .map_err(|error| unusable(certificate, format!("{error:#}")))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(certificate, error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    Ok(Shown { config, pin: None })
}

fn self_signed(folder: &Path, host: &str) -> Result<Shown, RelayError> {
    std::fs::create_dir_all(folder).map_err(|source| RelayError::File { path: folder.to_owned(), source })?;
    let (certificate_path, key_path) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
    // The certificate is written last: without it nobody has seen the key.
    if !certificate_path.exists() {
        make(&certificate_path, &key_path, host)?;
    }
    let unusable = |path: &Path, reason: String| RelayError::Certificate { path: path.to_owned(), reason };
    let certificate = CertificateDer::from_pem_slice(&read(&certificate_path)?)
        .map_err(|error| unusable(&certificate_path, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?)
        .map_err(|error| unusable(&key_path, error.to_string()))?;
    let pin = Some(CertificatePin::of_certificate(&certificate));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&certificate_path, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(|error| unusable(&certificate_path, error.to_string()))?;
    Ok(Shown { config, pin })
}

fn make(certificate_path: &Path, key_path: &Path, host: &str) -> Result<(), RelayError> {
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()])
        .map_err(|error| RelayError::Host { host: host.to_owned(), reason: error.to_string() })?;
    write_private(key_path, made.signing_key.serialize_pem().as_bytes())?;
    write_private(certificate_path, made.cert.pem().as_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, RelayError> {
    let failed = |source| RelayError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("more than {FILE_BYTES_MAX} bytes");
        return Err(RelayError::Certificate { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

/// Writes beside the target and renames, so that a crash leaves no half of it;
/// readable by the owner only.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), RelayError> {
    let failed = |source| RelayError::File { path: path.to_owned(), source };
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let pin = || self_signed(folder.path(), "relay.example.org").map(|shown| shown.pin);
        let first = pin().unwrap();
        assert!(first.is_some());
        assert_eq!(pin().unwrap(), first, "the same at every start");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }

        // A key that is gone is told, and not replaced behind the pin's back.
        std::fs::remove_file(folder.path().join(KEY_FILE)).unwrap();
        assert!(matches!(pin(), Err(RelayError::File { .. })));
        std::fs::write(folder.path().join(KEY_FILE), b"no key").unwrap();
        assert!(matches!(pin(), Err(RelayError::Certificate { .. })));
        let other = tempfile::tempdir().unwrap();
        self_signed(other.path(), "relay.example.org").unwrap();
        std::fs::copy(other.path().join(KEY_FILE), folder.path().join(KEY_FILE)).unwrap();
        assert!(matches!(pin(), Err(RelayError::Certificate { .. })), "another certificate's key");
    }

    #[tokio::test]
    async fn files_that_are_no_certificate_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let load = || RelayCertificate::Files { certificate: certificate.clone(), key: key.clone() };
        assert!(matches!(load().load().await.err(), Some(RelayError::File { .. })));
        std::fs::write(&certificate, b"nothing").unwrap();
        std::fs::write(&key, "x".repeat(256 * 1024 + 1)).unwrap();
        assert!(matches!(load().load().await.err(), Some(RelayError::Certificate { .. })), "too long");
        std::fs::write(&key, b"nothing").unwrap();
        assert!(matches!(load().load().await.err(), Some(RelayError::Certificate { .. })));

        let made = tempfile::tempdir().unwrap();
        self_signed(made.path(), "relay.example.org").unwrap();
        std::fs::copy(made.path().join(CERTIFICATE_FILE), &certificate).unwrap();
        std::fs::copy(made.path().join(KEY_FILE), &key).unwrap();
        assert!(load().load().await.unwrap().pin.is_none(), "renewed by others, so not pinned");
    }
}
