//! A lab of networks on one machine, for tests: Linux network namespaces with
//! real interfaces, bridges, routers that translate addresses, links that are
//! slow and lose packets, and real programs in them.
//!
//! A [`Lab`] makes everything and removes it when dropped, also while a test
//! panics; what a killed run left behind is removed by the next one. No
//! interface of the lab is ever in the machine's own namespace, and nothing in
//! the lab leads there: no packet can leave it. [`Node`] drives a program that
//! speaks JSON lines, in a namespace or without one.

#[cfg(target_os = "linux")]
pub mod nat;
mod node;
#[cfg(target_os = "linux")]
mod space;
mod table;
#[cfg(target_os = "linux")]
pub mod wire;

use std::io::Write as _;
use std::time::{Duration, Instant};

pub use node::{Gone, Node};
#[cfg(target_os = "linux")]
pub use space::{Lab, Missing, Space};
pub use table::{Table, seconds};

/// Pause between looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `look` finds something.
///
/// # Panics
/// When it has found nothing after `within`; a test that hangs tells less.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Says something on standard error, past the test runner, which keeps what
/// tests that pass print to itself.
pub fn tell(text: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Numbers that repeat with their seed (splitmix64); not for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next one below `end`, or 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        match self.roll().checked_rem(end) {
            Some(number) => number,
            None => 0,
        }
    }
}
