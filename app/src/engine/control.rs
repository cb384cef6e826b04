//! A stage stream as two queues of messages.
//!
//! Reading a frame must not be cancelled half-way, so a task of its own reads;
//! another writes. Both end when the stream or the queues do.

use exo_sync::mesh::StageStream;
use minicbor::{Decode, Encode};
use tokio::sync::mpsc;

use super::protocol::{self, MESSAGES_WAITING};

/// Splits `stream` into a queue of messages to send and one of those received.
/// The received queue ends with the stream, also where a message was refused.
pub(super) fn split<Out, In>(stream: StageStream) -> (mpsc::Sender<Out>, mpsc::Receiver<In>)
where
    Out: Encode<()> + Send + 'static,
    In: for<'b> Decode<'b, ()> + Encode<()> + Send + 'static,
{
    let StageStream { peer, mut sender, mut receiver } = stream;
    let (outgoing, mut to_send) = mpsc::channel::<Out>(MESSAGES_WAITING);
    let (received, incoming) = mpsc::channel::<In>(MESSAGES_WAITING);
    tokio::spawn(async move {
        while let Some(message) = to_send.recv().await {
            if let Err(error) = sender.send(&protocol::encode(&message)).await {
                tracing::debug!(%peer, %error, "stage stream broke");
                return;
            }
        }
        sender.finish();
    });
    tokio::spawn(async move {
        loop {
            let message = match receiver.receive().await {
                Ok(Some(bytes)) => protocol::decode(&bytes),
                Ok(None) => return,
                Err(error) => Err(error.to_string()),
            };
            match message {
                Ok(message) => {
                    if received.send(message).await.is_err() {
                        return;
                    }
                }
                Err(reason) => {
                    tracing::warn!(%peer, %reason, "stage message refused");
                    return;
                }
            }
        }
    });
    (outgoing, incoming)
}
