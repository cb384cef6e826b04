//! Tells the others how busy this machine is.

use std::sync::Weak;
use std::time::Duration;

use exo_sync::hub::Load;

use super::Node;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(30);
/// Processor time is told in steps of so many per cent: small changes are noise,
/// and each one that is told costs everyone a message.
const CPU_STEP: u64 = 25;
/// How far it has to be from what was told last before anything else is told, per
/// cent: at the border of two steps it would go to and fro.
const CPU_FAR: u64 = 18;
/// What one look counts for is one part in so many: what takes half a minute, such
/// as a start, is nothing to rely on.
const CPU_PARTS: u64 = 4;
/// Free memory is told in steps of so many MiB.
const FREE_STEP_MIB: u64 = 64;
/// Said of the processor where the system does not tell.
const CPU_UNKNOWN: u8 = u8::MAX;

/// Says it whenever it changed; ends with the node.
pub(super) async fn tell(node: Weak<Node>) {
    let mut processor = Processor::new(cpu_times());
    let mut told = None;
    loop {
        let Some(running) = node.upgrade() else { return };
        let load = of(&running, processor.look(cpu_times()));
        if told != Some(load) {
            running.mesh.set_load(load);
            told = Some(load);
        }
        drop(running);
        tokio::time::sleep(EVERY).await;
    }
}

/// The offer is one for all communities, so what they use together counts.
fn of(node: &Node, cpu_percent: u8) -> Load {
    if node.options.keeper {
        return Load { cpu_percent, ..Load::default() };
    }
    let memberships = node.memberships();
    let in_use = memberships.iter().filter_map(|one| Some(one.engine().ok()?.host().in_use()));
    let (used, sessions) =
        in_use.fold((0, 0), |(bytes, count), (more, others)| (bytes + more, count + others));
    let free_mib = node.options.offered_bytes.saturating_sub(used) >> 20;
    Load {
        cpu_percent,
        free_mib: u32::try_from(free_mib / FREE_STEP_MIB * FREE_STEP_MIB).unwrap_or(u32::MAX),
        sessions: u16::try_from(sessions).unwrap_or(u16::MAX),
    }
}

/// Time that all processors were busy, and all time there was.
type Times = Option<(u64, u64)>;

/// As the Linux kernel counts it; elsewhere not known.
fn cpu_times() -> Times {
    parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

fn parse(stat: &str) -> Times {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    // user, nice, system, idle, waiting, interrupts, their other half, stolen.
    let times: Vec<u64> = all.split_whitespace().take(8).map_while(|time| time.parse().ok()).collect();
    let idle = times.get(3)?.saturating_add(times.get(4).copied().unwrap_or(0));
    let all = times.iter().fold(0_u64, |sum, time| sum.saturating_add(*time));
    Some((all.saturating_sub(idle), all))
}

/// Processor time in use over the last minutes, per cent of all cores.
struct Processor {
    before: Times,
    /// Per cent.
    smoothed: u64,
    /// Per cent.
    told: u64,
}

impl Processor {
    const fn new(before: Times) -> Self {
        Self { before, smoothed: 0, told: 0 }
    }

    /// What to tell now.
    fn look(&mut self, now: Times) -> u8 {
        let before = std::mem::replace(&mut self.before, now);
        let (Some((busy_before, before)), Some((busy, now))) = (before, now) else { return CPU_UNKNOWN };
        let (busy, all) = (busy.saturating_sub(busy_before), now.saturating_sub(before));
        let percent = busy.min(all).saturating_mul(100).checked_div(all).unwrap_or(0);
        self.smoothed = (self.smoothed * (CPU_PARTS - 1) + percent).div_ceil(CPU_PARTS);
        if self.smoothed.abs_diff(self.told) >= CPU_FAR {
            self.told = (self.smoothed + CPU_STEP / 2) / CPU_STEP * CPU_STEP;
        }
        u8::try_from(self.told).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_told_in_steps_and_not_to_and_fro() {
        let begin = parse("cpu  100 0 100 700 100 0 0 0 5 5\ncpu0 1 2 3\n");
        assert_eq!(begin, Some((200, 1_000)));
        let (mut processor, mut times) = (Processor::new(begin), (200, 1_000));
        let mut look = |percent: u64, looks: usize| {
            let told = (0..looks).map(|_| {
                times = (times.0 + percent * 10, times.1 + 1_000);
                processor.look(Some(times))
            });
            told.collect::<Vec<_>>()
        };
        assert_eq!(look(60, 1), [0], "a start is over soon");
        assert_eq!(look(0, 20), [0; 20]);
        let busy = look(100, 20);
        assert!(busy.is_sorted() && busy[19] == 100, "{busy:?}");
        assert_eq!(look(0, 20)[19], 0);
        let between = [look(13, 10), look(11, 10), look(14, 10)].concat();
        assert_eq!(between, [0; 30], "at the border of two steps");
    }

    #[test]
    fn odd_figures_do_no_harm() {
        let begin = Some((200, 1_000));
        assert_eq!(Processor::new(begin).look(begin), 0, "no time passed");
        assert_eq!(Processor::new(begin).look(Some((0, 0))), 0, "the count began anew");
        assert_eq!(Processor::new(None).look(begin), CPU_UNKNOWN);
        for odd in ["", "cpu ", "cpu x y", "intr 5", "cpu 1 2 3"] {
            assert_eq!(parse(odd), None, "{odd:?}");
        }
    }
}
