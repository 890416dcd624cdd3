//! The visitor: this test binary once more, started with a proxy. It goes where it is told and says what it saw.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Errands, parted by `;`.
const ASKED: &str = "CODEX_E2E_VISIT";
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(50);

/// The command line that makes this binary run these errands, one after the other:
///
/// - `get URL`, `post URL`: through the HTTP proxy
/// - `head HOST URL`: as `get`, with this `Host` header
/// - `tunnel HOST:PORT`, `socks HOST:PORT`: a connection through the proxy, and a request for `/through` over it
/// - `datagrams COUNT HOST:PORT`: that many datagrams by SOCKS, and the answer to each; with a second target, the same to that
///   before, without waiting for an answer
/// - `plain TEXT`: these bytes to the proxy, with `|` for the line ends
/// - `tcp ADDRESS`, `udp ADDRESS`: past the proxy
/// - `name HOST:PORT`: past the proxy by name, and a request for `/through`
/// - `ask ADDRESS`: past the proxy by UDP, and an answer
/// - `own`: listens on its own loopback and connects to itself
/// - `var NAME`: the variable's value
/// - `wait`: until its stdin ends
pub(crate) fn visiting(errands: &[impl AsRef<str>]) -> Vec<String> {
    let binary = std::env::current_exe().expect("the test knows its own file");
    [
        "/usr/bin/env",
        &format!("{ASKED}={}", errands.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(";")),
        binary.to_str().expect("text"),
        "--exact",
        "network::visitor::visits_when_asked",
        "--ignored",
        "--nocapture",
        "--quiet",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// What the visitor said of each errand.
pub(crate) fn told(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_prefix("visit: ")).map(str::to_owned).collect()
}

#[test]
#[ignore = "the visitor's part of other tests"]
fn visits_when_asked() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    println!();
    for errand in asked.split(';') {
        let said = run(errand).unwrap_or_else(|error| format!("failed: {error}"));
        println!("visit: {}", said.replace(['\r', '\n'], "|"));
    }
}

fn run(errand: &str) -> std::io::Result<String> {
    let (verb, rest) = errand.split_once(' ').unwrap_or((errand, ""));
    match verb {
        "get" => request("GET", rest, rest),
        "post" => request("POST", rest, rest),
        "head" => {
            let (host, url) = rest.split_once(' ').expect("a host and a URL");
            request("GET", url, host)
        }
        "tunnel" => {
            let mut stream = to_proxy("HTTP_PROXY")?;
            write!(stream, "CONNECT {rest} HTTP/1.1\r\nHost: {rest}\r\n\r\n")?;
            let head = head(&mut stream)?;
            if !head.starts_with("HTTP/1.1 200") {
                return Ok(first_line(&head));
            }
            through(stream, rest)
        }
        "socks" => socks(rest),
        "datagrams" => datagrams(rest),
        "plain" => {
            let mut stream = to_proxy("HTTP_PROXY")?;
            stream.write_all(rest.replace('|', "\r\n").as_bytes())?;
            head(&mut stream).map(|answer| first_line(&answer))
        }
        "tcp" => TcpStream::connect(rest).map(|_| "connected".to_owned()),
        "udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(rest)?;
            socket.send(b"x")?;
            socket.send(b"x").map(|_| "sent".to_owned())
        }
        "name" => {
            let stream = TcpStream::connect(rest)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            through(stream, rest)
        }
        "ask" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(rest)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(b"x")?;
            socket.recv(&mut [0; 512]).map(|_| "answered".to_owned())
        }
        "own" => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            TcpStream::connect(listener.local_addr()?).map(|_| "connected".to_owned())
        }
        "var" => Ok(std::env::var(rest).unwrap_or_else(|_| "(unset)".to_owned())),
        "wait" => {
            println!("visit: waiting");
            std::io::stdin().read_to_end(&mut Vec::new()).map(|_| "waited".to_owned())
        }
        _ => panic!("no such errand: {errand}"),
    }
}

fn to_proxy(variable: &str) -> std::io::Result<TcpStream> {
    let url = std::env::var(variable).expect("the proxy is in the environment");
    let (_, address) = url.split_once("://").expect("a URL");
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The status line and the body's text.
fn request(method: &str, url: &str, host: &str) -> std::io::Result<String> {
    let mut stream = to_proxy("HTTP_PROXY")?;
    let host = host.trim_start_matches("http://").split('/').next().unwrap_or_default();
    write!(
        stream,
        "{method} {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
         Proxy-Authorization: Basic eA==\r\nX-Own: 1\r\nContent-Length: 0\r\n\r\n"
    )?;
    let answer = all(&mut stream)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(format!("{} {body}", first_line(&answer)))
}

fn socks(target: &str) -> std::io::Result<String> {
    let (host, port) = target.rsplit_once(':').expect("a port");
    let mut request = vec![5, 1, 0, 3, u8::try_from(host.len()).expect("short")];
    request.extend(host.as_bytes());
    request.extend(port.parse::<u16>().expect("a port").to_be_bytes());
    let (stream, answer) = socks_reply(&request)?;
    if answer[1] != 0 {
        return Ok(format!("SOCKS {}", answer[1]));
    }
    through(stream, target)
}

/// A connection that SOCKS is spoken on, and what it answers to this request.
fn socks_reply(request: &[u8]) -> std::io::Result<(TcpStream, [u8; 10])> {
    let mut stream = to_proxy("ALL_PROXY")?;
    stream.write_all(&[5, 1, 0])?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    assert_eq!(chosen, [5, 0]);
    stream.write_all(request)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    Ok((stream, answer))
}

fn datagrams(asked: &str) -> std::io::Result<String> {
    let (count, targets) = asked.split_once(' ').expect("a count");
    let (lost, target) = targets.split_once(' ').unwrap_or(("", targets));
    let (_association, reply) = socks_reply(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0])?;
    if reply[1] != 0 {
        return Ok(format!("SOCKS {}", reply[1]));
    }
    assert_eq!(reply[2..8], [0, 1, 127, 0, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(("127.0.0.1", u16::from_be_bytes([reply[8], reply[9]])))?;
    let mut said = String::new();
    for number in 0..count.parse::<u8>().expect("a count") {
        for target in [lost, target].into_iter().filter(|target| !target.is_empty()) {
            let (host, port) = target.rsplit_once(':').expect("a port");
            let mut datagram = vec![0, 0, 0, 3, u8::try_from(host.len()).expect("short")];
            datagram.extend(host.as_bytes());
            datagram.extend(port.parse::<u16>().expect("a port").to_be_bytes());
            datagram.extend(format!("{target} {number}").as_bytes());
            socket.send(&datagram)?;
        }
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        assert_eq!(answer[..8], [0, 0, 0, 1, 127, 0, 0, 1]);
        said.push_str(&String::from_utf8_lossy(&answer[10..length]));
        said.push(',');
    }
    Ok(said)
}

fn through(mut stream: TcpStream, host: &str) -> std::io::Result<String> {
    write!(stream, "GET /through HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let answer = all(&mut stream)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(format!("{} {body}", first_line(&answer)))
}

fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn all(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn first_line(answer: &str) -> String {
    answer.lines().next().unwrap_or_default().to_owned()
}
