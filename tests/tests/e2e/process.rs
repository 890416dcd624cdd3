//! Programs on pipes: start, output, read, write, exit and retention (section 8).

use codex_e2e::client::start_params;
use codex_e2e::machine::eventually;
use codex_e2e::{Server, base64, bytes_of};
use serde_json::{Value, json};

#[tokio::test]
async fn streams_stay_apart_and_events_are_numbered() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("p", "read a; echo out; echo err >&2; exit 3", json!({"pipeStdin": true})).await;
    assert_eq!(client.write("p", "go\n").await, "accepted");
    let ended = client.finish("p").await;
    assert_eq!((ended.text("stdout").as_str(), ended.text("stderr").as_str()), ("out\n", "err\n"));
    assert_eq!(ended.code(), 3);
    assert_eq!(ended.exited["sandboxDenied"], false);
    assert_eq!(ended.events.last().unwrap().1, "process/closed");
}

#[tokio::test]
async fn every_byte_of_a_long_output_arrives_in_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ended = client.run("p", "seq 1 400000").await;
    let expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    assert!(ended.bytes("stdout") == expected.as_bytes(), "{} bytes", ended.bytes("stdout").len());
}

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
async fn reads_return_what_is_retained_after_a_number() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .shell_with("p", "echo one; read x; echo two >&2; read x; exit 3", json!({"pipeStdin": true}))
        .await;
    client.output_until("p", "one\n").await;
    client.write("p", "\n").await;
    client.output_until("p", "two\n").await;
    let live = client.read("p", 0, 0).await;
    assert_eq!(
        (&live["exited"], &live["exitCode"], &live["closed"]),
        (&json!(false), &Value::Null, &json!(false))
    );
    assert_eq!(live["nextSeq"], 3);
    client.write("p", "\n").await;
    client.finish_after("p", 2).await;
    // (afterSeq, maxBytes) → (numbers of the chunks, nextSeq)
    let cases = [
        (json!(null), json!(null), vec![1, 2], 5),
        (json!(0), json!(null), vec![1, 2], 5),
        (json!(1), json!(null), vec![2], 5),
        (json!(2), json!(null), vec![], 5),
        (json!(99), json!(null), vec![], 5),
        (json!(0), json!(0), vec![1], 2),
        (json!(0), json!(1), vec![1], 2),
        (json!(0), json!(7), vec![1], 2),
        (json!(0), json!(8), vec![1, 2], 3),
        (json!(2), json!(8), vec![], 5),
    ];
    for (after, max, numbers, next) in cases {
        let params = json!({"processId": "p", "afterSeq": after, "maxBytes": max, "waitMs": 60_000});
        let read = client.ok("process/read", params.clone()).await;
        let seqs: Vec<u64> =
            read["chunks"].as_array().unwrap().iter().map(|c| c["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, numbers, "{params} → {read}");
        assert_eq!(read["nextSeq"], next, "{params} → {read}");
        assert_eq!(
            (&read["exited"], &read["exitCode"], &read["closed"]),
            (&json!(true), &json!(3), &json!(true))
        );
        assert_eq!((&read["failure"], &read["sandboxDenied"]), (&Value::Null, &json!(false)));
    }
    for params in [
        json!({"processId": "p", "afterSeq": -1}),
        json!({"processId": "p", "maxBytes": 1.5}),
        json!({"processId": "p", "waitMs": "1"}),
        json!({"processId": null}),
        json!({}),
    ] {
        assert_eq!(client.refused("process/read", params.clone()).await, -32602, "{params}");
    }
    assert_eq!(client.refused("process/read", json!({"processId": "none"})).await, -32600);
}

#[tokio::test]
async fn a_waiting_read_wakes_for_output_exit_and_close() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("p", "read x; echo a; read x; exit 4", json!({"pipeStdin": true})).await;
    let waiting =
        client.send("process/read", json!({"processId": "p", "afterSeq": 0, "waitMs": 60_000})).await;
    client.write("p", "\n").await;
    let read = client.answer(waiting).await.unwrap();
    assert_eq!(bytes_of(&read["chunks"][0]["chunk"]), b"a\n");
    let waiting =
        client.send("process/read", json!({"processId": "p", "afterSeq": 1, "waitMs": 60_000})).await;
    client.write("p", "\n").await;
    let read = client.answer(waiting).await.unwrap();
    assert_eq!((&read["exited"], &read["exitCode"]), (&json!(true), &json!(4)));
    let read = client.read("p", 2, 60_000).await;
    assert_eq!((&read["closed"], &read["nextSeq"]), (&json!(true), &json!(4)));
}

#[tokio::test]
async fn writes_say_what_became_of_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start("deaf", ["sleep", "1000"]).await;
    client.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    assert_eq!(client.write("none", "x").await, "unknownProcess");
    assert_eq!(client.write("deaf", "x").await, "stdinClosed");
    assert_eq!(client.write("cat", "").await, "accepted");
    assert_eq!(client.write("cat", "hello\n").await, "accepted");
    client.output_until("cat", "hello\n").await;
    for bad in ["***", "YQ", "YQ==\n", "-_8="] {
        let params = json!({"processId": "cat", "chunk": bad});
        assert_eq!(client.refused("process/write", params).await, -32602, "{bad:?}");
    }
    for params in
        [json!({"processId": "cat"}), json!({"processId": "cat", "chunk": null}), json!({"chunk": ""})]
    {
        assert_eq!(client.refused("process/write", params.clone()).await, -32602, "{params}");
    }
    client.ok("process/terminate", json!({"processId": "cat"})).await;
    client.finish_after("cat", 1).await;
    let late = json!({"processId": "cat", "chunk": "eA=="});
    assert_eq!(client.refused("process/write", late).await, -32603);
    assert_eq!(client.write("deaf", "x").await, "stdinClosed");
}

#[tokio::test]
async fn writes_nobody_reads_are_accepted() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("closed", "exec 0<&-; echo ready; exec sleep 1000", json!({"pipeStdin": true})).await;
    client.output_until("closed", "ready").await;
    client.shell_with("gone", "true", json!({"pipeStdin": true})).await;
    client.finish("gone").await;
    for _ in 0..3 {
        assert_eq!(client.write("closed", "x".repeat(1000)).await, "accepted");
        assert_eq!(client.write("gone", "x").await, "accepted");
    }
}

#[tokio::test]
async fn a_write_of_5_megabytes_arrives_whole() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("sum", ["sh", "-c", "head -c 5000000 | sha256sum"], json!({"pipeStdin": true})).await;
    let big: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(client.write("sum", &big).await, "accepted");
    use sha2::{Digest, Sha256};
    let hash: String = Sha256::digest(&big).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(client.finish("sum").await.stdout().starts_with(&hash));
}

#[tokio::test]
async fn a_write_id_makes_a_repeated_write_harmless() {
    let server = Server::builder().limit("remembered_write_ids", 3).start().await;
    let mut client = server.client().await;
    client.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    let write = |text: &str, id: &str| json!({"processId": "cat", "chunk": base64(text), "writeId": id});
    for (text, id) in
        [("one ", "1"), ("one ", "1"), ("other ", "1"), ("two ", "2"), ("three ", "3"), ("two ", "2")]
    {
        assert_eq!(client.ok("process/write", write(text, id)).await["status"], "accepted");
    }
    // The fourth id makes the first forgotten.
    client.ok("process/write", write("four ", "4")).await;
    client.ok("process/write", write("one-again end\n", "1")).await;
    let mut text = String::new();
    while !text.ends_with("end\n") {
        text.push_str(&String::from_utf8_lossy(&bytes_of(
            &client.next_notification("process/output").await["chunk"],
        )));
    }
    assert_eq!(text, "one two three four one-again end\n");
    assert_eq!(client.refused("process/write", write("x", "")).await, -32602);
    client.ok("process/terminate", json!({"processId": "cat"})).await;
    client.next_notification("process/closed").await;
    assert_eq!(
        client.ok("process/write", write("x", "4")).await["status"],
        "accepted",
        "known even after the end"
    );
    assert_eq!(client.refused("process/write", write("x", "5")).await, -32603);
}

#[tokio::test]
async fn exit_codes_are_those_of_the_newer_dialect() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let cases = [
        ("exit 0", 0),
        ("exit 255", 255),
        ("kill -1 $$", 129),
        ("kill -9 $$", 137),
        ("kill -11 $$", 139),
        ("kill -15 $$", 143),
    ];
    for (index, (command, code)) in cases.into_iter().enumerate() {
        assert_eq!(client.run(&format!("pipe{index}"), command).await.code(), code, "{command}");
    }
    for (id, command, code) in [("t1", "exit 7", 7), ("t2", "kill -9 $$", 1), ("t3", "kill -15 $$", 1)] {
        client.shell_with(id, command, json!({"tty": true})).await;
        assert_eq!(client.finish(id).await.code(), code, "{command} on a terminal");
    }
}

#[tokio::test]
async fn exited_is_not_delayed_by_a_background_child_that_holds_the_pipe() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    let command =
        format!("(while [ ! -e {} ]; do sleep 0.02; done; echo late) & echo early; exit 6", gate.display());
    client.shell("p", &command).await;
    let exited = client.next_notification("process/exited").await;
    assert_eq!(exited["exitCode"], 6);
    let read = client.read("p", exited["seq"].as_u64().unwrap(), 0).await;
    assert_eq!((&read["exited"], &read["closed"]), (&json!(true), &json!(false)));
    std::fs::write(&gate, "").unwrap();
    let late = client.until(|m| m["method"] == "process/output" && m["params"]["seq"] == 3).await;
    assert_eq!(bytes_of(&late["params"]["chunk"]), b"late\n");
    assert_eq!(client.next_notification("process/closed").await["seq"], 4);
}

#[tokio::test]
async fn a_flood_of_small_pieces_ends_like_any_other_output() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    let lines = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let late = format!("(while [ ! -e {} ]; do sleep 0.02; done; echo late) &", gate.display());
    client.shell("p", &format!("{lines}; {late} exit 6")).await;
    let mut text = Vec::new();
    let exited = loop {
        let message = client.until(|message| message["method"].is_string()).await;
        match message["method"].as_str() {
            Some("process/output") => text.extend(bytes_of(&message["params"]["chunk"])),
            Some("process/exited") => break message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(exited["params"]["exitCode"], 6);
    std::fs::write(&gate, "").unwrap();
    loop {
        let message = client.until(|message| message["method"].is_string()).await;
        match message["method"].as_str() {
            Some("process/output") => text.extend(bytes_of(&message["params"]["chunk"])),
            Some("process/closed") => break,
            other => panic!("{other:?}"),
        }
    }
    let expected: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(String::from_utf8(text).unwrap(), expected + "late\n");
}

#[tokio::test]
async fn the_last_mebibyte_is_retained_and_loss_is_said() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ended = client.run("p", "seq 1 600000; seq 1 2000 >&2").await;
    let all = ended.bytes("stdout");
    let read = client.read("p", 0, 0).await;
    let chunks = read["chunks"].as_array().unwrap();
    let kept: Vec<u8> =
        chunks.iter().filter(|c| c["stream"] == "stdout").flat_map(|c| bytes_of(&c["chunk"])).collect();
    let kept_err: usize =
        chunks.iter().filter(|c| c["stream"] == "stderr").map(|c| bytes_of(&c["chunk"]).len()).sum();
    let sum = kept.len() + kept_err;
    assert!(sum <= 1 << 20 && sum > (1 << 20) - (128 << 10), "{sum} bytes are retained");
    assert!(all.ends_with(&kept), "the oldest goes first");
    assert_eq!(read["lostBytes"], (all.len() + ended.bytes("stderr").len() - sum) as u64);
    assert_eq!(read["totals"]["stdout"], all.len() as u64);
    assert_eq!(read["totals"]["stderr"], ended.bytes("stderr").len() as u64);
    assert_eq!(read["nextSeq"].as_u64().unwrap(), ended.events.len() as u64 + 1);
    let seqs: Vec<u64> = chunks.iter().map(|c| c["seq"].as_u64().unwrap()).collect();
    let rest = client.read("p", seqs[0] - 1, 0).await;
    assert_eq!(rest["lostBytes"], 0, "nothing is missing after the first kept chunk");
}

#[tokio::test]
async fn an_ended_process_is_forgotten_after_its_time() {
    let server = Server::builder().limit("ended_process_time", 100).start().await;
    let mut client = server.client().await;
    client.run("p", "echo x").await;
    loop {
        match client.call("process/read", json!({"processId": "p"})).await {
            Ok(read) => assert_eq!(read["closed"], true),
            Err((code, _)) => {
                assert_eq!(code, -32600);
                break;
            }
        }
    }
    assert_eq!(client.write("p", "x").await, "unknownProcess");
    assert_eq!(client.ok("process/terminate", json!({"processId": "p"})).await["running"], false);
    assert_eq!(client.run("p", "exit 5").await.code(), 5, "the id is free again");
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

#[tokio::test]
async fn five_hundred_short_programs_at_once_all_finish() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for n in 0..500 {
        client.send("process/start", start_params(&format!("p{n}"), ["true"], json!({}))).await;
    }
    for n in 0..500 {
        assert_eq!(client.finish(&format!("p{n}")).await.code(), 0);
    }
    let pid = server.pid();
    eventually("all are reaped", || codex_e2e::machine::children(pid).is_empty()).await;
}

/// A server whose shell sets this bound of descriptors first: with `-S` the soft one, else both.
async fn with_descriptors(which: &str, most: u32) -> Server {
    let under = ["sh", "-c", &format!("ulimit {which} -n {most}; exec \"$@\""), "sh"].map(str::to_owned);
    Server::builder().under(under).start().await
}

#[tokio::test]
async fn a_soft_bound_of_descriptors_holds_for_programs_and_not_for_the_server() {
    let server = with_descriptors("-S", 64).await;
    let mut client = server.client().await;
    let count = 120;
    for n in 0..count {
        let params = start_params(&format!("p{n}"), ["cat"], json!({"pipeStdin": true}));
        client.ok("process/start", params).await;
    }
    for tty in [false, true] {
        let id = format!("tty-{tty}");
        client.shell_with(&id, "ulimit -S -n; ulimit -H -n", json!({"tty": tty})).await;
        let ended = client.finish(&id).await;
        let shown = ended.text(if tty { "pty" } else { "stdout" });
        let bounds: Vec<&str> = shown.split_ascii_whitespace().collect();
        assert!(matches!(bounds[..], ["64", hard] if hard != "64"), "{shown}");
    }
    for n in 0..count {
        client.ok("process/closeStdin", json!({"processId": format!("p{n}")})).await;
        assert_eq!(client.finish(&format!("p{n}")).await.code(), 0);
    }
}

#[tokio::test]
async fn at_the_bound_of_descriptors_a_start_is_refused_with_a_sentence_and_nothing_hangs() {
    for tty in [false, true] {
        let server = with_descriptors("", 256).await;
        let mut client = server.client().await;
        let mut starts = Vec::new();
        for n in 0..300 {
            let id = format!("p{n}");
            let params = start_params(&id, ["sleep", "1000"], json!({"tty": tty}));
            starts.push((client.send("process/start", params).await, id));
        }
        let (mut running, mut refused) = (Vec::new(), 0);
        for (request, id) in starts {
            match client.answer(request).await {
                Ok(_) => running.push(id),
                Err((code, text)) => {
                    assert!(code == -32603 && text.contains("256 descriptors"), "{code} {text}");
                    refused += 1;
                }
            }
        }
        assert!(running.len() > 20 && refused > 20, "{} run, {refused} were refused", running.len());
        // The rest of the server goes on, as far as it needs no descriptor.
        client.ok("process/list", json!({})).await;
        for id in &running {
            client.ok("process/terminate", json!({"processId": id})).await;
        }
        for id in &running {
            // As released servers have it (8.6).
            assert_eq!(client.finish(id).await.code(), if tty { 1 } else { 137 }, "{id}");
        }
        let (pid, after) = (server.pid(), format!("after-{tty}"));
        eventually("all are reaped", || codex_e2e::machine::children(pid).len() <= 1).await;
        assert_eq!(client.run(&after, "echo on").await.stdout(), "on\n");
    }
}

#[tokio::test]
async fn what_a_program_wrote_comes_before_its_end() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for n in 0..60 {
        let id = format!("p{n}");
        client.shell_with(&id, "sleep 0.01; echo last words", json!({"tty": n % 2 == 0})).await;
        let mut kinds = Vec::new();
        client
            .until(|message| {
                let method = message["method"].as_str().unwrap_or_default().to_owned();
                let ours = message["params"]["processId"] == *id;
                let closed = ours && method == "process/closed";
                kinds.extend(ours.then_some(method));
                closed
            })
            .await;
        let exit = kinds.iter().position(|kind| kind == "process/exited").expect("it ends");
        let output = kinds.iter().rposition(|kind| kind == "process/output").expect("it prints");
        assert!(output < exit, "{id}: {kinds:?}");
    }
}

/// What kernels did not have in 2018, or filters of containers do not know.
const NEWER_CALLS: [libc::c_long; 8] = [
    libc::SYS_clone3,
    libc::SYS_close_range,
    libc::SYS_faccessat2,
    libc::SYS_openat2,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_statx,
    libc::SYS_io_uring_setup,
];

#[tokio::test]
async fn programs_and_files_need_no_newer_call_of_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "content").unwrap();
    for errno in [libc::ENOSYS, libc::EPERM] {
        let calls = NEWER_CALLS.map(|call| call.to_string()).join(",");
        let under = [env!("CARGO_BIN_EXE_refuse"), &errno.to_string(), &calls].map(str::to_owned);
        let mut server = Server::builder().under(under).start().await;
        let mut client = server.client().await;
        for tty in [false, true] {
            let id = format!("tty-{tty}");
            client.shell_with(&id, "echo $((6 * 7)); exit 3", json!({"tty": tty})).await;
            let ended = client.finish(&id).await;
            assert_eq!(
                (ended.text(if tty { "pty" } else { "stdout" }).trim(), ended.code()),
                ("42", 3),
                "{errno}"
            );
        }
        let metadata = client.ok("fs/getMetadata", json!({"path": file})).await;
        assert_eq!(
            (&metadata["isFile"], &metadata["size"]),
            (&json!(true), &json!(7)),
            "{errno}: {metadata}"
        );
        assert!(metadata["modifiedAtMs"].as_i64().unwrap() > 0, "{errno}: {metadata}");
        let strict = json!({"path": file, "followSymlinks": false});
        assert_eq!(client.ok("fs/getMetadata", strict).await["size"], 7, "{errno}");
        let child = directory.path().join(format!("child{errno}"));
        client
            .shell("tree", &format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' & wait", child.display()))
            .await;
        let child = codex_e2e::machine::pid_in(&child).await;
        client.ok("process/terminate", json!({"processId": "tree"})).await;
        assert_eq!(client.finish("tree").await.code(), 137, "{errno}");
        codex_e2e::machine::eventually("the tree is gone", || !codex_e2e::machine::alive(child)).await;
        let running = directory.path().join(format!("running{errno}"));
        client.shell("running", &format!("echo $$ > {}; exec sleep 1000", running.display())).await;
        let running = codex_e2e::machine::pid_in(&running).await;
        server.signal(rustix::process::Signal::KILL);
        server.ended().await;
        codex_e2e::machine::eventually("it ends with its server", || !codex_e2e::machine::alive(running))
            .await;
    }
}
