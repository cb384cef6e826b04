//! A node: one person's program, with any number of communities.
//!
//! Owns the data folder, this device's key and its place in the network. Founding
//! or joining opens a [`Membership`]; everything a face can ask for goes through
//! these two. Faces show one community at a time, the current one.

mod announce;
mod devices;
mod files;
mod homeward;
pub(crate) mod invites;
mod joining;
mod load;
mod membership;
mod models;
mod private;
mod views;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exo_model::amount::Amount;
use exo_model::certificate::{CertificateError, DeviceCertificate};
use exo_model::charter::CommunityKind;
use exo_model::id::{CommunityId, DeviceId};
use exo_model::invite::{Ticket, TicketError};
use exo_model::pairing::PairingCodeError;
use exo_model::phrase::PhraseError;
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_model::text::{TextError, clean_name};
use exo_sync::mesh::{Finding, HomecomingError, Mesh, MeshConfig, MeshError, PairingError};
use exo_sync::replica::{self, Founding, Replica, ReplicaError};
use tokio::sync::watch;

use crate::folder::{Folder, FolderError, Profile, ProfileCommunity};
use crate::host::{OsEntropy, SystemClock};
use crate::report::RefusedJoin;
use crate::ticket::InviteError;

pub(crate) use devices::{LinkStatus, OwnDevice};
pub(crate) use invites::InviteTerms;
pub(crate) use membership::{Membership, MembershipError, replica_config};
pub(crate) use models::ModelError;
pub(crate) use private::PrivateHome;

/// Name of the private community: only its person sees it.
const PRIVATE_NAME: &str = "private";
/// The lowest balance in a new community: 1,000 WU below zero.
const FLOOR: Amount = Amount::from_token_mib(-1_000 * Amount::PER_WORK_UNIT);

/// How a node is started.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// The data folder.
    pub(crate) data: PathBuf,
    /// The address to listen on; port 0 takes the port of last time, or any.
    pub(crate) bind: SocketAddr,
    /// How peers are found.
    pub(crate) finding: Finding,
    /// Memory offered for model weights and their caches, bytes.
    pub(crate) offered_bytes: u64,
    /// Whether the model built into the program may be used.
    pub(crate) starter: bool,
    /// Whether this node carries what it cannot read, and does nothing else.
    pub(crate) keeper: bool,
    /// Whether this node may send peers hostile things: the demo's do, to show
    /// that they are refused.
    pub(crate) probes: bool,
}

impl NodeOptions {
    /// Listens on all addresses of this machine.
    pub(crate) const ANY_ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
}

/// A node that cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Name(#[from] TextError),
    #[error(transparent)]
    Ticket(#[from] TicketError),
    #[error(transparent)]
    Code(#[from] PairingCodeError),
    #[error(transparent)]
    Pairing(#[from] PairingError),
    #[error(transparent)]
    Phrase(#[from] PhraseError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Homecoming(#[from] HomecomingError),
    #[error("found or join a community first: there is nothing yet that a second device could share")]
    NothingToShare,
    #[error(
        "this device is in a community already: link a fresh one (start with --data and an empty folder)"
    )]
    Used,
    #[error("none of your devices is called \"{0}\"; type devices to see them")]
    NoSuchDevice(String),
    #[error("several of your devices are called \"{0}\"; name it by the id that devices shows")]
    AmbiguousDevice(String),
    #[error("your devices share nothing yet: found or join a community first")]
    NoPrivate,
    #[error("this is the device you are using: revoke it from another one")]
    OwnDevice,
    #[error(transparent)]
    Invite(#[from] InviteError),
    #[error("the invite has expired; ask for a new one")]
    TicketExpired,
    #[error("this node belongs to \"{0}\" already")]
    HasCommunity(String),
    #[error(
        "a join with this invite is under way; it goes on until somebody answers, or until it is cancelled"
    )]
    Joining,
    #[error("this node is in {COMMUNITIES_MAX} communities, the most that one may be in: leave one first")]
    TooMany,
    #[error("there is no community called \"{0}\" here; type communities to see the names")]
    NoSuchCommunity(String),
    #[error("several communities are called \"{0}\"; name it by the id that communities shows")]
    Ambiguous(String),
    #[error("there is no community yet: found one, or join one with an invite")]
    NoCommunity,
    #[error("the join was refused: {0}")]
    JoinRefused(String),
    #[error("nobody let this device in before the join was given up")]
    JoinStopped,
}

/// A ticket with who uses it.
#[derive(Clone, Debug)]
struct KnownTicket {
    ticket: Ticket,
    certificate: DeviceCertificate,
    name: String,
}

/// Most communities of one node.
const COMMUNITIES_MAX: usize = 64;

/// One running node.
pub(crate) struct Node {
    folder: Folder,
    key: SecretKey,
    certificate: Mutex<DeviceCertificate>,
    options: NodeOptions,
    mesh: Mesh,
    profile: Mutex<Profile>,
    private: Mutex<Option<Arc<PrivateHome>>>,
    linking: Mutex<Option<watch::Receiver<LinkStatus>>>,
    memberships: Mutex<BTreeMap<CommunityId, Arc<Membership>>>,
    current: watch::Sender<Option<Arc<Membership>>>,
    /// Held while communities come and go, so that no two do at once.
    changing: tokio::sync::Mutex<()>,
    /// Joins that a member refused for good since the start, the latest ones.
    refused_joins: Mutex<Vec<RefusedJoin>>,
}

impl Node {
    /// Opens the data folder, takes its place in the network and opens all
    /// communities; joins that were under way go on.
    pub(crate) async fn start(options: NodeOptions) -> Result<Arc<Self>, NodeError> {
        let folder = Folder::open(&options.data)?;
        let key = folder.device_key(&OsEntropy)?;
        let certificate = folder.certificate(&key, &OsEntropy)?;
        let mut profile = folder.profile()?;
        // Boxed: starting an endpoint is a large future.
        let mesh = Box::pin(start_mesh(&folder, &key, &options, profile.port)).await?;
        if let [only] = profile.communities.as_slice()
            && let Ok(community) = only.id.parse()
            && let Err(error) = mesh.blobs().adopt(community).await
        {
            tracing::warn!(%error, "files that an earlier version added are not served");
        }
        profile.port = mesh.port();
        folder.save_profile(&profile)?;
        let node = Arc::new(Self {
            folder,
            key,
            certificate: Mutex::new(certificate),
            options,
            mesh,
            profile: Mutex::new(profile.clone()),
            private: Mutex::default(),
            linking: Mutex::default(),
            memberships: Mutex::default(),
            current: watch::Sender::new(None),
            changing: tokio::sync::Mutex::default(),
            refused_joins: Mutex::default(),
        });
        for ProfileCommunity { id, joining } in &profile.communities {
            let Ok(community) = id.parse() else { continue };
            let membership = Box::pin(node.open(community)).await?;
            if let Some(ticket) = joining {
                node.begin_join(&membership, node.known(ticket.parse()?));
            }
        }
        if let Some(ProfileCommunity { id, joining }) = &profile.private
            && let Ok(community) = id.parse()
        {
            let ticket = joining.as_ref().map(|ticket| ticket.parse()).transpose()?;
            Box::pin(node.open_private(community, ticket.map(|ticket| node.known(ticket)))).await?;
        }
        let shown =
            profile.current.and_then(|id| id.parse().ok()).and_then(|id| node.lock_all().get(&id).cloned());
        if shown.is_some() {
            node.current.send_replace(shown);
        }
        tokio::spawn(load::tell(Arc::downgrade(&node)));
        node.go_home();
        Ok(node)
    }

    /// This device.
    pub(crate) fn device(&self) -> DeviceId {
        DeviceId::from_bytes(self.key.public_bytes())
    }

    /// Whose device this is.
    pub(crate) fn certificate(&self) -> DeviceCertificate {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_certificate(&self, certificate: DeviceCertificate) {
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
    }

    /// A ticket, used by this device under its person's name.
    fn known(&self, ticket: Ticket) -> KnownTicket {
        KnownTicket { ticket, certificate: self.certificate(), name: self.lock_profile().name.clone() }
    }

    /// This node's place in the network.
    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// What this node remembers about itself.
    pub(crate) fn profile(&self) -> Profile {
        self.lock_profile().clone()
    }

    /// The ticket of the current community's join, while that is under way.
    pub(crate) fn joining(&self) -> Option<String> {
        let current = self.current.borrow().as_ref().map(|membership| membership.id())?;
        self.lock_profile().community(&current)?.joining.clone()
    }

    /// Whether hostile probes may be sent.
    pub(crate) fn may_probe(&self) -> bool {
        self.options.probes
    }

    /// The recovery phrase, until it was forgotten here.
    pub(crate) fn phrase(&self) -> Result<Option<String>, NodeError> {
        Ok(self.folder.phrase()?)
    }

    /// Deletes the recovery phrase from this device: its owner has written it
    /// down.
    pub(crate) fn forget_phrase(&self) -> Result<(), NodeError> {
        Ok(self.folder.forget_phrase()?)
    }

    /// The data folder.
    pub(crate) fn data_folder(&self) -> &std::path::Path {
        self.folder.root()
    }

    /// Follows which community faces show, joined or being joined.
    pub(crate) fn watch_membership(&self) -> watch::Receiver<Option<Arc<Membership>>> {
        self.current.subscribe()
    }

    /// The current community, joined or being joined.
    pub(crate) fn membership(&self) -> Result<Arc<Membership>, NodeError> {
        self.current.borrow().clone().ok_or(NodeError::NoCommunity)
    }

    /// All communities, in the order of their ids.
    pub(crate) fn memberships(&self) -> Vec<Arc<Membership>> {
        self.lock_all().values().cloned().collect()
    }

    /// The private community of this person's devices, once there is one.
    pub(crate) fn private(&self) -> Option<Arc<PrivateHome>> {
        self.private.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The truth of all communities, the private one among them.
    fn all_replicas(&self) -> Vec<Replica> {
        let shared = self.memberships().into_iter().map(|membership| membership.replica().clone());
        shared.chain(self.private().map(|private| private.replica().clone())).collect()
    }

    /// Makes faces show another community, by name or id.
    pub(crate) fn show(&self, community: &str) -> Result<Arc<Membership>, NodeError> {
        let all = self.memberships();
        let is_meant = |membership: &&Arc<Membership>| {
            membership.id().to_hex() == community || membership.replica().state().charter.name() == community
        };
        let mut meant = all.iter().filter(is_meant);
        let membership = match (meant.next(), meant.next()) {
            (Some(membership), None) => membership.clone(),
            (Some(_), Some(_)) => return Err(NodeError::Ambiguous(community.to_owned())),
            (None, _) => return Err(NodeError::NoSuchCommunity(community.to_owned())),
        };
        self.remember(|profile| profile.current = Some(membership.id().to_hex()))?;
        self.current.send_replace(Some(membership.clone()));
        Ok(membership)
    }

    /// Founds a community and becomes its owner.
    pub(crate) async fn found(&self, name: &str, community: &str) -> Result<Arc<Membership>, NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        self.refuse_too_many()?;
        let name = clean_name("your name", name)?;
        let id = self.found_store(CommunityKind::Shared, &name, community)?;
        self.remember(|profile| {
            profile.name = name;
            profile.enter(&id, None);
        })?;
        let membership = Box::pin(self.open(id)).await?;
        self.ensure_private().await?;
        Ok(membership)
    }

    fn found_store(
        &self,
        kind: CommunityKind,
        name: &str,
        community: &str,
    ) -> Result<CommunityId, NodeError> {
        let certificate = self.certificate();
        let founding = Founding { kind, certificate, founder_name: name, name: community, floor: FLOOR };
        let sealing = SealingKey::of_device(&self.key);
        let place = self.folder.founding()?;
        let id = replica::found(&place.store(), founding, &self.key, sealing, &SystemClock, &OsEntropy)?;
        self.folder.founded(place, &id)?;
        Ok(id)
    }

    /// Founds the private community, unless this person has one.
    async fn ensure_private(&self) -> Result<(), NodeError> {
        if self.lock_profile().private.is_some() {
            return Ok(());
        }
        let name = self.lock_profile().name.clone();
        let id = self.found_store(CommunityKind::Private, &name, PRIVATE_NAME)?;
        self.remember(|profile| profile.private = Some(ProfileCommunity { id: id.to_hex(), joining: None }))?;
        Box::pin(self.open_private(id, None)).await
    }

    /// Enters the private community that another device of this person founded.
    async fn enter_private(&self, id: CommunityId, ticket: Option<KnownTicket>) -> Result<(), NodeError> {
        let joining = ticket.as_ref().map(|known| known.ticket.to_string());
        self.remember(|profile| profile.private = Some(ProfileCommunity { id: id.to_hex(), joining }))?;
        Box::pin(self.open_private(id, ticket)).await
    }

    async fn open_private(&self, id: CommunityId, ticket: Option<KnownTicket>) -> Result<(), NodeError> {
        let private = PrivateHome::open(&self.folder, self.key.to_bytes(), &self.mesh, id).await?;
        if let Some(ticket) = ticket.filter(|_| !private.is_member(&self.device())) {
            private.ask(ticket);
        }
        *self.private.lock().unwrap_or_else(PoisonError::into_inner) = Some(private);
        Ok(())
    }

    /// Starts joining with an invite, in whatever form it came; see
    /// [`Membership::watch_join`].
    pub(crate) async fn join(
        self: &Arc<Self>,
        name: &str,
        ticket: &str,
    ) -> Result<Arc<Membership>, NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        let name = clean_name("your name", name)?;
        let parsed = joining::read_ticket(ticket).await?;
        if exo_model::port::Clock::now_ms(&SystemClock) > parsed.expires_ms {
            return Err(NodeError::TicketExpired);
        }
        if self.merely_read(&parsed.community).is_none() {
            self.refuse_second(&parsed.community)?;
        }
        self.remember(|profile| profile.name.clone_from(&name))?;
        self.enter(self.known(parsed)).await
    }

    /// Opens a community, unless it is open here for reading, and asks to be let in.
    async fn enter(self: &Arc<Self>, known: KnownTicket) -> Result<Arc<Membership>, NodeError> {
        let community = known.ticket.community;
        let membership = match self.merely_read(&community) {
            Some(membership) => membership,
            None => Box::pin(self.open(community)).await?,
        };
        self.remember(|profile| profile.enter(&community, Some(known.ticket.to_string())))?;
        self.begin_join(&membership, known);
        Ok(membership)
    }

    /// Starts a join, and the task that forgets the ticket when it is over. A
    /// refused join is forgotten whole, so that another ticket can be tried.
    fn begin_join(self: &Arc<Self>, membership: &Arc<Membership>, known: KnownTicket) {
        membership.resume_join(known);
        let (node, membership) = (self.clone(), membership.clone());
        tokio::spawn(async move {
            let ended = match membership.join_outcome().await {
                Ok(()) => node.settle_join(&membership).await,
                Err(NodeError::JoinRefused(reason)) => node.note_refused(&membership, reason).await,
                Err(_) => Ok(()),
            };
            if let Err(error) = ended {
                tracing::error!(%error, "the end of a join could not be noted");
            }
        });
    }

    /// Waits until a join is over, if one is under way.
    pub(crate) async fn joined(&self, membership: &Arc<Membership>) -> Result<(), NodeError> {
        match membership.join_outcome().await {
            Ok(()) => self.settle_join(membership).await,
            Err(NodeError::JoinRefused(reason)) => {
                self.note_refused(membership, reason.clone()).await?;
                Err(NodeError::JoinRefused(reason))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives up the current community's join, if it is not complete. What was
    /// received stays in the store and harms nobody; the same invite can be tried
    /// again.
    pub(crate) async fn forget_join(&self) -> Result<(), NodeError> {
        let current = self.current.borrow().as_ref().map(|membership| membership.id());
        match current {
            Some(community) => self.forget_join_of(&community).await,
            None => Ok(()),
        }
    }

    async fn forget_join_of(&self, community: &CommunityId) -> Result<(), NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        self.drop_join(community).await
    }

    /// The same where nobody else changes which communities there are.
    async fn drop_join(&self, community: &CommunityId) -> Result<(), NodeError> {
        let is_joining =
            self.lock_profile().community(community).is_some_and(|known| known.joining.is_some());
        if !is_joining {
            return Ok(());
        }
        self.remember(|profile| profile.forget(community))?;
        let membership = self.lock_all().remove(community);
        if let Some(membership) = membership {
            self.show_another();
            membership.close().await;
        }
        Ok(())
    }

    /// Shows the community that the profile names, after one is gone.
    fn show_another(&self) {
        let current = self.lock_profile().current.as_ref().and_then(|id| id.parse().ok());
        let shown = current.and_then(|id: CommunityId| self.lock_all().get(&id).cloned());
        self.current.send_replace(shown);
    }

    /// Says goodbye to the peers and writes everything down.
    pub(crate) async fn close(&self) {
        let all = std::mem::take(&mut *self.lock_all());
        self.current.send_replace(None);
        for membership in all.values() {
            membership.close().await;
        }
        let private = self.private.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(private) = private {
            private.close().await;
        }
        self.mesh.close().await;
    }

    /// Opens a community, as the one that faces show.
    async fn open(&self, id: CommunityId) -> Result<Arc<Membership>, NodeError> {
        let membership = self.open_aside(id).await?;
        self.lock_all().insert(id, membership.clone());
        self.current.send_replace(Some(membership.clone()));
        self.adopt_blobs(&membership).await;
        Ok(membership)
    }

    /// Opens a community that is not among the node's yet.
    async fn open_aside(&self, id: CommunityId) -> Result<Arc<Membership>, NodeError> {
        let key = self.key.to_bytes();
        Ok(Membership::open(&self.folder, key, &self.options, &self.mesh, id).await?)
    }

    fn refuse_second(&self, community: &CommunityId) -> Result<(), NodeError> {
        let known = self.lock_profile().community(community).cloned();
        let open = self.lock_all().get(community).cloned();
        match (known, open) {
            (Some(ProfileCommunity { joining: Some(_), .. }), _) => Err(NodeError::Joining),
            (Some(_), Some(membership)) => {
                Err(NodeError::HasCommunity(membership.replica().state().charter.name().to_owned()))
            }
            _ => self.refuse_too_many(),
        }
    }

    fn refuse_too_many(&self) -> Result<(), NodeError> {
        if self.lock_all().len() < COMMUNITIES_MAX { Ok(()) } else { Err(NodeError::TooMany) }
    }

    fn remember(&self, change: impl FnOnce(&mut Profile)) -> Result<(), NodeError> {
        let mut profile = self.lock_profile();
        let mut changed = profile.clone();
        change(&mut changed);
        self.folder.save_profile(&changed)?;
        *profile = changed;
        Ok(())
    }

    fn lock_profile(&self) -> MutexGuard<'_, Profile> {
        self.profile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_all(&self) -> MutexGuard<'_, BTreeMap<CommunityId, Arc<Membership>>> {
        self.memberships.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the endpoint; on the port of last time, if that is free and nothing else
/// was asked for.
async fn start_mesh(
    folder: &Folder,
    key: &SecretKey,
    options: &NodeOptions,
    last_port: Option<u16>,
) -> Result<Mesh, MeshError> {
    let config = |bind| MeshConfig {
        secret: SecretKey::from_bytes(&key.to_bytes()),
        bind,
        blobs_dir: folder.blobs(),
        addresses: folder.addresses(),
        finding: options.finding,
    };
    let mut again = options.bind;
    again.set_port(last_port.unwrap_or(0));
    if options.bind.port() == 0 && last_port.is_some() {
        match Mesh::start(config(again)).await {
            // The port of last time is taken: any other will do.
            Err(MeshError::Bind { .. }) => {}
            started => return started,
        }
    }
    Mesh::start(config(options.bind)).await
}
