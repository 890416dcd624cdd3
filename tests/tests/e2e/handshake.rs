//! Handshake, envelope and what closes a connection (sections 4 and 5).

use codex_e2e::client::start_params;
use codex_e2e::{Server, TestClient};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const INIT: &str = r#"{"id":1,"method":"initialize","params":{"clientName":"e2e"}}"#;

#[tokio::test]
async fn directories_without_a_whole_path_are_left_out_or_resolved() {
    for (name, value) in [("HOME", "rel"), ("HOME", ""), ("TMPDIR", ""), ("TMPDIR", "rel/to")] {
        let server = Server::builder().env(name, value).start().await;
        let info = server.client().await.ok("environment/info", json!({})).await;
        for member in ["userHomeDir", "tempDir"] {
            let told = info[member].as_str();
            assert!(
                told.is_none_or(|path| path.starts_with("file:///")),
                "{name}={value}: {member} is {told:?}"
            );
        }
        let temporary = info["tempDir"].as_str().unwrap_or_else(|| panic!("{name}={value}"));
        match (name, value) {
            ("TMPDIR", "rel/to") => {
                assert!(temporary.ends_with("/rel/to"), "{temporary}");
                assert_eq!(info["temporaryDirectories"], json!([temporary]));
            }
            ("TMPDIR", _) => {
                assert_eq!((temporary, &info["temporaryDirectories"]), ("file:///tmp", &json!([])));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn initialize_gives_a_session_id_and_describes_the_machine() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let answer = client.ok("initialize", json!({"clientName": "", "resumeSessionId": null})).await;
    let id = answer["sessionId"].as_str().unwrap();
    let hyphens: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
    assert_eq!((id.len(), hyphens), (36, vec![8, 13, 18, 23]), "{id}");
    assert_eq!(id.to_lowercase(), id);
    assert_eq!(&id[14..15], "4", "a random UUID, version 4: {id}");
    assert_machine(&answer["environmentInfo"]);
}

fn assert_machine(info: &Value) {
    assert!(info["shell"]["path"].as_str().unwrap().starts_with('/'), "{info}");
    assert!(info["shell"]["name"].is_string());
    assert_eq!(info["platformOs"], "linux");
    for name in ["cwd", "userHomeDir", "tempDir"] {
        assert!(info[name].as_str().unwrap().starts_with("file:///"), "{name} in {info}");
    }
    assert!(info["temporaryDirectories"].is_array() && info["prependPathDirs"].is_array());
    assert!(
        info["providerId"].as_str().is_none_or(|id| id.starts_with("sha256:") && id.len() == 71),
        "{info}"
    );
    let capabilities = info["capabilities"].as_object().unwrap();
    assert!(capabilities.values().all(Value::is_boolean), "{info}");
    for absent in ["credentialMasking", "windowsMxc"] {
        assert!(
            !capabilities.get(absent).is_some_and(|on| on == true),
            "{absent} is announced but does not exist"
        );
    }
}

#[tokio::test]
async fn environment_methods_answer_and_take_no_params() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_machine(&client.ok("environment/info", json!({})).await);
    assert_eq!(client.ok("environment/status", Value::Null).await, json!({"status": "ready"}));
    for method in ["environment/info", "environment/status"] {
        client.send_raw(&json!({"id": "bare", "method": method}).to_string()).await;
        assert!(client.until(|m| m["id"] == "bare").await["result"].is_object());
        for params in [json!({"a": 1}), json!([]), json!([1]), json!(5), json!("x"), json!(true)] {
            assert_eq!(client.refused(method, params.clone()).await, -32602, "{method} {params}");
        }
    }
}

#[tokio::test]
async fn a_second_initialize_is_refused_and_the_connection_stays() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_eq!(client.refused("initialize", json!({"clientName": "again"})).await, -32600);
    assert_eq!(client.ok("environment/status", json!({})).await["status"], "ready");
}

#[tokio::test]
async fn initialize_may_be_tried_again_after_a_refusal() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let unknown = "00000000-0000-4000-8000-000000000000";
    let cases = [
        (json!({}), -32602),
        (Value::Null, -32602),
        (json!([]), -32602),
        (json!({"clientName": 5}), -32602),
        (json!({"clientName": null}), -32602),
        (json!({"clientName": "x", "resumeSessionId": 5}), -32602),
        (json!({"clientName": "x", "resumeSessionId": unknown}), -32600),
        (json!({"clientName": "x", "resumeSessionId": "no uuid"}), -32600),
        (json!({"clientName": "x", "resumeSessionId": ""}), -32600),
    ];
    for (params, code) in cases {
        assert_eq!(client.refused("initialize", params.clone()).await, code, "{params}");
    }
    client.handshake().await;
    assert_eq!(client.ok("environment/status", json!({})).await["status"], "ready");
}

/// A good request of each family of methods.
fn one_of_each_family() -> Vec<(&'static str, Value)> {
    vec![
        ("process/start", start_params("p", ["true"], json!({}))),
        ("process/read", json!({"processId": "p"})),
        ("process/write", json!({"processId": "p", "chunk": ""})),
        ("process/signal", json!({"processId": "p", "signal": "interrupt"})),
        ("process/terminate", json!({"processId": "p"})),
        ("process/list", json!({})),
        ("fs/readFile", json!({"path": "/etc/hostname"})),
        ("fs/close", json!({"handleId": "h"})),
        ("http/request", json!({"method": "GET", "url": "http://127.0.0.1:1/", "requestId": "r"})),
        ("environment/info", json!({})),
        ("environment/status", Value::Null),
    ]
}

#[tokio::test]
async fn nothing_works_before_the_handshake_is_complete() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for stage in ["before initialize", "before initialized"] {
        for (method, params) in one_of_each_family() {
            assert_eq!(client.refused(method, params).await, -32600, "{method} {stage}");
        }
        // What does not exist or does not decode is said first.
        assert_eq!(client.refused("no/such", json!({})).await, -32601, "{stage}");
        assert_eq!(client.refused("process/read", json!({})).await, -32602, "{stage}");
        assert_eq!(client.refused("fs/readFile", json!({"path": 5})).await, -32602, "{stage}");
        if stage == "before initialize" {
            client.ok("initialize", json!({"clientName": "e2e"})).await;
        }
    }
    client.notify("initialized", json!({})).await;
    assert_eq!(client.ok("process/list", json!({})).await["processes"], json!([]));
}

#[tokio::test]
async fn the_handshake_and_a_request_may_be_sent_without_waiting() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send_raw(INIT).await;
    client.send_raw(r#"{"method":"initialized"}"#).await;
    client.send_raw(r#"{"id":2,"method":"environment/status"}"#).await;
    assert!(client.next().await.unwrap()["result"]["sessionId"].is_string());
    assert_eq!(client.next().await.unwrap(), json!({"id": 2, "result": {"status": "ready"}}));
}

#[tokio::test]
async fn unknown_methods_are_32601_with_the_requests_id() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let names = [
        "bogus",
        "",
        "initialized",
        "process/output",
        "process/closed",
        "process/kill",
        "fs/rename",
        "fs/stat",
        "fs/unwatch",
        "http/cancel",
        "Process/start",
        "network/policyRequest",
    ];
    for name in names {
        assert_eq!(client.refused(name, json!({})).await, -32601, "{name:?}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_answered_with_id_minus_one() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let junk = [
        "{not json",
        "",
        "   ",
        "[]",
        "[1]",
        "5",
        "null",
        "\"x\"",
        "{}",
        r#"{"id":1}"#,
        r#"{"method":5}"#,
        r#"{"id":null,"method":"process/read"}"#,
        r#"{"id":1.5,"method":"process/read"}"#,
        r#"{"id":9223372036854775808,"method":"process/read"}"#,
        r#"{"id":{},"method":"process/read"}"#,
        r#"{"id":7,"method":"process/read","params":{"processId":"z"},"trace":5}"#,
        r#"[{"id":5,"method":"environment/info"}]"#,
        "{\"id\":5,\"method\":\"environment/info\"}\n{\"id\":6,\"method\":\"environment/info\"}",
    ];
    for text in junk {
        client.send_raw(text).await;
        let answer = client.next().await.expect("the connection stays");
        assert_eq!(answer["id"], -1, "{text:?} → {answer}");
        assert_eq!(answer["error"]["code"], -32600, "{text:?} → {answer}");
    }
    for bytes in [&b"\xff\xfe"[..], b"", b"{"] {
        client.send_message(Message::binary(bytes.to_vec())).await;
        let answer = client.next().await.expect("the connection stays");
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(-1), &json!(-32600)), "{bytes:?}");
    }
    assert_eq!(client.ok("environment/status", json!({})).await["status"], "ready");
}

#[tokio::test]
async fn ids_come_back_with_their_type_and_the_envelope_tolerates_what_it_does_not_know() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for id in [json!(0), json!(-7), json!("abc"), json!(""), json!("12"), json!(i64::MAX), json!(i64::MIN)] {
        let request =
            json!({"id": id, "method": "environment/status", "jsonrpc": "1.0", "junk": [1], "trace": null});
        client.send_raw(&request.to_string()).await;
        assert_eq!(client.next().await.unwrap(), json!({"id": id, "result": {"status": "ready"}}));
    }
    let trace = json!({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"});
    let request =
        json!({"id": 1, "method": "process/read", "params": {"processId": "zz", "junk": 1}, "trace": trace});
    client.send_raw(&request.to_string()).await;
    assert_eq!(client.next().await.unwrap()["error"]["code"], -32600);
}

#[tokio::test]
async fn binary_messages_count_like_text_and_fragments_are_joined() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = br#"{"id":5,"method":"environment/status"}"#;
    client.send_message(Message::binary(request.to_vec())).await;
    assert_eq!(client.next().await.unwrap()["id"], 5);
}

/// Messages that end the connection, and nothing else is said (4.3).
const CLOSERS: [&str; 8] = [
    r#"{"method":"no/such"}"#,
    r#"{"method":"process/read","params":{"processId":"p"}}"#,
    r#"{"method":"process/output","params":{"processId":"p","seq":1,"stream":"stdout","chunk":""}}"#,
    r#"{"method":"process/closed","params":{"processId":"p","seq":1}}"#,
    r#"{"method":"http/request/bodyDelta","params":{}}"#,
    r#"{"method":"initialize","params":{"clientName":"x"}}"#,
    r#"{"id":1,"result":{}}"#,
    r#"{"id":1,"error":{"code":1,"message":"x"}}"#,
];

#[tokio::test]
async fn nonsense_in_the_protocol_closes_the_connection_and_detaches_the_session() {
    let server = Server::start().await;
    for closer in CLOSERS {
        let mut client = server.client().await;
        client.start("p", ["sleep", "1000"]).await;
        client.send_raw(closer).await;
        assert_eq!(client.expect_closed().await, Vec::<Value>::new(), "{closer}");
        let mut heir = server.connect().await;
        resume_soon(&mut heir, &client.session_id).await;
        assert_eq!(
            heir.ok("process/terminate", json!({"processId": "p"})).await["running"],
            true,
            "{closer}"
        );
    }
}

/// Resumes; the server may need a moment to notice that the connection before is gone.
pub(crate) async fn resume_soon(client: &mut TestClient, session: &str) {
    loop {
        match client.resume(session).await {
            Ok(_) => return,
            Err((-32010, _)) => tokio::task::yield_now().await,
            Err(refusal) => panic!("the session is lost: {refusal:?}"),
        }
    }
}

#[tokio::test]
async fn initialized_before_initialize_closes() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.notify("initialized", json!({})).await;
    assert_eq!(client.expect_closed().await, Vec::<Value>::new());
}

#[tokio::test]
async fn initialized_may_come_twice_and_with_odd_params() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for odd in [r#"{"method":"initialized"}"#, r#"{"method":"initialized","params":5}"#] {
        client.send_raw(odd).await;
    }
    assert_eq!(client.ok("environment/status", json!({})).await["status"], "ready");
}

#[tokio::test]
async fn an_attached_session_is_refused_to_others_and_stays_undisturbed() {
    let server = Server::start().await;
    let mut first = server.client().await;
    first.start("p", ["sleep", "1000"]).await;
    let mut second = server.connect().await;
    assert_eq!(second.resume(&first.session_id).await.unwrap_err().0, -32010);
    // The owner answers the challenge by staying alive.
    assert_eq!(first.ok("environment/status", json!({})).await["status"], "ready");
    second.handshake().await;
    assert_ne!(second.session_id, first.session_id);
    assert_eq!(first.ok("process/terminate", json!({"processId": "p"})).await["running"], true);
}
