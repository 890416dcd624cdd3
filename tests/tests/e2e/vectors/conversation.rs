//! One recorded connection: sends what its client sent and compares what comes back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use codex_e2e::{GUARD, TestClient, bytes_of};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::Line;
use super::compare::{differences, is_elided, normal};
use super::deviations::{Exchange, Instead, deviation};

/// What happened to one process or one HTTP stream.
#[derive(Default)]
struct Events {
    output: BTreeMap<String, Vec<u8>>,
    exits: Vec<Value>,
    ends: usize,
    /// The contents cannot be compared: elided, or with pids and the like.
    inexact: bool,
}

/// A connection that is replayed.
pub(crate) struct Conversation {
    pub(crate) client: TestClient,
    pub(crate) case: String,
    pub(crate) problems: Vec<String>,
    version: &'static str,
    asked: HashMap<String, (String, Value)>,
    answers: HashMap<String, Vec<Value>>,
    expected: HashMap<String, Events>,
    seen: HashMap<String, Events>,
    /// Processes and streams that a deliberate difference has put on another way.
    diverged: HashSet<String>,
    /// Processes whose end was announced.
    exited: HashSet<String>,
    resumed: bool,
    session: Option<String>,
    ended: bool,
}

impl Conversation {
    pub(crate) fn new(client: TestClient, version: &'static str) -> Self {
        Self {
            client,
            case: String::new(),
            problems: Vec::new(),
            version,
            asked: HashMap::new(),
            answers: HashMap::new(),
            expected: HashMap::new(),
            seen: HashMap::new(),
            diverged: HashSet::new(),
            exited: HashSet::new(),
            resumed: false,
            session: None,
            ended: false,
        }
    }

    fn problem(&mut self, text: &str) {
        self.problems.push(format!("[{}] {text}", self.case));
    }

    /// Sends what the recorded client sent.
    pub(crate) async fn send(&mut self, line: &Line, sessions: &HashMap<String, String>) {
        match line.kind.as_str() {
            "binary" => {
                // The recorder kept bytes as Latin-1.
                let bytes: Vec<u8> = line.data.as_str().unwrap_or("").chars().map(|c| c as u8).collect();
                self.note(&serde_json::from_slice(&bytes).unwrap_or(Value::Null));
                self.client.send_message(Message::binary(bytes)).await;
            }
            "text" => {
                let text = line.data.as_str().unwrap_or("");
                self.note(&serde_json::from_str(text).unwrap_or(Value::Null));
                if !self.ended {
                    self.client.try_send_raw(text).await;
                }
            }
            _ => {
                let mut message = line.data.clone();
                if let Some(resumed) = message["params"].get_mut("resumeSessionId")
                    && let Some(ours) = resumed.as_str().and_then(|id| sessions.get(id))
                {
                    *resumed = json!(ours);
                    self.resumed = true;
                }
                restore_elided(&mut message);
                self.wait_for_terminated(&message).await;
                self.note(&message);
                let text = if line.kind == "binary-json" { None } else { Some(message.to_string()) };
                match text {
                    Some(text) => {
                        self.client.try_send_raw(&text).await;
                    }
                    None => self.client.send_message(Message::binary(message.to_string().into_bytes())).await,
                }
            }
        }
    }

    /// Sends a piece of a line.
    pub(crate) async fn send_bytes(&mut self, text: &str) {
        for line in text.lines() {
            self.note(&serde_json::from_str(line).unwrap_or(Value::Null));
        }
        self.client.send_bytes(text.as_bytes()).await;
    }

    /// A second `process/terminate` is told whether the first has done its work yet, which here it has.
    async fn wait_for_terminated(&mut self, message: &Value) {
        let terminate = |method: &Value, params: &Value| {
            method == "process/terminate" && params["processId"] == message["params"]["processId"]
        };
        let before = self.asked.values().any(|(method, params)| terminate(&json!(method), params));
        if before && terminate(&message["method"], &message["params"]) {
            let id = message["params"]["processId"].as_str().unwrap_or_default().to_owned();
            self.pump(|talk| talk.exited.contains(&id)).await;
        }
    }

    fn note(&mut self, message: &Value) {
        if let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) {
            self.asked.insert(id.to_string(), (method.into(), message["params"].clone()));
        }
    }

    /// Waits for what the recorded client received, and compares.
    pub(crate) async fn receive(&mut self, line: &Line) {
        if let Some(method) = line.data["method"].as_str() {
            return self.event(method, line).await;
        }
        let id = line.data["id"].to_string();
        let Some(answer) = self.answer(&id, &line.data).await else {
            return self.problem(&format!("no answer to {:?}; recorded: {}", self.asked.get(&id), line.data));
        };
        if let Some(session) = answer["result"]["sessionId"].as_str() {
            self.session = Some(session.into());
        }
        self.compare_answer(&id, line, &answer);
    }

    /// The next answer with this id. A resume may find its session still attached for a moment: it is repeated.
    async fn answer(&mut self, id: &str, recorded: &Value) -> Option<Value> {
        loop {
            self.pump(|talk| talk.answers.get(id).is_some_and(|answers| !answers.is_empty())).await;
            let answers = self.answers.get_mut(id)?;
            if answers.is_empty() {
                return None;
            }
            let answer = answers.remove(0);
            let (method, params) = self.asked.get(id).cloned().unwrap_or_default();
            if method == "initialize" && recorded.get("result").is_some() && answer["error"]["code"] == -32010
            {
                let id: Value = serde_json::from_str(id).unwrap_or_default();
                self.client
                    .try_send_raw(&json!({"id": id, "method": method, "params": params}).to_string())
                    .await;
                continue;
            }
            return Some(answer);
        }
    }

    fn compare_answer(&mut self, id: &str, line: &Line, answer: &Value) {
        let (method, params) = self.asked.get(id).cloned().unwrap_or_default();
        let code = line.data["error"]["code"].as_i64();
        let ours = answer["error"]["code"].as_i64();
        let exchange = Exchange { version: self.version, method: &method, params: &params, code };
        let instead = deviation(&exchange).map(|deviation| deviation.instead);
        let subject =
            ["processId", "requestId"].iter().find_map(|name| params[name].as_str()).map(String::from);
        let strays = subject.as_ref().is_some_and(|subject| self.diverged.contains(subject));
        match instead {
            Some(Instead::Anything) => {
                self.diverged.extend(subject);
                return;
            }
            Some(Instead::OrRefused(codes)) if ours.is_some_and(|ours| codes.contains(&ours)) => {
                self.diverged.extend(subject);
                return;
            }
            _ if strays => return,
            _ => {}
        }
        let asked = format!("{method} {}", shorten(&params));
        if code != ours {
            self.diverged.extend(subject);
            self.problem(&format!(
                "{asked}\n    ours: {}\n    recorded: {}",
                shorten(answer),
                shorten(&line.data)
            ));
        } else if code.is_none() && !(line.elided && method == "process/read") && !reads_the_machine(&params)
        {
            for difference in differences(&method, &line.data["result"], &answer["result"]) {
                self.problem(&format!("{asked}: {difference}"));
            }
        }
    }

    async fn event(&mut self, method: &str, line: &Line) {
        let params = &line.data["params"];
        let key = params["processId"].as_str().or(params["requestId"].as_str()).unwrap_or("").to_string();
        if self.diverged.contains(&key) {
            return;
        }
        let resumed = self.resumed;
        let expected = self.expected.entry(key.clone()).or_default();
        expected.inexact |= resumed;
        file(expected, method, params);
        let (ends, exits) = (expected.ends, expected.exits.len());
        let inexact = expected.inexact;
        let stream = params["stream"].as_str().unwrap_or("body").to_string();
        let bytes = expected.output.get(&stream).map_or(0, Vec::len);
        let wanted = if inexact { bytes.min(1) } else { bytes };
        let is_output =
            method == "process/output" || (method == "http/request/bodyDelta" && params["done"] != true);
        let is_exit = method == "process/exited";
        self.pump(|talk| {
            let Some(seen) = talk.seen.get(&key) else { return false };
            let enough = seen.output.get(&stream).map_or(0, Vec::len) >= wanted;
            match (is_output, is_exit) {
                (true, _) => enough || seen.ends >= ends.max(1),
                (_, true) => seen.exits.len() >= exits,
                _ => seen.ends >= ends,
            }
        })
        .await;
        let mut seen = self.seen.remove(&key).unwrap_or_default();
        let mut expected = self.expected.remove(&key).unwrap_or_default();
        let mut found = Vec::new();
        if is_exit {
            match seen.exits.get(exits - 1) {
                None => found.push("never exited".to_string()),
                Some(ours) => found.extend(differences("process/exited", params, ours)),
            }
        } else if !is_output {
            if seen.ends < ends {
                found.push(format!("{method} never came"));
            }
            if !expected.inexact && !seen.inexact {
                for (stream, bytes) in &expected.output {
                    let ours = seen.output.get(stream).map_or(&[][..], Vec::as_slice);
                    if !same_output(bytes, ours) {
                        let (ours, bytes) = (String::from_utf8_lossy(ours), String::from_utf8_lossy(bytes));
                        found.push(format!("{stream}: {ours:?} instead of {bytes:?}"));
                    }
                }
            }
        }
        if params["done"] == true {
            // The id may name another stream from now on.
            seen.output.clear();
            expected.output.clear();
        }
        self.seen.insert(key.clone(), seen);
        self.expected.insert(key.clone(), expected);
        for difference in found {
            self.problem(&format!("{method} of {key:?}: {difference}"));
        }
    }

    /// Takes messages until something is true, the connection ends, or the guard time is over.
    async fn pump(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + GUARD;
        while !done(self) && !self.ended {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left == Duration::ZERO {
                return;
            }
            match self.client.next_within(left).await {
                Some(Some(message)) => self.file(message),
                // A ping, or the end: only the latter comes twice in a row at once.
                Some(None) => self.ended = self.client.has_ended(),
                None => return,
            }
        }
    }

    fn file(&mut self, message: Value) {
        match message["method"].as_str() {
            None => self.answers.entry(message["id"].to_string()).or_default().push(message),
            Some(method) => {
                let params = &message["params"];
                let key =
                    params["processId"].as_str().or(params["requestId"].as_str()).unwrap_or("").to_string();
                if method == "process/exited" {
                    self.exited.insert(key.clone());
                }
                file(self.seen.entry(key).or_default(), method, params);
            }
        }
    }

    /// The end of the recorded connection.
    pub(crate) async fn finish(&mut self, by_server: bool) {
        if by_server {
            self.pump(|_| false).await;
            if !self.ended {
                self.problem("the connection must end (4.3)");
            }
        } else {
            // Whatever is still to come must not be an end: a quick question shows that the connection stands.
            if self.ended {
                self.problem("the connection ended, but its client had ended the recorded one");
            }
        }
    }

    /// Remembers which of our sessions stands for a recorded one.
    pub(crate) fn learn_session(&mut self, line: &Line, sessions: &mut HashMap<String, String>) {
        if let (Some(recorded), Some(ours)) = (line.data["result"]["sessionId"].as_str(), self.session.take())
        {
            if let Some(before) = sessions.get(recorded)
                && *before != ours
            {
                self.problem("a resume gives the same sessionId (5.3)");
            }
            sessions.insert(recorded.into(), ours);
        }
    }
}

fn file(events: &mut Events, method: &str, params: &Value) {
    match method {
        "process/output" | "http/request/bodyDelta" => {
            let (member, stream) = match params["stream"].as_str() {
                Some(stream) => ("chunk", stream),
                None => ("deltaBase64", "body"),
            };
            let text = params[member].as_str().unwrap_or("");
            if is_elided(text) {
                events.inexact = true;
                events.output.entry(stream.into()).or_default().push(0);
            } else {
                let bytes = bytes_of(&params[member]);
                let shown = String::from_utf8_lossy(&bytes);
                events.inexact |= ["pid=", "child=", "pipe:[", "/dev/pts", "SHELL="]
                    .iter()
                    .any(|part| shown.contains(part));
                events.output.entry(stream.into()).or_default().extend(bytes);
            }
            if params["done"] == true {
                events.ends += 1;
            }
        }
        "process/exited" => events.exits.push(params.clone()),
        "process/closed" => events.ends += 1,
        _ => {}
    }
}

/// Equal as they stand, as echoes, or as lists of variables in any order.
fn same_output(recorded: &[u8], ours: &[u8]) -> bool {
    let sorted = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines.sort();
        lines
    };
    recorded == ours
        || normal(recorded) == normal(ours)
        // Our terminals know UTF-8, so that an erase takes a whole character; released ones don't.
        || String::from_utf8_lossy(recorded).replace("-iutf8", "iutf8").as_bytes() == ours
        || (recorded.contains(&b'=') && sorted(recorded) == sorted(ours))
}

/// Whether an answer shows this machine's own files.
fn reads_the_machine(params: &Value) -> bool {
    params["path"].as_str().is_some_and(|path| path.ends_with("/etc/hostname") || path.contains("/proc/"))
}

/// Puts bytes of the elided length back into a request.
fn restore_elided(message: &mut Value) {
    for member in ["chunk", "dataBase64"] {
        let Some(value) = message["params"].get_mut(member) else { continue };
        let Some(text) = value.as_str().filter(|text| is_elided(text)) else { continue };
        let hash = text.rsplit('=').next().unwrap_or("");
        let chars: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        // 1,048,576 and 1,048,577 bytes have base64 of one length; the recorder sent the good one first.
        let bytes = if hash.starts_with("a56930c8") { (1 << 20) + 1 } else { chars / 4 * 3 };
        *value =
            json!(codex_e2e::base64(vec![b'x'; if hash.starts_with("2ef370e5") { 1 << 20 } else { bytes }]));
    }
}

fn shorten(value: &Value) -> String {
    value.to_string().chars().take(400).collect()
}
