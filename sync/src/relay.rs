//! Relays: servers that carry sealed packets between two devices which cannot
//! reach each other directly.
//!
//! Two halves. A [`RelayServer`] runs one: iroh's relay with a certificate of
//! its own, a door that knows whom it serves, limits and figures. And the
//! client: [`RelayTrust`] says which certificates a device accepts from the
//! relays that its community names, [`choice`] which of them it calls its home,
//! and [`HomeRelay`] keeps to that while relays come and go.
//!
//! A relay sees which devices talk, when and how much, and never what: packets
//! are encrypted from device to device. Never here: what is in them, and any
//! relay that nobody of the community named.

mod access;
mod certificate;
pub mod choice;
mod home;
mod metrics;
mod trust;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exo_model::id::CertificatePin;
use iroh_relay::server::{
    CertConfig, ClientRateLimit, Limits, QuicConfig, RelayConfig as IrohRelayConfig, RelayService, Server,
    ServerConfig, TlsConfig,
};
use tokio::task::JoinHandle;

use access::{Door, Doorkeeper};
use metrics::Figures;

pub use access::{Admits, AllowList, RelayAccess};
pub use certificate::RelayCertificate;
pub use home::{HomeRelay, HomeRelayStatus, goes_over};
pub use trust::RelayTrust;

/// Fewest bytes a second that a device may be limited to: iroh cannot count
/// less than one for each tenth of a second, and less than this helps nobody.
pub const BYTES_PER_SECOND_MIN: u32 = 16 * 1024;
/// Pause between looking for people inside who may not be there any more.
const RECHECK_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for clients to be told that the relay stops.
const GOODBYE: Duration = Duration::from_secs(3);
/// Public keys kept decoded; those beyond are decoded again.
const KEY_CACHE: usize = 4_096;
/// Tries to find a port that is free for TCP and UDP alike.
const FREE_PORT_TRIES: usize = 16;

/// Limits of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Bytes a second that are taken from one connection.
    pub bytes_per_second: NonZeroU32,
    /// Bytes that a connection may send at once after it was silent.
    pub burst_bytes: NonZeroU32,
    /// Connections in all.
    pub connections_max: usize,
}

/// One mebibyte.
const MIB: NonZeroU32 = NonZeroU32::new(1 << 20).expect("not zero");
/// Four of them.
const MIB_4: NonZeroU32 = NonZeroU32::new(4 << 20).expect("not zero");

impl Default for RelayLimits {
    /// For a home's connection: one device does not take all of the uplink, and
    /// a community of friends finds room several times over.
    fn default() -> Self {
        Self { bytes_per_second: MIB, burst_bytes: MIB_4, connections_max: 256 }
    }
}

/// How a relay encrypts.
#[derive(Clone, Debug)]
pub struct RelayTls {
    /// Address of HTTPS. UDP of the same number answers devices that ask what
    /// address they come from.
    pub https: SocketAddr,
    /// What is shown there.
    pub certificate: RelayCertificate,
}

/// How a relay is run.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Address of HTTP: the relay itself where there is no TLS, and otherwise
    /// only the page by which devices notice that a hotel wants them to log in.
    pub http: SocketAddr,
    /// HTTPS; without it, who talks to whom travels in the clear.
    pub tls: Option<RelayTls>,
    /// Whom it serves.
    pub access: RelayAccess,
    /// How much.
    pub limits: RelayLimits,
    /// Address of the page with the figures; usually none.
    pub metrics: Option<SocketAddr>,
}

/// A relay that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A limit that makes no sense.
    #[error("a relay cannot be limited to less than {BYTES_PER_SECOND_MIN} bytes a second")]
    Limits,
    /// An address is taken or may not be used.
    #[error("cannot listen on {address}: {source}; choose another address")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or key is not one, or they do not belong together.
    #[error(
        "{path} cannot be used: {reason}; restore it, or delete both files to get a new certificate and pin"
    )]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No certificate can be made for this name.
    #[error("no certificate can be made for {host:?}: {reason}")]
    Host {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// The server does not start.
    #[error("the relay does not start: {0}")]
    Start(String),
    /// The server ended by itself.
    #[error("the relay stopped: {0}")]
    Stopped(String),
}

/// What a relay has to do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayFigures {
    /// Devices connected.
    pub devices: usize,
    /// Connections refused since the start, to strangers or for want of room.
    pub refused: u64,
    /// Bytes carried since the start.
    pub carried_bytes: u64,
    /// Bytes that had to wait because their device sent too fast.
    pub limited_bytes: u64,
}

/// A running relay. Dropping it stops it without a goodbye.
#[derive(Debug)]
pub struct RelayServer {
    server: Server,
    inside: Inside,
    figures: Figures,
    pin: Option<CertificatePin>,
    metrics: Option<SocketAddr>,
    tasks: Tasks,
}

/// Whoever is connected, cut off when this is dropped. iroh's server does not
/// see to it: a connection keeps itself alive, and would go on being carried by
/// a relay that is no more.
#[derive(Debug)]
struct Inside {
    service: Option<RelayService>,
    door: Arc<Door>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let Some(service) = &self.service else { return };
        for id in self.door.everyone() {
            service.clients().disconnect(id, None);
        }
    }
}

/// Tasks that end with the relay.
#[derive(Debug, Default)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl RelayServer {
    /// Starts a relay.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn start(config: RelayConfig) -> Result<Self, RelayError> {
        let limits = config.limits;
        if limits.bytes_per_second.get() < BYTES_PER_SECOND_MIN {
            return Err(RelayError::Limits);
        }
        let door = Arc::new(Door::new(config.access, limits.connections_max));
        let mut rate = ClientRateLimit::new(limits.bytes_per_second);
        rate.max_burst_bytes = Some(limits.burst_bytes);
        let mut relay = IrohRelayConfig::new(config.http);
        relay.limits = Limits::default();
        relay.limits.client_rx = Some(rate);
        relay.key_cache_capacity = Some(KEY_CACHE);
        relay.access = Arc::new(Doorkeeper(door.clone()));
        let mut server_config = ServerConfig::default();
        let mut pin = None;
        if let Some(tls) = &config.tls {
            let shown = tls.certificate.load().await?;
            pin = shown.pin;
            let https = free_for_both(tls.https)?;
            relay.tls = Some(TlsConfig::new(https, CertConfig::Manual { server_config: shown.config }));
            server_config.quic = Some(QuicConfig::new(https));
        } else {
            is_free(config.http)?;
        }
        server_config.relay = Some(relay);
        let page = match config.metrics {
            Some(address) => Some(
                metrics::listen(address).await.map_err(|source| RelayError::Listen { address, source })?,
            ),
            None => None,
        };
        let server =
            Server::spawn(server_config).await.map_err(|error| RelayError::Start(format!("{error:#}")))?;
        let figures = Figures { iroh: server.metrics().server.clone(), door };
        let inside = Inside { service: server.relay_service().cloned(), door: figures.door.clone() };
        let mut relay = Self { server, inside, figures, pin, metrics: None, tasks: Tasks::default() };
        relay.watch_the_door();
        if let Some(page) = page {
            relay.metrics = page.local_addr().ok();
            relay.tasks.0.push(tokio::spawn(metrics::serve(page, relay.figures.clone())));
        }
        Ok(relay)
    }

    /// Cuts off whoever may not use the relay any more.
    fn watch_the_door(&mut self) {
        let Some(service) = self.server.relay_service().cloned() else { return };
        let door = self.figures.door.clone();
        self.tasks.0.push(tokio::spawn(async move {
            let mut seen = None;
            loop {
                tokio::select! {
                    () = door.access().changed(&mut seen) => {}
                    () = tokio::time::sleep(RECHECK_EVERY) => {}
                }
                for id in door.unwelcome() {
                    service.clients().disconnect(id, None);
                }
            }
        }));
    }

    /// The address of HTTPS, where there is TLS.
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.server.https_addr()
    }

    /// The address of HTTP.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.server.http_addr()
    }

    /// The address of the figures' page, where there is one.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// What friends pin: the fingerprint of a self-signed certificate.
    pub fn pin(&self) -> Option<CertificatePin> {
        self.pin
    }

    /// What there is to do.
    pub fn figures(&self) -> RelayFigures {
        let (iroh, door) = (&self.figures.iroh, self.figures.door.figures());
        RelayFigures {
            devices: door.devices,
            refused: door.refused + door.full,
            carried_bytes: iroh.bytes_sent.get(),
            limited_bytes: iroh.bytes_rx_ratelimited_total.get(),
        }
    }

    /// All figures as Prometheus text.
    pub fn metrics_text(&self) -> String {
        self.figures.text()
    }

    /// Waits until the relay ends by itself, which it should not.
    pub async fn ended(&mut self) -> RelayError {
        match self.server.join().await {
            Ok(Ok(())) => RelayError::Stopped("it was told to".into()),
            Ok(Err(error)) => RelayError::Stopped(format!("{error:#}")),
            Err(error) => RelayError::Stopped(error.to_string()),
        }
    }

    /// Tells everyone, and stops.
    ///
    /// # Errors
    /// When it had failed before.
    pub async fn stop(self) -> Result<(), RelayError> {
        drop(self.tasks);
        let (server, service) = (self.server, self.inside.service.clone());
        let goodbye = async {
            let stopped = server.shutdown().await;
            // The server leaves some connected where address discovery ends first.
            if let Some(service) = service {
                service.shutdown().await;
            }
            stopped
        };
        match tokio::time::timeout(GOODBYE, goodbye).await {
            Ok(Err(error)) => Err(RelayError::Stopped(format!("{error:#}"))),
            // Who does not take the goodbye in time is cut off.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

/// An address that is free for TCP and for UDP; a port is chosen where none is
/// given. The sockets are opened again by the server: in between somebody else
/// could take them, and then it does not start.
fn free_for_both(address: SocketAddr) -> Result<SocketAddr, RelayError> {
    let listen = |source| RelayError::Listen { address, source };
    let tries = if address.port() == 0 { FREE_PORT_TRIES } else { 1 };
    let mut failure = None;
    for _ in 0..tries {
        let tcp = std::net::TcpListener::bind(address).map_err(listen)?;
        let both = tcp.local_addr().map_err(listen)?;
        match std::net::UdpSocket::bind(both) {
            Ok(_) => return Ok(both),
            Err(source) => failure = Some(source),
        }
    }
    Err(listen(failure.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into())))
}

fn is_free(address: SocketAddr) -> Result<(), RelayError> {
    std::net::TcpListener::bind(address).map(drop).map_err(|source| RelayError::Listen { address, source })
}
