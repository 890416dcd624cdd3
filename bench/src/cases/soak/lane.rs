//! One environment under the soak: an executor, a `run` that prints numbered lines, and the cuts between them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::cutter::Cutter;
use crate::remote::{self, Running};
use crate::server::ServerCommand;

/// Without a line for this long, something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a lane's reader has seen.
#[derive(Default)]
pub(super) struct Seen {
    lines: AtomicU64,
    ended: AtomicBool,
}

/// The lane.
pub(super) struct Lane {
    environment: String,
    executor: Running,
    harness: Child,
    reader: JoinHandle<Result<u64>>,
    seen: Arc<Seen>,
    /// Between the executor and the rendezvous.
    pub(super) executors: Cutter,
    /// Between the harness and the rendezvous.
    pub(super) harnesses: Cutter,
    descriptors: usize,
}

/// What a lane left.
pub(super) struct Leavings {
    /// Lines that came, each once and in order.
    pub(super) lines: u64,
    /// Programs that live on.
    pub(super) programs: usize,
    /// Descriptors of the executor beyond those it had before the first cut.
    pub(super) descriptors: usize,
}

impl Lane {
    /// Starts all of it. The program goes on until there is a file `stop`.
    pub(super) fn start(
        server: &ServerCommand,
        rendezvous: SocketAddr,
        environment: &str,
        token: &str,
        stop: &Path,
    ) -> Result<Self> {
        let (executors, harnesses) = (Cutter::start(rendezvous)?, Cutter::start(rendezvous)?);
        let executor =
            remote::executor_of(server, &format!("http://{}", executors.address), environment, token, &[])?;
        let stop = stop.display();
        let text = format!(
            "i=0; while [ ! -e {stop} ]; do seq $((i+1)) $((i+5000)); i=$((i+5000)); sleep 0.01; done; echo end $i"
        );
        let url = format!("http://{}", harnesses.address);
        let mut harness = remote::run_on(server, &url, environment, token, &[], &["sh", "-c", &text])
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(harness.stdout.take().context("stdout")?);
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            let result = follow(lines, &shared.lines);
            shared.ended.store(true, Ordering::Relaxed);
            result
        });
        let environment = environment.to_owned();
        let descriptors = descriptors(executor.pid())?;
        Ok(Self { environment, executor, harness, reader, seen, executors, harnesses, descriptors })
    }

    /// How many lines have come.
    pub(super) fn lines(&self) -> u64 {
        self.seen.lines.load(Ordering::Relaxed)
    }

    /// Waits for this many more lines; false when the output ended instead.
    ///
    /// # Errors
    /// None comes at all.
    pub(super) fn await_lines(&self, more: u64) -> Result<bool> {
        let until = self.lines() + more;
        let (mut last, mut since) = (self.lines(), Instant::now());
        while self.lines() <= until {
            if self.seen.ended.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if self.lines() > last {
                (last, since) = (self.lines(), Instant::now());
            }
            if since.elapsed() > PATIENCE {
                let told = self.executor.told();
                bail!(
                    "{}: no line came for {PATIENCE:?} after line {last}; its executor told\n{told}",
                    self.environment
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }

    /// Waits for the program's end, once it was told to stop.
    ///
    /// # Errors
    /// A line was lost, doubled or out of order, or `run` failed.
    pub(super) fn finish(mut self) -> Result<Leavings> {
        let name = &self.environment;
        let lines = self.reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        let told = self.executor.told();
        let lines = lines.with_context(|| format!("{name}; its executor told\n{told}"))?;
        let status = self.harness.wait()?;
        if !status.success() {
            bail!("{name}: run ended with {status}");
        }
        let pid = self.executor.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let programs = children.split_whitespace().count();
        let descriptors = descriptors(pid)?.saturating_sub(self.descriptors);
        Ok(Leavings { lines, programs, descriptors })
    }
}

fn descriptors(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Reads 1, 2, 3 … and how many there were.
fn follow(lines: impl BufRead, seen: &AtomicU64) -> Result<u64> {
    let (mut last, mut is_whole) = (0, false);
    for line in lines.lines() {
        let line = line?;
        match line.strip_prefix("end ") {
            // To the very end: `run` minds a reader that goes before it.
            Some(count) if !is_whole && count.parse() == Ok(last) => is_whole = true,
            None if !is_whole && line.parse() == Ok(last + 1) => last += 1,
            _ => bail!("{line:?} came after line {last}"),
        }
        seen.store(last, Ordering::Relaxed);
    }
    if is_whole { Ok(last) } else { bail!("the output ended after line {last}") }
}
