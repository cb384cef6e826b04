//! Sample data: a family, its machines, and names that break careless layouts.

use exo_ui::{
    About, AskState, AskView, Banner, Connection, HostedLayers, Joining, Me, MemberRow, MessageRow,
    Onboarding, PeerPath, PeerRow, Role, Screen, Severity, View,
};

/// What the sample model answers.
pub(crate) const ANSWER: &str = "You share memory in the rail on the left: choose your machine, switch \
    “Share this computer” on and set how much memory the others may use. You can switch it off at \
    any moment; running answers move to another machine and go on there.\n\nWhat you share earns \
    credits, and asking spends them.";

/// What a sample invite looks like.
pub(crate) const TICKET: &str = "exo1q9f4kz7m2x0h6wd3n8t5r7yvc4l2s0aj9g8e6u3p5q7k9f4z7m2x0h6wd3n8t5r7yvc4l2s0\
    aj9g8e6u3p5q7k9f4z7m2x0h6wd3n8t5r7yvc4l2s0aj9g8e6u3p5";

/// A recovery phrase that opens nothing.
pub(crate) fn recovery_words() -> Vec<String> {
    let words = "ladder umbrella meadow lantern gravity orchard kitchen velvet harvest puzzle cradle window \
                 timber castle winter sponsor rhythm glacier saddle morning copper whisper anchor bicycle";
    words.split(' ').map(str::to_owned).collect()
}

/// One message; Ana is the person in front of the window.
pub(crate) fn message(id: &str, author: &str, time: &str, day: &str, text: &str) -> MessageRow {
    MessageRow {
        id: id.to_owned(),
        author: author.to_owned(),
        time: time.to_owned(),
        day: day.to_owned(),
        text: text.to_owned(),
        mine: author.starts_with("Ana"),
    }
}

fn member(name: &str, role: Role, online: bool) -> MemberRow {
    MemberRow { id: name.to_owned(), name: name.to_owned(), role, online, me: name.starts_with("Ana") }
}

fn peer(name: &str, path: PeerPath, layers: Option<(u32, u32)>, offered_mib: u64) -> PeerRow {
    PeerRow {
        id: name.to_owned(),
        name: name.to_owned(),
        path,
        layers: layers.map(|(first, last)| HostedLayers { first, last, model: "Exo Starter".to_owned() }),
        offered_mib: Some(offered_mib),
    }
}

/// The community that most pages show.
fn community() -> View {
    View {
        screen: Screen::Main,
        community: "Lindenhof family".to_owned(),
        channel: "general".to_owned(),
        me: Me {
            name: "Ana Berger".to_owned(),
            role: Role::Owner,
            credits: Some(12_480),
        },
        members: vec![
            member("Ana Berger", Role::Owner, true),
            member("Ben", Role::Admin, true),
            member("Chloe Martin", Role::Moderator, true),
            member("Grandma Ilse", Role::Member, false),
            member("Emil", Role::Guest, true),
            member("Attic box", Role::Keeper, true),
        ],
        peers: vec![
            peer("ana-laptop", PeerPath::ThisMachine, Some((0, 1)), 2_048),
            peer("bens-pc", PeerPath::Direct { rtt_ms: Some(12) }, Some((2, 2)), 8_192),
            peer("chloe-mini", PeerPath::Direct { rtt_ms: Some(31) }, Some((3, 3)), 512),
            peer("ilse-tablet", PeerPath::Offline, None, 256),
        ],
        messages: vec![
            message("1", "Ben", "19:12", "Yesterday", "Good evening! My PC stays on tonight, so you can use its memory for the model."),
            message("2", "Ana Berger", "19:15", "Yesterday", "Wonderful, thank you."),
            message("3", "Chloe Martin", "14:02", "Today", "I added the little machine from the attic. It is slow, but it is quiet and always there."),
            message("4", "Chloe Martin", "14:03", "Today", "512 MiB, if that helps."),
            message("5", "Ana Berger", "14:09", "Today", "It does! Every layer counts. I just asked how to share more memory and the answer came from all three of us."),
            message("6", "Ben", "14:11", "Today", "👍"),
        ],
        ask: AskView {
            model: "Exo Starter".to_owned(),
            state: AskState::Finished,
            question: "How do I share more memory?".to_owned(),
            answer: ANSWER.to_owned(),
            tokens: 74,
            tokens_per_second: Some(48.2),
            served_by: vec!["Ben".to_owned(), "Chloe".to_owned()],
            credits_spent: Some(3),
        },
        connection: Connection { connected: 2, known: 3 },
        about: About {
            version: "0.1.0".to_owned(),
            licences: "Exo-Studio is free software under the MIT or the Apache 2.0 licence, as you like.\n\nThe window is made with Slint under its royalty-free licence. The other parts and their licences are listed in the file LICENSES beside the program.".to_owned(),
            data_folder: "~/.local/share/exo-studio".to_owned(),
        },
        ..View::default()
    }
}

/// The view of one page of the gallery.
pub(crate) fn view(page: &str) -> View {
    let mut view = community();
    match page {
        "onboarding" | "problem" => {
            view.screen = Screen::Onboarding(Onboarding {
                suggested_name: "Ana".to_owned(),
                busy: false,
                problem: (page == "problem")
                    .then(|| "This invite has expired. Ask the person who sent it for a new one.".to_owned()),
            });
        }
        "joining" => {
            view.screen =
                Screen::Joining(Joining { community: view.community.clone(), tries: 3, problem: None });
        }
        "empty" => {
            view.members.truncate(1);
            view.peers.truncate(1);
            view.messages.clear();
            view.ask = AskView { model: "Exo Starter".to_owned(), ..AskView::default() };
            view.connection = Connection::default();
        }
        "fetching" => {
            view.ask.answer.clear();
            view.ask.tokens = 0;
            view.ask.tokens_per_second = None;
            view.ask.served_by.clear();
            view.ask.credits_spent = None;
            view.ask.state = AskState::Fetching { by: vec!["Ana".to_owned()], percent: 62 };
        }
        "answering" => {
            view.ask.state = AskState::Answering { by: vec!["Ben".to_owned(), "Chloe".to_owned()] };
            view.ask.answer.truncate(180);
        }
        "banner" => {
            view.connection.connected = 0;
            view.banner = Some(Banner {
                severity: Severity::Error,
                text: "The disk is full: messages are shown but not kept. Free some space, then write again."
                    .to_owned(),
            });
            view.ask.state =
                AskState::Failed { reason: "Chloe's machine left and no other holds its layers.".to_owned() };
        }
        "phrase" => view.recovery_words = recovery_words(),
        "strange" => strange(&mut view),
        "long" => {
            view.messages = (0..2_500)
                .map(|n| {
                    let author = if n % 3 == 0 { "Ana Berger" } else { "Ben" };
                    let text = format!("Message number {n}. {}", "Some more words. ".repeat(n % 9));
                    message(&n.to_string(), author, "10:00", "Today", &text)
                })
                .collect();
        }
        _ => {}
    }
    view
}

/// Names and texts that break careless layouts.
fn strange(view: &mut View) {
    view.community = "Die unglaublich weitverzweigte Familie von der Lindenhofstraße".to_owned();
    view.me.name = "Ana-Katharina von und zu Bergerhausen-Wittelsbach".to_owned();
    view.members.extend([
        member("王小明", Role::Member, true),
        member("ليلى بنت أحمد", Role::Member, true),
        member("🦊🦊🦊", Role::Member, false),
        member("Wolfeschlegelsteinhausenbergerdorff", Role::Owner, true),
    ]);
    view.peers.push(peer(
        "a-machine-with-a-name-that-never-ends.lindenhof.example",
        PeerPath::Relayed { rtt_ms: Some(1_234) },
        Some((0, 127)),
        1_048_576,
    ));
    let url = format!("https://example.org/{}", "averylongpath".repeat(14));
    view.messages.extend([
        message(
            "s1",
            "王小明",
            "14:20",
            "Today",
            "大家好！我们今晚一起运行模型吧。我的电脑会一直开着，你们可以用它的内存。",
        ),
        message("s2", "ليلى بنت أحمد", "14:21", "Today", "مرحبا بالجميع! هل يمكنني الانضمام بحاسوبي القديم؟"),
        message("s3", "🦊🦊🦊", "14:22", "Today", "👩‍👩‍👧‍👦 🏳️‍🌈 ❤️ ok"),
        message("s4", "Wolfeschlegelsteinhausenbergerdorff", "14:23", "Today", &url),
        message("s5", "Ana Berger", "14:24", "Today", "Line one\nLine two\n\nLine four"),
    ]);
}
