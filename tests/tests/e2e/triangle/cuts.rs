//! Random cuts while programs print numbered lines: a harness that resumes sees each once, in order.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codex_e2e::client::guarded;
use codex_e2e::machine::{children, eventually};
use codex_e2e::{Cutter, Executor, ExecutorBuilder, Hub, Server};
use codex_exec_server::client::{Client, ClientOptions, Endpoint, ProcessEvent, RemoteProcess};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{environment, script};

/// Of each test here. `bench --only soak` makes thousands.
fn cuts() -> u64 {
    codex_e2e::rounds(12, 50)
}

/// A small generator: the same seed gives the same schedule.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A rendezvous with a store, and a proxy before each of its sides.
struct Stage {
    hub: Hub,
    arguments: Vec<String>,
    executors: Cutter,
    harnesses: Cutter,
    executor: Executor,
    harness_token: String,
    _directory: TempDir,
}

/// A token of this role, and its line for the file.
pub(super) async fn token(role: &str) -> (String, String) {
    let arguments = ["rendezvous", "token", "--role", role, "--environment", "my-machine"];
    let made = Server::builder().without_listen().args(arguments).refused().await;
    let mut lines = made.stdout.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.next().unwrap())
}

impl Stage {
    async fn start(plain: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (executor_token, executor_line) = token("executor").await;
        let (harness_token, harness_line) = token("harness").await;
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("tokens"), format!("{executor_line}\n{harness_line}\n")).unwrap();
        let mut arguments: Vec<String> =
            ["--tokens", &path("tokens"), "--store", &path("store")].map(str::to_owned).into();
        if plain {
            arguments.push("--allow-plain".to_owned());
        }
        let hub = hub(&arguments).await;
        let (executors, harnesses) = (Cutter::start(hub.address()).await, Cutter::start(hub.address()).await);
        let mut executor = ExecutorBuilder::new(&executors.url())
            .args(["--environment-id", "my-machine"])
            .env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", &executor_token);
        if plain {
            executor = executor.args(["--remote-contract", "environment"]);
        }
        let mut executor = executor.start();
        executor.tells("attached").await;
        Self { hub, arguments, executors, harnesses, executor, harness_token, _directory: directory }
    }

    fn endpoint(&self, plain: bool) -> Endpoint {
        if !plain {
            return environment(&self.harnesses.url(), &self.harness_token);
        }
        let url = self.harnesses.url().replacen("http", "ws", 1);
        let (path, token) = ("rendezvous?role=harness&environment=my-machine", &self.harness_token);
        Endpoint::WebSocket { url: format!("{url}/{path}&token={token}"), bearer: None }
    }

    fn point(&self, up: bool) {
        let target = up.then(|| self.hub.address());
        self.executors.point(target);
        self.harnesses.point(target);
    }

    /// One accident.
    async fn cut(&mut self, dice: &mut Dice) {
        match dice.roll(20) {
            0..10 => self.harnesses.cut(),
            10..15 => self.executors.cut(),
            15..17 => {
                self.executors.cut();
                self.harnesses.cut();
            }
            17 => {
                let signal = if dice.roll(2) == 0 { Signal::TERM } else { Signal::KILL };
                self.point(false);
                let next = hub_after(&mut self.hub, signal, &self.arguments).await;
                self.hub = next;
                self.point(true);
            }
            _ => {
                self.point(false);
                self.executors.cut();
                self.harnesses.cut();
                tokio::time::sleep(Duration::from_millis(dice.roll(400))).await;
                self.point(true);
            }
        }
    }
}

async fn hub(arguments: &[String]) -> Hub {
    Hub::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Ends a rendezvous, and starts the next one with its store.
async fn hub_after(old: &mut Hub, signal: Signal, arguments: &[String]) -> Hub {
    old.end(signal).await;
    hub(arguments).await
}

/// Prints `burst` numbers at a time, pauses, and says how many there were once a file is there.
pub(super) fn printer(
    id: &str,
    stop: &Path,
    burst: u64,
    pause: &str,
) -> codex_exec_server::protocol::process::StartParams {
    let text = format!(
        "i=0; while [ ! -e {} ]; do seq $((i+1)) $((i+{burst})); i=$((i+{burst})); sleep {pause}; done; echo end $i",
        stop.display()
    );
    script(id, &text, json!({}))
}

/// Reads the program's lines to its end; panics at the first that is not the next.
pub(super) async fn check(mut process: RemoteProcess, seen: Arc<AtomicU64>) -> u64 {
    let (mut rest, mut last) = (Vec::new(), 0_u64);
    let mut told = None;
    while let Some(event) = process.next().await {
        let ProcessEvent::Output { bytes, .. } = event else {
            assert!(
                matches!(event, ProcessEvent::Exited { code: 0, .. } | ProcessEvent::Closed),
                "{} after line {last}: {event:?}",
                process.id()
            );
            continue;
        };
        rest.extend(bytes);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = std::str::from_utf8(line).unwrap();
            match line.strip_prefix("end ") {
                Some(count) => told = Some(count.parse::<u64>().unwrap()),
                None => {
                    assert_eq!(line.parse(), Ok(last + 1), "{}", process.id());
                    last += 1;
                }
            }
        }
        rest.drain(..whole);
        seen.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!((told, rest.len()), (Some(last), 0), "{}", process.id());
    last
}

async fn survive(seed: u64, plain: bool, cuts: u64) {
    // Shown when the test fails.
    println!("seed {seed}, plain {plain}");
    let mut dice = Dice(seed);
    let mut stage = Stage::start(plain).await;
    let stop = stage.executor.home().join("stop");
    let client = Client::connect(stage.endpoint(plain), ClientOptions::default()).await.unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let mut checks = tokio::task::JoinSet::new();
    // The last prints more at once than an output log, and what all sockets hold.
    for (id, burst, pause) in [("few", 1, "0.01"), ("some", 700, "0.02"), ("many", 600_000, "0.5")] {
        let process = client.start(printer(id, &stop, burst, pause)).await.unwrap();
        checks.spawn(check(process, Arc::clone(&seen)));
    }
    for cut in 0..cuts {
        if dice.roll(4) == 0 {
            // Also into the middle of a resume.
            tokio::time::sleep(Duration::from_millis(dice.roll(300))).await;
        } else {
            let until = seen.load(Ordering::Relaxed) + 1 + dice.roll(40);
            let moved = eventually("output goes on", || seen.load(Ordering::Relaxed) >= until);
            tokio::select! {
                () = moved => {}
                Some(ended) = checks.join_next() => panic!("seed {seed}, cut {cut}: {ended:?}"),
            }
        }
        stage.cut(&mut dice).await;
    }
    std::fs::write(&stop, "").unwrap();
    while let Some(lines) = guarded("the programs' ends", checks.join_next()).await {
        assert!(lines.expect("no line is lost, doubled or reordered") > 0);
    }
    client.close().await;
    let pid = stage.executor.pid();
    eventually("no program is left", || children(pid).is_empty()).await;
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let idle = async {
        loop {
            let mut connection = TcpStream::connect(stage.hub.address()).await.unwrap();
            connection.write_all(request.as_bytes()).await.unwrap();
            let mut metrics = String::new();
            connection.read_to_string(&mut metrics).await.unwrap();
            let none = ["_harnesses 0", "_streams 0", "_queued_bytes 0"];
            if none.iter().all(|gauge| metrics.contains(gauge)) {
                return;
            }
            assert!(metrics.contains(" 200 "), "{metrics}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    guarded("an empty rendezvous", idle).await;
    assert_eq!(stage.executor.stop().await.code, Some(0));
}

#[tokio::test]
async fn cuts_of_a_noise_relay_lose_nothing() {
    survive(0x1234_5678_9abc_def1, false, cuts()).await;
}

#[tokio::test]
async fn other_cuts_of_a_noise_relay_lose_nothing() {
    survive(0x0fed_cba9_8765_4321, false, cuts()).await;
}

#[tokio::test]
async fn further_cuts_of_a_noise_relay_lose_nothing() {
    survive(0x2545_f491_4f6c_dd1d, false, cuts()).await;
}

#[tokio::test]
async fn cuts_of_a_plain_relay_lose_nothing() {
    survive(0x9e37_79b9_7f4a_7c15, true, cuts()).await;
}
