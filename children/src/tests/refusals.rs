//! Linux's own way to start a program, where the kernel or a filter refuses the newer calls.

use rustix::process::Signal;

use super::starts::{
    a_program_has_only_its_three_streams, a_program_leads_its_own_session_and_group,
    a_program_starts_in_its_directory_and_relative_to_it, a_terminal_is_the_controlling_one_and_cooked,
    ignored_and_blocked_signals_are_reset, stdin_is_empty_without_a_pipe_and_written_with_one,
    the_program_sees_arg0_and_exactly_its_environment, what_cannot_start_says_why,
};
use super::{PIPES, in_own_process, program, shell, wait_for_end};
use crate::reap::How;
use crate::spawn::spawn;
use crate::streams::Stdio;
use crate::testing::{refuse_calls, refuse_flag};
use crate::{tree, vfork};

#[test]
fn programs_start_the_same_where_the_kernel_gives_less_help() {
    if !in_own_process(module_path!(), "programs_start_the_same_where_the_kernel_gives_less_help") {
        return;
    }
    vfork::refuse(true);
    a_program_has_only_its_three_streams();
    a_program_leads_its_own_session_and_group();
    stdin_is_empty_without_a_pipe_and_written_with_one();
    a_terminal_is_the_controlling_one_and_cooked();
    the_program_sees_arg0_and_exactly_its_environment();
    a_program_starts_in_its_directory_and_relative_to_it();
    what_cannot_start_says_why();
    ignored_and_blocked_signals_are_reset();
}

/// Where a filter answers calls with an error, or the kernel has none, the older ways are taken, and a start does not fail.
#[test]
fn a_call_that_is_refused_leaves_an_older_way() {
    if !in_own_process(module_path!(), "a_call_that_is_refused_leaves_an_older_way") {
        return;
    }
    const NEWER: [libc::c_long; 4] =
        [libc::SYS_close_range, libc::SYS_clone3, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal];
    for calls in NEWER.iter().map(std::slice::from_ref).chain([&NEWER[..]]) {
        for errno in [libc::ENOSYS, libc::EPERM] {
            vfork::refuse(false);
            let calls = calls.to_vec();
            let refuses_clone = calls.contains(&libc::SYS_clone3);
            let started = std::thread::spawn(move || {
                refuse_calls(&calls, errno);
                // First, since what is ignored is asked once.
                ignored_and_blocked_signals_are_reset();
                a_program_has_only_its_three_streams();
                let child = spawn(&program(&["cat"], Stdio::Pipes { stdin: true })).expect("it starts");
                tree::kill_tree(child.pid, Signal::KILL).expect("allowed");
                wait_for_end(child.pid, child.pidfd).how
            });
            assert_eq!(started.join().expect("no panic"), How::Killed(9), "{errno}");
            assert_eq!(vfork::refuse(false), refuses_clone, "{errno}");
        }
    }
}

/// As before Linux 5.2: there is nothing to watch a child by but a thread that waits for it.
#[test]
fn a_program_is_watched_without_a_pidfd() {
    if !in_own_process(module_path!(), "a_program_is_watched_without_a_pidfd") {
        return;
    }
    vfork::refuse(true);
    let started = std::thread::spawn(|| {
        refuse_calls(&[libc::SYS_clone3, libc::SYS_pidfd_open], libc::ENOSYS);
        refuse_flag(libc::SYS_clone, libc::CLONE_PIDFD, libc::EINVAL);
        [("exit 3", How::Exited(3)), ("kill -9 $$", How::Killed(9))].map(|(script, how)| {
            let child = spawn(&shell(script, PIPES)).expect("it starts");
            (wait_for_end(child.pid, child.pidfd).how, how)
        })
    });
    for (how, expected) in started.join().expect("no panic") {
        assert_eq!(how, expected);
    }
}
