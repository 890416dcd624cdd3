//! `codex exec-server port-forward`, as people use it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use codex_e2e::client::guarded;
use codex_e2e::login::Home;
use codex_e2e::{Cutter, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running command; ended when dropped.
struct Forward {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Forward {
    fn start(url: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(codex_e2e::binary::codex())
            .args(["exec-server", "port-forward", "--url", url])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for the next port to be open; where.
    async fn open(self) -> (Self, SocketAddr) {
        let mut this = self;
        let waiting = tokio::task::spawn_blocking(move || {
            let line = this.lines.next().expect("the command goes on").unwrap();
            let at = line.split(" -> ").next().unwrap().parse().expect("an address");
            (this, at)
        });
        guarded("an open port", waiting).await.unwrap()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives back what it is sent, on this port.
async fn echo(port: u16) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut reading, mut writing) = stream.split();
                let _ = copy(&mut reading, &mut writing).await;
            });
        }
    });
    (address, task)
}

async fn echoes(at: SocketAddr, bytes: &[u8]) -> std::io::Result<bool> {
    let (mut reading, mut writing) = TcpStream::connect(at).await?.into_split();
    let sent = bytes.to_vec();
    let sending = tokio::spawn(async move {
        writing.write_all(&sent).await?;
        writing.shutdown().await
    });
    let mut heard = Vec::new();
    guarded("the echo", reading.read_to_end(&mut heard)).await?;
    guarded("the sending", sending).await.unwrap()?;
    Ok(heard == bytes)
}

/// Tries until it works, as clients of a service that was away do.
async fn echoes_some_time(at: SocketAddr, bytes: &[u8]) {
    guarded("an echo", async {
        while !matches!(echoes(at, bytes).await, Ok(true)) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn refused_some_time(at: SocketAddr) {
    guarded("a refusal", async {
        loop {
            match TcpStream::connect(at).await {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return,
                _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_arrive_whole_in_both_directions_on_many_connections() {
    let server = Server::start().await;
    let (target, _echo) = echo(0).await;
    let (_forward, at) = Forward::start(&server.url, &[&format!("0:{}", target.port())]).open().await;
    assert!(at.ip().is_loopback());
    let bytes: Vec<u8> = (0..8 << 20).map(|i: u32| (i / 7) as u8).collect();
    assert!(echoes(at, &bytes).await.unwrap());
    let many = (0..150_u8).map(|i| tokio::spawn(async move { echoes(at, &vec![i; 5000]).await.unwrap() }));
    for one in many.collect::<Vec<_>>() {
        assert!(one.await.unwrap());
    }
}

#[tokio::test]
async fn a_target_that_is_not_there_is_refused_and_one_that_comes_is_reached() {
    let server = Server::start().await;
    let (target, running) = echo(0).await;
    let (local, remote) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), target.port());
    let at = local.local_addr().unwrap();
    drop(local);
    running.abort();
    let _ = running.await;
    let forward = Forward::start(&server.url, &[&format!("{}:{remote}", at.port())]);
    refused_some_time(at).await;
    let (_, running) = echo(remote).await;
    let (_forward, open) = forward.open().await;
    assert_eq!(open, at);
    assert!(echoes(at, b"here").await.unwrap());
    running.abort();
    let _ = running.await;
    // The first that finds nobody there is the last to be accepted.
    let _ = echoes(at, b"gone").await;
    refused_some_time(at).await;
    let (_, _running) = echo(remote).await;
    echoes_some_time(at, b"back").await;
}

#[tokio::test]
async fn a_forward_comes_back_after_a_cut_and_after_another_server_took_over() {
    let server = Server::start().await;
    let cutter = Cutter::start(server.address()).await;
    let (target, _echo) = echo(0).await;
    let url = cutter.url().replace("http://", "ws://");
    let (_forward, at) = Forward::start(&url, &[&format!("0:{}", target.port())]).open().await;
    let (_reverse, back) = Forward::start(&url, &["--reverse", &format!("0:{}", target.port())]).open().await;
    for round in 0..3_u8 {
        echoes_some_time(at, &[round; 100]).await;
        echoes_some_time(back, &[round; 100]).await;
        // What was open breaks, and says so.
        let mut open = TcpStream::connect(at).await.unwrap();
        open.write_all(b"x").await.unwrap();
        guarded("the echo", open.read_exact(&mut [0])).await.unwrap();
        cutter.cut();
        let end = guarded("the end", open.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    drop(server);
    let other = Server::start().await;
    cutter.point(Some(other.address()));
    cutter.cut();
    echoes_some_time(at, b"another").await;
    echoes_some_time(back, b"another").await;
}

#[tokio::test]
async fn a_forward_of_a_paused_environment_rests_until_it_is_resumed() {
    let server = Server::start().await;
    let cutter = Cutter::start(server.address()).await;
    let (target, _echo) = echo(0).await;
    let home = Home::new();
    let env = async |words: &[&str]| {
        let ended = home.run(&[&["exec-server", "env"], words].concat()).await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    };
    env(&["add", "box", &cutter.url().replace("http://", "ws://"), "--use"]).await;
    let forward = home.start(&["exec-server", "port-forward", &format!("0:{}", target.port())]);
    let opened = |stdout: &str, nth: usize| {
        stdout.lines().nth(nth)?.split_once(" -> ").map(|(at, _)| at.parse::<SocketAddr>().unwrap())
    };
    let at = forward.wait_for("an open port", |stdout, _| opened(stdout, 0)).await;
    echoes_some_time(at, b"before").await;
    env(&["pause", "box"]).await;
    assert!(echoes(at, b"still").await.unwrap(), "a connection that works stays");
    // The session goes with its server, so the next connection is a new one, which is not made.
    drop(server);
    let other = Server::start().await;
    cutter.point(Some(other.address()));
    cutter.cut();
    // A connection is looked after only when somebody wants to be carried.
    let wanting = tokio::spawn(async move {
        loop {
            if let Ok(mut stream) = TcpStream::connect(at).await {
                let _ = stream.read(&mut [0]).await;
            }
        }
    });
    let rests = |_: &str, stderr: &str| stderr.contains("\"box\" is paused").then_some(());
    forward.wait_for("the rest", rests).await;
    wanting.abort();
    env(&["resume", "box"]).await;
    forward.wait_for("the end of the rest", |_, stderr| stderr.contains("is back").then_some(())).await;
    echoes_some_time(at, b"after").await;
}

#[tokio::test]
async fn a_proxy_reaches_names_of_the_machine_and_says_who_is_not_there() {
    let server = Server::start().await;
    let (target, _echo) = echo(0).await;
    let (_forward, at) = Forward::start(&server.url, &["--socks", "0"]).open().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (port, command, code) in [(target.port(), 1, 0), (free, 1, 5), (target.port(), 2, 7)] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut asked = vec![5, 1, 0, 5, command, 0, 3, 9];
        asked.extend(b"localhost");
        asked.extend(port.to_be_bytes());
        stream.write_all(&asked).await.unwrap();
        let mut answer = [0; 12];
        guarded("the answer", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!((&answer[..2], answer[3]), (&[5, 0][..], code), "port {port}, command {command}");
        if code == 0 {
            stream.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            guarded("the echo", stream.read_exact(&mut heard)).await.unwrap();
            assert_eq!(&heard, b"hello");
        }
    }
    // A client without the method that is spoken here.
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&[5, 1, 2]).await.unwrap();
    let mut answer = [0; 2];
    guarded("the answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, [5, 0xff]);
}

#[tokio::test]
async fn what_can_not_be_forwarded_is_said_with_the_exit_code() {
    let server = Server::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (target, _echo) = echo(0).await;
    let taken = format!("{}:{}", taken.local_addr().unwrap().port(), target.port());
    let cases: [(&str, &[&str], i32, &str); 5] = [
        (&server.url, &["nonsense"], 2, "expected PORT"),
        (&server.url, &[], 2, "required"),
        (&server.url, &["--socks", "--reverse", "1"], 2, "cannot be used"),
        (&server.url, &[&taken], 1, "in use"),
        ("ws://127.0.0.1:1", &["80"], 1, "can't reach"),
    ];
    for (url, arguments, code, words) in cases {
        let mut command = Command::new(codex_e2e::binary::codex());
        command.args(["exec-server", "port-forward", "--url", url]).args(arguments).stdin(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = guarded("its end", ended).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_missing_or_wrong_token_is_a_code_of_its_own() {
    let server = Server::builder()
        .args(["--ws-auth", "capability-token", "--ws-token-sha256", &"0".repeat(64)])
        .start()
        .await;
    for token in [None, Some("wrong")] {
        let mut command = Command::new(codex_e2e::binary::codex());
        command.args(["exec-server", "port-forward", "--url", &server.url, "80"]).stdin(Stdio::null());
        command.env_remove("CODEX_EXEC_SERVER_TOKEN");
        command.envs(token.map(|token| ("CODEX_EXEC_SERVER_TOKEN", token)));
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = guarded("its end", ended).await.unwrap();
        assert_eq!(output.status.code(), Some(4), "{output:?}");
    }
}
