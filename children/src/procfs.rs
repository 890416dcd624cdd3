//! Reads who is whose child and in which session from `/proc`. Systems other than Linux have none: there no process is found.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

/// Whether this system has such a directory.
pub(super) const IS_THERE: bool = cfg!(target_os = "linux");

/// When a process started: ticks of 1/100 s since boot, as the kernel counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartTime(pub(super) u64);

impl StartTime {
    /// What a process started now gets.
    pub(super) fn now() -> Self {
        #[cfg(target_os = "linux")]
        let clock = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::Monotonic;
        let now = clock_gettime(clock);
        let ticks = now.tv_sec.saturating_mul(100).saturating_add(now.tv_nsec / 10_000_000);
        Self(u64::try_from(ticks).unwrap_or(0))
    }
}

/// One process for certain: its number may be given to another after it, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessStamp {
    /// The number of the process, which the kernel uses again.
    pub pid: Pid,
    /// When it started, which tells it from others that had the number.
    pub start_time: StartTime,
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) stamp: ProcessStamp,
    /// The program's name as the kernel keeps it: at most 15 bytes.
    pub(super) name: String,
    state: u8,
    threads: u32,
    /// The parent; `None` where that is the kernel, or a process outside of our pid namespace.
    pub(super) parent: Option<Pid>,
    pub(super) session: Option<Pid>,
}

impl Stat {
    /// Whether it is dead and waits to be reaped. A process of which only the first thread has ended shows the same state,
    /// and lives on.
    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// The name stands in parentheses and may itself hold parentheses, spaces and newlines: the last `)` ends it.
    fn parse(line: &[u8]) -> Option<Self> {
        let (open, close) = (memchr::memchr(b'(', line)?, memchr::memrchr(b')', line)?);
        let pid = to_pid(number(line.get(..open)?.trim_ascii())?)?;
        let name = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
        let mut fields =
            line.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let state = *fields.next()?.first()?;
        let parent = to_pid(number(fields.next()?)?);
        // After the process group.
        let session = to_pid(number(fields.nth(1)?)?);
        // Fields 20 and 22 of proc(5), where the session is field 6.
        let threads = number(fields.nth(13)?)?;
        let start_time = StartTime(number(fields.nth(1)?)?);
        Some(Self { stamp: ProcessStamp { pid, start_time }, name, state, threads, parent, session })
    }
}

/// The kernel writes 0 for what lies outside of our pid namespace, and -1 for a process that is just being let go.
fn to_pid(number: i32) -> Option<Pid> {
    if number > 0 { Pid::from_raw(number) } else { None }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What `/proc` says of this process; `None` if there is none with this number.
pub(super) fn stat(pid: Pid) -> io::Result<Option<Stat>> {
    match read(&format!("/proc/{}/stat", pid.as_raw_pid())) {
        Ok(line) => match Stat::parse(&line) {
            Some(stat) => Ok(Some(stat)),
            None => Err(io::Error::other(format!("cannot understand /proc/{}/stat", pid.as_raw_pid()))),
        },
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is a process with this number although `/proc` shows none: it is mounted so that it hides other users'
/// processes (`hidepid`), and with them ours that made themselves undumpable.
pub(super) fn is_hidden(pid: Pid) -> bool {
    !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH))
}

/// What `/proc` says of a process or thread that has ended.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Our children that belong to the main thread; `None` if this kernel has no such list.
///
/// Orphans are given to a process's first living thread, which is the main one as long as it lives, so they are all
/// here; children that other threads started need not be.
pub(super) fn main_thread_children() -> io::Result<Option<Vec<Pid>>> {
    /// Kept open, since it is read at each program's end; beside the number of the process that it describes, which may fork.
    static LIST: Mutex<Option<(Pid, OwnedFd)>> = Mutex::new(None);
    let ours = rustix::process::getpid();
    let mut list = LIST.lock();
    if let Some((pid, fd)) = &*list
        && *pid == ours
    {
        return Ok(Some(pids(&content(fd)?)));
    }
    match open(&children_path(ours, ours)) {
        Ok(fd) => {
            let now = pids(&content(&fd)?);
            *list = Some((ours, fd));
            Ok(Some(now))
        }
        Err(error) => without_list(error),
    }
}

/// Our children that belong to this thread of ours; none when it has ended, `None` if this kernel has no such list.
pub(super) fn children_of_thread(thread: Pid) -> io::Result<Option<Vec<Pid>>> {
    listed(&children_path(rustix::process::getpid(), thread))
}

/// Our children, whichever thread they belong to; `None` if this kernel has no such lists. Where one is reaped, or a thread
/// ends, while the lists are read, another may be missing (proc_pid_task_children(5)): the next look finds it.
pub(super) fn our_children() -> io::Result<Option<Vec<Pid>>> {
    children_of_threads(rustix::process::getpid())
}

/// Whether a process of one thread may have children; false when it has ended.
pub(super) fn may_have_children(pid: Pid) -> io::Result<bool> {
    Ok(listed(&children_path(pid, pid))?.is_none_or(|children| !children.is_empty()))
}

/// A process's children; none when it has ended, `None` if this kernel has no such lists.
fn children_of(process: &Stat) -> io::Result<Option<Vec<Pid>>> {
    let pid = process.stamp.pid;
    match process.threads {
        0 | 1 => listed(&children_path(pid, pid)),
        _ => children_of_threads(pid),
    }
}

fn children_of_threads(process: Pid) -> io::Result<Option<Vec<Pid>>> {
    let mut children = Vec::new();
    let threads = match numbers(&format!("/proc/{}/task", process.as_raw_pid())) {
        Err(error) if is_gone(&error) => return Ok(Some(children)),
        threads => threads?,
    };
    for thread in threads {
        let Some(theirs) = listed(&children_path(process, thread))? else { return Ok(None) };
        children.extend(theirs);
    }
    Ok(Some(children))
}

fn children_path(process: Pid, thread: Pid) -> String {
    format!("/proc/{}/task/{}/children", process.as_raw_pid(), thread.as_raw_pid())
}

/// The children in such a list; none when its thread has ended.
fn listed(path: &str) -> io::Result<Option<Vec<Pid>>> {
    match read(path) {
        Ok(text) => Ok(Some(pids(&text))),
        Err(error) => without_list(error),
    }
}

fn pids(text: &[u8]) -> Vec<Pid> {
    text.split(u8::is_ascii_whitespace).filter_map(number).filter_map(to_pid).collect()
}

fn without_list(error: io::Error) -> io::Result<Option<Vec<Pid>>> {
    if !is_gone(&error) {
        return Err(error);
    }
    let has_lists = std::fs::exists("/proc/thread-self/children")?;
    Ok(has_lists.then(Vec::new))
}

/// The numbers of all processes.
pub(super) fn processes() -> io::Result<impl Iterator<Item = Pid>> {
    numbers("/proc")
}

/// The processes or threads that a directory of `/proc` lists.
fn numbers(directory: &str) -> io::Result<impl Iterator<Item = Pid> + use<>> {
    let entries = std::fs::read_dir(directory)?.filter_map(Result::ok);
    Ok(entries.filter_map(|entry| number(entry.file_name().as_encoded_bytes()).and_then(to_pid)))
}

/// The soft bound of `RLIMIT_RTTIME` of a process, in microseconds; `None` without one, or without the process.
pub(super) fn realtime_limit(pid: Pid) -> Option<u64> {
    let text = read(&format!("/proc/{}/limits", pid.as_raw_pid())).ok()?;
    let line =
        text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Max realtime timeout"))?;
    number(line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?)
}

/// Reads a small file of `/proc` in as few calls as possible.
fn read(path: &str) -> io::Result<Vec<u8>> {
    content(&open(path)?)
}

fn open(path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The whole file as it is now: `/proc` writes it anew for each reader that begins at its start.
fn content(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match rustix::io::pread(file, &mut buffer, content.len() as u64)? {
            0 => return Ok(content),
            count => content.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Processes as they were at about the same time: all of them, or those that were added.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    processes: HashMap<Pid, Stat>,
    /// For each process, its children and the members of its session.
    led: HashMap<Pid, Vec<Pid>>,
}

impl Snapshot {
    pub(super) fn take() -> io::Result<Self> {
        let mut all = Self::default();
        for pid in processes()? {
            all.add(pid)?;
        }
        Ok(all)
    }

    /// Adds a process. `None` if there is none with this number, or it is in the snapshot already.
    pub(super) fn add(&mut self, pid: Pid) -> io::Result<Option<&Stat>> {
        let Entry::Vacant(unseen) = self.processes.entry(pid) else { return Ok(None) };
        let Some(stat) = stat(pid)? else { return Ok(None) };
        for leader in [stat.parent, stat.session].into_iter().flatten() {
            self.led.entry(leader).or_default().push(pid);
        }
        Ok(Some(unseen.insert(stat)))
    }

    /// Adds a process and its descendants. False if this kernel can't list them.
    pub(super) fn add_tree(&mut self, root: Pid) -> io::Result<bool> {
        let mut waiting = vec![root];
        while let Some(pid) = waiting.pop() {
            let Some(stat) = self.add(pid)? else { continue };
            let Some(children) = children_of(stat)? else { return Ok(false) };
            waiting.extend(children);
        }
        Ok(true)
    }

    pub(super) fn get(&self, pid: Pid) -> Option<&Stat> {
        self.processes.get(&pid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stat> {
        self.processes.values()
    }

    /// The roots, their descendants, and the sessions that any of these lead, dead leaders' included. Never process 1
    /// and never ourselves, whatever the roots are.
    pub(super) fn tree(&self, roots: impl IntoIterator<Item = Pid>) -> Vec<&Stat> {
        let ours = rustix::process::getpid();
        let mut seen: HashSet<Pid> = HashSet::from([ours, Pid::INIT]);
        let mut waiting: Vec<Pid> = roots.into_iter().filter(|pid| seen.insert(*pid)).collect();
        let mut found = Vec::new();
        while let Some(pid) = waiting.pop() {
            found.extend(self.processes.get(&pid));
            let led = self.led.get(&pid).into_iter().flatten();
            waiting.extend(led.filter(|pid| seen.insert(**pid)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        for name in ["sh", "a b", ") S 1 2 3 4 (", "x) R (y)", "((", "new\nline", ""] {
            let line =
                format!("42 ({name}) Z 7 42 41 34817 42 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n");
            let stat = Stat::parse(line.as_bytes()).expect("a line of /proc");
            assert_eq!(stat.name, name);
            assert_eq!(stat.stamp.pid, Pid::from_raw(42).expect("a pid"));
            assert_eq!(stat.stamp.start_time, StartTime(98765));
            assert_eq!((stat.parent, stat.session), (Pid::from_raw(7), Pid::from_raw(41)));
            assert!(stat.is_zombie());
        }
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_lives_on() {
        let line = b"42 (java) Z 7 42 41 34817 42 4194560 1 2 3 4 5 6 7 8 20 0 3 0 98765 1 2 3\n";
        assert!(!Stat::parse(line).expect("a line of /proc").is_zombie());
    }

    #[test]
    fn a_process_that_is_being_let_go_has_no_parent_and_no_session() {
        let line = b"42 (sh) X 0 -1 -1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n";
        let stat = Stat::parse(line).expect("a line of /proc");
        assert_eq!((stat.parent, stat.session), (None, None));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in ["", "42", "42 (", ") (", "42 (a", "x (a) R 1 1 1", "42 (a) R 1 1 1 0", "0 (a) R 0 0 0 0"]
        {
            assert_eq!(Stat::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn a_child_is_found_whichever_thread_it_belongs_to() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (started, child) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("a child");
            started.send(Pid::from_child(&child)).expect("the test waits");
            // The child stays in this thread's list as long as the thread lives.
            let _ = receiver.recv();
            child.kill().expect("killed");
            child.wait().expect("reaped");
        });
        let child = child.recv().expect("started");
        let ours = rustix::process::getpid();
        if let Some(children) = our_children().expect("readable") {
            assert!(children.contains(&child));
            let mut below_us = Snapshot::default();
            assert!(below_us.add_tree(ours).expect("readable"));
            assert_eq!(below_us.get(child).expect("seen").parent, Some(ours));
            assert!(below_us.get(ours).is_some() && below_us.get(Pid::INIT).is_none());
        }
        drop(sender);
        thread.join().expect("no panic");
    }

    #[test]
    fn the_clock_and_the_kernel_agree_on_start_times() {
        let us = stat(rustix::process::getpid()).expect("readable").expect("we are there");
        assert!(us.stamp.start_time <= StartTime::now());
        assert!(us.stamp.start_time.0 > 0);
    }
}
