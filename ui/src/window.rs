//! The window itself: opening it, feeding it views, running it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use slint::{CloseRequestResponse, ComponentHandle, PlatformError};

use crate::generated as ui;
use crate::intent::Intent;
use crate::present::Presenter;
use crate::view::View;

/// Views that arrive faster than this are merged: only the newest is shown.
pub const UPDATES_PER_SECOND_MAX: u32 = 30;

/// Why there is no window.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WindowError {
    /// No display can be reached: no desktop is running here, or it refused.
    NoDisplay {
        /// What the window system said.
        reason: String,
    },
    /// The display is there, but the window failed.
    Failed {
        /// What the window system said.
        reason: String,
    },
    /// The window was closed before.
    Closed,
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDisplay { reason } => write!(f, "no display can be reached: {reason}"),
            Self::Failed { reason } => write!(f, "the window failed: {reason}"),
            Self::Closed => write!(f, "the window is closed"),
        }
    }
}

impl std::error::Error for WindowError {}

/// The open window. It belongs to the thread that opened it, which must be the
/// main thread and must call [`Window::run`].
pub struct Window {
    component: ui::AppWindow,
    presenter: Rc<Presenter>,
    inbox: Arc<Mutex<Inbox>>,
}

/// Sends views to the window from any thread.
#[derive(Clone)]
pub struct WindowHandle {
    component: slint::Weak<ui::AppWindow>,
    inbox: Arc<Mutex<Inbox>>,
}

/// At most one view waits: a newer one takes its place.
#[derive(Default)]
struct Inbox {
    newest: Option<View>,
    /// The event loop was told and has not taken the view yet.
    announced: bool,
}

/// What desktops know the program by; the name of its `.desktop` file.
const APPLICATION_ID: &str = "exo-studio";

/// Whether a window can be opened here.
///
/// The answer is found by connecting to the display, once; it must be asked on
/// the main thread.
pub fn display_available() -> bool {
    open_display().is_ok()
}

fn open_display() -> Result<(), WindowError> {
    // The window system lets itself be opened once in a process, and answers a
    // second try with another reason than the true one.
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    // Succeeds once a display is there, also one that a test brought along.
    if slint::set_xdg_app_id(APPLICATION_ID).is_ok() {
        return Ok(());
    }
    OPENED
        .get_or_init(|| {
            slint::BackendSelector::new()
                .select()
                .and_then(|()| slint::set_xdg_app_id(APPLICATION_ID))
                .map_err(|error| one_line(&error))
        })
        .clone()
        .map_err(|reason| WindowError::NoDisplay { reason })
}

/// The reason alone: the window system puts places in its source before it.
fn one_line(error: &PlatformError) -> String {
    let text = error.to_string();
    let reason = text
        .split_once(".rs:")
        .and_then(|(_, rest)| rest.split_once(": "))
        .map_or(text.as_str(), |(_, reason)| reason);
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn failed(error: PlatformError) -> WindowError {
    WindowError::Failed { reason: one_line(&error) }
}

impl Window {
    /// Opens the window, still hidden; [`Window::run`] shows it.
    ///
    /// `intents` is called on this thread, from the event loop, so it must
    /// return at once: hand the intent on and answer with a view.
    ///
    /// # Errors
    /// [`WindowError::NoDisplay`] where there is no desktop.
    pub fn open(intents: impl FnMut(Intent) + 'static) -> Result<Self, WindowError> {
        open_display()?;
        let component = ui::AppWindow::new().map_err(failed)?;
        let presenter = Rc::new(Presenter::new(&component));
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let sink = Sink(Rc::new(RefCell::new(intents)));

        let refresher =
            Rc::new(Refresher { presenter: presenter.clone(), inbox: inbox.clone(), last: Cell::new(None) });
        let session = component.global::<ui::Session>();
        session.on_refresh(move || refresher.refresh());
        let channel = component.global::<ui::Channel>();
        let for_channel = presenter.clone();
        channel.on_show_earlier(move || for_channel.show_earlier());
        connect(&component, &sink);
        component.window().on_close_requested(move || {
            sink.send(Intent::Quit);
            CloseRequestResponse::HideWindow
        });

        Ok(Self { component, presenter, inbox })
    }

    /// A handle that feeds this window from any thread.
    pub fn handle(&self) -> WindowHandle {
        WindowHandle { component: self.component.as_weak(), inbox: self.inbox.clone() }
    }

    /// Shows `view` at once. For the first view, before [`Window::run`]; later
    /// ones go through [`WindowHandle::update`].
    pub fn show(&self, view: View) {
        self.presenter.apply(view);
    }

    /// Shows the window and runs the event loop until it is closed.
    ///
    /// # Errors
    /// [`WindowError::Failed`] if the display refuses the window or is lost.
    pub fn run(self) -> Result<(), WindowError> {
        self.component.run().map_err(failed)
    }

    pub(crate) fn component(&self) -> &ui::AppWindow {
        &self.component
    }

    pub(crate) fn presenter(&self) -> Rc<Presenter> {
        self.presenter.clone()
    }
}

impl WindowHandle {
    /// Replaces what the window shows. Returns at once; if views come faster
    /// than [`UPDATES_PER_SECOND_MAX`], only the newest is shown.
    ///
    /// # Errors
    /// [`WindowError::Closed`] once the event loop has ended.
    pub fn update(&self, view: View) -> Result<(), WindowError> {
        {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            inbox.newest = Some(view);
            if inbox.announced {
                return Ok(());
            }
            inbox.announced = true;
        }
        self.component
            .upgrade_in_event_loop(|component| component.global::<ui::Session>().invoke_refresh())
            .map_err(|_| WindowError::Closed)
    }

    /// Closes the window; [`Window::run`] returns. Nothing happens if it is
    /// closed already.
    pub fn close(&self) {
        // An event loop that has ended needs no telling.
        let _ = self.component.upgrade_in_event_loop(|component| {
            let _ = component.hide();
            let _ = slint::quit_event_loop();
        });
    }
}

/// Takes views out of the inbox, not more often than a screen can use them.
struct Refresher {
    presenter: Rc<Presenter>,
    inbox: Arc<Mutex<Inbox>>,
    last: Cell<Option<Instant>>,
}

impl Refresher {
    fn refresh(self: &Rc<Self>) {
        let interval = Duration::from_secs(1) / UPDATES_PER_SECOND_MAX;
        let since = self.last.get().map_or(interval, |last| last.elapsed());
        match interval.checked_sub(since) {
            Some(wait) if !wait.is_zero() => {
                let this = self.clone();
                slint::Timer::single_shot(wait, move || this.take());
            }
            _ => self.take(),
        }
    }

    fn take(&self) {
        let newest = {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            inbox.announced = false;
            inbox.newest.take()
        };
        if let Some(view) = newest {
            self.last.set(Some(Instant::now()));
            self.presenter.apply(view);
        }
    }
}

/// Where intents go.
struct Sink<F>(Rc<RefCell<F>>);

impl<F> Clone for Sink<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: FnMut(Intent) + 'static> Sink<F> {
    fn send(&self, intent: Intent) {
        // Busy only if the callee runs the event loop itself, which it must not.
        if let Ok(mut intents) = self.0.try_borrow_mut() {
            intents(intent);
        }
    }
}

/// Joins each callback of the window to its intent.
fn connect<F: FnMut(Intent) + 'static>(component: &ui::AppWindow, sink: &Sink<F>) {
    let intents = component.global::<ui::Intents>();
    let to = sink.clone();
    intents.on_found(move |name, community| {
        if let (Some(name), Some(community)) = (typed(&name), typed(&community)) {
            to.send(Intent::Found { name, community });
        }
    });
    let to = sink.clone();
    intents.on_join(move |name, ticket| {
        if let (Some(name), Some(ticket)) = (typed(&name), typed(&ticket)) {
            to.send(Intent::Join { name, ticket });
        }
    });
    let to = sink.clone();
    intents.on_send_message(move |text| {
        if let Some(text) = typed(&text) {
            to.send(Intent::SendMessage { text });
        }
    });
    let to = sink.clone();
    intents.on_ask(move |question| {
        if let Some(question) = typed(&question) {
            to.send(Intent::Ask { question });
        }
    });
    let to = sink.clone();
    intents.on_cancel_join(move || to.send(Intent::CancelJoin));
    let to = sink.clone();
    intents.on_stop_ask(move || to.send(Intent::StopAsk));
    let to = sink.clone();
    intents.on_create_invite(move || to.send(Intent::CreateInvite));
    let to = sink.clone();
    intents.on_close_invite(move || to.send(Intent::CloseInvite));
    let to = sink.clone();
    intents.on_forget_phrase(move || to.send(Intent::ForgetPhrase));
    let to = sink.clone();
    intents.on_dismiss_banner(move || to.send(Intent::DismissBanner));
}

/// What was typed, without white space around it; `None` if nothing is left.
fn typed(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
