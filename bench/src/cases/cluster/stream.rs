//! A `run` whose program prints numbered lines, and what was lost, doubled or late of them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::remote::run_on;
use crate::server::{ServerCommand, wait};

/// How long the last lines may take once the programs were told to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of the thread that reads a stream.
const STACK: usize = 128 << 10;

/// Prints 1, 2, 3 …, one line each `period`, until there is a file at `stop`; then how many there were.
pub fn print_lines(stop: &Path, period: Duration) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut count = 0_u64;
    while !stop.exists() {
        count += 1;
        writeln!(out, "{count}")?;
        out.flush()?;
        std::thread::sleep(period);
    }
    writeln!(out, "end {count}")?;
    Ok(())
}

/// A stream of lines.
pub(super) struct Stream {
    child: Child,
    reader: JoinHandle<Count>,
    seen: Arc<Mutex<Seen>>,
}

/// When lines came.
struct Seen {
    lines: u64,
    last: Instant,
    /// The longest gap since somebody asked.
    gap: Duration,
}

/// What came of a stream's lines.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Count {
    pub(super) lines: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    /// Streams that ended before their program did.
    pub(super) broken: u64,
}

impl Count {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            reordered: self.reordered + other.reordered,
            broken: self.broken + other.broken,
        }
    }
}

impl Stream {
    /// Starts the program in an environment.
    pub(super) fn start(
        server: &ServerCommand,
        url: &str,
        environment: &str,
        token: &str,
        stop: &Path,
        period: Duration,
    ) -> Result<Self> {
        let own = std::env::current_exe()?.display().to_string();
        let (stop, period) = (stop.display().to_string(), period.as_millis().to_string());
        let program = [own.as_str(), "--print-lines", &stop, "--period", &period];
        let mut child = run_on(server, url, environment, token, &[], &program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().context("stdout")?;
        let seen = Arc::new(Mutex::new(Seen { lines: 0, last: Instant::now(), gap: Duration::ZERO }));
        let shared = Arc::clone(&seen);
        let reader = std::thread::Builder::new().stack_size(STACK).spawn(move || follow(stdout, &shared))?;
        Ok(Self { child, reader, seen })
    }

    /// How many lines have come.
    pub(super) fn lines(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).lines
    }

    /// Whether its output has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.reader.is_finished()
    }

    /// The longest time without a line since this was last asked.
    pub(super) fn take_gap(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = seen.gap.max(seen.last.elapsed());
        seen.gap = Duration::ZERO;
        gap
    }

    /// Waits for the end, once the programs were told to.
    pub(super) fn finish(mut self) -> Count {
        let ended = wait(&mut self.child, PATIENCE).is_some_and(|status| status.success());
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.reader.join().unwrap_or(Count { broken: 1, ..Count::default() })
    }
}

fn follow(stdout: impl std::io::Read, seen: &Mutex<Seen>) -> Count {
    let (mut count, mut last, mut is_whole) = (Count::default(), 0, false);
    let mut missing = BTreeSet::new();
    for line in BufReader::with_capacity(1 << 10, stdout).lines() {
        let Ok(line) = line else { break };
        if let Some(end) = line.strip_prefix("end ") {
            is_whole = true;
            missing.extend(last + 1..=end.parse().unwrap_or(last));
            continue;
        }
        let Ok(number) = line.parse::<u64>() else { break };
        if number > last {
            missing.extend(last + 1..number);
            last = number;
        } else if missing.remove(&number) {
            count.reordered += 1;
        } else {
            count.doubled += 1;
        }
        count.lines += 1;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.gap = seen.gap.max(seen.last.elapsed());
        (seen.lines, seen.last) = (count.lines, Instant::now());
    }
    count.lost = missing.len() as u64;
    count.broken = u64::from(!is_whole);
    count
}
