//! One node of the demo: a process of its own, spoken to in JSON lines.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};

/// Longest wait for any answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);
/// Longest wait for a process to end after its input did.
const EXIT_DEADLINE: Duration = Duration::from_secs(15);

type Waiting = Arc<Mutex<BTreeMap<u64, Call>>>;

/// A command that was sent and not answered yet.
struct Call {
    answer: oneshot::Sender<Result<Value, String>>,
    events: Option<mpsc::UnboundedSender<Value>>,
}

/// How a node of the demo is started.
pub(super) struct PeerOptions<'a> {
    /// Its name.
    pub(super) name: &'static str,
    /// Its data folder.
    pub(super) data: &'a Path,
    /// Memory it offers, bytes.
    pub(super) offered_bytes: u64,
    /// Whether it may use the built-in model.
    pub(super) starter: bool,
    /// Whether it opens its window.
    pub(super) window: bool,
}

/// A running node.
pub(super) struct Peer {
    /// Its name.
    pub(super) name: &'static str,
    /// Its device id.
    pub(super) device: String,
    /// Its process id.
    pub(super) pid: u32,
    child: Child,
    input: ChildStdin,
    waiting: Waiting,
    next_id: u64,
}

impl Peer {
    /// Starts the process and waits until it is ready.
    pub(super) async fn start(options: PeerOptions<'_>) -> anyhow::Result<Self> {
        let name = options.name;
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(program);
        command.arg(if options.window { "window" } else { "node" }).arg("--json").arg("--probes");
        command.arg("--data").arg(options.data).args(["--bind", "127.0.0.1:0"]);
        command.arg("--offer-memory").arg(options.offered_bytes.to_string());
        if !options.starter {
            command.arg("--no-starter");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}'s node"))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let (ready, became_ready) = oneshot::channel();
        let waiting = Waiting::default();
        tokio::spawn(listen(BufReader::new(output).lines(), waiting.clone(), ready));
        let first = tokio::time::timeout(ANSWER_DEADLINE, became_ready).await;
        let device = match first {
            Ok(Ok(device)) => device,
            _ => bail!("{name}'s node did not start"),
        };
        let pid = child.id().unwrap_or_default();
        Ok(Self { name, device, pid, child, input, waiting, next_id: 1 })
    }

    /// Sends a command and reads its answer as `T`.
    pub(super) async fn call<T: DeserializeOwned>(&mut self, command: Value) -> anyhow::Result<T> {
        self.call_with_events(command, None).await
    }

    /// Like [`Peer::call`]; events of the command go to `events`.
    pub(super) async fn call_with_events<T: DeserializeOwned>(
        &mut self,
        mut command: Value,
        events: Option<mpsc::UnboundedSender<Value>>,
    ) -> anyhow::Result<T> {
        let id = self.next_id;
        self.next_id += 1;
        let what = command["command"].as_str().unwrap_or_default().to_owned();
        command["id"] = json!(id);
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, Call { answer, events });
        let line = format!("{command}\n");
        self.input.write_all(line.as_bytes()).await.with_context(|| format!("{} is gone", self.name))?;
        let answer = tokio::time::timeout(ANSWER_DEADLINE, answered)
            .await
            .map_err(|_| anyhow!("{} did not answer \"{what}\" in time", self.name))?
            .map_err(|_| anyhow!("{}'s node ended during \"{what}\"", self.name))?
            .map_err(|reason| anyhow!("{} could not do \"{what}\": {reason}", self.name))?;
        serde_json::from_value(answer).with_context(|| format!("{}'s answer to \"{what}\"", self.name))
    }

    /// Sends a command that only has to succeed.
    pub(super) async fn tell(&mut self, command: Value) -> anyhow::Result<()> {
        self.call::<Value>(command).await.map(drop)
    }

    /// Waits until the process ends by itself (a window that is closed).
    pub(super) async fn ended(mut self) {
        let _ = self.child.wait().await;
    }

    /// Ends its input and waits for it to save and go.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.input);
        let exit = tokio::time::timeout(EXIT_DEADLINE, self.child.wait())
            .await
            .with_context(|| format!("{}'s node did not end", self.name))??;
        if exit.success() { Ok(()) } else { bail!("{}'s node ended with {exit}", self.name) }
    }
}

async fn listen(
    mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    waiting: Waiting,
    ready: oneshot::Sender<String>,
) {
    let mut ready = Some(ready);
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(mut message) = serde_json::from_str::<Value>(&line) else { continue };
        if let (Some(device), Some(ready)) = (message["ready"]["device"].as_str(), ready.take()) {
            let _ = ready.send(device.to_owned());
            continue;
        }
        let Some(id) = message["id"].as_u64() else { continue };
        if message.get("event").is_some() {
            if let Some(events) = lock(&waiting).get(&id).and_then(|call| call.events.as_ref()) {
                let _ = events.send(message["event"].take());
            }
            continue;
        }
        if let Some(call) = lock(&waiting).remove(&id) {
            let answer = match message["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok(message["ok"].take()),
            };
            let _ = call.answer.send(answer);
        }
    }
    // Nobody will answer any more.
    lock(&waiting).clear();
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, BTreeMap<u64, Call>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
