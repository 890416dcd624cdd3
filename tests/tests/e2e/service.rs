//! `codex exec-server service` with stand-ins for systemd's programs, and the pages of `codex man`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(codex_e2e::binary::codex());
    command.args(["exec-server", "service"]).args(arguments);
    command.env("HOME", home).env("XDG_CONFIG_HOME", home.join("config")).env("PATH", home.join("bin"));
    command.output().unwrap()
}

#[test]
fn a_unit_is_written_started_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let (home, bin) = (home.path(), home.path().join("bin"));
    let unit = home.join("config/systemd/user/codex-exec-server.service");
    let without = run(home, &["install"]);
    let told = String::from_utf8_lossy(&without.stderr);
    assert_eq!(without.status.code(), Some(1));
    assert!(told.contains("needs systemd") && told.contains("config/systemd/user"), "{told}");
    std::fs::create_dir(&bin).unwrap();
    for name in ["systemctl", "journalctl"] {
        let script = format!("#!/bin/sh\necho {name} \"$@\" >> {}/calls\n", home.display());
        std::fs::write(bin.join(name), script).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for arguments in
        [&["install"][..], &["status"], &["logs", "-f"], &["install", "--rendezvous", "--", "--x"]]
    {
        let output = run(home, arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("Restart=always") && text.contains("unix://%t/codex-exec-server.sock"), "{text}");
    let other = std::fs::read_to_string(unit.with_file_name("codex-rendezvous.service")).unwrap();
    assert!(other.contains("\"rendezvous\" \"--x\""), "{other}");
    assert_eq!(run(home, &["uninstall"]).status.code(), Some(0));
    assert!(!unit.exists());
    assert_eq!(run(home, &["uninstall"]).status.code(), Some(1), "there is none any more");
    let calls = std::fs::read_to_string(home.join("calls")).unwrap();
    for call in [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now codex-exec-server.service",
        "systemctl --user status codex-exec-server.service",
        "journalctl --user --unit codex-exec-server.service --follow",
        "systemctl --user enable --now codex-rendezvous.service",
        "systemctl --user disable --now codex-exec-server.service",
    ] {
        assert!(calls.lines().any(|line| line == call), "{call}: {calls}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    let output = Command::new(codex_e2e::binary::codex()).arg("man").arg(&pages).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for name in
        ["codex", "codex-doctor", "codex-exec-server", "codex-exec-server-run", "codex-exec-server-cp"]
    {
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
}
