//! How soon a server answers, and what it weighs at rest.

use std::time::Instant;

use anyhow::Result;

use super::Context;
use crate::client::Connection;
use crate::machine::{self, timed};
use crate::report::{Bar, Row, median};

const MIB: f64 = 1024.0 * 1024.0;

/// Exec to the answer of `initialize`, resident memory at rest, size of the binary; SIGTERM to the end, with an idle connection.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let (mut answers, mut bare, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..context.pick(20, 5) {
        bare.push(machine::spawn_and_wait()? * 1e3);
        let since = Instant::now();
        let server = context.server.start(&[])?;
        let connection = Connection::initialized(&server.url)?;
        answers.push(since.elapsed().as_secs_f64() * 1e3);
        drop(connection);
        memory.push(server.memory("VmRSS")? as f64 / MIB);
    }
    let end = median(&ends(context)?);
    let binary = std::fs::metadata(&context.server.words[0]).map_or(f64::NAN, |file| file.len() as f64 / MIB);
    Ok(vec![
        Row::new("exec to first initialize answer, p50", "ms", median(&answers), Bar::AtMost(4.0))
            .against(median(&bare)),
        Row::new("idle memory (VmRSS)", "MiB", median(&memory), Bar::AtMost(8.0)),
        Row::new("size of the binary", "MiB", binary, Bar::AtMost(16.0)),
        Row::new("SIGTERM to the end, with a connection, p50", "ms", end, Bar::AtMost(20.0)),
    ])
}

/// Milliseconds from SIGTERM to the end of a server whose one connection is idle and stays.
fn ends(context: &Context<'_>) -> Result<Vec<f64>> {
    let mut ends = Vec::new();
    for _ in 0..context.pick(20, 5) {
        let mut server = context.server.start(&[])?;
        let _idle = Connection::initialized(&server.url)?;
        ends.push(timed(|| server.end())?.0 * 1e3);
    }
    Ok(ends)
}
