//! Descendants that outlive an ended process (issue part E, `--leftovers`).

use codex_e2e::machine::{alive, eventually, pid_in};
use codex_e2e::{Server, TestClient};
use serde_json::json;

/// Runs a program that ends and leaves a sleeper in its own session; the sleeper's pid.
async fn leave_one_behind(client: &mut TestClient, directory: &std::path::Path) -> u32 {
    let file = directory.join("left");
    let at = file.display();
    let command = format!(
        "setsid sh -c 'echo $$ > {at}; exec sleep 1000' >/dev/null 2>&1 </dev/null & while [ ! -s {at} ]; do sleep 0.01; done; exit 0"
    );
    assert_eq!(client.run("p", &command).await.code(), 0);
    pid_in(&file).await
}

#[tokio::test]
async fn leftovers_are_kept_and_listed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut client = server.client().await;
    let pid = leave_one_behind(&mut client, directory.path()).await;
    let list = client.ok("process/list", json!({})).await;
    let leftovers = list["processes"][0]["leftovers"].as_array().unwrap().clone();
    assert!(leftovers.iter().any(|left| left["pid"] == pid && left["name"] == "sleep"), "{list}");
    assert!(alive(pid));
    codex_e2e::machine::kill(pid);
    eventually("no zombie stays", || codex_e2e::machine::state(pid).is_none()).await;
}

#[tokio::test]
async fn kept_leftovers_outlive_their_session() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().limit("detached_time", 100).start().await;
    let mut client = server.client().await;
    let pid = leave_one_behind(&mut client, directory.path()).await;
    let session = client.session_id.clone();
    drop(client);
    let mut late = server.connect().await;
    while late.resume(&session).await.is_err_and(|(code, _)| code == -32010) {}
    drop(late);
    let mut probe = server.connect().await;
    loop {
        match probe.resume(&session).await {
            Err((-32600, _)) => break,
            Err(_) => {}
            Ok(_) => {
                drop(probe);
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                probe = server.connect().await;
            }
        }
    }
    assert!(alive(pid), "agents start servers on purpose");
    codex_e2e::machine::kill(pid);
}

#[tokio::test]
async fn leftovers_end_with_the_session_when_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().args(["--leftovers", "kill"]).limit("detached_time", 100).start().await;
    let mut client = server.client().await;
    let pid = leave_one_behind(&mut client, directory.path()).await;
    assert!(alive(pid), "not before the session ends");
    drop(client);
    eventually("the leftover ends with its session", || !alive(pid)).await;
}

#[tokio::test]
async fn leftovers_end_with_the_server_when_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::builder().args(["--leftovers", "kill"]).start().await;
    let mut client = server.client().await;
    let pid = leave_one_behind(&mut client, directory.path()).await;
    assert_eq!(server.stop().await.code(), Some(0));
    eventually("the leftover ends with the server", || !alive(pid)).await;
}

#[tokio::test]
async fn a_bad_word_is_a_usage_error() {
    let refused = Server::builder().args(["--leftovers", "sometimes"]).refused().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

#[tokio::test]
async fn a_server_that_is_killed_takes_its_running_programs_along_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::builder().alone().start().await;
    let mut client = server.client().await;
    let left = leave_one_behind(&mut client, directory.path()).await;
    let mut pids = Vec::new();
    for index in 0..10 {
        let files = ["root", "child", "session", "daemon"]
            .map(|name| directory.path().join(format!("{name}{index}")));
        let [root, child, session, daemon] = files.each_ref().map(|file| file.display());
        let command = format!(
            "sleep 1000 & echo $! > {child}; setsid sh -c 'echo $$ > {session}; exec sleep 1000' & \
             (setsid sh -c 'echo $$ > {daemon}; exec sleep 1000' >/dev/null 2>&1 </dev/null &); \
             echo $$ > {root}; wait"
        );
        client.shell_with(&format!("running{index}"), &command, json!({"tty": index % 2 == 0})).await;
        for file in &files {
            pids.push(pid_in(file).await);
        }
    }
    server.signal(rustix::process::Signal::KILL);
    server.ended().await;
    for pid in pids {
        eventually("every descendant of every program is gone", || !alive(pid)).await;
    }
    assert!(alive(left), "what a program left behind on purpose is no running program's");
    codex_e2e::machine::kill(left);
}
