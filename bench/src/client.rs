//! A blocking websocket client that costs next to nothing: what it uses of the machine is missing in the measurement.
//!
//! It looks only at the heads of messages, and takes the size of output from the length of its base64 text.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// Nothing that is measured takes longer; a silent server is an error, not a hang.
const PATIENCE: Duration = Duration::from_secs(60);
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];
const READ_BYTES: usize = 256 << 10;
/// A larger message is counted, and not kept: its memory would be the client's cost.
const LARGE_BYTES: usize = 1 << 20;
/// What is kept of its beginning.
const BEGINNING: usize = 512;
/// Members behind the base64 text of a `process/output` fit in here.
const TAIL: usize = 128;

/// The part of a received message that a benchmark wants.
#[derive(Debug)]
pub enum Message<'a> {
    /// The answer to request `id`; `ok` is false for an error. It has `length` bytes; of a large one only the first are in
    /// `body`.
    Answer { id: u64, ok: bool, body: &'a [u8], length: usize },
    /// Output of a process: how many bytes.
    Output { process: &'a [u8], bytes: u64 },
    /// Nothing more comes from a process.
    Closed { process: &'a [u8] },
    /// Anything else.
    Other,
}

/// A connection with its session.
pub struct Connection {
    stream: TcpStream,
    incoming: Vec<u8>,
    /// What of `incoming` is received and not yet taken.
    filled: std::ops::Range<usize>,
    outgoing: Vec<u8>,
    /// How the last large message began.
    beginning: Vec<u8>,
    last_id: u64,
    uri_prefix: &'static str,
}

impl Connection {
    /// Connects to `ws://IP:PORT`, opens a session, and finds out in which form the server wants paths.
    pub fn open(url: &str) -> Result<Self> {
        let mut connection = Self::initialized(url)?;
        let known = connection.call("fs/getMetadata", r#"{"path":"file:///","sandbox":null}"#).is_ok();
        connection.uri_prefix = if known { "file://" } else { "" };
        Ok(connection)
    }

    /// Connects and opens a session, and no more.
    pub fn initialized(url: &str) -> Result<Self> {
        let address = url.strip_prefix("ws://").with_context(|| format!("{url:?} is no ws:// address"))?;
        let mut stream = TcpStream::connect(address).with_context(|| format!("connecting to {url}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let upgrade = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes())?;
        let mut connection = Self {
            stream,
            incoming: vec![0; READ_BYTES],
            filled: 0..0,
            outgoing: Vec::new(),
            beginning: Vec::new(),
            last_id: 0,
            uri_prefix: "file://",
        };
        connection.read_upgrade_answer()?;
        connection.call("initialize", r#"{"clientName":"codex-bench","resumeSessionId":null}"#)?;
        connection.queue_text(r#"{"method":"initialized","params":{}}"#);
        connection.flush()?;
        Ok(connection)
    }

    fn read_upgrade_answer(&mut self) -> Result<()> {
        loop {
            let received = &self.incoming[self.filled.clone()];
            if let Some(end) = find(received, b"\r\n\r\n") {
                if !received.starts_with(b"HTTP/1.1 101") {
                    bail!("the upgrade was refused: {}", String::from_utf8_lossy(&received[..end]));
                }
                self.filled.start += end + 4;
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// A native path in the form that the server wants.
    pub fn path(&self, native: &str) -> String {
        format!("{}{native}", self.uri_prefix)
    }

    /// Puts a request into the outgoing buffer; its id.
    pub fn queue(&mut self, method: &str, params: &str) -> u64 {
        self.last_id += 1;
        let text = format!(r#"{{"id":{},"method":"{method}","params":{params}}}"#, self.last_id);
        self.queue_text(&text);
        self.last_id
    }

    /// Sends a request; its id.
    pub fn send(&mut self, method: &str, params: &str) -> Result<u64> {
        let id = self.queue(method, params);
        self.flush()?;
        Ok(id)
    }

    /// Sends a request and waits for its answer, over anything that comes before it; an error answer is an error.
    pub fn call(&mut self, method: &str, params: &str) -> Result<Vec<u8>> {
        let wanted = self.send(method, params)?;
        self.answer(wanted).with_context(|| format!("calling {method}"))
    }

    /// Waits for the answer to a request, over anything that comes before it.
    pub fn answer(&mut self, wanted: u64) -> Result<Vec<u8>> {
        loop {
            if let Message::Answer { id, ok, body, .. } = self.receive()?
                && id == wanted
            {
                return if ok {
                    Ok(body.to_vec())
                } else {
                    Err(anyhow!("{}", String::from_utf8_lossy(body)))
                };
            }
        }
    }

    /// Params of `process/start`.
    pub fn start_params(&self, process: &str, argv: &[&str], tty: bool) -> String {
        let env = serde_json::json!({"PATH": "/usr/bin:/bin"});
        serde_json::json!({"processId": process, "argv": argv, "cwd": self.path("/"), "env": env, "tty": tty,
            "arg0": null, "pipeStdin": true})
        .to_string()
    }

    /// Starts a program and waits for the answer.
    pub fn start(&mut self, process: &str, argv: &[&str], tty: bool) -> Result<()> {
        let params = self.start_params(process, argv, tty);
        self.call("process/start", &params).map(drop)
    }

    /// Reads until `process` is closed; the bytes of its output.
    pub fn drain(&mut self, wanted: &str) -> Result<u64> {
        self.drain_counted(wanted).map(|(bytes, _)| bytes)
    }

    /// As [`Self::drain`]; the bytes, and in how many notifications they came.
    pub fn drain_counted(&mut self, wanted: &str) -> Result<(u64, u64)> {
        let (mut total, mut messages) = (0, 0);
        loop {
            match self.receive()? {
                Message::Output { process, bytes } if process == wanted.as_bytes() => {
                    total += bytes;
                    messages += 1;
                }
                Message::Closed { process } if process == wanted.as_bytes() => return Ok((total, messages)),
                Message::Answer { ok: false, body, .. } => bail!("{}", String::from_utf8_lossy(body)),
                _ => {}
            }
        }
    }

    /// A whole message is here already, so that [`Self::receive`] would not wait. Pings before it do not count: behind
    /// the last message there is nothing to wait for.
    pub fn has_message(&self) -> bool {
        let mut rest = &self.incoming[self.filled.clone()];
        while let Some(frame) = frame(rest) {
            let Some(behind) = rest.get(frame.head + frame.payload..) else { return false };
            if frame.opcode < 8 {
                return true;
            }
            rest = behind;
        }
        false
    }

    /// The next message.
    pub fn receive(&mut self) -> Result<Message<'_>> {
        Ok(match self.payload()? {
            Payload::Whole(payload) => classify(&self.incoming[payload.clone()], payload.len()),
            Payload::Large(length) => classify(&self.beginning, length),
        })
    }

    fn payload(&mut self) -> Result<Payload> {
        loop {
            let Some(frame) = frame(&self.incoming[self.filled.clone()]) else {
                self.fill()?;
                continue;
            };
            if frame.opcode < 8 && (!frame.last || frame.payload > LARGE_BYTES) {
                return self.large().map(Payload::Large);
            }
            let whole = frame.head + frame.payload;
            if self.filled.len() < whole {
                self.make_room(whole);
                self.fill()?;
                continue;
            }
            let payload = self.filled.start + frame.head..self.filled.start + whole;
            self.filled.start += whole;
            match frame.opcode {
                1 | 2 => return Ok(Payload::Whole(payload)),
                8 => bail!("the server closed the connection"),
                9 => self.pong(payload)?,
                10 => {}
                other => bail!("a frame with opcode {other} where a message begins"),
            }
        }
    }

    /// Reads a large message, which may come in fragments; its length.
    fn large(&mut self) -> Result<usize> {
        self.beginning.clear();
        let mut length = 0;
        loop {
            let Some(frame) = frame(&self.incoming[self.filled.clone()]) else {
                self.fill()?;
                continue;
            };
            self.filled.start += frame.head;
            let mut control = Vec::new();
            let mut left = frame.payload;
            while left > 0 {
                if self.filled.is_empty() {
                    self.fill()?;
                }
                let part = left.min(self.filled.len());
                let bytes = &self.incoming[self.filled.start..self.filled.start + part];
                if frame.opcode >= 8 {
                    control.extend_from_slice(bytes);
                } else if self.beginning.len() < BEGINNING {
                    self.beginning.extend_from_slice(&bytes[..part.min(BEGINNING)]);
                }
                self.filled.start += part;
                left -= part;
            }
            match frame.opcode {
                0..=2 => length += frame.payload,
                9 => {
                    self.queue_frame(10, &control);
                    self.flush()?;
                }
                10 => {}
                other => bail!("a frame with opcode {other} inside of a message"),
            }
            if frame.opcode < 8 && frame.last {
                return Ok(length);
            }
        }
    }

    fn make_room(&mut self, whole: usize) {
        if self.filled.start + whole > self.incoming.len() {
            self.incoming.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            if whole > self.incoming.len() {
                self.incoming.resize(whole + READ_BYTES, 0);
            }
        }
    }

    fn fill(&mut self) -> Result<()> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        if self.filled.end == self.incoming.len() {
            self.make_room(self.incoming.len());
        }
        let read = loop {
            match self.stream.read(&mut self.incoming[self.filled.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.context("waiting for the server")?,
            }
        };
        if read == 0 {
            bail!("the server ended the connection");
        }
        self.filled.end += read;
        Ok(())
    }

    fn pong(&mut self, payload: std::ops::Range<usize>) -> Result<()> {
        let payload = self.incoming[payload].to_vec();
        self.queue_frame(10, &payload);
        self.flush()
    }

    fn queue_text(&mut self, text: &str) {
        self.queue_frame(1, text.as_bytes());
    }

    fn queue_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.outgoing.push(0x80 | opcode);
        match payload.len() {
            short @ 0..126 => self.outgoing.push(0x80 | short as u8),
            middle @ 126..0x1_0000 => {
                self.outgoing.push(0x80 | 126);
                self.outgoing.extend_from_slice(&(middle as u16).to_be_bytes());
            }
            long => {
                self.outgoing.push(0x80 | 127);
                self.outgoing.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        self.outgoing.extend_from_slice(&MASK);
        self.outgoing.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// Sends what was queued.
    pub fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.outgoing).context("sending to the server")?;
        self.outgoing.clear();
        Ok(())
    }
}

/// A message.
enum Payload {
    /// Its place in what was received.
    Whole(std::ops::Range<usize>),
    /// Its length.
    Large(usize),
}

struct Frame {
    opcode: u8,
    last: bool,
    head: usize,
    payload: usize,
}

fn frame(bytes: &[u8]) -> Option<Frame> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (head, payload) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    Some(Frame { opcode: first & 0x0f, last: first & 0x80 != 0, head, payload })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The text of a string member in the first part of a message.
fn string_member<'a>(body: &'a [u8], name: &[u8]) -> Option<(usize, &'a [u8])> {
    let start = find(&body[..body.len().min(512)], name)? + name.len();
    let quote = body[start..].iter().position(|byte| *byte == b'"')?;
    Some((start, &body[start..start + quote]))
}

fn classify(body: &[u8], length: usize) -> Message<'_> {
    if let Some(rest) = body.strip_prefix(b"{\"id\":") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse().ok());
        let ok = !rest[digits..].starts_with(b",\"error\"");
        return id.map_or(Message::Other, |id| Message::Answer { id, ok, body, length });
    }
    let Some((_, method)) = string_member(body, b"\"method\":\"") else { return by_serde(body, length) };
    let Some((_, process)) = string_member(body, b"\"processId\":\"") else { return Message::Other };
    match method {
        b"process/output" => match output_bytes(body) {
            Some(bytes) => Message::Output { process, bytes },
            None => Message::Other,
        },
        b"process/closed" => Message::Closed { process },
        _ => Message::Other,
    }
}

/// Answers of servers that write their members in another order.
fn by_serde(body: &[u8], length: usize) -> Message<'_> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) => match members.get("id").and_then(Value::as_u64) {
            Some(id) => Message::Answer { id, ok: !members.contains_key("error"), body, length },
            None => Message::Other,
        },
        _ => Message::Other,
    }
}

/// Decoded size of the base64 text, which has no quotes in it: so its end is looked for near the message's end.
fn output_bytes(body: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"chunk\":\"";
    let start = find(&body[..body.len().min(512)], NAME)? + NAME.len();
    let from = start.max(body.len().saturating_sub(TAIL));
    let end = from + body[from..].iter().position(|byte| *byte == b'"')?;
    let padding = body[start..end].iter().rev().take_while(|byte| **byte == b'=').count();
    Some(((end - start) / 4 * 3 - padding) as u64)
}
