//! A node: one person's program, with or without a community yet.
//!
//! Owns the data folder and this device's key. Founding or joining opens a
//! [`Membership`]; everything a face can ask for goes through these two.

mod announce;
mod membership;
mod models;
mod views;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exo_model::amount::Amount;
use exo_model::certificate::DeviceCertificate;
use exo_model::charter::CommunityKind;
use exo_model::id::{CommunityId, DeviceId};
use exo_model::invite::{Ticket, TicketError};
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_model::text::{TextError, clean_name};
use exo_sync::mesh::MeshError;
use exo_sync::replica::{self, Founding, ReplicaError};
use tokio::sync::watch;

use crate::folder::{Folder, FolderError, Profile};
use crate::host::{OsEntropy, SystemClock};

pub(crate) use membership::{Membership, MembershipError};
pub(crate) use models::ModelError;

/// The lowest balance in a new community: 1,000 WU below zero.
const FLOOR: Amount = Amount::from_token_mib(-1_000 * Amount::PER_WORK_UNIT);

/// How a node is started.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// The data folder.
    pub(crate) data: PathBuf,
    /// The address to listen on; port 0 takes the port of last time, or any.
    pub(crate) bind: SocketAddr,
    /// Memory offered for model weights and their caches, bytes.
    pub(crate) offered_bytes: u64,
    /// Whether the model built into the program may be used.
    pub(crate) starter: bool,
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
    #[error("the invite has expired; ask for a new one")]
    TicketExpired,
    #[error("this node belongs to \"{0}\" already; start another with --data FOLDER")]
    HasCommunity(String),
    #[error("a join is under way; it goes on until somebody answers, or until it is cancelled")]
    Joining,
    #[error("there is no community yet: found one, or join one with an invite")]
    NoCommunity,
    #[error("the join was refused: {0}")]
    JoinRefused(String),
    #[error("nobody let this device in before the join was given up")]
    JoinStopped,
}

/// One running node.
pub(crate) struct Node {
    folder: Folder,
    key: SecretKey,
    certificate: DeviceCertificate,
    options: NodeOptions,
    profile: Mutex<Profile>,
    membership: watch::Sender<Option<Arc<Membership>>>,
    /// Held while the community changes, so that two founders at once do not.
    changing: tokio::sync::Mutex<()>,
}

impl Node {
    /// Opens the data folder and, where there is a community, joins its mesh;
    /// a join that was under way goes on.
    pub(crate) async fn start(options: NodeOptions) -> Result<Arc<Self>, NodeError> {
        let folder = Folder::open(&options.data)?;
        let key = folder.device_key(&OsEntropy)?;
        let certificate = folder.certificate(&key, &OsEntropy)?;
        let profile = folder.profile()?;
        let node = Arc::new(Self {
            folder,
            key,
            certificate,
            options,
            profile: Mutex::new(profile.clone()),
            membership: watch::Sender::new(None),
            changing: tokio::sync::Mutex::default(),
        });
        if let Some(community) = profile.community_id() {
            let membership = node.open(community).await?;
            if let Some(ticket) = &profile.joining {
                node.begin_join(&membership, &ticket.parse()?, profile.name.clone());
            }
        }
        Ok(node)
    }

    /// This device.
    pub(crate) fn device(&self) -> DeviceId {
        DeviceId::from_bytes(self.key.public_bytes())
    }

    /// What this node remembers about itself.
    pub(crate) fn profile(&self) -> Profile {
        self.lock_profile().clone()
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

    /// Follows whether there is a community, joined or being joined.
    pub(crate) fn watch_membership(&self) -> watch::Receiver<Option<Arc<Membership>>> {
        self.membership.subscribe()
    }

    /// The community this node belongs to or is joining.
    pub(crate) fn membership(&self) -> Result<Arc<Membership>, NodeError> {
        self.membership.borrow().clone().ok_or(NodeError::NoCommunity)
    }

    /// Founds a community and becomes its owner.
    pub(crate) async fn found(&self, name: &str, community: &str) -> Result<Arc<Membership>, NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        self.refuse_second()?;
        let name = clean_name("your name", name)?;
        let founding = Founding {
            kind: CommunityKind::Shared,
            certificate: self.certificate.clone(),
            founder_name: &name,
            name: community,
            floor: FLOOR,
        };
        let sealing = SealingKey::of_device(&self.key);
        let store = self.folder.store();
        let id = replica::found(&store, founding, &self.key, sealing, &SystemClock, &OsEntropy)?;
        self.remember(|profile| {
            profile.name = name;
            profile.community = Some(id.to_hex());
            profile.joining = None;
        })?;
        self.open(id).await
    }

    /// Starts joining with an invite; see [`Membership::watch_join`].
    pub(crate) async fn join(
        self: &Arc<Self>,
        name: &str,
        ticket: &str,
    ) -> Result<Arc<Membership>, NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        self.refuse_second()?;
        let name = clean_name("your name", name)?;
        let parsed: Ticket = ticket.parse()?;
        if exo_model::port::Clock::now_ms(&SystemClock) > parsed.expires_ms {
            return Err(NodeError::TicketExpired);
        }
        let membership = self.open(parsed.community).await?;
        self.remember(|profile| {
            profile.name.clone_from(&name);
            profile.community = Some(parsed.community.to_hex());
            profile.joining = Some(parsed.to_string());
        })?;
        self.begin_join(&membership, &parsed, name);
        Ok(membership)
    }

    /// Starts a join, and the task that forgets the ticket when it is over. A
    /// refused join is forgotten whole, so that another ticket can be tried.
    fn begin_join(self: &Arc<Self>, membership: &Arc<Membership>, ticket: &Ticket, name: String) {
        membership.resume_join(ticket, self.certificate.clone(), name);
        let (node, membership) = (self.clone(), membership.clone());
        tokio::spawn(async move {
            let ended = match membership.join_outcome().await {
                Ok(()) => node.remember(|profile| profile.joining = None),
                Err(NodeError::JoinRefused(reason)) => {
                    tracing::info!(%reason, "the join was refused");
                    node.forget_join().await
                }
                Err(_) => Ok(()),
            };
            if let Err(error) = ended {
                tracing::error!(%error, "the end of a join could not be noted");
            }
        });
    }

    /// Waits until the join under way is over, if there is one.
    pub(crate) async fn joined(&self) -> Result<(), NodeError> {
        let membership = self.membership()?;
        membership.join_outcome().await
    }

    /// Gives up a join that is not complete. What was received stays in the
    /// store and harms nobody; the node is free to join or found again.
    pub(crate) async fn forget_join(&self) -> Result<(), NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        if self.lock_profile().joining.is_none() {
            return Ok(());
        }
        if let Some(membership) = self.membership.send_replace(None) {
            membership.close().await;
        }
        self.remember(|profile| {
            profile.joining = None;
            profile.community = None;
        })
    }

    /// Says goodbye to the peers and writes everything down.
    pub(crate) async fn close(&self) {
        if let Some(membership) = self.membership.send_replace(None) {
            membership.close().await;
        }
    }

    async fn open(&self, id: CommunityId) -> Result<Arc<Membership>, NodeError> {
        let mut options = self.options.clone();
        if options.bind.port() == 0 {
            options.bind.set_port(self.lock_profile().port.unwrap_or(0));
        }
        // Boxed: starting an endpoint is a large future.
        let opened = Box::pin(Membership::open(&self.folder, self.key.to_bytes(), &options, id)).await;
        let membership = match opened {
            // The port of last time is taken: any other will do.
            Err(MembershipError::Mesh(MeshError::Bind { .. })) if self.options.bind.port() == 0 => {
                options.bind.set_port(0);
                Box::pin(Membership::open(&self.folder, self.key.to_bytes(), &options, id)).await?
            }
            opened => opened?,
        };
        let port = membership.mesh().port();
        self.remember(|profile| profile.port = port)?;
        self.membership.send_replace(Some(membership.clone()));
        Ok(membership)
    }

    fn refuse_second(&self) -> Result<(), NodeError> {
        match self.membership.borrow().as_ref() {
            Some(_) if self.lock_profile().joining.is_some() => Err(NodeError::Joining),
            Some(membership) => {
                Err(NodeError::HasCommunity(membership.replica().state().charter.name().to_owned()))
            }
            None => Ok(()),
        }
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
}
