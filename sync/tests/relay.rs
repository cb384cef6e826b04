//! Relays with real TLS on 127.0.0.1, and real endpoints that have no other way
//! to each other.

#[path = "relay/doors.rs"]
mod doors;
#[path = "relay/ways.rs"]
mod ways;

use std::net::SocketAddr;
use std::time::Duration;

use exo_model::charter::Relay;
use exo_model::id::{CertificatePin, DeviceId};
use exo_sync::relay::{
    HomeRelay, HomeRelayStatus, RelayAccess, RelayCertificate, RelayConfig, RelayLimits, RelayServer,
    RelayTls, RelayTrust,
};
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, RelayUrl};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(60);
/// What the endpoints speak: they send back what they get.
const ECHO: &[u8] = b"exo/test/echo";
/// Longest text that is sent back.
const ECHO_BYTES_MAX: usize = 1 << 20;
/// Any free port of this machine.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

/// A relay with a certificate of its own, and what is told to friends.
struct Running {
    server: RelayServer,
    relay: Relay,
    _folder: TempDir,
}

fn config(folder: &TempDir, access: RelayAccess, limits: RelayLimits) -> RelayConfig {
    let certificate =
        RelayCertificate::SelfSigned { folder: folder.path().join("relay"), host: "127.0.0.1".into() };
    let tls = Some(RelayTls { https: ANY, certificate });
    RelayConfig { http: ANY, tls, access, limits, metrics: None }
}

impl Running {
    async fn start(access: RelayAccess, limits: RelayLimits) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let server = RelayServer::start(config(&folder, access, limits)).await.expect("the relay starts");
        let url = format!("https://{}", server.https_address().expect("TLS"));
        let relay = Relay::new(&url, server.pin()).expect("a relay's address");
        Self { server, relay, _folder: folder }
    }

    async fn open() -> Self {
        Self::start(RelayAccess::Open, RelayLimits::default()).await
    }

    fn url(&self) -> RelayUrl {
        self.relay.url.parse().expect("a relay's address")
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.server.metrics_text();
        let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(key, _)| key == name));
        let (_, value) = line.and_then(|line| line.split_once(' ')).unwrap_or_else(|| panic!("no {name}"));
        value.parse().expect("a number")
    }
}

/// A device that sends back what it is sent.
struct Peer {
    endpoint: Endpoint,
    relays: watch::Sender<Vec<Relay>>,
    home: HomeRelay,
    _echo: JoinHandle<()>,
}

impl Peer {
    /// With no way but relays.
    async fn relayed(seed: u8, relays: &[Relay]) -> Self {
        Self::start(seed, relays, false).await
    }

    async fn start(seed: u8, relays: &[Relay], direct: bool) -> Self {
        let trust = RelayTrust::default();
        let secret = iroh::SecretKey::from_bytes(&[seed; 32]);
        let builder = Endpoint::builder(presets::Minimal).secret_key(secret).alpns(vec![ECHO.to_vec()]);
        let mut builder = trust.prepare(builder.clear_ip_transports());
        if direct {
            builder = builder.bind_addr(ANY).expect("an address");
        }
        let endpoint = builder.bind().await.expect("binds");
        let (sender, receiver) = watch::channel(relays.to_vec());
        let home = HomeRelay::keep(endpoint.clone(), trust, receiver);
        let echo = tokio::spawn(echo(endpoint.clone()));
        Self { endpoint, relays: sender, home, _echo: echo }
    }

    fn device(&self) -> DeviceId {
        DeviceId::from_bytes(*self.endpoint.id().as_bytes())
    }

    fn status(&self) -> HomeRelayStatus {
        self.home.watch().borrow().clone()
    }

    /// Waits until it is connected to a relay, and says to which.
    async fn at_home(&self) -> RelayUrl {
        until("a home relay", || self.status().connected).await;
        self.status().url.expect("connected to something")
    }

    async fn connect(&self, to: EndpointAddr) -> Connection {
        in_time("a connection", self.endpoint.connect(to, ECHO)).await.expect("connects")
    }

    /// Sends over `relay`, and gets the same back.
    async fn exchange(&self, other: &Self, relay: RelayUrl, text: &[u8]) -> Connection {
        let to = EndpointAddr::new(other.endpoint.id()).with_relay_url(relay);
        let connection = self.connect(to).await;
        assert_eq!(in_time("an echo", ask(&connection, text)).await, text);
        connection
    }
}

async fn ask(connection: &Connection, text: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    let write = async {
        send.write_all(text).await.expect("written");
        send.finish().expect("open");
    };
    tokio::join!(write, recv.read_to_end(ECHO_BYTES_MAX)).1.expect("read")
}

async fn echo(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let Ok(text) = recv.read_to_end(ECHO_BYTES_MAX).await else { return };
                if send.write_all(&text).await.is_err() || send.finish().is_err() {
                    return;
                }
            }
        });
    }
}

/// The pin of a certificate that this relay does not have.
fn other_pin() -> Option<CertificatePin> {
    Some(CertificatePin::of_certificate(b"another certificate"))
}
