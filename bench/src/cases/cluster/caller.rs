//! Agents that ask for the way to environments all the time, and for how long they are refused.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Between two questions of one caller.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Callers at work.
pub(super) struct Callers {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Refused>>,
}

/// What callers met.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Refused {
    /// The longest time for which one environment was refused.
    pub(super) longest: Duration,
    pub(super) asked: u64,
    pub(super) refused: u64,
}

impl Callers {
    /// Starts so many; each asks for environments of its own.
    pub(super) fn start(count: usize, registry: SocketAddr, environments: usize, token: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|caller| {
            let (over, token) = (Arc::clone(&over), token.to_owned());
            let mine: Vec<String> = (caller..environments).step_by(count).map(super::name).collect();
            std::thread::spawn(move || ask_around(registry, &mine, &token, &over))
        });
        let threads = threads.collect();
        Self { over, threads }
    }

    /// Ends them; what all of them met.
    pub(super) fn finish(self) -> Refused {
        self.over.store(true, Ordering::Relaxed);
        let met = self.threads.into_iter().filter_map(|thread| thread.join().ok());
        met.fold(Refused::default(), |sum, met| Refused {
            longest: sum.longest.max(met.longest),
            asked: sum.asked + met.asked,
            refused: sum.refused + met.refused,
        })
    }
}

fn ask_around(registry: SocketAddr, mine: &[String], token: &str, over: &AtomicBool) -> Refused {
    let mut met = Refused::default();
    for environment in mine.iter().cycle() {
        let since = Instant::now();
        loop {
            if over.load(Ordering::Relaxed) {
                return met;
            }
            met.asked += 1;
            if ask(registry, environment, token).unwrap_or(0) == 200 {
                break;
            }
            met.refused += 1;
            met.longest = met.longest.max(since.elapsed());
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(PAUSE);
    }
    met
}

/// The status of a connect.
fn ask(registry: SocketAddr, environment: &str, token: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(registry)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = format!("{{\"harness_public_key\":{}}}", super::key(9));
    let head = format!(
        "POST /cloud/environment/{environment}/connect HTTP/1.1\r\nhost: {registry}\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("a status")?;
    Ok(status.parse()?)
}
