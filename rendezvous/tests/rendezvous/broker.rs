//! A NATS server of the test's own, as Debian has it. The end-to-end tests use this file too.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStderr;
use tokio::time::timeout;

/// For waits that end in a failed test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running broker; it ends with the value.
pub struct Broker {
    child: Child,
    /// Where nodes find it.
    pub address: String,
    /// Where other brokers find it; empty for one that keeps things.
    pub route: String,
    keeps: bool,
    directory: Arc<TempDir>,
}

impl Broker {
    /// Starts one on free ports; it takes connections then.
    pub async fn start() -> Self {
        Self::on("127.0.0.1:-1", "", false, directory()).await
    }

    /// Starts one with JetStream.
    #[allow(dead_code, reason = "not all who use this file need it")]
    pub async fn that_keeps() -> Self {
        Self::on("127.0.0.1:-1", "", true, directory()).await
    }

    /// Starts one that shares what it hears with another.
    #[allow(dead_code, reason = "not all who use this file need two")]
    pub async fn beside(other: &Self) -> Self {
        Self::on("127.0.0.1:-1", &other.route, false, directory()).await
    }

    async fn on(address: &str, route: &str, keeps: bool, directory: Arc<TempDir>) -> Self {
        let settings = directory.path().join("settings");
        let routes = if route.is_empty() { String::new() } else { format!("\"nats://{route}\"") };
        let text = match keeps {
            // Among several servers JetStream wants three.
            true => format!("jetstream {{ store_dir: {:?} }}", directory.path()),
            false => format!("cluster {{ name: test, listen: \"127.0.0.1:-1\", routes: [{routes}] }}"),
        };
        std::fs::write(&settings, format!("listen: \"{address}\"\n{text}\n")).unwrap();
        let mut child = Command::new("nats-server")
            .arg("-c")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nats-server can be started; Debian's package has that name");
        let stderr = ChildStderr::from_std(child.stderr.take().unwrap()).unwrap();
        let said = timeout(PATIENCE, listening(stderr, !keeps)).await;
        let [address, route] = said.expect("the broker says where it listens");
        Self { child, address, route, keeps, directory }
    }

    /// As nodes are told.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew at the same address, with what it kept.
    #[allow(dead_code, reason = "not all who use this file need it")]
    pub async fn again(self) -> Self {
        Self::on(&self.address, "", self.keeps, Arc::clone(&self.directory)).await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

/// Where a broker listens for nodes and, if it has any, for other brokers, by its log, which is read to its end.
async fn listening(log: ChildStderr, has_routes: bool) -> [String; 2] {
    let mut lines = BufReader::new(log).lines();
    let mut found = [String::new(), String::new()];
    while found[0].is_empty() || (has_routes && found[1].is_empty()) {
        let line = lines.next_line().await.unwrap().expect("the broker ended");
        for (kind, address) in ["client", "route"].into_iter().zip(&mut found) {
            if let Some((_, said)) = line.split_once(&format!("Listening for {kind} connections on ")) {
                said.clone_into(address);
            }
        }
    }
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    found
}
