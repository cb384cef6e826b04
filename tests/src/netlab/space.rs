//! Network namespaces: making, wiring and removing them.
//!
//! Everything is done by `ip` of iproute2. Interfaces are made inside of
//! namespaces, never in the machine's own.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the name of every namespace of a lab begins with.
const PREFIX: &str = "exolab";
/// Where iproute2 keeps namespaces that have a name.
const NAMED: &str = "/var/run/netns";

/// Labs of this process so far.
static LABS: AtomicU32 = AtomicU32::new(0);

/// What a lab needs and this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Namespaces belong to the administrator.
    #[error("namespaces need root")]
    Root,
    /// A program that is not installed.
    #[error("the program \"{0}\" is not installed")]
    Program(&'static str),
    /// The kernel, or a container around us, refuses.
    #[error("this machine makes no namespaces: {0}")]
    Refused(String),
}

/// Namespaces that belong together.
pub struct Lab {
    tag: String,
    spaces: RefCell<Vec<Space>>,
}

/// One network namespace: a machine of the lab, as far as networks go.
#[derive(Clone, Debug)]
pub struct Space {
    name: String,
}

impl Lab {
    /// An empty lab on a machine that has all of `programs`.
    ///
    /// # Errors
    /// What is missing here.
    pub fn open(programs: &[&'static str]) -> Result<Self, Missing> {
        if !rustix::process::geteuid().is_root() {
            return Err(Missing::Root);
        }
        for program in std::iter::once(&"ip").chain(programs) {
            let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if found.is_err() {
                return Err(Missing::Program(program));
            }
        }
        remove_leftovers();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab =
            Self { tag: format!("{PREFIX}-{}-{number}", std::process::id()), spaces: RefCell::default() };
        lab.try_space("first").map_err(Missing::Refused)?;
        Ok(lab)
    }

    /// A namespace with nothing in it but loopback.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn space(&self, label: &str) -> Space {
        self.try_space(label).unwrap_or_else(|error| panic!("{label}: {error}"))
    }

    fn try_space(&self, label: &str) -> Result<Space, String> {
        let space = Space { name: format!("{}-{label}", self.tag) };
        run("ip", &["netns", "add", &space.name])?;
        self.spaces.borrow_mut().push(space.clone());
        run("ip", &["-n", &space.name, "link", "set", "lo", "up"])?;
        Ok(space)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in self.spaces.borrow().iter() {
            remove(&space.name);
        }
    }
}

impl Space {
    /// Runs `ip` on this namespace, for example `["link", "set", "wan", "up"]`.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, words: &[&str]) {
        let all: Vec<&str> = ["-n", &self.name].iter().chain(words).copied().collect();
        run("ip", &all).unwrap_or_else(|error| panic!("ip {}: {error}", all.join(" ")));
    }

    /// A cable: an interface here and one in another namespace.
    pub fn cable(&self, here: &str, other: &Self, there: &str) {
        self.ip(&["link", "add", here, "type", "veth", "peer", "name", there, "netns", &other.name]);
        self.ip(&["link", "set", here, "up"]);
        other.ip(&["link", "set", there, "up"]);
    }

    /// A switch, which interfaces are plugged into.
    pub fn switch(&self, name: &str) {
        self.ip(&["link", "add", name, "type", "bridge"]);
        self.ip(&["link", "set", name, "up"]);
    }

    /// A cable from a switch here to an interface of another namespace. The end
    /// here is called `port`.
    pub fn plug(&self, switch: &str, port: &str, other: &Self, there: &str) {
        self.cable(port, other, there);
        self.ip(&["link", "set", port, "master", switch]);
    }

    /// Gives an interface an address, with the length of its network.
    pub fn address(&self, interface: &str, address: Ipv4Addr, bits: u8) {
        self.ip(&["addr", "add", &format!("{address}/{bits}"), "dev", interface]);
    }

    /// Sends everything without a better way to `router`.
    pub fn default_route(&self, router: Ipv4Addr) {
        self.ip(&["route", "replace", "default", "via", &router.to_string()]);
    }

    /// Makes the namespace pass packets on between its interfaces.
    ///
    /// # Panics
    /// When the kernel does not let us.
    pub fn forward(&self) {
        // This file is about the namespace of the thread that opens it.
        let written = self.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"));
        written.expect("forwarding is switched on");
    }

    /// Loads rules of nftables.
    ///
    /// # Panics
    /// When they are refused.
    pub fn rules(&self, script: &str) {
        let words = ["netns", "exec", &self.name, "nft", script];
        run("ip", &words).unwrap_or_else(|error| panic!("nft in {}: {error}", self.name));
    }

    /// Bytes that an interface has sent and received.
    ///
    /// # Panics
    /// Without such an interface.
    pub fn bytes(&self, interface: &str) -> u64 {
        let table = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev")).expect("readable");
        let line = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
        let numbers: Vec<u64> =
            line.expect("an interface").split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        // Received bytes are the first number, sent ones the ninth.
        numbers[0] + numbers[8]
    }

    /// A program that will run here.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Does something on a thread of its own that is in this namespace: sockets
    /// and devices opened there belong to it for good.
    ///
    /// # Panics
    /// When the thread cannot get in, and when `work` panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let place = std::fs::File::open(Path::new(NAMED).join(&self.name)).expect("the namespace is there");
        let entered = move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(place.as_fd(), network).expect("root may enter namespaces");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// Removes what runs of this test that were killed left behind.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(NAMED) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let mut parts = name.split('-');
        let owner = (parts.next() == Some(PREFIX)).then(|| parts.next()?.parse::<u32>().ok()).flatten();
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists()) {
            remove(&name);
        }
    }
}

/// Ends whatever runs in a namespace of a lab and removes it with its
/// interfaces.
fn remove(name: &str) {
    let listed = Command::new("ip").args(["netns", "pids", name]).output();
    let pids = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for pid in
        pids.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let _ = run("ip", &["netns", "del", name]);
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
