//! Looks at the machine: which processes live, and waits for something to become true.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::GUARD;

/// Waits until something observable is true; panics with `what` after the guard time.
pub async fn eventually(what: &str, mut truth: impl FnMut() -> bool) {
    let deadline = Instant::now() + GUARD;
    while !truth() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a file's size stays the same for a while: whoever writes it is blocked. Returns the size.
pub async fn stops_growing(file: &Path) -> u64 {
    let size = || std::fs::metadata(file).map_or(0, |data| data.len());
    let deadline = Instant::now() + GUARD;
    let (mut last, mut since) = (size(), Instant::now());
    loop {
        assert!(Instant::now() < deadline, "{} never stopped growing", file.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
        if size() != last {
            (last, since) = (size(), Instant::now());
        }
        if last > 0 && since.elapsed() > Duration::from_millis(700) {
            return last;
        }
    }
}

/// Kills a process, unless it ended a moment ago.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    let killed = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    assert!(matches!(killed, Ok(()) | Err(rustix::io::Errno::SRCH)), "{killed:?}");
}

/// The state letter of a process (`proc(5)`), or `None` when there is none.
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether a process runs (a zombie does not).
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|letter| letter != 'Z' && letter != 'X')
}

/// The children of a process, zombies included.
pub fn children(pid: u32) -> Vec<u32> {
    let parent_of = |child: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|child| parent_of(*child) == Some(pid))
        .collect()
}

/// Reads a pid that a test program wrote into a file, waiting for it.
pub async fn pid_in(file: &Path) -> u32 {
    let read = || std::fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))?.trim().parse().ok();
    eventually(&format!("a pid in {}", file.display()), || read().is_some_and(|pid: u32| pid > 0)).await;
    read().expect("just seen")
}

/// As [`pid_in`], for a program that may be in a PID namespace of its own and wrote a number of that: the number out here.
/// It runs in the file's directory.
pub async fn inner_pid_in(file: &Path) -> u32 {
    let inner = pid_in(file).await;
    let is_it = |outer: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{outer}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let number = numbers.and_then(|numbers| numbers.split_whitespace().next_back()?.parse().ok());
        let directory = std::fs::read_link(format!("/proc/{outer}/cwd")).ok();
        number == Some(inner) && directory.as_deref() == file.parent()
    };
    let entries = std::fs::read_dir("/proc").expect("readable");
    let mut numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.find(is_it).expect("the process still runs")
}

/// Open file descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The most memory a process has had resident so far, in bytes.
pub fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}
