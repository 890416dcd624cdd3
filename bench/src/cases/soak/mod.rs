//! Thousands of random cuts while programs print numbered lines through Noise: only on request, `--only soak`.
//!
//! Several environments share one rendezvous, each with an executor and a harness of its own. A cut hits the harness'
//! sockets, the executor's, both, or all of them at once: the registry is away for a moment, or the rendezvous is killed
//! or drained and started again on its store. Which, and after how many lines, the seed decides.

mod cutter;
mod lane;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::remote::{Rendezvous, token};
use crate::report::{Bar, Row};
use crate::server::ServerCommand;
use cutter::Cutter;
use lane::{Lane, Leavings};

/// Environments that run side by side: most of a cut is waiting.
const LANES: u64 = 6;
/// A cut comes after fewer new lines than this.
const LINES_BETWEEN: u64 = 20_000;
/// The registry is away for less than this.
const LONGEST_AWAY: u64 = 1500;
/// Between two lines about how it goes.
const PROGRESS: Duration = Duration::from_secs(5);
/// Descriptors that an executor may have opened for good by its second session: its runtime's own.
const SPARE_DESCRIPTORS: f64 = 8.0;

/// What happens to whom.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Harness,
    Executor,
    Both,
    RegistryAway(Duration),
    Killed,
    Drained,
}

/// xorshift: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn cut(&mut self) -> Cut {
        match self.below(100) {
            0..62 => Cut::Harness,
            62..86 => Cut::Executor,
            86..97 => Cut::Both,
            97 => Cut::RegistryAway(Duration::from_millis(self.below(LONGEST_AWAY))),
            98 => Cut::Killed,
            _ => Cut::Drained,
        }
    }
}

/// What all lanes share.
struct Soak<'a> {
    server: &'a ServerCommand,
    arguments: Vec<&'a str>,
    lanes: Vec<Lane>,
    /// Whoever cuts all lanes holds it.
    rendezvous: Mutex<Rendezvous>,
    cuts: u32,
    done: AtomicU32,
    failed: AtomicBool,
}

/// Cuts at random; a line that is lost, doubled or out of order is an error.
pub fn run_soak(context: &Context<'_>) -> Result<Vec<Row>> {
    let seed = context.seed;
    let cuts = context.cuts.unwrap_or(context.pick(10_000, 200));
    eprintln!("soak: {cuts} cuts, seed {seed:#x}");
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let (tokens, store, stop) = (path("tokens"), path("store"), path("stop"));
    let token = token(context.server, &tokens)?;
    let (tokens, store) = (tokens.display().to_string(), store.display().to_string());
    let arguments = vec!["--tokens", tokens.as_str(), "--store", store.as_str()];
    let rendezvous = Rendezvous::start(context.server, &arguments)?;
    let address = rendezvous.address()?;
    let lanes =
        (0..LANES).map(|lane| Lane::start(context.server, address, &format!("soak-{lane}"), &token, &stop));
    let soak = Soak {
        server: context.server,
        arguments,
        lanes: lanes.collect::<Result<Vec<_>>>()?,
        rendezvous: Mutex::new(rendezvous),
        cuts,
        done: AtomicU32::new(0),
        failed: AtomicBool::new(false),
    };
    // A first connection is not tried again, and is no resume.
    for lane in &soak.lanes {
        if !lane.await_lines(0)? {
            bail!("a lane ended before the first cut");
        }
    }
    let started = Instant::now();
    let (outcome, over) = (Mutex::new(Ok(())), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let cutters: Vec<_> = (0..soak.lanes.len())
            .map(|lane| {
                let (soak, outcome) = (&soak, &outcome);
                scope.spawn(move || {
                    if let Err(error) = soak.cut_lane(lane, seed) {
                        soak.failed.store(true, Ordering::Relaxed);
                        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Err(error);
                    }
                })
            })
            .collect();
        let (soak, over) = (&soak, &over);
        scope.spawn(move || soak.tell(started, over));
        for cutter in cutters {
            // A panic is told by the thread itself.
            let _ = cutter.join();
        }
        over.store(true, Ordering::Relaxed);
    });
    std::fs::write(&stop, "")?;
    let survived = f64::from(soak.done.load(Ordering::Relaxed).min(cuts));
    let Soak { lanes, rendezvous, .. } = soak;
    outcome
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .with_context(|| format!("seed {seed:#x}"))?;
    let left = lanes.into_iter().map(Lane::finish).collect::<Result<Vec<_>>>();
    let left = left.with_context(|| format!("seed {seed:#x}"))?;
    let streams = streams(&rendezvous.into_inner().unwrap_or_else(PoisonError::into_inner), &token)?;
    let sum = |of: fn(&Leavings) -> usize| left.iter().map(of).sum::<usize>() as f64;
    let most = left.iter().map(|left| left.descriptors).max().unwrap_or(0) as f64;
    let lines = left.iter().map(|left| left.lines).sum::<u64>() as f64;
    Ok(vec![
        Row::new("remote soak: cuts survived", "cuts", survived, Bar::AtLeast(f64::from(cuts))),
        Row::new("remote soak: lines, each once and in order", "lines", lines, Bar::None),
        Row::new("remote soak: programs left behind", "", sum(|left| left.programs), Bar::AtMost(0.0)),
        Row::new("remote soak: streams left behind", "", streams, Bar::AtMost(0.0)),
        Row::new("remote soak: descriptors more in an executor", "", most, Bar::AtMost(SPARE_DESCRIPTORS)),
        Row::new("remote soak: time", "s", started.elapsed().as_secs_f64(), Bar::None),
    ])
}

impl Soak<'_> {
    fn cut_lane(&self, number: usize, seed: u64) -> Result<()> {
        let lane = &self.lanes[number];
        // Never 0, from which xorshift does not come away.
        let mut dice = Dice((seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        while !self.failed.load(Ordering::Relaxed) && self.done.fetch_add(1, Ordering::Relaxed) < self.cuts {
            if !lane.await_lines(dice.below(LINES_BETWEEN))? {
                bail!("the output of lane {number} ended early");
            }
            match dice.cut() {
                Cut::Harness => lane.harnesses.cut(),
                Cut::Executor => lane.executors.cut(),
                Cut::Both => {
                    lane.executors.cut();
                    lane.harnesses.cut();
                }
                all => self.cut_all(all)?,
            }
        }
        Ok(())
    }

    fn cut_all(&self, cut: Cut) -> Result<()> {
        let mut rendezvous = self.rendezvous.lock().unwrap_or_else(PoisonError::into_inner);
        let cutters = || self.lanes.iter().flat_map(|lane| [&lane.executors, &lane.harnesses]);
        cutters().for_each(|cutter| cutter.point(None));
        match cut {
            Cut::RegistryAway(time) => {
                cutters().for_each(Cutter::cut);
                std::thread::sleep(time);
            }
            Cut::Drained => {
                rendezvous.running.stop();
                *rendezvous = Rendezvous::start(self.server, &self.arguments)?;
            }
            _ => {
                rendezvous.running.kill();
                *rendezvous = Rendezvous::start(self.server, &self.arguments)?;
            }
        }
        let address = rendezvous.address()?;
        cutters().for_each(|cutter| cutter.point(Some(address)));
        Ok(())
    }

    /// Says on stderr how it goes.
    fn tell(&self, started: Instant, over: &AtomicBool) {
        let mut told = Instant::now();
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                let lines: u64 = self.lanes.iter().map(Lane::lines).sum();
                let (done, cuts) = (self.done.load(Ordering::Relaxed).min(self.cuts), self.cuts);
                eprintln!("soak: {done} of {cuts} cuts, {lines} lines, {} s", started.elapsed().as_secs());
            }
        }
    }
}

/// How many streams the rendezvous still counts.
fn streams(rendezvous: &Rendezvous, token: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(rendezvous.address()?)?;
    let head = format!(
        "GET /metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let line = answer.lines().find(|line| !line.starts_with('#') && line.contains("_streams "));
    let line = line.with_context(|| format!("no streams in {answer}"))?;
    Ok(line.rsplit(' ').next().context("a number")?.trim().parse()?)
}
