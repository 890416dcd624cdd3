//! Runs the login commands in a home directory of their own. Whatever they print or log is searched for secrets.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::client::guarded;
use crate::secrets;

/// A home directory for one test, and the environment that goes with it.
pub struct Home {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty home directory and an environment with nothing in it.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = std::env::var("PATH").expect("a PATH");
        let mut home = Self { dir, env: Vec::new() };
        std::fs::create_dir(home.path()).expect("a new directory");
        let text = |path: PathBuf| path.to_str().expect("a path in UTF-8").to_owned();
        for (name, value) in [
            ("PATH", path),
            ("HOME", text(home.dir.path().to_owned())),
            ("CODEX_HOME", text(home.path())),
            // Nothing may ever open a browser on the machine of a test.
            ("BROWSER", "true".to_owned()),
            ("TERM", "xterm".to_owned()),
            // What the login commands print is an interface, and their log holds no secret, whatever is asked for.
            ("RUST_LOG", "trace".to_owned()),
        ] {
            home.set(name, value);
        }
        home
    }

    /// The home directory.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(".codex")
    }

    /// A place beside it for other files of the test.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets a variable for every run; an empty value removes it.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.retain(|(known, _)| known != name);
        let value = value.into();
        if !value.is_empty() {
            self.env.push((name.to_owned(), value));
        }
    }

    /// Writes a file of the home directory.
    pub fn write(&self, name: &str, text: impl ToString) {
        std::fs::write(self.path().join(name), text.to_string()).expect("a file can be written");
    }

    /// `auth.json`, if there is one.
    pub fn auth(&self) -> Option<Value> {
        let text = std::fs::read(self.path().join("auth.json")).ok()?;
        Some(serde_json::from_slice(&text).expect("auth.json is JSON"))
    }

    /// The log of the login commands; empty when there is none.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log/codex-login.log")).unwrap_or_default()
    }

    /// Runs `codex ARGUMENTS` to its end, with this standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut running = self.spawn(arguments, Stdio::piped());
        let mut stdin = running.child.stdin.take().expect("a piped stdin");
        // A command that refuses early reads nothing.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        running.end().await
    }

    /// Runs `codex ARGUMENTS` to its end, without input.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end().await
    }

    /// Starts `codex ARGUMENTS`, without input.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.spawn(arguments, Stdio::null())
    }

    /// Gives a command this environment and no other.
    pub fn dress(&self, command: &mut Command) {
        command
            .env_clear()
            .envs(crate::clock())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path());
    }

    /// Starts `codex ARGUMENTS` with this standard input.
    pub fn spawn(&self, arguments: &[&str], stdin: impl Into<Stdio>) -> Running {
        // Started in the background by a script, tests ignore Ctrl-C, and so would what they start.
        let mut command = Command::new("/usr/bin/env");
        command.arg("--default-signal=INT").arg(crate::binary::codex()).args(arguments);
        self.dress(&mut command);
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("codex starts");
        let printed = Arc::new(Printed::default());
        let mut stdout = child.stdout.take().expect("a piped stdout");
        let stderr = child.stderr.take().expect("a piped stderr");
        let readers = [
            tokio::spawn({
                let printed = Arc::clone(&printed);
                async move {
                    let mut buffer = Vec::new();
                    while stdout.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
                        printed.add(|text| &mut text.0, &buffer);
                        buffer.clear();
                    }
                }
            }),
            tokio::spawn({
                let printed = Arc::clone(&printed);
                async move {
                    let mut lines = BufReader::new(stderr);
                    let mut line = Vec::new();
                    while lines.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
                        printed.add(|text| &mut text.1, &line);
                        line.clear();
                    }
                }
            }),
        ];
        Running { child, readers, printed, log: self.path().join("log/codex-login.log") }
    }
}

#[derive(Default)]
struct Printed {
    /// stdout and stderr.
    text: Mutex<(String, String)>,
    news: Notify,
}

impl Printed {
    fn add(&self, stream: impl FnOnce(&mut (String, String)) -> &mut String, bytes: &[u8]) {
        stream(&mut self.text.lock().expect("no panic holds it")).push_str(&String::from_utf8_lossy(bytes));
        self.news.notify_waiters();
    }

    fn get(&self) -> (String, String) {
        self.text.lock().expect("no panic holds it").clone()
    }

    async fn wait_for<T>(&self, what: &str, find: impl Fn(&str, &str) -> Option<T>) -> T {
        guarded(what, async {
            loop {
                let news = self.news.notified();
                let (stdout, stderr) = self.get();
                if let Some(found) = find(&stdout, &stderr) {
                    return found;
                }
                news.await;
            }
        })
        .await
    }
}

/// A command that runs; dropping it kills it.
pub struct Running {
    child: Child,
    readers: [JoinHandle<()>; 2],
    printed: Arc<Printed>,
    log: PathBuf,
}

impl Running {
    /// Waits until `find` finds something in stdout and stderr.
    pub async fn wait_for<T>(&self, what: &str, find: impl Fn(&str, &str) -> Option<T>) -> T {
        self.printed.wait_for(what, find).await
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)).expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it can be signalled");
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Ended {
        let status = guarded("the end of codex", self.child.wait()).await.expect("codex can be waited for");
        for reader in self.readers {
            guarded("the end of the output", reader).await.expect("readers don't panic");
        }
        let (stdout, stderr) = self.printed.get();
        secrets::assert_none("stdout", stdout.as_bytes());
        secrets::assert_none("stderr", stderr.as_bytes());
        // A test may put something else there, which can't be read.
        if self.log.is_file() {
            secrets::assert_none("the log", &std::fs::read(&self.log).unwrap_or_default());
        }
        Ended { status, stdout, stderr }
    }
}

/// How a command ended, and all that it printed: known to hold no secret.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Ended {
    /// Fails the test unless it ended with this code, having printed exactly these lines to stderr and nothing to
    /// stdout.
    #[track_caller]
    pub fn assert(&self, code: i32, stderr: &[&str]) {
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!((self.status.code(), lines.as_slice()), (Some(code), stderr), "{self:?}");
        assert_eq!(self.stdout, "");
    }
}
