//! What is there before the first program starts.

use std::path::Path;

use super::{PIPES, drain, in_own_process, program, wait_for_end};
use crate::spawn::spawn;
use crate::streams::Ends;
use crate::supervision::{self, Wanted};

/// Has orphans come to this process.
pub(super) fn become_subreaper() {
    let _no_guard = supervision::want(Wanted { guard: None, orphans: true });
    let established = supervision::establish().expect("it was wanted");
    assert!(established.no_orphans().is_none(), "{established:?}");
}

#[test]
fn the_first_program_waits_for_what_was_wanted() {
    if !in_own_process(module_path!(), "the_first_program_waits_for_what_was_wanted") {
        return;
    }
    let echo = || {
        let child = spawn(&program(&["echo", "here"], PIPES)).expect("it starts");
        let Ends::Pipes { stdout, .. } = child.ends else { panic!("pipes") };
        assert_eq!(drain(stdout), "here\n");
        wait_for_end(child.pid, child.pidfd);
    };
    echo();
    assert!(supervision::is_settled() && !supervision::is_subreaper(), "nothing is done unasked");
    let _no_guard = supervision::want(Wanted { guard: None, orphans: true });
    assert!(
        !supervision::is_settled() && !supervision::is_subreaper(),
        "nothing is done before it is needed"
    );
    echo();
    assert!(supervision::is_settled() && supervision::is_subreaper());
}

#[test]
fn a_guard_that_cannot_be_had_is_told_and_keeps_nobody_from_starting_programs() {
    let name = "a_guard_that_cannot_be_had_is_told_and_keeps_nobody_from_starting_programs";
    if !in_own_process(module_path!(), name) {
        return;
    }
    // A program that ends with a failure, as one does that can't fork.
    let _goodbye = supervision::want(Wanted { guard: Some(Path::new("/bin/false").into()), orphans: true });
    let established = supervision::establish().expect("it was wanted");
    assert!(established.no_guard().is_some() && established.no_orphans().is_none(), "{established:?}");
    let child = spawn(&program(&["true"], PIPES)).expect("it starts");
    wait_for_end(child.pid, child.pidfd);
}
