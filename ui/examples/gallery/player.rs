//! Plays the program behind the window.

use std::sync::mpsc;
use std::time::Duration;

use exo_ui::{AskState, AskView, Intent, Screen, View, WindowHandle};

use crate::sample::{self, ANSWER, TICKET, message};

/// Plays the program: answers intents until the window is gone.
pub(crate) fn play(handle: &WindowHandle, mut view: View, inbox: &mpsc::Receiver<Intent>) {
    while let Ok(intent) = inbox.recv() {
        match intent {
            Intent::Found { name, community } => {
                let appearance = view.appearance;
                view = sample::view("empty");
                view.appearance = appearance;
                view.me.name = name;
                view.community = community;
                view.recovery_words = sample::recovery_words();
            }
            Intent::Join { name, .. } => {
                view.me.name = name;
                view.screen = sample::view("joining").screen;
            }
            Intent::CancelJoin => view.screen = Screen::default(),
            Intent::SendMessage { text } => {
                let id = format!("new-{}", view.messages.len());
                view.messages.push(message(&id, "Ana Berger", "15:40", "Today", &text));
            }
            Intent::Ask { question } => stream(handle, &mut view, inbox, question),
            Intent::StopAsk => view.ask.state = AskState::Stopped,
            Intent::CreateInvite => view.ticket = Some(TICKET.to_owned()),
            Intent::CloseInvite => view.ticket = None,
            Intent::ForgetPhrase => view.recovery_words.clear(),
            Intent::DismissBanner => view.banner = None,
            Intent::Quit => return,
        }
        if handle.update(view.clone()).is_err() {
            return;
        }
    }
}

/// Streams a sample answer, faster than a screen can show it.
fn stream(handle: &WindowHandle, view: &mut View, inbox: &mpsc::Receiver<Intent>, question: String) {
    let by = vec!["Ben".to_owned(), "Chloe".to_owned()];
    view.ask = AskView {
        model: view.ask.model.clone(),
        state: AskState::Answering { by: by.clone() },
        question,
        ..AskView::default()
    };
    for (index, word) in ANSWER.split_inclusive(' ').enumerate() {
        view.ask.answer.push_str(word);
        view.ask.tokens = u32::try_from(index + 1).unwrap_or(u32::MAX);
        view.ask.tokens_per_second = Some(48.2);
        if handle.update(view.clone()).is_err() {
            return;
        }
        if let Ok(Intent::StopAsk) = inbox.recv_timeout(Duration::from_millis(20)) {
            view.ask.state = AskState::Stopped;
            return;
        }
    }
    view.ask.state = AskState::Finished;
    view.ask.served_by = by;
    view.ask.credits_spent = Some(3);
}
