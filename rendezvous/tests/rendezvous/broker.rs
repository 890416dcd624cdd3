//! A NATS server of the test's own, as Debian has it. The end-to-end tests use this file too.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// For waits that end in a failed test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running broker; it ends with the value.
pub struct Broker {
    child: Child,
    /// Where nodes find it.
    pub address: String,
    /// Where other brokers find it.
    pub route: String,
    _directory: TempDir,
}

impl Broker {
    /// Starts one on free ports; it takes connections then.
    pub async fn start() -> Self {
        Self::on("127.0.0.1:-1", "").await
    }

    /// Starts one that shares what it hears with another.
    #[allow(dead_code, reason = "not all who use this file need two")]
    pub async fn beside(other: &Self) -> Self {
        Self::on("127.0.0.1:-1", &other.route).await
    }

    async fn on(address: &str, route: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let routes = if route.is_empty() { String::new() } else { format!("\"nats://{route}\"") };
        let settings = directory.path().join("settings");
        let text = format!(
            "listen: \"{address}\"\nports_file_dir: {:?}\ncluster {{ name: test, listen: \"127.0.0.1:-1\", routes: [{routes}] }}\n",
            directory.path()
        );
        std::fs::write(&settings, text).unwrap();
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server can be started; Debian's package has that name");
        let ports = directory.path().join(format!("nats-server_{}.ports", child.id()));
        let deadline = Instant::now() + PATIENCE;
        let said = loop {
            assert!(Instant::now() < deadline, "the broker did not say where it listens");
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            if let Ok(said) = serde_json::from_str::<serde_json::Value>(&text) {
                break said;
            }
            sleep(Duration::from_millis(10)).await;
        };
        let of = |kind: &str| {
            let url = said[kind][0].as_str().unwrap_or_default();
            url.split_once("://").map_or(url, |(_, address)| address).to_owned()
        };
        Self { child, address: of("nats"), route: of("cluster"), _directory: directory }
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

    /// Starts it anew at the same address.
    #[allow(dead_code, reason = "not all who use this file need it")]
    pub async fn again(self) -> Self {
        Self::on(&self.address, "").await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
