//! The asker's side of a running session: frames out, tokens in, vouchers.

use std::sync::Arc;
use std::time::Duration;

use exo_inference::session::{FinishReason, RequesterInput, RequesterOutput, RequesterSession, TokenFrame};
use exo_inference::tokenizer::{TextStream, Tokenizer};
use exo_model::amount::Amount;
use exo_model::id::{ChangeHash, CommunityId, DeviceId};
use exo_model::ledger::Voucher;
use exo_model::signature::SecretKey;
use tokio::sync::mpsc;

use super::EngineError;
use super::protocol::{FromProvider, MESSAGES_WAITING, ToProvider};
use super::provider::{OpenSession, SessionInbox, SessionInput};

/// Longest silence between two tokens.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for providers to post their vouchers.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// Positions between two vouchers at least: every token would be needless.
const VOUCHER_EVERY: u64 = 16;

/// How one stage is reached.
enum Way {
    Local(SessionInbox),
    Remote(mpsc::Sender<ToProvider>),
}

/// One stage of the line-up, as the requester sees it.
pub(super) struct Seat {
    pub(super) device: DeviceId,
    pub(super) name: String,
    pub(super) weight_bytes: u64,
    /// What pays for it; none on this machine.
    pub(super) lock: Option<(ChangeHash, Amount)>,
    way: Way,
    vouched: Amount,
}

/// The line-up of one job: seats in order, and what they all say.
pub(super) struct LineUp {
    seats: Vec<Seat>,
    news: mpsc::Receiver<(usize, FromProvider)>,
    collect: mpsc::Sender<(usize, FromProvider)>,
    /// Held so that the local session stays registered.
    local: Vec<OpenLocal>,
}

/// A local session without its output, which was moved to the line-up.
type OpenLocal = Box<dyn Send + Sync>;

impl LineUp {
    pub(super) fn new() -> Self {
        let (collect, news) = mpsc::channel(MESSAGES_WAITING);
        Self { seats: Vec::new(), news, collect, local: Vec::new() }
    }

    /// Adds a seat on this machine. Seats are added from the last to the
    /// first, because a stage connects to the next one when it opens.
    pub(super) fn seat_local(&mut self, device: DeviceId, name: String, weight_bytes: u64, session: OpenSession) {
        let (inbox, outbox, guard) = session.into_parts();
        self.local.push(Box::new(guard));
        self.add(device, name, weight_bytes, None, Way::Local(inbox), outbox);
    }

    /// Adds a seat on a peer that said it is ready.
    pub(super) fn seat_remote(
        &mut self,
        device: DeviceId,
        name: String,
        weight_bytes: u64,
        lock: (ChangeHash, Amount),
        (to, from): (mpsc::Sender<ToProvider>, mpsc::Receiver<FromProvider>),
    ) {
        self.add(device, name, weight_bytes, Some(lock), Way::Remote(to), from);
    }

    fn add(
        &mut self,
        device: DeviceId,
        name: String,
        weight_bytes: u64,
        lock: Option<(ChangeHash, Amount)>,
        way: Way,
        mut from: mpsc::Receiver<FromProvider>,
    ) {
        let (index, collect) = (self.seats.len(), self.collect.clone());
        tokio::spawn(async move {
            while let Some(news) = from.recv().await {
                if collect.send((index, news)).await.is_err() {
                    return;
                }
            }
            let lost = FromProvider::Failed { reason: "the connection was lost".into() };
            let _ = collect.send((index, lost)).await;
        });
        self.seats.push(Seat { device, name, weight_bytes, lock, way, vouched: Amount::ZERO });
    }

    /// What was vouched for, by device.
    pub(super) fn spent(&self) -> Vec<(DeviceId, Amount)> {
        self.seats
            .iter()
            .rev()
            .filter(|seat| seat.lock.is_some())
            .map(|seat| (seat.device, seat.vouched))
            .collect()
    }

    /// Sends a frame to the first stage, which was seated last.
    async fn send_first(&self, frame: exo_inference::session::StageFrame) -> Result<(), EngineError> {
        let Some(first) = self.seats.last() else { return Err(EngineError::Thread) };
        let sent = match &first.way {
            Way::Local(inbox) => inbox.send(SessionInput::Frame(frame)).await.is_ok(),
            Way::Remote(to) => to.send(ToProvider::Frame(frame.encode())).await.is_ok(),
        };
        if sent { Ok(()) } else { Err(EngineError::Silent(first.name.clone())) }
    }
}

/// What pays and for whom.
pub(super) struct Purse<'a> {
    pub(super) key: &'a SecretKey,
    pub(super) community: CommunityId,
}

impl Purse<'_> {
    /// Vouches for `positions` in all to every paid seat.
    async fn pay(&self, line_up: &mut LineUp, positions: u64) {
        for seat in &mut line_up.seats {
            let (Some((lock, max)), Way::Remote(to)) = (seat.lock, &seat.way) else { continue };
            let amount = Amount::of_work(positions, seat.weight_bytes).min(max);
            let voucher = Voucher::sign(self.key, &self.community, lock, &seat.device, amount);
            if to.send(ToProvider::Voucher { voucher, positions }).await.is_ok() {
                seat.vouched = amount;
            }
        }
    }
}

/// What [`run`] tells while it runs.
pub(super) struct Listener<'a> {
    pub(super) on_text: &'a mut (dyn FnMut(String) + Send),
    /// Becomes true when the person wants no more.
    pub(super) stop: tokio::sync::watch::Receiver<bool>,
}

/// How a session went.
pub(super) struct Run {
    pub(super) tokens: u32,
    pub(super) positions: u64,
    pub(super) reason: FinishReason,
}

/// Runs the session to its end, paying as it goes.
pub(super) async fn run(
    mut session: RequesterSession,
    line_up: &mut LineUp,
    purse: &Purse<'_>,
    tokenizer: Arc<Tokenizer>,
    mut listener: Listener<'_>,
) -> Result<Run, EngineError> {
    let mut text = TextStream::new(tokenizer);
    let mut paid = 0;
    let mut outputs = session
        .handle(RequesterInput::Begin { epoch: EPOCH })
        .map_err(|error| EngineError::Prompt(error.to_string()))?;
    loop {
        for output in outputs {
            match output {
                RequesterOutput::Send(frame) => line_up.send_first(frame).await?,
                RequesterOutput::Computed { positions } if positions >= paid + VOUCHER_EVERY => {
                    paid = positions;
                    purse.pay(line_up, positions).await;
                }
                RequesterOutput::Computed { .. } => {}
                RequesterOutput::Token { token, .. } => text.push(token).into_iter().for_each(&mut *listener.on_text),
                RequesterOutput::Finished(reason) => {
                    text.finish().into_iter().for_each(&mut *listener.on_text);
                    purse.pay(line_up, session.computed()).await;
                    let tokens = u32::try_from(session.answer().len()).unwrap_or(u32::MAX);
                    return Ok(Run { tokens, positions: session.computed(), reason });
                }
            }
        }
        let input = next_input(line_up, &mut listener.stop).await;
        outputs = match input {
            Ok(input) => session.handle(input).map_err(|error| EngineError::Prompt(error.to_string()))?,
            Err(error) => {
                // What was computed is paid for, whatever comes.
                purse.pay(line_up, session.computed()).await;
                return Err(error);
            }
        };
    }
}

/// The only epoch until stages can be replaced while they run.
pub(super) const EPOCH: u32 = 1;

async fn next_input(
    line_up: &mut LineUp,
    stop: &mut tokio::sync::watch::Receiver<bool>,
) -> Result<RequesterInput, EngineError> {
    let stopped = async {
        // A closed channel means that nobody can stop it any more.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let news = tokio::select! {
        () = stopped => return Ok(RequesterInput::Stop),
        news = tokio::time::timeout(SILENCE_MAX, line_up.news.recv()) => news,
    };
    let tail = line_up.seats.first().map(|seat| seat.name.clone()).unwrap_or_default();
    let Ok(Some((index, news))) = news else { return Err(EngineError::Silent(tail)) };
    let name = line_up.seats.get(index).map(|seat| seat.name.clone()).unwrap_or_default();
    let fault = |reason: String| EngineError::Provider { name, reason };
    match news {
        // Tokens count only from the tail, which was seated first.
        FromProvider::Token(bytes) if index == 0 => {
            TokenFrame::decode(&bytes).map(RequesterInput::Token).map_err(|error| fault(error.to_string()))
        }
        FromProvider::Failed { reason } => Err(fault(reason)),
        _ => Err(fault("it broke the protocol".into())),
    }
}

/// Ends the session everywhere and waits, briefly, until providers have posted
/// their vouchers.
pub(super) async fn close(line_up: &mut LineUp) {
    let mut awaited = 0_usize;
    for seat in &line_up.seats {
        match &seat.way {
            Way::Local(inbox) => drop(inbox.send(SessionInput::Close).await),
            Way::Remote(to) => awaited += usize::from(to.send(ToProvider::Close).await.is_ok()),
        }
    }
    let remote: Vec<bool> = line_up.seats.iter().map(|seat| matches!(seat.way, Way::Remote(_))).collect();
    let closed = async {
        while awaited > 0 {
            match line_up.news.recv().await {
                Some((index, FromProvider::Closed | FromProvider::Failed { .. })) if remote[index] => awaited -= 1,
                Some(_) => {}
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(CLOSING_MAX, closed).await;
}
