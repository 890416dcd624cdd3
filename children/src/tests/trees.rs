//! What a program leaves behind, and how its whole tree ends.

use std::process::Command;

use rustix::process::{Pid, Signal};

use super::supervision::become_subreaper;
use super::{
    PIPES, drain, in_own_process, pid, program, read_line, run, shell, stdout, wait_for_end, wait_until_dead,
};
use crate::reap::How;
use crate::spawn::{Child, spawn};
use crate::streams::Ends;
use crate::{list, orphans, procfs, tree};

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
    if !in_own_process(module_path!(), "a_daemon_ends_with_the_running_program_it_left") {
        return;
    }
    become_subreaper();
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
    if !in_own_process(module_path!(), "of_several_programs_each_takes_only_its_own_daemons_along") {
        return;
    }
    become_subreaper();
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
    tree::kill_leftovers(&[left[0].stamp], Signal::KILL).expect("allowed");
    wait_until_dead(daemons[2]);
    orphans::reap_adopted().expect("readable");
    assert_no_children();
}

#[test]
fn a_start_that_hangs_holds_up_nobody() {
    if !in_own_process(module_path!(), "a_start_that_hangs_holds_up_nobody") {
        return;
    }
    become_subreaper();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (finish, may_finish) = std::sync::mpsc::channel::<()>();
    let hanging = std::thread::spawn(move || {
        let _in_flight = list::spawn_in_flight();
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
    let stat = procfs::stat(in_the_making).expect("readable");
    assert!(stat.is_some_and(|stat| !stat.is_zombie()), "what is being started is no orphan");
    finish.send(()).expect("it waits");
    hanging.join().expect("it ends");
    assert_no_children();
}

#[test]
fn what_outlives_a_program_is_known_killed_and_reaped() {
    if !in_own_process(module_path!(), "what_outlives_a_program_is_known_killed_and_reaped") {
        return;
    }
    become_subreaper();
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
    assert!(found.iter().all(|left| !orphans::is_running(left.stamp).expect("readable")));
    assert!(tree::kill_group(bystander.pid, Signal::KILL).expect("allowed"), "the bystander still ran");
    wait_for_end(bystander.pid, bystander.pidfd);
    assert_no_children();
}

#[test]
fn reaping_orphans_never_takes_a_program_of_ours() {
    if !in_own_process(module_path!(), "reaping_orphans_never_takes_a_program_of_ours") {
        return;
    }
    become_subreaper();
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
