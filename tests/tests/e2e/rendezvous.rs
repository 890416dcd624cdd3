//! `codex exec-server rendezvous` as people start it: what it prints, refuses and forgets.

mod status;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use codex_e2e::client::guarded;
use codex_e2e::{binary, http, server::Server};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio_tungstenite::connect_async;

/// A running rendezvous and what it said at its start.
struct Rendezvous {
    url: String,
    said: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Rendezvous {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(binary::codex())
            .args(["exec-server", "rendezvous"])
            .args(arguments)
            .env("RUST_LOG", "codex_rendezvous=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut url = String::new();
        guarded("the address", stdout.read_line(&mut url)).await.unwrap();
        let mut said = String::new();
        while !said.contains("uname -a") {
            said += &guarded("the lines to paste", stderr.next_line()).await.unwrap().unwrap();
            said.push('\n');
        }
        let this = Self { url: url.trim_end().to_owned(), said, child, stdout, stderr };
        for name in ["CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN"] {
            let token = this.pasted(name);
            // With a file of tokens there is a word in its place.
            if token.starts_with("cxr_") {
                codex_e2e::secrets::remember(&token);
            }
        }
        this
    }

    fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The value of a variable in the lines to paste.
    fn pasted(&self, name: &str) -> String {
        let rest = self.said.split(&format!("{name}=")).nth(1).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }

    /// The status and the body of a POST.
    async fn post(&self, path: &str, token: &str, body: &Value) -> (String, Value) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address(),
            body.len()
        );
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        guarded("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    async fn register(&self, token: &str) -> (String, Value) {
        let key = json!({
            "suite": "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256",
            "x25519_public_key": codex_e2e::base64([1; 32]),
            "mlkem768_public_key": codex_e2e::base64([1; 1184]),
        });
        let body = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key});
        self.post("/cloud/environment/my-machine/register", token, &body).await
    }

    /// Sends SIGTERM; gives the exit code, and all it said on stderr from then on. stdout must have been silent.
    async fn end(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let mut log = String::new();
        while let Some(line) = guarded("the end of stderr", self.stderr.next_line()).await.unwrap() {
            log += &line;
            log.push('\n');
        }
        let code = guarded("the end", self.child.wait()).await.unwrap().code();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "", "stdout has the address only");
        codex_e2e::secrets::assert_none("the rendezvous' stderr", log.as_bytes());
        (code, log)
    }
}

/// Runs `rendezvous` with arguments that make it end: code, stdout, stderr.
async fn ended(arguments: &[&str]) -> (Option<i32>, String, String) {
    let refused =
        Server::builder().without_listen().args(["rendezvous"]).args(arguments.to_vec()).refused().await;
    (refused.code, refused.stdout, refused.stderr)
}

/// A token from `rendezvous token`, and its line for the file.
async fn token(arguments: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = ended(&[&["token"], arguments].concat()).await;
    assert_eq!(code, Some(0), "{stderr}");
    let mut lines = stdout.lines().map(str::to_owned);
    let (token, line) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(lines.next().is_none() && !line.contains(&token) && !stderr.contains(&token));
    codex_e2e::secrets::remember(&token);
    (token, line)
}

#[tokio::test]
async fn a_file_as_stdout_gets_the_line_of_a_token_but_never_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    let file = || std::fs::File::options().create(true).append(true).open(&path).unwrap();
    let run = |stderr: Stdio| {
        std::process::Command::new(binary::codex())
            .args(["exec-server", "rendezvous", "token", "--role", "executor", "--environment", "my-machine"])
            .stdin(Stdio::null())
            .stdout(file())
            .stderr(stderr)
            .output()
            .unwrap()
    };
    let output = run(Stdio::piped());
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let token = stderr.lines().find(|line| line.starts_with("cxr_")).unwrap();
    codex_e2e::secrets::remember(token);
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.starts_with("executor my-machine ") && written.lines().count() == 1, "{written}");
    assert!(!written.contains(token));
    let rendezvous = Rendezvous::start(&["--tokens", path.to_str().unwrap()]).await;
    assert_eq!(rendezvous.register(token).await.0, "200");
    assert_eq!(rendezvous.end().await.0, Some(0));
    assert_eq!(run(file().into()).status.code(), Some(2));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("cxr_"));
}

#[tokio::test]
async fn it_prints_its_address_on_stdout_and_what_to_paste_on_stderr() {
    let rendezvous = Rendezvous::start(&[]).await;
    assert!(rendezvous.address().ip().is_loopback());
    let url = &rendezvous.url;
    let token = rendezvous.pasted("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN");
    for line in [
        format!(
            "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN={token} codex exec-server --remote {url} \
             --environment-id my-machine"
        ),
        format!(
            "CODEX_EXEC_SERVER_NOISE_REGISTRY_URL={url} CODEX_EXEC_SERVER_NOISE_ENVIRONMENT_ID=my-machine \
             CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN={token} codex"
        ),
        format!(
            "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN={token} codex exec-server run --registry {url} \
             --environment-id my-machine -- uname -a"
        ),
    ] {
        assert!(rendezvous.said.contains(&line), "{line}: {}", rendezvous.said);
    }
    assert!(!rendezvous.said.contains("CODEX_EXEC_SERVER_URL"), "plain relays are off");
    assert_eq!(rendezvous.register("wrong").await.0, "401");
    let (status, answer) = rendezvous.register(&token).await;
    assert_eq!(status, "200", "{answer}");
    let executor = answer["url"].as_str().unwrap();
    let (mut socket, _) = connect_async(executor).await.unwrap();
    let closed = async {
        while let Some(Ok(message)) = socket.next().await {
            if let tokio_tungstenite::tungstenite::Message::Close(Some(close)) = message {
                return u16::from(close.code);
            }
        }
        panic!("no close frame")
    };
    let ((code, log), close) = tokio::join!(rendezvous.end(), closed);
    assert_eq!((code, close), (Some(0), 1012));
    assert!(log.contains("registered") && log.contains("attached") && log.contains("refused"), "{log}");
    let secret = executor.split("secret=").nth(1).unwrap();
    assert!(!log.contains(&token) && !log.contains(secret), "the log holds a secret: {log}");
}

#[tokio::test]
async fn tokens_come_from_a_file_that_is_read_again_at_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    let (first, first_line) = token(&["--role", "executor", "--environment", "my-machine"]).await;
    let (second, second_line) =
        token(&["--role", "executor", "--role", "harness", "--environment", "my-machine,b", "--name", "x y"])
            .await;
    assert!(
        first_line.starts_with("executor my-machine ")
            && second_line.starts_with("executor,harness b,my-machine ")
    );
    std::fs::write(&file, format!("# tokens\n{first_line}\n")).unwrap();
    let store = directory.path().join("store");
    let arguments = ["--tokens", file.to_str().unwrap(), "--store", store.to_str().unwrap()];
    let mut rendezvous = Rendezvous::start(&arguments).await;
    assert_eq!(rendezvous.pasted("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN"), "TOKEN");
    assert_eq!(rendezvous.register(&first).await.0, "200");
    assert_eq!(rendezvous.register(&second).await.0, "401");
    std::fs::write(&file, &second_line).unwrap();
    rendezvous.signal(Signal::HUP);
    while !guarded("the answer to SIGHUP", rendezvous.stderr.next_line())
        .await
        .unwrap()
        .unwrap()
        .contains("read again")
    {}
    assert_eq!(rendezvous.register(&first).await.0, "401");
    assert_eq!(rendezvous.register(&second).await.0, "200");
    std::fs::write(&file, "nonsense").unwrap();
    rendezvous.signal(Signal::HUP);
    while !guarded("the answer to SIGHUP", rendezvous.stderr.next_line())
        .await
        .unwrap()
        .unwrap()
        .contains("nothing is changed")
    {}
    assert_eq!(rendezvous.register(&second).await.0, "200");
    assert_eq!(rendezvous.end().await.0, Some(0));
    assert_eq!(mode(&store), 0o600);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_plain_relay_s_line_is_printed_when_it_is_allowed() {
    let mut rendezvous = Rendezvous::start(&["--allow-plain"]).await;
    let address = rendezvous.address();
    let mut line = String::new();
    while !line.contains("CODEX_EXEC_SERVER_URL") {
        line = guarded("the line", rendezvous.stderr.next_line()).await.unwrap().unwrap();
    }
    assert!(
        line.contains(&format!("ws://{address}/rendezvous?role=harness&environment=my-machine&token=")),
        "{line}"
    );
    assert_eq!(
        http::ask(address, "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .split(' ')
            .nth(1),
        Some("200")
    );
    assert_eq!(rendezvous.end().await.0, Some(0));
}

#[tokio::test]
async fn on_every_address_of_the_machine_the_lines_leave_the_host_to_the_reader() {
    let rendezvous = Rendezvous::start(&["--listen", "0.0.0.0:0", "--allow-insecure"]).await;
    let port = rendezvous.address().port();
    assert_eq!(rendezvous.url, format!("http://0.0.0.0:{port}"));
    assert!(rendezvous.said.contains(&format!("--registry http://HOST:{port} ")), "{}", rendezvous.said);
    assert_eq!(rendezvous.end().await.0, Some(0));
}

#[tokio::test]
async fn what_is_unsafe_or_wrong_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, wrong) = (file("empty", "# none\n"), file("wrong", "executor * cxr_secret\n"));
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let pipe = pipe.to_str().unwrap();
    for (arguments, code, part) in [
        (&["--tokens", pipe][..], 1, "named pipe"),
        (&["--tokens", "/dev/zero"], 1, "more than 16777216 bytes"),
        (&["--tls-cert", "/dev/zero", "--tls-key", pipe], 1, "more than 16777216 bytes"),
        (&["--listen", "0.0.0.0:0"], 2, "--tls-cert"),
        (&["--listen", "0.0.0.0:0", "--public-url", "http://example.org"], 2, "--public-url https://"),
        (&["--public-url", "http://x.example"], 2, "--public-url http://x.example has no TLS"),
        (&["--public-url", "http://user:secret@x.example/p"], 2, "http://x.example has no TLS"),
        (&["--listen", "localhost:1"], 2, "host names are not looked up"),
        (&["--tls-cert", "x"], 2, "--tls-key"),
        (&["--tls-cert", "x", "--tls-key", "y"], 1, "TLS file x"),
        (&["--tokens", "no-such-file"], 1, "no-such-file"),
        (&["--tokens", &empty], 1, "rendezvous token"),
        (&["--tokens", &wrong], 1, "third word"),
        (&["--store", "x"], 2, "--tokens"),
        (&["--limit", "stall"], 2, "NAME=VALUE"),
        (&["--limit", "stal=1"], 2, "queue_bytes"),
        (&["--public-url", "https://user:secret@x"], 2, "http://HOST"),
        (&["token", "--role", "king", "--environment", "x"], 2, "executor"),
        (&["token", "--role", "harness"], 2, "--environment"),
        (&["token", "--role", "harness", "--environment", "a b"], 2, "A-Z a-z 0-9"),
    ] {
        let (seen, stdout, stderr) = ended(arguments).await;
        assert_eq!(seen, Some(code), "{arguments:?}: {stderr}");
        assert!(
            stdout.is_empty() && stderr.contains(part) && !stderr.contains("secret"),
            "{arguments:?}: {stderr}"
        );
    }
}
