//! One community in the mesh of a node.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use exo_model::certificate::DeviceCertificate;
use exo_model::charter::{CommunityKind, Relay, Role};
use exo_model::event::cluster::ADDRESSES_MAX;
use exo_model::feed::{FeedId, Stream};
use exo_model::id::{CommunityId, DeviceId};
use exo_model::invite::{CONTACTS_MAX, Contact, Ticket};

use super::gossip::{self, Word};
use super::join::{self, JoinProgress};
use super::pairing::KnownCommunity;
use super::peers::{self, PeerStatus};
use super::receipts::{Delivery, Receipts};
use super::stage::{self, StageStream};
use super::{Inner, LinkError, Mesh, RefusalNote, STAGE_INBOX, lock};
use crate::blobs::{Blobs, Dialling, FetchError, FetchProgress, FetchRequest, Fetched};
use crate::hub::{Company, Input, Presence};
use crate::replica::{Replica, Snapshot};

/// Changes within this time are told as one.
const GATHER: Duration = Duration::from_millis(5);
/// Words of gossip that may wait to be said; beyond it they are lost, as any
/// may be.
const WORDS_WAITING: usize = 64;
/// Shortest pause between looks at what holders of keys owe others; up to twice
/// as long, so that not everyone seals to a newcomer at once.
const TEND_EVERY: Duration = Duration::from_secs(20);

/// A community that is open here.
pub(super) struct Here {
    id: CommunityId,
    replica: Replica,
    company: Mutex<Arc<Company>>,
    /// Whom an invite names, until this device is a member.
    contacts: Mutex<BTreeSet<DeviceId>>,
    /// Over which relays, as the invite says.
    ticket_relays: Mutex<Vec<Relay>>,
    wanted: Mutex<Option<Stream>>,
    words: mpsc::Sender<Word>,
    introductions: mpsc::Sender<Vec<DeviceId>>,
    stages: mpsc::Sender<StageStream>,
    receipts: Receipts,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    is_closed: AtomicBool,
}

impl Here {
    pub(super) const fn id(&self) -> CommunityId {
        self.id
    }

    pub(super) const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether a device may connect because of this community.
    pub(super) fn admits(&self, device: &DeviceId) -> bool {
        self.replica.knows_device(device) || lock(&self.company).devices.contains(device)
    }

    /// What the person looks at.
    pub(super) fn wanted(&self) -> Option<Stream> {
        *lock(&self.wanted)
    }

    pub(super) const fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    pub(super) const fn stages(&self) -> &mpsc::Sender<StageStream> {
        &self.stages
    }

    /// Says something by gossip, if it may.
    pub(super) fn gossip(&self, word: Word) {
        if self.words.try_send(word).is_err() {
            tracing::debug!("gossip has too much to say");
        }
    }

    /// Tells gossip of linked devices.
    pub(super) fn introduce(&self, devices: Vec<DeviceId>) {
        // What does not fit comes again when neighbours change.
        let _ = self.introductions.try_send(devices);
    }

    /// Takes whom an invite names for members, and the relays it names, until
    /// there is a charter.
    pub(super) fn meet(&self, ticket: &Ticket) {
        lock(&self.contacts).extend(ticket.contacts.iter().map(|contact| contact.device));
        lock(&self.ticket_relays).clone_from(&ticket.relays);
    }

    /// The relays that the community names.
    pub(super) fn relays(&self) -> Vec<Relay> {
        let named = self.replica.state().charter.settings.as_ref().map(|settings| settings.relays.clone());
        named.unwrap_or_else(|| lock(&self.ticket_relays).clone())
    }

    /// Tells the hub of contacts that were just met.
    pub(super) fn look_again(self: &Arc<Self>, inner: &Arc<Inner>) {
        look(inner, self, &self.replica.snapshot(), None);
    }

    pub(super) async fn close(&self) {
        if self.is_closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let (said, heard) = tokio::sync::oneshot::channel();
        if self.words.try_send(Word::Goodbye(said)).is_ok() {
            let _ = tokio::time::timeout(Duration::from_millis(50), heard).await;
        }
        for task in std::mem::take(&mut *lock(&self.tasks)) {
            task.abort();
        }
        self.receipts.save();
    }

    /// What a device of the same person needs to find the community.
    pub(super) fn described(&self, inner: &Inner) -> KnownCommunity {
        let state = self.replica.state();
        let mut addresses: Vec<_> = inner.endpoint.addr().ip_addrs().map(ToString::to_string).collect();
        addresses.truncate(ADDRESSES_MAX);
        let me = Contact { device: inner.me, addresses };
        let others = state
            .machines
            .iter()
            .filter(|(device, _)| **device != inner.me)
            .map(|(device, machine)| Contact { device: *device, addresses: machine.addresses.clone() });
        KnownCommunity {
            community: self.id,
            name: state.charter.name().to_owned(),
            is_private: state.charter.kind == Some(CommunityKind::Private),
            contacts: std::iter::once(me).chain(others).take(CONTACTS_MAX).collect(),
            relays: self.relays(),
        }
    }

    /// Whether this device takes part.
    pub(super) fn is_inside(&self, me: &DeviceId) -> bool {
        self.replica.knows_device(me)
    }

    /// Who belongs to the community, for the mesh.
    fn company(&self, now: &Snapshot, me: &DeviceId) -> Company {
        if !now.knows_device(me) {
            return Company { devices: lock(&self.contacts).clone(), close: BTreeSet::new() };
        }
        let charter = &now.state.charter;
        let mut company = Company { devices: now.devices(), close: BTreeSet::new() };
        company.devices.remove(me);
        let person = charter.person_of(me);
        let is_close = |device: &&DeviceId| {
            let of = charter.person_of(device);
            let is_keeper = charter.role_of(device) == Some(Role::Keeper);
            (of.is_some() && of == person) || is_keeper
        };
        company.close = company.devices.iter().filter(is_close).copied().collect();
        company
    }
}

pub(super) fn open(mesh: &Mesh, replica: Replica) -> (CommunityMesh, mpsc::Receiver<StageStream>) {
    let inner = mesh.inner.clone();
    let (words, words_to_say) = mpsc::channel(WORDS_WAITING);
    let (introductions, introduced) = mpsc::channel(WORDS_WAITING);
    let (stage_inbox, stages) = mpsc::channel(STAGE_INBOX);
    let id = replica.state().id;
    let receipts = Receipts::open(inner.me, replica.path());
    let here = Arc::new(Here {
        id,
        replica,
        company: Mutex::default(),
        contacts: Mutex::default(),
        ticket_relays: Mutex::default(),
        wanted: Mutex::default(),
        words,
        introductions,
        stages: stage_inbox,
        receipts,
        tasks: Mutex::default(),
        is_closed: AtomicBool::new(false),
    });
    inner.driver.communities().insert(here.clone());
    look(&inner, &here, &here.replica.snapshot(), None);
    let tasks = vec![
        tokio::spawn(follow(inner.clone(), here.clone())),
        tokio::spawn(tend(here.replica.clone())),
        tokio::spawn(gossip::run(inner.clone(), here.clone(), words_to_say, introduced)),
    ];
    lock(&here.tasks).extend(tasks);
    (CommunityMesh { mesh: mesh.clone(), here }, stages)
}

/// Tells the hub whenever the replica changed.
async fn follow(inner: Arc<Inner>, here: Arc<Here>) {
    let mut snapshot = here.replica.watch();
    let mut before = None;
    loop {
        let looked = Instant::now();
        let now = snapshot.borrow_and_update().clone();
        look(&inner, &here, &now, before.as_ref());
        before = Some(now);
        if snapshot.changed().await.is_err() {
            return;
        }
        // What comes after a pause is told at once.
        tokio::time::sleep_until(looked + GATHER).await;
    }
}

fn look(inner: &Arc<Inner>, here: &Arc<Here>, now: &Snapshot, before: Option<&Snapshot>) {
    let is_same_company = before.is_some_and(|before| {
        Arc::ptr_eq(&before.state.charter, &now.state.charter) && before.kept == now.kept
    });
    if !is_same_company {
        let company = here.company(now, &inner.me);
        let mut known = lock(&here.company);
        if **known != company {
            *known = Arc::new(company);
        }
        drop(known);
        inner.gather_relays();
    }
    if before.is_none_or(|before| !Arc::ptr_eq(&before.state.machines, &now.state.machines)) {
        for (device, machine) in now.state.machines.iter() {
            inner.addresses.learn(device, &machine.addresses);
        }
    }
    let company = lock(&here.company).clone();
    inner.hear(Input::Community { company, ends: now.ends.clone() });
}

/// Sees to it, now and then, that everyone can read what they may.
async fn tend(replica: Replica) {
    loop {
        tokio::time::sleep(TEND_EVERY.mul_f64(1.0 + super::jitter())).await;
        if let Err(error) = replica.tend().await {
            if matches!(error, crate::replica::ReplicaError::Closed) {
                return;
            }
            tracing::warn!(%error, "tending keys");
        }
    }
}

/// One community in the mesh. Cheap to clone; leaves with
/// [`CommunityMesh::leave`].
#[derive(Clone)]
pub struct CommunityMesh {
    mesh: Mesh,
    here: Arc<Here>,
}

impl CommunityMesh {
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.mesh.inner
    }

    /// The mesh of the node.
    pub const fn node(&self) -> &Mesh {
        &self.mesh
    }

    /// This device.
    pub fn device(&self) -> DeviceId {
        self.mesh.device()
    }

    /// Where peers can reach this device, `ip:port`.
    pub fn local_addresses(&self) -> Vec<String> {
        self.mesh.local_addresses()
    }

    /// Every other member's device with its link.
    pub fn peers(&self) -> Vec<PeerStatus> {
        peers::statuses(self.inner(), &self.here)
    }

    /// Signals whenever a link comes or goes, or somebody says something of
    /// themselves.
    pub fn watch_peers(&self) -> watch::Receiver<u64> {
        self.inner().driver.watch()
    }

    /// The latest refusals of the node, oldest first.
    pub fn refusals(&self) -> Vec<RefusalNote> {
        self.mesh.refusals()
    }

    /// Model files and attachments.
    pub fn blobs(&self) -> &Blobs {
        self.mesh.blobs()
    }

    /// Exchanges with `device` now, if it is linked.
    pub fn sync_soon(&self, device: &DeviceId) {
        self.inner().hear(Input::Wanted(self.here.id, *device));
    }

    /// Says what the person looks at: peers send that before the rest.
    pub fn want(&self, stream: Option<Stream>) {
        *lock(&self.here.wanted) = stream;
    }

    /// Tells the others that this person is typing.
    pub fn typing(&self, stream: Stream) {
        self.here.gossip(Word::Presence(Presence::Typing(stream)));
    }

    /// Whose devices are typing in a stream.
    pub fn who_types(&self, stream: &Stream) -> Vec<DeviceId> {
        let driver = &self.inner().driver;
        let now_ms = driver.now_ms();
        driver.ask(|hub| {
            hub.presences(&self.here.id).map(|presences| presences.typing(stream, now_ms)).unwrap_or_default()
        })
    }

    /// How far a change of this device has got.
    pub fn delivery(&self, feed: &FeedId, seq: u64) -> Delivery {
        let online: BTreeSet<_> = peers::online(self.inner(), &self.here).collect();
        let members = lock(&self.here.company).devices.clone();
        self.here.receipts.delivery(feed, seq, &members, &online)
    }

    /// Takes from a ticket where its contacts are. A keeper cannot read what
    /// members publish of that, so each ticket helps.
    pub fn learn(&self, ticket: &Ticket) {
        self.note_contacts(ticket);
        self.inner().hear(Input::NetworkChanged);
    }

    fn note_contacts(&self, ticket: &Ticket) {
        for Contact { device, addresses } in &ticket.contacts {
            self.inner().addresses.learn(device, addresses);
        }
    }

    /// Asks the ticket's contacts, again and again, until one admits this
    /// device; the status can be watched.
    pub fn join(&self, ticket: &Ticket, certificate: DeviceCertificate, name: String) -> JoinProgress {
        self.note_contacts(ticket);
        join::spawn(self.inner().clone(), self.here.clone(), ticket.clone(), certificate, name)
    }

    /// Opens a stream for inference frames to `device`.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn open_stage(&self, device: DeviceId) -> Result<StageStream, LinkError> {
        stage::open(self.inner(), &self.here, device).await
    }

    /// Fetches the missing parts of a blob from whoever has them.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(
        &self,
        request: FetchRequest,
        progress: watch::Sender<FetchProgress>,
    ) -> Result<Fetched, FetchError> {
        let inner = self.inner().clone();
        let dial = move |device: DeviceId| -> Dialling {
            let inner = inner.clone();
            Box::pin(async move { inner.dial(device, iroh_blobs::ALPN).await })
        };
        self.inner().blobs.fetch(request, Arc::new(dial), progress).await
    }

    pub(super) fn here(&self) -> &Here {
        &self.here
    }

    /// Takes the community out of the mesh; the node goes on.
    pub async fn leave(&self) {
        self.here.close().await;
        self.inner().driver.communities().remove(&self.here.id);
        self.inner().hear(Input::Left(self.here.id));
    }
}
