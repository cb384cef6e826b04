//! One session's part on this machine, for a peer or for ourselves.
//!
//! A session is a thread: frames and vouchers come in through a bounded inbox,
//! output leaves through an [`Outlet`]. Around it, async tasks move frames
//! between inbox, outlet and streams. When the session ends, the last voucher
//! is posted and the rest of the lock given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use exo_inference::engine::LocalStage;
use exo_inference::link::ShardLink as _;
use exo_inference::llama::Stage;
use exo_inference::session::{
    FRAMES_IN_FLIGHT_MAX, StageError, StageEvent, StageFrame, StageMessage, StageSession, StageSettings,
};
use exo_model::amount::Amount;
use exo_model::decide::Intent;
use exo_model::event::ledger::Purpose;
use exo_model::id::{ChangeHash, DeviceId};
use exo_model::ledger::{LockState, Voucher};
use exo_sync::mesh::StageStream;
use tokio::sync::{mpsc, watch};

use super::control;
use super::host::{JobKey, StageHost, context_tokens};
use super::outlet::Outlet;
use super::protocol::{self, FromProvider, MESSAGES_WAITING, Opening, Terms, ToProvider};
use super::{EngineError, failed};

/// Positions computed beyond those vouched for, before a session waits: what
/// a provider can lose is this and one frame.
const UNVOUCHED_POSITIONS_MAX: u64 = 128;

/// Longest silence of a requester before its session ends.
const SESSION_SILENCE_MAX: Duration = Duration::from_secs(300);

/// What a session's thread takes in.
#[derive(Debug)]
pub(super) enum SessionInput {
    /// Input of this stage.
    Frame(StageFrame),
    /// Payment for this many positions in all.
    Vouched(u64),
    /// The end.
    Close,
}

/// The way into a session's thread.
pub(super) type SessionInbox = mpsc::Sender<SessionInput>;

/// A session that was opened on this machine.
pub(super) struct OpenSession {
    /// Input.
    pub(super) inbox: SessionInbox,
    /// Tokens and news for the requester.
    pub(super) outbox: mpsc::Receiver<FromProvider>,
    /// Positions computed so far.
    computed: Arc<AtomicU64>,
    registration: Registration,
}

impl OpenSession {
    /// Input, output, and what must be kept as long as the session is used.
    pub(super) fn into_parts(self) -> (SessionInbox, mpsc::Receiver<FromProvider>, Registration) {
        (self.inbox, self.outbox, self.registration)
    }
}

/// Keeps the job's entry until it is dropped.
pub(super) struct Registration {
    host: Arc<StageHost>,
    key: JobKey,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.host.unregister(&self.key);
    }
}

/// Opens `requester`'s session on this machine: connects to the next stage and
/// starts the thread. Work beyond `unvouched_positions_max` waits for vouchers.
pub(super) async fn open(
    host: &Arc<StageHost>,
    requester: DeviceId,
    terms: &Terms,
    unvouched_positions_max: u64,
) -> Result<OpenSession, EngineError> {
    let stage = host
        .stage(&terms.model, terms.layers)
        .ok_or_else(|| EngineError::Load("these layers are not prepared here".into()))?;
    let manifest = host.model(&terms.model)?.manifest;
    let settings = StageSettings {
        session: terms.job,
        epoch: terms.epoch,
        sampling: terms.sampling(),
        unvouched_positions_max,
    };
    let session = StageSession::new(settings).map_err(|error| EngineError::Load(error.to_string()))?;
    let key = (requester, terms.job);
    let (inbox, inputs) = mpsc::channel(MESSAGES_WAITING);
    let (to_requester, outbox) = mpsc::channel(MESSAGES_WAITING);
    host.register(key, terms.previous, terms.lock, inbox.clone())?;
    let registration = Registration { host: host.clone(), key };
    let next = match terms.next {
        Some(device) => Some(connect_next(host, device, key, to_requester.clone()).await?),
        None => None,
    };
    let context = terms.context_tokens.min(context_tokens(&manifest));
    let computed = Arc::new(AtomicU64::new(0));
    let work = Work {
        session,
        compute: LocalStage::new(stage.clone(), context)
            .map_err(|error| EngineError::Load(error.to_string()))?,
        outlet: Outlet::new(next, to_requester),
        host: host.clone(),
        weight_bytes: manifest.weight_bytes(terms.layers),
        computed: computed.clone(),
        _stage: stage,
    };
    std::thread::Builder::new()
        .name("stage".into())
        .spawn(move || work.run(inputs))
        .map_err(|_| EngineError::Thread)?;
    Ok(OpenSession { inbox, outbox, computed, registration })
}

/// Opens the stream to the next stage and a task that feeds it.
async fn connect_next(
    host: &StageHost,
    device: DeviceId,
    (requester, job): JobKey,
    to_requester: mpsc::Sender<FromProvider>,
) -> Result<mpsc::Sender<Vec<u8>>, EngineError> {
    let name = host.replica.state().charter.name_of(&device);
    let lost = |reason: String| EngineError::Provider { device, name: name.clone(), reason };
    let StageStream { mut sender, receiver, .. } =
        host.mesh.open_stage(device).await.map_err(|error| lost(error.to_string()))?;
    sender
        .send(&protocol::encode(&Opening::Attach { job, requester }))
        .await
        .map_err(|error| lost(error.to_string()))?;
    let (frames, mut queue) = mpsc::channel::<Vec<u8>>(FRAMES_IN_FLIGHT_MAX);
    tokio::spawn(async move {
        // Kept, because its connection lives with it.
        let _receiver = receiver;
        while let Some(frame) = queue.recv().await {
            if let Err(error) = sender.send(&frame).await {
                let _ = to_requester.send(failed(format!("the line to {name} broke: {error}"))).await;
                return;
            }
        }
        sender.finish();
    });
    Ok(frames)
}

/// What a session's thread owns.
struct Work {
    session: StageSession,
    compute: LocalStage,
    outlet: Outlet,
    host: Arc<StageHost>,
    weight_bytes: u64,
    computed: Arc<AtomicU64>,
    /// Held so that the stage counts as in use.
    _stage: Arc<Stage>,
}

impl Work {
    fn run(mut self, mut inputs: mpsc::Receiver<SessionInput>) {
        while let Some(input) = inputs.blocking_recv() {
            let message = match input {
                SessionInput::Frame(frame) => StageMessage::Frame(frame),
                SessionInput::Vouched(positions) => StageMessage::Vouched { positions },
                SessionInput::Close => return,
            };
            if let Err(reason) = self.step(message) {
                self.outlet.tell(failed(reason));
                return;
            }
        }
    }

    fn step(&mut self, message: StageMessage) -> Result<(), String> {
        let single = matches!(&message, StageMessage::Frame(frame) if frame.payload.rows() == 1);
        let begun = Instant::now();
        let handled = self.session.handle(&mut self.compute, message);
        self.computed.store(self.session.computed(), Ordering::Relaxed);
        let events = handled.map_err(|error: StageError| error.to_string())?;
        if single && !events.is_empty() {
            self.host.measured(begun.elapsed(), self.weight_bytes);
        }
        for event in events {
            match event {
                StageEvent::Forward(frame) => {
                    self.outlet.send_frame(frame).map_err(|error| error.to_string())?
                }
                StageEvent::Token(frame) => {
                    self.outlet.send_token(frame).map_err(|error| error.to_string())?
                }
                StageEvent::Waiting { computed, vouched } => {
                    tracing::debug!(computed, vouched, "waiting for a voucher");
                }
            }
        }
        Ok(())
    }
}

/// Serves a peer's session on its control stream until it ends, or until
/// `closing` becomes true.
pub(super) async fn serve(
    host: Arc<StageHost>,
    terms: Terms,
    stream: StageStream,
    mut closing: watch::Receiver<bool>,
) -> Result<(), String> {
    let peer = stream.peer;
    let (to_requester, mut from_requester) = control::split::<FromProvider, ToProvider>(stream);
    let lock = match accept(&host, &terms, peer).await {
        Ok(lock) => lock,
        Err(error) => return refuse(&to_requester, error).await,
    };
    // From here on the lock is given back whatever happens; a model that is not
    // known fails when its session is opened.
    let weight_bytes = host.model(&terms.model).map_or(0, |model| model.manifest.weight_bytes(terms.layers));
    let mut till =
        Till { host: host.clone(), lock, payer: peer, terms, weight_bytes, best: None, paid_positions: 0 };
    let trust = host.trust_in(&peer, UNVOUCHED_POSITIONS_MAX);
    let opened = match trust {
        0 => Err(EngineError::Refused("earlier work was left unpaid; try again in a few minutes".into())),
        trust => open(&host, peer, &till.terms, trust).await,
    };
    let mut session = match opened {
        Ok(session) => session,
        Err(error) => {
            till.settle(0).await;
            return refuse(&to_requester, error).await;
        }
    };
    let mut gone = to_requester.send(FromProvider::Ready { fetched: 0 }).await.is_err();
    while !gone {
        gone = tokio::select! {
            // Vouchers before news: what was sent is counted, also at the end.
            biased;
            message = tokio::time::timeout(SESSION_SILENCE_MAX, from_requester.recv()) => match message {
                Ok(Some(ToProvider::Close) | None) | Err(_) => true,
                Ok(Some(message)) => match take(&session, &mut till, message).await {
                    Ok(()) => false,
                    Err(reason) => to_requester.send(failed(reason)).await.is_err(),
                },
            },
            news = session.outbox.recv() => match news {
                Some(news) => to_requester.send(news).await.is_err(),
                // The thread ended, after having said why.
                None => true,
            },
            () = until(&mut closing) => true,
        };
    }
    while let Ok(ToProvider::Voucher { voucher, positions }) = from_requester.try_recv() {
        let _ = till.put(voucher, positions);
    }
    let _ = session.inbox.send(SessionInput::Close).await;
    till.settle(session.computed.load(Ordering::Relaxed)).await;
    let _ = to_requester.send(FromProvider::Closed).await;
    Ok(())
}

/// Waits until `signal` becomes true; for ever where nobody can set it.
pub(super) async fn until(signal: &mut watch::Receiver<bool>) {
    if signal.wait_for(|signal| *signal).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn refuse(to_requester: &mpsc::Sender<FromProvider>, error: EngineError) -> Result<(), String> {
    let reason = error.to_string();
    let _ = to_requester.send(failed(&reason)).await;
    Err(reason)
}

/// Checks the terms, and that the payer's lock counts; waits for sync to bring
/// the lock.
async fn accept(host: &StageHost, terms: &Terms, payer: DeviceId) -> Result<ChangeHash, EngineError> {
    let refuse = |reason: &str| Err(EngineError::Refused(reason.to_owned()));
    let Some(hash) = terms.lock else { return refuse("no credit was locked for it") };
    let me = host.mesh.device();
    host.arrived(&payer, |state| state.ledger.locks().contains_key(&hash)).await;
    let state = host.replica.state();
    let Some(lock) = state.ledger.locks().get(&hash) else {
        return refuse("the lock for it did not arrive, or does not count");
    };
    if lock.payer != payer
        || lock.payee != me
        || lock.purpose != Purpose::Job(terms.job)
        || lock.state() != LockState::Open
    {
        return refuse("the lock named is not for this job");
    }
    Ok(hash)
}

/// Takes one message of the requester.
async fn take(session: &OpenSession, till: &mut Till, message: ToProvider) -> Result<(), String> {
    let input = match message {
        ToProvider::Frame(bytes) if till.terms.previous.is_none() => {
            SessionInput::Frame(StageFrame::decode(&bytes).map_err(|error| error.to_string())?)
        }
        ToProvider::Frame(_) => return Err("frames come from the stage before".into()),
        ToProvider::Voucher { voucher, positions } => {
            till.put(voucher, positions)?;
            SessionInput::Vouched(positions)
        }
        ToProvider::Close => SessionInput::Close,
    };
    session.inbox.send(input).await.map_err(|_| "the session has ended".to_owned())
}

/// Feeds a session with the output of the stage before it.
pub(super) async fn attach(host: &StageHost, key: JobKey, mut stream: StageStream) -> Result<(), String> {
    let inbox = host.inbox_for(&key, &stream.peer).ok_or("no session waits for this peer")?;
    while let Some(bytes) = stream.receiver.receive().await.map_err(|error| error.to_string())? {
        let frame = StageFrame::decode(&bytes).map_err(|error| error.to_string())?;
        inbox.send(SessionInput::Frame(frame)).await.map_err(|_| "the session has ended")?;
    }
    Ok(())
}

/// The vouchers of one session.
struct Till {
    host: Arc<StageHost>,
    lock: ChangeHash,
    payer: DeviceId,
    terms: Terms,
    weight_bytes: u64,
    best: Option<Voucher>,
    paid_positions: u64,
}

impl Till {
    /// Checks a voucher that claims to pay for `positions` and keeps it if it
    /// is the largest.
    fn put(&mut self, voucher: Voucher, positions: u64) -> Result<(), String> {
        let state = self.host.replica.state();
        let me = self.host.mesh.device();
        let due = Amount::of_work(positions, self.weight_bytes);
        if voucher.lock != self.lock || voucher.amount < due {
            return Err("the voucher does not cover the work it names".into());
        }
        voucher
            .verify(&state.id, &self.payer, &me)
            .map_err(|_| "the voucher is not signed by the payer".to_owned())?;
        state.ledger.check_voucher(&me, &voucher).map_err(|error| error.to_string())?;
        if self.best.is_none_or(|best| best.amount < voucher.amount) {
            self.best = Some(voucher);
        }
        self.paid_positions = self.paid_positions.max(positions);
        Ok(())
    }

    /// Posts the largest voucher and gives the rest of the lock back; work
    /// beyond it is remembered.
    async fn settle(self, computed: u64) {
        self.host.note_unpaid(self.payer, computed.saturating_sub(self.paid_positions));
        let voucher = self.best.filter(|voucher| voucher.amount > Amount::ZERO);
        if let Err(error) = self.host.replica.record(Intent::Close { lock: self.lock, voucher }).await {
            // The lock stays open, so that it can still be settled by hand.
            tracing::error!(%error, "a lock could not be settled");
        }
    }
}
