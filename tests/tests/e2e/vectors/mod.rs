//! The recorded conversations of released servers, replayed against ours (`tests/vectors`, see its README).

mod compare;
mod conversation;
mod deviations;
mod machine;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use codex_e2e::http::ask;
use codex_e2e::{Server, TestClient};
use serde_json::{Value, json};

use conversation::Conversation;
use machine::Stage;

/// One line of a recording.
pub(crate) struct Line {
    pub(crate) case: String,
    pub(crate) connection: String,
    pub(crate) at_ms: u64,
    pub(crate) sent_by_client: bool,
    pub(crate) kind: String,
    pub(crate) data: Value,
    /// Long strings or lists stand shortened.
    pub(crate) elided: bool,
}

fn read_file(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn lines_of(name: &str, stage: &Stage) -> Vec<Line> {
    read_file(name)
        .into_iter()
        .map(|record| Line {
            case: record["case"].as_str().unwrap().into(),
            connection: record["conn"].as_str().unwrap_or("pipe").into(),
            at_ms: record["t_ms"].as_u64().unwrap_or(0),
            sent_by_client: record["dir"] == "c2s",
            kind: record["kind"].as_str().unwrap_or("").into(),
            elided: record["elided"] == true,
            data: stage.translate(&record["data"]),
        })
        .collect()
}

/// Cases that are not replayed here, and why.
const SKIPPED: [(&str, &str); 5] = [
    (
        "bg-holds-pty",
        "the shell's end hangs its child up, or the child sets its trap first: a race inside the program",
    ),
    ("ttl-33", "waits half a minute for a session's end; resume.rs has it with a short time"),
    ("exit-retention", "waits over a minute; process.rs has it with a short time"),
    ("bg-holds-stdout", "waits 4 s; process.rs has it with a gate instead of a clock"),
    ("longpoll-concurrency", "shows answers held up by a long poll, which ours are not; order.rs"),
];

/// Cases in which the server ends the connection by itself, after the last message (4.3).
const SERVER_CLOSES: [&str; 6] = [
    "initialized-before-initialize",
    "client-response",
    "client-error",
    "unknown-notification",
    "client-sends-server-notification",
    "request-method-as-notification",
];

/// Cases whose client has to leave the server the recorded time between messages, so that programs get to their traps.
const PACED: [&str; 4] = ["signal", "terminate", "write", "resume-after-close"];

async fn replay(name: &str) {
    let version = if name.contains("0.131.0") { "0.131.0" } else { "0.169.0" };
    let stage = Stage::set(version).await;
    let lines = lines_of(name, &stage);
    let server = stage.server(&read_file(name)).await;
    let mut clients: HashMap<String, Conversation> = HashMap::new();
    let mut sessions: HashMap<String, String> = HashMap::new();
    let mut problems = Vec::new();
    let mut last_case = String::new();
    let mut last_ms: HashMap<String, u64> = HashMap::new();
    for line in &lines {
        if SKIPPED.iter().any(|(case, _)| *case == line.case) {
            continue;
        }
        if line.case != last_case {
            stage.prepare(&line.case);
            last_case.clone_from(&line.case);
        }
        let before = last_ms.insert(line.connection.clone(), line.at_ms).unwrap_or(line.at_ms);
        if line.kind == "open" {
            let client = TestClient::connect(&server.url).await;
            clients.insert(line.connection.clone(), Conversation::new(client, version));
            continue;
        }
        let Some(talk) = clients.get_mut(&line.connection) else { continue };
        talk.case.clone_from(&line.case);
        match (line.kind.as_str(), line.sent_by_client) {
            ("close", _) => {
                talk.finish(SERVER_CLOSES.contains(&line.case.as_str())).await;
                problems.append(&mut talk.problems);
                clients.remove(&line.connection);
            }
            (_, true) => {
                if PACED.contains(&line.case.as_str()) {
                    tokio::time::sleep(Duration::from_millis((line.at_ms - before).min(500) * 3 / 2)).await;
                }
                talk.send(line, &sessions).await;
            }
            (_, false) => {
                talk.receive(line).await;
                talk.learn_session(line, &mut sessions);
            }
        }
    }
    for (_, mut talk) in clients {
        problems.append(&mut talk.problems);
    }
    assert!(problems.is_empty(), "{name}: {} differences\n{}", problems.len(), problems.join("\n"));
}

macro_rules! recordings {
    ($($test:ident: $file:literal,)*) => { $(
        #[tokio::test]
        async fn $test() {
            replay($file).await;
        }
    )* };
}

recordings! {
    handshake_131: "handshake.0.131.0.jsonl",
    handshake_169: "handshake.0.169.0.jsonl",
    process_131: "process.0.131.0.jsonl",
    process_169: "process.0.169.0.jsonl",
    session_131: "session.0.131.0.jsonl",
    session_169: "session.0.169.0.jsonl",
    env_policy_131: "env-policy.0.131.0.jsonl",
    env_policy_169: "env-policy.0.169.0.jsonl",
    fs_131: "fs.0.131.0.jsonl",
    fs_169: "fs.0.169.0.jsonl",
    http_131: "http.0.131.0.jsonl",
    http_169: "http.0.169.0.jsonl",
    sandbox_shape_131: "sandbox-shape.0.131.0.jsonl",
    sandbox_shape_169: "sandbox-shape.0.169.0.jsonl",
}

#[tokio::test]
async fn stdio_conversations() {
    for version in ["0.131.0", "0.169.0"] {
        let stage = Stage::set(version).await;
        let (mut server, client) = Server::builder().stdio().await;
        let mut talk = Conversation::new(client, version);
        talk.case = "stdio".into();
        for mut line in lines_of(&format!("stdio.{version}.jsonl"), &stage) {
            let text = line.data.as_str().unwrap().to_string();
            if line.sent_by_client {
                talk.send_bytes(&text).await;
            } else {
                line.data = serde_json::from_str(&text).unwrap();
                line.kind = "json".into();
                talk.receive(&line).await;
            }
        }
        talk.client.end_input();
        assert_eq!(server.ended().await.code(), Some(0));
        assert!(talk.problems.is_empty(), "stdio {version}\n{}", talk.problems.join("\n"));
    }
}

#[tokio::test]
async fn upgrade_answers() {
    let server = Server::start().await;
    let mut problems = BTreeMap::new();
    for version in ["0.131.0", "0.169.0"] {
        for record in read_file(&format!("http-upgrade.{version}.jsonl")) {
            let request = record["request"].as_str().unwrap();
            let request = request.replace("PORT", &server.address().port().to_string());
            // Origin became a refusal after 0.131 (2.2, 19).
            if version == "0.131.0" && request.contains("\r\nOrigin:") {
                continue;
            }
            let answer = ask(server.address(), &request).await;
            let status = |text: &str| text.split(' ').nth(1).unwrap_or("none").to_string();
            let recorded = record["response"].as_str().unwrap();
            if status(&answer) != status(recorded) {
                problems.insert(request.clone(), json!({"recorded": recorded, "ours": answer}));
            }
            for header in ["sec-websocket-accept", "upgrade", "connection", "allow"] {
                let value = |text: &str| {
                    text.lines().find_map(|l| {
                        let (name, value) = l.split_once(':')?;
                        (name.eq_ignore_ascii_case(header)).then(|| value.trim().to_lowercase())
                    })
                };
                // `connection` beside an upgrade is the library's own business.
                if (status(recorded) == "101" || header == "allow") && value(&answer) != value(recorded) {
                    problems.insert(
                        format!("{header}: {request}"),
                        json!({"recorded": recorded, "ours": answer}),
                    );
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}
