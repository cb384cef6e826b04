//! Coming back by the recovery phrase: a device that has nothing but its
//! person's certificate asks any member to be enrolled again, and where its person
//! belongs.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use minicbor::{Decode, Encode};
use tokio::sync::Semaphore;

use exo_model::certificate::{DeviceCertificate, Enroller};
use exo_model::id::DeviceId;
use exo_model::invite::Contact;

use super::pairing::{KnownCommunity, enrol_everywhere};
use super::{ALPN_RETURN, Inner, Mesh, device_id};
use crate::wire;

/// Longest request or answer, in bytes.
const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Longest wait for the other side's frame.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Requests answered at the same time.
const REQUESTS_MAX: usize = 4;

#[derive(Debug, Encode, Decode)]
enum Answer {
    /// Enrolled, in these.
    #[n(0)]
    Welcome(#[n(0)] Vec<KnownCommunity>),
    #[n(1)]
    Refused(#[n(0)] String),
}

/// Why nobody took this device in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomecomingError {
    /// No contact could be reached.
    #[error("nobody could be asked: {0}; it works as soon as one of them is online")]
    Unreached(String),
    /// Whoever was asked does not know the person.
    #[error("{0}")]
    Refused(String),
}

/// Answers devices that come back.
pub(super) struct HomecomingProtocol {
    inner: Arc<Inner>,
    slots: Semaphore,
}

impl HomecomingProtocol {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, slots: Semaphore::new(REQUESTS_MAX) }
    }
}

impl std::fmt::Debug for HomecomingProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HomecomingProtocol")
    }
}

impl ProtocolHandler for HomecomingProtocol {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = device_id(connection.remote_id());
        let Ok(_slot) = self.slots.try_acquire() else {
            tracing::debug!(%peer, "too many requests to come back at once");
            return Ok(());
        };
        match tokio::time::timeout(ANSWER_DEADLINE, answer(&self.inner, &connection)).await {
            Ok(Ok(())) => {
                let _ = tokio::time::timeout(ANSWER_DEADLINE, connection.closed()).await;
            }
            Ok(Err(reason)) => self.inner.note_refusal(peer, format!("coming back: {reason}")),
            Err(_) => tracing::debug!(%peer, "a request to come back timed out"),
        }
        Ok(())
    }
}

async fn answer(inner: &Arc<Inner>, connection: &Connection) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|error| text(&error))?;
    let request = wire::read::<_, DeviceCertificate>(&mut recv, FRAME_BYTES_MAX).await;
    let certificate = request.map_err(|error| text(&error))?.ok_or("no request")?;
    let answer = judge(inner, &certificate, device_id(connection.remote_id())).await;
    wire::write(&mut send, &answer, FRAME_BYTES_MAX).await.map_err(|error| text(&error))?;
    send.finish().map_err(|error| text(&error))
}

async fn judge(inner: &Arc<Inner>, certificate: &DeviceCertificate, peer: DeviceId) -> Answer {
    // Only the phrase speaks for a person whose devices are all gone.
    if certificate.claims.device != peer || certificate.enroller != Enroller::Phrase {
        return Answer::Refused("the certificate is not this device's, or not made by the phrase".into());
    }
    if let Err(error) = certificate.verify(None) {
        return Answer::Refused(error.to_string());
    }
    match enrol_everywhere(inner, certificate).await {
        Ok(known) if known.is_empty() => Answer::Refused(
            "this member knows nobody by that phrase: ask a member of the community that you were in".into(),
        ),
        Ok(known) => Answer::Welcome(known),
        Err(error) => Answer::Refused(error.to_string()),
    }
}

impl Mesh {
    /// Asks contacts, one after the other, to enrol this device with a certificate
    /// that its person's phrase made; returns where the person belongs.
    ///
    /// # Errors
    /// See [`HomecomingError`].
    pub async fn come_back(
        &self,
        certificate: &DeviceCertificate,
        contacts: &[Contact],
    ) -> Result<Vec<KnownCommunity>, HomecomingError> {
        let mut last = HomecomingError::Unreached("there is nobody to ask".into());
        for contact in contacts {
            self.inner.addresses.learn(&contact.device, &contact.addresses);
            match ask(&self.inner, contact.device, certificate).await {
                Ok(Answer::Welcome(known)) => return Ok(known),
                Ok(Answer::Refused(reason)) => last = HomecomingError::Refused(reason),
                Err(reason) => last = HomecomingError::Unreached(reason),
            }
        }
        Err(last)
    }
}

async fn ask(inner: &Inner, contact: DeviceId, certificate: &DeviceCertificate) -> Result<Answer, String> {
    let connection = inner.dial(contact, ALPN_RETURN).await.map_err(|error| error.to_string())?;
    let asked = async {
        let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
        wire::write(&mut send, certificate, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
        let answer = wire::read(&mut recv, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
        answer.ok_or_else(|| "no answer".to_owned())
    };
    let answer = tokio::time::timeout(ANSWER_DEADLINE, asked)
        .await
        .unwrap_or_else(|_| Err("no answer in time".into()));
    connection.close(0_u32.into(), b"thank you");
    answer
}
