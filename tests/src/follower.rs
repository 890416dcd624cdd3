//! Follows one program as released clients do, over as many connections as it takes: what is pushed, and after each loss what
//! was missed, by `resumeSessionId` and `process/read`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{TestClient, bytes_of};

/// The error that released clients retry: the session is attached to another connection.
const ATTACHED: i64 = -32010;

/// What came of a program so far, whichever connection brought it.
pub struct Follower {
    url: String,
    session: String,
    id: String,
    /// The connection that is in use.
    pub client: TestClient,
    /// Output by its number. A number without output is that of an event.
    pieces: BTreeMap<u64, Vec<u8>>,
    /// How the program ended, once that was told.
    pub exit_code: Option<i64>,
    closed: Option<u64>,
    /// How often another connection was needed.
    pub losses: usize,
}

impl Follower {
    /// Of a program that this client has just started, at this address.
    pub fn new(client: TestClient, url: &str, id: &str) -> Self {
        Self {
            url: url.to_owned(),
            session: client.session_id.clone(),
            id: id.to_owned(),
            client,
            pieces: BTreeMap::new(),
            exit_code: None,
            closed: None,
            losses: 0,
        }
    }

    /// All output so far, in its order.
    pub fn output(&self) -> Vec<u8> {
        self.pieces.values().flatten().copied().collect()
    }

    /// How many lines came so far.
    pub fn lines(&self) -> usize {
        self.pieces.values().flatten().filter(|byte| **byte == b'\n').count()
    }

    /// Follows until this many lines have come, or the end.
    pub async fn until_lines(&mut self, lines: usize) {
        while self.lines() < lines && self.closed.is_none() {
            self.step().await;
        }
    }

    /// Follows until another connection has been needed.
    pub async fn until_lost(&mut self) {
        let losses = self.losses;
        while self.losses == losses {
            self.step().await;
        }
    }

    /// Follows to the end. Every number has come by then, and none twice with something else.
    pub async fn to_the_end(&mut self) {
        while self.closed.is_none() {
            self.step().await;
        }
        let numbers: Vec<u64> = self.pieces.keys().copied().collect();
        let last = self.closed.expect("just seen");
        assert_eq!(numbers, (1..=last).collect::<Vec<u64>>(), "no number is missing");
        assert!(self.exit_code.is_some(), "closed without an exit");
    }

    /// Takes one message, or another connection when this one is gone.
    async fn step(&mut self) {
        let Some(mut message) = self.client.next().await else {
            self.losses += 1;
            return self.resume().await;
        };
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let params = message["params"].take();
        if params["processId"] != self.id.as_str() {
            return;
        }
        let seq = || params["seq"].as_u64().expect("a seq");
        match method.as_str() {
            "process/output" => self.take(seq(), bytes_of(&params["chunk"])),
            "process/exited" => {
                self.exit_code = params["exitCode"].as_i64();
                self.take(seq(), Vec::new());
            }
            "process/closed" => {
                self.take(seq(), Vec::new());
                self.closed = Some(seq());
            }
            _ => {}
        }
    }

    fn take(&mut self, seq: u64, bytes: Vec<u8>) {
        if let Some(before) = self.pieces.insert(seq, bytes.clone()) {
            assert!(before == bytes, "number {seq} came twice, with something else");
        }
    }

    /// Takes the session up again, and reads once what was missed.
    async fn resume(&mut self) {
        self.client = TestClient::connect(&self.url).await;
        loop {
            match self.client.resume(&self.session).await {
                Ok(_) => break,
                Err((ATTACHED, _)) => tokio::task::yield_now().await,
                Err(refusal) => panic!("the session is lost: {refusal:?}"),
            }
        }
        let after = self.pieces.keys().zip(1..).take_while(|(seq, n)| **seq == *n).count() as u64;
        let missed = self.client.read(&self.id, after, 0).await;
        assert_eq!(missed["lostBytes"].as_u64().unwrap_or(0), 0, "{missed}");
        assert_eq!(missed["failure"], Value::Null, "{missed}");
        for chunk in missed["chunks"].as_array().expect("chunks") {
            self.take(chunk["seq"].as_u64().expect("a seq"), bytes_of(&chunk["chunk"]));
        }
        if missed["exited"] == true {
            let last = missed["nextSeq"].as_u64().expect("a number") - 1;
            // The numbers of the exit and the close.
            let events: Vec<u64> = (1..=last).filter(|seq| !self.pieces.contains_key(seq)).collect();
            assert!(events.len() <= 2, "output is missing: {events:?}");
            self.pieces.extend(events.into_iter().map(|seq| (seq, Vec::new())));
            self.exit_code = missed["exitCode"].as_i64();
            if missed["closed"] == true {
                self.closed = Some(last);
            }
        }
    }
}
