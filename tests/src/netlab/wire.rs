//! A wire that is slow and loses packets, between two namespaces.
//!
//! Many kernels are built without `netem`. So each end is a TUN device, and a
//! thread for each direction carries packets from one to the other: it holds
//! each for the delay and drops a share of them. Packets stay in order.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::ioctl::{Setter, ioctl, opcode};

use super::{Dice, Space};

/// Packets that may be under way in one direction; further ones are lost, as
/// in a router whose queue is full.
const UNDER_WAY_MAX: usize = 4_096;
/// Longest packet taken, in bytes.
const PACKET_BYTES_MAX: usize = 2_048;
/// Longest sleep of a carrier, so that it notices the end.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// Silence after which the probe takes a packet for lost.
const PROBE_WAIT: Duration = Duration::from_millis(400);
/// Pause between packets of the probe, so that no queue drops one.
const PROBE_PAUSE: Duration = Duration::from_micros(300);
/// A TUN device without a header before each packet.
const IFF_TUN_WITHOUT_HEADER: u16 = 0x0001 | 0x1000;
/// Longest name of an interface, with the zero behind it.
const NAME_BYTES_MAX: usize = 16;

/// What a wire does to packets.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// How long a packet takes, one way.
    pub delay: Duration,
    /// Up to this much longer, at random.
    pub jitter: Duration,
    /// Packets of a thousand that are lost, at random, each way.
    pub loss_per_mille: u64,
    /// For what is random.
    pub seed: u64,
}

/// Packets that a wire met.
#[derive(Debug, Default)]
struct Counts {
    carried: AtomicU64,
    lost: AtomicU64,
}

/// The wire. It carries until it is dropped.
pub struct SlowWire {
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

/// An end: in which namespace, under which name, with which address.
pub type End<'a> = (&'a Space, &'a str, Ipv4Addr);

impl SlowWire {
    /// Lays a wire between two namespaces; each end has an address in the same
    /// network of 24 bits.
    ///
    /// # Panics
    /// When a device cannot be made.
    pub fn between(one: End<'_>, other: End<'_>, quality: Quality) -> Self {
        let (counts, over) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
        let (left, right) = (open_end(one), open_end(other));
        let clone = |file: &File| file.try_clone().expect("another handle");
        let ways = [(clone(&left), clone(&right), 1), (right, left, 2)];
        let carriers = ways.map(|(from, to, way)| {
            let (counts, over) = (counts.clone(), over.clone());
            let carrier = Carrier {
                from,
                to,
                quality,
                dice: Dice::new(quality.seed ^ way),
                under_way: VecDeque::new(),
            };
            std::thread::Builder::new().name("wire".into()).spawn(move || carrier.run(&counts, &over))
        });
        let carriers = carriers.map(|carrier| carrier.expect("a thread")).into();
        Self { counts, over, carriers }
    }

    /// Packets that were carried and that were lost, both ways together.
    pub fn packets(&self) -> (u64, u64) {
        (self.counts.carried.load(Ordering::Relaxed), self.counts.lost.load(Ordering::Relaxed))
    }
}

impl Drop for SlowWire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            let _ = carrier.join();
        }
    }
}

/// What packets show of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Packets sent.
    pub sent: u32,
    /// Packets that arrived.
    pub arrived: u32,
    /// The shortest way of one.
    pub fastest: Duration,
}

/// Sends packets from one end to the other and looks what becomes of them.
///
/// # Panics
/// When none arrives.
pub fn probe(from: End<'_>, to: End<'_>, sent: u32) -> Seen {
    let bind = |end: End<'_>| end.0.inside(|| UdpSocket::bind((end.2, 0))).expect("a free port");
    let (sender, receiver) = (bind(from), bind(to));
    receiver.set_read_timeout(Some(PROBE_WAIT)).expect("a deadline");
    let address = receiver.local_addr().expect("bound");
    let start = Instant::now();
    let (mut arrived, mut fastest, mut packet) = (0, Duration::MAX, [0; 8]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..sent {
                let left_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(0);
                sender.send_to(&left_us.to_be_bytes(), address).expect("sent");
                std::thread::sleep(PROBE_PAUSE);
            }
        });
        while receiver.recv(&mut packet).is_ok() {
            let left = Duration::from_micros(u64::from_be_bytes(packet));
            arrived += 1;
            fastest = fastest.min(start.elapsed().saturating_sub(left));
        }
    });
    assert!(arrived > 0, "nothing arrives");
    Seen { sent, arrived, fastest }
}

/// One direction.
struct Carrier {
    from: File,
    to: File,
    quality: Quality,
    dice: Dice,
    /// When each arrives, in order.
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Carrier {
    fn run(mut self, counts: &Counts, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let now = Instant::now();
            let due = self.under_way.front().map(|(at, _)| at.saturating_duration_since(now));
            let pause = Timespec::try_from(due.unwrap_or(SLEEP_MAX).min(SLEEP_MAX)).ok();
            let _ = poll(&mut [PollFd::new(&self.from, PollFlags::IN)], pause.as_ref());
            self.take(counts);
            self.deliver();
        }
    }

    /// Takes what has come.
    fn take(&mut self, counts: &Counts) {
        let mut packet = [0; PACKET_BYTES_MAX];
        while let Ok(length) = self.from.read(&mut packet) {
            let is_lost = self.dice.below(1_000) < self.quality.loss_per_mille;
            if is_lost || self.under_way.len() >= UNDER_WAY_MAX {
                counts.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let jitter_us = u64::try_from(self.quality.jitter.as_micros()).unwrap_or(0);
            let jitter = Duration::from_micros(self.dice.below(jitter_us));
            let at = Instant::now() + self.quality.delay + jitter;
            let at = self.under_way.back().map_or(at, |(before, _)| at.max(*before));
            self.under_way.push_back((at, packet[..length].to_vec()));
            counts.carried.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands over what is due. A device that is down takes nothing.
    fn deliver(&mut self) {
        let now = Instant::now();
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, packet)) = self.under_way.pop_front() else { return };
            let _ = self.to.write(&packet);
        }
    }
}

/// `struct ifreq` of the kernel, as far as making a device goes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES_MAX],
    flags: u16,
    unused: [u8; 22],
}

fn open_end((space, name, address): End<'_>) -> File {
    let file = space.inside(|| open_device(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    space.address(name, address, 24);
    // Losing packets is the wire's part.
    space.ip(&["link", "set", name, "txqueuelen", &UNDER_WAY_MAX.to_string(), "up"]);
    file
}

/// Makes a TUN device in the namespace of this thread. It goes with the file.
fn open_device(name: &str) -> std::io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open("/dev/net/tun")?;
    let mut request =
        InterfaceRequest { name: [0; NAME_BYTES_MAX], flags: IFF_TUN_WITHOUT_HEADER, unused: [0; 22] };
    let room = &mut request.name[..NAME_BYTES_MAX - 1];
    room[..name.len().min(NAME_BYTES_MAX - 1)]
        .copy_from_slice(&name.as_bytes()[..name.len().min(NAME_BYTES_MAX - 1)]);
    // SAFETY: TUNSETIFF reads one `struct ifreq` of 40 bytes, which
    // `InterfaceRequest` is, and keeps no pointer to it.
    unsafe {
        let make = Setter::<{ opcode::write::<std::ffi::c_int>(b'T', 202) }, InterfaceRequest>::new(request);
        ioctl(&file, make)?;
    }
    Ok(file)
}
