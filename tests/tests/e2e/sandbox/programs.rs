//! Confined programs behave as outside: errors, codes, terminals, signals, the tree's end.

use codex_e2e::machine::{alive, children, eventually, inner_pid_in};

use super::*;

#[tokio::test]
async fn what_cannot_be_started_is_told_as_outside() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    std::fs::write(ground.at("w/plain"), "text").expect("a file");
    for (namespaces, server) in servers().await {
        let mut client = server.client().await;
        for (argv, cwd) in [
            ("nothere", "w"),
            ("/nothere", "w"),
            ("./nothere", "w"),
            ("./plain", "w"),
            ("/usr", "w"),
            ("/bin/true", "nowhere"),
            ("/bin/true", "o/precious"),
            ("", "w"),
        ] {
            let plain = json!({"cwd": ground.uri(cwd)});
            let outside = client.call("process/start", start_params("p", [argv], plain)).await;
            let more = json!({"cwd": ground.uri(cwd), "sandbox": read_only(&ground)});
            let inside = client.call("process/start", start_params("p", [argv], more)).await;
            assert_eq!(
                inside.expect_err(argv),
                outside.expect_err(argv),
                "{argv:?} with namespaces {namespaces}"
            );
        }
    }
}

#[tokio::test]
async fn codes_signals_names_and_variables_are_as_outside() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let sandbox = workspace(&ground);
    for (command, code) in [("exit 7", 7), ("kill -TERM $$", 143), ("exit 126", 126), ("nothere", 127)] {
        let ran = shell(&mut client, &ground, &sandbox, command).await;
        assert_eq!(ran.code, code, "{command}");
        assert!(!ran.denied, "{command}: {}", ran.output);
    }
    let more = json!({"sandbox": sandbox, "cwd": ground.uri("w"), "arg0": "other", "pipeStdin": true, "envPolicy": null,
        "env": {"A": "1", "LD_PRELOAD": "/nowhere.so"}});
    client
        .ok("process/start", start_params("n", ["/bin/sh", "-c", "read x; echo $0 $x $A; env; pwd"], more))
        .await;
    client.write("n", "typed\n").await;
    let ended = client.finish("n").await;
    let said = ended.stdout();
    assert!(said.starts_with("other typed 1\n"), "{said}");
    assert!(said.contains("LD_PRELOAD=/nowhere.so"), "{said}");
    assert!(said.ends_with(&format!("{}\n", ground.text("w"))), "{said}");
    assert!(!said.contains("sandbox"), "nothing of the launcher is left: {said}");
}

#[tokio::test]
async fn a_terminal_is_the_programs_own() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    for (namespaces, server) in servers().await {
        let mut client = server.client().await;
        let profiles =
            [read_only(&ground), ground.profile(json!([entry(&ground.uri("w"), "read")]), "restricted")];
        for (index, sandbox) in profiles.into_iter().enumerate() {
            let id = format!("t{index}");
            let more = json!({"sandbox": sandbox, "cwd": ground.uri("w"), "tty": true});
            let command = "tty; stty size; echo there > /dev/tty; exec cat";
            client.ok("process/start", start_params(&id, ["/bin/sh", "-c", command], more)).await;
            let said = client.output_until(&id, "there").await;
            assert!(
                said.contains("/dev/pts/") && said.contains("24 80"),
                "{said:?} with namespaces {namespaces}"
            );
            client.write(&id, "\x03").await;
            let exited = client.next_notification("process/exited").await;
            assert_eq!(exited["exitCode"], 1, "interrupted by its terminal");
        }
    }
}

#[tokio::test]
async fn terminating_ends_the_whole_tree_and_signals_arrive() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let more = json!({"sandbox": workspace(&ground), "cwd": ground.uri("w")});
    let command = "setsid sh -c 'echo $$ > away; exec sleep 1000' & echo $$ > here; wait";
    client.ok("process/start", start_params("t", ["/bin/sh", "-c", command], more.clone())).await;
    let (here, away) = (inner_pid_in(&ground.at("w/here")).await, inner_pid_in(&ground.at("w/away")).await);
    assert_eq!(client.ok("process/terminate", json!({"processId": "t"})).await["running"], true);
    assert_eq!(client.finish("t").await.code(), 137);
    eventually("both are gone", || !alive(here) && !alive(away)).await;
    client
        .ok(
            "process/start",
            start_params(
                "i",
                ["/bin/sh", "-c", "trap 'exit 9' INT; echo up; while :; do sleep 0.01; done"],
                more,
            ),
        )
        .await;
    client.output_until("i", "up").await;
    client.ok("process/signal", json!({"processId": "i", "signal": "interrupt"})).await;
    assert_eq!(client.next_notification("process/exited").await["exitCode"], 9);
}

#[tokio::test]
async fn an_older_clients_wrapper_is_replaced_by_our_own_enforcement() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let profile = workspace(&ground)["permissions"].to_string();
    let wrapper = "/client/only/codex-linux-sandbox";
    let cwd = ground.text("w");
    let argv = [
        wrapper,
        "--sandbox-policy-cwd",
        &cwd,
        "--command-cwd",
        &cwd,
        "--permission-profile",
        &profile,
        "--",
        "/bin/sh",
        "-c",
        "echo x > new; pwd; echo x > ../o/precious",
    ];
    let more = json!({"cwd": cwd, "arg0": wrapper});
    client.ok("process/start", start_params("w", argv, more)).await;
    let ended = client.finish("w").await;
    assert_ne!(ended.code(), 0);
    assert_eq!(ended.exited["sandboxDenied"], true);
    assert_eq!(ended.stdout(), format!("{cwd}\n"));
    assert!(ground.at("w/new").exists());
    // Places that were held are let go behind the program's end.
    eventually("the place is free again", || !ground.at("w/.agents").exists()).await;
    ground.is_untouched(&["w/new"]);
    let odd = [wrapper, "--unknown", "--", "/bin/true"];
    assert_eq!(client.refused("process/start", start_params("o", odd, json!({"cwd": cwd}))).await, -32600);
}

#[tokio::test]
async fn a_missing_protected_name_is_held_while_a_program_runs_and_not_longer() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let ran = shell(
        &mut client,
        &ground,
        &workspace(&ground),
        "mkdir .agents; mv -T sub .agents; echo; ls -d .agents",
    )
    .await;
    assert!(ran.output.contains("\n.agents\n"), "{}", ran.output);
    eventually("the place is free again", || !ground.at("w/.agents").exists()).await;
    ground.is_untouched(&[]);
    let mut skip = json!({"path": {"type": "special", "value": {"kind": "project_roots", "subpath": ".agents"}}, "access": "read"});
    skip["missing_path_behavior"] = json!("skip");
    let entries = json!([special("root", "read"), special("project_roots", "write"), skip]);
    let ran = shell(&mut client, &ground, &ground.profile(entries, "restricted"), "mkdir .agents").await;
    assert_eq!(ran.code, 0, "skipped as asked: {}", ran.output);
}

#[tokio::test]
async fn what_this_server_cannot_enforce_is_refused() {
    let ground = Ground::new();
    let server = Server::builder().args(["--sandbox-namespaces", "off"]).start().await;
    let mut client = server.client().await;
    let managed = json!({"sandbox": read_only(&ground), "enforceManagedNetwork": true});
    let proxy = crate::network::proxy(json!({}));
    let proxy = json!({"sandbox": read_only(&ground), "networkProxy": {"proxy": proxy}});
    let writable = json!({"sandbox": workspace(&ground)});
    for more in [managed, proxy, writable] {
        let params = start_params("no", ["/bin/true"], more.clone());
        assert_eq!(client.refused("process/start", params).await, -32600, "{more}");
    }
    let params = json!({"path": ground.uri("w/x"), "dataBase64": "", "sandbox": workspace(&ground)});
    assert_eq!(client.refused("fs/writeFile", params).await, -32600);
    ground.is_untouched(&[]);
}

#[tokio::test]
async fn terminals_and_shared_memory_are_there_and_nobody_elses() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let binary = std::env::current_exe().expect("the test knows its own file");
    let alone = [special("project_roots", "write"), entry(binary.to_str().expect("text"), "read")];
    for sandbox in [read_only(&ground), ground.profile(json!(alone), "restricted")] {
        let asked = attacker::asked("make a terminal and shared memory", &ground);
        let ran = run(&mut client, &ground, &sandbox, asked).await;
        assert!(ran.output.contains("ESCAPED make a terminal"), "{}", ran.output);
        assert!(!std::path::Path::new(&attacker::shared_memory(ground.outside)).exists());
    }
}

#[tokio::test]
async fn a_device_under_another_name_is_only_a_name() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    for name in ["o/device", "w/device"] {
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            ground.at(name),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::from_raw_mode(0o666),
            rustix::fs::makedev(1, 5),
        );
        if made.is_err() {
            eprintln!("SKIPPED: only root can make devices");
            return;
        }
    }
    for namespaces in ["any", "user"] {
        let server = Server::builder().args(["--sandbox-namespaces", namespaces]).start().await;
        let mut client = server.client().await;
        let wide = json!([special("root", "write"), entry(&ground.uri("d"), "deny")]);
        let alone = json!([special("project_roots", "write")]);
        for (name, sandbox) in [
            ("read", read_only(&ground)),
            ("workspace", workspace(&ground)),
            ("wide", ground.profile(wide, "restricted")),
            ("alone", ground.profile(alone, "restricted")),
        ] {
            let command = "for name in ../o/device device; do head -c 1 $name && echo $name can be read; done; \
                           head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo null";
            let ran = shell(&mut client, &ground, &sandbox, command).await;
            assert!(
                !ran.output.contains("can be read"),
                "{name} with namespaces {namespaces}: {}",
                ran.output
            );
            assert!(ran.output.contains("3\nnull\n"), "{name} with namespaces {namespaces}: {}", ran.output);
            for name in ["o/device", "w/device"] {
                let params = json!({"path": ground.uri(name), "sandbox": sandbox});
                client.call("fs/readFile", params).await.expect_err("a device");
            }
        }
    }
}

#[tokio::test]
async fn a_launcher_that_waits_hides_no_orphan_of_another_program() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    run(&mut client, &ground, &read_only(&ground), ["true"]).await;
    eventually("a launcher waits", || !children(server.pid()).is_empty()).await;
    // Takes off the mark that would tell whose the daemon is, and leaves the session.
    let script = "ulimit -SR unlimited; (setsid sh -c 'echo $$; exec sleep 1000' &); sleep 1000";
    client.start("p", ["bash", "-c", script]).await;
    let daemon: u32 = client.output_until("p", "\n").await.trim().parse().expect("a pid");
    client.ok("process/terminate", json!({"processId": "p"})).await;
    client.finish_after("p", 1).await;
    eventually("the daemon is gone", || !alive(daemon)).await;
}
