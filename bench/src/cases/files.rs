//! Whole files, metadata in bulk, large directories.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::client::{Connection, Message};
use crate::machine::timed;
use crate::report::{Bar, Row, median};
use crate::server::ServerCommand;

const FILE_BYTES: usize = 16 << 20;
const NAMES: usize = 10_000;
const WINDOW: usize = 64;

/// 16 MiB `fs/readFile`, as the first request and later, `fs/getMetadata` with 64 in flight, `fs/readDirectory` of 10,000 names.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("large");
    std::fs::write(&file, vec![0x5a_u8; FILE_BYTES])?;
    let names = folder.path().join("names");
    std::fs::create_dir(&names)?;
    for index in 0..NAMES {
        std::fs::write(names.join(format!("file-{index}")), b"")?;
    }
    let server = context.server.start(&[])?;
    let mut connection = server.connect()?;
    let mut rows = read_first(context, &file)?;
    rows.extend([
        read_file(context, &mut connection, &file)?,
        metadata(context, &mut connection, &file)?,
        directory(context, &mut connection, &names)?,
    ]);
    Ok(rows)
}

fn params(connection: &Connection, path: &Path) -> Result<String> {
    let path = connection.path(path.to_str().context("a temporary path in UTF-8")?);
    Ok(format!(r#"{{"path":"{path}","sandbox":null}}"#))
}

fn read_file(context: &Context<'_>, connection: &mut Connection, file: &Path) -> Result<Row> {
    let params = params(connection, file)?;
    let (mut served, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..context.pick(20, 8) {
        bare.push(FILE_BYTES as f64 / 1e9 / timed(|| Ok(std::fs::read(file)?.len()))?.0);
        served.push(read_once(connection, &params)?);
    }
    Ok(Row::new("16 MiB fs/readFile", "GB/s", median(&served), Bar::AtLeast(1.0)).against(median(&bare)))
}

/// Reads the file through the server once, in GB/s.
fn read_once(connection: &mut Connection, params: &str) -> Result<f64> {
    let (seconds, size) = timed(|| {
        connection.send("fs/readFile", params)?;
        loop {
            match connection.receive()? {
                Message::Answer { ok: true, length, .. } => return Ok(length),
                Message::Answer { body, .. } => bail!("{}", String::from_utf8_lossy(body)),
                _ => {}
            }
        }
    })?;
    let encoded = FILE_BYTES.div_ceil(3) * 4;
    if size < encoded {
        bail!("{size} bytes came for a file of {encoded} in base64");
    }
    Ok(FILE_BYTES as f64 / 1e9 / seconds)
}

/// The first thing that a server is asked; against the floor, in turn.
fn read_first(context: &Context<'_>, file: &Path) -> Result<Vec<Row>> {
    let floor = ServerCommand::floor()?;
    let (mut speeds, mut memories) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..context.pick(15, 5) {
        for (at, command) in [context.server, &floor].into_iter().enumerate() {
            let server = command.start(&[])?;
            let mut connection = server.connect()?;
            let params = params(&connection, file)?;
            speeds[at].push(read_once(&mut connection, &params)?);
            memories[at].push(server.memory("VmHWM")? as f64 / f64::from(1 << 20));
        }
    }
    let speed = Row::new("16 MiB fs/readFile, first", "GB/s", median(&speeds[0]), Bar::RatioAtLeast(0.8));
    let memory = Row::new("16 MiB fs/readFile, peak memory", "MiB", median(&memories[0]), Bar::AtMost(16.0));
    Ok(vec![speed.against(median(&speeds[1])), memory.against(median(&memories[1]))])
}

fn metadata(context: &Context<'_>, connection: &mut Connection, file: &Path) -> Result<Row> {
    let params = params(connection, file)?;
    let count = context.pick(50_000, 20_000);
    let (mut served, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..context.pick(5, 3) {
        let (seconds, ()) = timed(|| {
            for _ in 0..count {
                std::fs::metadata(file)?;
            }
            Ok(())
        })?;
        bare.push(f64::from(count) / seconds);
        let (seconds, ()) = timed(|| pipelined(connection, "fs/getMetadata", &params, count as usize))?;
        served.push(f64::from(count) / seconds);
    }
    Ok(Row::new("fs/getMetadata, 64 in flight", "/s", median(&served), Bar::AtLeast(100_000.0))
        .against(median(&bare)))
}

/// Sends `count` requests, at most 64 unanswered, and refills in one write for all answers that came together.
fn pipelined(connection: &mut Connection, method: &str, params: &str, count: usize) -> Result<()> {
    let (mut sent, mut answered) = (0, 0);
    while answered < count {
        while sent < count && sent - answered < WINDOW {
            connection.queue(method, params);
            sent += 1;
        }
        connection.flush()?;
        loop {
            match connection.receive()? {
                Message::Answer { ok: true, .. } => answered += 1,
                Message::Answer { body, .. } => bail!("{}", String::from_utf8_lossy(body)),
                _ => {}
            }
            if !connection.has_message() {
                break;
            }
        }
    }
    Ok(())
}

fn directory(context: &Context<'_>, connection: &mut Connection, names: &Path) -> Result<Row> {
    let params = params(connection, names)?;
    let (mut served, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..context.pick(20, 8) {
        let (seconds, _) = timed(|| {
            let mut files = 0;
            for entry in std::fs::read_dir(names)? {
                files += usize::from(entry?.file_type()?.is_file());
            }
            Ok(files)
        })?;
        bare.push(seconds * 1e3);
        let (seconds, body) = timed(|| connection.call("fs/readDirectory", &params))?;
        let listed = body.windows(10).filter(|window| *window == b"\"fileName\"").count();
        if listed != NAMES {
            bail!("{listed} names came instead of {NAMES}");
        }
        served.push(seconds * 1e3);
    }
    Ok(Row::new("fs/readDirectory of 10,000, p50", "ms", median(&served), Bar::AtMost(15.0))
        .against(median(&bare)))
}
