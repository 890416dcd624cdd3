//! The remote triangle under test: a rendezvous, executors, and `run` as the harness.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::server::{ServerCommand, stop};

/// The environment that executors offer.
pub const ENVIRONMENT: &str = "bench";
/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child that is stopped when dropped.
pub struct Running {
    child: Child,
    /// Keeps the pipe open, so that the child can go on talking.
    _stderr: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// The operating system's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without a word.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            stop(&mut self.child);
        }
    }
}

/// A running rendezvous.
pub struct Rendezvous {
    /// The process.
    pub running: Running,
    /// Its registry's URL.
    pub url: String,
    /// Good for everything; empty when it has a file of tokens.
    pub token: String,
}

impl Rendezvous {
    /// Starts one and waits until it has said what to paste.
    pub fn start(command: &ServerCommand, more: &[&str]) -> Result<Self> {
        let arguments = [&["rendezvous"], more].concat();
        let mut child = command
            .command(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting the rendezvous")?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut url)?;
        let (line, stderr) = await_line(child.stderr.take().context("stderr")?, "uname -a")?;
        let token = line.split("NOISE_AUTH_TOKEN=").nth(1).and_then(|rest| rest.split(' ').next());
        let token = token.unwrap_or_default().to_owned();
        Ok(Self { running: Running { child, _stderr: Some(stderr) }, url: url.trim().to_owned(), token })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.url.strip_prefix("http://").context("an http URL")?.parse().context("an address")
    }
}

/// Starts an executor and waits until it is attached.
pub fn executor(command: &ServerCommand, url: &str, token: &str, more: &[&str]) -> Result<Running> {
    let arguments = [&["--remote", url, "--environment-id", ENVIRONMENT], more].concat();
    let mut child = command
        .command(&arguments)
        .env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", token)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the executor")?;
    let (_, stderr) = await_line(child.stderr.take().context("stderr")?, "attached to")?;
    Ok(Running { child, _stderr: Some(stderr) })
}

/// Reads up to the line with this text; the rest goes nowhere.
fn await_line(stderr: ChildStderr, text: &str) -> Result<(String, std::thread::JoinHandle<()>)> {
    let mut lines = BufReader::new(stderr);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            bail!("it ended without {text:?}");
        }
        if line.contains(text) {
            let rest = std::thread::spawn(move || drop(std::io::copy(&mut lines, &mut std::io::sink())));
            return Ok((line, rest));
        }
    }
}

/// `run` through the registry.
pub fn run(command: &ServerCommand, url: &str, token: &str, flags: &[&str], program: &[&str]) -> Command {
    let head = ["run", "--registry", url, "--environment-id", ENVIRONMENT];
    let mut command = command.command(&[&head, flags, &["--"], program].concat());
    command.env("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", token);
    command
}

/// The URL of a plain relay's harness.
pub fn plain_url(rendezvous: &Rendezvous, environment: &str) -> String {
    let url = rendezvous.url.replacen("http", "ws", 1);
    format!("{url}/rendezvous?role=harness&environment={environment}&token={}", rendezvous.token)
}

/// A bare websocket, for frames made by hand.
pub struct Bare(TcpStream);

impl Bare {
    /// Upgrades.
    pub fn open(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("ws://").context("a ws URL")?;
        let (address, target) = rest.split_once('/').context("a path")?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "GET /{target} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"HTTP/1.1 101") {
            bail!("the upgrade was refused: {}", String::from_utf8_lossy(&answer));
        }
        Ok(Self(stream))
    }

    /// Sends a binary message of less than 126 bytes.
    pub fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x82, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        Ok(self.0.write_all(&frame)?)
    }

    /// Reads one such message.
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        let mut payload = vec![0; usize::from(head[1] & 0x7f)];
        self.0.read_exact(&mut payload)?;
        Ok(payload)
    }
}

/// Registers a plain environment; the executor's websocket URL.
pub fn register(rendezvous: &Rendezvous, environment: &str) -> Result<String> {
    let address = rendezvous.address()?;
    let mut stream = TcpStream::connect(address)?;
    let head = format!(
        "POST /cloud/environment/{environment}/register HTTP/1.1\r\nhost: {address}\r\n\
         authorization: Bearer {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        rendezvous.token
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    let body: serde_json::Value = serde_json::from_str(body).with_context(|| answer.clone())?;
    Ok(body["url"].as_str().context("a URL")?.to_owned())
}

/// A relay frame of a stream, with this field and content.
pub fn frame(stream: &str, field: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![8, 1, 0x12, stream.len() as u8];
    frame.extend_from_slice(stream.as_bytes());
    frame.extend_from_slice(&[field << 3 | 2, body.len() as u8]);
    frame.extend_from_slice(body);
    frame
}
