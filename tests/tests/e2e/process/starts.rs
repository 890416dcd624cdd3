//! How programs start: what is asked for, what they are given, what is refused (8.1, 8.2).

use codex_e2e::Server;
use codex_e2e::client::start_params;
use serde_json::{Value, json};

#[tokio::test]
async fn bad_start_params_are_refused_and_start_nothing() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let with = |more: Value| start_params("p", ["true"], more);
    let without = |name: &str| {
        let mut params = start_params("p", ["true"], json!({}));
        params.as_object_mut().unwrap().remove(name);
        params
    };
    let cases = [
        (without("processId"), -32602),
        (without("argv"), -32602),
        (without("cwd"), -32602),
        (without("env"), -32602),
        (without("tty"), -32602),
        (with(json!({"argv": []})), -32602),
        (with(json!({"argv": [""]})), -32603),
        (with(json!({"argv": "true"})), -32602),
        (with(json!({"argv": [1]})), -32602),
        (with(json!({"env": null})), -32602),
        (with(json!({"env": {"A": 1}})), -32602),
        (with(json!({"tty": null})), -32602),
        (with(json!({"tty": "yes"})), -32602),
        (with(json!({"pipeStdin": null})), -32602),
        (with(json!({"arg0": 5})), -32602),
        (with(json!({"enforceManagedNetwork": null})), -32602),
        (with(json!({"managedNetwork": 5})), -32602),
        (with(json!({"managedNetwork": {"loopbackPorts": [65536]}})), -32602),
        (with(json!({"shellSnapshot": {}})), -32602),
        (with(json!({"metadata": {"threadId": "no uuid"}})), -32602),
        (with(json!({"envPolicy": {}})), -32602),
        (with(json!({"cwd": null})), -32602),
        (with(json!({"cwd": "file://other/tmp"})), -32602),
        (with(json!({"cwd": "http://x/tmp"})), -32602),
        (with(json!({"cwd": "file:///does/not/exist"})), -32603),
        (with(json!({"cwd": "/does/not/exist"})), -32603),
        (with(json!({"cwd": "/etc/hostname"})), -32603),
        (with(json!({"argv": ["no-such-program-anywhere"]})), -32603),
        (with(json!({"argv": ["/etc/hostname"]})), -32603),
        (with(json!({"argv": ["/etc"]})), -32603),
        (with(json!({"argv": ["./true"]})), -32603),
        (Value::Null, -32602),
    ];
    for (params, code) in cases {
        assert_eq!(client.refused("process/start", params.clone()).await, code, "{params}");
    }
    assert_eq!(client.run("p", "exit 9").await.code(), 9);
}

#[tokio::test]
async fn an_id_is_taken_while_its_process_is_known() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start("p", ["sleep", "1000"]).await;
    let again = start_params("p", ["true"], json!({}));
    assert_eq!(client.refused("process/start", again.clone()).await, -32600);
    assert_eq!(client.refused("process/start", start_params("p", [""; 0], json!({}))).await, -32602);
    client.ok("process/terminate", json!({"processId": "p"})).await;
    client.finish("p").await;
    assert_eq!(client.refused("process/start", again).await, -32600);
    let mut other = server.client().await;
    assert_eq!(other.run("p", "exit 1").await.code(), 1, "another session has its own ids");
    assert_eq!(client.run("", "exit 2").await.code(), 2, "the empty id is an id");
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_asked_for() {
    let server = Server::builder()
        .env("PLAIN_THING", "1")
        .env("MY_API_KEY", "2")
        .env("some_secret_x", "3")
        .env("MONKEY", "4")
        .env("[odd", "5")
        .start()
        .await;
    let mut client = server.client().await;
    let policy = |inherit: &str, ignore: bool, exclude: &[&str], set: Value, only: &[&str]| json!({"inherit": inherit, "ignoreDefaultExcludes": ignore, "exclude": exclude, "set": set, "includeOnly": only});
    let only_ours = ["PLAIN_*", "*KEY", "some_*", "added?", "[odd"];
    let cases = [
        (json!({"envPolicy": null, "env": {"A": "1"}}), vec!["A=1"]),
        (json!({"envPolicy": policy("none", false, &[], json!({}), &[])}), vec![]),
        (
            json!({"envPolicy": policy("none", false, &[], json!({"A_TOKEN": "x", "B": "y"}), &[]), "env": {"B": "z"}}),
            vec!["A_TOKEN=x", "B=z"],
        ),
        (
            json!({"envPolicy": policy("all", false, &[], json!({}), &only_ours)}),
            vec!["PLAIN_THING=1", "[odd=5"],
        ),
        (
            json!({"envPolicy": policy("all", true, &["plain*", "["], json!({"ADDED1": "a", "ADDED22": "b"}), &only_ours), "env": {"E": "e"}}),
            vec!["ADDED1=a", "E=e", "MONKEY=4", "MY_API_KEY=2", "[odd=5", "some_secret_x=3"],
        ),
    ];
    for (index, (more, expected)) in cases.into_iter().enumerate() {
        let id = format!("p{index}");
        client.start_with(&id, ["/usr/bin/env"], more.clone()).await;
        let ended = client.finish(&id).await;
        let text = ended.stdout();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected, "{more}");
    }
    let core = json!({"envPolicy": policy("core", false, &[], json!({}), &[])});
    client.start_with("core", ["/usr/bin/env"], core).await;
    let core = client.finish("core").await.stdout();
    assert!(core.lines().any(|line| line.starts_with("PATH=")) && !core.contains("PLAIN_THING"), "{core}");
    let bad = json!({"envPolicy": policy("some", false, &[], json!({}), &[])});
    assert_eq!(client.refused("process/start", start_params("bad", ["true"], bad)).await, -32602);
}

#[tokio::test]
async fn a_program_is_looked_up_in_the_childs_path_and_arg0_is_its_name() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("only-here");
    std::fs::write(&program, "#!/bin/sh\necho found $0\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let here = directory.path().to_str().unwrap();
    let bare = |env: Value| json!({"envPolicy": null, "env": env, "cwd": here});
    client
        .start_with("path", ["only-here"], bare(json!({"PATH": format!("/nowhere:{here}:/usr/bin:/bin")})))
        .await;
    assert_eq!(client.finish("path").await.stdout(), format!("found {here}/only-here\n"));
    client.start_with("cwd", ["./only-here"], bare(json!({}))).await;
    assert_eq!(client.finish("cwd").await.code(), 0);
    client.start_with("default", ["env"], bare(json!({}))).await;
    assert_eq!(client.finish("default").await.code(), 0);
    let named = json!({"arg0": "my-name"});
    client.start_with("arg0", ["/bin/sh", "-c", "echo $0"], named).await;
    assert_eq!(client.finish("arg0").await.stdout(), "my-name\n");
}

#[tokio::test]
async fn a_child_leads_its_own_session_with_three_descriptors_and_clean_signals() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // Read by the shell itself: while it starts another program it blocks signals for a moment, and has pipes open.
    let script = "read -r pid _ _ _ group session _ < /proc/$$/stat; echo $pid $group $session; ls /proc/$$/fd; \
                  readlink /proc/$$/fd/0; \
                  while read -r name value; do case $name in SigBlk:|SigIgn:) echo $name $value;; esac; done \
                  < /proc/$$/status";
    let ended = client.run("p", script).await;
    let text = ended.stdout();
    let mut lines = text.lines();
    let ids: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "pid, group and session are one: {text}");
    for listed in ["0", "1", "2", "/dev/null"] {
        assert_eq!(lines.next(), Some(listed), "{text}");
    }
    assert_eq!(lines.next(), Some("SigBlk: 0000000000000000"), "{text}");
    assert_eq!(lines.next(), Some("SigIgn: 0000000000000000"), "{text}");
}

#[tokio::test]
async fn a_sandbox_that_asks_for_nothing_runs_plainly_and_one_without_permissions_is_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let sandbox = |permissions: Value| json!({"sandbox": {"permissions": permissions, "windowsSandboxLevel": "disabled"}});
    let plain = [
        json!({"type": "disabled"}),
        json!({"type": "external", "network": "enabled"}),
        json!({"type": "managed", "network": "enabled", "file_system": {"type": "unrestricted"}}),
    ];
    for (index, permissions) in plain.into_iter().enumerate() {
        let id = format!("plain{index}");
        let params = start_params(&id, ["true"], sandbox(permissions.clone()));
        let answer = client.ok("process/start", params).await;
        assert!(answer["sandboxType"].is_string(), "{answer}");
        assert_eq!(client.finish(&id).await.code(), 0, "{permissions}");
    }
    assert_eq!(
        client.refused("process/start", start_params("no", ["true"], json!({"sandbox": {}}))).await,
        -32602
    );
}

/// Whoever sets them: the server's environment, the policy, `env` (21.5).
#[tokio::test]
async fn some_variables_no_program_gets_and_others_metadata_sets_over_everything() {
    const NEVER: [&str; 8] = [
        "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
        "CODEX_GUARDIAN_DECISIONS_API_KEY",
        "OPENAI_FEDERATION_RULE_ID",
        "OPENAI_IDENTITY_TOKEN_FILE",
        "OPENAI_WORKLOAD_IDENTITY_CONTEXT",
        "OPENAI_IDENTITY_TOKEN_SOURCE",
        "OPENAI_SPIFFE_ID",
        "OPENAI_SPIFFE_AUDIENCE",
    ];
    const NOT_INHERITED: &str = "CODEX_INTERNAL_APP_SERVER_REMOTE_CONTROL_DISABLED";
    let own = NEVER.iter().fold(Server::builder(), |server, name| server.env(name, "own"));
    let server = own.env("AWS_PROFILE", "passed").env(NOT_INHERITED, "own").start().await;
    let mut client = server.client().await;
    let all = |value: &str| {
        let names = NEVER.iter().chain(&["CODEX_TOOL_CALL_ID"]);
        names.map(|name| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>()
    };
    let mut env = all("env");
    env.insert("CODEX_THREAD_ID".into(), json!("of env"));
    let policy = |set: serde_json::Map<String, Value>| json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": ["CODEX_*"], "set": set, "includeOnly": []});
    let plain = json!({"envPolicy": policy(all("set")), "env": env});
    client.start_with("plain", ["/usr/bin/env"], plain.clone()).await;
    let told = client.finish("plain").await.stdout();
    let has = |told: &str, name: &str| told.lines().any(|line| line.starts_with(&format!("{name}=")));
    for name in NEVER.iter().chain(&["CODEX_TOOL_CALL_ID", NOT_INHERITED]) {
        assert!(!has(&told, name), "{name}: {told}");
    }
    assert!(told.contains("AWS_PROFILE=passed\n") && told.contains("CODEX_THREAD_ID=of env\n"), "{told}");
    let mut said = plain;
    said["metadata"] = json!({"threadId": "67E55044-10B1-426F-9247-BB680E5FE0C8", "toolCallId": "call 1"});
    said["envPolicy"] = policy(json!({NOT_INHERITED: "set"}).as_object().unwrap().clone());
    client.start_with("said", ["/usr/bin/env"], said).await;
    let told = client.finish("said").await.stdout();
    for line in [
        "CODEX_THREAD_ID=67e55044-10b1-426f-9247-bb680e5fe0c8",
        "CODEX_TOOL_CALL_ID=call 1",
        &format!("{NOT_INHERITED}=set"),
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    assert!(NEVER.iter().all(|name| !has(&told, name)), "{told}");
}
