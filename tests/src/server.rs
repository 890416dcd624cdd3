//! Starts `codex exec-server` and ends it when dropped.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::client::TestClient;
use crate::secrets::{Printed, assert_none};
use crate::{GUARD, binary, machine};

/// What to start.
pub struct ServerBuilder {
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    directory: Option<PathBuf>,
    listen: Option<String>,
    bare: bool,
    under: Vec<String>,
    /// What it keeps of outputs, away from the user's own.
    state: TempDir,
}

/// A running server.
pub struct Server {
    /// The startup line without its end, as `ws://127.0.0.1:1234`; empty on stdio.
    pub url: String,
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    /// Searched for secrets when it is dropped, which is after the server's end.
    printed: Printed,
    _state: TempDir,
}

/// How a server ended that could not, or did not want to, start.
#[derive(Debug)]
pub struct Refused {
    /// Its exit code.
    pub code: Option<i32>,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl ServerBuilder {
    /// Adds arguments.
    pub fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets one bound of the server (a field of its `Limits`; durations in milliseconds).
    pub fn limit(self, name: &str, value: u64) -> Self {
        self.args(["--limit".to_string(), format!("{name}={value}")])
    }

    /// Has no keeper above it: killed, it is a server that died with nobody to start it again.
    pub fn alone(self) -> Self {
        self.args(["--no-keeper"])
    }

    /// Starts it through another program that execs its arguments, such as `env`.
    pub fn under<S: Into<String>>(mut self, program: impl IntoIterator<Item = S>) -> Self {
        self.under = program.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a variable of the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Starts from an empty environment.
    pub fn bare_environment(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Sets the server's working directory.
    pub fn cwd(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Listens elsewhere than on a free port of 127.0.0.1.
    pub fn listen(mut self, url: impl Into<String>) -> Self {
        self.listen = Some(url.into());
        self
    }

    /// Leaves `--listen` out altogether.
    pub fn without_listen(mut self) -> Self {
        self.listen = None;
        self
    }

    fn command(&self) -> Command {
        let mut command = match self.under.split_first() {
            None => Command::new(binary::codex()),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary::codex());
                command
            }
        };
        command.arg("exec-server");
        if let Some(listen) = &self.listen {
            command.arg("--listen").arg(listen);
        }
        command.args(&self.arguments);
        if self.bare {
            command.env_clear();
        } else {
            // All that it can tell has to be free of secrets.
            command.env("RUST_LOG", "trace").env("XDG_STATE_HOME", self.state.path());
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Starts it and waits for the startup line.
    pub async fn start(self) -> Server {
        let printed = Printed::new("the server's stderr");
        let mut child = self.command().stderr(printed.stdio()).spawn().expect("the binary can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        timeout(GUARD, stdout.read_line(&mut line))
            .await
            .expect("the server prints its address in time")
            .expect("stdout is readable");
        assert!(line.ends_with('\n'), "expected one whole startup line, got {line:?}");
        Server { url: line.trim_end().into(), child, stdout: Some(stdout), printed, _state: self.state }
    }

    /// Starts it on its own stdin and stdout (section 3).
    pub async fn stdio(self) -> (Server, TestClient) {
        let printed = Printed::new("the server's stderr");
        let this = self.listen("stdio");
        let mut child = this
            .command()
            .stdin(Stdio::piped())
            .stderr(printed.stdio())
            .spawn()
            .expect("the binary can be started");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let client = TestClient::over_lines(stdout, stdin);
        (Server { url: String::new(), child, stdout: None, printed, _state: this.state }, client)
    }

    /// Starts it and expects it to end by itself.
    pub async fn refused(self) -> Refused {
        let child = self.command().stderr(Stdio::piped()).spawn().expect("the binary can be started");
        let output = timeout(GUARD, child.wait_with_output())
            .await
            .expect("the server refuses to start instead of running")
            .expect("the server can be waited for");
        assert_none("stdout", &output.stdout);
        assert_none("stderr", &output.stderr);
        Refused {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into(),
            stderr: String::from_utf8_lossy(&output.stderr).into(),
        }
    }
}

impl Server {
    /// A server on a free port, to be adjusted before its start.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            arguments: Vec::new(),
            variables: Vec::new(),
            directory: None,
            listen: Some("ws://127.0.0.1:0".into()),
            bare: false,
            under: Vec::new(),
            state: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// A server on a free port.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Where it listens; panics for a Unix socket or stdio.
    pub fn address(&self) -> SocketAddr {
        let text = self.url.strip_prefix("ws://").unwrap_or(&self.url);
        text.parse().unwrap_or_else(|_| panic!("the startup line is no ws://IP:PORT: {:?}", self.url))
    }

    /// Connects without any handshake.
    pub async fn connect(&self) -> TestClient {
        TestClient::connect(&self.url).await
    }

    /// Connects and shakes hands.
    pub async fn client(&self) -> TestClient {
        let mut client = self.connect().await;
        client.handshake().await;
        client
    }

    /// All of stderr so far, with all that can be logged.
    pub fn told(&self) -> String {
        self.printed.text()
    }

    /// The operating system's id of the process that serves.
    pub fn pid(&self) -> u32 {
        machine::server_below(self.keeper_pid())
    }

    /// The operating system's id of the process that was started: the keeper, if there is one.
    pub fn keeper_pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// Sends a signal to the process that was started.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, signal).expect("the server can be signalled");
        }
    }

    /// Waits for its end, and checks that nothing but the startup line went to stdout.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = timeout(GUARD, self.child.wait())
            .await
            .expect("the server ends in time")
            .expect("the server can be waited for");
        if let Some(mut stdout) = self.stdout.take() {
            let mut rest = String::new();
            timeout(GUARD, stdout.read_to_string(&mut rest))
                .await
                .expect("nobody keeps the server's stdout open")
                .expect("stdout is readable");
            assert_eq!(rest, "", "nothing may follow the startup line on stdout");
        }
        status
    }

    /// Ends it in the ordinary way.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }
}

impl Drop for Server {
    /// Ends it in the ordinary way first, so that a failed test leaves no programs behind either.
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
