//! `codex sandbox` hands on what asks for an end, and never leaves its program behind.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use codex_e2e::binary;
use codex_e2e::machine::{alive, eventually, inner_pid_in, kill};
use rustix::process::{Pid, Signal, kill_process};

use super::escapes::{User, users};
use super::*;

/// A profile that restricts nothing, as a file.
const OPEN: &str = r#"{"type":"managed","network":"enabled","file_system":{"type":"unrestricted"}}"#;

/// Writes its number into a file and sleeps: as a child, in a session of its own, and as a daemon.
const FAMILY: &str = "sleep 1000 & echo $! > child; setsid sh -c 'echo $$ > session; exec sleep 1000' & \
     (setsid sh -c 'echo $$ > daemon; exec sleep 1000' >/dev/null 2>&1 </dev/null &); \
     echo $$ > root;";

/// The names of the files.
const WHOLE: [&str; 4] = ["root", "child", "session", "daemon"];

/// `codex sandbox` with a shell command in the workspace.
fn under(user: User, ground: &Ground, profile: &str, command: &str) -> Child {
    let mut codex = user.codex();
    codex.arg("sandbox").args(["--profile", profile]).args(["--", "/bin/sh", "-c", command]);
    codex.current_dir(ground.at("w")).stdin(Stdio::null()).stdout(Stdio::null());
    codex.spawn().expect("it starts")
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("it runs");
}

/// Waits for a file that a program makes.
async fn made(ground: &Ground, name: &str) {
    eventually(name, || ground.at(name).exists()).await;
}

/// What runs of [`FAMILY`], by these names.
async fn family(ground: &Ground, names: &[&str]) -> Vec<u32> {
    let mut pids = Vec::new();
    for name in names {
        pids.push(inner_pid_in(&ground.at("w").join(name)).await);
    }
    pids
}

#[tokio::test]
async fn what_asks_for_an_end_reaches_the_program_once() {
    if !enforceable() {
        return;
    }
    for user in users().into_iter().filter(|user| user.may_have("workspace")) {
        for (signal, name, code) in [
            (Signal::INT, "INT", 3),
            (Signal::QUIT, "QUIT", 4),
            (Signal::HUP, "HUP", 5),
            (Signal::TERM, "TERM", 6),
        ] {
            let ground = Ground::new();
            user.owns(&ground);
            let command =
                format!("trap 'echo x >> got; exit {code}' {name}; : > up; while :; do sleep 0.01; done");
            let mut child = under(user, &ground, "workspace-write", &command);
            made(&ground, "w/up").await;
            send(&child, signal);
            assert_eq!(child.wait().expect("it ends").code(), Some(code), "{name} as {user:?}");
            assert_eq!(std::fs::read_to_string(ground.at("w/got")).expect("it came"), "x\n", "{name}");
            // One that does nothing about it ends by it.
            let mut child = under(user, &ground, "workspace-write", ": > too; exec sleep 1000");
            made(&ground, "w/too").await;
            send(&child, signal);
            let status = child.wait().expect("it ends");
            assert_eq!(status.code(), Some(128 + signal.as_raw()), "{name} as {user:?}: {status}");
        }
    }
}

#[tokio::test]
async fn whatever_ends_it_ends_all_that_its_program_has_started() {
    if !enforceable() {
        return;
    }
    for user in users() {
        for profile in ["workspace-write", "open"]
            .into_iter()
            .filter(|name| *name == "open" || user.may_have("workspace"))
        {
            for signal in [Signal::KILL, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::INT] {
                let ground = Ground::new();
                user.owns(&ground);
                let open = ground.text("o/open.json");
                user.wrote(&ground.at("o/open.json"), OPEN);
                let profile = if profile == "open" { &open } else { profile };
                let mut child = under(user, &ground, profile, &format!("{FAMILY} wait"));
                let pids = family(&ground, &WHOLE).await;
                assert!(pids.iter().all(|pid| alive(*pid)), "{pids:?}");
                send(&child, signal);
                let status = child.wait().expect("it ends");
                let killed = (signal == Signal::KILL).then_some(signal.as_raw());
                assert_eq!(status.signal(), killed, "{signal:?} as {user:?}: {status}");
                for pid in pids {
                    let what = format!("{signal:?} as {user:?} leaves nothing of {profile}");
                    eventually(&what, || !alive(pid)).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_program_that_ends_by_itself_leaves_what_it_likes() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let mut child = under(User::Root, &ground, "workspace-write", &format!("{FAMILY} exit 7"));
    // The first of them ends at once.
    let pids = family(&ground, &WHOLE[1..]).await;
    assert_eq!(child.wait().expect("it ends").code(), Some(7));
    for pid in &pids {
        assert!(alive(*pid), "agents start servers on purpose");
        kill(*pid);
    }
}

#[tokio::test]
async fn keys_of_a_terminal_reach_the_program_once_and_its_hanging_up_ends_all() {
    if !enforceable() {
        return;
    }
    let server = Server::start().await;
    let mut client = server.client().await;
    let ground = Ground::new();
    let codex = binary::codex();
    let codex = codex.to_str().expect("text");
    let more = json!({"cwd": ground.uri("w"), "tty": true});
    let sandboxed = |command: &str| {
        [codex, "sandbox", "--profile", "workspace-write", "--", "/bin/sh", "-c", command].map(str::to_owned)
    };
    let counts = "trap 'echo x >> got' INT; trap 'exit 8' QUIT; : > up; while :; do sleep 0.01; done";
    client.ok("process/start", start_params("keys", sandboxed(counts), more.clone())).await;
    made(&ground, "w/up").await;
    client.write("keys", "\x03").await;
    made(&ground, "w/got").await;
    client.write("keys", "\x1c").await;
    assert_eq!(client.finish("keys").await.code(), 8);
    assert_eq!(std::fs::read_to_string(ground.at("w/got")).expect("it came"), "x\n");

    // A shell with jobs has a group of its own on the terminal, so that only the job gets the key.
    let jobs = "set -m; sh -c 'trap \"exit 5\" INT; : > job; while :; do sleep 0.01; done'; echo job $?";
    client.ok("process/start", start_params("jobs", sandboxed(jobs), more.clone())).await;
    made(&ground, "w/job").await;
    client.write("jobs", "\x03").await;
    let ended = client.finish("jobs").await;
    assert!(ended.pty().contains("job 5"), "{}", ended.pty());

    client.ok("process/start", start_params("hangs", sandboxed(&format!("{FAMILY} wait")), more)).await;
    let pids = family(&ground, &WHOLE).await;
    client.ok("process/signal", json!({"processId": "hangs", "signal": "hangup"})).await;
    client.finish("hangs").await;
    for pid in pids {
        eventually("nothing is left", || !alive(pid)).await;
    }
}

#[tokio::test]
async fn under_nohup_a_hang_up_ends_nothing() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let codex = binary::codex();
    let mut nohup = std::process::Command::new("nohup");
    nohup.arg(codex).args(["sandbox", "--profile", "workspace-write", "--", "/bin/sh", "-c"]);
    nohup.arg("trap 'exit 4' TERM; : > up; while :; do sleep 0.01; done");
    nohup.current_dir(ground.at("w")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = nohup.spawn().expect("it starts");
    made(&ground, "w/up").await;
    send(&child, Signal::HUP);
    send(&child, Signal::TERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(4));
}
