//! Tests with real programs.

mod ends;
#[cfg(not(feature = "portable"))]
mod refusals;
mod starts;
mod supervision;
mod trees;

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;

use crate::reap::{Ending, reap, watch};
use crate::spawn::{Child, Program, spawn};
use crate::streams::{Ends, Stdio};
use crate::terminal;

const PIPES: Stdio = Stdio::Pipes { stdin: false };
const TERMINAL: Stdio = Stdio::Terminal { rows: terminal::DEFAULT_ROWS, cols: terminal::DEFAULT_COLS };

fn program(argv: &[&str], stdio: Stdio) -> Program {
    Program {
        argv: argv.iter().map(OsString::from).collect(),
        arg0: None,
        cwd: PathBuf::from("/"),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        stdio,
    }
}

fn shell(script: &str, stdio: Stdio) -> Program {
    program(&["sh", "-c", script], stdio)
}

/// Reads to the end. A terminal's end is EIO.
fn drain(fd: OwnedFd) -> String {
    rustix::io::ioctl_fionbio(&fd, false).expect("a blocking end");
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    match file.read_to_end(&mut bytes) {
        Err(error) if error.raw_os_error() != Some(libc::EIO) => panic!("{error}"),
        _ => String::from_utf8(bytes).expect("text"),
    }
}

fn read_line(fd: &OwnedFd) -> String {
    rustix::io::ioctl_fionbio(fd, false).expect("a blocking end");
    let mut line = Vec::new();
    let mut byte = [0];
    while rustix::io::read(fd, &mut byte).expect("readable") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text").trim().to_owned()
}

fn wait_for_end(child: Pid, pidfd: OwnedFd) -> Ending {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let pidfd = watch(pidfd).expect("a pidfd can be awaited");
        tokio::time::timeout(Duration::from_secs(60), reap(&pidfd, child))
            .await
            .expect("it ends")
            .expect("it is ours")
    })
}

/// Everything a program printed on stdout (or the terminal) and its end.
fn run(program: &Program) -> (String, Ending) {
    let Child { pid, pidfd, ends, .. } = spawn(program).expect("it starts");
    let output = match ends {
        Ends::Pipes { stdout, .. } => drain(stdout),
        Ends::Terminal { master } => drain(master),
    };
    (output, wait_for_end(pid, pidfd))
}

fn stdout(child: &Child) -> &OwnedFd {
    match &child.ends {
        Ends::Pipes { stdout, .. } => stdout,
        Ends::Terminal { master } => master,
    }
}

/// Waits until the process is gone or a zombie, by its pidfd.
fn wait_until_dead(pid: Pid) {
    if let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let minute = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut polled, Some(&minute)).expect("pollable"), 1, "{pid:?} lives on");
    }
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().expect("a number")).expect("a pid")
}

/// For tests that change what holds for the whole process. True in a process where only this test runs; elsewhere it
/// runs that, and is false. `module` is the path of where the test stands.
fn in_own_process(module: &str, test: &str) -> bool {
    const MARK: &str = "CODEX_TEST_IN_OWN_PROCESS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let (_, module) = module.split_once("::").expect("a crate");
    let name = format!("{module}::{test}");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", &name, "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}
