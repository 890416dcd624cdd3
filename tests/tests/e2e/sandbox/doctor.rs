//! What `codex doctor` says to paste cures what it found, where that can be staged here.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::escapes::NOBODY;
use super::*;

/// In a user namespace of its own, whose administrator it is; programs are started without that.
const STAGE: &str = r#"
codex=$1
doctor() { setpriv --bounding-set -all --inh-caps -all -- "$codex" doctor; }
# What concerns files of the machine is for its administrator.
sudo() { case $1 in tee) cat >/dev/null ;; *) "$@" ;; esac }
PATH=$PATH:/usr/sbin:/sbin
"#;

/// Runs a script as an ordinary user who administers nothing but namespaces of its own.
fn stage(script: &str) -> String {
    let mut command = Command::new("unshare");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let script = format!("{STAGE}\n{script}");
    command.args(["-U", "-r", "sh", "-c", &script, "sh"]).arg(codex_e2e::binary::codex());
    let output = command.output().expect("it runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether a report says that writing the workspace is enforced.
fn is_enforced(report: &str) -> bool {
    report.lines().any(|line| line.starts_with("ok      workspace-write: enforced"))
}

#[test]
fn what_is_pasted_brings_user_namespaces_back() {
    if !enforceable() {
        return;
    }
    if !is_enforced(&stage("doctor")) {
        eprintln!("SKIPPED: an ordinary user can't run the binary here, or has no user namespaces");
        return;
    }
    let said = stage("echo 0 > /proc/sys/user/max_user_namespaces; doctor");
    assert!(!is_enforced(&said), "{said}");
    assert!(said.contains("user.max_user_namespaces is 0"), "{said}");
    // As it stands below the profile.
    let mut lines = said.lines().skip_while(|line| !line.starts_with("LIMITED workspace-write:")).skip(1);
    let pasted: Vec<&str> =
        std::iter::from_fn(|| lines.next().filter(|line| line.starts_with(' '))).collect();
    assert!(!pasted.is_empty(), "{said}");
    let pasted = pasted.join("\n");
    let cured = stage(&format!("echo 0 > /proc/sys/user/max_user_namespaces\n{pasted}\ndoctor"));
    assert!(is_enforced(&cured), "{pasted}\n{cured}");
}

#[test]
fn each_mechanism_that_is_missing_is_named_with_its_cure() {
    if !enforceable() {
        return;
    }
    for (without, words) in [
        ("seccomp", "CONFIG_SECCOMP_FILTER"),
        ("landlock,pid-namespace", "Landlock 6 comes with Linux 6.12"),
        ("landlock=2,pid-namespace", "Landlock 6 comes with Linux 6.12"),
    ] {
        let mut doctor = Command::new(codex_e2e::binary::codex());
        let output = doctor.args(["doctor", "--sandbox-without", without]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{without}: {said}");
        let refused = said.lines().find(|line| line.starts_with("LIMITED workspace-write:"));
        assert!(refused.is_some_and(|line| line.contains(words)), "{without}: {said}");
    }
}
