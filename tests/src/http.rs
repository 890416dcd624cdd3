//! Raw HTTP: asks a server as bytes, and plays a server that answers as bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::guarded;

/// Sends a request as it stands and reads the answer's head (to the blank line) and what came with it.
pub async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request.as_bytes()).await.expect("the server takes a request");
    String::from_utf8_lossy(&read_head(&mut stream).await).into()
}

/// Sends a request as it stands and reads all that comes until the server hangs up.
pub async fn ask_for_all(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request.as_bytes()).await.expect("the server takes a request");
    let mut answer = Vec::new();
    guarded("the whole answer", stream.read_to_end(&mut answer)).await.expect("the answer is readable");
    String::from_utf8_lossy(&answer).into()
}

/// Shakes hands for a websocket and returns the bare stream, for frames made by hand.
pub async fn upgraded(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(upgrade_request("").as_bytes()).await.expect("the server takes a request");
    let head = read_head(&mut stream).await;
    assert!(head.starts_with(b"HTTP/1.1 101"), "no upgrade: {}", String::from_utf8_lossy(&head));
    stream
}

/// A good upgrade request with further header lines (each with its `\r\n`).
pub fn upgrade_request(more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let read = async {
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.expect("the answer is readable") == 0 {
                break;
            }
        }
    };
    guarded("an HTTP answer", read).await;
    head
}

/// A masked client frame with this first byte (FIN, RSV, opcode).
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    // A mask of zeros leaves the payload as it is.
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// A local HTTP server that answers each path with fixed bytes and remembers what it was asked.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// What an [`Origin`] does with one request: it has the head and the body, and the stream to answer on.
pub type Answer = Arc<dyn Fn(Asked, TcpStream) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync>;

/// One request that reached an [`Origin`].
#[derive(Debug, Clone)]
pub struct Asked {
    /// The request line's method.
    pub method: String,
    /// The request line's target.
    pub target: String,
    /// The head as it came.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Origin {
    /// Starts a server that hands every request to `answer`.
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (answer.clone(), seen.clone());
                tokio::spawn(async move {
                    if let Some((asked, stream)) = receive(stream).await {
                        seen.lock().expect("no panic holds it").push(asked.head.clone());
                        answer(asked, stream).await;
                    }
                });
            }
        });
        Self { address, requests, task }
    }

    /// `http://127.0.0.1:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.requests.lock().expect("no panic holds it").clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(mut stream: TcpStream) -> Option<(Asked, TcpStream)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0usize);
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let mut line = head.split_whitespace();
    let asked = Asked { method: line.next()?.into(), target: line.next()?.into(), head: head.clone(), body };
    Some((asked, stream))
}

/// A plain answer with a `content-length`, which ends the connection.
pub fn plain(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len())
            .into_bytes();
    answer.extend(body);
    answer
}
