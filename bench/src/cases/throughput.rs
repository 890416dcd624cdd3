//! A flood of output through a pipe and through a terminal, and one of lines.

use anyhow::Result;

use super::Context;
use crate::machine::{check_total, pipe_throughput, terminal_throughput, timed};
use crate::report::{Bar, Row, median};
use crate::server::{Server, ServerCommand, cpu_seconds};

const MIB: u64 = 1 << 20;

struct Flood {
    served: f64,
    bare: f64,
    cpu_per_gb: f64,
    peak_memory: f64,
}

fn flood(context: &Context<'_>, size: u64, tty: bool, bare: fn(u64) -> Result<f64>) -> Result<Flood> {
    let server = context.server.start(&[])?;
    let mut connection = server.connect()?;
    let text = size.to_string();
    let (mut served, mut limits, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..context.pick(5, 3) {
        limits.push(bare(size)? / 1e9);
        let process = format!("flood-{round}");
        let params = connection.start_params(&process, &["head", "-c", &text, "/dev/zero"], tty);
        let before = server.cpu_seconds()?;
        let (seconds, total) = timed(|| {
            connection.send("process/start", &params)?;
            connection.drain(&process)
        })?;
        check_total(total, size)?;
        cpu.push((server.cpu_seconds()? - before) / (size as f64 / 1e9));
        served.push(size as f64 / 1e9 / seconds);
    }
    Ok(Flood {
        served: median(&served),
        bare: median(&limits),
        cpu_per_gb: median(&cpu),
        peak_memory: server.memory("VmHWM")? as f64 / MIB as f64,
    })
}

/// `head -c 1G /dev/zero` through a pipe.
pub fn pipe(context: &Context<'_>) -> Result<Vec<Row>> {
    let flood = flood(context, context.pick(1024, 256) * MIB, false, pipe_throughput)?;
    Ok(vec![
        Row::new("pipe output", "GB/s", flood.served, Bar::RatioAtLeast(0.45)).against(flood.bare),
        Row::new("pipe output, absolute", "GB/s", flood.served, Bar::AtLeast(1.0)),
        Row::new("pipe output, server CPU", "s/GB", flood.cpu_per_gb, Bar::AtMost(0.6)),
        pipe_cpu(context)?,
        Row::new("pipe output, peak memory (VmHWM)", "MiB", flood.peak_memory, Bar::AtMost(16.0)),
    ])
}

/// CPU time of the server for each GB through a pipe; against the floor, in turn.
fn pipe_cpu(context: &Context<'_>) -> Result<Row> {
    let size = context.pick(1024, 256) * MIB;
    let text = size.to_string();
    let argv = ["head", "-c", &text, "/dev/zero"];
    let (server, floor) = (context.server.start(&[])?, ServerCommand::floor()?.start(&[])?);
    let (mut served, mut bare) = (Cost::default(), Cost::default());
    for _ in 0..context.pick(7, 3) {
        served.add(&server, &argv, size, false)?;
        bare.add(&floor, &argv, size, false)?;
    }
    let cpu = median(&served.server_cpu);
    let row = Row::new("pipe output, server CPU against the floor", "s/GB", cpu, Bar::RatioAtMost(1.3));
    Ok(row.against(median(&bare.server_cpu)))
}

/// The same through a terminal, where the kernel is the limit.
pub fn pty(context: &Context<'_>) -> Result<Vec<Row>> {
    let flood = flood(context, context.pick(128, 32) * MIB, true, terminal_throughput)?;
    Ok(vec![
        Row::new("terminal output", "GB/s", flood.served, Bar::RatioAtLeast(0.8)).against(flood.bare),
        Row::new("terminal output, server CPU", "s/GB", flood.cpu_per_gb, Bar::AtMost(7.0)),
        Row::new("terminal output, peak memory (VmHWM)", "MiB", flood.peak_memory, Bar::AtMost(16.0)),
    ])
}

/// What a flood costs a server and its client.
#[derive(Default)]
struct Cost {
    server_cpu: Vec<f64>,
    client_cpu: Vec<f64>,
    bytes_a_message: Vec<f64>,
}

impl Cost {
    /// One round of `argv`, which prints at least `least` bytes.
    fn add(&mut self, server: &Server, argv: &[&str], least: u64, tty: bool) -> Result<()> {
        let mut connection = server.connect()?;
        let params = connection.start_params("lines", argv, tty);
        let (served, own) = (server.cpu_seconds()?, cpu_seconds(std::process::id())?);
        connection.send("process/start", &params)?;
        let (bytes, messages) = connection.drain_counted("lines")?;
        if bytes < least {
            anyhow::bail!("{bytes} bytes came instead of at least {least}");
        }
        let gigabytes = bytes as f64 / 1e9;
        self.server_cpu.push((server.cpu_seconds()? - served) / gigabytes);
        self.client_cpu.push((cpu_seconds(std::process::id())? - own) / gigabytes);
        self.bytes_a_message.push(bytes as f64 / messages as f64);
        Ok(())
    }
}

/// `seq` on a terminal, which a program floods line by line; against the floor, in turn.
pub fn lines(context: &Context<'_>) -> Result<Vec<Row>> {
    // Eight bytes a line on a terminal, and two for its end.
    let lines = context.pick(9_000_000_u64, 3_000_000);
    let text = lines.to_string();
    let argv = ["seq", "1000000", &text];
    let least = (lines - 1_000_000) * 9;
    let (server, floor) = (context.server.start(&[])?, ServerCommand::floor()?.start(&[])?);
    let (mut served, mut bare) = (Cost::default(), Cost::default());
    for _ in 0..context.pick(5, 3) {
        served.add(&server, &argv, least, true)?;
        bare.add(&floor, &argv, least, true)?;
    }
    Ok(vec![
        Row::new(
            "lines on a terminal, server CPU",
            "s/GB",
            median(&served.server_cpu),
            Bar::RatioAtMost(1.3),
        )
        .against(median(&bare.server_cpu)),
        Row::new(
            "lines on a terminal, client CPU",
            "s/GB",
            median(&served.client_cpu),
            Bar::RatioAtMost(1.3),
        )
        .against(median(&bare.client_cpu)),
        Row::new(
            "lines on a terminal, a notification",
            "B",
            median(&served.bytes_a_message),
            Bar::RatioAtLeast(1.0 / 1.3),
        )
        .against(median(&bare.bytes_a_message)),
    ])
}
