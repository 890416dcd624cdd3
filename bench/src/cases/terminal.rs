//! A keystroke on a terminal and its echo.

use anyhow::{Result, bail};

use super::Context;
use crate::client::{Connection, Message};
use crate::machine::{Relay, Terminal, timed};
use crate::report::{Bar, Row, median, percentile};

/// Fewer than a terminal's line takes (4,095), so that no Enter is needed in between.
const KEYS: usize = 100;
/// A program that echoes by itself, as shells with line editing and full-screen programs do; it says when it is ready.
const OWN_ECHO: &[&str] = &["sh", "-c", "stty raw -echo; printf r; exec cat"];
/// A delayed acknowledgement costs 40 ms.
const NO_DELAYED_ACK_MS: f64 = 20.0;

/// Keystroke to echo, by the kernel and by a program.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let mut rows = kernels_echo(context)?;
    rows.push(programs_echo(context)?);
    Ok(rows)
}

/// Keystroke to the echo of a program, bare and through the server, in turn.
fn programs_echo(context: &Context<'_>) -> Result<Row> {
    let server = context.server.start(&[])?;
    let mut connection = server.connect()?;
    let (mut served, mut bare) = (Vec::new(), Vec::new());
    for round in 0..context.pick(20, 5) {
        let mut terminal = Terminal::run(OWN_ECHO[0], &OWN_ECHO[1..])?;
        terminal.await_output()?;
        for _ in 0..KEYS {
            bare.push(terminal.keystroke()? * 1e6);
        }
        drop(terminal);
        let process = format!("own-{round}");
        connection.start(&process, OWN_ECHO, true)?;
        while !matches!(connection.receive()?, Message::Output { bytes: 1.., .. }) {}
        for key in 0..KEYS {
            served.push(keystroke(&mut connection, &process, key)? * 1e6);
        }
        connection.call("process/terminate", &format!(r#"{{"processId":"{process}"}}"#))?;
    }
    let row = Row::new("keystroke to a program's own echo, p50", "us", median(&served), Bar::None);
    Ok(row.against(median(&bare)))
}

/// Keystroke to echo with `cat`, bare and through the server, in turn.
fn kernels_echo(context: &Context<'_>) -> Result<Vec<Row>> {
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

/// Seconds from a keystroke to its echo.
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
