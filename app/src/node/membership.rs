//! One community on this node: replica, views, mesh and engine together. A
//! keeper's has neither views nor engine: it carries what it cannot read.

use std::sync::{Arc, Mutex, PoisonError};

use exo_model::amount::Amount;
use exo_model::charter::{Relay, Role, Setting};
use exo_model::community::CommunityState;
use exo_model::decide::Intent;
use exo_model::event::cluster::ADDRESS_BYTES_MAX;
use exo_model::event::ledger::Account;
use exo_model::feed::LineId;
use exo_model::id::{ChangeHash, ChannelId, CommunityId, ParseIdError, PersonId};
use exo_model::invite::{CONTACTS_MAX, Contact};
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_projections::{QueryError, Reader};
use exo_sync::mesh::{CommunityMesh, JoinProgress, JoinStatus, Mesh, MeshError, PeerPath};
use exo_sync::replica::{Replica, ReplicaConfig, ReplicaError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::announce::{self, Offer};
use super::views::ViewsPair;
use super::{KnownTicket, NodeError, NodeOptions};
use crate::engine::Engine;
use crate::folder::{Folder, FolderError};
use crate::host::{OsEntropy, SystemClock};

/// File name of the built-in model once it is written out.
const STARTER_FILE: &str = "starter.gguf";

/// A community that cannot be opened or asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembershipError {
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("views: {0}")]
    Views(String),
    #[error("a background thread failed: {0}")]
    Thread(String),
    #[error("there is no member called \"{0}\"; type members to see the names")]
    NoSuchPerson(String),
    #[error("several members are called \"{0}\"; name the person by the id that members --json shows")]
    Ambiguous(String),
    #[error("the community names no relay {0}; type relays to see them")]
    NoSuchRelay(String),
    #[error("not the fingerprint of a certificate: {0}")]
    Pin(#[from] ParseIdError),
    #[error("there is no channel yet; it arrives with the community's history")]
    NoChannel,
    #[error(
        "this device is a keeper of this community: it carries what it cannot read; from another folder \
         (--data) you can join as a member"
    )]
    Keeper,
    #[error("no invite has an id that starts with \"{0}\"; type invites to see them")]
    NoSuchInvite(String),
    #[error("several invites have ids that start with \"{0}\"; write more of it")]
    AmbiguousInvite(String),
    #[error("an invite lasts more than nothing and at most {most} days", most = super::invites::DAYS_MAX)]
    InviteDays,
}

/// What a keeper has no use for.
struct Reading {
    views: ViewsPair,
    engine: Arc<Engine>,
}

/// A community this node belongs to, or is joining.
pub(crate) struct Membership {
    replica: Replica,
    mesh: CommunityMesh,
    /// Absent on a keeper.
    reading: Option<Reading>,
    /// Where there are no views, what never signals.
    quiet: watch::Sender<u64>,
    join: Mutex<Option<JoinProgress>>,
    join_status: watch::Sender<Option<JoinStatus>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Membership {
    pub(super) async fn open(
        folder: &Folder,
        key: [u8; 32],
        options: &NodeOptions,
        mesh: &Mesh,
        community: CommunityId,
    ) -> Result<Arc<Self>, MembershipError> {
        let place = folder.community(&community)?;
        if options.keeper || place.is_kept() {
            return Self::open_kept(place.store(), key, mesh, community).await;
        }
        let (store, views) = (place.store(), place.views());
        let opened = tokio::task::spawn_blocking(move || {
            let (views, view_cursors) = ViewsPair::open(&views, &community)?;
            let config = replica_config(store, key, community, view_cursors);
            let (replica, _thread) = Replica::open(config, views.observer())?;
            Ok::<_, MembershipError>((views, replica))
        });
        let (views, replica) = opened.await.map_err(|error| MembershipError::Thread(error.to_string()))??;
        let (mesh, stages) = mesh.open(replica.clone());
        let starter_path = options.starter.then(|| folder.models().join(STARTER_FILE));
        let key = SecretKey::from_bytes(&key);
        let engine = Engine::new(replica.clone(), mesh.clone(), key, options.offered_bytes, starter_path);
        let serving = tokio::spawn(engine.clone().serve(stages));
        let membership = Self::new(replica, mesh, Some(Reading { views, engine: engine.clone() }));
        let memory_bytes = options.offered_bytes;
        let offer = move || Offer { memory_bytes, micros_per_mib: engine.host().micros_per_mib() };
        let announcing =
            tokio::spawn(announce::run(membership.replica.clone(), membership.mesh.clone(), offer));
        membership.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend([serving, announcing]);
        Ok(membership)
    }

    /// Opens what a keeper carries, or what one is about to: nothing is read,
    /// offered or announced.
    async fn open_kept(
        store: std::path::PathBuf,
        key: [u8; 32],
        mesh: &Mesh,
        community: CommunityId,
    ) -> Result<Arc<Self>, MembershipError> {
        let opened = tokio::task::spawn_blocking(move || {
            Replica::open(replica_config(store, key, community, Vec::new()), |_| ())
        });
        let (replica, _thread) =
            opened.await.map_err(|error| MembershipError::Thread(error.to_string()))??;
        // Streams of stages are refused where nobody takes them.
        let (mesh, _stages) = mesh.open(replica.clone());
        Ok(Self::new(replica, mesh, None))
    }

    fn new(replica: Replica, mesh: CommunityMesh, reading: Option<Reading>) -> Arc<Self> {
        Arc::new(Self {
            replica,
            mesh,
            reading,
            quiet: watch::Sender::new(0),
            join: Mutex::new(None),
            join_status: watch::Sender::new(None),
            tasks: Mutex::default(),
        })
    }

    /// Which community.
    pub(crate) fn id(&self) -> CommunityId {
        self.replica.state().id
    }

    /// The truth.
    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The links.
    pub(crate) fn mesh(&self) -> &CommunityMesh {
        &self.mesh
    }

    /// The models; a keeper has none.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>, MembershipError> {
        self.reading.as_ref().map(|reading| &reading.engine).ok_or(MembershipError::Keeper)
    }

    /// Whether this device is to read the community, not only to carry it.
    pub(crate) const fn reads(&self) -> bool {
        self.reading.is_some()
    }

    /// Signals whenever the views changed.
    pub(crate) fn watch_views(&self) -> watch::Receiver<u64> {
        self.reading.as_ref().map_or_else(|| self.quiet.subscribe(), |reading| reading.views.watch())
    }

    /// Asks the views.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Reader) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, MembershipError> {
        self.reading.as_ref().ok_or(MembershipError::Keeper)?.views.query(ask).await
    }

    /// The channel messages go to: the oldest by id order of the state. One in
    /// this version.
    pub(crate) fn channel(&self) -> Result<ChannelId, MembershipError> {
        self.engine()?;
        self.replica.state().charter.channels.keys().next().copied().ok_or(MembershipError::NoChannel)
    }

    /// Writes a message.
    pub(crate) async fn say(&self, text: String) -> Result<ChangeHash, MembershipError> {
        let channel = self.channel()?;
        let post =
            Intent::Post { channel, text, reply_to: None, mentions: Vec::new(), attachments: Vec::new() };
        Ok(self.replica.record(post).await?)
    }

    /// Takes someone out of the community.
    pub(crate) async fn remove(
        &self,
        person: &str,
        ban: bool,
        reason: String,
    ) -> Result<(), MembershipError> {
        let person = self.find_person(person)?;
        self.replica.record(Intent::Remove { person, ban, reason }).await?;
        Ok(())
    }

    /// Gives someone a role.
    pub(crate) async fn set_role(&self, person: &str, role: Role) -> Result<(), MembershipError> {
        let person = self.find_person(person)?;
        self.replica.record(Intent::SetRole(person, role)).await?;
        Ok(())
    }

    /// Names a relay for all members; one that is named already gets the new pin.
    pub(crate) async fn add_relay(&self, url: String, pin: Option<String>) -> Result<(), MembershipError> {
        let pin = pin.map(|pin| pin.replace(':', "").parse()).transpose()?;
        let mut relays = self.relays();
        relays.retain(|relay| relay.url != url);
        relays.push(Relay { url, pin });
        self.replica.record(Intent::ChangeSetting(Setting::Relays(relays))).await?;
        Ok(())
    }

    /// Names a relay no longer.
    pub(crate) async fn remove_relay(&self, url: &str) -> Result<(), MembershipError> {
        let mut relays = self.relays();
        let before = relays.len();
        relays.retain(|relay| relay.url != url);
        if relays.len() == before {
            return Err(MembershipError::NoSuchRelay(url.to_owned()));
        }
        self.replica.record(Intent::ChangeSetting(Setting::Relays(relays))).await?;
        Ok(())
    }

    /// The relays that the community names.
    pub(super) fn relays(&self) -> Vec<Relay> {
        let state = self.replica.state();
        state.charter.settings.as_ref().map(|settings| settings.relays.clone()).unwrap_or_default()
    }

    /// Leaves the community, with all devices of this person.
    pub(crate) async fn leave(&self) -> Result<(), MembershipError> {
        self.replica.record(Intent::Leave).await?;
        Ok(())
    }

    /// A member by name or id; names need not be unique.
    fn find_person(&self, text: &str) -> Result<PersonId, MembershipError> {
        let state = self.replica.state();
        if let Ok(person) = text.parse::<PersonId>() {
            return Ok(person);
        }
        let mut named = state.charter.members.iter().filter(|(_, member)| member.name == text);
        match (named.next(), named.next()) {
            (Some((person, _)), None) => Ok(*person),
            (Some(_), Some(_)) => Err(MembershipError::Ambiguous(text.to_owned())),
            _ => Err(MembershipError::NoSuchPerson(text.to_owned())),
        }
    }

    /// Who a newcomer can ask: this device first, then whoever is online.
    pub(super) fn contacts(&self, state: &CommunityState) -> Vec<Contact> {
        let me = self.mesh.device();
        let mut addresses = self.mesh.local_addresses();
        addresses.retain(|address| address.len() <= ADDRESS_BYTES_MAX);
        let mut contacts = vec![Contact { device: me, addresses }];
        let mut others: Vec<_> = self.mesh.peers();
        others.sort_by_key(|peer| peer.path == PeerPath::Offline);
        contacts.extend(others.into_iter().filter_map(|peer| {
            let addresses = state.machines.get(&peer.device)?.addresses.clone();
            Some(Contact { device: peer.device, addresses })
        }));
        contacts.truncate(CONTACTS_MAX);
        contacts
    }

    pub(super) fn resume_join(&self, known: KnownTicket) {
        let progress = self.mesh.join(&known.ticket, known.certificate, known.name);
        let mut status = progress.watch();
        self.join_status.send_replace(Some(status.borrow().clone()));
        let forward = self.join_status.clone();
        let task = tokio::spawn(async move {
            loop {
                forward.send_replace(Some(status.borrow_and_update().clone()));
                if status.changed().await.is_err() {
                    return;
                }
            }
        });
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        *self.join.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// Shows how it goes to be let in.
    pub(super) fn show_join(&self, status: JoinStatus) {
        self.join_status.send_replace(Some(status));
    }

    /// Follows a join; `None` where none was under way.
    pub(crate) fn watch_join(&self) -> watch::Receiver<Option<JoinStatus>> {
        self.join_status.subscribe()
    }

    /// Waits for the end of a join; at once where none is under way.
    pub(super) async fn join_outcome(&self) -> Result<(), NodeError> {
        if self.join.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Ok(());
        }
        let mut status = self.watch_join();
        let ended = status
            .wait_for(|status| matches!(status, None | Some(JoinStatus::Joined | JoinStatus::Refused(_))))
            .await;
        match ended.as_deref() {
            Ok(Some(JoinStatus::Joined)) => Ok(()),
            Ok(Some(JoinStatus::Refused(reason))) => Err(NodeError::JoinRefused(reason.clone())),
            _ => Err(NodeError::JoinStopped),
        }
    }

    /// This person's balance over all their devices, from the reduced state.
    pub(crate) fn balance_of_me(&self) -> Amount {
        let state = self.replica.state();
        let Some(person) = state.charter.person_of(&self.mesh.device()) else { return Amount::ZERO };
        let devices = state.charter.devices.iter().filter(|(_, device)| device.person == person);
        devices.fold(Amount::ZERO, |sum, (device, _)| {
            sum.checked_add(state.ledger.balance(&Account::Device(*device))).unwrap_or(sum)
        })
    }

    pub(super) async fn close(&self) {
        let join = self.join.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(join) = join {
            join.stop();
        }
        // Whoever waits for a join that is over hears of it; a finished one
        // stays finished.
        self.join_status.send_if_modified(|status| {
            let waiting = matches!(status, Some(JoinStatus::Trying { .. } | JoinStatus::Admitted));
            if waiting {
                *status = None;
            }
            waiting
        });
        if let Some(reading) = &self.reading {
            reading.engine.close().await;
        }
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
        }
        self.mesh.leave().await;
        self.replica.close().await;
    }
}

/// What a replica is opened with on this device.
pub(crate) fn replica_config(
    path: std::path::PathBuf,
    key: [u8; 32],
    community: CommunityId,
    view_cursors: Vec<(LineId, u64)>,
) -> ReplicaConfig {
    ReplicaConfig {
        path,
        community,
        signer: Arc::new(SecretKey::from_bytes(&key)),
        sealing: SealingKey::of_device(&SecretKey::from_bytes(&key)),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        view_cursors,
    }
}
