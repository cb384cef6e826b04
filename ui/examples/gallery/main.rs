//! The window filled with sample data, to look at and to play with:
//!
//! ```text
//! cargo run -p exo-ui --example gallery -- [PAGE] [--dark|--light]
//!     [--size 1100x720] [--snapshot FILE.ppm] [--press KEYS]
//! ```
//!
//! Pages: `onboarding`, `problem`, `joining`, `main`, `empty`, `fetching`,
//! `answering`, `banner`, `phrase`, `strange` (names and texts in many scripts), `long` (a
//! long history). Nothing is stored and nobody is asked: a thread plays the part
//! of the program. `--press` types into the window first, in the notation of
//! [`keys`].

// It is a program for a terminal, not the library.
#![allow(clippy::print_stderr)]

mod player;
mod sample;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use exo_ui::{Appearance, Window, WindowError, testing};
use slint::ComponentHandle as _;
use slint::platform::{Key, WindowEvent};

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
    let mut view = sample::view(&options.page);
    view.appearance = options.appearance;
    window.show(view.clone());
    let component = testing::component(&window);
    let (width, height) = options.size;
    component.window().set_size(slint::LogicalSize::new(width, height));

    let handle = window.handle();
    std::thread::spawn(move || player::play(&handle, view, &inbox));

    let weak = component.as_weak();
    slint::Timer::single_shot(Duration::from_millis(500), move || {
        let Some(component) = weak.upgrade() else {
            return;
        };
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
    writeln!(file, "P6 {} {} 255", pixels.width(), pixels.height())?;
    for pixel in pixels.as_slice() {
        file.write_all(&[pixel.r, pixel.g, pixel.b])?;
    }
    Ok(file.flush()?)
}
