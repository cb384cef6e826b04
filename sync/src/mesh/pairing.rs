//! Linking a second device of the same person.
//!
//! Both sides open an endpoint of their own for it, with keys that only the code
//! gives: so each knows that the other one has the code. Over that connection the
//! new device says who it is, the first one certifies it and enrols it in every
//! community, and tells where they are found.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, RelayUrl, TransportAddr};
use iroh_mdns_address_lookup::MdnsAddressLookup;
use minicbor::{Decode, Encode};

use exo_model::certificate::{CertificateError, DeviceCertificate, DeviceClaims, Enroller};
use exo_model::charter::Relay;
use exo_model::decide::{Intent, Refusal};
use exo_model::id::{CommunityId, DeviceId, SealingPublicKey};
use exo_model::invite::Contact;
use exo_model::pairing::{PAIRING_LASTS_MS, PairingInvite};
use exo_model::port::Signer as _;
use exo_model::signature::{SecretKey, Signature};
use exo_model::text;

use super::{Inner, Mesh, endpoint_id};
use crate::relay::RelayTrust;
use crate::replica::ReplicaError;
use crate::wire::{self, FrameError};

/// The protocol between the two devices.
const ALPN_PAIRING: &[u8] = b"exo/pairing/1";
/// Name of the service on the local network, while a code is shown.
const SERVICE: &str = "exo-studio-link";
/// Longest frame, in bytes: names and contacts of all communities.
const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Longest wait for the other side's frame.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// Pause between dials of the new device.
const DIAL_AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for one dial.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// Communities told of.
const COMMUNITIES_MAX: usize = 64;

/// A pairing that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum PairingError {
    /// The endpoint cannot be opened.
    #[error("cannot listen for the other device: {0}")]
    Bind(String),
    /// Nobody came in time.
    #[error("the other device did not come within ten minutes: make a new code and try again")]
    TimedOut,
    /// The connection broke, or the other side said something else.
    #[error("the other device broke off: {0}; make a new code and try again")]
    Broken(String),
    /// The certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The code was shown by someone else's program.
    #[error("the certificate is not for this device: make a new code and try again")]
    NotForUs,
    /// The new device is a member of its own already.
    #[error("the other device belongs to somebody already: link a fresh one")]
    Taken,
}

impl From<FrameError> for PairingError {
    fn from(error: FrameError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// What the new device says of itself.
#[derive(Debug, Encode, Decode)]
struct Newcomer {
    #[n(0)]
    device: DeviceId,
    #[n(1)]
    sealing: SealingPublicKey,
    #[n(2)]
    name: String,
}

/// A community that a person is in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KnownCommunity {
    /// Which one.
    #[n(0)]
    pub community: CommunityId,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// Whether it is the person's private one.
    #[n(2)]
    pub is_private: bool,
    /// Members that can be asked.
    #[n(3)]
    pub contacts: Vec<Contact>,
    /// Over which relays.
    #[n(4)]
    pub relays: Vec<Relay>,
}

/// What the new device gets.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Paired {
    /// That it is the person's.
    #[n(0)]
    pub certificate: DeviceCertificate,
    /// What friends call the person.
    #[n(1)]
    pub person_name: String,
    /// Where the person is a member.
    #[n(2)]
    pub communities: Vec<KnownCommunity>,
}

/// The new device's side of it.
pub struct PairingGuest<'a> {
    /// What the other device shows.
    pub invite: &'a PairingInvite,
    /// Local address for the endpoint; port 0.
    pub bind: SocketAddr,
    /// The new device's key.
    pub key: &'a SecretKey,
    /// What keys are sealed to.
    pub sealing: SealingPublicKey,
    /// What the machine is called.
    pub name: String,
}

impl Mesh {
    /// Where this device can be met by one that is to be linked.
    ///
    /// # Errors
    /// When no endpoint can be opened.
    pub async fn open_pairing(
        &self,
        mut invite: PairingInvite,
        bind: SocketAddr,
    ) -> Result<PairingHost, PairingError> {
        invite.relays.clone_from(&self.inner.relays.list.borrow());
        let key = invite.code.host_key();
        let endpoint = Box::pin(open_endpoint(&key, bind, &invite.relays)).await?;
        invite.addresses = endpoint.addr().ip_addrs().map(ToString::to_string).collect();
        Ok(PairingHost { inner: self.inner.clone(), endpoint, invite })
    }
}

/// A device that shows a code and waits.
pub struct PairingHost {
    inner: Arc<Inner>,
    endpoint: Endpoint,
    invite: PairingInvite,
}

impl PairingHost {
    /// What to show.
    pub const fn invite(&self) -> &PairingInvite {
        &self.invite
    }

    /// Waits for the new device and enrols it; one only. `own` is this device's
    /// certificate, `person_name` what friends call the person.
    ///
    /// # Errors
    /// See [`PairingError`].
    pub async fn wait(
        self,
        own: DeviceCertificate,
        person_name: String,
    ) -> Result<DeviceClaims, PairingError> {
        let lasts = Duration::from_millis(PAIRING_LASTS_MS.unsigned_abs());
        let serving = self.serve(own, person_name);
        let served = tokio::time::timeout(lasts, serving).await.unwrap_or(Err(PairingError::TimedOut));
        self.endpoint.close().await;
        served
    }

    async fn serve(&self, own: DeviceCertificate, person_name: String) -> Result<DeviceClaims, PairingError> {
        let guest = DeviceId::from_bytes(self.invite.code.guest_key().public_bytes());
        loop {
            let incoming = self.endpoint.accept().await.ok_or(PairingError::TimedOut)?;
            let Ok(Ok(connection)) = tokio::time::timeout(DIAL_DEADLINE, incoming).await else { continue };
            // Whoever does not have the code cannot have this key.
            if super::device_id(connection.remote_id()) != guest {
                connection.close(1_u32.into(), b"another code");
                continue;
            }
            return self.enrol(&connection, &own, person_name).await;
        }
    }

    async fn enrol(
        &self,
        connection: &Connection,
        own: &DeviceCertificate,
        person_name: String,
    ) -> Result<DeviceClaims, PairingError> {
        let (mut send, mut recv) = connection.accept_bi().await.map_err(broken)?;
        let newcomer: Newcomer = receive(&mut recv).await?;
        let name = text::clean_name("the device's name", &newcomer.name).map_err(broken)?;
        let claims = DeviceClaims {
            person: own.claims.person,
            recovery: own.claims.recovery,
            device: newcomer.device,
            sealing: newcomer.sealing,
            name,
            serial: self.next_serial(own),
        };
        let enroller = Enroller::Device(self.inner.me);
        send_frame(&mut send, &(claims.clone(), enroller)).await?;
        let acceptance: Signature = receive(&mut recv).await?;
        let certificate =
            DeviceCertificate::sign_with_device(claims.clone(), acceptance, &self.inner.secret, &own.claims)?;
        let communities = enrol_everywhere(&self.inner, &certificate).await?;
        send_frame(&mut send, &Paired { certificate, person_name, communities }).await?;
        send.finish().map_err(broken)?;
        // The other side closes once it has stored what it got.
        let _ = tokio::time::timeout(ANSWER_DEADLINE, connection.closed()).await;
        Ok(claims)
    }

    /// Above every serial of the person's devices that is known here.
    fn next_serial(&self, own: &DeviceCertificate) -> u64 {
        let mut highest = own.claims.serial;
        for here in self.inner.driver.communities().all() {
            let charter = here.replica().state().charter.clone();
            let serials = charter.devices.values().filter(|device| device.person == own.claims.person);
            highest = serials.map(|device| device.serial).fold(highest, u64::max);
        }
        highest.saturating_add(1)
    }
}

/// Enrols a device in every community that its person is in here; says which these
/// are.
pub(super) async fn enrol_everywhere(
    inner: &Arc<Inner>,
    certificate: &DeviceCertificate,
) -> Result<Vec<KnownCommunity>, PairingError> {
    let mut known = Vec::new();
    for here in inner.driver.communities().all().into_iter().take(COMMUNITIES_MAX) {
        let state = here.replica().state();
        if !state.charter.members.contains_key(&certificate.claims.person) {
            continue;
        }
        match here.replica().record(Intent::AddDevice(certificate.clone())).await {
            Ok(_) | Err(ReplicaError::Refused(Refusal::AlreadyMember)) => {}
            Err(ReplicaError::Refused(refusal)) if state.charter.is_member(&certificate.claims.device) => {
                tracing::debug!(%refusal, "enrolled before");
            }
            Err(error) => return Err(PairingError::Broken(error.to_string())),
        }
        known.push(here.described(inner));
    }
    Ok(known)
}

/// Reads the code's other side: becomes a device of that person.
///
/// # Errors
/// See [`PairingError`].
pub async fn pair(guest: PairingGuest<'_>) -> Result<Paired, PairingError> {
    // Boxed: starting an endpoint is a large future.
    let key = guest.invite.code.guest_key();
    let endpoint = Box::pin(open_endpoint(&key, guest.bind, &guest.invite.relays)).await?;
    let paired = Box::pin(meet_host(&endpoint, &guest)).await;
    endpoint.close().await;
    paired
}

async fn meet_host(endpoint: &Endpoint, guest: &PairingGuest<'_>) -> Result<Paired, PairingError> {
    let host = DeviceId::from_bytes(guest.invite.code.host_key().public_bytes());
    let id = endpoint_id(&host).ok_or(PairingError::NotForUs)?;
    let sockets =
        guest.invite.addresses.iter().filter_map(|address| address.parse().ok()).map(TransportAddr::Ip);
    let relays = guest.invite.relays.iter().filter_map(|relay| relay.url.parse::<RelayUrl>().ok());
    let address = EndpointAddr::from_parts(id, sockets.chain(relays.map(TransportAddr::Relay)));
    let lasts = Duration::from_millis(PAIRING_LASTS_MS.unsigned_abs());
    let meeting = async {
        loop {
            let dial = endpoint.connect(address.clone(), ALPN_PAIRING);
            match tokio::time::timeout(DIAL_DEADLINE, dial).await {
                Ok(Ok(connection)) => return connection,
                Ok(Err(error)) => tracing::debug!(%error, "the other device does not answer yet"),
                Err(_) => {}
            }
            tokio::time::sleep(DIAL_AGAIN).await;
        }
    };
    let connection = tokio::time::timeout(lasts, meeting).await.map_err(|_| PairingError::TimedOut)?;
    let (mut send, mut recv) = connection.open_bi().await.map_err(broken)?;
    let me = guest.key.device();
    let newcomer = Newcomer { device: me, sealing: guest.sealing, name: guest.name.clone() };
    send_frame(&mut send, &newcomer).await?;
    let (claims, enroller): (DeviceClaims, Enroller) = receive(&mut recv).await?;
    if claims.device != me || claims.sealing != guest.sealing {
        return Err(PairingError::NotForUs);
    }
    send_frame(&mut send, &claims.accept(enroller, guest.key)).await?;
    let paired: Paired = receive(&mut recv).await?;
    paired.certificate.verify_signatures()?;
    if paired.certificate.claims != claims || paired.communities.len() > COMMUNITIES_MAX {
        return Err(PairingError::NotForUs);
    }
    connection.close(0_u32.into(), b"thank you");
    Ok(paired)
}

/// An endpoint for one pairing: found on the local network, and over the relays
/// that the code names.
async fn open_endpoint(
    key: &SecretKey,
    bind: SocketAddr,
    relays: &[Relay],
) -> Result<Endpoint, PairingError> {
    let failed = |reason: String| PairingError::Bind(reason);
    let trust = RelayTrust::default();
    trust.set(relays);
    let endpoint = trust
        .prepare(Endpoint::builder(presets::Minimal))
        .secret_key(iroh::SecretKey::from_bytes(&key.to_bytes()))
        .clear_ip_transports()
        .bind_addr(SocketAddr::new(bind.ip(), 0))
        .map_err(|error| failed(error.to_string()))?
        .alpns(vec![ALPN_PAIRING.to_vec()])
        .bind()
        .await
        .map_err(|error| failed(format!("{error:#}")))?;
    for relay in relays {
        if let Some((url, config)) = crate::relay::choice::entry(&relay.url) {
            endpoint.insert_relay(url, config).await;
        }
    }
    if let Ok(lookups) = endpoint.address_lookup() {
        lookups.add(MemoryLookup::new());
        match MdnsAddressLookup::builder().service_name(SERVICE).build(endpoint.id()) {
            Ok(mdns) => lookups.add(mdns),
            Err(error) => tracing::debug!(%error, "the local network cannot be searched"),
        }
    }
    Ok(endpoint)
}

async fn send_frame<T: Encode<()>>(send: &mut SendStream, value: &T) -> Result<(), PairingError> {
    Ok(wire::write(send, value, FRAME_BYTES_MAX).await?)
}

async fn receive<T>(recv: &mut RecvStream) -> Result<T, PairingError>
where
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    let read = wire::read(recv, FRAME_BYTES_MAX);
    let read = tokio::time::timeout(ANSWER_DEADLINE, read).await;
    read.map_err(|_| PairingError::Broken("no answer in time".into()))??
        .ok_or_else(|| PairingError::Broken("it hung up".into()))
}

fn broken(error: impl std::fmt::Display) -> PairingError {
    PairingError::Broken(error.to_string())
}
