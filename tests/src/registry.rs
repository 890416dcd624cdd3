//! A registry that answers from a script and remembers what it was asked, byte for byte.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::guarded;
use crate::http::plain;

/// What the registry does with one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// `HTTP/1.1 <status>` with a JSON body.
    Json(String, String),
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

impl Answer {
    /// A success with this body.
    pub fn ok(body: impl ToString) -> Self {
        Self::status("200 OK", body)
    }

    /// Any status (`404 Not Found`) with this body.
    pub fn status(status: &str, body: impl ToString) -> Self {
        Self::Json(status.into(), body.to_string())
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Request line and headers, each with its `\r\n`, the blank line excluded.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}: {self:?}"))
    }

    /// The request line without `HTTP/1.1`.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1")
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The names of all headers, in order.
    pub fn header_names(&self) -> Vec<&str> {
        self.head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect()
    }
}

/// Decides what becomes of the n-th request, counted from 0.
pub type Script = Box<dyn Fn(usize, &Asked) -> Answer + Send + Sync>;

/// The registry.
pub struct ScriptedRegistry {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl ScriptedRegistry {
    /// Gives these answers in order, the last one for ever.
    pub async fn answering(answers: impl Into<Vec<Answer>>) -> Self {
        let answers = answers.into();
        Self::scripted(Box::new(move |number, _| {
            answers.get(number).or(answers.last()).cloned().expect("a script has answers")
        }))
        .await
    }

    /// Answers as `script` says.
    pub async fn scripted(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (counting, count) = watch::channel(0);
        let (remembered, script) = (Arc::clone(&asked), Arc::new(script));
        let counting = Arc::new(counting);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (remembered, script) = (Arc::clone(&remembered), Arc::clone(&script));
                let counting = Arc::clone(&counting);
                tokio::spawn(async move {
                    let Some((request, stream)) = receive(stream).await else { return };
                    let number = {
                        let mut asked = remembered.lock().expect("no panic holds it");
                        asked.push(request.clone());
                        asked.len()
                    };
                    let answer = script(number - 1, &request);
                    counting.send_replace(number);
                    give(answer, stream).await;
                });
            }
        });
        Self { url, asked, count, task }
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic holds it").clone()
    }

    /// Waits for the n-th request, counted from 1.
    pub async fn request(&self, number: usize) -> Asked {
        let mut count = self.count.clone();
        guarded("a request to the registry", count.wait_for(|count| *count >= number))
            .await
            .expect("the registry runs");
        self.asked().swap_remove(number - 1)
    }
}

impl Drop for ScriptedRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn give(answer: Answer, mut stream: TcpStream) {
    let bytes = match answer {
        Answer::Json(status, body) => plain(&status, "content-type: application/json\r\n", body.as_bytes()),
        Answer::Raw(bytes) => bytes,
        Answer::Silence => return std::future::pending().await,
    };
    // The executor may have gone.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

async fn receive(mut stream: TcpStream) -> Option<(Asked, TcpStream)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end + 2]).into_owned();
    let mut asked = Asked { head, body: bytes[end + 4..].to_vec() };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while asked.body.len() < length {
        if stream.read_buf(&mut asked.body).await.ok()? == 0 {
            return None;
        }
    }
    Some((asked, stream))
}
