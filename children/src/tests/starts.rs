//! How a program starts: its streams, terminal, directory, environment, signals.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Signal;

use super::{PIPES, TERMINAL, drain, in_own_process, program, read_line, run, shell, stdout, wait_for_end};
use crate::reap::How;
use crate::spawn::{SpawnError, spawn};
use crate::streams::{Ends, Stdio};
use crate::{terminal, tree};

#[test]
pub(super) fn a_program_has_only_its_three_streams() {
    // A descriptor that is not close-on-exec, as a careless parent leaves it.
    let careless = rustix::io::dup(std::fs::File::open("/").expect("a directory")).expect("a copy");
    for stdio in [PIPES, Stdio::Pipes { stdin: true }, TERMINAL] {
        let (output, _) = run(&program(&["ls", "/proc/self/fd"], stdio));
        // 3 is the directory that ls reads.
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{stdio:?}");
    }
    drop(careless);
}

#[test]
pub(super) fn a_program_leads_its_own_session_and_group() {
    for stdio in [PIPES, TERMINAL] {
        let (output, _) = run(&shell("echo $$; cut -d' ' -f1,5,6 /proc/$$/stat", stdio));
        let numbers: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(numbers, [numbers[0]; 4], "{stdio:?}");
    }
}

#[test]
pub(super) fn stdin_is_empty_without_a_pipe_and_written_with_one() {
    assert_eq!(run(&shell("cat; readlink /proc/self/fd/0", PIPES)).0, "/dev/null\n");
    let child = spawn(&program(&["cat"], Stdio::Pipes { stdin: true })).expect("it starts");
    let Ends::Pipes { stdin: Some(stdin), stdout, .. } = child.ends else { panic!("pipes") };
    let mut stdin = std::fs::File::from(stdin);
    stdin.write_all(b"through").expect("written");
    drop(stdin);
    assert_eq!(drain(stdout), "through");
    assert_eq!(wait_for_end(child.pid, child.pidfd).how, How::Exited(0));
}

#[test]
fn stdout_and_stderr_are_apart() {
    let child = spawn(&shell("echo out; echo err >&2", PIPES)).expect("it starts");
    let Ends::Pipes { stdin, stdout, stderr } = child.ends else { panic!("pipes") };
    assert!(stdin.is_none());
    assert_eq!((drain(stdout).as_str(), drain(stderr).as_str()), ("out\n", "err\n"));
    wait_for_end(child.pid, child.pidfd);
}

#[test]
fn our_ends_never_block_and_theirs_do() {
    let child = spawn(&program(&["cat"], Stdio::Pipes { stdin: true })).expect("it starts");
    assert_eq!(rustix::io::read(stdout(&child), &mut [0; 8]), Err(rustix::io::Errno::AGAIN));
    let theirs =
        std::fs::read_to_string(format!("/proc/{}/fdinfo/1", child.pid.as_raw_pid())).expect("fdinfo");
    let flags = theirs.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
    assert_eq!(i32::from_str_radix(flags, 8).expect("octal") & libc::O_NONBLOCK, 0);
    assert!(tree::kill_group(child.pid, Signal::KILL).expect("allowed"));
    wait_for_end(child.pid, child.pidfd);
}

#[test]
pub(super) fn a_terminal_is_the_controlling_one_and_cooked() {
    let (output, _) = run(&shell("tty; stty -a; tty < /dev/tty; ps -o tty= -p $$ || true", TERMINAL));
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{output}");
    assert!(lines[1].contains("rows 24; columns 80"), "{output}");
    for setting in ["icanon", "isig", "echo", "opost", "icrnl", "onlcr"] {
        assert!(output.split_whitespace().any(|word| word == setting), "{setting} in {output}");
    }
    assert!(output.contains("/dev/tty"), "{output}");
    let (output, _) = run(&shell("cut -d' ' -f1,8 /proc/$$/stat; : > /dev/tty && echo controlled", TERMINAL));
    let mut fields = output.split_whitespace();
    assert_eq!(fields.next(), fields.next(), "the group is in the foreground: {output}");
    assert_eq!(fields.next(), Some("controlled"));
}

#[test]
fn a_terminal_has_the_size_that_was_asked_for_and_changes_it() {
    let child = spawn(&shell("stty size; read x; stty size", Stdio::Terminal { rows: 5, cols: 7 }))
        .expect("it starts");
    let Ends::Terminal { master } = child.ends else { panic!("a terminal") };
    assert_eq!(read_line(&master), "5 7");
    terminal::resize(&master, 50, 132).expect("a terminal");
    rustix::io::write(&master, b"\n").expect("written");
    assert!(drain(master).contains("50 132"));
    wait_for_end(child.pid, child.pidfd);
}

#[test]
pub(super) fn the_program_sees_arg0_and_exactly_its_environment() {
    let mut named = program(&["sh", "-c", "echo $0; tr '\\0' '\\n' < /proc/$$/cmdline"], PIPES);
    named.arg0 = Some("other".into());
    assert_eq!(run(&named).0.lines().collect::<Vec<_>>()[..2], ["other", "other"]);
    let mut bare = program(&["env"], PIPES);
    bare.env = vec![("A".into(), "1".into()), ("B".into(), OsStr::from_bytes(b"\xc3\xa9=x").into())];
    assert_eq!(run(&bare).0, "A=1\nB=é=x\n");
}

#[test]
pub(super) fn a_program_starts_in_its_directory_and_relative_to_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("bin/tool");
    std::fs::create_dir(dir.path().join("bin")).expect("a directory");
    std::fs::write(&script, "#!/bin/sh\npwd\n").expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    for (name, path) in [("./bin/tool", "/bin"), ("bin/tool", "/bin"), ("tool", "bin:/bin")] {
        let mut program = program(&[name], PIPES);
        program.cwd = dir.path().to_owned();
        program.env = vec![("PATH".into(), path.into())];
        assert_eq!(Path::new(run(&program).0.trim()), dir.path(), "{name} with PATH={path}");
    }
}

#[test]
pub(super) fn what_cannot_start_says_why() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        path.to_str().expect("text").to_owned()
    };
    let text = file("text", "echo no\n", 0o755);
    let closed = file("closed", "#!/bin/sh\n", 0o644);
    let orphaned = file("orphaned", "#!/no/such/interpreter\n", 0o755);
    let folder = dir.path().to_str().expect("text");
    for (argv0, cwd, expected) in [
        (
            "nosuchprogram",
            "/",
            "\"nosuchprogram\" was not found (it is in no directory of the child's PATH): No such file or directory (os error 2)",
        ),
        (
            "/no/such/program",
            "/",
            "was not found (there is no such file): No such file or directory (os error 2)",
        ),
        (text.as_str(), "/", "must begin with #!): Exec format error (os error 8)"),
        (closed.as_str(), "/", "executed): Permission denied (os error 13)"),
        (folder, "/", "executed): Permission denied (os error 13)"),
        (
            orphaned.as_str(),
            "/",
            "interpreter that it names is missing): No such file or directory (os error 2)",
        ),
        (
            "true",
            "/no/such/cwd",
            "working directory \"/no/such/cwd\" cannot be used: No such file or directory (os error 2)",
        ),
        ("nosuchprogram", "/no/such/cwd", "working directory \"/no/such/cwd\" cannot be used: No such file"),
        ("true", closed.as_str(), "cannot be used: Not a directory (os error 20)"),
        ("", "/", "the program's name is empty"),
        ("a\0b", "/", "contains a NUL byte"),
    ] {
        for stdio in [PIPES, TERMINAL] {
            let mut program = program(&[argv0], stdio);
            program.cwd = cwd.into();
            let error = spawn(&program).expect_err(argv0).to_string();
            assert!(error.contains(expected), "{argv0:?} in {cwd}: {error}");
        }
    }
    assert!(matches!(spawn(&program(&[], PIPES)), Err(SpawnError::EmptyName)));
    assert!(spawn(&program(&["true", "a\0b"], PIPES)).expect_err("NUL").to_string().contains("argument"));
    let mut secret = program(&["true"], PIPES);
    secret.env.push(("A".into(), "hidden\0".into()));
    let error = spawn(&secret).expect_err("NUL").to_string();
    assert!(error.contains("NUL") && !error.contains("hidden"), "{error}");
}

#[test]
#[allow(unsafe_code)]
pub(super) fn ignored_and_blocked_signals_are_reset() {
    if !in_own_process(module_path!(), "ignored_and_blocked_signals_are_reset") {
        return;
    }
    // SAFETY: ignoring signals runs no code, and the set is filled before it is read.
    unsafe {
        for signal in [libc::SIGINT, libc::SIGPIPE, libc::SIGHUP, libc::SIGUSR1, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_IGN);
        }
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
    let (output, _) = run(&program(&["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"], PIPES));
    let masks: Vec<&str> = output.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(masks, ["0000000000000000"; 2], "{output}");
}
