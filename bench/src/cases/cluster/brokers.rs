//! Two NATS servers in a network namespace of their own. Each node has a way there that can be cut without touching the others'.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Ways, and so nodes at once.
pub(super) const WAYS: usize = 6;
/// How long a broker may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// The brokers and the ways to them. Dropping it ends all.
pub(super) struct Brokers {
    namespace: String,
    prefix: String,
    directory: PathBuf,
    running: [Option<Child>; 2],
}

impl Brokers {
    /// Makes the namespace and starts both.
    ///
    /// # Errors
    /// Without the rights to make a namespace, or without `ip` or `nats-server`.
    pub(super) fn start(directory: PathBuf) -> Result<Self> {
        let id = std::process::id();
        let (namespace, prefix) = (format!("codex-bench-{id}"), format!("cb{}", id % 10_000));
        let mut this = Self { namespace, prefix, directory, running: [None, None] };
        let namespace = this.namespace.clone();
        ip(&["netns", "add", &namespace])
            .context("a case with a network namespace needs root and iproute2")?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        for way in 0..WAYS {
            let (near, far) = (this.near(way), format!("{}f{way}", this.prefix));
            ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &namespace])?;
            ip(&["address", "add", &format!("10.84.{way}.1/30"), "dev", &near])?;
            ip(&["link", "set", &near, "up"])?;
            ip(&["-n", &namespace, "address", "add", &format!("{}/30", host(way)), "dev", &far])?;
            ip(&["-n", &namespace, "link", "set", &far, "up"])?;
        }
        (0..2).try_for_each(|broker| this.start_one(broker))?;
        Ok(this)
    }

    fn near(&self, way: usize) -> String {
        format!("{}n{way}", self.prefix)
    }

    /// What a node with this way is told.
    pub(super) fn urls(way: usize) -> String {
        format!("nats://{0}:4222,nats://{0}:4223", host(way))
    }

    /// Starts a broker; it takes connections then.
    pub(super) fn start_one(&mut self, broker: usize) -> Result<()> {
        let settings = self.directory.join(format!("broker-{broker}"));
        let (port, route, other) = (4222 + broker, 6222 + broker, 6223 - broker);
        // Nodes must not hear of ways that are not theirs.
        let text = format!(
            "listen: \"0.0.0.0:{port}\"\ncluster {{ name: bench, listen: \"127.0.0.1:{route}\", no_advertise: true, \
             routes: [\"nats://127.0.0.1:{other}\"] }}\n"
        );
        std::fs::write(&settings, text)?;
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "nats-server", "-c"])
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting nats-server")?;
        self.running[broker] = Some(child);
        let since = Instant::now();
        let address = format!("{}:{port}", host(0));
        while std::net::TcpStream::connect(&address).is_err() {
            if since.elapsed() > PATIENCE {
                bail!("the broker takes no connections at {address}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills a broker.
    pub(super) fn kill(&mut self, broker: usize) -> Result<()> {
        if let Some(mut child) = self.running[broker].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Cuts a way, or makes it whole.
    pub(super) fn set_way(&self, way: usize, whole: bool) -> Result<()> {
        ip(&["link", "set", &self.near(way), if whole { "up" } else { "down" }])
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for broker in 0..2 {
            let _ = self.kill(broker);
        }
        // Its ends of the ways go with it.
        let _ = ip(&["netns", "delete", &self.namespace]);
    }
}

fn host(way: usize) -> String {
    format!("10.84.{way}.2")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let ended = Command::new("ip").args(arguments).output().context("starting ip(8)")?;
    if !ended.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&ended.stderr).trim());
    }
    Ok(())
}
