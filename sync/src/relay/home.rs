//! Keeps a device at its home relay.
//!
//! iroh makes the relay with the lowest latency of its map its home, and cannot
//! be told another one; but the map can change while the endpoint lives. So the
//! map holds the one relay that [`choice`] puts first, and the next one when
//! that is gone. Relays of other members are reached without being in the map.
//!
//! Round trips are measured by opening TCP connections, a few bytes each, to
//! the relays of the list and to nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use exo_model::charter::Relay;
use exo_model::charter::relay::RELAYS_MAX;
use exo_model::id::DeviceId;
use iroh::endpoint::Connection;
use iroh::{Endpoint, RelayUrl, TransportAddr, Watcher as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::RelayTrust;
use super::choice::{self, GUESSES_MAX, Measured};

/// Pause between measurements. Up to 255 s more, by device, so that members do
/// not act in step.
const MEASURE_EVERY: Duration = Duration::from_secs(5 * 60);
/// The same while there is no home.
const RETRY_EVERY: Duration = Duration::from_secs(15);
/// How long a home may be gone before another one is looked for. iroh tries to
/// come back by itself meanwhile.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// How long a relay may take to let us in at first: iroh measures it for up to
/// 5 s and gives a connection 10 s.
const HOME_WITHIN: Duration = Duration::from_secs(12);
/// How long a relay is passed over that answers and does not let us in.
const SHUN: Duration = Duration::from_secs(2 * 60);
/// Longest wait for one relay to be measured.
const MEASURE_DEADLINE: Duration = Duration::from_secs(2);
/// Connections by which one is measured; the fastest counts.
const MEASURE_ROUNDS: usize = 3;
/// Addresses of one relay's name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Where a device can be reached over a relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HomeRelayStatus {
    /// Its home; none if the community names no relay, or none answers yet.
    pub url: Option<RelayUrl>,
    /// Whether it is connected there.
    pub connected: bool,
    /// Why the relay does not let it in, in the relay's words.
    pub refused: Option<String>,
}

/// Keeps an endpoint at its home relay until it is dropped.
#[derive(Debug)]
pub struct HomeRelay {
    status: watch::Receiver<HomeRelayStatus>,
    task: JoinHandle<()>,
}

impl HomeRelay {
    /// Begins. The endpoint's builder went through [`RelayTrust::prepare`];
    /// `relays` follows the charter.
    pub fn keep(endpoint: Endpoint, trust: RelayTrust, relays: watch::Receiver<Vec<Relay>>) -> Self {
        let (sender, status) = watch::channel(HomeRelayStatus::default());
        let me = DeviceId::from_bytes(*endpoint.id().as_bytes());
        let keeper = Keeper {
            endpoint,
            me,
            trust,
            relays,
            mapped: BTreeSet::new(),
            home: None,
            shunned: BTreeMap::new(),
            status: sender,
        };
        Self { status, task: tokio::spawn(keeper.run()) }
    }

    /// Follows where the device can be reached.
    pub fn watch(&self) -> watch::Receiver<HomeRelayStatus> {
        self.status.clone()
    }
}

impl Drop for HomeRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    endpoint: Endpoint,
    me: DeviceId,
    trust: RelayTrust,
    relays: watch::Receiver<Vec<Relay>>,
    /// What iroh's map holds.
    mapped: BTreeSet<String>,
    /// The relay meant to be home.
    home: Option<String>,
    /// Relays that answered and were of no use, until when they are passed over.
    shunned: BTreeMap<String, Instant>,
    status: watch::Sender<HomeRelayStatus>,
}

impl Keeper {
    async fn run(mut self) {
        let mut home_is_gone = false;
        loop {
            let mut relays = self.relays.borrow_and_update().clone();
            relays.truncate(RELAYS_MAX);
            self.trust.set(&relays);
            self.settle(&relays, home_is_gone).await;
            let pause = match self.home {
                Some(_) => MEASURE_EVERY + Duration::from_secs(self.me.as_bytes()[0].into()),
                None => RETRY_EVERY,
            };
            let mut changes = self.relays.clone();
            home_is_gone = tokio::select! {
                changed = changes.changed() => if changed.is_err() { return } else { false },
                () = sleep(pause) => false,
                () = self.until_gone() => true,
                () = self.endpoint.closed() => return,
            };
        }
    }

    /// Measures, chooses, and tells iroh.
    async fn settle(&mut self, relays: &[Relay], home_is_gone: bool) {
        let mut measured = measure(relays).await;
        let now = Instant::now();
        let connected = self.connected();
        self.shunned.retain(|url, until| {
            let is_in = url.parse().is_ok_and(|url| connected.contains(&url));
            *until > now && !is_in && relays.iter().any(|relay| relay.url == *url)
        });
        if let Some(home) = self.home.clone()
            && home_is_gone
            && measured.iter().any(|relay| relay.url == home && relay.rtt.is_some())
        {
            self.shunned.insert(home, now + SHUN);
        }
        for relay in &mut measured {
            relay.rtt = relay.rtt.filter(|_| !self.shunned.contains_key(&relay.url));
        }
        let ordered = choice::order(&self.me, &measured, self.home.as_deref());
        let answers = measured.iter().any(|relay| relay.rtt.is_some());
        // Where none answers, a few are left to iroh, which goes on trying.
        let wanted: BTreeSet<String> =
            ordered.iter().take(if answers { 1 } else { GUESSES_MAX }).map(ToString::to_string).collect();
        self.home = ordered.first().filter(|_| answers).map(ToString::to_string);
        self.map(wanted).await;
    }

    /// Relays that iroh calls home and is connected to.
    fn connected(&self) -> Vec<RelayUrl> {
        let statuses = self.endpoint.home_relay_status().get();
        statuses.iter().filter(|status| status.is_connected()).map(|status| status.url().clone()).collect()
    }

    /// Puts these relays, and no others, in iroh's map; the new ones first, so
    /// that it is never without. One that is there and not connected is put in
    /// again: that makes iroh look at once, and not when its time has come.
    async fn map(&mut self, wanted: BTreeSet<String>) {
        let connected = self.connected();
        for url in &wanted {
            let Some(config) = choice::config(url) else { continue };
            if !self.mapped.contains(url) || !connected.contains(&config.url) {
                self.endpoint.insert_relay(config.url.clone(), Arc::new(config)).await;
            }
        }
        for url in self.mapped.difference(&wanted) {
            if let Some(config) = choice::config(url) {
                self.endpoint.remove_relay(&config.url).await;
            }
        }
        if wanted != self.mapped {
            tracing::debug!(?wanted, "home relay");
        }
        self.mapped = wanted;
    }

    /// Tells how it is going, until the home has been gone for too long.
    async fn until_gone(&self) {
        let mut statuses = self.endpoint.home_relay_status();
        let meant: Option<RelayUrl> = self.home.as_ref().and_then(|home| home.parse().ok());
        let mut gone_at = Some(Instant::now() + HOME_WITHIN);
        loop {
            let now = statuses.get();
            let status = now.iter().find(|status| Some(status.url()) == meant.as_ref()).or(now.first());
            let told = HomeRelayStatus {
                url: status.map(|status| status.url().clone()),
                connected: status.is_some_and(iroh::endpoint::RelayStatus::is_connected),
                refused: status.and_then(|status| status.auth_denied_reason()).map(str::to_owned),
            };
            let at_home = told.connected && told.url == meant;
            self.status.send_if_modified(|old| {
                let changed = *old != told;
                *old = told;
                changed
            });
            let updated = if at_home || meant.is_none() {
                gone_at = None;
                statuses.updated().await
            } else {
                let deadline = *gone_at.get_or_insert_with(|| Instant::now() + GONE_AFTER);
                match timeout_at(deadline, statuses.updated()).await {
                    Ok(updated) => updated,
                    Err(_) => return,
                }
            };
            if updated.is_err() {
                // The endpoint is gone, which the caller waits for as well.
                return std::future::pending().await;
            }
        }
    }
}

/// Whether a connection's packets go over `relay` at the moment. If that relay
/// is gone, iroh notices only when the connection has been silent for 30 s, and
/// sends even new connections to the peer that way until then: whoever sees
/// their home go closes such connections, and dials again.
pub fn goes_over(connection: &Connection, relay: &RelayUrl) -> bool {
    let over = TransportAddr::Relay(relay.clone());
    connection.paths().iter().any(|path| path.is_selected() && *path.remote_addr() == over)
}

/// Measures all relays at once.
async fn measure(relays: &[Relay]) -> Vec<Measured> {
    let mut tasks = JoinSet::new();
    for relay in relays {
        let url = relay.url.clone();
        tasks.spawn(async move {
            let rtt = match choice::place(&url) {
                Some((host, port)) => timeout(MEASURE_DEADLINE, round_trip(&host, port)).await.ok().flatten(),
                None => None,
            };
            Measured { url, rtt }
        });
    }
    tasks.join_all().await
}

/// The time that a connection takes to be made.
async fn round_trip(host: &str, port: u16) -> Option<Duration> {
    let addresses = lookup_host((host, port)).await.ok()?.take(ADDRESSES_MAX);
    for address in addresses {
        let mut best: Option<Duration> = None;
        for _ in 0..MEASURE_ROUNDS {
            let begun = Instant::now();
            if TcpStream::connect(address).await.is_err() {
                break;
            }
            let rtt = begun.elapsed();
            best = Some(best.map_or(rtt, |best| best.min(rtt)));
        }
        if best.is_some() {
            return best;
        }
    }
    None
}
