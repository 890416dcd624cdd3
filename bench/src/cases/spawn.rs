//! Short programs, one after the other and many at once.

use anyhow::{Result, bail};

use super::Context;
use crate::client::{Connection, Message};
use crate::machine::{self, timed};
use crate::report::{Bar, Row, median, percentile};

const WINDOW: usize = 64;
/// Ended processes keep their place in a session's table for a while, so each block gets a session of its own.
const BLOCK: usize = 500;

/// `process/start` of `/bin/true` to `closed`: p50 alone, and how many a second with 64 in flight.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let server = context.server.start(&[])?;
    let mut rows = one_by_one(context, &mut server.connect()?)?;
    let (mut served, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..context.pick(7, 3) {
        bare.push(machine::spawns_per_second(BLOCK, WINDOW)?);
        served.push(in_flight(&mut server.connect()?)?);
    }
    rows.push(
        Row::new("/bin/true, 64 in flight", "/s", median(&served), Bar::RatioAtLeast(0.8))
            .against(median(&bare)),
    );
    Ok(rows)
}

fn one_by_one(context: &Context<'_>, connection: &mut Connection) -> Result<Vec<Row>> {
    let (mut served, mut bare) = (Vec::new(), Vec::new());
    for index in 0..context.pick(500, 100) {
        bare.push(machine::spawn_and_wait()? * 1e3);
        let process = format!("one-{index}");
        let params = connection
            .start_params(&process, &["/bin/true"], false)
            .replace("\"pipeStdin\":true", "\"pipeStdin\":false");
        let (seconds, _) = timed(|| {
            connection.send("process/start", &params)?;
            connection.drain(&process)
        })?;
        served.push(seconds * 1e3);
    }
    Ok(vec![
        Row::new("/bin/true start to closed, p50", "ms", median(&served), Bar::RatioAtMost(1.25))
            .against(median(&bare)),
        Row::new("/bin/true start to closed, p99", "ms", percentile(&served, 0.99), Bar::AtMost(30.0))
            .against(percentile(&bare, 0.99)),
    ])
}

/// Starts per second; a process is in flight until it is closed.
fn in_flight(connection: &mut Connection) -> Result<f64> {
    let template = connection
        .start_params("NAME", &["/bin/true"], false)
        .replace("\"pipeStdin\":true", "\"pipeStdin\":false");
    let (seconds, ()) = timed(|| {
        let (mut started, mut closed) = (0, 0);
        while closed < BLOCK {
            while started < BLOCK && started - closed < WINDOW {
                connection.queue("process/start", &template.replace("NAME", &format!("many-{started}")));
                started += 1;
            }
            connection.flush()?;
            loop {
                match connection.receive()? {
                    Message::Closed { .. } => closed += 1,
                    Message::Answer { ok: false, body, .. } => bail!("{}", String::from_utf8_lossy(body)),
                    _ => {}
                }
                if !connection.has_message() {
                    break;
                }
            }
        }
        Ok(())
    })?;
    Ok(BLOCK as f64 / seconds)
}
