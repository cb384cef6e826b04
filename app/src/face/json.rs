//! JSON lines on standard input and output, for programs and the demo.
//!
//! In: one object a line, a [`Command`] with an `id` of the caller's choice.
//! Out: `{"id":…,"ok":{…}}` or `{"id":…,"error":"…"}` for each, in between
//! `{"id":…,"event":{…}}` while a model is shared or asked. The first line out
//! is `{"ready":{"device":…}}`. The node ends when its input does.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::command::{Command, CommandError, Reply};
use crate::engine::AskEvent;
use crate::node::Node;

/// Longest line taken, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Commands that may be under way at once.
const COMMANDS_MAX: usize = 16;
/// Time for commands under way to finish once the input has ended.
const FINISHING: Duration = Duration::from_secs(2);
/// Lines that may wait to be written.
const LINES_WAITING: usize = 256;

#[derive(Debug, Deserialize)]
struct Request {
    #[serde(default)]
    id: u64,
    #[serde(flatten)]
    command: Command,
}

/// Progress of sharing and asking, as JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Event {
    Planned { stages: usize },
    Fetching { device: String, received: u64, total: u64 },
    Answering { stages: usize },
    Text { text: String },
}

impl Event {
    fn of(event: AskEvent) -> Self {
        match event {
            AskEvent::Planned(stages) => Self::Planned { stages: stages.len() },
            AskEvent::Fetching { device, received, total } => {
                Self::Fetching { device: device.to_hex(), received, total }
            }
            AskEvent::Answering(stages) => Self::Answering { stages: stages.len() },
            AskEvent::Text(text) => Self::Text { text },
        }
    }
}

/// Serves until standard input ends. `run` carries commands out.
pub(crate) async fn serve<R, F>(node: Arc<Node>, run: R) -> std::io::Result<()>
where
    R: Fn(Command, mpsc::Sender<AskEvent>, watch::Receiver<bool>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Reply, CommandError>> + Send,
{
    let (lines, mut to_write) = mpsc::channel::<Value>(LINES_WAITING);
    let writer = tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        while let Some(line) = to_write.recv().await {
            let mut bytes = line.to_string().into_bytes();
            bytes.push(b'\n');
            if out.write_all(&bytes).await.is_err() || out.flush().await.is_err() {
                return;
            }
        }
    });
    let _ = lines.send(json!({"ready": {"device": node.device().to_hex()}})).await;
    let slots = Arc::new(Semaphore::new(COMMANDS_MAX));
    let mut under_way = JoinSet::new();
    let mut input = tokio::io::BufReader::new(tokio::io::stdin());
    while let Some(line) = next_line(&mut input).await? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let (run, lines) = (run.clone(), lines.clone());
        while under_way.try_join_next().is_some() {}
        under_way.spawn(async move {
            answer(run, &line, &lines).await;
            drop(slot);
        });
    }
    // Whoever asked has gone. Commands that only wait (a join) end here; what
    // was recorded is recorded.
    let finishing = async { while under_way.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FINISHING, finishing).await;
    under_way.abort_all();
    while under_way.join_next().await.is_some() {}
    drop(lines);
    let _ = writer.await;
    Ok(())
}

/// One line without its end; `None` at the end of input.
async fn next_line<R: AsyncBufRead + Unpin>(input: &mut R) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        let too_long = format!("a line is longer than {LINE_BYTES_MAX} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, too_long));
    }
    Ok(Some(line))
}

async fn answer<R, F>(run: R, line: &[u8], lines: &mpsc::Sender<Value>)
where
    R: Fn(Command, mpsc::Sender<AskEvent>, watch::Receiver<bool>) -> F,
    F: Future<Output = Result<Reply, CommandError>>,
{
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            let id = serde_json::from_slice::<Value>(line).ok().and_then(|value| value.get("id").cloned());
            let _ = lines.send(json!({"id": id, "error": format!("not a command: {error}")})).await;
            return;
        }
    };
    let id = request.id;
    let (events, mut news) = mpsc::channel(LINES_WAITING);
    let (_stop, stopped) = watch::channel(false);
    let running = run(request.command, events, stopped);
    let forwarding = async {
        while let Some(event) = news.recv().await {
            let _ = lines.send(json!({"id": id, "event": Event::of(event)})).await;
        }
    };
    let (outcome, ()) = tokio::join!(running, forwarding);
    let line = match outcome {
        Ok(reply) => json!({"id": id, "ok": reply}),
        Err(error) => json!({"id": id, "error": error.to_string()}),
    };
    let _ = lines.send(line).await;
}
