//! What sessions and processes cost in memory.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Context;
use crate::report::{Bar, Row};
use crate::server::Server;

/// A short life of ended processes, so that eviction can be awaited; a flag of ours only.
const EVICT_SOON: [&str; 2] = ["--limit", "ended_process_time=100"];

/// KiB for a session with an idle process, and bytes that stay of a finished one, before it is forgotten and after.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let mut rows = vec![idle_sessions(context)?];
    if context.server.ours {
        rows.push(finished_processes(context)?);
        rows.push(remembered_processes(context)?);
    }
    Ok(rows)
}

/// Waits until memory stops changing: at most three seconds.
fn settled(server: &Server) -> Result<u64> {
    let since = Instant::now();
    let mut last = server.memory("VmRSS")?;
    loop {
        std::thread::sleep(Duration::from_millis(250));
        let now = server.memory("VmRSS")?;
        if now == last || since.elapsed() > Duration::from_secs(3) {
            return Ok(now);
        }
        last = now;
    }
}

fn idle_sessions(context: &Context<'_>) -> Result<Row> {
    let server = context.server.start(&[])?;
    let count = context.pick(500, 150);
    let mut first = server.connect()?;
    first.start("sleeper", &["sleep", "1000"], false)?;
    let before = settled(&server)?;
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = server.connect()?;
        connection.start("sleeper", &["sleep", "1000"], false)?;
        connections.push(connection);
    }
    let growth = settled(&server)?.saturating_sub(before) as f64 / 1024.0 / f64::from(count);
    Ok(Row::new("session with an idle process", "KiB", growth, Bar::AtMost(24.0)))
}

fn finished_processes(context: &Context<'_>) -> Result<Row> {
    let server = context.server.start(&EVICT_SOON)?;
    let mut connection = server.connect()?;
    let mut run = |count: usize| -> Result<u64> {
        for index in 0..count {
            let process = format!("{count}-{index}");
            let params = connection.start_params(&process, &["head", "-c", "4096", "/dev/zero"], false);
            connection.send("process/start", &params)?;
            connection.drain(&process)?;
        }
        std::thread::sleep(Duration::from_millis(500));
        settled(&server)
    };
    let count = context.pick(2000, 500);
    let before = run(200)?;
    let growth = run(count)?.saturating_sub(before) as f64 / count as f64;
    Ok(Row::new("finished process, after eviction", "bytes", growth, Bar::AtMost(256.0)))
}

/// What can still be asked about finished processes.
fn remembered_processes(context: &Context<'_>) -> Result<Row> {
    const EACH: usize = 900;
    let server = context.server.start(&[])?;
    let mut connections = Vec::new();
    let mut run = || -> Result<u64> {
        let mut connection = server.connect()?;
        for index in 0..EACH {
            let process = format!("process-{index}");
            let params = connection.start_params(&process, &["/bin/true"], false);
            connection.send("process/start", &params)?;
            connection.drain(&process)?;
        }
        connections.push(connection);
        settled(&server)
    };
    let before = run()?;
    let rounds = context.pick(4, 2);
    let mut after = before;
    for _ in 0..rounds {
        after = run()?;
    }
    let growth = after.saturating_sub(before) as f64 / (rounds * EACH) as f64;
    Ok(Row::new("finished process, until it is forgotten", "bytes", growth, Bar::AtMost(1024.0)))
}
