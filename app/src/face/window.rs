//! The window face: view data in, intents out.
//!
//! The window runs on the main thread, everything else on the runtime. A
//! presenter task rebuilds the view whenever something it shows changed;
//! intents are carried out as tasks, so that nothing the person does waits for
//! a peer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exo_ui::{AskState, AskView, Banner, Intent, Severity, Window, WindowError, WindowHandle};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::present;
use crate::command::{self, Command, CommandError, Reply};
use crate::engine::AskEvent;
use crate::node::{InviteTerms, Membership, Node, NodeError};

/// Intents that may wait; a person does not click faster.
const INTENTS_WAITING: usize = 64;
/// Steps of an answer that may wait to be shown.
const EVENTS_WAITING: usize = 256;
/// How often links and round-trip times are looked at again.
const REFRESH_EVERY: Duration = Duration::from_secs(2);

/// What the window shows beside the community's own facts.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) busy: bool,
    pub(super) problem: Option<String>,
    pub(super) ask: AskView,
    pub(super) ticket: Option<String>,
    pub(super) banner: Option<Banner>,
    /// The recovery phrase, until its owner has written it down.
    pub(super) recovery_words: Vec<String>,
}

/// The window of one node.
struct Face {
    node: Arc<Node>,
    session: Mutex<Session>,
    changed: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

/// Opens the window and returns when it is closed. With `json`, commands are
/// taken on standard input as well, and its end closes the window.
pub(crate) fn run(runtime: &Runtime, node: &Arc<Node>, json: bool) -> Result<(), WindowError> {
    let (intents, mut wanted) = mpsc::channel(INTENTS_WAITING);
    let window = Window::open(move |intent| {
        if intents.try_send(intent).is_err() {
            tracing::warn!("the program is too busy for another click");
        }
    })?;
    let handle = window.handle();
    let face = Arc::new(Face {
        node: node.clone(),
        session: Mutex::default(),
        changed: watch::Sender::new(0),
        stop: watch::Sender::new(false),
    });
    face.read_phrase();
    let acting = face.clone();
    runtime.spawn(async move {
        while let Some(intent) = wanted.recv().await {
            tokio::spawn(acting.clone().act(intent));
        }
    });
    runtime.spawn(face.clone().finish_join());
    let asking = face.clone();
    runtime.spawn(face.present(handle.clone()));
    if json {
        let node = node.clone();
        let run = move |command, events, stop| {
            let face = asking.clone();
            async move { face.run(command, events, stop).await }
        };
        runtime.spawn(async move {
            if let Err(error) = super::json::serve(node, run).await {
                tracing::error!(%error, "standard input and output");
            }
            handle.close();
        });
    }
    window.run()
}

impl Face {
    /// Shows the newest view whenever something changed.
    async fn present(self: Arc<Self>, handle: WindowHandle) {
        let mut changed = self.changed.subscribe();
        let mut memberships = self.node.watch_membership();
        let mut facts = present::Facts::default();
        loop {
            let membership = memberships.borrow_and_update().clone();
            changed.mark_unchanged();
            let mut sources = membership.as_deref().map(Sources::of);
            let session = self.session().clone();
            let view = present::view(&self.node, membership.as_deref(), &session, &mut facts).await;
            if handle.update(view).is_err() {
                return;
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = memberships.changed() => {}
                () = Sources::any(&mut sources) => {}
                () = tokio::time::sleep(REFRESH_EVERY) => {}
            }
        }
    }

    /// Carries out one intent; failures are shown where it came from.
    async fn act(self: Arc<Self>, intent: Intent) {
        match intent {
            Intent::Found { name, community } => {
                self.start(async { self.node.found(&name, &community).await.map(drop) }).await;
            }
            Intent::Join { name, ticket } => {
                self.start(async { self.node.join(&name, &ticket).await.map(drop) }).await;
                self.finish_join().await;
            }
            Intent::CancelJoin => {
                if let Err(error) = self.node.forget_join().await {
                    self.complain(&error);
                }
            }
            Intent::SendMessage { text } => {
                let sent = async { Ok::<_, NodeError>(self.node.membership()?.say(text).await?) };
                if let Err(error) = sent.await {
                    self.complain(&error);
                }
            }
            Intent::CreateInvite => {
                let made = async {
                    Ok::<_, NodeError>(self.node.membership()?.invite(InviteTerms::default()).await?)
                };
                match made.await {
                    Ok(ticket) => self.change(|session| session.ticket = Some(ticket.to_string())),
                    Err(error) => self.complain(&error),
                }
            }
            Intent::CloseInvite => self.change(|session| session.ticket = None),
            Intent::ForgetPhrase => {
                if let Err(error) = self.node.forget_phrase() {
                    self.complain(&error);
                }
                self.read_phrase();
            }
            Intent::DismissBanner => self.change(|session| session.banner = None),
            Intent::Ask { question } => self.ask(question).await,
            Intent::StopAsk => {
                self.stop.send_replace(true);
            }
            Intent::Quit => {}
        }
    }

    /// Founding or joining: busy while it runs, its problem shown in place.
    async fn start(&self, work: impl Future<Output = Result<(), NodeError>>) {
        self.change(|session| {
            session.busy = true;
            session.problem = None;
        });
        let problem = work.await.err().map(|error| sentence(&error.to_string()));
        self.change(|session| {
            session.busy = false;
            session.problem = problem;
        });
    }

    /// Waits for a join under way, also one from the last run, and shows why
    /// it was refused.
    async fn finish_join(self: Arc<Self>) {
        let Ok(membership) = self.node.membership() else { return };
        if let Err(error @ NodeError::JoinRefused(_)) = self.node.joined(&membership).await {
            let problem = sentence(&error.to_string());
            self.change(|session| session.problem = Some(problem));
        }
    }

    /// Asks what was typed in the window.
    async fn ask(&self, question: String) {
        let (events, mut heard) = mpsc::channel(EVENTS_WAITING);
        let listening = async { while heard.recv().await.is_some() {} };
        let question = Command::Ask { question, model: None, max_tokens: None };
        let (_unused, stop) = watch::channel(false);
        let asking = self.run(question, events, stop);
        let _shown = tokio::join!(asking, listening);
    }

    /// Carries out a command; questions and their answers show in the window,
    /// whoever asked.
    async fn run(
        &self,
        command: Command,
        events: mpsc::Sender<AskEvent>,
        stop: watch::Receiver<bool>,
    ) -> Result<Reply, CommandError> {
        let Command::Ask { question, .. } = &command else {
            let forgets = matches!(command, Command::Phrase { forget: true });
            let reply = command::run(&self.node, command, events, stop).await;
            if forgets {
                self.read_phrase();
            }
            return reply;
        };
        // The window's Stop ends any question that the window shows.
        self.stop.send_replace(false);
        let stop = self.stop.subscribe();
        let state = AskState::Preparing;
        let ask = AskView { question: question.clone(), state, ..AskView::default() };
        self.change(|session| session.ask = ask);
        let answered = self.answer(command, events, stop).await;
        self.change(|session| match &answered {
            Ok(Reply::Answer(answer)) => present::finish(&mut session.ask, answer),
            Ok(_) => {}
            Err(error) => session.ask.state = AskState::Failed { reason: sentence(&error.to_string()) },
        });
        answered
    }

    async fn answer(
        &self,
        command: Command,
        events: mpsc::Sender<AskEvent>,
        stop: watch::Receiver<bool>,
    ) -> Result<Reply, CommandError> {
        let membership = self.node.membership()?;
        if membership.replica().state().models.is_empty() {
            membership.add_starter().await?;
        }
        let (own_events, mut news) = mpsc::channel(EVENTS_WAITING);
        let asking = command::run(&self.node, command, own_events, stop);
        let showing = async {
            let mut begun = std::time::Instant::now();
            while let Some(event) = news.recv().await {
                if matches!(event, AskEvent::Answering(_)) {
                    begun = std::time::Instant::now();
                }
                self.change(|session| show(&mut session.ask, &membership, event.clone(), begun));
                let _ = events.try_send(event);
            }
        };
        tokio::join!(asking, showing).0
    }

    /// Shows the recovery phrase, or no longer.
    fn read_phrase(&self) {
        match self.node.phrase() {
            Ok(phrase) => {
                let words = phrase.iter().flat_map(|phrase| phrase.split_whitespace());
                let recovery_words = words.map(str::to_owned).collect();
                self.change(|session| session.recovery_words = recovery_words);
            }
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&self, error: &impl ToString) {
        let text = sentence(&error.to_string());
        self.change(|session| session.banner = Some(Banner { severity: Severity::Error, text }));
    }

    fn change(&self, change: impl FnOnce(&mut Session)) {
        change(&mut self.session());
        self.changed.send_modify(|count| *count += 1);
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One step of an answer, on screen.
fn show(ask: &mut AskView, membership: &Membership, event: AskEvent, begun: std::time::Instant) {
    let state = membership.replica().state();
    match event {
        AskEvent::Planned(_) => ask.state = AskState::Preparing,
        AskEvent::Fetching { device, received, total } => {
            let percent = u8::try_from(received.saturating_mul(100) / total.max(1)).unwrap_or(100).min(100);
            ask.state = AskState::Fetching { by: vec![state.charter.name_of(&device)], percent };
        }
        AskEvent::Answering(stages) => {
            let by: Vec<_> = stages.iter().map(|stage| state.charter.name_of(&stage.device)).collect();
            ask.served_by.clone_from(&by);
            ask.state = AskState::Answering { by };
        }
        AskEvent::Text(text) => {
            ask.answer.push_str(&text);
            ask.tokens += 1;
            #[expect(clippy::cast_possible_truncation, reason = "shown with one decimal")]
            let speed = (f64::from(ask.tokens) / begun.elapsed().as_secs_f64().max(1e-3)) as f32;
            ask.tokens_per_second = Some(speed);
        }
    }
}

/// What a membership shows, as signals.
struct Sources {
    views: watch::Receiver<u64>,
    links: watch::Receiver<u64>,
    join: watch::Receiver<Option<exo_sync::mesh::JoinStatus>>,
}

impl Sources {
    fn of(membership: &Membership) -> Self {
        Self {
            views: membership.watch_views(),
            links: membership.mesh().watch_peers(),
            join: membership.watch_join(),
        }
    }

    async fn any(sources: &mut Option<Self>) {
        let Some(sources) = sources else { return std::future::pending().await };
        tokio::select! {
            _ = sources.views.changed() => {}
            _ = sources.links.changed() => {}
            _ = sources.join.changed() => {}
        }
    }
}

/// An error's text as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), chars.as_str())
}
