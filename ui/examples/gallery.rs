//! The window filled with sample data, to look at and to play with:
//!
//! ```text
//! cargo run -p exo-ui --example gallery -- [PAGE] [--dark|--light]
//!     [--size 1100x720] [--snapshot FILE.ppm] [--press KEYS]
//! ```
//!
//! Pages: `onboarding`, `problem`, `joining`, `main`, `empty`, `fetching`,
//! `answering`, `banner`, `strange` (names and texts in many scripts), `long` (a
//! long history). Nothing is stored and nobody is asked: a thread plays the part
//! of the program. `--press` types into the window first, in the notation of
//! [`keys`].

// It is a program for a terminal, not the library.
#![allow(clippy::print_stderr)]

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use exo_ui::{
    About, Appearance, AskState, AskView, Banner, Connection, HostedLayers, Intent, Joining, Me,
    MemberRow, MessageRow, Onboarding, PeerPath, PeerRow, Role, Screen, Severity, View, Window,
    WindowError, WindowHandle, testing,
};
use slint::ComponentHandle as _;
use slint::platform::{Key, WindowEvent};

const ANSWER: &str = "You share memory in the rail on the left: choose your machine, switch \
    “Share this computer” on and set how much memory the others may use. You can switch it off at \
    any moment; running answers move to another machine and go on there.\n\nWhat you share earns \
    credits, and asking spends them.";

/// What was asked for on the command line.
struct Options {
    page: String,
    appearance: Appearance,
    size: (f32, f32),
    snapshot: Option<String>,
    press: String,
}

fn options() -> Option<Options> {
    let mut options = Options {
        page: "main".to_owned(),
        appearance: Appearance::System,
        size: (1100.0, 720.0),
        snapshot: None,
        press: String::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--dark" => options.appearance = Appearance::Dark,
            "--light" => options.appearance = Appearance::Light,
            "--snapshot" => options.snapshot = Some(arguments.next()?),
            "--press" => options.press = arguments.next()?,
            "--size" => {
                let size = arguments.next()?;
                let (width, height) = size.split_once('x')?;
                options.size = (width.parse().ok()?, height.parse().ok()?);
            }
            page => options.page = page.to_owned(),
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: gallery [PAGE] [--dark|--light] [--size WxH] [--snapshot FILE.ppm]");
        return ExitCode::from(2);
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gallery: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> Result<(), WindowError> {
    let (wishes, inbox) = mpsc::channel();
    let window = Window::open(move |intent| {
        // The player thread is gone only while the program ends.
        let _ = wishes.send(intent);
    })?;
    let mut view = sample(&options.page);
    view.appearance = options.appearance;
    window.show(view.clone());
    let component = testing::component(&window);
    let (width, height) = options.size;
    component.window().set_size(slint::LogicalSize::new(width, height));

    let handle = window.handle();
    std::thread::spawn(move || play(&handle, view, &inbox));

    let weak = component.as_weak();
    slint::Timer::single_shot(Duration::from_millis(500), move || {
        let Some(component) = weak.upgrade() else { return };
        keys(component.window(), &options.press);
        let Some(path) = options.snapshot else { return };
        slint::Timer::single_shot(Duration::from_millis(900), move || {
            if let Err(error) = snapshot(component.window(), &path) {
                eprintln!("gallery: {error}");
            }
            let _ = slint::quit_event_loop();
        });
    });
    window.run()
}

/// Types `text`: `<tab>`, `<esc>`, `<enter>`, `<pgup>`, `<f1>`, `<c-2>` are keys.
fn keys(window: &slint::Window, text: &str) {
    let press = |key: slint::SharedString| {
        window.dispatch_event(WindowEvent::KeyPressed { text: key.clone() });
        window.dispatch_event(WindowEvent::KeyReleased { text: key });
    };
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let named = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let Some((name, after)) = named else {
            press(first.into());
            rest = &rest[first.len_utf8()..];
            continue;
        };
        rest = after;
        match name {
            "tab" => press(Key::Tab.into()),
            "esc" => press(Key::Escape.into()),
            "enter" => press(Key::Return.into()),
            "pgup" => press(Key::PageUp.into()),
            "f1" => press(Key::F1.into()),
            _ => {
                let control = slint::SharedString::from(Key::Control);
                window.dispatch_event(WindowEvent::KeyPressed { text: control.clone() });
                press(name.trim_start_matches("c-").into());
                window.dispatch_event(WindowEvent::KeyReleased { text: control });
            }
        }
    }
}

/// Writes what is on screen as a PPM picture, which needs no library.
fn snapshot(window: &slint::Window, path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let pixels = window.take_snapshot()?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    write!(file, "P6 {} {} 255\n", pixels.width(), pixels.height())?;
    for pixel in pixels.as_slice() {
        file.write_all(&[pixel.r, pixel.g, pixel.b])?;
    }
    Ok(file.flush()?)
}

/// Plays the program: answers intents until the window is gone.
fn play(handle: &WindowHandle, mut view: View, inbox: &mpsc::Receiver<Intent>) {
    while let Ok(intent) = inbox.recv() {
        match intent {
            Intent::Found { name, community } => {
                let appearance = view.appearance;
                view = sample("empty");
                view.appearance = appearance;
                view.me.name = name;
                view.community = community;
            }
            Intent::Join { name, .. } => {
                view.me.name = name;
                view.screen = sample("joining").screen;
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
            Intent::DismissBanner => view.banner = None,
            _ => return,
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

const TICKET: &str = "exo1q9f4kz7m2x0h6wd3n8t5r7yvc4l2s0aj9g8e6u3p5q7k9f4z7m2x0h6wd3n8t5r7yvc4l2s0\
    aj9g8e6u3p5q7k9f4z7m2x0h6wd3n8t5r7yvc4l2s0aj9g8e6u3p5";

fn message(id: &str, author: &str, time: &str, day: &str, text: &str) -> MessageRow {
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
    MemberRow {
        id: name.to_owned(),
        name: name.to_owned(),
        role,
        online,
        me: name.starts_with("Ana"),
    }
}

fn peer(name: &str, path: PeerPath, layers: Option<(u32, u32)>, offered_mib: u64) -> PeerRow {
    PeerRow {
        id: name.to_owned(),
        name: name.to_owned(),
        path,
        layers: layers.map(|(first, last)| HostedLayers {
            first,
            last,
            model: "Exo Starter".to_owned(),
        }),
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
            member("Ben", Role::Member, true),
            member("Chloe Martin", Role::Member, true),
            member("Grandma Ilse", Role::Member, false),
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
            data_folder: "/home/ana/.local/share/exo-studio".to_owned(),
        },
        ..View::default()
    }
}

fn sample(page: &str) -> View {
    let mut view = community();
    match page {
        "onboarding" | "problem" => {
            view.screen = Screen::Onboarding(Onboarding {
                suggested_name: "Ana".to_owned(),
                busy: false,
                problem: (page == "problem").then(|| {
                    "This invite has expired. Ask the person who sent it for a new one.".to_owned()
                }),
            });
        }
        "joining" => {
            view.screen = Screen::Joining(Joining {
                community: view.community.clone(),
                tries: 3,
                problem: None,
            });
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
            view.ask.state = AskState::Fetching { from: vec!["Ana".to_owned()], percent: 62 };
        }
        "answering" => {
            view.ask.state = AskState::Answering { by: vec!["Ben".to_owned(), "Chloe".to_owned()] };
            view.ask.answer.truncate(180);
        }
        "banner" => {
            view.connection.connected = 0;
            view.banner = Some(Banner {
                severity: Severity::Error,
                text: "The disk is full: messages are shown but not kept. Free some space, then write again.".to_owned(),
            });
            view.ask.state = AskState::Failed {
                reason: "Chloe's machine left and no other holds its layers.".to_owned(),
            };
        }
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
        message("s1", "王小明", "14:20", "Today", "大家好！我们今晚一起运行模型吧。我的电脑会一直开着，你们可以用它的内存。"),
        message("s2", "ليلى بنت أحمد", "14:21", "Today", "مرحبا بالجميع! هل يمكنني الانضمام بحاسوبي القديم؟"),
        message("s3", "🦊🦊🦊", "14:22", "Today", "👩‍👩‍👧‍👦 🏳️‍🌈 ❤️ ok"),
        message("s4", "Wolfeschlegelsteinhausenbergerdorff", "14:23", "Today", &url),
        message("s5", "Ana Berger", "14:24", "Today", "Line one\nLine two\n\nLine four"),
    ]);
}
