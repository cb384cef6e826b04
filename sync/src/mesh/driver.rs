//! Runs the [`Hub`]: tells it what happens, does what it says.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use iroh::endpoint::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use exo_model::id::{CommunityId, DeviceId};

use super::community::Here;
use super::link::Link;
use super::{ALPN_SYNC, Inner, link, lock};
use crate::blobs::BlobAccess;
use crate::hub::{Effect, Farewell, Hub, Input, LinkId, Random};

/// Close code "you are not a member".
pub(super) const NOT_A_MEMBER: u32 = 1;
/// Close code "working offline".
pub(super) const OFFLINE: u32 = 2;
/// Close code "the relay is gone".
pub(super) const RELAY_GONE: u32 = 4;
/// Close code "nothing comes any more".
pub(super) const SILENT: u32 = 5;
/// Close code "enough links".
const ENOUGH: u32 = 3;

/// The communities that are open here.
#[derive(Clone, Default)]
pub(crate) struct Communities(Arc<RwLock<BTreeMap<CommunityId, Arc<Here>>>>);

impl Communities {
    pub(super) fn get(&self, community: &CommunityId) -> Option<Arc<Here>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(community).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Here>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn insert(&self, here: Arc<Here>) {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(here.id(), here);
    }

    pub(super) fn remove(&self, community: &CommunityId) -> Option<Arc<Here>> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(community)
    }

    /// Whether a device is in a community that is open here.
    pub(crate) fn knows(&self, device: &DeviceId) -> bool {
        self.all().iter().any(|here| here.admits(device))
    }
}

/// Keepers fetch nothing: models are not sealed.
impl BlobAccess for Communities {
    fn is_member(&self, peer: &DeviceId, community: &CommunityId) -> bool {
        self.get(community).is_some_and(|here| here.replica().snapshot().may_fetch(peer))
    }
}

/// The hub with the connections it speaks of.
pub(super) struct Driver {
    hub: Mutex<Hub>,
    communities: Communities,
    links: Mutex<BTreeMap<LinkId, Arc<Link>>>,
    next_link: Mutex<LinkId>,
    start: Instant,
    /// The time of the next wake-up may have changed.
    rescheduled: Notify,
    changed: watch::Sender<u64>,
}

impl Driver {
    pub(super) fn new(me: DeviceId) -> Self {
        Self {
            hub: Mutex::new(Hub::new(me)),
            communities: Communities::default(),
            links: Mutex::default(),
            next_link: Mutex::new(0),
            start: Instant::now(),
            rescheduled: Notify::new(),
            changed: watch::Sender::new(0),
        }
    }

    pub(super) fn communities(&self) -> Communities {
        self.communities.clone()
    }

    /// Signals whenever a link comes or goes, or somebody says something of
    /// themselves.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn tell_watchers(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// The hub's time.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks the hub something.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Hub) -> T) -> T {
        question(&lock(&self.hub))
    }

    /// The newest connection to each linked device.
    pub(super) fn connections(&self) -> BTreeMap<DeviceId, Connection> {
        let links = lock(&self.links);
        // Of two links one is given up, and may not have been taken out yet.
        let open = links.values().filter(|link| link.connection.close_reason().is_none());
        open.map(|link| (link.device, link.connection.clone())).collect()
    }

    pub(super) fn add_link(&self, link: Arc<Link>) -> LinkId {
        let mut next = lock(&self.next_link);
        *next += 1;
        lock(&self.links).insert(*next, link);
        *next
    }

    pub(super) fn drop_link(&self, link: LinkId) {
        lock(&self.links).remove(&link);
    }

    fn link(&self, link: LinkId) -> Option<Arc<Link>> {
        lock(&self.links).get(&link).cloned()
    }

    pub(super) async fn close_all(&self) {
        for here in self.communities.all() {
            here.close().await;
        }
    }
}

/// Randomness of the operating system, through the hasher's keys. Not for
/// secrets.
struct Dice(RandomState, u64);

impl Random for Dice {
    fn next(&mut self) -> u64 {
        self.1 += 1;
        self.0.hash_one(self.1)
    }
}

impl Inner {
    /// Tells the hub what happened and does what it says.
    pub(super) fn hear(self: &Arc<Self>, input: Input) {
        let driver = &self.driver;
        let effects = {
            let mut hub = lock(&driver.hub);
            hub.handle(driver.now_ms(), &mut Dice(RandomState::new(), 0), input)
        };
        for effect in effects {
            self.carry_out(effect);
        }
        driver.rescheduled.notify_one();
    }

    fn carry_out(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Dial(device) => drop(tokio::spawn(dial(self.clone(), device))),
            Effect::Close(link, farewell) => {
                if let Some(link) = self.driver.link(link) {
                    let (code, reason) = words_of(farewell);
                    link.connection.close(code.into(), reason);
                }
                if farewell == Farewell::NotAMember {
                    // Whatever else the same device has open.
                    self.switch.drop_strangers(&self.driver.communities);
                }
            }
            Effect::Exchange(link, community) => {
                let exchange = exchange(self.clone(), link, community);
                tokio::spawn(exchange);
            }
            Effect::Hint(community, hint) => {
                if let Some(here) = self.driver.communities.get(&community) {
                    here.gossip(super::gossip::Word::Hint(hint));
                }
            }
            Effect::Announce(community, load) => {
                if let Some(here) = self.driver.communities.get(&community) {
                    here.gossip(super::gossip::Word::Presence(crate::hub::Presence::Here(load)));
                }
            }
            Effect::Introduce(community, devices) => {
                if let Some(here) = self.driver.communities.get(&community) {
                    here.introduce(devices);
                }
            }
        }
    }
}

const fn words_of(farewell: Farewell) -> (u32, &'static [u8]) {
    match farewell {
        Farewell::NotAMember => (NOT_A_MEMBER, b"not a member"),
        Farewell::Enough => (ENOUGH, b"enough links"),
        Farewell::Offline => (OFFLINE, b"working offline"),
    }
}

/// Wakes the hub when something is due.
pub(super) async fn keep_time(inner: Arc<Inner>) {
    /// Longest sleep, so that the clock is looked at now and then.
    const SLEEP_MAX: Duration = Duration::from_secs(300);
    loop {
        let next_ms = inner.driver.ask(Hub::next_wake_ms);
        let now_ms = inner.driver.now_ms();
        let pause = next_ms.map_or(SLEEP_MAX, |at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms)));
        tokio::select! {
            () = tokio::time::sleep(pause.min(SLEEP_MAX)) => inner.hear(Input::Tick),
            () = inner.driver.rescheduled.notified() => {}
        }
    }
}

async fn dial(inner: Arc<Inner>, device: DeviceId) {
    match inner.dial(device, ALPN_SYNC).await {
        Ok(connection) => link::run(inner, connection, true).await,
        Err(error) => {
            tracing::debug!(peer = %device, %error, "dial failed");
            inner.hear(Input::DialFailed(device));
        }
    }
}

async fn exchange(inner: Arc<Inner>, link: LinkId, community: CommunityId) {
    let here = inner.driver.communities.get(&community);
    let outcome = match (inner.driver.link(link), here) {
        (Some(link), Some(here)) => link::exchange(&inner, &link, &here).await,
        _ => None,
    };
    inner.hear(Input::Exchanged(link, community, outcome));
}
