//! What a node and a window cost while nobody does anything.
//!
//! Each is a fresh process with a community of its own, left alone until it
//! has settled. PSS (proportional set size) is the figure: shared pages count
//! in proportion, as on a desktop where other programs use the same libraries.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Figure;
use crate::complain;

/// Time to settle before measuring.
const SETTLE: Duration = Duration::from_secs(5);
/// Time over which processor use is measured.
const WATCH: Duration = Duration::from_secs(8);
/// The same with `--full`.
const WATCH_FULL: Duration = Duration::from_secs(60);
/// What a node and a window may take, MB.
const MEMORY_TARGET_MB: f64 = 50.0;

/// Measures a headless node, then a window where there is a display.
pub(super) fn run(full: bool, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("idle figures are read from /proc, which only Linux has");
    }
    let watch = if full { WATCH_FULL } else { WATCH };
    let headless = measure("node", watch)?;
    print(&figure("idle_node_pss", headless.pss_mb, "MB", Some(MEMORY_TARGET_MB)));
    print(&figure("idle_node_cpu", headless.cpu_percent, "% of one core", Some(0.5)));
    print(&figure("node_start_to_ready", headless.ready_ms, "ms", None));
    // Asked of the environment, not by opening one: a process that has opened
    // a display cannot open it a second time.
    let display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if !display {
        complain("skipped the window: there is no display");
        return Ok(());
    }
    let window = measure("window", watch)?;
    print(&figure("idle_window_pss", window.pss_mb, "MB", Some(MEMORY_TARGET_MB)));
    print(&figure("idle_window_cpu", window.cpu_percent, "% of one core", Some(0.5)));
    Ok(())
}

fn figure(name: &'static str, value: f64, unit: &'static str, target: Option<f64>) -> Figure {
    Figure { name: name.into(), value, unit, target }
}

struct Idle {
    pss_mb: f64,
    cpu_percent: f64,
    ready_ms: f64,
}

fn measure(face: &str, watch: Duration) -> anyhow::Result<Idle> {
    let nonce = u64::from_be_bytes(crate::host::random());
    let data = std::env::temp_dir().join(format!("exo-studio-bench-{nonce:016x}"));
    let mut process = Process::start(face, &data)?;
    let measured = process.idle(watch);
    drop(process);
    // A leftover in the temporary folder harms nobody.
    let _ = std::fs::remove_dir_all(&data);
    measured
}

/// A running node or window.
pub(super) struct Process {
    child: Child,
    begun: Instant,
}

impl Process {
    pub(super) fn start(face: &str, data: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let begun = Instant::now();
        let child = Command::new(program)
            .arg(face)
            .arg("--json")
            .arg("--data")
            .arg(data)
            .args(["--bind", "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a node")?;
        Ok(Self { child, begun })
    }

    /// Waits until the process speaks: then everything is open.
    pub(super) fn ready(&mut self) -> anyhow::Result<()> {
        let output = self.child.stdout.take().context("no standard output")?;
        BufReader::new(output).lines().next().context("the node did not start")??;
        Ok(())
    }

    /// What the process takes of memory, MB.
    pub(super) fn pss_mb(&self) -> anyhow::Result<f64> {
        pss_mb(&PathBuf::from(format!("/proc/{}", self.child.id())))
    }

    fn idle(&mut self, watch: Duration) -> anyhow::Result<Idle> {
        let output = self.child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        lines.next().context("the node did not start")??;
        let ready_ms = self.begun.elapsed().as_secs_f64() * 1_000.0;
        let input = self.child.stdin.as_mut().context("no standard input")?;
        writeln!(input, r#"{{"id":1,"command":"found","name":"Ana","community":"Bench"}}"#)?;
        lines.next().context("the node founded nothing")??;
        std::thread::sleep(SETTLE);

        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let (ticks_before, begun) = (cpu_ticks(&proc)?, Instant::now());
        std::thread::sleep(watch);
        let seconds = (cpu_ticks(&proc)? - ticks_before) / TICKS_PER_SECOND;
        Ok(Idle {
            pss_mb: pss_mb(&proc)?,
            cpu_percent: 100.0 * seconds / begun.elapsed().as_secs_f64(),
            ready_ms,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends the node; killed where it does not.
        self.child.stdin.take();
        for _ in 0..50 {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Clock ticks in a second: 100 on every Linux that Rust supports
/// (`sysconf(_SC_CLK_TCK)`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time, fields 14 and 15 of `/proc/PID/stat` (proc(5)).
fn cpu_ticks(proc: &Path) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(proc.join("stat")).context("the node has ended")?;
    // The second field is a name in brackets that may hold spaces.
    let after_name = stat.rsplit_once(')').context("an unknown /proc format")?.1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    ticks.sum::<Result<f64, _>>().context("an unknown /proc format")
}

/// The `Pss:` line of `/proc/PID/smaps_rollup`, in MB (10^6 bytes).
fn pss_mb(proc: &Path) -> anyhow::Result<f64> {
    let smaps = std::fs::read_to_string(proc.join("smaps_rollup")).context("the node has ended")?;
    let kib = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("an unknown /proc format")?;
    Ok(kib.parse::<f64>()? * 1_024.0 / 1e6)
}
