//! Looks at the machine: which processes live, and waits for something to become true.

use std::collections::BTreeMap;
use std::fmt::Write;
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

/// The server's own process, given the one that was started: most often its keeper, whose child with the same arguments it
/// is.
pub fn server_below(started: u32) -> u32 {
    let read = |pid: u32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    if read(started, "comm").trim_ascii_end() != b"codex-keeper" {
        return started;
    }
    let arguments = |pid: u32| {
        let line = read(pid, "cmdline");
        line.split(|byte| *byte == 0).skip(1).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let wanted = arguments(started);
    children(started).into_iter().find(|pid| arguments(*pid) == wanted).unwrap_or(started)
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

/// Everything that runs below this process, for failures: each process below its parent, with its state, what its threads wait
/// for in the kernel, its number in its own PID namespace, and its signals. What the kernel does not show to this user is left out.
pub fn family() -> String {
    let mut text = String::new();
    tell_family(std::process::id(), 0, &mut text);
    text
}

fn tell_family(pid: u32, depth: usize, text: &mut String) {
    /// No more is read by anybody.
    const LONGEST: usize = 64 << 10;
    if text.len() > LONGEST {
        return;
    }
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let args = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let status = String::from_utf8_lossy(&read("status")).into_owned();
    let facts = ["NSpid:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:"].map(|name| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?");
        format!("{name}{}", value.split_whitespace().collect::<Vec<_>>().join("/"))
    });
    let shown: String = args.chars().take(160).collect();
    let _ = writeln!(text, "{:depth$}{pid} [{}] {shown}", "", facts.join(" "), depth = depth * 2);
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    for thread in threads.filter_map(|entry| Some(entry.ok()?.path())) {
        let read = |name: &str| std::fs::read_to_string(thread.join(name)).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?");
        let [name, place, call] = ["comm", "wchan", "syscall"].map(|name| read(name).trim().to_owned());
        // The call's number and arguments, without the stack's place.
        let call: Vec<&str> = call.split(' ').take(5).collect();
        *alike.entry(format!("{state} {name}: {place}; {}", call.join(" "))).or_default() += 1;
    }
    for (thread, times) in alike {
        let _ = writeln!(text, "{:depth$}  {times} x {thread}", "", depth = depth * 2);
    }
    for child in children(pid) {
        tell_family(child, depth + 1, text);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_below_a_test_is_told_with_its_threads() {
        use std::io::{Read as _, Write as _};
        use std::process::{Command, Stdio};
        let mut cat = Command::new("cat");
        let mut child = cat.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        // What gives back a byte has its name and its arguments by now.
        child.stdin.as_mut().expect("piped").write_all(b"x").expect("written");
        child.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("read");
        let told = family();
        let at = told.find(&format!("  {} [NSpid:", child.id())).expect(&told);
        let (first, rest) = told[at..].split_once('\n').expect("more than one line");
        assert!(first.ends_with("cat - "), "{told}");
        assert!(rest.trim_start().starts_with("1 x ") && rest.contains("cat: "), "{told}");
        drop(child.stdin.take());
        child.wait().expect("ended");
    }
}
