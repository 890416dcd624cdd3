//! Messages as lines. A request that can't be read is refused with a sentence, where the library would drop it and its client
//! would wait in vain.

use std::io;

use rmcp::RoleServer;
use rmcp::model::{ErrorData, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::error::Category;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader, Empty, empty};

/// Longest line that is taken, in bytes; a longer one is refused. A safeguard: files that are written go up to half of it.
const LONGEST: usize = 64 << 20;

/// Messages over two pipes.
pub(crate) struct Lines<R, W: AsyncWrite> {
    input: BufReader<R>,
    /// What of the next line has come.
    line: Vec<u8>,
    /// The rest of a line that was too long is on its way.
    skipping: bool,
    /// It only writes.
    output: AsyncRwTransport<RoleServer, Empty, W>,
}

/// What is wanted of a line that can't be read as a whole. What it holds besides may be as deep, and in whatever encoding, as
/// it likes.
#[derive(Deserialize)]
struct Head {
    id: Option<RequestId>,
    method: Option<IgnoredAny>,
}

impl<R, W> Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(crate) fn new(input: R, output: W) -> Self {
        let (input, output) = (BufReader::new(input), AsyncRwTransport::new(empty(), output));
        Self { input, line: Vec::new(), skipping: false, output }
    }

    /// The next line that is not too long; none at the end. Dropped in between, it goes on where it was.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let most = (LONGEST - self.line.len()) as u64;
            let read = (&mut self.input).take(most).read_until(b'\n', &mut self.line).await.ok()?;
            let whole = self.line.ends_with(b"\n");
            if read == 0 && self.line.is_empty() {
                return None;
            }
            if !whole && self.line.len() >= LONGEST {
                self.line.clear();
                self.skipping = true;
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if !std::mem::take(&mut self.skipping) {
                return Some(line);
            }
            let too_long = format!("a message was longer than {LONGEST} bytes, and was not read");
            self.refuse(ErrorData::invalid_request(too_long, None), None);
        }
    }

    /// Answers beside the messages that are read.
    fn refuse(&mut self, error: ErrorData, id: Option<RequestId>) {
        // A client that is gone is noticed when it is read from.
        drop(tokio::spawn(self.output.send(TxJsonRpcMessage::<RoleServer>::error(error, id))));
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        self.output.send(message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let line = self.next().await?;
            let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let error = match serde_json::from_slice(line) {
                Ok(message) => return Some(message),
                Err(error) => error,
            };
            match serde_json::from_slice(line) {
                Ok(Head { id: Some(id), method: Some(_) }) => self.refuse(unreadable(&error), Some(id)),
                // Nobody waits for an answer to a notification, or to an answer.
                Ok(Head { .. }) => tracing::debug!(%error, "a message of a client can't be read"),
                Err(_) => self.refuse(unreadable(&error), None),
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.output.close().await
    }
}

fn unreadable(error: &serde_json::Error) -> ErrorData {
    // It may repeat what was given, at any length.
    let why: String = error.to_string().chars().take(400).collect();
    match error.classify() {
        Category::Data => {
            ErrorData::invalid_request(format!("this message is not as the protocol has it: {why}"), None)
        }
        _ => ErrorData::parse_error(format!("this message is no JSON that can be read: {why}"), None),
    }
}
