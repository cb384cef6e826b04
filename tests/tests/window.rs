//! The window, driven the way a screen reader and a keyboard drive it.
//!
//! There is one test function: the testing backend can be set up once in a
//! process, and a window belongs to the thread that opened it.

#[path = "window/bench.rs"]
mod bench;

use std::time::Duration;

use exo_ui::{
    AskState, AskView, Banner, Connection, Intent, Joining, MESSAGES_PAGE, MESSAGES_SHOWN_MAX, Onboarding,
    Role, Screen, View, testing,
};
use i_slint_backend_testing::{AccessibleRole, ElementHandle, ElementQuery, mock_elapsed_time};
use slint::ComponentHandle;
use slint::platform::Key;

use crate::bench::{Bench, community, message, settle};

#[test]
fn the_window_from_first_run_to_an_answer() {
    i_slint_backend_testing::init_integration_test_with_mock_time();
    let bench = Bench::open();
    founding(&bench);
    joining(&bench);
    rail_and_status(&bench);
    talking(&bench);
    long_history(&bench);
    asking(&bench);
    inviting(&bench);
    recovery_phrase(&bench);
    banner_and_about(&bench);
    everything_pressable_has_a_name(&bench);
    fast_updates_are_merged(bench);
}

fn founding(bench: &Bench) {
    bench.show(View::default());
    bench.write("What shall your friends call you?", "  Ana ");
    bench.press("Found the community");
    assert_eq!(bench.taken(), [], "a community without a name");
    assert_eq!(
        bench.one("Name of your community").accessible_description().as_deref(),
        Some("Please give your community a name.")
    );

    bench.write("Name of your community", "Lindenhof");
    bench.press("Found the community");
    let found = Intent::Found { name: "Ana".to_owned(), community: "Lindenhof".to_owned() };
    assert_eq!(bench.taken(), [found]);

    bench.show(View {
        screen: Screen::Onboarding(Onboarding { busy: true, ..Onboarding::default() }),
        ..View::default()
    });
    bench.press("One moment…");
    assert_eq!(bench.taken(), [], "while one is under way");
}

fn joining(bench: &Bench) {
    let problem = "This invite has expired.";
    bench.show(View {
        screen: Screen::Onboarding(Onboarding { problem: Some(problem.to_owned()), ..Onboarding::default() }),
        ..View::default()
    });
    assert!(bench.has(problem));
    bench.press("Join with an invite");
    bench.press("Join");
    assert_eq!(bench.taken(), [], "without an invite");
    bench.write("Your invite", "exo1ticket\n");
    bench.press("Join");
    let join = Intent::Join { name: "Ana".to_owned(), ticket: "exo1ticket".to_owned() };
    assert_eq!(bench.taken(), [join]);

    bench.show(View {
        screen: Screen::Joining(Joining { community: "Lindenhof".to_owned(), tries: 3, problem: None }),
        ..View::default()
    });
    assert!(bench.has(
        "Waiting for someone from Lindenhof to be online. Tried 3 times. You can close this window; it goes on next time."
    ));
    bench.press("Use another invite");
    assert_eq!(bench.taken(), [Intent::CancelJoin]);
}

fn rail_and_status(bench: &Bench) {
    bench.show(community());
    assert!(bench.has("Ben, member, online"));
    let roles = [
        (Role::Owner, "owner"),
        (Role::Admin, "admin"),
        (Role::Moderator, "moderator"),
        (Role::Member, "member"),
        (Role::Guest, "guest"),
        (Role::Keeper, "keeper"),
    ];
    for (role, word) in roles {
        let mut view = community();
        view.members[0].role = role;
        bench.show(view);
        assert!(bench.has(&format!("Ben, {word}, online")), "{word}");
    }
    bench.show(community());
    assert!(bench.has("bens-pc, direct · 12 ms, layers 0–2 of Exo Starter, 1.5 GiB offered"));
    assert!(bench.has("You are Ana. 1.171 WU"));
    assert!(bench.has("connected to 1 of 2 peers"));
    bench.show(View { connection: Connection { connected: 0, known: 2 }, ..community() });
    assert!(bench.has("offline – messages are kept and sent later"));
}

fn talking(bench: &Bench) {
    bench.show(community());
    assert!(bench.has("Ben, 14:02: Hello, Ana"));

    // The channel has the keyboard from the start.
    for blank in [" ", "\t"] {
        bench.write("Message to general", blank);
        bench.key(Key::Return);
        bench.press("Send message");
    }
    assert_eq!(bench.taken(), [], "blank messages");

    bench.write("Message to general", "");
    bench.with_held(Key::Control, "1");
    bench.key("H");
    bench.with_held(Key::Shift, Key::Return);
    bench.key("i");
    bench.key(Key::Return);
    let sent = Intent::SendMessage { text: "H\ni".to_owned() };
    assert_eq!(bench.taken(), [sent]);
    assert_eq!(bench.one("Message to general").accessible_value().as_deref(), Some(""));

    let too_long = "a".repeat(exo_ui::MESSAGE_CHARS_MAX + 1);
    bench.write("Message to general", &too_long);
    bench.press("Send message");
    assert_eq!(bench.taken(), [], "too long a message");
    assert!(bench.has("Too long: 4001 of 4000 characters"));
    bench.write("Message to general", "");

    let mut view = community();
    view.messages.push(message(2, "Ana", "Line\nnext"));
    bench.show(view);
    assert!(bench.has("Ana, 14:02: Line\nnext"));
}

fn long_history(bench: &Bench) {
    let all = MESSAGES_SHOWN_MAX + 10;
    let mut view = community();
    view.messages = (0..all).map(|n| message(n, "Ben", &format!("no {n}"))).collect();
    bench.show(view.clone());
    let label = |n: usize| format!("Ben, 14:02: no {n}");
    assert!(bench.has(&label(all - 1)), "the newest is in sight");

    // What arrives is followed, until the person scrolls away from the end.
    view.messages.push(message(all, "Ben", "a new one"));
    bench.show(view.clone());
    assert!(bench.has("Ben, 14:02: a new one"));
    // The first row stays, so that not every new message moves the list.
    let first = all - MESSAGES_PAGE;
    let earlier = MESSAGES_SHOWN_MAX - MESSAGES_PAGE;
    for _ in 0..MESSAGES_PAGE {
        bench.key(Key::PageUp);
    }
    bench.one(&format!("Show earlier messages ({})", earlier - 1));
    assert!(bench.has(&label(first)));
    view.messages.push(message(all + 1, "Ben", "one more"));
    bench.show(view);
    assert!(bench.has(&label(first)), "reading is not disturbed");
    assert!(!bench.has("Ben, 14:02: one more"));

    // Earlier ones appear above, and what is being read stays where it is.
    bench.press(&format!("Show earlier messages ({})", earlier - 2));
    assert!(bench.has(&label(first)));
    bench.key(Key::PageUp);
    assert!(bench.has(&label(first - 3)));
    bench.press("Newest messages");
    assert!(bench.has("Ben, 14:02: one more"));
    bench.show(community());
}

fn asking(bench: &Bench) {
    bench.write("Question for the model", "What is a peer?");
    bench.press("Ask");
    let ask = Intent::Ask { question: "What is a peer?".to_owned() };
    assert_eq!(bench.taken(), [ask]);

    let mut view = community();
    view.ask = AskView {
        model: "Exo Starter".to_owned(),
        question: "What is a peer?".to_owned(),
        state: AskState::Fetching { by: vec!["Ana".to_owned()], percent: 62 },
        ..AskView::default()
    };
    bench.show(view.clone());
    assert!(bench.has("Ana is fetching layers… 62 %"));
    assert_eq!(bench.one("Layers fetched").accessible_value().as_deref(), Some("62"));

    view.ask.state = AskState::Answering { by: vec!["Ben".to_owned(), "Chloe".to_owned()] };
    for word in ["A ", "peer ", "is ", "a machine."] {
        view.ask.answer.push_str(word);
        view.ask.tokens += 1;
        bench.show(view.clone());
        assert!(bench.has(&format!("Answer: {}", view.ask.answer)));
    }
    assert!(bench.has("Ben and Chloe are answering"));
    bench.press("Stop");
    assert_eq!(bench.taken(), [Intent::StopAsk]);

    view.ask.state = AskState::Finished;
    view.ask.served_by = vec!["Ben".to_owned()];
    view.ask.credits_spent = Some(1_024);
    bench.show(view);
    assert!(bench.has("4\u{a0}tokens · served by Ben · 1\u{a0}WU"));
    assert!(bench.has("The starter model knows only the handbook and can be wrong."));

    let mut view = community();
    view.ask.state = AskState::Unavailable { reason: "No machine is here that holds the model.".to_owned() };
    bench.show(view);
    assert!(bench.has("No machine is here that holds the model."));
    assert_eq!(bench.one("Question for the model").accessible_enabled(), Some(false));
}

fn inviting(bench: &Bench) {
    bench.show(community());
    bench.press("Invite someone");
    assert_eq!(bench.taken(), [Intent::CreateInvite]);
    assert!(bench.has("The invite is being prepared"));
    bench.show(View { ticket: Some("exo1ticket".to_owned()), ..community() });
    assert!(bench.has("Invite: exo1ticket"));
    bench.press("Copy the invite");
    assert!(bench.has("Copied. Now paste it into a message or a mail."));
    // What lies under a dialog rests.
    assert_eq!(bench.one("About Exo-Studio").accessible_enabled(), Some(false));
    bench.key(Key::Escape);
    assert_eq!(bench.taken(), [Intent::CloseInvite]);
    assert!(!bench.has("Invite: exo1ticket"));
}

/// The words stay within reach until the person has them; then they go.
fn recovery_phrase(bench: &Bench) {
    let words: Vec<String> = (1..=24).map(|number| format!("word{number}")).collect();
    let reminder = "Should this device be lost, 24 words get you back in. Only this device has them so far.";
    let shown = format!("Recovery phrase: {}", words.join(" "));
    bench.show(community());
    assert!(!bench.has(reminder), "nothing to remind of");

    let view = View { recovery_words: words, ..community() };
    bench.show(view.clone());
    assert!(bench.has(reminder));
    assert!(!bench.has(&shown), "not for everyone who passes by");
    bench.press("Write them down…");
    assert!(bench.has(&shown));
    bench.press("Copy the words");
    assert!(bench.has("Copied. Paste them into a password manager, not into a message."));
    bench.key(Key::Escape);
    assert_eq!(bench.taken(), [], "looking is not having");
    bench.show(view);
    assert!(bench.has(reminder) && !bench.has(&shown));

    bench.press("Write them down…");
    bench.press("I have written them down");
    assert_eq!(bench.taken(), [Intent::ForgetPhrase]);
    assert!(!bench.has(&shown));
    bench.show(community());
    assert!(!bench.has(reminder));
}

fn banner_and_about(bench: &Bench) {
    let mut view = community();
    view.banner = Some(Banner { text: "The disk is full.".to_owned(), ..Banner::default() });
    view.about.data_folder = "~/data".to_owned();
    view.about.version = "1.2.3".to_owned();
    bench.show(view);
    assert!(bench.has("The disk is full."));
    bench.press("Dismiss this notice");
    assert_eq!(bench.taken(), [Intent::DismissBanner]);

    bench.key(Key::F1);
    assert!(bench.has("About Exo-Studio"));
    assert!(bench.has("Exo-Studio 1.2.3"));
    assert!(bench.has("Data folder: ~/data"));
    assert!(bench.has("#MadeWithSlint"));
    bench.press("Close this page");
    assert!(!bench.has("Exo-Studio 1.2.3"));
}

fn everything_pressable_has_a_name(bench: &Bench) {
    for screen in [Screen::default(), Screen::Joining(Joining::default()), Screen::Main] {
        bench.show(View { screen, ..community() });
        for role in [
            AccessibleRole::Button,
            AccessibleRole::TextInput,
            AccessibleRole::RadioButton,
            AccessibleRole::Tab,
            AccessibleRole::ListItem,
        ] {
            let found = ElementQuery::from_root(testing::component(&bench.window))
                .match_accessible_role(role)
                .find_all();
            for element in found {
                let label = element.accessible_label().unwrap_or_default();
                assert!(!label.is_empty(), "{role:?} without a name: {:?}", element.id());
            }
        }
    }
}

fn fast_updates_are_merged(bench: Bench) {
    const TOKENS: usize = 200;
    let handle = bench.window.handle();
    let probe = testing::probe(&bench.window);
    let component = testing::component(&bench.window).clone_strong();
    let before = probe.applied();

    let sender = handle.clone();
    let peer = std::thread::spawn(move || {
        let mut view = community();
        view.ask.question = "Count".to_owned();
        for token in 0..TOKENS {
            view.ask.answer = format!("{token} of {TOKENS}");
            sender.update(view.clone()).expect("the window is open");
            std::thread::sleep(Duration::from_millis(1));
            slint::invoke_from_event_loop(|| mock_elapsed_time(Duration::from_millis(1)))
                .expect("the event loop runs");
        }
        // Longer than any view may wait.
        slint::invoke_from_event_loop(settle).expect("the event loop runs");
        sender.close();
    });
    bench.window.run().expect("the window ran");
    peer.join().expect("the peer thread ends");

    let shown = probe.applied() - before;
    assert!((2..100).contains(&shown), "{shown} views were shown");
    let last = format!("Answer: {} of {TOKENS}", TOKENS - 1);
    settle();
    component.show().expect("shows");
    settle();
    assert_eq!(
        ElementHandle::find_by_accessible_label(&component, &last).count(),
        1,
        "the newest view is the one shown"
    );
}
