//! The attempts: what each does, and under which profiles it must not succeed.

#![allow(unsafe_code)]

mod bystanders;
mod devices;
mod files;
mod named;
mod networks;
mod pids;
mod processes;
mod stdio;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{c_int, c_long};

/// Profiles, by name: root read; workspace; workspace with denials; nothing but the workspace; network only; workspace with
/// network; workspace with a filtered network; the same with a network device; all but denials.
pub(crate) const PROFILES: [&str; 9] =
    ["read", "workspace", "deny", "path", "external", "online", "filtered", "transparent", "wide"];
/// Those that restrict files.
const FILES: &[&str] = &["read", "workspace", "deny", "path", "online", "filtered", "transparent"];
/// Those that keep the kernel's controls and raw devices: all that say anything of files.
const CONTROLS: &[&str] = &["read", "workspace", "deny", "path", "online", "filtered", "transparent", "wide"];
/// Those that have a workspace to protect things in.
const WORKSPACES: &[&str] = &["read", "workspace", "deny", "path", "online", "filtered", "transparent"];
/// Those without network.
const OFFLINE: &[&str] = &["read", "workspace", "deny", "path", "external", "wide"];
/// Those that reach nobody on the machine.
const APART: &[&str] = &["read", "workspace", "deny", "path", "external", "filtered", "transparent", "wide"];

/// Those whose datagrams don't even seem to be sent: with a network device they are, and nobody gets them.
const SILENT: &[&str] = &["read", "workspace", "deny", "path", "external", "filtered", "wide"];

/// What an attempt comes to: an error is how it was stopped.
pub(crate) type Outcome = Result<(), c_int>;

/// One attempt.
pub(crate) struct Attack {
    pub(crate) name: String,
    pub(crate) stopped_by: &'static [&'static str],
    /// Harmless without a sandbox, where it has to work: the proof that the attempt is one.
    pub(crate) works_outside: bool,
    pub(crate) act: Box<dyn Fn() -> Outcome>,
}

fn c(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).expect("no NUL")
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(answer: impl TryInto<i64>) -> Result<i64, c_int> {
    match answer.try_into() {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(errno()),
    }
}

fn fd(answer: c_int) -> Result<c_int, c_int> {
    if answer >= 0 { Ok(answer) } else { Err(errno()) }
}

fn open(path: impl AsRef<Path>, flags: c_int) -> Result<c_int, c_int> {
    // SAFETY: a C string, here and below; every attempt is a process of its own.
    fd(unsafe { libc::open(c(path).as_ptr(), flags, 0o644) })
}

fn put(file: c_int) -> Outcome {
    check(unsafe { libc::write(file, c"evil".as_ptr().cast(), 4) }).map(drop)
}

fn get(file: c_int) -> Outcome {
    let mut bytes = [0_u8; 6];
    match check(unsafe { libc::read(file, bytes.as_mut_ptr().cast(), 6) })? {
        6 if &bytes == b"hidden" => Ok(()),
        _ => Err(0),
    }
}

fn call(number: c_long, arguments: [usize; 6]) -> Result<i64, c_int> {
    let [a, b, c, d, e, f] = arguments;
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

fn parent() -> c_int {
    // The server, which started the test binary, which made this attempt.
    let me = unsafe { libc::getppid() };
    let status = std::fs::read_to_string(format!("/proc/{me}/stat")).unwrap_or_default();
    let rest = status.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let server = rest.split(' ').nth(1).and_then(|pid| pid.parse().ok()).unwrap_or(1);
    // In a PID namespace of its own it has no number. This one is as good.
    if server == 0 { tester() } else { server }
}

/// The process of the test.
fn tester() -> c_int {
    std::env::var(super::attacker::TESTER).ok().and_then(|pid| pid.parse().ok()).unwrap_or(1)
}

/// Whether the first process is that of a PID namespace of the program's own.
fn has_own_pids() -> bool {
    std::fs::read_to_string("/proc/1/cmdline").is_ok_and(|line| line.starts_with("codex-sandbox-launcher"))
}

/// Collects attempts.
struct Suite(Vec<Attack>);

impl Suite {
    fn add(
        &mut self,
        name: impl Into<String>,
        stopped_by: &'static [&'static str],
        works_outside: bool,
        act: impl Fn() -> Outcome + 'static,
    ) {
        self.0.push(Attack { name: name.into(), stopped_by, works_outside, act: Box::new(act) });
    }
}

/// Every attempt, on a ground.
pub(crate) fn all(ground: &Path) -> Vec<Attack> {
    let mut suite = Suite(Vec::new());
    for (target, stopped_by) in
        [("o/precious", FILES), ("w/.git/config", WORKSPACES), ("w/.codex/config.toml", WORKSPACES)]
    {
        files::writes(&mut suite, ground, target, stopped_by);
    }
    for (target, stopped_by) in
        [("d/secret", &["deny", "path", "wide"][..]), ("o/secret", &["deny", "path", "wide"])]
    {
        files::reads(&mut suite, ground, target, stopped_by);
    }
    files::names(&mut suite, ground);
    networks::sockets(&mut suite, ground);
    networks::networks(&mut suite);
    devices::settings(&mut suite);
    devices::ways_out(&mut suite);
    bystanders::shared(&mut suite);
    bystanders::pairs(&mut suite);
    bystanders::priorities(&mut suite);
    named::sockets(&mut suite, ground);
    files::controls(&mut suite);
    stdio::streams(&mut suite, ground);
    processes::processes(&mut suite);
    pids::pids(&mut suite);
    processes::calls(&mut suite, ground);
    suite.0
}
