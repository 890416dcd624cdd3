//! `process/signal` and `process/terminate` (section 8.5 and the extensions).

use std::os::unix::fs::PermissionsExt;

use codex_e2e::Server;
use codex_e2e::machine::{alive, eventually, pid_in, state};
use serde_json::json;

#[tokio::test]
async fn interrupt_reaches_the_whole_group_on_pipes_and_terminals() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for tty in [false, true] {
        let id = format!("tty-{tty}");
        client
            .shell_with(
                &id,
                "trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.02; done",
                json!({"tty": tty}),
            )
            .await;
        client.output_until(&id, "ready").await;
        assert_eq!(
            client.ok("process/signal", json!({"processId": id, "signal": "interrupt"})).await,
            json!({})
        );
        client.output_until(&id, "got").await;
        assert_eq!(client.next_notification("process/exited").await["exitCode"], 5);
        client.next_notification("process/closed").await;
        assert_eq!(
            client.ok("process/signal", json!({"processId": id, "signal": "interrupt"})).await,
            json!({})
        );
    }
    assert_eq!(
        client.ok("process/signal", json!({"processId": "none", "signal": "interrupt"})).await,
        json!({})
    );
}

#[tokio::test]
async fn every_usual_word_sends_its_signal() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let words = [
        ("interrupt", "INT"),
        ("terminate", "TERM"),
        ("hangup", "HUP"),
        ("quit", "QUIT"),
        ("user1", "USR1"),
        ("user2", "USR2"),
        ("windowChange", "WINCH"),
    ];
    for (word, name) in words {
        client
            .shell(
                word,
                &format!("trap 'echo {name}; exit 7' {name}; echo ready; while :; do sleep 0.02; done"),
            )
            .await;
        client.output_until(word, "ready").await;
        client.ok("process/signal", json!({"processId": word, "signal": word})).await;
        let ended = client.finish_after(word, 1).await;
        assert_eq!((ended.stdout().trim(), ended.code()), (name, 7), "{word}");
    }
    client.start("victim", ["sleep", "1000"]).await;
    client.ok("process/signal", json!({"processId": "victim", "signal": "kill"})).await;
    assert_eq!(client.finish("victim").await.code(), 137);
}

#[tokio::test]
async fn stop_and_continue_hold_and_release_a_program() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    client.shell("p", &format!("echo $$ > {}; exec sleep 1000", file.display())).await;
    let pid = pid_in(&file).await;
    client.ok("process/signal", json!({"processId": "p", "signal": "stop"})).await;
    eventually("the program is stopped", || state(pid) == Some('T')).await;
    client.ok("process/signal", json!({"processId": "p", "signal": "continue"})).await;
    eventually("the program goes on", || state(pid).is_some_and(|letter| letter != 'T')).await;
}

#[tokio::test]
async fn unknown_words_are_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start("p", ["sleep", "1000"]).await;
    for word in [json!("INT"), json!("SIGINT"), json!(""), json!(null), json!(2), json!("Interrupt")] {
        let params = json!({"processId": "p", "signal": word});
        assert_eq!(client.refused("process/signal", params.clone()).await, -32602, "{params}");
    }
}

#[tokio::test]
async fn terminate_kills_at_once_and_says_whether_it_ran() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_eq!(client.ok("process/terminate", json!({"processId": "none"})).await, json!({"running": false}));
    for tty in [false, true] {
        let id = format!("tty-{tty}");
        client
            .shell_with(
                &id,
                "trap '' TERM HUP INT; echo ready; while :; do sleep 0.02; done",
                json!({"tty": tty}),
            )
            .await;
        client.output_until(&id, "ready").await;
        assert_eq!(client.ok("process/terminate", json!({"processId": id})).await, json!({"running": true}));
        let exited = client.next_notification("process/exited").await;
        assert_eq!(exited["exitCode"], if tty { 1 } else { 137 });
        client.next_notification("process/closed").await;
        assert_eq!(client.ok("process/terminate", json!({"processId": id})).await, json!({"running": false}));
    }
}

#[tokio::test]
async fn terminate_reaches_the_tree_also_what_made_its_own_session() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for tty in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let id = format!("tty-{tty}");
        let tree = format!(
            "sleep 1000 & echo $! > {at}/child; setsid sh -c 'echo $$ > {at}/own; sleep 1000' & wait"
        );
        client.shell_with(&id, &tree, json!({"tty": tty})).await;
        let child = pid_in(&directory.path().join("child")).await;
        let own = pid_in(&directory.path().join("own")).await;
        assert_eq!(client.ok("process/terminate", json!({"processId": id})).await["running"], true);
        client.finish(&id).await;
        eventually("the child is gone", || !alive(child)).await;
        eventually("the one of its own session is gone", || !alive(own)).await;
    }
}

#[tokio::test]
async fn grace_gives_a_program_time_to_say_goodbye_and_then_kills() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell("polite", "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.02; done").await;
    client.output_until("polite", "ready").await;
    let grace = |id: &str, ms: u64| json!({"processId": id, "graceMs": ms});
    assert_eq!(client.ok("process/terminate", grace("polite", 60_000)).await["running"], true);
    let ended = client.finish_after("polite", 1).await;
    assert_eq!((ended.stdout().as_str(), ended.code()), ("bye\n", 9));
    client.shell("rude", "trap '' TERM; echo ready; while :; do sleep 0.02; done").await;
    client.output_until("rude", "ready").await;
    client.ok("process/terminate", grace("rude", 50)).await;
    let ended = client.finish_after("rude", 1).await;
    assert_eq!((ended.code(), &ended.exited["signal"]), (137, &json!(9)));
}

#[tokio::test]
async fn a_stopped_program_hears_that_it_is_to_end() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    // A shell that starts a command after the signal may wait for it in vfork for ever, which is not to be stopped.
    let command = format!(
        "trap 'kill $!; echo bye; exit 9' TERM; sleep 1000 >/dev/null 2>&1 & echo $$ > {}; wait",
        file.display()
    );
    client.shell("p", &command).await;
    let pid = pid_in(&file).await;
    client.ok("process/signal", json!({"processId": "p", "signal": "stop"})).await;
    eventually("the program is stopped", || state(pid) == Some('T')).await;
    client.ok("process/terminate", json!({"processId": "p", "graceMs": 60_000})).await;
    let ended = client.finish("p").await;
    assert_eq!((ended.stdout().as_str(), ended.code()), ("bye\n", 9));
}

#[tokio::test]
async fn signals_that_the_parent_blocked_reach_the_server_and_its_programs() {
    let blocking = ["env", "--block-signal", "--ignore-signal=QUIT,USR1"];
    let mut server = Server::builder().under(blocking).start().await;
    let mut client = server.client().await;
    client.start("masks", ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]).await;
    let masks = client.finish("masks").await.stdout();
    assert_eq!(masks, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    assert!(server.stop().await.success());
}

/// A server that sees less in `/proc` than there is: nothing, or nothing of programs that made themselves undumpable.
async fn server_under(proc: &str) -> Option<Server> {
    let enter = format!("{proc} && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"");
    let under = ["unshare", "-m", "sh", "-c", &enter, "sh"];
    let codex = codex_e2e::binary::codex();
    let tried = std::process::Command::new(under[0]).args(&under[1..]).arg(codex).arg("--version").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("SKIPPED: only root can mount /proc otherwise, and become another user");
        return None;
    }
    Some(Server::builder().under(under).start().await)
}

#[tokio::test]
async fn a_program_that_can_not_be_seen_ends_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(at, 0o777);
    // What may be executed and not read is undumpable.
    let shell = at.join("shell");
    std::fs::copy("/bin/sh", &shell).unwrap();
    mode(&shell, 0o111);
    for (case, proc) in [
        ("hidden", "mount -t proc -o hidepid=2 proc /proc"),
        ("none", "mount -t tmpfs -o size=4k tmpfs /proc"),
    ] {
        let Some(server) = server_under(proc).await else { return };
        let mut client = server.client().await;
        for (end, more) in [("terminate", json!({})), ("deadline", json!({"timeoutMs": 2000}))] {
            let id = format!("{case} {end}");
            let files = ["root", "child", "session"].map(|name| at.join(format!("{name} {id}")));
            let [root, child, session] = files.each_ref().map(|file| format!("'{}'", file.display()));
            let command = format!(
                "sleep 1000 & echo $! > {child}; \
                 [ {case} = none ] && echo $! > {session} || setsid sh -c \"echo \\$\\$ > {session}; exec sleep 1000\" & \
                 echo $$ > {root}; wait"
            );
            client.start_with(&id, [shell.to_str().unwrap(), "-c", &command], more).await;
            let mut pids = Vec::new();
            for file in &files {
                pids.push(pid_in(file).await);
            }
            if end == "terminate" {
                let answer = client.ok("process/terminate", json!({"processId": id})).await;
                assert_eq!(answer["running"], true, "{id}");
            }
            assert_eq!(client.finish(&id).await.code(), 137, "{id}");
            for pid in pids {
                eventually(&format!("{id}: all are gone"), || !alive(pid)).await;
            }
        }
    }
}
