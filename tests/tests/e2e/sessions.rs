//! Sessions that wait for their client, and what other connections of the same user may do with their programs.

use codex_e2e::client::TestClient;
use codex_e2e::{Server, bytes_of};
use serde_json::{Value, json};

use crate::listen::{SECRET, token};

/// Opens a session that lives for this long without a connection; what the server says of the time.
async fn open(client: &mut TestClient, detached_ms: u64) -> Value {
    let result = client
        .ok("initialize", json!({"clientName": "t", "resumeSessionId": null, "detachedMs": detached_ms}))
        .await;
    client.session_id = result["sessionId"].as_str().unwrap().to_owned();
    client.notify("initialized", json!({})).await;
    result["detachedMs"].clone()
}

async fn listed(client: &mut TestClient) -> Vec<Value> {
    let result = client.ok("process/list", json!({"allSessions": true})).await;
    result["processes"].as_array().unwrap().clone()
}

/// Everything that a process of another session has printed, and its end.
async fn read_to_end(client: &mut TestClient, session: &str, process: &str) -> (String, Value) {
    let (mut text, mut after) = (Vec::new(), 0);
    loop {
        let read = client
            .ok(
                "process/read",
                json!({"sessionId": session, "processId": process, "afterSeq": after, "waitMs": 60_000}),
            )
            .await;
        for chunk in read["chunks"].as_array().unwrap() {
            text.extend(bytes_of(&chunk["chunk"]));
        }
        after = read["nextSeq"].as_u64().unwrap() - 1;
        if read["closed"] == true {
            return (String::from_utf8(text).unwrap(), read);
        }
    }
}

#[tokio::test]
async fn a_session_lives_as_long_as_its_client_asks_within_the_bound() {
    let server =
        Server::builder().limit("detached_time", 1).limit("longest_detached_time", 3_600_000).start().await;
    let mut long = server.connect().await;
    assert_eq!(open(&mut long, u64::MAX).await, 3_600_000, "it is told what it gets");
    let mut short = server.client().await;
    for client in [&mut long, &mut short] {
        client.shell_with("p", "echo ready; exec sleep 1000", json!({})).await;
        client.output_until("p", "ready").await;
    }
    let (kept, gone) = (long.session_id.clone(), short.session_id.clone());
    drop((long, short));
    let mut other = server.client().await;
    let ended = async {
        while listed(&mut other).await.iter().any(|process| process["sessionId"] == *gone) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(codex_e2e::GUARD, ended)
        .await
        .expect("a session without a time of its own ends after the usual one");
    let left = listed(&mut other).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((&left[0]["sessionId"], &left[0]["state"]), (&json!(kept), &json!("running")));
    assert!(left[0].get("attached").is_none() && left[0]["runningMs"].is_u64(), "{left:?}");
    let mut again = server.connect().await;
    again.ok("initialize", json!({"clientName": "t", "resumeSessionId": kept})).await;
}

#[tokio::test]
async fn programs_of_another_session_can_be_read_written_to_signalled_and_waited_for() {
    let server = Server::start().await;
    let mut owner = server.connect().await;
    open(&mut owner, 60_000).await;
    let script = "trap 'echo hup' HUP; echo ready; while read line; do echo got $line; done; exit 3";
    let start = json!({"pipeStdin": true, "pullOnly": true});
    owner.shell_with("p", script, start).await;
    let session = owner.session_id.clone();
    drop(owner);

    let mut other = server.client().await;
    let at = |more: Value| {
        let mut params = json!({"sessionId": session, "processId": "p"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let read = other.ok("process/read", at(json!({"waitMs": 60_000}))).await;
    assert_eq!(bytes_of(&read["chunks"][0]["chunk"]), b"ready\n");
    other.ok("process/write", at(json!({"chunk": codex_e2e::base64("one\n")}))).await;
    let read = other
        .ok("process/read", at(json!({"afterSeq": read["nextSeq"].as_u64().unwrap() - 1, "waitMs": 60_000})))
        .await;
    assert_eq!(bytes_of(&read["chunks"][0]["chunk"]), b"got one\n");
    other.ok("process/signal", at(json!({"signal": "hangup"}))).await;
    // Some shells go on reading, and some have ended by now.
    let _ = other.call("process/closeStdin", at(json!({}))).await;
    let ended = other.ok("process/wait", at(json!({}))).await;
    assert_eq!((ended["exited"].as_bool(), ended["exitCode"].as_i64()), (Some(true), Some(3)));
    let (text, _) = read_to_end(&mut other, &session, "p").await;
    assert!(text.contains("hup\n") && text.contains("got one\n"), "{text:?}");
    let (code, words) =
        other.call("process/read", json!({"sessionId": "nosuch", "processId": "p"})).await.unwrap_err();
    assert!(code == -32600 && words.contains("unknown session id nosuch"), "{code} {words}");
    let running = other.ok("process/terminate", json!({"sessionId": "nosuch", "processId": "p"})).await;
    assert_eq!(running["running"], false);
}

#[tokio::test]
async fn a_program_that_is_only_read_pushes_nothing_and_waits_for_nobody() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("quiet", "head -c 5000000 /dev/zero; echo end", json!({"pullOnly": true})).await;
    let session = client.session_id.clone();
    // Nobody reads, and it ends all the same: the oldest output goes.
    let ended = client.ok("process/wait", json!({"processId": "quiet"})).await;
    assert_eq!(ended["exitCode"], 0);
    let (text, read) = read_to_end(&mut client, &session, "quiet").await;
    assert!(text.ends_with("end\n") && text.len() < 2_000_000, "{}", text.len());
    assert_eq!(read["totals"]["stdout"], 5_000_004);
    client.shell_with("loud", "echo pushed", json!({})).await;
    let exited = client.next_notification("process/exited").await;
    assert_eq!(exited["processId"], "loud", "nothing was said of the other");
}

#[tokio::test]
async fn the_newest_attachment_writes_the_older_is_told_and_nothing_is_lost_for_who_writes() {
    let server = Server::start().await;
    let mut owner = server.connect().await;
    open(&mut owner, 60_000).await;
    let script = "read go; head -c 5000000 /dev/zero | tr '\\0' x; read end; exit 0";
    owner.shell_with("p", script, json!({"pipeStdin": true, "pullOnly": true})).await;
    let session = owner.session_id.clone();
    let attach =
        |id: &str| json!({"sessionId": session, "processId": "p", "attachmentId": id, "afterSeq": 0});
    let write = |id: &str, text: &str| json!({"sessionId": session, "processId": "p", "attachmentId": id, "chunk": codex_e2e::base64(text)});
    let (mut first, mut second) = (server.client().await, server.client().await);
    let told = first.send("process/attach", attach("one")).await;
    assert_eq!(first.ok("process/write", write("one", "")).await["status"], "accepted");
    let ended = second.send("process/attach", attach("two")).await;
    assert_eq!(second.ok("process/write", write("two", "go\n")).await["status"], "accepted");
    assert_eq!(first.answer(told).await.unwrap()["reason"], "takenOver");
    assert_eq!(first.ok("process/write", write("one", "go\n")).await["status"], "takenOver");

    let (mut count, mut after) = (0, 0);
    while count < 5_000_000 {
        let read = second
            .ok(
                "process/read",
                json!({"sessionId": session, "processId": "p", "attachmentId": "two", "afterSeq": after, "waitMs": 60_000}),
            )
            .await;
        assert_eq!(read["lostBytes"], 0, "after {count} bytes");
        after = read["nextSeq"].as_u64().unwrap() - 1;
        for chunk in read["chunks"].as_array().unwrap() {
            count += bytes_of(&chunk["chunk"]).len();
        }
    }
    second.ok("process/write", write("two", "end\n")).await;
    assert_eq!(second.answer(ended).await.unwrap()["reason"], "closed");
    let (code, words) = second.call("process/attach", attach("")).await.unwrap_err();
    assert!(code == -32602 && words.contains("attachmentId"), "{code} {words}");
}

#[tokio::test]
async fn subjects_of_signed_tokens_do_not_see_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let server = Server::builder()
        .args(["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", secret.to_str().unwrap()])
        .start()
        .await;
    let client = async |claims: Value| {
        let bearer = format!("Bearer {}", token("HS256", SECRET, &claims));
        let mut client = TestClient::try_connect(&server.url, &[("authorization", &bearer)]).await.unwrap();
        client.handshake().await;
        client
    };
    let mut anna = client(json!({"exp": 4_000_000_000_u64, "sub": "anna"})).await;
    anna.shell_with("p", "echo ready; exec sleep 1000", json!({})).await;
    anna.output_until("p", "ready").await;
    let session = anna.session_id.clone();
    let mut again = client(json!({"exp": 4_000_000_001_u64, "sub": "anna"})).await;
    assert_eq!(listed(&mut again).await.len(), 1, "another token of the same subject");
    for other in [json!({"exp": 4_000_000_000_u64, "sub": "bert"}), json!({"exp": 4_000_000_000_u64})] {
        let mut other = client(other).await;
        assert_eq!(listed(&mut other).await, Vec::<Value>::new());
        let named = json!({"sessionId": session, "processId": "p"});
        let (_, words) = other.call("process/read", named).await.unwrap_err();
        assert!(words.contains("unknown session id"), "{words}");
    }
}
