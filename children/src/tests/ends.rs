//! How a program ends, and who is signalled.

use std::time::Duration;

use rustix::process::Signal;

use super::{PIPES, TERMINAL, program, run, shell, wait_for_end};
use crate::reap::{How, try_reap};
use crate::spawn::spawn;
use crate::streams::Stdio;
use crate::{orphans, procfs, tree};

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
