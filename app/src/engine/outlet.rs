//! `inference`'s shard link over the queues of a session's tasks.

use exo_inference::link::{LinkError, ShardLink};
use exo_inference::session::{StageFrame, TokenFrame};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::protocol::FromProvider;

/// Where one stage's output goes: frames to the next hop, tokens and news to
/// the requester. Sending hands over to a queue and never waits.
pub(super) struct Outlet {
    next: Option<mpsc::Sender<Vec<u8>>>,
    requester: mpsc::Sender<FromProvider>,
}

impl Outlet {
    pub(super) fn new(next: Option<mpsc::Sender<Vec<u8>>>, requester: mpsc::Sender<FromProvider>) -> Self {
        Self { next, requester }
    }

    /// Tells the requester something else than a token.
    pub(super) fn tell(&self, news: FromProvider) {
        if let Err(error) = self.requester.try_send(news) {
            tracing::debug!(%error, "the requester is gone or slow");
        }
    }
}

impl ShardLink for Outlet {
    fn send_frame(&mut self, frame: StageFrame) -> Result<(), LinkError> {
        let next = self.next.as_ref().ok_or(LinkError::Closed)?;
        next.try_send(frame.encode()).map_err(|error| link_error(&error))
    }

    fn send_token(&mut self, frame: TokenFrame) -> Result<(), LinkError> {
        self.requester.try_send(FromProvider::Token(frame.encode())).map_err(|error| link_error(&error))
    }
}

fn link_error<T>(error: &TrySendError<T>) -> LinkError {
    match error {
        TrySendError::Full(_) => LinkError::Full,
        TrySendError::Closed(_) => LinkError::Closed,
    }
}
