//! What is left on the machine after disconnects, kills and stops: nothing.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Context;
use crate::report::{Bar, Row};
use crate::server::{stop, wait};

/// Sessions of one server before it is stopped.
const SESSIONS: usize = 10;

#[derive(Default)]
struct Left {
    children: usize,
    zombies: usize,
    sockets: usize,
    bad_ends: usize,
}

/// 200 sessions that are cut, killed or stopped; then counts children, zombies and socket files.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    // A sleep that nobody else sleeps marks our children in the process list.
    let marker = format!("86{:07}", std::process::id());
    let mut left = Left::default();
    for _ in 0..context.pick(200, 50) / SESSIONS {
        sessions(context, &marker, &mut left)?;
    }
    if context.server.ours {
        let folder = tempfile::tempdir()?;
        for round in 0..context.pick(10, 3) {
            let socket = folder.path().join(format!("{round}.sock"));
            left.sockets += usize::from(unix_socket(context, &socket, &mut left.bad_ends)?);
            stdio(context, &marker, &mut left)?;
        }
    }
    let count = |what, value: usize| Row::new(what, "", value as f64, Bar::AtMost(0.0));
    Ok(vec![
        count("left after 200 ends: children", left.children),
        count("left after 200 ends: zombies", left.zombies),
        count("left after 200 ends: socket files", left.sockets),
        count("ends of the server that were not clean", left.bad_ends),
    ])
}

fn sessions(context: &Context<'_>, marker: &str, left: &mut Left) -> Result<()> {
    let mut server = context.server.start(&[])?;
    let script = format!("sleep {marker} & sleep {marker}");
    let mut kept = Vec::new();
    for index in 0..SESSIONS {
        let mut connection = server.connect()?;
        connection.start("family", &["sh", "-c", &script], index % 4 == 3)?;
        match index % 3 {
            0 => drop(connection),
            1 => {
                connection.call("process/terminate", r#"{"processId":"family"}"#)?;
                connection.drain("family")?;
                kept.push(connection);
            }
            _ => kept.push(connection),
        }
    }
    left.zombies += after_a_while(|| zombies_of(server.pid()));
    left.bad_ends += usize::from(!server.stop());
    left.children += after_a_while(|| running(marker));
    Ok(())
}

/// Stops a server on a Unix socket; whether the socket file stayed.
fn unix_socket(context: &Context<'_>, socket: &std::path::Path, bad_ends: &mut usize) -> Result<bool> {
    let address = format!("unix://{}", socket.display());
    let mut child = context
        .server
        .command(&["--listen", &address])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().context("stdout")?),
        &mut line,
    )?;
    let _client = std::os::unix::net::UnixStream::connect(socket)?;
    *bad_ends += usize::from(!stop(&mut child));
    Ok(socket.exists())
}

/// Ends a server over stdio by the end of its input, while a family runs.
fn stdio(context: &Context<'_>, marker: &str, left: &mut Left) -> Result<()> {
    let mut child = context
        .server
        .command(&["--listen", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let mut lines = std::io::BufReader::new(child.stdout.take().context("stdout")?);
    let script = format!("sleep {marker} & sleep {marker}");
    let start = serde_json::json!({"id": 2, "method": "process/start", "params": {"processId": "family",
        "argv": ["sh", "-c", script], "cwd": "file:///", "env": {"PATH": "/usr/bin:/bin"}, "tty": false}});
    writeln!(stdin, r#"{{"id":1,"method":"initialize","params":{{"clientName":"codex-bench"}}}}"#)?;
    writeln!(stdin, r#"{{"method":"initialized","params":{{}}}}"#)?;
    writeln!(stdin, "{start}")?;
    let mut line = String::new();
    while !line.contains("\"id\":2") {
        line.clear();
        if std::io::BufRead::read_line(&mut lines, &mut line)? == 0 {
            anyhow::bail!("the server on stdio ended before its answer");
        }
    }
    drop(stdin);
    match wait(&mut child, Duration::from_secs(5)) {
        Some(status) => left.bad_ends += usize::from(!status.success()),
        None => {
            left.bad_ends += 1;
            child.kill()?;
            child.wait()?;
        }
    }
    left.children += after_a_while(|| running(marker));
    Ok(())
}

/// What `count` says once it says 0, or after a second.
fn after_a_while(count: impl Fn() -> usize) -> usize {
    let since = Instant::now();
    loop {
        let left = count();
        if left == 0 || since.elapsed() > Duration::from_secs(1) {
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes that sleep for `marker` seconds.
fn running(marker: &str) -> usize {
    let marked = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == marker.as_bytes())
    };
    pids().filter(marked).count()
}

/// Ended children that `parent` has not reaped.
fn zombies_of(parent: u32) -> usize {
    let zombie = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
    };
    pids().filter(zombie).count()
}
