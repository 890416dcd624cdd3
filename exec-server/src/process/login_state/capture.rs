//! Logs in once, and takes down what the shell tells of itself then.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use codex_children::spawn::{Child, Program, spawn_passing};
use codex_children::streams::{Ends, Stdio};
use codex_children::{reap, tree};
use codex_exec_protocol::process::ProgramLimits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::script::Script;
use super::variables::Variables;
use super::{LoginShell, Place, sealed};
use crate::limits::ProcessLimits;
use crate::sandbox::ConfinedProgram;

/// How long a shell that has told everything may take to end.
const ENDING: Duration = Duration::from_millis(200);

/// Logs in, in this environment, place and directory, and gives what there is then. Blocks.
///
/// # Errors
/// A sentence, when the login fails, takes too long, or does what no script can do again.
pub(super) fn state(
    login: LoginShell<'_>,
    env: &Variables,
    place: Place<'_>,
    cwd: &Path,
    limits: &ProcessLimits,
) -> Result<Script, String> {
    let language = login.language;
    let mark = uuid::Uuid::new_v4().simple().to_string();
    let number = place.number();
    // Where a command can't read its state, none is made: this shell tries, with a script that does nothing.
    let text = format!(
        "\\builtin . /dev/fd/{number} || \\builtin exit 1\n{}",
        language.tell().replace("MARK", &mark)
    );
    let program = Program {
        argv: [login.shell, "-lc", &text].map(OsString::from).into(),
        arg0: None,
        cwd: cwd.into(),
        env: env.to_vec(),
        stdio: Stdio::Pipes { stdin: false },
    };
    let nothing = sealed(&framed(&[], number)).map_err(|error| error.to_string())?;
    let child = start(&program, place, &nothing)?;
    let told = listen(child, &format!("\n{mark}-end\n"), place, limits)?;
    let parts =
        parts(&told, language.parts(), &mark).ok_or("the start-up files end the shell, or replace it")?;
    // The second part of every language.
    let directory = parts.get(1).copied().unwrap_or_default();
    if Path::new(OsStr::from_bytes(directory))
        != std::fs::canonicalize(cwd).map_err(|error| error.to_string())?
    {
        return Err("the start-up files change the working directory".into());
    }
    let script = language.script(&parts, env).ok_or("the shell does not tell all of its state")?;
    Ok(Script { bytes: framed(&script.bytes, number), ..script })
}

/// The script between a line that closes its own file, which concerns nobody that the command starts, and one that succeeds.
/// A shell reads it by another descriptor.
fn framed(script: &[u8], number: i32) -> Vec<u8> {
    [format!("exec {number}<&-\n").as_bytes(), script, b":\n"].concat()
}

fn start(program: &Program, place: Place<'_>, passed: &OwnedFd) -> Result<Child, String> {
    match place {
        Place::Open => spawn_passing(program, &[passed.as_fd()]).map_err(|error| error.to_string()),
        Place::Confined { launcher, confined } => {
            let confined = ConfinedProgram {
                program,
                launcher,
                confined: &confined.for_a_look(),
                limits: &ProgramLimits::default(),
                group: None,
                passed: Some(passed.as_fd()),
            };
            confined.spawn().map(|(child, _)| child).map_err(|error| error.to_string())
        }
    }
}

/// Everything that the shell prints up to `end`. A shell that does not get there is killed with all it has started, and so is
/// whatever was started under a sandbox; else what it has started, an agent for keys perhaps, goes on.
fn listen(child: Child, end: &str, place: Place<'_>, limits: &ProcessLimits) -> Result<Vec<u8>, String> {
    let Child { pid, pidfd, ends, .. } = child;
    let Ends::Pipes { stdout, stderr, .. } = ends else { return Err("it has no pipes".into()) };
    let told = read_to(&stdout, &stderr, end, limits);
    let ended = told.is_ok() && {
        let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
        poll(&mut watched, Some(&timespec(ENDING))).is_ok_and(|ready| ready > 0)
    };
    if !ended || matches!(place, Place::Confined { .. }) {
        let _ = tree::kill_tree(pid, Signal::KILL);
    }
    reap::wait_for_killed(pid);
    told
}

fn read_to(stdout: &OwnedFd, stderr: &OwnedFd, end: &str, limits: &ProcessLimits) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + limits.login_time;
    let (mut told, mut scrap) = (Vec::new(), Vec::new());
    let mut errors_open = true;
    loop {
        let left = deadline.checked_duration_since(Instant::now());
        let left = left.ok_or_else(|| format!("the login took longer than {:?}", limits.login_time))?;
        let mut watched = vec![PollFd::new(stdout, PollFlags::IN)];
        if errors_open {
            watched.push(PollFd::new(stderr, PollFlags::IN));
        }
        match poll(&mut watched, Some(&timespec(left))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        if errors_open {
            // Nobody asked for it; but who writes it must not wait.
            errors_open = take(stderr.as_fd(), &mut scrap).map_err(|error| error.to_string())?;
            scrap.clear();
        }
        let before = told.len();
        let open = take(stdout.as_fd(), &mut told).map_err(|error| error.to_string())?;
        // What a trap says at the exit may be behind it.
        if memchr::memmem::find(&told[before.saturating_sub(end.len())..], end.as_bytes()).is_some() {
            return Ok(told);
        }
        if told.len() > limits.login_state_bytes {
            return Err(format!("the state is larger than {} bytes", limits.login_state_bytes));
        }
        if !open {
            return Err("the start-up files end the shell, or replace it".into());
        }
    }
}

/// Takes what is there, up to one buffer. False at the end.
fn take(from: std::os::fd::BorrowedFd<'_>, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    match rustix::io::read(from, &mut buffer) {
        Ok(0) => Ok(false),
        Ok(read) => {
            into.extend_from_slice(&buffer[..read]);
            Ok(true)
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// The parts between the marks, but for the last.
fn parts<'t>(told: &'t [u8], names: &[&str], mark: &str) -> Option<Vec<&'t [u8]>> {
    let mut found = Vec::new();
    let mut rest = told;
    for (index, part) in names.iter().enumerate() {
        let heading = format!("\n{mark}-{part}\n");
        let at = memchr::memmem::find(rest, heading.as_bytes())?;
        if index > 0 {
            found.push(&rest[..at]);
        }
        rest = &rest[at + heading.len()..];
    }
    Some(found)
}
