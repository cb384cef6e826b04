//! Joining: the newcomer's retries, and the member's answer.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use minicbor::{Decode, Encode};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use exo_model::certificate::DeviceCertificate;
use exo_model::charter::Role;
use exo_model::decide::{Intent, Refusal};
use exo_model::id::{DeviceId, SealingPublicKey};
use exo_model::invite::{JoinRequest, Ticket};
use exo_model::roll::KeeperAnchor;

use super::community::Here;
use super::{ALPN_JOIN, Inner, device_id, jitter};
use crate::hub::Input;
use crate::replica::{ROOM_BYTES, ReplicaError, SealedGovernance};
use crate::wire;

/// Longest request or answer, in bytes: an answer carries a sealed key for
/// every epoch of the charter.
const FRAME_BYTES_MAX: usize = 512 * 1024;
/// Longest wait for the other side's frame.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for the charter after an admission.
const CHARTER_DEADLINE: Duration = Duration::from_secs(20);
/// Pause between looks whether a contact is linked, after an admission.
const UNLINKED_LOOK: Duration = Duration::from_millis(250);
/// Looks that find nobody linked before everyone is asked again: 3 s.
const UNLINKED_LOOKS: u32 = 12;
/// Join requests answered at the same time.
const JOINS_MAX: usize = 16;
/// First and longest pause between rounds over all contacts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How far a join is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinStatus {
    /// Nobody could be asked yet; it goes on.
    Trying {
        /// Rounds over all contacts so far.
        rounds: u32,
        /// What the last one failed with.
        last_error: String,
    },
    /// Admitted; the community's history is on its way.
    Admitted,
    /// Part of the community.
    Joined,
    /// A member refused for good; another invite is needed.
    Refused(String),
}

/// A join under way; it goes on until it succeeds, is refused, or is stopped.
#[derive(Debug)]
pub struct JoinProgress {
    status: watch::Receiver<JoinStatus>,
    task: JoinHandle<()>,
}

impl JoinProgress {
    /// Follows the status.
    pub fn watch(&self) -> watch::Receiver<JoinStatus> {
        self.status.clone()
    }

    /// Gives up.
    pub fn stop(&self) {
        self.task.abort();
    }
}

#[derive(Debug, Encode, Decode)]
enum Answer {
    #[n(0)]
    Admitted {
        /// Keys of the charter, sealed to the newcomer's device.
        #[n(0)]
        governance: SealedGovernance,
        /// For a keeper: what it goes by.
        #[n(1)]
        keeper: Option<Box<KeeperAnchor>>,
    },
    #[n(1)]
    Refused {
        #[n(0)]
        reason: String,
        /// Whether another member could answer differently.
        #[n(1)]
        try_others: bool,
    },
}

/// Answers newcomers.
pub(super) struct JoinProtocol {
    inner: Arc<Inner>,
    /// Strangers may ask, but not all at once.
    slots: Semaphore,
}

impl JoinProtocol {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, slots: Semaphore::new(JOINS_MAX) }
    }
}

impl std::fmt::Debug for JoinProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinProtocol")
    }
}

impl ProtocolHandler for JoinProtocol {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = device_id(connection.remote_id());
        let Ok(_slot) = self.slots.try_acquire() else {
            tracing::debug!(%peer, "too many join requests at once");
            return Ok(());
        };
        match tokio::time::timeout(ANSWER_DEADLINE, answer(&self.inner, &connection)).await {
            Ok(Ok(())) => {
                // The newcomer closes once it has read the answer.
                let _ = tokio::time::timeout(ANSWER_DEADLINE, connection.closed()).await;
            }
            Ok(Err(reason)) => self.inner.note_refusal(peer, format!("join: {reason}")),
            Err(_) => tracing::debug!(%peer, "join request timed out"),
        }
        Ok(())
    }
}

async fn answer(inner: &Inner, connection: &Connection) -> Result<(), String> {
    let peer = device_id(connection.remote_id());
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|error| error.to_string())?;
    let request: JoinRequest = wire::read(&mut recv, FRAME_BYTES_MAX)
        .await
        .map_err(|error| error.to_string())?
        .ok_or("no request")?;
    let here = inner.driver.communities().get(&request.community);
    let answer = match here {
        _ if request.certificate.claims.device != peer => {
            Answer::Refused { reason: "the request names another device".into(), try_others: false }
        }
        Some(here) => {
            let name = request.name.clone();
            let answer = judge(&here, request).await;
            if let Answer::Refused { reason, try_others: false } = &answer {
                // Whoever made the invite hears of it too, and may be asked about it.
                inner.note_refusal(peer, format!("join of \"{}\": {reason}", shown(&name)));
            }
            answer
        }
        None => Answer::Refused { reason: "this member is not in that community".into(), try_others: true },
    };
    wire::write(&mut send, &answer, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())
}

/// A stranger's name as it may be shown.
fn shown(name: &str) -> String {
    exo_model::text::clean_name("the name", name).unwrap_or_else(|_| "?".into())
}

async fn judge(here: &Here, request: JoinRequest) -> Answer {
    let (device, recipient) = (request.certificate.claims.device, request.certificate.claims.sealing);
    // Who asks again may have missed the answer, and a person's further device is
    // enrolled by another one. What is in force is the charter's word on the
    // device, not that of a request nobody checked.
    let recorded = if is_enrolled(here, &device, &recipient) {
        Ok(())
    } else {
        here.replica().record(Intent::Admit(request)).await.map(drop)
    };
    let answered = match recorded {
        Ok(()) => admitted(here, &device, recipient).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(answer) => answer,
        Err(ReplicaError::Refused(refusal)) => {
            // This member may lack an invite that another has.
            let try_others = matches!(refusal, Refusal::UnknownInvite | Refusal::NotAMember);
            Answer::Refused { reason: refusal.to_string(), try_others }
        }
        Err(error) => {
            tracing::error!(%error, "admitting failed");
            Answer::Refused { reason: "this member's disk does not work just now".into(), try_others: true }
        }
    }
}

/// What someone who is in needs to take part.
async fn admitted(
    here: &Here,
    device: &DeviceId,
    recipient: SealingPublicKey,
) -> Result<Answer, ReplicaError> {
    let replica = here.replica();
    let governance = replica.seal_governance(recipient).await?;
    let is_keeper = replica.state().charter.role_of(device) == Some(Role::Keeper);
    let keeper = if is_keeper { Some(Box::new(replica.keeper_anchor().await?)) } else { None };
    Ok(Answer::Admitted { governance, keeper })
}

fn is_enrolled(here: &Here, device: &DeviceId, sealing: &SealingPublicKey) -> bool {
    let state = here.replica().state();
    state.charter.devices.get(device).is_some_and(|enrolled| enrolled.sealing == *sealing)
}

pub(super) fn spawn(
    inner: Arc<Inner>,
    here: Arc<Here>,
    ticket: Ticket,
    certificate: DeviceCertificate,
    name: String,
) -> JoinProgress {
    let (status, receiver) = watch::channel(JoinStatus::Trying { rounds: 0, last_error: String::new() });
    let task = tokio::spawn(async move {
        let newcomer = Newcomer { inner, here, contacts: ticket.contacts.iter().map(|c| c.device).collect() };
        if newcomer.is_member() {
            status.send_replace(JoinStatus::Joined);
            return;
        }
        newcomer.here.meet(&ticket);
        newcomer.inner.gather_relays();
        let request = ticket.request(certificate, name);
        while newcomer.ask_until_answered(&request, &status).await {
            status.send_replace(JoinStatus::Admitted);
            if newcomer.becomes_member().await {
                status.send_replace(JoinStatus::Joined);
                return;
            }
        }
    });
    JoinProgress { status: receiver, task }
}

/// A device that wants to be admitted.
struct Newcomer {
    inner: Arc<Inner>,
    here: Arc<Here>,
    contacts: Vec<DeviceId>,
}

impl Newcomer {
    fn is_member(&self) -> bool {
        self.here.is_inside(&self.inner.me)
    }

    /// Asks everyone, again and again; returns false after a refusal for good.
    async fn ask_until_answered(&self, request: &JoinRequest, status: &watch::Sender<JoinStatus>) -> bool {
        let mut pause = PAUSE.0;
        for rounds in 1.. {
            let mut last_error = String::from("the invite names nobody to ask");
            for contact in &self.contacts {
                match ask(&self.inner, *contact, request).await {
                    Ok(Answer::Admitted { governance, keeper }) => {
                        match self.take(governance, keeper).await {
                            Ok(()) => return true,
                            Err(error) => last_error = error.to_string(),
                        }
                    }
                    Ok(Answer::Refused { reason, try_others: false }) => {
                        status.send_replace(JoinStatus::Refused(reason));
                        return false;
                    }
                    Ok(Answer::Refused { reason, .. }) => last_error = reason,
                    Err(reason) => last_error = reason,
                }
            }
            status.send_replace(JoinStatus::Trying { rounds, last_error });
            tokio::time::sleep(pause.mul_f64(0.5 + jitter())).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        false
    }

    /// Takes what came with an admission.
    async fn take(
        &self,
        governance: SealedGovernance,
        keeper: Option<Box<KeeperAnchor>>,
    ) -> Result<(), ReplicaError> {
        match keeper {
            Some(anchor) => self.here.replica().become_keeper(*anchor, ROOM_BYTES).await,
            None => self.here.replica().learn_governance(governance).await,
        }
    }

    /// Waits until the charter is here and names this device: from now on the
    /// contacts are linked as any member is. Where nobody brings that, the answer
    /// was worth nothing and everyone is asked again.
    async fn becomes_member(&self) -> bool {
        self.here.look_again(&self.inner);
        self.inner.hear(Input::NetworkChanged);
        let mut snapshot = self.here.replica().watch();
        let member = snapshot.wait_for(|snapshot| snapshot.knows_device(&self.inner.me));
        tokio::select! {
            arrived = tokio::time::timeout(CHARTER_DEADLINE, member) => arrived.is_ok_and(|arrived| arrived.is_ok()),
            () = self.nobody_is_linked() => self.is_member(),
        }
    }

    /// Ends when no contact has been linked for a while: they refuse.
    async fn nobody_is_linked(&self) {
        let mut alone = 0;
        while alone < UNLINKED_LOOKS {
            tokio::time::sleep(UNLINKED_LOOK).await;
            let links = self.inner.driver.connections();
            let is_linked = self.contacts.iter().any(|contact| links.contains_key(contact));
            alone = if is_linked { 0 } else { alone + 1 };
        }
    }
}

async fn ask(inner: &Inner, contact: DeviceId, request: &JoinRequest) -> Result<Answer, String> {
    let connection = inner.dial(contact, ALPN_JOIN).await.map_err(|error| error.to_string())?;
    let asked = async {
        let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
        wire::write(&mut send, request, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
        let answer = wire::read(&mut recv, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
        answer.ok_or_else(|| "no answer".to_owned())
    };
    let answer = tokio::time::timeout(ANSWER_DEADLINE, asked)
        .await
        .unwrap_or_else(|_| Err("no answer in time".into()));
    connection.close(0_u32.into(), b"thank you");
    answer
}
