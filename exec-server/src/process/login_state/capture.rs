//! Logs in once with bash, and writes down what is there afterwards as a script.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::{Duration, Instant};

use codex_children::spawn::{Child, Program, spawn};
use codex_children::streams::{Ends, Stdio};
use codex_children::{reap, tree};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::variables::{Variables, is_passing};
use crate::limits::ProcessLimits;

/// What a login left behind.
pub(super) struct Captured {
    /// Restores it in a shell that has not logged in.
    pub(super) script: Vec<u8>,
    /// The variables of programs that the shell would start.
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// How long a shell that has told everything may take to end.
const ENDING: Duration = Duration::from_millis(200);

/// Tells everything at the end of a login, in parts behind lines that nothing else prints. It uses no name that a start-up
/// file may have given to a function or an alias, and changes nothing before it has told it.
const TELL: &str = r#"\builtin printf '\n%s\n' '@-environment'
/usr/bin/env -0
\builtin printf '\n%s\n' '@-directory'
\builtin printf '%s' "$PWD"
\builtin printf '\n%s\n' '@-settings'
\builtin trap -p
\builtin umask -p
\builtin printf '\n%s\n' '@-aliases'
\builtin alias -p
\builtin printf '\n%s\n' '@-options'
\builtin shopt -p
\builtin set +o
\builtin printf '\n%s\n' '@-functions'
\builtin declare -f
\builtin printf '\n%s\n' '@-variables'
\builtin set +eu
while IFS= \builtin read -r __codex_name; do \builtin printf '\0'; \builtin declare -p "$__codex_name"; done < <(\builtin compgen -v)
\builtin printf '\n%s\n' '@-end'
"#;

/// The parts of [`TELL`], in order.
const PARTS: [&str; 8] =
    ["environment", "directory", "settings", "aliases", "options", "functions", "variables", "end"];

/// Variables that a shell has of itself, and those that are about one run of it.
const OF_THE_SHELL: [&str; 27] = [
    "COLUMNS",
    "DIRSTACK",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HISTCMD",
    "HOSTNAME",
    "HOSTTYPE",
    "LINENO",
    "LINES",
    "MACHTYPE",
    "OPTARG",
    "OPTERR",
    "OPTIND",
    "OSTYPE",
    "PATH",
    "PIPESTATUS",
    "PPID",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SRANDOM",
    "TERM",
    "UID",
    "__codex_name",
];

/// Options that say how a shell was started and can't be set.
const FIXED_OPTIONS: [&str; 3] = ["login_shell", "restricted_shell", "privileged"];

/// Logs in, in this environment, and gives what there is then. Blocks.
///
/// # Errors
/// A sentence, when the login fails, takes too long, or does what no script can do again.
pub(super) fn state(shell: &str, env: &Variables, limits: &ProcessLimits) -> Result<Captured, String> {
    let mark = uuid::Uuid::new_v4().simple().to_string();
    let program = Program {
        argv: [shell, "-lc", &TELL.replace('@', &mark)].map(OsString::from).into(),
        arg0: None,
        cwd: "/".into(),
        env: env.to_vec(),
        stdio: Stdio::Pipes { stdin: false },
    };
    let child = spawn(&program).map_err(|error| error.to_string())?;
    let told = listen(child, &format!("\n{mark}-end\n"), limits)?;
    let parts = parts(&told, &mark).ok_or("the start-up files end the shell, or replace it")?;
    script(&parts, env)
}

/// Everything that the shell prints up to `end`. A shell that does not get there is killed with all it has started; else
/// what it has started, an agent for keys perhaps, goes on.
fn listen(child: Child, end: &str, limits: &ProcessLimits) -> Result<Vec<u8>, String> {
    let Child { pid, pidfd, ends, .. } = child;
    let Ends::Pipes { stdout, stderr, .. } = ends else { return Err("it has no pipes".into()) };
    let told = read_to(&stdout, &stderr, end, limits);
    let ended = told.is_ok() && {
        let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
        poll(&mut watched, Some(&timespec(ENDING))).is_ok_and(|ready| ready > 0)
    };
    if !ended {
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
        let open = take(stdout.as_fd(), &mut told).map_err(|error| error.to_string())?;
        if told.ends_with(end.as_bytes()) {
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

/// The parts between the marks.
fn parts<'t>(told: &'t [u8], mark: &str) -> Option<[&'t [u8]; 7]> {
    let mut found = [&b""[..]; 7];
    let mut rest = told;
    for (index, part) in PARTS.iter().enumerate() {
        let heading = format!("\n{mark}-{part}\n");
        let at = memchr::memmem::find(rest, heading.as_bytes())?;
        if let Some(before) = index.checked_sub(1) {
            found[before] = &rest[..at];
        }
        rest = &rest[at + heading.len()..];
    }
    Some(found)
}

/// The script that makes a shell what the login shell was.
fn script(parts: &[&[u8]; 7], before: &Variables) -> Result<Captured, String> {
    let [environment, directory, settings, aliases, options, functions, variables] = parts;
    if *directory != b"/" {
        return Err("the start-up files change the working directory".into());
    }
    let environment = variables_of(environment);
    let mut script = Vec::new();
    let exported = exports(&environment, before, &mut script);
    let (how_text_is_read, how_it_is_run): (Vec<&[u8]>, Vec<&[u8]>) = options
        .split(|byte| *byte == b'\n')
        .filter(|line| !is_fixed(line))
        .partition(|line| line.starts_with(b"shopt "));
    let plain = variables.split(|byte| *byte == 0).filter(|entry| is_plain_variable(entry));
    // Functions are read with the patterns that they were written with, and without aliases, which would change them.
    let lines = how_text_is_read.into_iter().chain(plain.map(<[u8]>::trim_ascii_end));
    let lines =
        lines.chain([*functions, &exported, *settings, *aliases]).chain(how_it_is_run).chain([&b":"[..]]);
    for line in lines {
        script.extend_from_slice(line);
        script.push(b'\n');
    }
    Ok(Captured { script, environment })
}

fn variables_of(block: &[u8]) -> Vec<(OsString, OsString)> {
    let pair = |entry: &[u8]| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        Some((OsString::from_vec(entry[..at].to_vec()), OsString::from_vec(entry[at + 1..].to_vec())))
    };
    block.split(|byte| *byte == 0).filter_map(pair).collect()
}

/// Writes what the login has changed of the environment; gives the lines that export functions, for behind them.
fn exports(environment: &Variables, before: &Variables, script: &mut Vec<u8>) -> Vec<u8> {
    let mut functions = Vec::new();
    let value_before = |name: &OsStr| before.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    for (name, value) in environment {
        let text = name.as_bytes();
        if let Some(function) = text.strip_prefix(b"BASH_FUNC_").and_then(|name| name.strip_suffix(b"%%")) {
            functions.extend([b"export -f -- ", function, b"\n"].concat());
        } else if is_name(text) && !is_passing(name) && value_before(name) != Some(value) {
            script.extend([b"export ", text, b"=", &quoted(value.as_bytes())[..], b"\n"].concat());
        }
    }
    for (name, _) in before {
        let is_gone = !environment.iter().any(|(known, _)| known == name);
        if is_gone && is_name(name.as_bytes()) && !is_passing(name) {
            script.extend([b"unset -v ", name.as_bytes(), b"\n"].concat());
        }
    }
    functions
}

fn is_name(text: &[u8]) -> bool {
    text.first().is_some_and(|first| !first.is_ascii_digit())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// A word that stands for these bytes.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut word = vec![b'\''];
    for byte in bytes {
        match byte {
            b'\'' => word.extend(b"'\\''"),
            byte => word.push(*byte),
        }
    }
    word.push(b'\'');
    word
}

/// Whether `declare -FLAGS NAME=…` is of a variable that is not exported and not the shell's own.
fn is_plain_variable(entry: &[u8]) -> bool {
    let Some(rest) = entry.strip_prefix(b"declare -") else { return false };
    let Some(space) = rest.iter().position(|byte| *byte == b' ') else { return false };
    let (flags, rest) = (&rest[..space], &rest[space + 1..]);
    let name = rest.split(|byte| *byte == b'=' || *byte == b'\n').next().unwrap_or_default();
    !flags.contains(&b'x')
        && is_name(name)
        && !name.starts_with(b"BASH")
        && !name.starts_with(b"COMP_")
        && !OF_THE_SHELL.iter().any(|own| own.as_bytes() == name)
        && !is_passing(OsStr::from_bytes(name))
}

/// Whether a line sets an option that can't be set.
fn is_fixed(line: &[u8]) -> bool {
    let option = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    FIXED_OPTIONS.iter().any(|fixed| fixed.as_bytes() == option)
}
