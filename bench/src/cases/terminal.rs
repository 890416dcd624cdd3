//! A keystroke on a terminal and its echo.

use anyhow::{Result, bail};

use super::Context;
use crate::client::{Connection, Message};
use crate::machine::{Relay, Terminal, timed};
use crate::report::{Bar, Row, median, percentile};

/// Fewer than a terminal's line takes (4,095), so that no Enter is needed in between.
const KEYS: usize = 100;
/// A delayed acknowledgement costs 40 ms.
const NO_DELAYED_ACK_MS: f64 = 20.0;

/// Keystroke to echo with `cat`, bare and through the server, in turn.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let server = context.server.start(&[])?;
    let mut connection = server.connect()?;
    let (mut served, mut bare, mut relayed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..context.pick(20, 5) {
        let mut terminal = Terminal::run("cat", &[])?;
        for _ in 0..KEYS {
            bare.push(terminal.keystroke()? * 1e6);
        }
        drop(terminal);
        let mut relay = Relay::run(Terminal::run("cat", &[])?)?;
        for _ in 0..KEYS {
            relayed.push(relay.keystroke()? * 1e6);
        }
        drop(relay);
        let process = format!("cat-{round}");
        connection.start(&process, &["cat"], true)?;
        for key in 0..KEYS {
            served.push(keystroke(&mut connection, &process, key)? * 1e6);
        }
        connection.call("process/terminate", &format!(r#"{{"processId":"{process}"}}"#))?;
    }
    let worst = percentile(&served, 0.99) / 1e3;
    Ok(vec![
        Row::new("keystroke to echo, p50", "us", median(&served), Bar::RatioAtMost(1.6))
            .against(median(&bare)),
        Row::new("keystroke to echo, p50, against a bare relay", "us", median(&served), Bar::None)
            .against(median(&relayed)),
        Row::new("keystroke to echo, p99", "ms", worst, Bar::AtMost(NO_DELAYED_ACK_MS))
            .against(percentile(&bare, 0.99) / 1e3),
    ])
}

fn keystroke(connection: &mut Connection, process: &str, key: usize) -> Result<f64> {
    let params = format!(r#"{{"processId":"{process}","chunk":"eA==","writeId":"{key}"}}"#);
    let mut answered = false;
    let (seconds, id) = timed(|| {
        let wanted = connection.send("process/write", &params)?;
        loop {
            match connection.receive()? {
                Message::Output { process: from, bytes } if from == process.as_bytes() && bytes > 0 => break,
                Message::Answer { ok: false, body, .. } => bail!("{}", String::from_utf8_lossy(body)),
                Message::Answer { id, .. } => answered |= id == wanted,
                _ => {}
            }
        }
        Ok(wanted)
    })?;
    if !answered {
        connection.answer(id)?;
    }
    Ok(seconds)
}
