//! `codex exec-server run`: runs one program through an exec-server, as if it ran here.

mod args;
mod io;
mod session;
mod signals;
mod terminal;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::environment::Info;
use codex_exec_server::protocol::path::LocalPath;
use codex_exec_server::protocol::process::{EnvInherit, EnvPolicy, LogPlace, LoginEnvironment, StartParams};
use codex_exec_server::protocol::{ErrorCode, StartFailure, WirePath, encode::NoParams};

pub(crate) use args::RunArgs;

use crate::codes::{FAILURE, NOT_EXECUTABLE, NOT_FOUND, UNREACHABLE};
use crate::setup::Setup;
use crate::target::TargetError;

use io::say;
use session::Session;
use signals::Signals;
use terminal::RawMode;

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
    let remote = target.is_remote();
    let client = match target.connect().await {
        Ok(client) => client,
        Err(error) => return Ok(not_connected(&error)),
    };
    let code = run_on(&client, &args, remote).await;
    client.close().await;
    code
}

fn not_connected(error: &TargetError) -> u8 {
    if let Some(sentence) = error.unsaid() {
        say(&sentence);
    }
    error.code_of_program()
}

async fn run_on(client: &Client, args: &RunArgs, remote: bool) -> anyhow::Result<u8> {
    let cwd = match working_directory(client, args, remote).await {
        Ok(cwd) => cwd,
        Err(error) => {
            say(&format!("{error:#}"));
            return Ok(UNREACHABLE);
        }
    };
    let mut signals = Signals::new()?;
    let process = match client.start(start_params(args, cwd)).await {
        Ok(process) => process,
        Err(error) => return Ok(not_started(args, &error)),
    };
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

fn start_params(args: &RunArgs, cwd: PathBuf) -> StartParams {
    let mut env: BTreeMap<String, String> = args.env.iter().cloned().collect();
    let size = if args.tty { terminal::size() } else { None };
    if args.tty
        && !env.contains_key("TERM")
        && let Ok(term) = std::env::var("TERM")
    {
        env.insert("TERM".into(), term);
    }
    StartParams {
        process_id: "run".into(),
        argv: args.command.clone(),
        cwd: LocalPath(cwd),
        env,
        tty: args.tty,
        arg0: None,
        pipe_stdin: !args.tty,
        env_policy: Some(EnvPolicy {
            inherit: EnvInherit::All,
            ignore_default_excludes: true,
            exclude: Vec::new(),
            set: BTreeMap::new(),
            include_only: Vec::new(),
        }),
        sandbox: None,
        enforce_managed_network: false,
        managed_network: None,
        network_proxy: None,
        shell_snapshot: None,
        login_environment: args.remembered_login.then_some(LoginEnvironment::Remembered),
        metadata: None,
        rows: size.map(|(rows, _)| rows),
        cols: size.map(|(_, cols)| cols),
        timeout_ms: args.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
        real_terminal: args.tty && terminal::is_real(),
        idle_timeout_ms: None,
        limits: None,
        log: LogPlace::Memory,
    }
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
