//! What the scripted other ends of a client's connection have in common, for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, ClientOptions, Endpoint, ProcessEvent};
use crate::protocol::path::LocalPath;
use crate::protocol::process::{List, ListParams, StartParams, Stream};

/// The other end of one connection: it says what its test has it say.
pub(super) trait Scripted {
    /// The client's next message; none when it is gone.
    async fn hear(&mut self) -> Option<Value>;

    /// Says something.
    async fn send(&mut self, message: Value);

    /// Waits for the client's next ping, and answers it.
    async fn ping(&mut self);

    /// Hears a request of this method and answers it; gives its params.
    async fn answer(&mut self, method: &str, result: Value) -> Value {
        let mut request = self.hear().await.expect("a request");
        assert_eq!(request["method"], method);
        self.send(json!({"id": request["id"], "result": result})).await;
        request["params"].take()
    }

    /// Goes through the handshake of a new session; gives the params of `initialize`.
    async fn handshake(&mut self) -> Value {
        let params = self.answer("initialize", json!({"sessionId": "s1"})).await;
        assert_eq!(self.hear().await, Some(json!({"method": "initialized", "params": {}})));
        params
    }

    /// Tells output of the program that [`start`] starts.
    async fn output(&mut self, seq: u64, base64: &str) {
        let params = json!({"processId": "p", "seq": seq, "stream": "stdout", "chunk": base64});
        self.send(json!({"method": "process/output", "params": params})).await;
    }
}

/// The start of a program called `p`.
pub(super) fn start() -> StartParams {
    serde_json::from_value(json!({
        "processId": "p", "argv": ["x"], "cwd": LocalPath("/".into()), "env": BTreeMap::<String, String>::new(),
        "tty": false,
    }))
    .expect("params")
}

/// The event that a piece of output on stdout is.
pub(super) fn output(text: &str) -> Option<ProcessEvent> {
    Some(ProcessEvent::Output { stream: Stream::Stdout, bytes: text.as_bytes().to_vec() })
}

/// An end that answers pings, and nothing else, is kept for longer than the silence that its client bears; one that falls
/// silent is left, and the client comes back to another.
pub(super) async fn pings_keep_an_end_and_silence_does_not<S: Scripted>(
    endpoint: Endpoint,
    accept: impl AsyncFn() -> S,
) {
    let interval = Duration::from_millis(20);
    let options =
        ClientOptions { ping_interval: interval, silence_time: interval * 100, ..ClientOptions::default() };
    let (quiet, asked) = tokio::sync::oneshot::channel();
    let script = async {
        let mut first = accept().await;
        first.handshake().await;
        for _ in 0..120 {
            first.ping().await;
        }
        quiet.send(()).expect("somebody waits");
        first.answer("process/list", json!({"processes": []})).await;
        // From now on nobody reads, so nobody answers.
        let mut second = accept().await;
        assert_eq!(second.handshake().await["resumeSessionId"], "s1");
        second.answer("process/list", json!({"processes": []})).await;
        (first, second)
    };
    let use_it = async {
        let client = Client::connect(endpoint, options).await.expect("a connection");
        asked.await.expect("it was pinged long enough");
        client.call::<List>(&ListParams::default()).await.expect("an answer");
        while client.call::<List>(&ListParams::default()).await.is_err() {}
        client
    };
    tokio::join!(script, use_it);
}
