//! A window on the bench: how the test finds things in it and operates them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use exo_ui::{
    Connection, HostedLayers, Intent, Me, MemberRow, MessageRow, PeerPath, PeerRow, Role, Screen, View,
    Window, testing,
};
use i_slint_backend_testing::{AccessibleRole, ElementHandle};
use slint::platform::{Key, WindowEvent};
use slint::{ComponentHandle, SharedString};

/// A window and the intents that came out of it.
pub(crate) struct Bench {
    pub(crate) window: Window,
    intents: Rc<RefCell<Vec<Intent>>>,
}

impl Bench {
    pub(crate) fn open() -> Self {
        let intents = Rc::new(RefCell::new(Vec::new()));
        let sink = intents.clone();
        let window = Window::open(move |intent| sink.borrow_mut().push(intent)).expect("the window opens");
        testing::component(&window).show().expect("the window shows");
        Self { window, intents }
    }

    pub(crate) fn show(&self, view: View) {
        self.window.show(view);
        settle();
    }

    pub(crate) fn taken(&self) -> Vec<Intent> {
        self.intents.take()
    }

    /// What a screen reader meets under this label.
    pub(crate) fn all(&self, label: &str) -> Vec<ElementHandle> {
        ElementHandle::find_by_accessible_label(testing::component(&self.window), label)
            .filter(|element| element.accessible_role() != Some(AccessibleRole::None))
            .collect()
    }

    pub(crate) fn has(&self, label: &str) -> bool {
        !self.all(label).is_empty()
    }

    /// The one visible element with this label.
    #[track_caller]
    pub(crate) fn one(&self, label: &str) -> ElementHandle {
        let mut found = self.all(label);
        assert_eq!(found.len(), 1, "elements with the label {label:?}");
        found.remove(0)
    }

    #[track_caller]
    pub(crate) fn press(&self, label: &str) {
        self.one(label).invoke_accessible_default_action();
        settle();
    }

    #[track_caller]
    pub(crate) fn write(&self, label: &str, text: &str) {
        self.one(label).set_accessible_value(text);
        settle();
    }

    /// Types into whatever has the focus.
    pub(crate) fn key(&self, key: impl Into<SharedString>) {
        let text = key.into();
        let window = testing::component(&self.window).window();
        window.dispatch_event(WindowEvent::KeyPressed { text: text.clone() });
        window.dispatch_event(WindowEvent::KeyReleased { text });
        settle();
    }

    pub(crate) fn with_held(&self, held: Key, key: impl Into<SharedString>) {
        let held = SharedString::from(held);
        let window = testing::component(&self.window).window();
        window.dispatch_event(WindowEvent::KeyPressed { text: held.clone() });
        self.key(key);
        window.dispatch_event(WindowEvent::KeyReleased { text: held });
    }
}

/// Lets change handlers run and conditional elements appear.
pub(crate) fn settle() {
    for _ in 0..3 {
        i_slint_backend_testing::mock_elapsed_time(Duration::from_millis(20));
    }
}

/// A message of today.
pub(crate) fn message(id: usize, author: &str, text: &str) -> MessageRow {
    MessageRow {
        id: id.to_string(),
        author: author.to_owned(),
        time: "14:02".to_owned(),
        day: "Today".to_owned(),
        text: text.to_owned(),
        mine: author == "Ana",
    }
}

/// A community of two.
pub(crate) fn community() -> View {
    View {
        screen: Screen::Main,
        community: "Lindenhof".to_owned(),
        channel: "general".to_owned(),
        me: Me { name: "Ana".to_owned(), role: Role::Owner, credits: Some(1_200) },
        members: vec![MemberRow {
            id: "ben".to_owned(),
            name: "Ben".to_owned(),
            online: true,
            ..MemberRow::default()
        }],
        peers: vec![PeerRow {
            id: "pc".to_owned(),
            name: "bens-pc".to_owned(),
            path: PeerPath::Direct { rtt_ms: Some(12) },
            layers: Some(HostedLayers { first: 0, last: 2, model: "Exo Starter".to_owned() }),
            offered_mib: Some(1_536),
        }],
        messages: vec![message(1, "Ben", "Hello, Ana")],
        connection: Connection { connected: 1, known: 2 },
        ..View::default()
    }
}
