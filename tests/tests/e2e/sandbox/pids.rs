//! Processes of the program's own: what a confined program sees of others, who gets its orphans, and what is told of ends.

use codex_e2e::machine::{alive, children, eventually, inner_pid_in};

use super::*;

/// Servers whose programs have PID namespaces.
async fn servers_with_namespaces() -> Vec<(&'static str, Server)> {
    let mut servers = Vec::new();
    for namespaces in ["any", "user"] {
        let flags = ["--sandbox-namespaces", namespaces, "--leftovers", "kill"];
        servers.push((namespaces, Server::builder().args(flags).start().await));
    }
    servers
}

#[tokio::test]
async fn a_program_sees_its_own_processes_alone() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    for (namespaces, server) in servers_with_namespaces().await {
        let mut client = server.client().await;
        let alone = ground
            .profile(json!([special("project_roots", "write"), special("minimal", "read")]), "restricted");
        let external = ground.sandbox(json!({"type": "external", "network": "restricted"}));
        for sandbox in [read_only(&ground), workspace(&ground), alone, external] {
            let ran = shell(&mut client, &ground, &sandbox, "echo $$ $PPID; cd /proc && echo [0-9]*").await;
            assert_eq!(ran.output, "2 0\n1 2\n", "{sandbox} with namespaces {namespaces}");
        }
    }
}

#[tokio::test]
async fn process_numbers_are_inherited_where_that_is_asked_for_and_signals_end_at_the_sandbox_all_the_same() {
    let flags = ["--linux-sandbox-pid-namespace", "inherit"];
    if !enforceable() || !super::promises::held(&flags, "workspace-write") {
        eprintln!("SKIPPED: this takes namespaces and Landlock 6");
        return;
    }
    let ground = Ground::new();
    let server = Server::builder().args(flags).start().await;
    let mut client = server.client().await;
    let mut outside = std::process::Command::new("sleep").arg("1000").spawn().expect("it runs");
    let command = format!("echo $$; kill -TERM {} 2> /dev/null || echo refused", outside.id());
    let more = json!({"sandbox": workspace(&ground), "cwd": ground.uri("w")});
    let started = client.ok("process/start", start_params("i", ["/bin/sh", "-c", &command], more)).await;
    assert_eq!(started["sandboxType"], "linuxSeccomp");
    let ended = client.finish("i").await;
    let said = ended.stdout();
    let (number, answer) = said.split_once('\n').expect("two lines");
    assert!(number != "2" && answer == "refused\n", "{said}");
    assert!(outside.try_wait().expect("it can be asked").is_none(), "it lives");
    outside.kill().and_then(|()| outside.wait()).expect("it ends");
}

#[tokio::test]
async fn orphans_are_reaped_and_go_on_without_the_program() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    for (namespaces, server) in servers_with_namespaces().await {
        let mut client = server.client().await;
        let sandbox = workspace(&ground);
        let storm = "i=0; while [ $i -lt 300 ]; do (true & true &); i=$((i+1)); done; \
                     while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; echo clean";
        let ran = shell(&mut client, &ground, &sandbox, storm).await;
        assert_eq!((ran.code, ran.output.as_str()), (0, "clean\n"), "with namespaces {namespaces}");

        let more = json!({"sandbox": sandbox, "cwd": ground.uri("w")});
        let command = "(setsid sh -c 'echo $$ > left; exec sleep 1000' > /dev/null 2>&1 &); \
                       while [ ! -s left ]; do :; done; exit 3";
        client.ok("process/start", start_params("l", ["/bin/sh", "-c", command], more)).await;
        let left = inner_pid_in(&ground.at("w/left")).await;
        let ended = client.finish("l").await;
        assert_eq!(ended.code(), 3);
        let list = client.ok("process/list", json!({})).await;
        let mut programs = list["processes"].as_array().expect("a list").iter();
        let leftovers = &programs.find(|one| one["processId"] == "l").expect("it is listed")["leftovers"];
        let named: Vec<_> = leftovers.as_array().expect("a list").iter().map(|left| &left["name"]).collect();
        assert_eq!((named, &leftovers[0]["pid"]), (vec![&json!("sleep")], &json!(left)), "{leftovers}");
        assert!(alive(left), "not before the session ends");
        drop(client);
        drop(server);
        eventually("it ends with the server", || !alive(left)).await;
        std::fs::remove_file(ground.at("w/left")).expect("removed");
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_program_that_leaves_nothing() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    for index in 0..5 {
        let id = format!("n{index}");
        let more = json!({"sandbox": workspace(&ground), "cwd": ground.uri("w")});
        client
            .ok("process/start", start_params(&id, ["/bin/sh", "-c", "(true &); kill -KILL $$"], more))
            .await;
        let ended = client.finish(&id).await;
        assert_eq!(ended.code(), 137);
        let list = client.ok("process/list", json!({})).await;
        assert!(!list.to_string().contains("launcher"), "{list}");
    }
    // A launcher waits for the next one, with the first process of its namespace.
    eventually("they are gone", || children(server.pid()).len() <= 2).await;
}

#[tokio::test]
async fn shells_on_a_terminal_control_their_jobs() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    for (namespaces, server) in servers_with_namespaces().await {
        let mut client = server.client().await;
        let more = json!({"sandbox": workspace(&ground), "cwd": ground.uri("w"), "tty": true,
            "env": {"PS1": "ready> ", "PATH": "/usr/bin:/bin"}});
        client
            .ok("process/start", start_params("j", ["/bin/bash", "--norc", "--noprofile", "-i"], more))
            .await;
        let said = client.output_until("j", "ready> ").await;
        assert!(!said.contains("job control"), "{said:?} with namespaces {namespaces}");
        // What is typed is shown as well, and must not be taken for what is printed. Before the job has printed something,
        // it may not be in the foreground yet.
        client.write("j", "sh -c 'echo r''unning; exec sleep 1000'\n").await;
        client.output_until("j", "running").await;
        client.write("j", "\x1a").await;
        client.output_until("j", "Stopped").await;
        // A shell that still has a stopped job doesn't exit.
        let end = "job=$(jobs -p); kill -9 $job; while kill -0 $job 2>/dev/null; do :; done; exit 5\n";
        client.write("j", end).await;
        assert_eq!(client.next_notification("process/exited").await["exitCode"], 5);
    }
}
