//! What a machine costs that is reached through a rendezvous.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::machine::{check_total, timed};
use crate::remote::{
    Bare, Rendezvous, Running, executor, executor_of, frame, plain_url, register, run, run_on,
};
use crate::report::{Bar, Row, median};
use crate::server::{cpu_seconds, memory};

const MB: f64 = 1e6;

/// From the start of the executor to the end of `true` through registry and rendezvous.
pub fn startup(context: &Context<'_>) -> Result<Vec<Row>> {
    let rendezvous = Rendezvous::start(context.server, &[])?;
    let mut samples = Vec::new();
    for _ in 0..context.pick(20, 5) {
        let (seconds, _executor) = timed(|| {
            let executor = executor(context.server, &rendezvous.url, &rendezvous.token, &[])?;
            let status =
                run(context.server, &rendezvous.url, &rendezvous.token, &[], &["/bin/true"]).status()?;
            if !status.success() {
                bail!("run ended with {status}");
            }
            Ok(executor)
        })?;
        samples.push(seconds * 1e3);
    }
    Ok(vec![Row::new("remote: register, attach, run true", "ms", median(&samples), Bar::AtMost(30.0))])
}

/// A keystroke's echo through Noise and rendezvous, against the same client's on a direct websocket.
pub fn keystroke(context: &Context<'_>) -> Result<Vec<Row>> {
    let rendezvous = Rendezvous::start(context.server, &[])?;
    let _executor = executor(context.server, &rendezvous.url, &rendezvous.token, &[])?;
    let server = context.server.start(&[])?;
    let rounds = context.pick(2000, 300);
    let direct = context.server.command(&["run", "--url", &server.url, "--tty", "--", "cat"]);
    let direct = echoes(direct, rounds)?;
    let remote = run(context.server, &rendezvous.url, &rendezvous.token, &["--tty"], &["cat"]);
    let remote = echoes(remote, rounds)?;
    let row = Row::new("remote: keystroke's echo, p50, limit: direct", "us", remote, Bar::RatioAtMost(3.0));
    Ok(vec![row.against(direct)])
}

/// Microseconds from a key to its echo, in the middle.
fn echoes(mut command: Command, rounds: usize) -> Result<f64> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let mut stdout = child.stdout.take().context("stdout")?;
    let mut samples = Vec::new();
    let mut echo = [0; 64];
    for round in 0..rounds {
        let (seconds, _) = timed(|| {
            stdin.write_all(b"x")?;
            Ok(stdout.read(&mut echo)?)
        })?;
        // A line of a terminal holds 4095 keys; the first keys wait for the program's start.
        if round >= 10 {
            samples.push(seconds * 1e6);
        }
    }
    drop(stdin);
    let _ = child.kill();
    let _ = child.wait();
    Ok(median(&samples))
}

/// A flood of output through Noise and through a plain relay, all parts on this machine.
pub fn output(context: &Context<'_>) -> Result<Vec<Row>> {
    let size = context.pick(2_u64 << 30, 256 << 20);
    let rendezvous = Rendezvous::start(context.server, &["--allow-plain"])?;
    let program = ["head", "-c", &size.to_string(), "/dev/zero"];
    let noise = executor(context.server, &rendezvous.url, &rendezvous.token, &[])?;
    let command = run(context.server, &rendezvous.url, &rendezvous.token, &[], &program);
    let (noise_speed, noise_cpu) = flood(command, &noise, size)?;
    drop(noise);
    let flags = ["--remote-contract", "environment"];
    let plain = executor(context.server, &rendezvous.url, &rendezvous.token, &flags)?;
    let url = plain_url(&rendezvous, crate::remote::ENVIRONMENT);
    let command = context.server.command(&[&["run", "--url", &url, "--"][..], &program].concat());
    let (plain_speed, plain_cpu) = flood(command, &plain, size)?;
    Ok(vec![
        Row::new("remote: output through Noise", "MB/s", noise_speed, Bar::AtLeast(250.0)),
        Row::new("remote: executor's CPU through Noise", "s/GB", noise_cpu, Bar::AtMost(2.5)),
        Row::new("remote: output through a plain relay", "MB/s", plain_speed, Bar::AtLeast(400.0)),
        Row::new("remote: executor's CPU, plain relay", "s/GB", plain_cpu, Bar::AtMost(2.5)),
    ])
}

/// Floods in two environments at once, through a rendezvous on two threads and on one.
pub fn threads(context: &Context<'_>) -> Result<Vec<Row>> {
    let size = context.pick(1_u64 << 30, 128 << 20);
    let one = two_floods(context, "1", size)?;
    let two = two_floods(context, "2", size)?;
    // Executors and harnesses need cores besides the two of the rendezvous.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bar = if cores >= 6 { Bar::RatioAtLeast(1.7) } else { Bar::None };
    Ok(vec![Row::new("remote: two floods, 2 threads, limit: 1", "MB/s", two, bar).against(one)])
}

/// Megabytes per second of both together.
fn two_floods(context: &Context<'_>, threads: &str, size: u64) -> Result<f64> {
    let rendezvous = Rendezvous::start(context.server, &["--threads", threads])?;
    let (url, token) = (&rendezvous.url, &rendezvous.token);
    let ids = ["flood-1", "flood-2"];
    let executors = ids.map(|id| executor_of(context.server, url, id, token, &[]));
    let program = ["head", "-c", &size.to_string(), "/dev/zero"];
    let since = Instant::now();
    let floods = ids.map(|id| {
        let mut command = run_on(context.server, url, id, token, &[], &program);
        std::thread::spawn(move || -> Result<u64> {
            let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            let mut stdout = child.stdout.take().context("stdout")?;
            let total = std::io::copy(&mut stdout, &mut std::io::sink())?;
            child.wait()?;
            Ok(total)
        })
    });
    for flood in floods {
        let total = flood.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        check_total(total, size)?;
    }
    let seconds = since.elapsed().as_secs_f64();
    for executor in executors {
        executor?.stop();
    }
    Ok(2.0 * size as f64 / MB / seconds)
}

/// Megabytes per second from the first byte on, and the executor's CPU seconds for a gigabyte.
fn flood(mut command: Command, executor: &Running, size: u64) -> Result<(f64, f64)> {
    let before = cpu_seconds(executor.pid())?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().context("stdout")?;
    let mut buffer = vec![0; 1 << 20];
    let (mut total, mut since) = (0, Instant::now());
    loop {
        match stdout.read(&mut buffer)? {
            0 => break,
            read if total == 0 => (total, since) = (read as u64, Instant::now()),
            read => total += read as u64,
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    child.wait()?;
    check_total(total, size)?;
    let cpu = cpu_seconds(executor.pid())? - before;
    Ok((total as f64 / MB / seconds, cpu / (total as f64 / 1e9)))
}

/// Memory of many idle environments and streams, and what a frame's way through takes longer than without.
pub fn routing(context: &Context<'_>) -> Result<Vec<Row>> {
    let rendezvous = Rendezvous::start(context.server, &["--allow-plain"])?;
    let environments = context.pick(1000, 100);
    let before = memory(rendezvous.running.pid(), "VmRSS")?;
    let mut executors = Vec::new();
    for number in 0..environments {
        executors.push(Bare::open(&register(&rendezvous, &format!("e{number}"))?)?);
    }
    let mut harnesses = Vec::new();
    for number in 0..environments * 5 {
        let environment = number % environments;
        let mut harness = Bare::open(&plain_url(&rendezvous, &format!("e{environment}")))?;
        // A resume frame makes the stream.
        harness.send(&frame(&format!("s{number}"), 7, b""))?;
        executors[environment].receive()?;
        harnesses.push(harness);
    }
    let after = memory(rendezvous.running.pid(), "VmRSS")?;
    let each = after.saturating_sub(before) as f64 / 1024.0 / (executors.len() + harnesses.len()) as f64;
    let message = frame("s0", 5, &[0x18, 1, 0x22, 2, b'{', b'}']);
    let mut routed = Vec::new();
    for _ in 0..context.pick(20_000, 2000) {
        let (seconds, ()) = timed(|| {
            harnesses[0].send(&message)?;
            executors[0].receive().map(drop)
        })?;
        routed.push(seconds * 1e6);
    }
    let direct = direct_hop(context.pick(20_000, 2000))?;
    Ok(vec![
        Row::new("remote: memory of an idle environment or stream", "KiB", each, Bar::AtMost(64.0)),
        Row::new("remote: routing adds, p50", "us", median(&routed) - direct, Bar::AtMost(100.0)),
    ])
}

/// Microseconds of the same bytes on a bare connection.
fn direct_hop(rounds: usize) -> Result<f64> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut near = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    let mut bytes = [7; 20];
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let (seconds, ()) = timed(|| {
            near.write_all(&bytes)?;
            Ok(far.read_exact(&mut bytes)?)
        })?;
        samples.push(seconds * 1e6);
    }
    Ok(median(&samples))
}
