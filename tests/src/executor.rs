//! Starts `codex exec-server --remote` and follows what it tells on stderr.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::client::guarded;
use crate::secrets::assert_none;
use crate::{binary, machine};

/// What to start.
pub struct ExecutorBuilder {
    command: Command,
    home: TempDir,
}

/// A running executor.
pub struct Executor {
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: Arc<Mutex<String>>,
    grown: watch::Receiver<usize>,
    home: TempDir,
}

/// How an executor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: Option<i32>,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl ExecutorBuilder {
    /// An executor of this registry, with an empty home and no credential.
    pub fn new(registry: &str) -> Self {
        Self::of(&["exec-server", "--remote", registry])
    }

    /// One that lends the server at `connect`.
    pub fn forward(registry: &str, connect: &str) -> Self {
        Self::of(&["exec-server", "forward", "--remote", registry, "--connect", connect])
    }

    fn of(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a home for the executor");
        let mut command = Command::new(binary::codex());
        command.args(arguments).env("CODEX_HOME", home.path());
        // Nothing of the machine's own sign-in, proxies or logs.
        for (name, _) in std::env::vars() {
            let upper = name.to_ascii_uppercase();
            if (upper.starts_with("CODEX_") && name != "CODEX_HOME")
                || upper.ends_with("_PROXY")
                || ["OPENAI_API_KEY", "RUST_LOG", "RUST_BACKTRACE"].contains(&name.as_str())
            {
                command.env_remove(&name);
            }
        }
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, home }
    }

    /// An executor as a printed line says, but at another address if one is given.
    pub fn of_line(line: &str, registry: Option<&str>) -> Self {
        let (variables, arguments) = crate::hub::words(line);
        let [server, remote, url, rest @ ..] = arguments.as_slice() else { panic!("{line}") };
        assert_eq!((server.as_str(), remote.as_str()), ("exec-server", "--remote"), "{line}");
        let executor = Self::new(registry.unwrap_or(url)).args(rest);
        variables.iter().fold(executor, |executor, (name, value)| executor.env(name, value))
    }

    /// Adds arguments.
    pub fn args<S: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Writes a file into its home.
    pub fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.home.path().join(name), content).expect("the home is writable");
        self
    }

    /// Gives it a stdin to write to.
    pub fn with_stdin(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Executor {
        let mut child = self.command.spawn().expect("the binary can be started");
        let stdin = child.stdin.take();
        let pipe = child.stderr.take().expect("stderr is piped");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (growing, grown) = watch::channel(0);
        let text = Arc::clone(&stderr);
        tokio::spawn(async move {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                let mut text = text.lock().expect("no panic holds it");
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
                growing.send_replace(text.len());
            }
        });
        Executor { child, stdin, stderr, grown, home: self.home }
    }

    /// Starts it and waits for it to end by itself.
    pub async fn outcome(self) -> Outcome {
        self.start().outcome().await
    }
}

impl Executor {
    /// Its home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its stdin.
    pub fn stdin(&mut self) -> &mut Option<ChildStdin> {
        &mut self.stdin
    }

    /// What it has told so far.
    pub fn told(&self) -> String {
        self.stderr.lock().expect("no panic holds it").clone()
    }

    /// Waits until stderr holds a text `times` times.
    pub async fn tells_times(&mut self, text: &str, times: usize) {
        let waiting = async {
            while self.told().matches(text).count() < times {
                if self.grown.changed().await.is_err() {
                    panic!("the executor ended without {text:?}; it told {:?}", self.told());
                }
            }
        };
        guarded(text, waiting).await;
    }

    /// Waits until stderr holds a text.
    pub async fn tells(&mut self, text: &str) {
        self.tells_times(text, 1).await;
    }

    /// The operating system's id of the process that serves.
    pub fn pid(&self) -> u32 {
        machine::server_below(self.child.id().expect("the executor runs"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, signal).expect("the executor can be signalled");
        }
    }

    /// Waits for its end.
    pub async fn outcome(mut self) -> Outcome {
        let told = self.told();
        let mut stdout = String::new();
        let mut pipe = self.child.stdout.take().expect("stdout is piped");
        let waiting = async {
            let status = self.child.wait().await.expect("the executor can be waited for");
            pipe.read_to_string(&mut stdout).await.expect("stdout is readable");
            while self.grown.changed().await.is_ok() {}
            status
        };
        let status = guarded(&format!("the executor's end (it told {told:?})"), waiting).await;
        assert_none("stdout", stdout.as_bytes());
        Outcome { code: status.code(), stdout, stderr: self.told() }
    }

    /// Ends it in the ordinary way.
    pub async fn stop(self) -> Outcome {
        self.signal(Signal::TERM);
        self.outcome().await
    }
}

impl Drop for Executor {
    /// Ends it in the ordinary way first, so that a failed test leaves no programs behind either. What it told holds no
    /// secret.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if !std::thread::panicking() {
            assert_none("the executor's stderr", self.told().as_bytes());
        }
    }
}
