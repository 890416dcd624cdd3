//! What a test does with programs: starts them, writes to them, and collects all that they do.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::TestClient;
use crate::{base64, bytes_of};

/// What a process did, from its notifications.
#[derive(Debug, Default)]
pub struct Ended {
    /// Bytes of each stream, by its word, joined in order of `seq`.
    pub output: HashMap<String, Vec<u8>>,
    /// The params of `process/exited`.
    pub exited: Value,
    /// Every event's number and method, in order of arrival.
    pub events: Vec<(u64, String)>,
}

impl Ended {
    /// A stream's bytes as text.
    pub fn text(&self, stream: &str) -> String {
        String::from_utf8_lossy(self.bytes(stream)).into()
    }
    /// A stream's bytes.
    pub fn bytes(&self, stream: &str) -> &[u8] {
        self.output.get(stream).map_or(&[], Vec::as_slice)
    }
    /// All of stdout as text.
    pub fn stdout(&self) -> String {
        self.text("stdout")
    }
    /// All of the terminal's output as text.
    pub fn pty(&self) -> String {
        self.text("pty")
    }
    /// The exit code.
    pub fn code(&self) -> i64 {
        self.exited["exitCode"].as_i64().unwrap_or_else(|| panic!("no exit code: {}", self.exited))
    }
}

impl TestClient {
    /// Starts a program in `/` with the server's environment.
    pub async fn start<S: AsRef<str>>(&mut self, id: &str, argv: impl IntoIterator<Item = S>) {
        self.start_with(id, argv, json!({})).await;
    }

    /// Starts a program with more params.
    pub async fn start_with<S: AsRef<str>>(
        &mut self,
        id: &str,
        argv: impl IntoIterator<Item = S>,
        more: Value,
    ) {
        let params = start_params(id, argv, more);
        assert_eq!(self.ok("process/start", params).await["processId"], id);
    }

    /// Starts a shell command.
    pub async fn shell(&mut self, id: &str, command: &str) {
        self.start(id, ["sh", "-c", command]).await;
    }

    /// Starts a shell command with more params.
    pub async fn shell_with(&mut self, id: &str, command: &str, more: Value) {
        self.start_with(id, ["sh", "-c", command], more).await;
    }

    /// Writes to a process; the status word.
    pub async fn write(&mut self, id: &str, bytes: impl AsRef<[u8]>) -> String {
        let params = json!({"processId": id, "chunk": base64(bytes)});
        let answer = self.ok("process/write", params).await;
        answer["status"].as_str().expect("a status word").into()
    }

    /// Reads output after a number, waiting up to `wait_ms`.
    pub async fn read(&mut self, id: &str, after: u64, wait_ms: u64) -> Value {
        self.ok("process/read", json!({"processId": id, "afterSeq": after, "waitMs": wait_ms})).await
    }

    /// Collects a process's notifications until it is closed; they must number without gaps, the close last.
    pub async fn finish(&mut self, id: &str) -> Ended {
        self.finish_after(id, 0).await
    }

    /// As [`Self::finish`], for one whose events up to `after` were taken before.
    pub async fn finish_after(&mut self, id: &str, after: u64) -> Ended {
        let mut ended = Ended::default();
        let mut chunks = BTreeMap::new();
        loop {
            let mut event = self.until(|m| is_event_of(m, id)).await;
            let method = event["method"].as_str().expect("a method").to_string();
            let params = event["params"].take();
            let seq = params["seq"].as_u64().unwrap_or_else(|| panic!("an event without seq: {params}"));
            ended.events.push((seq, method.clone()));
            match method.as_str() {
                "process/output" => {
                    let stream = params["stream"].as_str().expect("a stream").to_string();
                    chunks.insert(seq, (stream, bytes_of(&params["chunk"])));
                }
                "process/exited" => ended.exited = params,
                _ => break,
            }
        }
        for (stream, bytes) in chunks.into_values() {
            ended.output.entry(stream).or_default().extend(bytes);
        }
        let seqs: Vec<u64> = ended.events.iter().map(|(seq, _)| *seq).collect();
        let expected: Vec<u64> = (after + 1..).take(seqs.len()).collect();
        assert_eq!(seqs, expected, "numbers go out in order and without gaps, the close last{}", self.told());
        assert!(ended.exited.is_object(), "closed without exited{}", self.told());
        ended
    }

    /// Starts a shell command and collects everything it does.
    pub async fn run(&mut self, id: &str, command: &str) -> Ended {
        self.shell(id, command).await;
        self.finish(id).await
    }

    /// Waits until a process's output of one stream contains a text; what came by then.
    pub async fn output_until(&mut self, id: &str, needle: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(needle) {
            let event = self.until(|m| is_event_of(m, id)).await;
            // An exit may come before the tail of the output (8.6).
            if event["method"] == "process/exited" {
                continue;
            }
            assert_eq!(
                event["method"],
                "process/output",
                "closed before {needle:?}; so far {seen:?}{}",
                self.told()
            );
            seen.push_str(&String::from_utf8_lossy(&bytes_of(&event["params"]["chunk"])));
        }
        seen
    }
}

/// The params of `process/start` for a program in `/` with the server's environment; `more` wins.
pub fn start_params<S: AsRef<str>>(id: &str, argv: impl IntoIterator<Item = S>, more: Value) -> Value {
    let argv: Vec<String> = argv.into_iter().map(|argument| argument.as_ref().to_string()).collect();
    let mut params = json!({
        "processId": id, "argv": argv, "cwd": "/", "env": {}, "tty": false,
        "envPolicy": {"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {}, "includeOnly": []},
    });
    let all = params.as_object_mut().expect("an object");
    all.extend(more.as_object().expect("an object of params").clone());
    params
}

fn is_event_of(message: &Value, id: &str) -> bool {
    message["params"]["processId"] == id
        && message["method"]
            .as_str()
            .is_some_and(|m| matches!(m, "process/output" | "process/exited" | "process/closed"))
}
