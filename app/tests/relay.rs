//! `exo-studio relay` as whoever runs one meets it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use exo_model::charter::Relay;
use exo_model::id::CertificatePin;

fn program(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo-studio"));
    command.args(["relay", "--hostname", "127.0.0.1", "--https", "127.0.0.1:0", "--data"]).arg(data);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A relay; killed, not ended, when dropped.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(data: &Path) -> Self {
        let mut child = program(data).spawn().expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }

    /// What is left of the next line behind its first word.
    fn read(&mut self, word: &str) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.strip_prefix(word).unwrap_or_else(|| panic!("{line:?}")).trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_relay_says_what_to_give_to_friends_and_stops_when_told() {
    let data = tempfile::tempdir().expect("temporary folder");
    let mut relay = Running::start(data.path());
    let url = relay.read("relay");
    let pin: CertificatePin = relay.read("pin").parse().expect("a pin");
    let entry = Relay::new(&url, Some(pin)).expect("an entry");
    assert_eq!(entry.url, url, "in the form that the charter takes");
    TcpStream::connect(url.trim_start_matches("https://")).expect("something listens there");
    drop(relay);

    let mut again = Running::start(data.path());
    again.read("relay");
    assert_eq!(again.read("pin").parse(), Ok(pin), "the same certificate");
    if cfg!(unix) {
        let id = again.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
        assert!(again.child.wait().expect("ends").success());
        let mut rest = String::new();
        again.output.read_to_string(&mut rest).expect("text");
        assert!(rest.ends_with("stopping\n"), "{rest}");
    }
}

#[test]
fn a_relay_that_cannot_run_says_what_to_do() {
    let data = tempfile::tempdir().expect("temporary folder");
    let says = |args: &[&str]| {
        let output = program(data.path()).args(args).output().expect("runs");
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let friends = data.path().join("friends.txt");
    let path = friends.to_str().expect("text");
    assert!(says(&["--allow", path]).contains("friends.txt"));
    std::fs::write(&friends, "Ana's laptop\n").expect("written");
    assert!(says(&["--allow", path]).contains("line 1: not a device id"));
    assert!(says(&["--rate", "1B"]).contains("bytes a second"));
    assert!(says(&["--rate", "8GiB"]).contains("--rate"));
    assert!(says(&["--most", "0"]).contains("--most"));
    assert!(says(&["--cert", path]).contains("--key"));
    assert!(says(&["--no-tls"]).contains("--http"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("free");
    let address = taken.local_addr().expect("bound").to_string();
    assert!(says(&["--metrics", &address]).contains("choose another address"));
}
