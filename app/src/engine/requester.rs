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
use super::provider::{OpenSession, Registration, SessionInbox, SessionInput, until};

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
    last_voucher: Option<Voucher>,
    /// Whether the provider said that it posted the last voucher.
    closed: bool,
}

/// The line-up of one job: seats in order, and what they all say.
pub(super) struct LineUp {
    seats: Vec<Seat>,
    news: mpsc::Receiver<(usize, FromProvider)>,
    collect: mpsc::Sender<(usize, FromProvider)>,
    /// Held so that the local session stays registered.
    local: Vec<Registration>,
}

impl LineUp {
    pub(super) fn new() -> Self {
        let (collect, news) = mpsc::channel(MESSAGES_WAITING);
        Self { seats: Vec::new(), news, collect, local: Vec::new() }
    }

    /// Adds a seat on this machine. Seats are added from the last to the
    /// first, because a stage connects to the next one when it opens.
    pub(super) fn seat_local(
        &mut self,
        device: DeviceId,
        name: String,
        weight_bytes: u64,
        session: OpenSession,
    ) {
        let (inbox, outbox, guard) = session.into_parts();
        self.local.push(guard);
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
        self.seats.push(Seat {
            device,
            name,
            weight_bytes,
            lock,
            way,
            vouched: Amount::ZERO,
            last_voucher: None,
            closed: false,
        });
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

    /// The fault of one seat.
    fn fault(&self, index: usize, reason: String) -> EngineError {
        match self.seats.get(index) {
            Some(seat) => EngineError::Provider { device: seat.device, name: seat.name.clone(), reason },
            None => EngineError::Thread,
        }
    }

    /// The fault of the tail, which was seated first.
    fn tail_fault(&self, reason: String) -> EngineError {
        self.fault(0, reason)
    }

    /// Last vouchers of providers that did not say they posted them.
    pub(super) fn unposted(&self) -> Vec<Voucher> {
        self.seats.iter().filter(|seat| !seat.closed).filter_map(|seat| seat.last_voucher).collect()
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
                seat.last_voucher = Some(voucher);
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

/// Runs the session to its end, paying as it goes; what was computed is paid
/// for however it ends.
pub(super) async fn run(
    mut session: RequesterSession,
    line_up: &mut LineUp,
    purse: &Purse<'_>,
    tokenizer: Arc<Tokenizer>,
    mut listener: Listener<'_>,
) -> Result<Run, EngineError> {
    let mut text = TextStream::new(tokenizer);
    let reason = steps(&mut session, line_up, purse, &mut text, &mut listener).await;
    text.finish().into_iter().for_each(&mut *listener.on_text);
    purse.pay(line_up, session.computed()).await;
    let tokens = u32::try_from(session.answer().len()).unwrap_or(u32::MAX);
    Ok(Run { tokens, positions: session.computed(), reason: reason? })
}

async fn steps(
    session: &mut RequesterSession,
    line_up: &mut LineUp,
    purse: &Purse<'_>,
    text: &mut TextStream,
    listener: &mut Listener<'_>,
) -> Result<FinishReason, EngineError> {
    let mut paid = 0;
    let mut input = RequesterInput::Begin { epoch: EPOCH };
    loop {
        let outputs = session.handle(input).map_err(|error| line_up.tail_fault(error.to_string()))?;
        for output in outputs {
            match output {
                RequesterOutput::Send(frame) => line_up.send_first(frame).await?,
                RequesterOutput::Computed { positions } if positions >= paid + VOUCHER_EVERY => {
                    paid = positions;
                    purse.pay(line_up, positions).await;
                }
                RequesterOutput::Computed { .. } => {}
                RequesterOutput::Token { token, .. } => {
                    text.push(token).into_iter().for_each(&mut *listener.on_text)
                }
                RequesterOutput::Finished(reason) => return Ok(reason),
            }
        }
        input = next_input(line_up, &mut listener.stop).await?;
    }
}

/// The only epoch until stages can be replaced while they run.
pub(super) const EPOCH: u32 = 1;

async fn next_input(
    line_up: &mut LineUp,
    stop: &mut tokio::sync::watch::Receiver<bool>,
) -> Result<RequesterInput, EngineError> {
    let news = tokio::select! {
        () = until(stop) => return Ok(RequesterInput::Stop),
        news = tokio::time::timeout(SILENCE_MAX, line_up.news.recv()) => news,
    };
    let Ok(Some((index, news))) = news else {
        let tail = line_up.seats.first().map(|seat| seat.name.clone()).unwrap_or_default();
        return Err(EngineError::Silent(tail));
    };
    let fault = |reason: String| line_up.fault(index, reason);
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
    for seat in &mut line_up.seats {
        match &seat.way {
            Way::Local(inbox) => {
                // A session that failed has no thread any more.
                let _ = inbox.send(SessionInput::Close).await;
                seat.closed = true;
            }
            // Gone or not: whoever does not say "closed" is settled for.
            Way::Remote(to) => drop(to.send(ToProvider::Close).await),
        }
    }
    let LineUp { seats, news, .. } = line_up;
    let mut lost = vec![false; seats.len()];
    let closing = async {
        while seats.iter().zip(&lost).any(|(seat, lost)| !seat.closed && !lost) {
            match news.recv().await {
                Some((index, FromProvider::Closed)) => seats[index].closed = true,
                // Said when its stream ends; after "closed" it means nothing.
                Some((index, FromProvider::Failed { .. })) => lost[index] = true,
                Some(_) => {}
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(CLOSING_MAX, closing).await;
}
