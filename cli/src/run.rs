//! `codex exec-server run`: runs one program through an exec-server, as if it ran here.

mod args;
mod env_file;
mod forwards;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::environment::Info;
use codex_exec_server::protocol::process::{EnvPolicy, LogPlace, LoginEnvironment, Start, StartParams};
use codex_exec_server::protocol::{ErrorCode, RpcError, StartFailure, WirePath, encode::NoParams};

pub(crate) use args::RunArgs;

use crate::codes::{FAILURE, NOT_EXECUTABLE, NOT_FOUND, UNREACHABLE};
use crate::console::io;
use crate::console::signals::Signals;
use crate::console::terminal::{self, RawMode};
use crate::port_forward::Hub;
use crate::programs;
use crate::setup::Setup;
use crate::target::{Target, TargetError};
use crate::{output, table};

use forwards::Forwards;
use session::Session;

/// Runs the program and gives its exit code (128 + n for a signal, 127 and 126 as in a shell, 124 for `--timeout`, 1
/// with a sentence for output that can't be written, 255 with one for a server that can't be reached or was lost).
///
/// # Errors
/// Only what keeps this side from working at all, such as a terminal that can't be set.
pub(crate) async fn run(args: RunArgs, setup: Setup) -> anyhow::Result<u8> {
    let target = match args.target.find(&setup) {
        Ok(target) => target,
        Err(error) => return Ok(not_connected(&error)),
    };
    if args.detach {
        return Ok(detached(target, &args).await);
    }
    let remote = target.is_remote();
    let client = match target.connect().await {
        Ok(client) => client,
        Err(error) => return Ok(not_connected(&error)),
    };
    let code = run_on(&client, &args, remote, setup).await;
    client.close().await;
    code
}

/// Starts the program, prints its id and leaves it.
async fn detached(target: Target, args: &RunArgs) -> u8 {
    let keep = args.keep.unwrap_or(programs::KEPT);
    let client = match programs::reach_with(target, |options| options.detached_time = Some(keep)).await {
        Ok(client) => client,
        Err(error) => return not_connected(&error),
    };
    let started = async {
        let cwd = working_directory(&client, args, true).await.map_err(|error| {
            say(&format!("{error:#}"));
            UNREACHABLE
        })?;
        let id = args.name.clone().unwrap_or_else(programs::new_id);
        programs::refuse_second(&client, &id).await.map_err(|error| {
            say(&error.to_string());
            FAILURE
        })?;
        let has_place = client.environment_info().is_some_and(|info| info.capabilities.disk_logs);
        let log = args.log.unwrap_or(if has_place { LogPlace::Disk } else { LogPlace::Memory });
        let params =
            StartParams { process_id: id.as_str().into(), pull_only: true, log, ..start_params(args, cwd)? };
        let started = match client.call::<Start>(&params).await {
            Err(ClientError::Rpc(refusal)) if args.log.is_none() && is_about_the_log(&refusal) => {
                say(&format!("{}; it is kept in memory", refusal.message));
                client.call::<Start>(&StartParams { log: LogPlace::Memory, ..params }).await
            }
            started => started,
        };
        started.map_err(|error| not_started(args, &error))?;
        Ok::<_, u8>(id)
    };
    match started.await {
        Ok(id) => {
            client.leave().await;
            table::printed(output::line(&id))
        }
        Err(code) => {
            client.close().await;
            code
        }
    }
}

/// Whether a start was refused because its output can't be kept on disk.
fn is_about_the_log(refusal: &RpcError) -> bool {
    refusal.code == ErrorCode::INTERNAL && refusal.message.contains("the output can't be kept on disk")
}

/// Says one sentence on stderr.
fn say(sentence: &str) {
    io::say("run", sentence);
}

fn not_connected(error: &TargetError) -> u8 {
    if let Some(sentence) = error.unsaid() {
        say(&sentence);
    }
    error.code_of_program()
}

async fn run_on(client: &Client, args: &RunArgs, remote: bool, setup: Setup) -> anyhow::Result<u8> {
    let cwd = match working_directory(client, args, remote).await {
        Ok(cwd) => cwd,
        Err(error) => {
            say(&format!("{error:#}"));
            return Ok(UNREACHABLE);
        }
    };
    let mut signals = Signals::new()?;
    let params = match start_params(args, cwd) {
        Ok(params) => params,
        Err(code) => return Ok(code),
    };
    let process = match client.start(params).await {
        Ok(process) => process,
        Err(error) => return Ok(not_started(args, &error)),
    };
    let hub = (!args.forward.is_empty()).then(|| Hub::of(client.clone(), args.target.clone(), setup));
    let _forwards = hub.map(|hub| Forwards::begin(&args.forward, hub, client, &process.id().into()));
    // Only now: until here, Ctrl-C and messages are those of a plain command.
    let raw = if args.tty { RawMode::enter().context("can't set the terminal to raw mode")? } else { None };
    let mut session = Session::new(process, args);
    let code = session.follow(&mut signals).await;
    drop(raw);
    if let Some(sentence) = session.last_words {
        say(&sentence);
    }
    Ok(code)
}

async fn working_directory(client: &Client, args: &RunArgs, remote: bool) -> anyhow::Result<PathBuf> {
    match (&args.cwd, remote) {
        (Some(cwd), true) if cwd.is_absolute() => Ok(cwd.clone()),
        (Some(cwd), true) => {
            anyhow::bail!(
                "--cwd {} is not absolute; in an environment elsewhere it is a path of the server's machine",
                cwd.display()
            )
        }
        (Some(cwd), false) if cwd.is_absolute() => Ok(cwd.clone()),
        (cwd, false) => {
            let here = std::env::current_dir().context("can't tell the current directory; give --cwd")?;
            Ok(cwd.as_ref().map_or(here.clone(), |cwd| here.join(cwd)))
        }
        (None, true) => {
            let info = match client.environment_info() {
                Some(info) => Some(info),
                None => client.call::<Info>(&NoParams).await.ok(),
            };
            match info.and_then(|info| info.cwd) {
                Some(WirePath::Local(cwd)) => Ok(cwd),
                _ => anyhow::bail!("this exec-server does not say where it works; give --cwd"),
            }
        }
    }
}

fn start_params(args: &RunArgs, cwd: PathBuf) -> Result<StartParams, u8> {
    let mut env = BTreeMap::new();
    for path in &args.env_file {
        env.extend(env_file::read(path).map_err(|problem| {
            say(&problem);
            FAILURE
        })?);
    }
    env.extend(args.env.iter().cloned());
    let size = if args.tty { terminal::size() } else { None };
    if args.tty
        && !env.contains_key("TERM")
        && let Ok(term) = std::env::var("TERM")
    {
        env.insert("TERM".into(), term);
    }
    Ok(StartParams {
        env,
        tty: args.tty,
        pipe_stdin: !args.tty,
        env_policy: Some(EnvPolicy::inherit_all()),
        login_environment: args.remembered_login.then_some(LoginEnvironment::Remembered),
        rows: size.map(|(rows, _)| rows),
        cols: size.map(|(_, cols)| cols),
        timeout_ms: args.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
        real_terminal: args.tty && terminal::is_real(),
        ..StartParams::new(args.name.as_deref().unwrap_or("run").into(), args.command.clone(), cwd)
    })
}

fn not_started(args: &RunArgs, error: &ClientError) -> u8 {
    let ClientError::Rpc(refusal) = error else {
        say(&error.to_string());
        return UNREACHABLE;
    };
    let program = args.command.first().map_or("", String::as_str);
    say(&format!("can't start {program:?}: {}", refusal.message));
    let text = refusal.message.to_lowercase();
    let about_directory = text.contains("cwd") || text.contains("working directory");
    let missing = match refusal.data {
        Some(failure) => failure == StartFailure::SpawnNotFound,
        // Servers before 0.171 tell it to people only.
        None if refusal.code == ErrorCode::INTERNAL => {
            ["os error 2)", "no such file", "not found"].iter().any(|word| text.contains(word))
        }
        None => false,
    };
    if missing && !about_directory { NOT_FOUND } else { NOT_EXECUTABLE }
}
