//! A flood of output through a pipe and through a terminal.

use anyhow::Result;

use super::Context;
use crate::machine::{check_total, pipe_throughput, terminal_throughput, timed};
use crate::report::{Bar, Row, median};

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
        Row::new("pipe output, peak memory (VmHWM)", "MiB", flood.peak_memory, Bar::AtMost(16.0)),
    ])
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
