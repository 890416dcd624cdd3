//! What a rendezvous operator learns from everything that passes, and what becomes of frames that he changes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use codex_e2e::client::guarded;
use codex_e2e::operator::{Operator, Way};
use codex_e2e::relay::{data, parse};
use codex_e2e::{Executor, ExecutorBuilder, Hub};
use codex_exec_server::client::{Client, ClientOptions};
use codex_exec_server::protocol::filesystem::{ReadFile, WriteFile};
use serde_json::json;
use tempfile::TempDir;

use super::cuts::token;
use super::{Triangle, all_of, environment, script};

/// The number of a data frame's field.
const DATA: u32 = 5;

/// A rendezvous whose operator sits before both sides.
struct Watched {
    hub: Hub,
    executors: Operator,
    harnesses: Operator,
    executor: Executor,
    executor_token: String,
    harness_token: String,
    directory: TempDir,
}

impl Watched {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (executor_token, executor_line) = token("executor").await;
        let (harness_token, harness_line) = token("harness").await;
        let tokens = directory.path().join("tokens");
        std::fs::write(&tokens, format!("{executor_line}\n{harness_line}\n")).unwrap();
        let hub = Hub::start(&["--tokens", tokens.to_str().unwrap()]).await;
        let (executors, harnesses) =
            (Operator::start(hub.address()).await, Operator::start(hub.address()).await);
        let mut executor = ExecutorBuilder::new(&executors.url())
            .args(["--environment-id", "my-machine"])
            .env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", &executor_token)
            .start();
        executor.tells("attached").await;
        Self { hub, executors, harnesses, executor, executor_token, harness_token, directory }
    }

    /// A client that gives up soon.
    async fn client(&self) -> Client {
        let endpoint = environment(&self.harnesses.url(), &self.harness_token);
        let options = ClientOptions { recovery_time: Duration::from_secs(5), ..ClientOptions::default() };
        Client::connect(endpoint, options).await.unwrap()
    }
}

#[tokio::test]
async fn an_operator_who_logs_everything_sees_no_plaintext_and_no_credential_of_the_other_side() {
    let watched = Watched::start().await;
    let client = watched.client().await;
    // Parts that are put together only over there, and back here.
    let marks = ["argument-mark", "output-mark", "input-mark", "variable-mark", "file-mark", "name-mark"];
    let [argument, output, input, variable, file, name] = marks;
    let text = format!("read line; echo {argument} $line output-$WORD");
    let more = json!({"pipeStdin": true, "env": {"WORD": "mark", "OTHER": variable}});
    let mut program = client.start(script("p", &text, more)).await.unwrap();
    program.control().write(format!("{input}\n").into_bytes()).await.unwrap();
    let (out, _, code) = all_of(&mut program).await;
    assert_eq!(String::from_utf8(out).unwrap(), format!("{argument} {input} {output}\n"));
    assert_eq!(code, 0);
    let path = watched.directory.path().join(name);
    let write = json!({"path": path, "dataBase64": codex_e2e::base64(file)});
    client.call::<WriteFile>(&serde_json::from_value(write).unwrap()).await.unwrap();
    client.call::<ReadFile>(&serde_json::from_value(json!({"path": path})).unwrap()).await.unwrap();
    client.close().await;

    let Watched { hub, executors, harnesses, executor, executor_token, harness_token, .. } = watched;
    let told = executor.stop().await.stderr;
    let words = ["jsonrpc", "initialize", "process/start", "fs/readFile", "/bin/sh"];
    for secret in marks.into_iter().chain(words) {
        // Base64 of a text, at each of its three places.
        let encoded = ["", " ", "  "].map(|before| {
            let whole = codex_e2e::base64(format!("{before}{secret}"));
            whole[if before.is_empty() { 0 } else { 4 }..whole.len() - 4].to_owned()
        });
        for seen in encoded.iter().map(String::as_str).chain([secret]) {
            assert!(
                !executors.saw(seen) && !harnesses.saw(seen) && !hub.said().contains(seen),
                "{secret} as {seen}"
            );
        }
    }
    // The check itself sees what is there.
    assert!(executors.saw(&executor_token) && harnesses.saw(&harness_token));
    assert!(executors.saw("security_profile") && harnesses.saw("harness_key_authorization"));
    assert!(!executors.saw(&harness_token) && !harnesses.saw(&executor_token));
    for token in [executor_token, harness_token] {
        assert!(!hub.said().contains(&token) && !told.contains(&token));
    }
}

/// What the operator does with the data frames of a harness, and whether the program is started none the less, once.
struct Attack {
    name: &'static str,
    harmless: bool,
    change: fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>,
}

/// A data frame with another number and payload.
fn changed(frame: &[u8], change: impl FnOnce(&mut u32, &mut Vec<u8>)) -> Vec<u8> {
    let mut frame = parse(frame);
    change(&mut frame.seq, &mut frame.payload);
    data(&frame.stream, frame.seq, &frame.payload)
}

const ATTACKS: [Attack; 8] = [
    Attack { name: "nothing", harmless: true, change: |frames| frames },
    Attack { name: "replayed", harmless: true, change: |frames| [frames.clone(), frames].concat() },
    Attack {
        name: "reordered",
        harmless: true,
        change: |mut frames| {
            frames.reverse();
            frames
        },
    },
    Attack {
        name: "replayed under the next number",
        harmless: false,
        change: |frames| {
            let mut replayed: Vec<_> =
                frames.iter().map(|frame| changed(frame, |seq, _| *seq += 2)).collect();
            replayed.splice(0..0, frames);
            replayed
        },
    },
    Attack {
        name: "numbered the other way round",
        harmless: false,
        change: |frames| {
            let number = |frame: &Vec<u8>| parse(frame).seq;
            let numbers: Vec<_> = frames.iter().rev().map(number).collect();
            frames.iter().zip(numbers).map(|(frame, number)| changed(frame, |seq, _| *seq = number)).collect()
        },
    },
    Attack {
        name: "truncated",
        harmless: false,
        change: |frames| {
            let shorter = |frame: &Vec<u8>| changed(frame, |_, payload| payload.truncate(payload.len() - 1));
            frames.iter().map(shorter).collect()
        },
    },
    Attack {
        name: "with a bit turned",
        harmless: false,
        change: |frames| frames.iter().map(|frame| changed(frame, |_, payload| payload[7] ^= 1)).collect(),
    },
    Attack {
        name: "forged",
        harmless: false,
        change: |frames| {
            let start = br#"{"id":7,"method":"process/start","params":{}}"#;
            frames.iter().map(|frame| changed(frame, |_, payload| *payload = start.to_vec())).collect()
        },
    },
];

#[tokio::test]
async fn frames_that_are_forged_replayed_reordered_or_truncated_are_never_executed() {
    for (number, attack) in ATTACKS.iter().enumerate() {
        let watched = Watched::start().await;
        let client = watched.client().await;
        let trace = watched.directory.path().join(number.to_string());
        // Held until the start of two programs is there: those two frames are what is changed.
        let held = Mutex::new(Vec::new());
        let change = attack.change;
        watched.harnesses.tamper(move |way, message| {
            if way == Way::Out || parse(&message).body != DATA {
                return vec![message];
            }
            let mut held = held.lock().unwrap();
            if held.len() < 2 {
                held.push(message);
                return if held.len() == 2 { change(held.clone()) } else { Vec::new() };
            }
            // Whatever follows a successful change passes.
            vec![message]
        });
        let text = format!("echo x >> {}", trace.display());
        let (first, second) =
            (client.start(script("a", &text, json!({}))), client.start(script("b", &text, json!({}))));
        let (first, second) = guarded(attack.name, async { tokio::join!(first, second) }).await;
        let mut runs = 0;
        for started in [first, second] {
            match started {
                Ok(mut program) => {
                    runs += 1;
                    let _ = guarded(attack.name, program.wait()).await;
                }
                Err(error) => assert!(!attack.harmless, "{}: {error}", attack.name),
            }
        }
        let executed = std::fs::read_to_string(&trace).map_or(0, |text| text.lines().count());
        if attack.harmless {
            assert_eq!((runs, executed), (2, 2), "{}", attack.name);
        } else {
            assert!(executed <= 2 && executed >= runs, "{}: {executed} {runs}", attack.name);
            let spared = ["replayed under the next number"].contains(&attack.name);
            assert!(spared || executed == 0, "{}: {executed} were executed", attack.name);
        }
        // The others of this executor go on as ever.
        watched.harnesses.tamper(|_, message| vec![message]);
        let other = watched.client().await;
        let mut program = other.start(script("c", "exit 5", json!({}))).await.unwrap();
        assert_eq!(guarded("the other's program", program.wait()).await.unwrap().code, 5);
    }
}

#[tokio::test]
async fn a_recorded_conversation_played_again_is_refused() {
    let watched = Watched::start().await;
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let recording = Arc::clone(&recorded);
    watched.harnesses.tamper(move |way, message| {
        if way == Way::In {
            recording.lock().unwrap().push(message.clone());
        }
        vec![message]
    });
    let client = watched.client().await;
    let trace = watched.directory.path().join("trace");
    let text = format!("echo x >> {}", trace.display());
    let mut program = client.start(script("p", &text, json!({}))).await.unwrap();
    guarded("its end", program.wait()).await.unwrap();
    drop(program);
    client.close().await;
    // In place of everything that the next harness says: what the first one said, handshake included.
    let old = std::mem::take(&mut *recorded.lock().unwrap());
    assert!(
        old.iter().any(|frame| parse(frame).body == 10) && old.iter().any(|frame| parse(frame).body == DATA)
    );
    let mut once = Some(old);
    watched.harnesses.tamper(move |way, message| match way {
        Way::In => once.take().unwrap_or_default(),
        Way::Out => vec![message],
    });
    let endpoint = environment(&watched.harnesses.url(), &watched.harness_token);
    let options = ClientOptions { initialize_time: Duration::from_secs(5), ..ClientOptions::default() };
    let refused = guarded("the replay's end", Client::connect(endpoint, options)).await;
    assert!(refused.is_err());
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), "x\n", "it ran once");
    watched.harnesses.tamper(|_, message| vec![message]);
    assert!(!watched.client().await.session_id().is_empty());
}

#[tokio::test]
async fn an_executor_whose_place_another_takes_says_so_and_stays_reachable() {
    let mut triangle = Triangle::start().await;
    let line = triangle.hub.line("--remote").await;
    let mut newer = ExecutorBuilder::of_line(&line, None).start();
    newer.tells("attached").await;
    triangle.executor.tells("another executor seems to use the same id").await;
    newer.tells("another executor seems to use the same id").await;
    // The one that has the place at the moment may lose it in the middle of a handshake.
    let token = triangle.token().await;
    let reached = async {
        loop {
            let environment = environment(&triangle.hub.url, &token);
            if let Ok(client) = Client::connect(environment, ClientOptions::default()).await {
                return client;
            }
        }
    };
    guarded("a session", reached).await.close().await;
}
