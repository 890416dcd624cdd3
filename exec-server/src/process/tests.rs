//! Tests with real programs.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use codex_exec_protocol::process::ProgramLimits;
use rustix::process::{Pid, Signal};

use super::reap::{Ending, How, reap, try_reap, watch};
use super::spawn::{Child, Ends, Program, SpawnError, Stdio, spawn};
use super::{orphans, procfs, terminal, tree};

const PIPES: Stdio = Stdio::Pipes { stdin: false };
const TERMINAL: Stdio = Stdio::Terminal { rows: terminal::DEFAULT_ROWS, cols: terminal::DEFAULT_COLS };

fn program(argv: &[&str], stdio: Stdio) -> Program {
    Program {
        handover: None,
        argv: argv.iter().map(OsString::from).collect(),
        arg0: None,
        cwd: PathBuf::from("/"),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        stdio,
        confined: None,
        group: None,
        limits: ProgramLimits::default(),
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

#[test]
fn a_program_has_only_its_three_streams() {
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
fn a_program_leads_its_own_session_and_group() {
    for stdio in [PIPES, TERMINAL] {
        let (output, _) = run(&shell("echo $$; cut -d' ' -f1,5,6 /proc/$$/stat", stdio));
        let numbers: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(numbers, [numbers[0]; 4], "{stdio:?}");
    }
}

#[test]
fn stdin_is_empty_without_a_pipe_and_written_with_one() {
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
fn a_terminal_is_the_controlling_one_and_cooked() {
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
fn the_program_sees_arg0_and_exactly_its_environment() {
    let mut named = program(&["sh", "-c", "echo $0; tr '\\0' '\\n' < /proc/$$/cmdline"], PIPES);
    named.arg0 = Some("other".into());
    assert_eq!(run(&named).0.lines().collect::<Vec<_>>()[..2], ["other", "other"]);
    let mut bare = program(&["env"], PIPES);
    bare.env = vec![("A".into(), "1".into()), ("B".into(), OsStr::from_bytes(b"\xc3\xa9=x").into())];
    assert_eq!(run(&bare).0, "A=1\nB=é=x\n");
}

#[test]
fn a_program_starts_in_its_directory_and_relative_to_it() {
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
fn what_cannot_start_says_why() {
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
fn ignored_and_blocked_signals_are_reset() {
    if !in_own_process("ignored_and_blocked_signals_are_reset") {
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

#[test]
fn programs_start_the_same_where_the_kernel_gives_less_help() {
    if !in_own_process("programs_start_the_same_where_the_kernel_gives_less_help") {
        return;
    }
    super::vfork::refuse(true);
    a_program_has_only_its_three_streams();
    a_program_leads_its_own_session_and_group();
    stdin_is_empty_without_a_pipe_and_written_with_one();
    a_terminal_is_the_controlling_one_and_cooked();
    the_program_sees_arg0_and_exactly_its_environment();
    a_program_starts_in_its_directory_and_relative_to_it();
    what_cannot_start_says_why();
    ignored_and_blocked_signals_are_reset();
}

/// Where a filter answers one of the calls with an error, the other way is taken, and a start does not fail.
#[test]
#[allow(unsafe_code)]
fn a_call_that_is_filtered_out_leaves_the_other_way() {
    if !in_own_process("a_call_that_is_filtered_out_leaves_the_other_way") {
        return;
    }
    for (call, errno) in [
        (libc::SYS_close_range, libc::ENOSYS),
        (libc::SYS_close_range, libc::EPERM),
        (libc::SYS_clone3, libc::ENOSYS),
    ] {
        super::vfork::refuse(false);
        let started = std::thread::spawn(move || {
            let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
            let mut filter = [
                op(0x20, 0, 0, 0),
                op(0x15, 0, 1, u32::try_from(call).expect("a number")),
                op(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | u32::try_from(errno).expect("a number")),
                op(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
            ];
            let filter = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
            // SAFETY: the filter is alive and its length right; it holds for this thread and what it starts alone.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
                assert_eq!(
                    libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter),
                    0
                );
            }
            spawn(&program(&["true"], PIPES)).map(|child| wait_for_end(child.pid, child.pidfd).how)
        });
        let how = started.join().expect("no panic");
        assert_eq!(how.expect("it starts"), How::Exited(0), "{call} {errno}");
        assert!(super::vfork::refuse(false), "{call} {errno}");
    }
}

#[test]
fn every_kind_of_end_has_its_code() {
    for (script, how, pipe, tty) in [
        ("exit 0", How::Exited(0), 0, 0),
        ("exit 255", How::Exited(255), 255, 255),
        ("kill -TERM $$", How::Killed(15), 143, 1),
        ("kill -KILL $$", How::Killed(9), 137, 1),
    ] {
        for stdio in [PIPES, TERMINAL] {
            let ending = run(&shell(script, stdio)).1;
            assert_eq!(
                (ending.how, ending.exit_code(false), ending.exit_code(true)),
                (how, pipe, tty),
                "{script}"
            );
            assert!(!ending.core_dumped);
        }
    }
}

#[test]
fn a_core_file_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut program = shell("ulimit -c unlimited && echo able; kill -SEGV $$", PIPES);
    program.cwd = dir.path().to_owned();
    let (output, ending) = run(&program);
    assert_eq!(ending.how, How::Killed(libc::SIGSEGV));
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if output == "able\n" && pattern.trim() == "core" {
        assert!(ending.core_dumped);
    }
}

#[test]
fn what_a_program_used_is_counted() {
    let ending = run(&shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", PIPES)).1;
    assert!(ending.cpu_user > Duration::ZERO, "{ending:?}");
    assert!(ending.max_rss_bytes > 100 << 10, "{ending:?}");
}

#[test]
fn a_reaped_program_is_neither_signalled_nor_reaped_again() {
    let child = spawn(&program(&["cat"], Stdio::Pipes { stdin: true })).expect("it starts");
    let pid = child.pid;
    assert_eq!(try_reap(pid).expect("it is ours"), None);
    assert!(tree::kill_group(pid, Signal::KILL).expect("allowed"));
    assert_eq!(wait_for_end(pid, child.pidfd).how, How::Killed(9));
    assert!(!tree::kill_group(pid, Signal::KILL).expect("nobody"));
    assert_eq!(tree::kill_tree(pid, Signal::KILL).expect("nobody"), 0);
    assert_eq!(try_reap(pid).expect_err("reaped").raw_os_error(), Some(libc::ECHILD));
}

#[test]
fn a_recycled_number_is_not_signalled() {
    let child = spawn(&program(&["cat"], Stdio::Pipes { stdin: true })).expect("it starts");
    let stamp = procfs::stat(child.pid).expect("readable").expect("it runs").stamp;
    let earlier = orphans::ProcessStamp { start_time: procfs::StartTime(stamp.start_time.0 - 1), ..stamp };
    assert!(!tree::signal_process(earlier, Signal::KILL).expect("nobody"));
    assert_eq!(tree::kill_leftovers(&[earlier], Signal::KILL).expect("nobody"), 0);
    assert!(!orphans::is_running(earlier).expect("readable"));
    assert_eq!(orphans::name(stamp).expect("readable").as_deref(), Some("cat"));
    assert!(tree::signal_process(stamp, Signal::KILL).expect("allowed"));
    wait_for_end(child.pid, child.pidfd);
    assert!(!orphans::is_running(stamp).expect("readable"));
}

#[test]
fn a_tree_ends_with_the_sessions_its_members_made() {
    // A grandchild in a session of its own, and one in the background of the group.
    let script = "sleep 1000 & echo $!; setsid sh -c 'sleep 1000 & echo $!; echo $$; wait' & wait";
    let child = spawn(&shell(script, PIPES)).expect("it starts");
    let pids: Vec<Pid> = (0..3).map(|_| pid(&read_line(stdout(&child)))).collect();
    assert!(tree::kill_tree(child.pid, Signal::KILL).expect("allowed") >= 4);
    assert_eq!(wait_for_end(child.pid, child.pidfd).how, How::Killed(9));
    pids.into_iter().for_each(wait_until_dead);
}

#[test]
fn a_tree_that_keeps_forking_ends() {
    let script = "g() { while :; do sleep 1000 & n=$((n+1)); \
                  [ $n -eq 20 ] && echo many; [ $n -lt 200 ] || wait; done; }; g";
    let child = spawn(&shell(script, PIPES)).expect("it starts");
    assert_eq!(read_line(stdout(&child)), "many");
    tree::kill_tree(child.pid, Signal::KILL).expect("allowed");
    // Its stdout ends when nobody is left to hold it.
    let Child { pid, pidfd, ends: Ends::Pipes { stdout, .. }, .. } = child else { panic!("pipes") };
    drain(stdout);
    assert_eq!(wait_for_end(pid, pidfd).how, How::Killed(9));
}

#[test]
fn without_adoption_the_session_of_an_ended_program_is_its_leftover() {
    let child = spawn(&shell("sleep 1000 & echo $!", PIPES)).expect("it starts");
    let left = pid(&read_line(stdout(&child)));
    wait_for_end(child.pid, child.pidfd);
    let found = orphans::leftovers_of(child.pid, child.origin).expect("readable");
    assert_eq!(found.iter().map(|left| left.stamp.pid).collect::<Vec<_>>(), [left]);
    tree::kill_leftovers(&[found[0].stamp], Signal::KILL).expect("allowed");
    wait_until_dead(left);
}

/// A daemon as the book says: fork, setsid, fork. Prints its pid.
const DAEMON: &str = "sh -c 'setsid sh -c \"sleep 1000 >/dev/null 2>&1 & echo \\$!\" & wait'";

#[test]
fn a_daemon_ends_with_the_running_program_it_left() {
    if !in_own_process("a_daemon_ends_with_the_running_program_it_left") {
        return;
    }
    orphans::become_subreaper().expect("a subreaper");
    let child = spawn(&shell(&format!("{DAEMON}; echo done; exec sleep 1000"), PIPES)).expect("it starts");
    let daemon = pid(&read_line(stdout(&child)));
    assert_eq!(read_line(stdout(&child)), "done");
    assert_eq!(
        procfs::stat(daemon).expect("readable").expect("it runs").parent,
        Some(rustix::process::getpid())
    );
    tree::kill_tree(child.pid, Signal::KILL).expect("allowed");
    wait_until_dead(daemon);
    wait_for_end(child.pid, child.pidfd);
    assert_eq!(orphans::reap_adopted().expect("readable"), [daemon]);
    assert_no_children();
}

#[test]
fn of_several_programs_each_takes_only_its_own_daemons_along() {
    if !in_own_process("of_several_programs_each_takes_only_its_own_daemons_along") {
        return;
    }
    orphans::become_subreaper().expect("a subreaper");
    // All at once, so that nothing but the mark tells them apart; the last one ends by itself.
    let start =
        |last: &str| spawn(&shell(&format!("{DAEMON}; echo done; {last}"), PIPES)).expect("it starts");
    let programs = [start("exec sleep 1000"), start("exec sleep 1000"), start("read nothing")];
    let daemons = programs.each_ref().map(|program| {
        let daemon = pid(&read_line(stdout(program)));
        assert_eq!(read_line(stdout(program)), "done");
        daemon
    });
    let runs = |pid| procfs::stat(pid).expect("readable").is_some_and(|stat| !stat.is_zombie());
    let [first, second, third] = programs;
    assert_eq!(wait_for_end(third.pid, third.pidfd).how, How::Exited(1));
    let left = orphans::leftovers_of(third.pid, third.origin).expect("readable");
    assert_eq!(left.iter().map(|left| left.stamp.pid).collect::<Vec<_>>(), [daemons[2]]);
    tree::kill_tree(second.pid, Signal::KILL).expect("allowed");
    wait_until_dead(daemons[1]);
    wait_for_end(second.pid, second.pidfd);
    assert_eq!(orphans::leftovers_of(second.pid, second.origin).expect("readable"), []);
    assert!(runs(daemons[0]) && runs(daemons[2]));
    tree::kill_tree(first.pid, Signal::KILL).expect("allowed");
    wait_until_dead(daemons[0]);
    wait_for_end(first.pid, first.pidfd);
    assert!(runs(daemons[2]), "what an ended program left is not another's");
    tree::kill_everything(Signal::KILL).expect("allowed");
    wait_until_dead(daemons[2]);
    orphans::reap_adopted().expect("readable");
    assert_no_children();
}

#[test]
fn a_start_that_hangs_holds_up_nobody() {
    if !in_own_process("a_start_that_hangs_holds_up_nobody") {
        return;
    }
    orphans::become_subreaper().expect("a subreaper");
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (finish, may_finish) = std::sync::mpsc::channel::<()>();
    let hanging = std::thread::spawn(move || {
        let _in_flight = super::children::spawn_in_flight();
        // As a start does until its exec: a child that nobody knows of.
        let mut child = Command::new("sleep").arg("1000").spawn().expect("it starts");
        begun.send(Pid::from_child(&child)).expect("somebody waits");
        may_finish.recv().expect("a word");
        child.kill().and_then(|()| child.wait()).expect("it ends");
    });
    let in_the_making = has_begun.recv().expect("a pid");
    let child = spawn(&shell(&format!("{DAEMON}; echo done; exec sleep 1000"), PIPES)).expect("it starts");
    let daemon = pid(&read_line(stdout(&child)));
    assert_eq!(read_line(stdout(&child)), "done");
    tree::kill_tree(child.pid, Signal::KILL).expect("allowed");
    wait_until_dead(daemon);
    wait_for_end(child.pid, child.pidfd);
    assert_eq!(orphans::leftovers_of(child.pid, child.origin).expect("readable"), []);
    orphans::reap_adopted().expect("readable");
    tree::kill_everything(Signal::KILL).expect("allowed");
    let stat = procfs::stat(in_the_making).expect("readable");
    assert!(stat.is_some_and(|stat| !stat.is_zombie()), "what is being started is no orphan");
    finish.send(()).expect("it waits");
    hanging.join().expect("it ends");
    assert_no_children();
}

#[test]
fn what_outlives_a_program_is_known_killed_and_reaped() {
    if !in_own_process("what_outlives_a_program_is_known_killed_and_reaped") {
        return;
    }
    orphans::become_subreaper().expect("a subreaper");
    // One in the program's session, with a child; one in a session of its own; one daemon.
    let script =
        format!("sh -c 'sleep 1000 & echo $!; echo $$; wait' & setsid sleep 1000 & echo $!; {DAEMON}; echo");
    let bystander = spawn(&program(&["sleep", "1000"], PIPES)).expect("it starts");
    let child = spawn(&shell(&script, PIPES)).expect("it starts");
    let mut expected: Vec<Pid> = (0..5)
        .map(|_| read_line(stdout(&child)))
        .filter(|line| !line.is_empty())
        .map(|line| pid(&line))
        .collect();
    assert_eq!(wait_for_end(child.pid, child.pidfd).how, How::Exited(0));
    let found = orphans::leftovers_of(child.pid, child.origin).expect("readable");
    let mut pids: Vec<Pid> = found.iter().map(|left| left.stamp.pid).collect();
    pids.sort_by_key(|pid| pid.as_raw_pid());
    expected.sort_by_key(|pid| pid.as_raw_pid());
    assert_eq!(pids, expected);
    // One that has told its number may not have executed yet.
    assert!(found.iter().all(|left| ["sleep", "sh", "setsid"].contains(&left.name.as_str())), "{found:?}");
    assert_eq!(orphans::leftovers_of(child.pid, child.origin).expect("readable"), [], "they are told once");
    let stamps: Vec<_> = found.iter().map(|left| left.stamp).collect();
    assert_eq!(tree::kill_leftovers(&stamps, Signal::KILL).expect("allowed"), stamps.len());
    expected.iter().copied().for_each(wait_until_dead);
    orphans::reap_adopted().expect("readable");
    assert_eq!(orphans::adopted_children().expect("readable"), []);
    assert!(tree::kill_group(bystander.pid, Signal::KILL).expect("allowed"), "the bystander still ran");
    wait_for_end(bystander.pid, bystander.pidfd);
    assert_no_children();
}

#[test]
fn reaping_orphans_never_takes_a_program_of_ours() {
    if !in_own_process("reaping_orphans_never_takes_a_program_of_ours") {
        return;
    }
    orphans::become_subreaper().expect("a subreaper");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(orphans::reap_adopted().expect("readable"), []);
            }
        });
        for _ in 0..200 {
            assert_eq!(run(&program(&["/bin/true"], PIPES)).1.how, How::Exited(0));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_no_children();
}

fn assert_no_children() {
    let snapshot = procfs::Snapshot::take().expect("readable");
    let ours: Vec<_> =
        snapshot.iter().filter(|stat| stat.parent == Some(rustix::process::getpid())).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// For tests that change what holds for the whole process. True in a process where only this test runs; elsewhere it
/// runs that, and is false.
fn in_own_process(test: &str) -> bool {
    const MARK: &str = "CODEX_TEST_IN_OWN_PROCESS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let name = format!("process::tests::{test}");
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
