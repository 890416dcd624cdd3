//! Benchmarks of an exec-server against the limits of this machine.

mod cases;
mod client;
mod floor;
mod machine;
mod remote;
mod report;
mod server;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use cases::Context;
use server::ServerCommand;

/// Measures exec-servers against the limits of this machine.
#[derive(Debug, Parser)]
#[command(name = "codex-bench")]
struct Arguments {
    /// Command of an exec-server that prints `ws://IP:PORT`; may be given several times. Without it: ours. The word `floor`
    /// stands for the least that a server for this protocol can be.
    #[arg(long, value_name = "CMD")]
    server: Vec<String>,
    /// Measure our own server too, before those of --server.
    #[arg(long)]
    ours: bool,
    /// Run only cases whose name contains this; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Fewer rounds and less data.
    #[arg(long)]
    quick: bool,
    /// Where the randomness of the soak begins.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many cuts the soak makes; 10000 without it, 200 with --quick.
    #[arg(long, value_name = "N")]
    cuts: Option<u32>,
    /// Print one JSON array instead of the table.
    #[arg(long)]
    json: bool,
    /// Be that least server.
    #[arg(long, hide = true)]
    serve_floor: bool,
    /// Be a program that prints numbered lines until there is this file.
    #[arg(long, value_name = "PATH", hide = true)]
    print_lines: Option<std::path::PathBuf>,
    /// Milliseconds between two of those lines.
    #[arg(long, value_name = "N", default_value_t = 500, hide = true)]
    period: u64,
    /// Exit with 1 when a bar is missed.
    #[arg(long)]
    check: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    allow_many_files()?;
    if arguments.serve_floor {
        return floor::serve().map(|()| ExitCode::SUCCESS);
    }
    if let Some(stop) = &arguments.print_lines {
        let period = std::time::Duration::from_millis(arguments.period);
        return cases::print_lines(stop, period).map(|()| ExitCode::SUCCESS);
    }
    let mut servers = Vec::new();
    if arguments.ours || arguments.server.is_empty() {
        servers.push(ServerCommand::ours()?);
    }
    for text in &arguments.server {
        servers.push(ServerCommand::parse(text)?);
    }
    let outcome = measure(&arguments, &servers)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&outcome.json)?);
    }
    let failed = outcome.broken || (arguments.check && outcome.missed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(Default)]
struct Outcome {
    json: Vec<serde_json::Value>,
    missed: bool,
    broken: bool,
}

fn measure(arguments: &Arguments, servers: &[ServerCommand]) -> Result<Outcome> {
    let wanted = |name: &str| {
        arguments.only.is_empty() || arguments.only.iter().any(|only| name.contains(only.as_str()))
    };
    let asked = |name: &str| arguments.only.iter().any(|only| only == name);
    let selected = cases::ALL.iter().filter(|(name, _)| wanted(name));
    let selected: Vec<_> = selected.chain(cases::ON_REQUEST.iter().filter(|(name, _)| asked(name))).collect();
    if selected.is_empty() {
        let names: Vec<_> = cases::ALL.iter().chain(cases::ON_REQUEST).map(|(name, _)| *name).collect();
        bail!("--only {:?} names no case; the cases are {}", arguments.only, names.join(", "));
    }
    let mut outcome = Outcome::default();
    if !arguments.json {
        println!("{}", report::head());
    }
    for (name, case) in selected {
        for server in servers {
            let context =
                Context { server, quick: arguments.quick, seed: arguments.seed, cuts: arguments.cuts };
            match case(&context).with_context(|| format!("case {name}, server {}", server.name())) {
                Ok(rows) => rows.iter().for_each(|row| {
                    outcome.missed |= !row.ok();
                    outcome.json.push(row.json(name, &server.name()));
                    if !arguments.json {
                        println!("{}", row.line(&server.name()));
                    }
                }),
                Err(error) => {
                    outcome.broken = true;
                    eprintln!("BROKEN {error:#}");
                }
            }
        }
    }
    Ok(outcome)
}

/// Many sessions need many descriptors; the server inherits this.
fn allow_many_files() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the number of open files")
}
