//! Real sockets: the recorded HTTP answers, authentication, and tokio-tungstenite as the peer.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;
use crate::transport::{AuthConfig, FrameBuffer, PeerEvent};

const KEY: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

fn listener(auth: Auth, limits: &Limits) -> (Listener, SocketAddr) {
    let address = ListenAddress::parse("ws://127.0.0.1:0").unwrap();
    let listener = Listener::bind(&address, auth, limits).unwrap();
    let local = listener.local_address().strip_prefix("ws://").unwrap().parse().unwrap();
    (listener, local)
}

/// Accepts for ever and echoes every message; answers pings and the close.
fn serve(mut listener: Listener) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let pending = listener.accept().await.unwrap();
            tokio::spawn(async move {
                if let Some(carrier) = pending.handshake().await {
                    let _ = echo(carrier).await;
                }
            });
        }
    })
}

async fn echo(mut carrier: Carrier) -> io::Result<()> {
    carrier.reader.trust();
    let mut out = FrameBuffer::new(carrier.framing);
    while let Ok(event) = carrier.reader.next().await {
        match event {
            PeerEvent::Message(bytes) => out.message(bytes.len() / 2, |to| to.extend_from_slice(bytes)),
            PeerEvent::Ping(payload) => out.pong(payload),
            PeerEvent::Pong(_) => {}
            PeerEvent::Close(code) => out.close(code.unwrap_or(1000)),
            PeerEvent::End => break,
        }
        carrier.sink.write_all(out.bytes()).await?;
        out.clear(1 << 16);
    }
    Ok(())
}

async fn talk(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    if !request.contains("Upgrade: websocket") {
        return read_to_end(&mut socket).await;
    }
    let mut answer = Vec::new();
    while !http::has_head_end(&answer, 0) && socket.read_buf(&mut answer).await.unwrap() > 0 {}
    if !answer.starts_with(b"HTTP/1.1 101") {
        socket.read_to_end(&mut answer).await.unwrap();
    }
    String::from_utf8(answer).unwrap()
}

async fn read_to_end(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Status, the headers that count (sorted), body. We end every connection that is not upgraded, and say so.
fn shape(answer: &str) -> (String, Vec<String>, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().to_owned();
    let mut headers: Vec<String> = lines
        .map(|line| if line.starts_with("date: ") { "date: DATE".into() } else { line.to_owned() })
        .filter(|line| line != "connection: close")
        .collect();
    headers.sort();
    (status, headers, body.to_owned())
}

#[tokio::test]
async fn http_is_answered_as_the_released_program_answers() {
    let (listener, address) = listener(Auth::open(), &Limits::default());
    let _server = serve(listener);
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/http-upgrade.0.169.0.jsonl");
    let mut count = 0;
    for line in std::fs::read_to_string(vectors).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let answer = talk(address, case["request"].as_str().unwrap()).await;
        assert_eq!(shape(&answer), shape(case["response"].as_str().unwrap()), "{}", case["case"]);
        count += 1;
    }
    assert_eq!(count, 22);
}

#[tokio::test]
async fn odd_requests_are_refused_with_a_status() {
    let limits = Limits::default().with(|limits| limits.transport.http_head_bytes = 1000);
    let (listener, address) = listener(Auth::open(), &limits);
    let _server = serve(listener);
    // With `GET / HTTP/1.1`, a header that makes a head of exactly so many bytes.
    let sized = |size: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(size - 23));
    for (request, status) in [
        (sized(1000), "400"),
        (sized(1001), "431"),
        (sized(100_000), "431"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(97)), "431"),
        ("\x16\x03\x01 this is no HTTP".to_owned(), "400"),
        ("{\"id\":1}\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nConnection: upgrade\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.0\r\n{KEY}\r\n"), "400"),
        (format!("POST /x HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{}", "x".repeat(5000)), "404"),
        (format!("GET http://h/?token=x HTTP/1.1\r\n{KEY}\r\n"), "101"),
        ("GET /readyz HTTP/1.0\r\n\r\n".to_owned(), "200"),
    ] {
        let answer = talk(address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.80}: {answer}");
    }
}

#[tokio::test]
async fn a_token_opens_the_upgrade_and_nothing_else_asks_for_one() {
    let auth = Auth::new(AuthConfig::CapabilityToken("s3cret".into())).unwrap();
    let (listener, address) = listener(auth, &Limits::default());
    let _server = serve(listener);
    let upgrade = |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\n{KEY}{more}\r\n");
    let good = "Authorization: bearer  s3cret \r\n";
    for (request, status, body) in [
        (upgrade("/", good), "101", ""),
        (upgrade("/", ""), "401", "missing websocket bearer token"),
        (upgrade("/?token=s3cret", ""), "401", "missing websocket bearer token"),
        (upgrade("/", "Authorization: Basic x\r\n"), "401", "invalid authorization header"),
        (upgrade("/", "Authorization: Bearer x\r\n"), "401", "invalid websocket bearer token"),
        (
            upgrade("/", &format!("Authorization: Bearer x\r\n{good}")),
            "401",
            "invalid websocket bearer token",
        ),
        (upgrade("/", &format!("{good}Authorization: Bearer x\r\n")), "101", ""),
        (upgrade("/", &format!("{good}Origin: null\r\n")), "403", ""),
        ("GET / HTTP/1.1\r\n\r\n".into(), "400", "Connection header did not include 'upgrade'"),
        ("GET /readyz HTTP/1.1\r\n\r\n".into(), "200", ""),
    ] {
        let (line, headers, text) = shape(&talk(address, &request).await);
        assert!(line.contains(status), "{request}: {line}");
        assert_eq!(text, body, "{request}");
        assert!(!headers.iter().any(|h| h.starts_with("www-authenticate")));
        if status == "401" {
            assert!(headers.contains(&"content-type: text/plain; charset=utf-8".to_owned()));
        }
    }
}

async fn peer<S>(stream: S) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    client_async("ws://peer/", stream).await.unwrap().0
}

#[tokio::test]
async fn messages_of_every_header_size_come_back_from_another_implementation() {
    let (listener, address) = listener(Auth::open(), &Limits::default());
    let _server = serve(listener);
    let mut socket = peer(TcpStream::connect(address).await.unwrap()).await;
    for size in [0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 1 << 20, 16 << 20] {
        let text: String = ('a'..='z').cycle().take(size).collect();
        socket.send(Message::text(text.clone())).await.unwrap();
        let back = socket.next().await.unwrap().unwrap();
        assert!(back.is_text() && back.to_text().unwrap() == text, "{size}");
    }
    socket.send(Message::Ping(Bytes::from_static(b"alive?"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"alive?")));
    socket.send(Message::binary(&b"{}"[..])).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("{}"));
    socket.close(None).await.unwrap();
    assert!(matches!(socket.next().await.unwrap().unwrap(), Message::Close(_)));
    assert!(socket.next().await.is_none());
}

#[tokio::test]
async fn bytes_sent_with_the_upgrade_are_kept() {
    let (listener, address) = listener(Auth::open(), &Limits::default());
    let _server = serve(listener);
    let mut socket = TcpStream::connect(address).await.unwrap();
    let frame = [&[0x81, 0x82, 0, 0, 0, 0][..], b"{}"].concat();
    socket.write_all(&[format!("GET / HTTP/1.1\r\n{KEY}\r\n").as_bytes(), &frame].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\x81\x02{}") {
        assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "ended after {answer:?}");
    }
}

#[tokio::test]
async fn accepted_sockets_send_small_packets_at_once() {
    let (mut listener, address) = listener(Auth::open(), &Limits::default());
    let _client = TcpStream::connect(address).await.unwrap();
    let pending = listener.accept().await.unwrap();
    let Stream::Tcp(stream) = &pending.stream else { panic!("not TCP") };
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn one_connection_too_many_is_answered_503_until_there_is_room() {
    let limits = Limits::default().with(|limits| limits.transport.connections = 1);
    let (mut listener, address) = listener(Auth::open(), &limits);
    let connecting = tokio::spawn(async move { peer(TcpStream::connect(address).await.unwrap()).await });
    let carrier = listener.accept().await.unwrap().handshake().await.unwrap();
    let first = connecting.await.unwrap();
    let second = tokio::spawn(async move { talk(address, &format!("GET / HTTP/1.1\r\n{KEY}\r\n")).await });
    assert!(listener.accept().await.unwrap().handshake().await.is_none());
    assert!(second.await.unwrap().starts_with("HTTP/1.1 503"));
    drop((carrier, first));
    let third = tokio::spawn(async move { peer(TcpStream::connect(address).await.unwrap()).await });
    assert!(listener.accept().await.unwrap().handshake().await.is_some());
    third.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_let_go() {
    let limits = Limits::default().with(|limits| limits.transport.handshake_time = Duration::from_millis(20));
    let (mut listener, address) = listener(Auth::open(), &limits);
    for said in ["", "GET / HTTP/1.1\r\n"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        assert!(listener.accept().await.unwrap().handshake().await.is_none());
    }
}

fn unix(path: &Path, auth: Auth) -> Result<Listener, BindError> {
    Listener::bind(&ListenAddress::Unix(path.to_owned()), auth, &Limits::default())
}

#[tokio::test]
async fn the_first_byte_on_a_unix_socket_tells_lines_from_websocket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let listener = unix(&path, Auth::open()).unwrap();
    assert_eq!(listener.local_address(), format!("unix://{}", path.display()));
    let _server = serve(listener);
    for start in ["", " ", "\n"] {
        let mut socket = UnixStream::connect(&path).await.unwrap();
        socket.write_all(format!("{start}{{\"id\":1}}\n").as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut socket).await.trim_start(), "{\"id\":1}\n");
    }
    let mut socket = peer(UnixStream::connect(&path).await.unwrap()).await;
    socket.send(Message::text("{}")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("{}"));
}

#[tokio::test]
async fn lines_are_no_way_around_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let auth = Auth::new(AuthConfig::CapabilityToken("s3cret".into())).unwrap();
    let _server = serve(unix(&path, auth).unwrap());
    let mut socket = UnixStream::connect(&path).await.unwrap();
    socket.write_all(b"{\"id\":1}\n").await.unwrap();
    let answer: Value = serde_json::from_str(&read_to_end(&mut socket).await).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::from(-1), &Value::from(-32600)));
}

#[tokio::test]
async fn a_socket_file_is_private_replaced_when_stale_and_removed_when_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead server leaves its file");
    let first = unix(&path, Auth::open()).unwrap();
    let metadata = std::fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert!(matches!(unix(&path, Auth::open()), Err(BindError::InUse(_))));
    assert!(path.exists());
    drop(first);
    assert!(!path.exists());

    let second = unix(&path, Auth::open()).unwrap();
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    std::fs::write(&path, "somebody else's").unwrap();
    drop(second);
    assert!(path.exists(), "what is not ours stays");
    assert!(matches!(unix(&path, Auth::open()), Err(BindError::NotASocket(_))));
}

#[tokio::test]
async fn a_path_too_long_and_a_taken_port_are_refused_with_their_names() {
    let long = unix(Path::new(&format!("/tmp/{}", "x".repeat(200))), Auth::open()).unwrap_err();
    assert!(long.to_string().contains("unix:///tmp/xxx"), "{long}");
    let (_listener, address) = listener(Auth::open(), &Limits::default());
    let taken = Listener::bind(&ListenAddress::Tcp(address), Auth::open(), &Limits::default()).unwrap_err();
    assert!(taken.to_string().contains(&address.to_string()), "{taken}");
    let stdio = Listener::bind(&ListenAddress::Stdio, Auth::open(), &Limits::default()).unwrap_err();
    assert!(matches!(stdio, BindError::Stdio));
}

#[tokio::test]
async fn failures_that_pass_do_not_end_accepting() {
    use rustix::io::Errno;
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::CONNABORTED, Errno::PERM] {
        assert!(survive(errno.into()).await.is_ok(), "{errno:?}");
    }
    assert!(survive(Errno::BADF.into()).await.is_err());
}
