//! What `codex doctor` says to paste cures what it found, where that can be staged here.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::escapes::NOBODY;
use super::*;

/// In a user namespace of its own, whose administrator it is, and with mounts of its own; programs are started without that. (They
/// keep what it takes to give their own number 0 a meaning in a namespace of theirs.)
const STAGE: &str = r#"
codex=$1 refuse=$2
without_rights() { setpriv --bounding-set -all,+setfcap --inh-caps -all -- "$@"; }
doctor() { without_rights "$codex" doctor; }
# The same on a kernel that answers a call with an error.
refusing() { without_rights "$refuse" "$@" "$codex" doctor; }
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
    command.args(["-U", "-r", "-m", "sh", "-c", &script, "sh"]);
    command.arg(codex_e2e::binary::codex()).arg(env!("CARGO_BIN_EXE_refuse"));
    let output = command.output().expect("it runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether the stage can be set up here.
fn is_stage() -> bool {
    if !enforceable() {
        return false;
    }
    let said = stage("doctor");
    if !is_enforced(&said) {
        eprintln!("SKIPPED: an ordinary user can't run the binary here, or has no user namespaces:\n{said}");
    }
    is_enforced(&said)
}

/// What a report says below a profile that is refused, as it stands there.
fn to_paste(report: &str, profile: &str) -> String {
    let refused = format!("LIMITED {profile}:");
    let lines = report.lines().skip_while(|line| !line.starts_with(&refused)).skip(1);
    lines.take_while(|line| line.starts_with(' ')).collect::<Vec<_>>().join("\n")
}

/// Whether a report says that writing the workspace is enforced.
fn is_enforced(report: &str) -> bool {
    report.lines().any(|line| line.starts_with("ok      workspace-write: enforced"))
}

/// A situation, and what is said of it.
struct Situation {
    name: &'static str,
    /// Shell commands that bring it about; then the function `look` asks the doctor.
    script: String,
    /// The profile that is refused.
    refused: &'static str,
    why: &'static str,
    /// Among the commands to paste; empty where there are none.
    pasted: &'static str,
    /// What was pasted can be done here, and cures it.
    cured: bool,
}

/// Those that can be staged here. What a container lacks counts before what its machine forbids.
fn situations() -> Vec<Situation> {
    let refused = "workspace-write";
    let no_namespaces = format!("refusing {} {}", libc::EPERM, libc::SYS_unshare);
    let container = |name, made: &str, why, pasted| {
        let script = format!("{made}\nlook() {{ {no_namespaces}; }}");
        Situation { name, script, refused, why, pasted, cured: false }
    };
    let mut situations = vec![
        Situation {
            name: "no more user namespaces",
            script: "echo 0 > /proc/sys/user/max_user_namespaces; look() { doctor; }".to_owned(),
            refused,
            why: "user.max_user_namespaces is 0",
            pasted: "sudo sysctl -w user.max_user_namespaces=15000",
            cured: true,
        },
        Situation {
            name: "Debian's switch",
            script: format!(
                "mount -t tmpfs none /proc/sys/kernel; switch=/proc/sys/kernel/unprivileged_userns_clone; echo 0 > $switch\n\
                 look() {{ if [ $(cat $switch) = 0 ]; then {no_namespaces}; else doctor; fi; }}"
            ),
            refused,
            why: "kernel.unprivileged_userns_clone is 0",
            pasted: "sudo sysctl -w kernel.unprivileged_userns_clone=1",
            cured: true,
        },
        Situation {
            name: "an old kernel",
            script: format!(
                "release=$(mktemp); echo 5.10.0-1 > $release; mount --bind $release /proc/sys/kernel/osrelease; rm -f $release\n\
                 look() {{ refusing {} {}; }}",
                libc::ENOSYS,
                libc::SYS_mount_setattr
            ),
            refused,
            why: "this is Linux 5.10",
            pasted: "",
            cured: false,
        },
        Situation {
            name: "Landlock not switched on",
            script: format!(
                "echo 0 > /proc/sys/user/max_user_namespaces; look() {{ refusing {} {}; }}",
                libc::EOPNOTSUPP,
                libc::SYS_landlock_create_ruleset
            ),
            refused: "read-only",
            why: "not switched on at boot",
            pasted: "lsm=landlock,",
            cured: false,
        },
        container(
            "Podman's default",
            "mount -t tmpfs none /run; : > /run/.containerenv",
            "Podman",
            "--security-opt unmask=ALL",
        ),
    ];
    if std::fs::canonicalize("/var/run").is_ok_and(|path| path == Path::new("/run")) {
        situations.push(container(
            "a pod's default",
            "mount -t tmpfs none /run; mkdir -p /run/secrets/kubernetes.io",
            "Kubernetes",
            "seccompProfile: {type: Unconfined}",
        ));
    }
    if Path::new("/.dockerenv").exists() {
        situations.push(container("Docker's default", "", "Docker", "--security-opt seccomp=unconfined"));
    } else {
        situations.push(container(
            "AppArmor's restriction",
            "mount -t tmpfs none /proc/sys/kernel; echo 1 > /proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "AppArmor lets only programs with a profile",
            "sudo apparmor_parser -r /etc/apparmor.d/codex",
        ));
    }
    situations
}

#[test]
fn what_is_said_of_a_situation_cures_it() {
    if !is_stage() {
        return;
    }
    for Situation { name, script, refused, why, pasted, cured } in situations() {
        let said = stage(&format!("{script}\nlook"));
        let reason = said.lines().find(|line| line.starts_with(&format!("LIMITED {refused}: refused: ")));
        assert!(reason.is_some_and(|line| line.contains(why)), "{name}: {said}");
        let all = to_paste(&said, refused);
        assert!(all.contains(pasted), "{name}: {all}");
        assert_eq!(all.is_empty(), pasted.is_empty(), "{name}: {all}");
        if cured {
            let afterwards = stage(&format!("{script}\n{all}\nlook"));
            assert!(is_enforced(&afterwards), "{name}: {all}\n{afterwards}");
        }
    }
}

#[test]
fn a_server_says_at_its_start_what_to_paste() {
    if !is_stage() {
        return;
    }
    let server = "without_rights \"$codex\" exec-server --listen stdio < /dev/null";
    let said = stage(&format!("echo 0 > /proc/sys/user/max_user_namespaces; {server}"));
    assert!(said.contains("user.max_user_namespaces is 0"), "{said}");
    assert!(said.contains("sudo sysctl -w user.max_user_namespaces=15000"), "{said}");
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
