//! `codex exec-server run`: runs one program through an exec-server, as if it ran here.

mod args;
mod io;
mod registry;
mod session;
mod signals;
mod terminal;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use codex_exec_server::client::{Client, ClientError, ClientOptions, Command, Endpoint, Stderr};
use codex_exec_server::protocol::environment::Info;
use codex_exec_server::protocol::path::LocalPath;
use codex_exec_server::protocol::process::{EnvInherit, EnvPolicy, LoginEnvironment, StartParams};
use codex_exec_server::protocol::{ErrorCode, StartFailure, WirePath, encode::NoParams};
use codex_outgoing::{Outgoing, file};
use codex_secret::Secret;

pub(crate) use args::RunArgs;

use crate::codes::{NOT_EXECUTABLE, NOT_FOUND, WRONG_USAGE};
use crate::setup::Setup;

use io::say;
use session::Session;
use signals::Signals;
use terminal::RawMode;

/// Holds the token for a server with --ws-auth; never handed on to programs.
const TOKEN_VARIABLE: &str = "CODEX_EXEC_SERVER_TOKEN";

/// No connection, or it was lost.
const UNREACHABLE: u8 = 255;
/// This side can't go on: output can't be written, a token can't be read.
const FAILURE: u8 = 1;

/// Runs the program and gives its exit code (128 + n for a signal, 127 and 126 as in a shell, 124 for `--timeout`, 1
/// with a sentence for output that can't be written, 255 with one for a server that can't be reached or was lost).
///
/// # Errors
/// Only what keeps this side from working at all, such as a terminal that can't be set.
pub(crate) async fn run(args: RunArgs, setup: Setup) -> anyhow::Result<u8> {
    if let Some(problem) = args.problem() {
        say(&problem);
        return Ok(WRONG_USAGE);
    }
    let endpoint = match endpoint(&args, &setup) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            say(&format!("{error:#}"));
            return Ok(FAILURE);
        }
    };
    let options = ClientOptions {
        client_name: "codex-run".into(),
        outgoing: Outgoing::from_lookup(|name| std::env::var(name).ok()),
        ..ClientOptions::default()
    };
    let client = match Client::connect(endpoint, options).await {
        Ok(client) => client,
        Err(error) => return Ok(not_connected(&error)),
    };
    let code = run_on(&client, &args).await;
    client.close().await;
    code
}

fn endpoint(args: &RunArgs, setup: &Setup) -> anyhow::Result<Endpoint> {
    if let Some(endpoint) = args.registry.endpoint()? {
        return Ok(endpoint);
    }
    Ok(match &args.url {
        Some(url) => match url.strip_prefix("unix://") {
            Some(path) => Endpoint::Unix { path: PathBuf::from(path), bearer: token(args)? },
            None => Endpoint::WebSocket { url: url.clone(), bearer: token(args)? },
        },
        None => Endpoint::Command(Command {
            program: std::env::current_exe().context("can't tell where this program's own file is")?,
            // The server reads the same configuration, so its bounds hold here too.
            args: ["exec-server", "--listen", "stdio"]
                .map(String::from)
                .into_iter()
                .chain(setup.to_arguments())
                .collect(),
            env: BTreeMap::new(),
            cwd: None,
            stderr: Stderr::Inherit,
        }),
    })
}

/// The token for a server with --ws-auth, from the file or else from the environment.
fn token(args: &RunArgs) -> anyhow::Result<Option<Secret>> {
    let Some(path) = &args.token_file else {
        return Ok(std::env::var(TOKEN_VARIABLE).ok().map(Secret::new).filter(|token| !token.is_blank()));
    };
    let token =
        file::read_secret(path).with_context(|| format!("can't read the token from {}", path.display()))?;
    anyhow::ensure!(!token.is_blank(), "the token file {} is empty", path.display());
    Ok(Some(token))
}

fn not_connected(error: &ClientError) -> u8 {
    match error {
        // Its own sentence is on our stderr, and its code says the rest.
        ClientError::ChildEnded { code, .. } => return u8::try_from(*code).unwrap_or(FAILURE),
        ClientError::TokenWanted { .. } => {
            say(&format!("{error}: give its token with --token-file or in {TOKEN_VARIABLE}"));
        }
        ClientError::TokenRefused { .. } => {
            say(&format!("{error}; give a good one with --token-file or in {TOKEN_VARIABLE}"));
        }
        other => say(&other.to_string()),
    }
    UNREACHABLE
}

async fn run_on(client: &Client, args: &RunArgs) -> anyhow::Result<u8> {
    let cwd = match working_directory(client, args).await {
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

async fn working_directory(client: &Client, args: &RunArgs) -> anyhow::Result<PathBuf> {
    match (&args.cwd, args.is_remote()) {
        (Some(cwd), true) if cwd.is_absolute() => Ok(cwd.clone()),
        (Some(cwd), true) => {
            anyhow::bail!(
                "--cwd {} is not absolute; with --url and --registry it is a path of the server's machine",
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
