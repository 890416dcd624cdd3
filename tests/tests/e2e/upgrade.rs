//! A server gives way to another binary: programs, sessions and connections that wait are the new one's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use codex_e2e::machine::{alive, eventually};
use codex_e2e::{Follower, Server, ServerBuilder, binary, client::guarded};
use rustix::process::Signal;
use serde_json::json;

/// A server whose requests for an upgrade are looked for in this directory.
fn server_with(state: &Path) -> ServerBuilder {
    Server::builder().args(["-c".to_owned(), state_in(state)])
}

fn state_in(state: &Path) -> String {
    format!("exec_server.state_dir={:?}", state.display().to_string())
}

/// Asks for an upgrade of this server to that binary.
async fn upgrade(server: &Server, state: &Path, to: &Path) -> Output {
    let pid = server.keeper_pid().to_string();
    let mut command = tokio::process::Command::new(binary::codex());
    command.args(["exec-server", "upgrade", "--pid", &pid, "-c", &state_in(state), "--binary"]).arg(to);
    command.stdin(Stdio::null()).kill_on_drop(true);
    guarded("an upgrade", command.output()).await.expect("it runs")
}

/// The same program as another file.
fn copy_in(directory: &Path) -> PathBuf {
    let copy = directory.join("codex-new");
    std::fs::copy(binary::codex(), &copy).expect("copied");
    copy
}

/// An executable that does this.
fn script_in(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("script");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

fn file_of(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).expect("it runs")
}

#[tokio::test]
async fn programs_go_on_under_the_new_binary_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let copy = copy_in(directory.path());
    let mut server = server_with(directory.path()).start().await;
    let mut client = server.client().await;
    let script = "read go; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done; read x; exit 7";
    client.shell_with("p", script, json!({"pipeStdin": true})).await;
    client.write("p", "\n").await;
    let mut follower = Follower::new(client, &server.url, "p");
    follower.until_lines(500).await;
    let before = server.pid();
    let (output, ()) = tokio::join!(upgrade(&server, directory.path(), &copy), follower.until_lost());
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), server.told());
    assert!(!alive(before));
    assert_eq!(file_of(server.pid()), copy);
    follower.client.write("p", "\n").await;
    follower.to_the_end().await;
    let expected: String = (1..=3000).map(|n| format!("{n}\n")).collect();
    assert_eq!(String::from_utf8(follower.output()).unwrap(), expected);
    assert_eq!(follower.exit_code, Some(7));

    // A death after it is followed by the new binary as well.
    codex_e2e::machine::kill(server.pid());
    let keeper = server.keeper_pid();
    eventually("there is a server", || ![before, keeper].contains(&server.pid())).await;
    server.client().await;
    assert_eq!(file_of(server.pid()), copy);
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn open_connections_are_told_to_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let server = server_with(directory.path()).start().await;
    let mut client = server.client().await;
    let copy = copy_in(directory.path());
    let (output, _) = tokio::join!(upgrade(&server, directory.path(), &copy), client.expect_closed());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(client.close_code, Some(1012));
}

#[tokio::test]
async fn what_does_not_serve_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = server_with(directory.path()).start().await;
    let mut client = server.client().await;
    let before = server.pid();
    let cases = [
        (script_in(directory.path(), "exit 1"), "ended before it served"),
        (PathBuf::from("/dev/null"), "could not be started"),
    ];
    for (file, reason) in cases {
        let output = upgrade(&server, directory.path(), &file).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && said.contains("goes on as it was"), "{said}");
    }
    let output = upgrade(&server, directory.path(), &script_in(directory.path(), "exec sleep 1000")).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("did not serve within 5 s"), "{said}");
    assert_eq!(server.pid(), before);
    assert_eq!(client.run("p", "echo there").await.stdout(), "there\n", "its connection was left alone");
}

#[tokio::test]
async fn a_signal_without_a_request_is_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = server_with(directory.path()).start().await;
    let before = server.pid();
    server.signal(Signal::USR2);
    assert_eq!(server.client().await.run("p", "echo there").await.stdout(), "there\n");
    assert_eq!(server.pid(), before);
}

#[tokio::test]
async fn a_service_is_reloaded_by_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = server_with(directory.path())
        .under(["env", "--default-signal=HUP"])
        .env("INVOCATION_ID", "e2e")
        .start()
        .await;
    let mut client = server.client().await;
    let before = server.pid();
    server.signal(Signal::HUP);
    client.expect_closed().await;
    assert_eq!(client.close_code, Some(1012));
    eventually("the old server is gone", || !alive(before)).await;
    assert_eq!(server.client().await.run("p", "echo there").await.stdout(), "there\n");
    assert!(server.stop().await.success());
}
