//! Holds a server to one rule.

use std::collections::BTreeMap;

use base64_simd::STANDARD;
use serde_json::{Value, json};

use crate::pattern::{difference, shown};
use crate::report::Verdict;
use crate::rules::{Ended, Level, Rule, Step};
use crate::subject::Subject;
use crate::talk::Talk;

/// A rule's conversation, as far as it has come.
struct Course<'a> {
    subject: &'a Subject,
    talk: Talk,
    /// The id of the last request.
    last: Value,
    /// What stands for `${name}` in the rules.
    known: BTreeMap<&'static str, String>,
}

pub(crate) async fn check(subject: &Subject, rule: &Rule) -> Verdict {
    if rule.resumes && !subject.resumes {
        return Verdict::Skipped("a session ends with its connection here".into());
    }
    let mut course = Course::begin(subject);
    let kept = course.run(rule).await;
    course.talk.goodbye().await;
    match kept {
        Ok(()) => Verdict::Kept,
        // A method that is not known is no broken promise where none was made.
        Err(why) if rule.level == Level::Addition && why.contains("-32601") => Verdict::NotOffered,
        Err(why) => Verdict::Broken(why),
    }
}

impl<'a> Course<'a> {
    fn begin(subject: &'a Subject) -> Self {
        let name = format!("codex-conformance-{}", uuid::Uuid::new_v4().simple());
        let known =
            BTreeMap::from([("dir", format!("file:///tmp/{name}")), ("native", format!("/tmp/{name}"))]);
        Self { subject, talk: Self::connect(subject), last: Value::Null, known }
    }

    fn connect(subject: &Subject) -> Talk {
        Talk::connect((subject.endpoint)(), subject.options.clone(), subject.patience)
    }

    async fn run(&mut self, rule: &Rule) -> Result<(), String> {
        if !rule.raw {
            let answer = self.talk.shake_hands(None).await?;
            self.learn(&answer);
            if let Some(why) = difference(&json!({"result": {"sessionId": "$text"}}), &answer, "initialize") {
                return Err(why);
            }
        }
        let uses_files = rule
            .steps
            .iter()
            .any(|step| format!("{step:?}").contains("${dir}") || format!("{step:?}").contains("${native}"));
        if uses_files {
            self.call("fs/createDirectory", json!({"path": self.known["dir"]})).await?;
        }
        let mut outcome = Ok(());
        for (number, step) in rule.steps.iter().enumerate() {
            outcome = self.step(step).await.map_err(|why| format!("step {}: {why}", number + 1));
            if outcome.is_err() {
                break;
            }
        }
        if uses_files {
            // What can't be cleared away is not what this rule is about.
            let _ = self
                .call("fs/remove", json!({"path": self.known["dir"], "recursive": true, "force": true}))
                .await;
        }
        outcome
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let id = json!(format!("aside {method}"));
        self.talk.send(&json!({"id": id, "method": method, "params": params}).to_string()).await?;
        self.talk.answer(&id).await
    }

    fn learn(&mut self, answer: &Value) {
        if let Some(session) = answer["result"]["sessionId"].as_str() {
            self.known.insert("session", session.to_owned());
        }
    }

    /// The value with what stands for its names.
    fn filled(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let filled = self
                    .known
                    .iter()
                    .fold(text.clone(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
                Value::String(filled)
            }
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.filled(value))).collect()
            }
            other => other.clone(),
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(message) => {
                let message = self.filled(message);
                if let Some(id) = message.get("id") {
                    self.last = id.clone();
                }
                self.talk.send(&message.to_string()).await
            }
            Step::Text(text) => self.talk.send(text).await,
            Step::Answer(wanted) => {
                let id = self.last.clone();
                self.answered(&id, wanted).await
            }
            Step::AnswerTo(id, wanted) => self.answered(id, wanted).await,
            Step::Notified(wanted) => self.notified(&self.filled(wanted)).await,
            Step::Ended(wanted) => self.ended(wanted).await,
            Step::Closed => match self.talk.next(|_| false).await {
                Ok(None) => Ok(()),
                Ok(Some(_)) | Err(_) => Err("the server does not end the connection".into()),
            },
            Step::Reconnect => {
                self.talk.cut();
                self.talk = Self::connect(self.subject);
                Ok(())
            }
        }
    }

    async fn answered(&mut self, id: &Value, wanted: &Value) -> Result<(), String> {
        let answer = self.talk.answer(id).await?;
        self.learn(&answer);
        match difference(&self.filled(wanted), &answer, "the answer") {
            None => Ok(()),
            Some(why) => Err(format!("{why}; it was {}", shown(&answer))),
        }
    }

    async fn notified(&mut self, wanted: &Value) -> Result<(), String> {
        let method = wanted["method"].clone();
        let found =
            self.talk.next(|message| message["method"] == method && message.get("id").is_none()).await?;
        let found = found.ok_or_else(|| format!("the connection ended before {method} came"))?;
        difference(wanted, &found, "the notification").map_or(Ok(()), Err)
    }

    /// Follows a process to its close: its numbers, its output, its exit (8.6).
    async fn ended(&mut self, wanted: &Ended) -> Result<(), String> {
        let process = Value::from(wanted.process.clone());
        let mut events: BTreeMap<u64, Value> = BTreeMap::new();
        let closed = loop {
            let is_of =
                |message: &Value| message["params"]["processId"] == process && message.get("id").is_none();
            let event = self.talk.next(is_of).await?.ok_or("the connection ended before the process did")?;
            let seq =
                event["params"]["seq"].as_u64().ok_or_else(|| format!("no seq in {}", shown(&event)))?;
            let is_close = event["method"] == "process/closed";
            if events.insert(seq, event).is_some() {
                return Err(format!("the number {seq} came twice"));
            }
            if is_close {
                break seq;
            }
        };
        if events.keys().copied().ne(1..=closed) {
            return Err(format!(
                "the numbers of the events are {:?}, with gaps up to the close",
                events.keys()
            ));
        }
        let (mut streams, mut exit) = (BTreeMap::<String, Vec<u8>>::new(), None);
        for event in events.values() {
            let params = &event["params"];
            if event["method"] == "process/output" {
                let text = params["chunk"].as_str().ok_or("output without a chunk")?;
                let bytes = STANDARD.decode_to_vec(text).map_err(|_| format!("{text:?} is no base64"))?;
                streams
                    .entry(params["stream"].as_str().unwrap_or("none").to_owned())
                    .or_default()
                    .extend(bytes);
            } else if event["method"] == "process/exited"
                && exit.replace(params["exitCode"].clone()).is_some()
            {
                return Err("it exited twice".into());
            }
        }
        let exit = exit.ok_or("it closed without an exit")?;
        if wanted.exit.is_some_and(|wanted| exit != json!(wanted)) {
            return Err(format!("its exit code is {exit}, and not {:?}", wanted.exit));
        }
        for (stream, wanted) in [("stdout", &wanted.stdout), ("stderr", &wanted.stderr), ("pty", &wanted.pty)]
        {
            let had = streams.remove(stream).unwrap_or_default();
            if let Some(wanted) = wanted
                && *wanted.as_bytes() != *had
            {
                return Err(format!(
                    "its {stream} is {:?}, and not {wanted:?}",
                    String::from_utf8_lossy(&had)
                ));
            }
        }
        streams.keys().next().map_or(Ok(()), |other| Err(format!("output of a stream {other:?}")))
    }
}
