//! One connection to the server that is examined, message by message.

use std::collections::VecDeque;
use std::time::Duration;

use codex_exec_server::client::{ClientOptions, Endpoint, carry};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

/// Bytes on their way; then the side that sends waits. Chosen for speed.
const BUFFER: usize = 1 << 20;

/// A connection, and what has come on it that nobody asked for yet.
pub(crate) struct Talk {
    lines: BufReader<ReadHalf<DuplexStream>>,
    to: Option<WriteHalf<DuplexStream>>,
    /// Gone once its end was seen.
    carrier: Option<JoinHandle<Result<(), String>>>,
    waiting: VecDeque<Value>,
    patience: Duration,
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Talk {
    /// Connects; that it failed is told by the first message that does not come.
    pub(crate) fn connect(endpoint: Endpoint, options: ClientOptions, patience: Duration) -> Self {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let (input, output) = tokio::io::split(theirs);
        let carrier = tokio::spawn(async move {
            let carried = carry(endpoint, &options, input, output).await;
            carried.map(drop).map_err(|error| error.to_string())
        });
        let (from, to) = tokio::io::split(ours);
        Self {
            lines: BufReader::new(from),
            to: Some(to),
            carrier: Some(carrier),
            waiting: VecDeque::new(),
            patience,
        }
    }

    /// Sends one line.
    pub(crate) async fn send(&mut self, line: &str) -> Result<(), String> {
        let to = self.to.as_mut().ok_or("the connection is cut")?;
        let sent = async {
            to.write_all(line.as_bytes()).await?;
            to.write_all(b"\n").await?;
            to.flush().await
        };
        tokio::time::timeout(self.patience, sent)
            .await
            .map_err(|_| "the server does not take a message".to_owned())?
            .map_err(|error| format!("a message can't be sent: {error}"))
    }

    /// The next message that `wanted` takes; those before it stay for others. None when the server ends the connection.
    pub(crate) async fn next(
        &mut self,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Option<Value>, String> {
        if let Some(at) = self.waiting.iter().position(&mut wanted) {
            return Ok(self.waiting.remove(at));
        }
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout_at(deadline, self.lines.read_line(&mut line)).await;
            match read {
                Err(_) => {
                    return Err(format!("nothing of the kind came within {:?}{}", self.patience, self.had()));
                }
                Ok(Err(error)) => return Err(format!("a message can't be read: {error}")),
                Ok(Ok(0)) => return self.ended().await,
                Ok(Ok(_)) => {}
            }
            let message: Value = serde_json::from_str(&line)
                .map_err(|error| format!("the server sends what is no JSON: {error}"))?;
            if message.get("jsonrpc").is_some() {
                return Err("the server sends a member jsonrpc".into());
            }
            if wanted(&message) {
                return Ok(Some(message));
            }
            self.waiting.push_back(message);
        }
    }

    /// What came instead.
    fn had(&self) -> String {
        match self.waiting.back() {
            Some(last) => format!("; the last that came was {}", crate::pattern::shown(last)),
            None => String::new(),
        }
    }

    /// Whether the end was the server's wish, or there was no connection at all.
    async fn ended(&mut self) -> Result<Option<Value>, String> {
        let Some(carrier) = self.carrier.take() else { return Ok(None) };
        match tokio::time::timeout(self.patience, carrier).await {
            Ok(Ok(Err(error))) => Err(error),
            _ => Ok(None),
        }
    }

    /// The answer to a request.
    pub(crate) async fn answer(&mut self, id: &Value) -> Result<Value, String> {
        let answers = |message: &Value| message.get("method").is_none() && message.get("id") == Some(id);
        self.next(answers)
            .await?
            .ok_or_else(|| format!("the connection ended before the answer to {id}{}", self.had()))
    }

    /// `initialize` and `initialized`; the answer.
    pub(crate) async fn shake_hands(&mut self, resume: Option<&str>) -> Result<Value, String> {
        let params = json!({"clientName": "codex-conformance", "resumeSessionId": resume});
        self.send(&json!({"id": "hello", "method": "initialize", "params": params}).to_string()).await?;
        let answer = self.answer(&json!("hello")).await?;
        self.send(&json!({"method": "initialized", "params": {}}).to_string()).await?;
        Ok(answer)
    }

    /// Cuts the connection without a word.
    pub(crate) fn cut(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            carrier.abort();
        }
    }

    /// Ends the session, should the server know how, so that nothing of it stays.
    pub(crate) async fn goodbye(mut self) {
        if let Some(mut to) = self.to.take() {
            // The carrier reads the end of what is sent.
            let _ = to.shutdown().await;
        }
        // Until the carrier has said so; a server that does not listen is left behind.
        if let Some(carrier) = &mut self.carrier {
            let _ = tokio::time::timeout(self.patience, carrier).await;
        }
    }
}
