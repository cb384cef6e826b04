//! From a [`View`] to what the Slint components hold.
//!
//! Lives on the event loop's thread. It keeps the newest view, because the
//! person may ask for more of it (earlier messages) without a new one coming.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use slint::{ComponentHandle, Model, ModelRc, SharedString, VecModel};

use crate::format;
use crate::generated as ui;
use crate::rows::reconcile;
use crate::view::{
    Appearance, AskState, AskView, MemberRow, MessageRow, PeerPath, PeerRow, Role, Screen, Severity, View,
};

/// At most this many of the newest messages are shown.
pub const MESSAGES_SHOWN_MAX: usize = 2_000;
/// So many messages are on screen at first, and so many more come each time the
/// person asks for earlier ones: a long history costs nothing until it is read.
pub const MESSAGES_PAGE: usize = 60;
/// Longest message that can be written; a longer one that arrives is cut.
pub const MESSAGE_CHARS_MAX: usize = 4_000;
/// Longest answer that is shown; the rest is cut.
pub const ANSWER_CHARS_MAX: usize = 32_000;
/// Longest name of a person or community that can be typed.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest invite that can be pasted.
pub const TICKET_CHARS_MAX: usize = 16_384;

/// Rows that may stay above the page before they are let go all at once, so that
/// not every new message moves the list.
const PAGE_SLACK: usize = 30;

/// Holds the models of the lists and the view they were made from.
pub(crate) struct Presenter {
    component: slint::Weak<ui::AppWindow>,
    members: Rc<VecModel<ui::Member>>,
    peers: Rc<VecModel<ui::Peer>>,
    messages: Rc<VecModel<ui::Message>>,
    recovery_words: Rc<VecModel<SharedString>>,
    view: RefCell<View>,
    /// How many of the newest messages are on screen.
    page: Cell<usize>,
    /// How often a view was brought on screen, for tests.
    applied: Cell<u64>,
}

impl Presenter {
    /// Gives the component its models and limits.
    pub(crate) fn new(component: &ui::AppWindow) -> Self {
        let presenter = Self {
            component: component.as_weak(),
            members: Rc::default(),
            peers: Rc::default(),
            messages: Rc::default(),
            recovery_words: Rc::default(),
            view: RefCell::default(),
            page: Cell::new(MESSAGES_PAGE),
            applied: Cell::new(0),
        };
        let cluster = component.global::<ui::Cluster>();
        cluster.set_members(ModelRc::from(presenter.members.clone()));
        cluster.set_peers(ModelRc::from(presenter.peers.clone()));
        let channel = component.global::<ui::Channel>();
        channel.set_messages(ModelRc::from(presenter.messages.clone()));
        component.global::<ui::Recovery>().set_words(ModelRc::from(presenter.recovery_words.clone()));

        let rules = component.global::<ui::Rules>();
        rules.set_message_chars_max(saturating_int(MESSAGE_CHARS_MAX));
        rules.set_name_chars_max(saturating_int(NAME_CHARS_MAX));
        rules.set_ticket_chars_max(saturating_int(TICKET_CHARS_MAX));
        rules.on_is_blank(|text| text.trim().is_empty());
        presenter
    }

    /// Brings `view` on screen.
    pub(crate) fn apply(&self, view: View) {
        let Some(component) = self.component.upgrade() else {
            return;
        };
        apply_session(&component, &view);
        apply_first_pages(&component, &view.screen);
        apply_ask(&component, &view.ask);

        let cluster = component.global::<ui::Cluster>();
        cluster.set_member_count(format::members(view.members.len()).into());
        reconcile(&self.members, view.members.iter().map(member).collect(), |a, b| a.id == b.id);
        reconcile(&self.peers, view.peers.iter().map(peer).collect(), |a, b| a.id == b.id);

        let words = view.recovery_words.iter().map(|word| shared(word)).collect();
        reconcile(&self.recovery_words, words, |a, b| a == b);
        component.global::<ui::Recovery>().set_phrase(view.recovery_words.join(" ").into());

        // Messages cost the most and change the least while an answer streams.
        let messages_changed = {
            let shown = self.view.borrow();
            shown.messages != view.messages
        };
        self.view.replace(view);
        if messages_changed {
            self.apply_messages(&component);
        }
        self.applied.set(self.applied.get() + 1);
    }

    /// Shows one more page of earlier messages.
    pub(crate) fn show_earlier(&self) {
        if let Some(component) = self.component.upgrade() {
            self.page.set(self.page.get().saturating_add(MESSAGES_PAGE));
            self.apply_messages(&component);
        }
    }

    /// How often a view was brought on screen.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.get()
    }

    fn apply_messages(&self, component: &ui::AppWindow) {
        let view = self.view.borrow();
        let all = &view.messages[view.messages.len().saturating_sub(MESSAGES_SHOWN_MAX)..];
        let channel = component.global::<ui::Channel>();
        let start = self.first_shown(all, channel.get_at_end());
        let shown = &all[start..];
        let rows = shown
            .iter()
            .enumerate()
            .map(|(index, row)| message(index.checked_sub(1).map(|before| &shown[before]), row))
            .collect();
        reconcile(&self.messages, rows, |a, b| a.id == b.id);
        channel.set_earlier(saturating_int(start));
    }

    /// Where the page starts. It stays where it is while a few messages come, so
    /// that rows leave in batches, and as long as the person reads further up, so
    /// that nothing moves away under their eyes.
    fn first_shown(&self, all: &[MessageRow], at_end: bool) -> usize {
        let wanted = all.len().saturating_sub(self.page.get());
        let Some(first) = self.messages.row_data(0) else {
            return wanted;
        };
        let slack = if at_end { PAGE_SLACK } else { all.len() };
        let lowest = wanted.saturating_sub(slack);
        all[lowest..wanted]
            .iter()
            .position(|row| row.id == first.id.as_str())
            .map_or(wanted, |offset| lowest + offset)
    }
}

fn apply_session(component: &ui::AppWindow, view: &View) {
    let theme = component.global::<ui::Theme>();
    theme.set_appearance(match view.appearance {
        Appearance::System => ui::Appearance::System,
        Appearance::Light => ui::Appearance::Light,
        Appearance::Dark => ui::Appearance::Dark,
    });

    let session = component.global::<ui::Session>();
    session.set_community(shared(&view.community));
    session.set_community_initials(format::initials(&view.community).into());
    session.set_my_name(shared(&view.me.name));
    session.set_my_initials(format::initials(&view.me.name).into());
    session.set_my_tone(format::tone(&view.me.name));
    session.set_my_role(format::role(view.me.role).into());
    session.set_has_balance(view.me.credits.is_some());
    session.set_balance(view.me.credits.map(format::credits).unwrap_or_default().into());
    session.set_status(format::connection(view.connection).into());
    session.set_online(view.connection.connected > 0);
    session.set_version(shared(&view.about.version));
    session.set_licences(shared(&view.about.licences));
    session.set_data_folder(shared(&view.about.data_folder));
    component.global::<ui::Channel>().set_name(shared(&view.channel));
    component.global::<ui::Invitation>().set_ticket(view.ticket.as_deref().unwrap_or_default().into());

    let (text, severity) = match &view.banner {
        Some(banner) => (banner.text.as_str(), banner.severity),
        None => ("", Severity::Info),
    };
    session.set_banner(cut(text, MESSAGE_CHARS_MAX));
    session.set_banner_tone(match severity {
        Severity::Info => ui::Tone::Info,
        Severity::Warning => ui::Tone::Warning,
        Severity::Error => ui::Tone::Error,
    });
}

fn apply_first_pages(component: &ui::AppWindow, screen: &Screen) {
    let session = component.global::<ui::Session>();
    match screen {
        Screen::Onboarding(page) => {
            let onboarding = component.global::<ui::Onboarding>();
            onboarding.set_busy(page.busy);
            onboarding.set_problem(shared(page.problem.as_deref().unwrap_or_default()));
            onboarding.set_suggested_name(shared(&page.suggested_name));
            session.set_screen(ui::Screen::Onboarding);
        }
        Screen::Joining(page) => {
            let (title, progress) = format::joining(page);
            let joining = component.global::<ui::Joining>();
            joining.set_title(title.into());
            joining.set_progress(progress.into());
            joining.set_problem(shared(page.problem.as_deref().unwrap_or_default()));
            session.set_screen(ui::Screen::Joining);
        }
        Screen::Main => session.set_screen(ui::Screen::Main),
    }
}

fn apply_ask(component: &ui::AppWindow, ask: &AskView) {
    let asking = component.global::<ui::Asking>();
    asking.set_model(shared(&ask.model));
    asking.set_available(!matches!(ask.state, AskState::Unavailable { .. }));
    asking.set_busy(matches!(
        ask.state,
        AskState::Fetching { .. } | AskState::Preparing | AskState::Answering { .. }
    ));
    asking.set_state(format::ask_state(&ask.state).into());
    asking.set_state_tone(match ask.state {
        AskState::Failed { .. } => ui::Tone::Error,
        AskState::Unavailable { .. } | AskState::Stopped => ui::Tone::Warning,
        _ => ui::Tone::Info,
    });
    asking.set_progress(match ask.state {
        AskState::Fetching { percent, .. } => f32::from(percent.min(100)) / 100.0,
        _ => -1.0,
    });
    asking.set_question(cut(&ask.question, MESSAGE_CHARS_MAX));
    asking.set_answer(cut(&ask.answer, ANSWER_CHARS_MAX));
    asking.set_summary(format::ask_summary(ask).into());
}

fn member(row: &MemberRow) -> ui::Member {
    let role = match row.role {
        // Most are members; only what is special is worth a word.
        Role::Member if row.me => "you",
        Role::Member => "",
        _ => format::role(row.role),
    };
    let presence = if row.online { "online" } else { "offline" };
    ui::Member {
        id: shared(&row.id),
        initials: format::initials(&row.name).into(),
        tone: format::tone(&row.name),
        name: shared(&row.name),
        role: role.into(),
        online: row.online,
        me: row.me,
        spoken: slint::format!("{}, {}, {presence}", row.name, format::role(row.role)),
    }
}

fn peer(row: &PeerRow) -> ui::Peer {
    let path = format::path(row.path);
    let layers = row.layers.as_ref().map(format::layers).unwrap_or_default();
    let offered = row.offered_mib.map(|mib| format!("{} offered", format::memory(mib))).unwrap_or_default();
    let spoken = [row.name.as_str(), &path, &layers, &offered]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ");
    ui::Peer {
        id: shared(&row.id),
        name: shared(&row.name),
        online: row.path != PeerPath::Offline,
        path: path.into(),
        layers: layers.into(),
        offered: offered.into(),
        spoken: spoken.into(),
    }
}

fn message(before: Option<&MessageRow>, row: &MessageRow) -> ui::Message {
    let new_day = before.is_none_or(|before| before.day != row.day);
    let same_run = before.is_some_and(|before| {
        before.author == row.author && before.mine == row.mine && before.time == row.time
    });
    let text = cut(&row.text, MESSAGE_CHARS_MAX);
    ui::Message {
        id: shared(&row.id),
        author: shared(&row.author),
        initials: format::initials(&row.author).into(),
        tone: format::tone(&row.author),
        time: shared(&row.time),
        day: if new_day { shared(&row.day) } else { SharedString::default() },
        mine: row.mine,
        opens_run: new_day || !same_run,
        spoken: slint::format!("{}, {}: {text}", row.author, row.time),
        text,
    }
}

fn shared(text: &str) -> SharedString {
    text.into()
}

fn cut(text: &str, chars_max: usize) -> SharedString {
    format::cut(text, chars_max).into()
}

fn saturating_int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_special_roles_are_worth_a_word() {
        let badge = |role, me| member(&MemberRow { role, me, ..MemberRow::default() }).role;
        let special = [Role::Owner, Role::Admin, Role::Moderator, Role::Guest, Role::Keeper];
        for role in special {
            assert_eq!(badge(role, false), format::role(role));
            assert_eq!(badge(role, true), format::role(role));
        }
        assert_eq!((badge(Role::Member, false).as_str(), badge(Role::Member, true).as_str()), ("", "you"));
    }
}
