//! A person's devices: linking a second one, coming back by the phrase, revoking
//! a lost one.

use std::sync::{Arc, PoisonError};

use exo_model::certificate::DeviceCertificate;
use exo_model::id::DeviceId;
use exo_model::invite::{Contact, Ticket};
use exo_model::pairing::{PairingCode, PairingInvite};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Clock as _;
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_sync::mesh::{KnownCommunity, PairingGuest, pair};
use exo_sync::replica::Replica;
use tokio::sync::watch;

use super::{KnownTicket, Node, NodeError};
use crate::folder::machine_name;
use crate::host::{OsEntropy, SystemClock};

/// How linking a device goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkStatus {
    /// The code is shown; nobody came yet.
    Waiting,
    /// A device with this name was linked.
    Linked(String),
    /// It did not come about.
    Failed(String),
}

/// One device of this person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnDevice {
    pub(crate) device: DeviceId,
    pub(crate) name: String,
    /// Counts the person's devices in the order of their enrolment.
    pub(crate) serial: u64,
    /// Whether it is this one.
    pub(crate) is_this: bool,
    pub(crate) is_online: bool,
}

impl Node {
    /// Makes a code by which another device of this person is linked, and waits for
    /// it in the background until the code runs out.
    pub(crate) async fn link_device(self: &Arc<Self>) -> Result<PairingInvite, NodeError> {
        if self.memberships().is_empty() {
            return Err(NodeError::NothingToShare);
        }
        self.ensure_private().await?;
        let code = PairingCode::generate(&OsEntropy);
        let invite = PairingInvite { code, addresses: Vec::new(), relays: Vec::new() };
        let host = self.mesh.open_pairing(invite, self.options.bind).await?;
        let (shown, status) = (host.invite().clone(), watch::Sender::new(LinkStatus::Waiting));
        *self.linking.lock().unwrap_or_else(PoisonError::into_inner) = Some(status.subscribe());
        let (certificate, name) = (self.certificate(), self.profile().name);
        tokio::spawn(async move {
            let end = match host.wait(certificate, name).await {
                Ok(claims) => LinkStatus::Linked(claims.name),
                Err(error) => LinkStatus::Failed(error.to_string()),
            };
            status.send_replace(end);
        });
        Ok(shown)
    }

    /// How linking goes by the latest code, if there was one.
    pub(crate) fn link_status(&self) -> Option<LinkStatus> {
        let linking = self.linking.lock().unwrap_or_else(PoisonError::into_inner);
        linking.as_ref().map(|status| status.borrow().clone())
    }

    /// Becomes a device of the person whose other device shows this code. Only a
    /// device that is in no community yet can.
    pub(crate) async fn become_device(self: &Arc<Self>, code: &str) -> Result<String, NodeError> {
        let invite: PairingInvite = code.parse()?;
        self.refuse_used()?;
        let guest = PairingGuest {
            invite: &invite,
            bind: self.options.bind,
            key: &self.key,
            sealing: SealingKey::of_device(&self.key).public(),
            name: machine_name(),
        };
        let paired = pair(guest).await?;
        self.adopt(paired.certificate, &paired.person_name)?;
        self.enter_all(paired.communities, &paired.person_name).await?;
        Ok(paired.person_name)
    }

    /// Comes back as the person of a recovery phrase, through any member. Only a
    /// device that is in no community yet can.
    pub(crate) async fn come_back(
        self: &Arc<Self>,
        phrase: &str,
        contacts: &[Contact],
        name: &str,
    ) -> Result<usize, NodeError> {
        let phrase: RecoveryPhrase = phrase.parse()?;
        self.refuse_used()?;
        let name = exo_model::text::clean_name("your name", name)?;
        // Later than any device that was enrolled before: by the clock, because
        // nobody is here to ask.
        let serial = u64::try_from(SystemClock.now_ms()).unwrap_or(1).max(1);
        let certificate = crate::folder::certify(&self.key, &phrase, serial)?;
        let known = self.mesh.come_back(&certificate, contacts).await?;
        let count = known.len();
        self.adopt(certificate, &name)?;
        self.enter_all(known, &name).await?;
        let phrase = Arc::new(phrase);
        for replica in self.all_replicas() {
            tokio::spawn(read_with_phrase(replica, self.device(), phrase.clone()));
        }
        Ok(count)
    }

    /// This person's devices, as the communities know them.
    pub(crate) fn devices(&self) -> Vec<OwnDevice> {
        let me = self.device();
        let person = self.certificate().claims.person;
        let mut devices: Vec<OwnDevice> = Vec::new();
        for replica in self.all_replicas() {
            let charter = replica.state().charter.clone();
            let own = charter.devices.iter().filter(|(_, entry)| entry.person == person);
            for (device, entry) in own {
                if devices.iter().all(|known| known.device != *device) {
                    devices.push(OwnDevice {
                        device: *device,
                        name: entry.name.clone(),
                        serial: entry.serial,
                        is_this: *device == me,
                        is_online: *device == me || self.mesh.is_connected(device),
                    });
                }
            }
        }
        devices.sort_by_key(|device| device.serial);
        devices
    }

    /// Revokes a lost device everywhere; by the phrase, where that is given: it
    /// beats any device.
    pub(crate) async fn revoke_device(&self, device: &str, phrase: Option<&str>) -> Result<usize, NodeError> {
        let own = self.devices();
        let meant = |known: &&OwnDevice| known.device.to_hex() == device || known.name == device;
        let mut found = own.iter().filter(meant);
        let device = match (found.next(), found.next()) {
            (Some(found), None) => found.device,
            (Some(_), Some(_)) => return Err(NodeError::AmbiguousDevice(device.to_owned())),
            (None, _) => return Err(NodeError::NoSuchDevice(device.to_owned())),
        };
        if device == self.device() {
            return Err(NodeError::OwnDevice);
        }
        let phrase = phrase.map(str::parse::<RecoveryPhrase>).transpose()?.map(Arc::new);
        let mut revoked = 0;
        for replica in self.all_replicas() {
            let state = replica.state();
            if !state.charter.devices.contains_key(&device) {
                continue;
            }
            replica.revoke_device(device, phrase.clone()).await?;
            revoked += 1;
        }
        Ok(revoked)
    }

    /// Nobody becomes somebody else's device who is somebody already.
    fn refuse_used(&self) -> Result<(), NodeError> {
        if self.profile().communities.is_empty() { Ok(()) } else { Err(NodeError::Used) }
    }

    fn adopt(&self, certificate: DeviceCertificate, name: &str) -> Result<(), NodeError> {
        self.folder.adopt(&certificate)?;
        self.set_certificate(certificate);
        self.remember(|profile| profile.name = name.to_owned())
    }

    /// Begins to join all of these that this device is not in already.
    pub(super) async fn enter_all(
        self: &Arc<Self>,
        communities: Vec<KnownCommunity>,
        name: &str,
    ) -> Result<(), NodeError> {
        for known in communities {
            let ticket = ticket_of(&known);
            let entry = KnownTicket { ticket, certificate: self.certificate(), name: name.to_owned() };
            let is_open = self.lock_all().contains_key(&known.community);
            if known.is_private {
                if self.private().is_none() {
                    self.enter_private(known.community, Some(entry)).await?;
                }
            } else if !is_open || self.merely_read(&known.community).is_some() {
                self.enter(entry).await?;
            }
        }
        Ok(())
    }
}

/// Finds a community that this device is enrolled in already: whoever is asked
/// answers with the charter's keys. The key of the ticket invites nobody.
fn ticket_of(known: &KnownCommunity) -> Ticket {
    let secret = SecretKey::generate(&OsEntropy);
    let name = known.name.clone();
    Ticket::new(known.community, name, &secret, i64::MAX, known.contacts.clone())
        .with_relays(known.relays.clone())
}

/// Opens with the phrase what the person could ever read, once this device is
/// let in and the keys' feeds are here.
async fn read_with_phrase(replica: Replica, me: DeviceId, phrase: Arc<RecoveryPhrase>) {
    let mut snapshot = replica.watch();
    if snapshot.wait_for(|snapshot| snapshot.state.charter.is_member(&me)).await.is_err() {
        return;
    }
    // Feeds come in one after the other; what comes later is sealed to this
    // device by whoever holds the keys.
    for pause_s in [1, 5, 20, 60] {
        tokio::time::sleep(std::time::Duration::from_secs(pause_s)).await;
        if let Err(error) = replica.learn_with_phrase(phrase.recovery_key()).await {
            tracing::warn!(%error, "reading with the phrase");
        }
    }
}
