//! Thousands of executors that are there and do nothing: what each costs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::remote::{Bare, Rendezvous, key};
use crate::report::{Bar, Row};
use crate::server::memory;

/// Registrations over one connection, so that thousands use up no ports.
struct Registrar {
    stream: BufReader<TcpStream>,
    host: String,
    token: String,
}

impl Registrar {
    fn new(rendezvous: &Rendezvous) -> Result<Self> {
        let address = rendezvous.address()?;
        let stream = BufReader::new(TcpStream::connect(address)?);
        Ok(Self { stream, host: address.to_string(), token: rendezvous.token.clone() })
    }

    /// Registers an encrypted environment; the executor's websocket URL.
    fn register(&mut self, environment: &str) -> Result<String> {
        let body =
            format!("{{\"security_profile\":\"noise_hybrid_ik_v1\",\"executor_public_key\":{}}}", key(1));
        let (host, token, length) = (&self.host, &self.token, body.len());
        let request = format!(
            "POST /cloud/environment/{environment}/register HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the rendezvous ended the connection");
            }
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let answer: serde_json::Value = serde_json::from_slice(&body)?;
        Ok(answer["url"].as_str().with_context(|| answer.to_string())?.to_owned())
    }
}

/// Memory of each of many environments whose executors are idle.
pub fn run_idle(context: &Context<'_>) -> Result<Vec<Row>> {
    let environments = context.pick(20_000, 500);
    let limits = ["environments", "connections"].map(|name| format!("{name}={}", environments + 100));
    let arguments = ["--limit", &limits[0], "--limit", &limits[1], "--threads", "1"];
    let rendezvous = Rendezvous::start(context.server, &arguments)?;
    let mut registrar = Registrar::new(&rendezvous)?;
    // What the first one brings along is the program's own.
    let mut sockets = vec![Bare::open(&registrar.register("first")?)?];
    let before = memory(rendezvous.running.pid(), "VmRSS")?;
    for number in 0..environments {
        sockets.push(Bare::open(&registrar.register(&format!("environment-{number}"))?)?);
    }
    let after = memory(rendezvous.running.pid(), "VmRSS")?;
    let each = after.saturating_sub(before) as f64 / 1024.0 / environments as f64;
    Ok(vec![
        Row::new("remote idle: environments attached", "", environments as f64, Bar::None),
        Row::new("remote idle: memory of each", "KiB", each, Bar::AtMost(8.0)),
    ])
}
