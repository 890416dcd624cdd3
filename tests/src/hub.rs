//! `codex exec-server rendezvous` as people start it, and what it prints for others to paste.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::binary;
use crate::client::guarded;
use crate::secrets;

/// A running registry and rendezvous.
pub struct Hub {
    /// The line on stdout.
    pub url: String,
    child: Child,
    stderr: Arc<Mutex<String>>,
    grown: watch::Receiver<usize>,
}

impl Hub {
    /// Starts it; it has printed its lines then.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[]).await
    }

    /// The same with variables of its environment.
    pub async fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary::codex())
            .args(["exec-server", "rendezvous"])
            .args(arguments)
            .env("RUST_LOG", "codex_rendezvous=trace")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut url = String::new();
        guarded("the address", stdout.read_line(&mut url)).await.expect("stdout is readable");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (growing, grown) = watch::channel(0);
        let text = Arc::clone(&stderr);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut text = text.lock().expect("no panic holds it");
                text.push_str(&line);
                text.push('\n');
                growing.send_replace(text.len());
            }
        });
        let mut hub = Self { url: url.trim_end().to_owned(), child, stderr, grown };
        let last = if arguments.contains(&"--allow-plain") { "CODEX_EXEC_SERVER_URL" } else { "uname -a" };
        hub.line(last).await;
        hub
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an http address")
    }

    /// The first whole line on stderr that holds a text; waits for it.
    pub async fn line(&mut self, text: &str) -> String {
        let waiting = async {
            loop {
                let said = self.said();
                if let Some(line) = said.lines().find(|line| line.contains(text)) {
                    tokens(line).for_each(secrets::remember);
                    return line.trim().to_owned();
                }
                assert!(self.grown.changed().await.is_ok(), "the rendezvous ended without {text:?}: {said}");
            }
        };
        guarded(text, waiting).await
    }

    /// All of stderr so far.
    pub fn said(&self) -> String {
        self.stderr.lock().expect("no panic holds it").clone()
    }

    /// The operating system's id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Ends it by a signal and waits for its end.
    pub async fn end(&mut self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it runs");
        kill_process(pid, signal).expect("it can be signalled");
        guarded("the rendezvous's end", self.child.wait()).await.expect("it can be waited for");
    }
}

impl Drop for Hub {
    /// Nothing but the lines to paste has a secret.
    fn drop(&mut self) {
        let said = self.said();
        let rest: Vec<&str> = said.lines().filter(|line| tokens(line).next().is_none()).collect();
        if !std::thread::panicking() {
            secrets::assert_none("the rendezvous' stderr", rest.join("\n").as_bytes());
        }
    }
}

/// The tokens in a line to paste.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c == '=' || c == '\'' || c.is_whitespace()).filter(|word| word.starts_with("cxr_"))
}

/// The words of a printed line: variables, and the arguments after `codex`.
pub fn words(line: &str) -> (Vec<(String, String)>, Vec<String>) {
    let mut words = line.split_whitespace().map(|word| word.trim_matches('\'').to_owned());
    let mut variables = Vec::new();
    for word in words.by_ref() {
        match word.split_once('=') {
            Some((name, value)) => variables.push((name.to_owned(), value.trim_matches('\'').to_owned())),
            None => {
                assert_eq!(word, "codex", "{line}");
                break;
            }
        }
    }
    (variables, words.collect())
}
