//! Thousands of cuts while `run` prints numbered lines through Noise: only on request, `--only soak`.

use std::io::{BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::remote::{Rendezvous, executor, run};
use crate::report::{Bar, Row};

/// Without a line for this long, something hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// The schedule's seed.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A TCP proxy whose connections can be cut.
struct Cutter {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cutter {
    fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (target, open) = (Arc::new(Mutex::new(Some(target))), Arc::new(Mutex::new(Vec::new())));
        let (there, kept) = (Arc::clone(&target), Arc::clone(&open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let target = *there.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(Ok(far)) = target.map(TcpStream::connect) else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
                kept.extend([near, far]);
            }
        });
        Ok(Self { address, target, open })
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn point(&self, target: Option<SocketAddr>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }
}

/// Cuts at random; a line that is lost, doubled or out of order is an error.
pub fn run_soak(context: &Context<'_>) -> Result<Vec<Row>> {
    let cuts = context.pick(10_000, 200);
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (tokens, store, stop) = (path("tokens"), path("store"), path("stop"));
    let made = context
        .server
        .command(&["rendezvous", "token", "--role", "executor", "--role", "harness", "--environment", "*"])
        .stderr(Stdio::null())
        .output()?;
    let made = String::from_utf8(made.stdout)?;
    let (token, line) = made.trim().split_once('\n').context("a token and its line")?;
    std::fs::write(&tokens, line)?;
    let arguments = ["--tokens", &tokens, "--store", &store];
    let mut rendezvous = Rendezvous::start(context.server, &arguments)?;
    let executors = Cutter::start(rendezvous.address()?)?;
    let harnesses = Cutter::start(rendezvous.address()?)?;
    let executor = executor(context.server, &format!("http://{}", executors.address), token, &[])?;
    let text = format!(
        "i=0; while [ ! -e {stop} ]; do seq $((i+1)) $((i+5000)); i=$((i+5000)); sleep 0.01; done; echo end $i"
    );
    let url = format!("http://{}", harnesses.address);
    let mut harness =
        run(context.server, &url, token, &[], &["sh", "-c", &text]).stdout(Stdio::piped()).spawn()?;
    let (seen, broken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (lines, count, fault) =
        (harness.stdout.take().context("stdout")?, Arc::clone(&seen), Arc::clone(&broken));
    let reader = std::thread::spawn(move || -> Result<u64> {
        let result = follow(BufReader::new(lines), &count);
        fault.store(true, Ordering::Relaxed);
        result
    });
    let mut dice = SEED;
    for cut in 0..cuts {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let (until, since) = (seen.load(Ordering::Relaxed) + dice % 20_000, Instant::now());
        while seen.load(Ordering::Relaxed) <= until && !broken.load(Ordering::Relaxed) {
            if since.elapsed() > PATIENCE {
                bail!("no line came for {PATIENCE:?} after cut {cut} (seed {SEED:#x})");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if broken.load(Ordering::Relaxed) {
            break;
        }
        match dice / 20_000 % 100 {
            0..70 => harnesses.cut(),
            70..90 => executors.cut(),
            90..98 => {
                executors.cut();
                harnesses.cut();
            }
            _ => {
                executors.point(None);
                harnesses.point(None);
                rendezvous.running.kill();
                rendezvous = Rendezvous::start(context.server, &arguments)?;
                executors.point(Some(rendezvous.address()?));
                harnesses.point(Some(rendezvous.address()?));
            }
        }
    }
    std::fs::write(&stop, "")?;
    let lines = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    let status = harness.wait()?;
    let lines = lines.with_context(|| format!("seed {SEED:#x}"))?;
    if !status.success() {
        bail!("run ended with {status}");
    }
    let left = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", executor.pid()))?;
    let left = left.split_whitespace().count() as f64;
    Ok(vec![
        Row::new("remote soak: cuts survived", "cuts", f64::from(cuts), Bar::AtLeast(f64::from(cuts))),
        Row::new("remote soak: lines, each once and in order", "lines", lines as f64, Bar::None),
        Row::new("remote soak: programs left behind", "", left, Bar::AtMost(0.0)),
    ])
}

/// Reads 1, 2, 3 … and how many there were.
fn follow(lines: impl BufRead, seen: &AtomicU64) -> Result<u64> {
    let mut last = 0;
    for line in lines.lines() {
        let line = line?;
        match line.strip_prefix("end ") {
            Some(count) if count.parse() == Ok(last) => return Ok(last),
            None if line.parse() == Ok(last + 1) => last += 1,
            _ => bail!("{line:?} came after line {last}"),
        }
        seen.store(last, Ordering::Relaxed);
    }
    bail!("the output ended after line {last}")
}
