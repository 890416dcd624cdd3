//! The remote triangle under test: a rendezvous, executors, and `run` as the harness.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::server::{ServerCommand, serving, stop, wait};

/// The environment that executors offer.
pub const ENVIRONMENT: &str = "bench";
/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child that is stopped when dropped.
pub struct Running {
    child: Child,
    /// Its last lines on stderr.
    told: Told,
}

/// The last lines that a child told, filled by a thread that reads on until the child's end.
type Told = Arc<Mutex<VecDeque<String>>>;
/// As many are kept.
const TOLD_LINES: usize = 40;

impl Running {
    /// The operating system's id of the process that serves.
    pub fn pid(&self) -> u32 {
        serving(self.child.id())
    }

    /// Its last lines on stderr.
    pub fn told(&self) -> String {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().map(String::as_str).collect()
    }

    /// Ends it in the ordinary way.
    pub fn stop(&mut self) {
        stop(&mut self.child);
    }

    /// SIGTERM, and waits for the end, which may take this long.
    pub fn end(&mut self, patience: Duration) -> Result<()> {
        // SAFETY: plain system call; the child is ours and not reaped, so its id is still its own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        wait(&mut self.child, patience).context("it does not end after SIGTERM").map(drop)
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
        let (line, told) = await_line(child.stderr.take().context("stderr")?, "uname -a")?;
        let token = line.split("NOISE_AUTH_TOKEN=").nth(1).and_then(|rest| rest.split(' ').next());
        let token = token.unwrap_or_default().to_owned();
        Ok(Self { running: Running { child, told }, url: url.trim().to_owned(), token })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.url.strip_prefix("http://").context("an http URL")?.parse().context("an address")
    }
}

/// Starts an executor and waits until it is attached.
pub fn executor(command: &ServerCommand, url: &str, token: &str, more: &[&str]) -> Result<Running> {
    executor_of(command, url, ENVIRONMENT, token, more)
}

/// The same with an environment of one's own.
pub fn executor_of(
    command: &ServerCommand,
    url: &str,
    environment: &str,
    token: &str,
    more: &[&str],
) -> Result<Running> {
    let arguments = [&["--remote", url, "--environment-id", environment], more].concat();
    let mut child = command
        .command(&arguments)
        .env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", token)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the executor")?;
    let (_, told) = await_line(child.stderr.take().context("stderr")?, "attached to")?;
    Ok(Running { child, told })
}

/// Reads up to the line with this text; of the rest, the last lines are kept.
fn await_line(stderr: ChildStderr, text: &str) -> Result<(String, Told)> {
    let mut lines = BufReader::new(stderr);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            bail!("it ended without {text:?}");
        }
        if line.contains(text) {
            let told = Told::default();
            let kept = Arc::clone(&told);
            std::thread::spawn(move || {
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push_back(std::mem::take(&mut line));
                    let surplus = kept.len().saturating_sub(TOLD_LINES);
                    kept.drain(..surplus);
                }
            });
            return Ok((line, told));
        }
    }
}

/// `run` through the registry.
pub fn run(command: &ServerCommand, url: &str, token: &str, flags: &[&str], program: &[&str]) -> Command {
    run_on(command, url, ENVIRONMENT, token, flags, program)
}

/// The same on an environment of one's own.
pub fn run_on(
    command: &ServerCommand,
    url: &str,
    environment: &str,
    token: &str,
    flags: &[&str],
    program: &[&str],
) -> Command {
    let head = ["run", "--registry", url, "--environment-id", environment];
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

/// A public key as the registry takes it.
pub fn key(seed: u8) -> String {
    let of = |length| base64_simd::STANDARD.encode_to_string(vec![seed; length]);
    let suite = "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256";
    format!(
        "{{\"suite\":\"{suite}\",\"x25519_public_key\":\"{}\",\"mlkem768_public_key\":\"{}\"}}",
        of(32),
        of(1184)
    )
}

/// A token good for everything; its hash is in the file then.
pub fn token(server: &ServerCommand, file: &Path) -> Result<String> {
    let roles = ["executor", "harness", "observer"].map(|role| ["--role", role]);
    let arguments = [&["rendezvous", "token", "--environment", "*"][..], &roles.concat()].concat();
    let made = server.command(&arguments).stderr(Stdio::null()).output()?;
    let made = String::from_utf8(made.stdout)?;
    let (token, line) = made.trim().split_once('\n').context("a token and its line")?;
    std::fs::write(file, line)?;
    Ok(token.to_owned())
}

/// A relay frame of a stream, with this field and content.
pub fn frame(stream: &str, field: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![8, 1, 0x12, stream.len() as u8];
    frame.extend_from_slice(stream.as_bytes());
    frame.extend_from_slice(&[field << 3 | 2, body.len() as u8]);
    frame.extend_from_slice(body);
    frame
}
