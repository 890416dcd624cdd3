//! Starts `codex exec-server console`, and asks it as a browser does.

use std::net::SocketAddr;
use std::process::Stdio;

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::binary;
use crate::client::guarded;
use crate::login::Home;
use crate::secrets::{self, Printed};

/// A running console; killed when dropped. What it logs is searched for secrets.
pub struct Console {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    link: String,
    _printed: Printed,
    _home: Home,
}

/// What a browser keeps: where the console is, and the session's cookie.
#[derive(Clone)]
pub struct Browser {
    address: SocketAddr,
    /// `NAME=KEY`; nobody is signed in without one.
    pub cookie: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// As HTTP has it.
    pub status: u16,
    /// The status line and the headers, in lower case but for what the cookie holds.
    pub head: String,
    /// Whole, unless the connection broke off.
    pub body: Vec<u8>,
    /// The body came to its end.
    pub whole: bool,
}

impl Reply {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Console {
    /// Starts it with these arguments and an empty home directory.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_at(Home::new(), arguments).await
    }

    /// Starts it with these arguments in this home directory.
    pub async fn start_at(home: Home, arguments: &[&str]) -> Self {
        let printed = Printed::new("the console's stderr");
        let mut command = Command::new(binary::codex());
        command.args(["exec-server", "console"]).args(arguments);
        home.dress(&mut command);
        let mut child = command
            .env("RUST_LOG", "codex_console=trace,tower=trace,hyper=trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(printed.stdio())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let link = next_link(&mut stdout).await;
        let rest = link.split_once("://").expect("an URL").1;
        let address = rest.split(['/', '#']).next().and_then(|address| address.parse().ok());
        Self {
            address: address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            child,
            stdout,
            link,
            _printed: printed,
            _home: home,
        }
    }

    /// The last link that it has printed.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// The key in the last link that it has printed.
    pub fn key(&self) -> &str {
        self.link.split_once('#').expect("the key stands in the fragment").1
    }

    /// Has it print another link.
    pub async fn another_link(&mut self) {
        self.signal(Signal::HUP);
        self.link = next_link(&mut self.stdout).await;
    }

    /// A browser in which nobody is signed in.
    pub fn browser(&self) -> Browser {
        Browser { address: self.address, cookie: None }
    }

    /// The owner's browser.
    pub async fn owner(&self) -> Browser {
        let mut browser = self.browser();
        assert_eq!(browser.sign_in(self.key()).await.status, 200);
        browser
    }

    /// The operating system's id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("it runs");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Has it end, and waits for that.
    pub async fn end(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        guarded("the console's end", self.child.wait()).await.expect("it can be waited for").code()
    }
}

async fn next_link(stdout: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = guarded("a link", stdout.next_line()).await.expect("stdout is readable").expect("it goes on");
    secrets::remember(line.split_once('#').expect("a link has a fragment").1);
    line
}

impl Browser {
    /// Exchanges a link's key for a session.
    pub async fn sign_in(&mut self, key: &str) -> Reply {
        let reply = self.ask("POST", "/api/session", Some(serde_json::json!({"key": key}))).await;
        if let Some(cookie) = reply.header("set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default().to_owned();
            secrets::remember(pair.split_once('=').expect("a cookie has a value").1);
            self.cookie = Some(pair);
        }
        reply
    }

    /// Asks as the page does.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(method, path, "content-type: application/json\r\n", body.as_bytes()).await
    }

    /// Asks as the page does, for something that is there.
    pub async fn get(&self, path: &str) -> Value {
        let reply = self.ask("GET", path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.json());
        reply.json()
    }

    /// The same with more headers and any body.
    pub async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let host = self.address;
        let origin = if method == "GET" { String::new() } else { format!("origin: http://{host}\r\n") };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{origin}{}{headers}content-length: {}\r\nconnection: close\r\n\r\n",
            self.cookie_header(),
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    fn cookie_header(&self) -> String {
        self.cookie.as_ref().map(|cookie| format!("cookie: other=1; {cookie}\r\n")).unwrap_or_default()
    }

    /// Sends these bytes, and reads the answer to its end.
    pub async fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.expect("the console listens");
        stream.write_all(request).await.expect("it takes a request");
        let mut bytes = Vec::new();
        // A reset behind an answer is no matter.
        let _ = guarded("an answer", stream.read_to_end(&mut bytes)).await;
        reply(&bytes)
    }

    /// Opens the live terminal of a process; `path` is that of the process.
    pub async fn terminal(&self, path: &str) -> Result<TerminalPage, Error> {
        let mut request = format!("ws://{}{path}/terminal", self.address).into_client_request()?;
        let origin = format!("http://{}", self.address);
        let headers = request.headers_mut();
        headers.insert("origin", HeaderValue::from_str(&origin).expect("an origin"));
        if let Some(cookie) = &self.cookie {
            headers.insert("cookie", HeaderValue::from_str(cookie).expect("a cookie"));
        }
        let stream = TcpStream::connect(self.address).await.expect("the console listens");
        let (socket, _) = guarded("an upgrade", tokio_tungstenite::client_async(request, stream)).await?;
        Ok(TerminalPage { socket, output: Vec::new(), told: Vec::new(), acknowledges: true })
    }
}

fn reply(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let rest = bytes.get(end + 4..).unwrap_or_default();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let (body, whole) = if chunked { unchunked(rest) } else { (rest.to_vec(), true) };
    Reply { status, head, body, whole }
}

fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return (body, false) };
        let size =
            std::str::from_utf8(&rest[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size else { return (body, false) };
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else { return (body, false) };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
}

/// What a page has of a live terminal.
pub struct TerminalPage {
    socket: WebSocketStream<TcpStream>,
    /// All that the program has printed.
    pub output: Vec<u8>,
    /// All that the console has told.
    pub told: Vec<Value>,
    /// Says what was drawn, as a page does.
    pub acknowledges: bool,
}

impl TerminalPage {
    /// Types.
    pub async fn type_text(&mut self, text: &str) {
        self.socket.send(Message::binary(text.as_bytes().to_vec())).await.expect("it takes input");
    }

    /// Asks for something.
    pub async fn ask(&mut self, asked: Value) {
        self.socket.send(Message::text(asked.to_string())).await.expect("it hears");
    }

    /// Takes the next message; the code with which the console has closed, if it has.
    pub async fn step(&mut self) -> Option<Option<u16>> {
        match guarded("a message of the console", self.socket.next()).await {
            Some(Ok(Message::Binary(bytes))) => {
                let output = &bytes[17..];
                self.output.extend_from_slice(output);
                if self.acknowledges {
                    let drawn = serde_json::json!({"type": "drawn", "bytes": output.len()});
                    // It may be gone by now, which the next step tells.
                    let _ = self.socket.send(Message::text(drawn.to_string())).await;
                }
                None
            }
            Some(Ok(Message::Text(text))) => {
                self.told.push(serde_json::from_str(&text).expect("JSON"));
                None
            }
            Some(Ok(Message::Close(frame))) => Some(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => None,
            Some(Err(_)) | None => Some(None),
        }
    }

    /// Goes on until the output holds this text.
    pub async fn until(&mut self, text: &str) {
        while !self.output.windows(text.len()).any(|window| window == text.as_bytes()) {
            let closed = self.step().await;
            assert!(closed.is_none(), "closed with {closed:?} before {text:?}: {:?}", self.shown());
        }
    }

    /// Goes on until the console has told something of this type; what.
    pub async fn told(&mut self, kind: &str) -> Value {
        loop {
            if let Some(told) = self.told.iter().find(|told| told["type"] == kind) {
                return told.clone();
            }
            let closed = self.step().await;
            assert!(closed.is_none(), "closed with {closed:?} before it told {kind:?}: {:?}", self.told);
        }
    }

    /// Goes on until the console closes; the code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Some(code) = self.step().await {
                return code;
            }
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}
