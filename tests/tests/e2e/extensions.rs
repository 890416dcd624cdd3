//! What released servers do not have (`docs/extensions.md`): list, wait, deadlines, ends of input, details.

use codex_e2e::{Server, base64};
use serde_json::{Value, json};

#[tokio::test]
async fn list_shows_every_process_and_where_it_stands() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_eq!(client.ok("process/list", Value::Null).await, json!({"processes": []}));
    client.start("runs", ["sleep", "1000"]).await;
    client.run("ended", "echo out; exit 3").await;
    let list = client.ok("process/list", json!({"unknown": 1})).await;
    let processes = list["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 2, "{list}");
    let (runs, ended) = (&processes[0], &processes[1]);
    assert_eq!(
        (&runs["processId"], &runs["state"], &runs["tty"]),
        (&json!("runs"), &json!("running"), &json!(false))
    );
    assert_eq!(
        (&runs["argv"], &runs["exitCode"], &runs["exit"]),
        (&json!(["sleep", "1000"]), &Value::Null, &Value::Null)
    );
    assert!(runs["pid"].as_u64().is_some_and(|pid| pid > 1));
    assert_eq!(
        (&ended["processId"], &ended["state"], &ended["exitCode"]),
        (&json!("ended"), &json!("closed"), &json!(3))
    );
    assert_eq!(
        (&ended["totals"]["stdout"], &ended["nextSeq"], &ended["leftovers"]),
        (&json!(4), &json!(4), &json!([]))
    );
    assert!(ended["exit"]["durationMs"].is_u64());
}

#[tokio::test]
async fn wait_returns_at_the_end_or_when_its_time_is_up() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("p", "read x; exit 4", json!({"pipeStdin": true})).await;
    let early = client.ok("process/wait", json!({"processId": "p", "timeoutMs": 10})).await;
    assert_eq!(
        (&early["exited"], &early["exitCode"], &early["exit"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    let waiting = client.send("process/wait", json!({"processId": "p"})).await;
    client.write("p", "\n").await;
    let end = client.answer(waiting).await.unwrap();
    assert_eq!((&end["exited"], &end["exitCode"]), (&json!(true), &json!(4)));
    assert!(end["exit"]["cpuUserMs"].is_u64(), "{end}");
    assert_eq!(client.ok("process/wait", json!({"processId": "p"})).await["exitCode"], 4, "also afterwards");
    assert_eq!(client.refused("process/wait", json!({"processId": "none"})).await, -32600);
    assert_eq!(client.refused("process/wait", json!({})).await, -32602);
}

#[tokio::test]
async fn the_end_is_told_in_full() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; exit 2";
    let plain = client.run("plain", burn).await.exited;
    assert_eq!(
        (&plain["exitCode"], &plain["signal"], &plain["timedOut"], &plain["coreDumped"]),
        (&json!(2), &Value::Null, &json!(false), &json!(false))
    );
    assert!(plain["maxRssBytes"].as_u64().unwrap() > 100_000, "{plain}");
    assert!(plain["cpuUserMs"].as_u64().unwrap() + plain["cpuSystemMs"].as_u64().unwrap() > 0, "{plain}");
    assert!(plain["durationMs"].as_u64().unwrap() > 0, "{plain}");
    for (id, tty, code) in [("pipe", false, 143), ("tty", true, 1)] {
        client.shell_with(id, "kill -15 $$", json!({"tty": tty})).await;
        let killed = client.finish(id).await.exited;
        assert_eq!((&killed["exitCode"], &killed["signal"]), (&json!(code), &json!(15)), "{killed}");
        let read = client.read(id, 0, 0).await;
        assert_eq!(read["exit"]["signal"], 15, "{read}");
        assert_eq!(client.ok("process/wait", json!({"processId": id})).await["exit"]["signal"], 15);
    }
}

#[tokio::test]
async fn a_deadline_ends_the_whole_tree() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("own");
    let tree = format!(
        "setsid sh -c 'echo $$ > {}; sleep 1000' & while [ ! -s {0} ]; do sleep 0.01; done; echo up; wait",
        own.display()
    );
    client.shell_with("p", &tree, json!({"timeoutMs": 1500})).await;
    let ended = client.finish("p").await;
    assert_eq!(
        (ended.exited["timedOut"].as_bool(), ended.exited["signal"].is_i64()),
        (Some(true), true),
        "{}",
        ended.exited
    );
    let pid = codex_e2e::machine::pid_in(&own).await;
    codex_e2e::machine::eventually("the tree is gone", || !codex_e2e::machine::alive(pid)).await;
}

#[tokio::test]
async fn silence_beyond_the_idle_time_ends_a_program_and_output_prolongs_it() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let chatty = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.2; done; echo now-silent; sleep 1000";
    client.shell_with("p", chatty, json!({"idleTimeoutMs": 1200})).await;
    let ended = client.finish("p").await;
    assert!(ended.stdout().ends_with("now-silent\n"), "{}", ended.stdout());
    assert_eq!(ended.exited["timedOut"], true);
    client.shell_with("quick", "exit 0", json!({"idleTimeoutMs": 60_000, "timeoutMs": 60_000})).await;
    let quick = client.finish("quick").await;
    assert_eq!((quick.code(), &quick.exited["timedOut"]), (0, &json!(false)));
}

#[tokio::test]
async fn close_stdin_ends_the_input_after_what_is_queued() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("wc", ["wc", "-c"], json!({"pipeStdin": true})).await;
    let mut requests = Vec::new();
    for _ in 0..50 {
        requests.push(
            client
                .send("process/write", json!({"processId": "wc", "chunk": base64("x".repeat(10_000))}))
                .await,
        );
    }
    requests.push(client.send("process/closeStdin", json!({"processId": "wc"})).await);
    assert_eq!(client.finish("wc").await.stdout().trim(), "500000");
    for id in requests {
        client.answer(id).await.unwrap();
    }
    assert_eq!(client.ok("process/closeStdin", json!({"processId": "wc"})).await, json!({}), "twice is fine");
    assert_eq!(client.write("wc", "x").await, "stdinClosed");
    assert_eq!(client.refused("process/closeStdin", json!({"processId": "none"})).await, -32600);
}

#[tokio::test]
async fn a_full_timeout_word_of_a_wrong_type_is_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for more in [json!({"timeoutMs": -1}), json!({"idleTimeoutMs": "x"}), json!({"rows": 70_000})] {
        let params = codex_e2e::client::start_params("p", ["true"], more.clone());
        assert_eq!(client.refused("process/start", params).await, -32602, "{more}");
    }
    assert_eq!(client.refused("process/terminate", json!({"processId": "p", "graceMs": -1})).await, -32602);
}

#[tokio::test]
async fn pieces_of_files_are_read_and_written_and_a_write_may_be_the_last() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let write = |mode: &str, text: &str| json!({"path": file, "dataBase64": base64(text), "mode": mode});
    client.ok("fs/writeFile", write("exclusive", "hello")).await;
    assert_eq!(client.refused("fs/writeFile", write("exclusive", "x")).await, -32603);
    client.ok("fs/writeFile", write("append", " world")).await;
    for (piece, text, eof) in [
        (json!({"offset": 0, "maxBytes": 5}), "hello", false),
        (json!({"maxBytes": 11}), "hello world", true),
        (json!({"offset": 6}), "world", true),
        (json!({"offset": 11, "maxBytes": 1}), "", true),
        (json!({"offset": u64::MAX >> 1, "maxBytes": 1}), "", true),
    ] {
        let mut params = piece.clone();
        params["path"] = json!(file);
        let told = client.ok("fs/readFile", params).await;
        assert_eq!(told, json!({"dataBase64": base64(text), "eof": eof}), "{piece}");
    }
    let whole = client.ok("fs/readFile", json!({"path": file})).await;
    assert_eq!(whole, json!({"dataBase64": base64("hello world")}), "a whole file is answered as ever");
    for most in [0, (1 << 20) + 1] {
        assert_eq!(client.refused("fs/readFile", json!({"path": file, "maxBytes": most})).await, -32602);
    }
    assert_eq!(client.refused("fs/writeFile", write("other", "x")).await, -32602);
    client.ok("fs/writeFile", write("truncate", "new")).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");

    client.start_with("p", ["cat"], json!({"pipeStdin": true})).await;
    let last = json!({"processId": "p", "chunk": base64("bye\n"), "writeId": "1", "eof": true});
    for _ in 0..2 {
        assert_eq!(client.ok("process/write", last.clone()).await["status"], "accepted");
    }
    let ended = client.finish("p").await;
    assert_eq!((ended.stdout().as_str(), ended.code()), ("bye\n", 0));
    assert_eq!(client.write("p", "x").await, "stdinClosed");
}
