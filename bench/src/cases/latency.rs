//! What others notice of a long poll, and of a reader that does not read.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Context;
use crate::client::Connection;
use crate::machine::timed;
use crate::report::{Bar, Row, median, percentile};

const POLL_MS: u64 = 2000;
const STALL: Duration = Duration::from_secs(2);

/// Requests of several kinds while a `process/read` waits on the same connection, and without it.
pub fn long_poll(context: &Context<'_>) -> Result<Vec<Row>> {
    let server = context.server.start(&[])?;
    let mut connection = server.connect()?;
    connection.start("sleeper", &["sleep", "1000"], false)?;
    connection.start("cat", &["cat"], false)?;
    let path = connection.path("/");
    let mut requests: Vec<(&str, String)> = vec![
        ("fs/getMetadata", format!(r#"{{"path":"{path}","sandbox":null}}"#)),
        ("fs/readDirectory", format!(r#"{{"path":"{path}","sandbox":null}}"#)),
        ("process/read", r#"{"processId":"cat","afterSeq":null,"maxBytes":null,"waitMs":0}"#.into()),
        ("process/write", r#"{"processId":"cat","chunk":"","writeId":"0"}"#.into()),
        ("process/terminate", r#"{"processId":"nobody"}"#.into()),
        ("environment/status", "null".into()),
        ("process/list", "{}".into()),
    ];
    // Methods that this server has.
    requests.retain(|(method, params)| connection.call(method, params).is_ok());
    let mut slowest = Slowest::default();
    for _ in 0..context.pick(3, 1) {
        let quiet = every_kind(&mut connection, &requests)?;
        let since = Instant::now();
        let poll = connection.send(
            "process/read",
            &format!(r#"{{"processId":"sleeper","afterSeq":null,"maxBytes":null,"waitMs":{POLL_MS}}}"#),
        )?;
        let polled = every_kind(&mut connection, &requests)?;
        connection.answer(poll)?;
        if since.elapsed() < Duration::from_millis(POLL_MS - 100) {
            bail!("the long poll came back after {:?}", since.elapsed());
        }
        slowest.take(&quiet, &polled);
    }
    Ok(vec![
        Row::new(
            "request during a long poll, slowest kind's p50",
            "ms",
            median(&slowest.polled),
            Bar::AtMost(1.0),
        )
        .against(median(&slowest.quiet)),
        Row::new("request during a long poll, p99", "ms", percentile(&slowest.all, 0.99), Bar::None),
    ])
}

#[derive(Default)]
struct Slowest {
    quiet: Vec<f64>,
    polled: Vec<f64>,
    all: Vec<f64>,
}

impl Slowest {
    fn take(&mut self, quiet: &[Vec<f64>], polled: &[Vec<f64>]) {
        let slowest = |kinds: &[Vec<f64>]| kinds.iter().map(|kind| median(kind)).fold(0.0, f64::max);
        self.quiet.push(slowest(quiet));
        self.polled.push(slowest(polled));
        self.all.extend(polled.iter().flatten());
    }
}

/// Milliseconds of 50 requests of each kind.
fn every_kind(connection: &mut Connection, requests: &[(&str, String)]) -> Result<Vec<Vec<f64>>> {
    let mut kinds = vec![Vec::new(); requests.len()];
    for _ in 0..50 {
        for ((method, params), samples) in requests.iter().zip(&mut kinds) {
            samples.push(timed(|| connection.call(method, params))?.0 * 1e3);
        }
    }
    Ok(kinds)
}

/// One connection stops reading in the middle of a flood; another goes on; then the first reads everything.
pub fn stalled_reader(context: &Context<'_>) -> Result<Vec<Row>> {
    let server = context.server.start(&[])?;
    let size = context.pick(256_u64, 64) << 20;
    let (mut stalled, mut other) = (server.connect()?, server.connect()?);
    let probe = format!(r#"{{"path":"{}","sandbox":null}}"#, other.path("/"));
    let mut latency = |duration: Duration| -> Result<f64> {
        let since = Instant::now();
        let mut samples = Vec::new();
        while since.elapsed() < duration {
            samples.push(timed(|| other.call("fs/getMetadata", &probe))?.0 * 1e3);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(median(&samples))
    };
    let quiet = latency(STALL / 4)?;
    let before = server.memory("VmRSS")?;
    let params = stalled.start_params("flood", &["head", "-c", &size.to_string(), "/dev/zero"], false);
    stalled.send("process/start", &params)?;
    let harmed = latency(STALL)?;
    let growth = server.memory("VmRSS")?.saturating_sub(before) as f64 / f64::from(1 << 20);
    let delivered = stalled.drain("flood")?;
    Ok(vec![
        Row::new("stalled reader, growth of memory", "MiB", growth, Bar::AtMost(4.0)),
        Row::new(
            "stalled reader, bytes delivered afterwards",
            "bytes",
            delivered as f64,
            Bar::RatioAtLeast(1.0),
        )
        .against(size as f64),
        Row::new("stalled reader, another connection's p50", "ms", harmed, Bar::AtMost(1.0)).against(quiet),
    ])
}
