//! `codex sandbox`, by hand: what it says and how it ends when something is not as it should be.

use std::process::Command;

use codex_e2e::binary;

use super::{Ground, enforceable};

/// In a container, a session that was made outside of its PID namespace has no number.
#[test]
fn it_runs_in_a_session_and_a_group_from_outside_of_its_pid_namespace() {
    if !enforceable() || !rustix::process::geteuid().is_root() {
        return;
    }
    let ground = Ground::new();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(binary::codex());
    command.args(["sandbox", "--", "sh", "-c", "echo ran; exit 7"]).current_dir(ground.at("w"));
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n");
}

#[test]
fn what_can_not_be_run_is_told_as_a_shell_does() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    std::fs::write(ground.at("w/text"), "no program").unwrap();
    let nothing = ground.at("nothing.json");
    std::fs::write(
        &nothing,
        r#"{"type":"managed","network":"restricted","file_system":{"type":"restricted","entries":[]}}"#,
    )
    .unwrap();
    let nothing = nothing.to_str().unwrap();
    for (arguments, code, said) in [
        (&["--", "true"][..], 0, ""),
        (&["--", "sh", "-c", "exit 7"], 7, ""),
        (&["--", "/no/such/program"], 127, "was not found"),
        (&["--", "./text"], 126, "cannot be run"),
        (&["--profile", "bogus", "--", "true"], 2, "--profile takes read-only, workspace-write or a file"),
        (&["--profile", nothing, "--", "true"], 1, "the profile may not let it be read"),
        (&["--deny", "missing", "--", "true"], 0, "warning: --deny names"),
        (&["--deny", "../w/text", "--", "sh", "-c", "! grep program text"], 0, ""),
        (&["--deny", "text", "--", "sh", "-c", "! grep program text"], 0, ""),
    ] {
        let mut command = Command::new(binary::codex());
        let output =
            command.arg("sandbox").args(arguments).current_dir(ground.at("w")).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
