//! The Exo-Studio window.
//!
//! This crate knows nothing about communities, feeds or models. It shows a
//! [`View`], plain data that somebody else prepares, and says by [`Intent`]s
//! what the person in front of it wants:
//!
//! ```text
//! app ── View ──▶ WindowHandle::update ──▶ event loop ──▶ what is on screen
//! app ◀─ Intent ───────────────────────── Window::open(intents) ◀─ keys, mouse
//! ```
//!
//! [`Window`] lives on the thread that runs the event loop, the main thread;
//! [`WindowHandle`] may be cloned and sent to any other. Views may arrive far
//! more often than a screen can show them, one for each token of an answer:
//! only the newest is kept, at most [`UPDATES_PER_SECOND_MAX`] are shown, and
//! of each list only the rows that changed are touched.
//!
//! The look is written in Slint: `ui/theme.slint` holds every colour and
//! distance, `ui/adapters.slint` the border to Rust, `ui/widgets` the parts and
//! `ui/views` the pages. What this crate never does: read files, open sockets,
//! keep state that outlives the window, or decide what an intent means.

mod format;
mod generated;
mod intent;
mod present;
mod rows;
#[doc(hidden)]
pub mod testing;
mod view;
mod window;

pub use intent::Intent;
pub use present::{
    ANSWER_CHARS_MAX, MESSAGE_CHARS_MAX, MESSAGES_PAGE, MESSAGES_SHOWN_MAX, NAME_CHARS_MAX, TICKET_CHARS_MAX,
};
pub use view::{
    About, Appearance, AskState, AskView, Banner, Connection, HostedLayers, Joining, Me, MemberRow,
    MessageRow, Onboarding, PeerPath, PeerRow, Role, Screen, Severity, View,
};
pub use window::{UPDATES_PER_SECOND_MAX, Window, WindowError, WindowHandle, display_available};
