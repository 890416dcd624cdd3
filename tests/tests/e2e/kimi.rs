//! Kimi Code's dialect over stdio (`docs/extensions.md`), as its released client speaks it.

use codex_e2e::machine::{alive, eventually};
use codex_e2e::{Server, TestClient, base64, bytes_of};
use serde_json::{Value, json};

/// A server on its stdin and stdout, and a client after the handshake; what `initialize` was answered.
async fn kimi() -> (Server, TestClient, Value) {
    let (server, mut client) = Server::builder().stdio().await;
    let told = client.ok("initialize", json!({"clientName": "kimi-code", "clientVersion": "0.30.0"})).await;
    client.notify("initialized", Value::Null).await;
    (server, client, told)
}

/// The error of a request that must fail.
async fn failure(client: &mut TestClient, method: &str, params: Value) -> Value {
    let id = client.send(method, params).await;
    let mut answer = client.until(|message| message["id"] == id).await;
    assert!(answer.get("error").is_some(), "{method} was not refused: {answer}");
    answer["error"].take()
}

/// What one program said: everything up to the notification that it is over.
async fn story(client: &mut TestClient, id: &str) -> Vec<Value> {
    let mut story = Vec::new();
    loop {
        let message = client.until(|message| message["params"]["processId"] == id).await;
        let last = message["method"] == "process/closed";
        story.push(message);
        if last {
            return story;
        }
    }
}

fn printed(story: &[Value], stream: &str) -> String {
    let of_it = story.iter().filter(|told| told["params"]["stream"] == stream);
    let bytes: Vec<u8> = of_it.flat_map(|told| bytes_of(&told["params"]["chunkBase64"])).collect();
    String::from_utf8(bytes).unwrap()
}

fn exit_code(story: &[Value]) -> &Value {
    let exits: Vec<_> = story.iter().filter(|told| told["method"] == "process/exited").collect();
    assert_eq!(exits.len(), 1, "one exit: {story:?}");
    &exits[0]["params"]["exitCode"]
}

#[tokio::test]
async fn the_answer_to_initialize_has_all_that_the_client_asks_for() {
    let (_server, mut client, told) = kimi().await;
    let version = told["executorVersion"].as_str().unwrap();
    assert!(version.split('.').next().unwrap().parse::<u32>().is_ok(), "{version}");
    let machine = told["environment"].as_object().unwrap();
    for member in
        ["osKind", "osArch", "osVersion", "shellName", "shellPath", "pathClass", "homeDir", "cwd", "tempDir"]
    {
        assert!(!machine[member].as_str().unwrap().is_empty(), "{member} of {told}");
    }
    assert_eq!((&machine["osKind"], &machine["pathClass"]), (&json!("Linux"), &json!("posix")));
    assert!(machine["homeDir"].as_str().unwrap().starts_with('/'), "a bare path: {told}");
    assert_eq!(told["capabilities"], json!({"processFlow": true}));
    assert_eq!(client.ok("environment/status", Value::Null).await, json!({"status": "ready"}));
    assert_eq!(failure(&mut client, "no/such", json!({})).await["code"], -32601);
    assert_eq!(failure(&mut client, "initialize", json!({"clientName": "x"})).await["code"], -32600);
}

#[tokio::test]
async fn other_clients_over_stdio_are_answered_in_the_protocols_own_words() {
    for params in [
        json!({"clientName": "x"}),
        json!({"clientName": "x", "clientVersion": 5}),
        json!({"clientName": "x", "clientVersion": "1", "resumeSessionId": "none"}),
    ] {
        let (_server, mut client) = Server::builder().stdio().await;
        match client.call("initialize", params.clone()).await {
            Ok(told) => assert!(told["sessionId"].is_string(), "{params}: {told}"),
            Err((code, _)) => assert_eq!(code, -32600, "{params}"),
        }
    }
    // And so is everybody over a websocket, whatever it says of itself.
    let server = Server::start().await;
    let mut client = server.connect().await;
    let told = client.ok("initialize", json!({"clientName": "x", "clientVersion": "1.2.3"})).await;
    assert!(told["sessionId"].is_string(), "{told}");
    client.notify("initialized", json!({})).await;
    assert_eq!(client.refused("fs/rename", json!({"from": "/a", "to": "/b"})).await, -32601);
}

#[tokio::test]
async fn files_are_read_written_and_named_in_its_words() {
    let (_server, mut client, _) = kimi().await;
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().canonicalize().unwrap();
    let file = at.join("a file");
    let put = |mode: &str, text: &str| json!({"path": file, "dataBase64": base64(text), "mode": mode});
    assert_eq!(client.ok("fs/writeFile", put("truncate", "hello")).await, json!({}));
    client.ok("fs/writeFile", put("append", " world")).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello world");
    let taken = failure(&mut client, "fs/writeFile", put("exclusive", "x")).await;
    assert_eq!(taken["data"]["domainCode"], "os.fs.already_exists", "{taken}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello world");
    let new = json!({"path": at.join("new"), "dataBase64": base64("n"), "mode": "exclusive"});
    client.ok("fs/writeFile", new).await;

    let read = |offset: u64, most: u64| json!({"path": file, "offset": offset, "maxBytes": most});
    for (offset, most, text, eof) in
        [(0, 5, "hello", false), (6, 5, "world", true), (6, 1 << 20, "world", true), (99, 9, "", true)]
    {
        let told = client.ok("fs/readFile", read(offset, most)).await;
        assert_eq!(told, json!({"dataBase64": base64(text), "eof": eof}), "{offset} {most}");
    }
    let whole = client.ok("fs/readFile", json!({"path": file})).await;
    assert_eq!(whole, json!({"dataBase64": base64("hello world"), "eof": true}));
    assert_eq!(failure(&mut client, "fs/readFile", read(0, (1 << 20) + 1)).await["code"], -32602);

    std::os::unix::fs::symlink("a file", at.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", at.join("dangling")).unwrap();
    let look = |name: &str, follow: bool| json!({"path": at.join(name), "followSymlinks": follow});
    let followed = client.ok("fs/getMetadata", look("link", true)).await;
    assert_eq!((&followed["isFile"], &followed["isSymlink"]), (&json!(true), &json!(false)));
    assert_eq!(followed["size"], 11);
    assert_eq!(followed["mode"].as_u64().unwrap() & 0o170_000, 0o100_000);
    let itself = client.ok("fs/getMetadata", look("link", false)).await;
    assert_eq!((&itself["isFile"], &itself["isSymlink"]), (&json!(false), &json!(true)));
    let real = client.ok("fs/canonicalize", json!({"path": at.join("link")})).await;
    assert_eq!(real, json!({"path": file}), "a bare path");

    let list = client.ok("fs/readDirectory", json!({"path": at})).await;
    assert_eq!(list["truncated"], false);
    let named = |name: &str| {
        let entry = list["entries"].as_array().unwrap().iter().find(|entry| entry["fileName"] == name);
        entry.map(|entry| (entry["isFile"] == true, entry["isDirectory"] == true))
    };
    assert_eq!(named("a file"), Some((true, false)));
    assert_eq!(named("link"), Some((false, false)), "a symlink is neither");
    assert_eq!(named("dangling"), Some((false, false)), "and none is left out");

    client.ok("fs/rename", json!({"from": at.join("dangling"), "to": at.join("moved")})).await;
    assert!(at.join("moved").is_symlink() && !at.join("dangling").is_symlink());
}

#[tokio::test]
async fn errors_of_files_and_starts_have_the_words_that_it_sorts_them_by() {
    let (_server, mut client, _) = kimi().await;
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::create_dir(at.join("dir")).unwrap();
    std::fs::write(at.join("dir/file"), "x").unwrap();
    let cases = [
        ("fs/readFile", json!({"path": at.join("none"), "maxBytes": 9}), -32004, "os.fs.not_found"),
        ("fs/readFile", json!({"path": at.join("dir"), "maxBytes": 9}), -32600, "os.fs.is_directory"),
        ("fs/getMetadata", json!({"path": at.join("dir/file/x")}), -32603, "os.fs.not_directory"),
        ("fs/createDirectory", json!({"path": at.join("dir")}), -32603, "os.fs.already_exists"),
        ("fs/remove", json!({"path": at.join("none")}), -32004, "os.fs.not_found"),
        ("fs/remove", json!({"path": at.join("dir")}), -32603, "os.fs.not_empty"),
        ("fs/rename", json!({"from": at.join("none"), "to": at.join("x")}), -32004, "os.fs.not_found"),
        (
            "process/start",
            json!({"processId": "p", "argv": ["/no/such"], "cwd": at}),
            -32603,
            "os.process.spawn_failed",
        ),
    ];
    for (method, params, code, word) in cases {
        let error = failure(&mut client, method, params.clone()).await;
        assert_eq!(
            (&error["code"], &error["data"]["domainCode"]),
            (&json!(code), &json!(word)),
            "{method} {params}"
        );
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn programs_print_read_and_end_in_its_words() {
    let (_server, mut client, _) = kimi().await;
    let start = json!({"processId": "p", "argv": ["sh", "-c", "echo err >&2; cat; echo $MINE; exit 3"], "cwd": "/",
                       "env": {"MINE": "own"}, "pipeStdin": true});
    let started = client.ok("process/start", start).await;
    let pid = started["pid"].as_u64().unwrap();
    assert_eq!(started, json!({"processId": "p", "pid": pid}));
    assert!(alive(u32::try_from(pid).unwrap()));
    let write = |id: &str, text: &str, eof: bool| json!({"processId": "p", "chunkBase64": base64(text), "writeId": id, "eof": eof});
    for _ in 0..2 {
        let told = client.ok("process/write", write("1", "in\n", false)).await;
        assert_eq!(told, json!({"status": "accepted"}), "and written once");
    }
    assert_eq!(client.ok("process/write", write("2", "", true)).await["status"], "accepted");
    let story = story(&mut client, "p").await;
    assert_eq!(
        (printed(&story, "stdout").as_str(), printed(&story, "stderr").as_str()),
        ("in\nown\n", "err\n")
    );
    assert_eq!(exit_code(&story), 3);
    for told in &story {
        assert!(told["params"].get("seq").is_none(), "no numbers: {told}");
    }
    assert_eq!(story.last().unwrap(), &json!({"method": "process/closed", "params": {"processId": "p"}}));
    assert_eq!(client.ok("process/write", write("3", "x", false)).await["status"], "stdinClosed");
    let unknown = json!({"processId": "none", "chunkBase64": "", "writeId": "1"});
    assert_eq!(client.ok("process/write", unknown).await["status"], "unknownProcess");
}

#[tokio::test]
async fn a_terminal_is_resized_and_terminated_with_a_second_of_grace() {
    let (_server, mut client, _) = kimi().await;
    let script =
        "trap 'echo term; exit 7' TERM; echo $TERM ready; while :; do read -r line && stty size; done";
    client
        .ok(
            "process/start",
            json!({"processId": "t", "argv": ["bash", "-c", script], "cwd": "/", "tty": true}),
        )
        .await;
    let mut seen = String::new();
    while !seen.contains("ready") {
        let told = client.until(|message| message["params"]["stream"] == "pty").await;
        seen += &String::from_utf8_lossy(&bytes_of(&told["params"]["chunkBase64"]));
    }
    assert!(seen.contains("xterm-256color"), "{seen}");
    assert_eq!(
        client.ok("process/resize", json!({"processId": "t", "cols": 99, "rows": 44})).await,
        json!({})
    );
    client.ok("process/write", json!({"processId": "t", "chunkBase64": base64("\n"), "writeId": "1"})).await;
    while !seen.contains("44 99") {
        let told = client.until(|message| message["params"]["stream"] == "pty").await;
        seen += &String::from_utf8_lossy(&bytes_of(&told["params"]["chunkBase64"]));
    }
    assert_eq!(client.ok("process/terminate", json!({"processId": "t"})).await, json!({"running": true}));
    let story = story(&mut client, "t").await;
    assert!(printed(&story, "pty").contains("term"), "it may end by itself: {story:?}");
    assert_eq!(exit_code(&story), 7);
    let late = json!({"processId": "t", "cols": 9, "rows": 9});
    assert_eq!(client.ok("process/resize", late).await, json!({}), "a size that crosses the end is fine");
}

#[tokio::test]
async fn a_paused_program_waits_and_loses_nothing_while_another_prints() {
    let (_server, mut client, _) = kimi().await;
    let flow = |id: &str, paused: bool| json!({"processId": id, "paused": paused});
    client.notify("process/flow", flow("unknown", true)).await;
    client.notify("process/flow", json!({"processId": 5})).await;
    // It prints more than the log and the pipe hold, so it can't end while it is paused.
    let start = |id: &str, script: &str| json!({"processId": id, "argv": ["sh", "-c", script], "cwd": "/", "pipeStdin": true});
    client.ok("process/start", start("flood", "read go; head -c 3000000 /dev/zero | tr '\\0' x")).await;
    client.notify("process/flow", flow("flood", true)).await;
    client
        .ok("process/write", json!({"processId": "flood", "chunkBase64": base64("go\n"), "writeId": "1"}))
        .await;
    client.ok("process/start", start("other", "echo beside")).await;
    let other = story_without(&mut client, "other", "flood").await;
    assert_eq!(printed(&other, "stdout"), "beside\n");
    client.notify("process/flow", flow("flood", false)).await;
    let flood = story(&mut client, "flood").await;
    assert_eq!(printed(&flood, "stdout").len(), 3_000_000);
    assert_eq!(exit_code(&flood), 0);
}

/// The story of one program, in which another must not be heard.
async fn story_without(client: &mut TestClient, id: &str, silent: &str) -> Vec<Value> {
    let mut story = Vec::new();
    loop {
        let message = client.next().await.unwrap();
        assert_ne!(message["params"]["processId"], silent, "it is paused: {message}");
        let last = message["method"] == "process/closed";
        assert_eq!(message["params"]["processId"], id);
        story.push(message);
        if last {
            return story;
        }
    }
}

#[tokio::test]
async fn the_end_of_a_paused_program_is_told_before_its_output() {
    let (_server, mut client, _) = kimi().await;
    let start = json!({"processId": "p", "argv": ["sh", "-c", "read go; echo late; exit 5"], "cwd": "/", "pipeStdin": true});
    client.ok("process/start", start).await;
    client.notify("process/flow", json!({"processId": "p", "paused": true})).await;
    client
        .ok("process/write", json!({"processId": "p", "chunkBase64": base64("go\n"), "writeId": "1"}))
        .await;
    let first = client.next().await.unwrap();
    assert_eq!(first, json!({"method": "process/exited", "params": {"processId": "p", "exitCode": 5}}));
    client.notify("process/flow", json!({"processId": "p", "paused": false})).await;
    let rest = story(&mut client, "p").await;
    assert_eq!(printed(&rest, "stdout"), "late\n");
    assert!(rest.iter().all(|told| told["method"] != "process/exited"), "told once: {rest:?}");
}

#[tokio::test]
async fn a_signal_reaches_the_group_and_the_end_of_stdin_ends_all() {
    let (mut server, mut client, _) = kimi().await;
    let start = |id: &str| json!({"processId": id, "argv": ["sh", "-c", "sleep 1000 & wait"], "cwd": "/"});
    client.ok("process/start", start("a")).await;
    assert_eq!(client.ok("process/signal", json!({"processId": "a", "signal": "kill"})).await, json!({}));
    assert_eq!(exit_code(&story(&mut client, "a").await), 137);
    let pid = client.ok("process/start", start("b")).await["pid"].as_u64().unwrap();
    let pid = u32::try_from(pid).unwrap();
    client.end_input();
    client.expect_closed().await;
    assert_eq!(server.ended().await.code(), Some(0));
    eventually("the program ends too", || !alive(pid)).await;
}
